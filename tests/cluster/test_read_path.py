"""Reads of a node: where they are made."""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
from collections.abc import Callable
from typing import Any, cast

import pytest

from raftmail.cluster.read_path import LONG_READS_AT_ONCE, Calling, ReadPath
from raftmail.cluster.rpc import CallKind
from raftmail.mail import queries
from raftmail.mail.failures import Unavailable
from raftmail.mail.queries import (
    TOGETHER_MAX,
    FetchBodies,
    FetchBody,
    ListSubscriptions,
    Query,
    ReadPoint,
)
from raftmail.mail.results import Executed
from raftmail.mail.uidset import UidSet
from raftmail.shard.replica import Replica
from raftmail.shard.status import Capability
from raftmail.storage.disk import DiskFull
from raftmail.storage.longread import LongRead
from tests.shard.test_streams import Streaming

LONG = 20_000


class Reading:
    """What a read path needs of a router: shard 1 is here, and at a point that was read before."""

    def __init__(self) -> None:
        self.shard = Streaming()
        self.replica = self.shard.leader()
        self.replicas = {1: self.replica}
        self.node = self.replica.node
        self.links = self
        self.woken = 0

    def wake(self, _shard: int) -> None:
        self.woken += 1

    def clock(self) -> float:
        return 0.0

    def shard_of(self, _user: str) -> int:
        return 1

    def leader_of(self, _shard: int) -> str:
        return self.node

    def own(self, _shard: int) -> Any:
        return self.replica

    def save(self, text: str, size: int) -> bytes:
        answers = self.shard.submit(text, size)
        self.shard.until(lambda: answers)
        assert isinstance(answers[0], Executed)
        return (text.encode() * size)[:size]

    async def ask(self, query: Query, path: ReadPath | None = None) -> Any:
        point = ReadPoint()
        point.reached(1, self.replica.applied_index)
        path = path or ReadPath(cast(Calling, self))
        return await path.answer(query, 1.0, point)

    async def read(self, uid: int, path: ReadPath | None = None) -> Any:
        return await self.ask(FetchBody("a", "INBOX", uid), path)

    def together(self, uids: str, mailbox: str = "INBOX") -> dict[int, bytes] | None:
        """Short messages by UID."""
        found = asyncio.run(self.ask(FetchBodies("a", mailbox, UidSet.parse(uids))))
        return None if found is None else dict(found.bodies)


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Those that long bodies are read in."""
    run, seen = LongRead.run, []

    def noted(job: LongRead) -> None:
        seen.append(threading.get_ident())
        run(job)

    monkeypatch.setattr(LongRead, "run", noted)
    return seen


def test_a_long_message_is_read_in_a_thread_and_a_short_one_is_not(threads: list[int]) -> None:
    reading = Reading()
    long, short = reading.save("long", LONG), reading.save("short", 100)
    assert asyncio.run(reading.read(1)) == long
    assert len(threads) == 1 and threads[0] != threading.get_ident()
    assert asyncio.run(reading.read(2)) == short
    assert len(threads) == 1


def test_a_read_that_finds_no_space_is_refused_for_now_and_the_replica_is_stepped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reading = Reading()

    def no_space(_query: Query) -> Any:
        raise DiskFull("the index has no room")

    monkeypatch.setattr(reading.replica.machine, "query", no_space)
    with pytest.raises(Unavailable, match="no space for reading: the index has no room"):
        asyncio.run(reading.ask(ListSubscriptions("a")))
    assert reading.woken


def test_short_messages_are_brought_together_up_to_the_limits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(queries, "TOGETHER_BYTES_MAX", TOGETHER_MAX * 100)
    reading = Reading()
    bodies = {uid: reading.save(f"m{uid}", 100) for uid in range(1, TOGETHER_MAX + 4)}
    large = [reading.save(f"large {n}", TOGETHER_MAX * 50) for n in range(3)]
    first = TOGETHER_MAX + 4
    assert reading.together("2,5:6") == {uid: bodies[uid] for uid in (2, 5, 6)}
    assert reading.together("1:*") == {uid: bodies[uid] for uid in range(1, TOGETHER_MAX + 1)}
    assert reading.together(f"{first}:*") == {first: large[0], first + 1: large[1]}
    reading.save("long", LONG)
    assert reading.together("90:91") == reading.together(f"{first + 3}") == {}
    assert reading.together("1:*", "nowhere") is None


def test_messages_are_brought_together_up_to_one_that_is_damaged() -> None:
    reading = Reading()
    bodies = {uid: reading.save(f"m{uid}", 1000) for uid in range(1, 5)}
    reading.shard.until(lambda: not reading.replica.blobs.dirty())
    digest = hashlib.sha256(bodies[3]).digest()
    store = reading.replica.blobs
    place = store.place_of(digest)
    assert place is not None
    file = store._disk.open(f"blobs/{place.sequence:016x}.seg")
    file.write(place.end - 1, b"\xff")
    assert reading.together("1:4") == {uid: bodies[uid] for uid in (1, 2)}
    reading.shard.until(lambda: store.has(digest))
    assert reading.together("1:4") == bodies, "others were asked for it"


def test_a_long_message_that_is_damaged_is_asked_for_and_is_no_answer() -> None:
    reading = Reading()
    body = reading.save("long", LONG)
    digest = hashlib.sha256(body).digest()
    store = reading.replica.blobs
    place = store.place_of(digest)
    assert place is not None
    file = store._disk.open(f"blobs/{place.sequence:016x}.seg")
    file.write(place.end - 1, b"\xff")
    reading.clock = iter([0.0, 0.0, 2.0, 4.0]).__next__  # type: ignore[method-assign]
    with pytest.raises(Unavailable):
        asyncio.run(reading.read(1))
    assert reading.woken == 1
    reading.shard.until(lambda: store.has(digest))
    reading.clock = lambda: 0.0  # type: ignore[method-assign]
    assert asyncio.run(reading.read(1)) == body


def test_few_long_messages_are_read_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    under_way, most, run = [0], [0], LongRead.run
    lock = threading.Lock()

    def noted(job: LongRead) -> None:
        with lock:
            under_way[0] += 1
            most[0] = max(most[0], under_way[0])
        time.sleep(0.02)
        run(job)
        with lock:
            under_way[0] -= 1

    monkeypatch.setattr(LongRead, "run", noted)
    reading = Reading()
    bodies = [reading.save(f"long {n}", LONG) for n in range(6)]
    path = ReadPath(cast(Calling, reading))

    async def read_all() -> list[Any]:
        return await asyncio.gather(*(reading.read(uid, path) for uid in range(1, 7)))

    assert asyncio.run(read_all()) == bodies
    assert most[0] == LONG_READS_AT_ONCE


def test_a_long_message_whose_turn_comes_too_late_is_not_read(threads: list[int]) -> None:
    reading = Reading()
    reading.save("long", LONG)
    reading.clock = iter([0.0, 2.0]).__next__  # type: ignore[method-assign]
    with pytest.raises(Unavailable, match="too many"):
        asyncio.run(reading.read(1))
    assert not threads


class Behind:
    """A replica that has entry 5, and does not know that it is committed until it is told."""

    shard, last_index, commit_index, applied_index = 1, 5, 4, 4

    def __init__(self) -> None:
        self.waiting: list[Callable[[bool], None]] = []

    def when_applied(self, _index: int, done: Callable[[bool], None]) -> None:
        self.waiting.append(done)

    def told(self) -> None:
        self.applied_index = self.commit_index = 5
        for done in self.waiting:
            done(True)

    def may(self, _what: Capability) -> bool:
        return True

    def query(self, _query: Query) -> tuple[str, ...]:
        return ("read",)


def test_a_read_behind_a_write_of_this_node_waits_for_no_heartbeat() -> None:
    reading, behind, asked = Reading(), Behind(), list[CallKind]()
    reading.replicas = {1: cast(Replica, behind)}

    def start(kind: CallKind, *_: Any) -> None:
        asked.append(kind)
        behind.told()

    reading.start = start  # type: ignore[attr-defined]
    point = ReadPoint()
    point.reached(1, 5)
    path = ReadPath(cast(Calling, reading))
    assert asyncio.run(path.answer(ListSubscriptions("a"), 1.0, point)) == ("read",)
    assert asked == [CallKind.BARRIER]
