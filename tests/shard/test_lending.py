"""What other replicas ask for is given as fast as they take it, and read no more than once."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from raftmail.shard.bodies import DIGEST_BYTES
from raftmail.shard.frames import Frame, FrameKind
from raftmail.shard.memory import Memory
from raftmail.shard.replica import BackgroundJob
from raftmail.storage.longread import LongRead
from tests.shard.test_members import One
from tests.shard.test_streams import Streaming

LONG = 20_000
MANY = 12


class Lent(Streaming):
    """`reads` counts the long bodies that replicas have read; those of `slow_readers` do not get
    done. `deaf` is a node that hears nobody ask for bodies."""

    def __init__(self) -> None:
        self.reads = 0
        self.slow_readers: set[int] = set()
        self.deaf = ""
        super().__init__(sending_bytes_max=30_000)

    def holds_back(self, one: One, job: BackgroundJob) -> bool:
        if isinstance(job.long_body, LongRead):
            return one.number in self.slow_readers
        return super().holds_back(one, job)

    def in_background(self, one: One, job: BackgroundJob) -> None:
        self.reads += isinstance(job.long_body, LongRead)
        super().in_background(one, job)

    def carry(self, one: One, frames: Sequence[Frame]) -> None:
        lost = [frame for frame in frames if frame[0] == self.deaf and frame[1] == FrameKind.WANT]
        super().carry(one, [frame for frame in frames if frame not in lost])

    def away(self) -> One:
        """A follower that lacks many long bodies, once it is back."""
        gone = self.end(self.followers[1].number)
        for n in range(MANY):
            answers = self.submit(f"{n:02}", LONG)
            self.until(lambda answers=answers: answers)
        self.frames.clear()
        return gone

    def back(self, one: One) -> None:
        self.start(one)
        bodies = replace(one.replica.limits.bodies, long_bytes_min=5000)
        one.replica.limits = replace(self.limits, bodies=bodies)
        one.replica.bodies.limits = bodies
        one.replica.memory.sending_bytes_max = 30_000

    def sent(self, kind: FrameKind) -> list[tuple[str, str]]:
        """From which node to which."""
        return [(frame[0], frame[1]) for frame in self.frames if frame[2] == kind]


def digest_of(n: int) -> bytes:
    return hashlib.sha256((f"{n:02}".encode() * LONG)[:LONG]).digest()


def test_who_lacks_many_long_bodies_is_sent_each_once_by_the_one_it_asked_first() -> None:
    shard = Lent()
    gone = shard.away()
    shard.back(gone)
    shard.turns(20.0)
    assert len(shard.digests()) == 1
    assert all(gone.replica.blobs.has(digest_of(n)) for n in range(MANY))
    leader = shard.leader().node
    assert shard.sent(FrameKind.BODY) == [(leader, gone.node)] * MANY
    assert set(shard.sent(FrameKind.WANT)) == {(gone.node, leader)}
    assert shard.reads == MANY


def test_who_asks_again_and_again_makes_nobody_read_again() -> None:
    shard = Lent()
    gone = shard.away()
    shard.stuck = {gone.number}
    shard.back(gone)
    shard.turns(shard.limits.stream_lost_s - 1.0)
    assert len(shard.sent(FrameKind.WANT)) > 2, "it asks whether the others still come"
    assert shard.reads == len(shard.sent(FrameKind.BODY)) == 1, "it has not taken the first yet"
    assert {frame[0] for frame in shard.sent(FrameKind.SOON)} == {shard.leader().node}
    shard.stuck.clear()
    shard.turns(20.0)
    assert len(shard.digests()) == 1 and shard.reads == MANY


def test_a_body_that_is_read_for_another_keeps_no_turn_waiting() -> None:
    shard = Lent()
    gone = shard.away()
    shard.slow_readers = set(shard.all)
    shard.back(gone)
    shard.turns(1.0)
    assert shard.reads == 1 and not shard.sent(FrameKind.BODY)
    short = shard.submit("short", 100)
    shard.until(lambda: short)
    shard.slow_readers.clear()
    shard.turns(20.0)
    assert len(shard.digests()) == 1


def test_where_the_one_that_was_asked_goes_away_the_others_are_asked() -> None:
    shard = Lent()
    gone = shard.away()
    shard.slow_readers = {shard.leader().replica_id}
    shard.back(gone)
    shard.turns(1.0)
    assert shard.sent(FrameKind.SOON) and not shard.sent(FrameKind.BODY)
    ended = shard.leader()
    shard.all[ended.replica_id].held.clear()
    shard.end(ended.replica_id)
    shard.turns(20.0)
    assert all(gone.replica.blobs.has(digest_of(n)) for n in range(MANY))


def test_where_the_one_that_was_asked_stands_still_the_others_are_asked() -> None:
    shard = Lent()
    gone = shard.away()
    leader = shard.leader()
    shard.deaf = leader.node
    shard.back(gone)
    shard.turns(20.0)
    other = next(one.node for one in shard.all.values() if one.node not in (leader.node, gone.node))
    assert set(shard.sent(FrameKind.BODY)) == {(other, gone.node)}
    assert all(gone.replica.blobs.has(digest_of(n)) for n in range(MANY))


def test_a_long_body_that_is_found_damaged_when_it_is_read_comes_from_another() -> None:
    shard = Lent()
    gone = shard.away()
    leader = shard.leader()
    digest = digest_of(3)
    place = leader.blobs.place_of(digest)
    assert place is not None
    name = f"blobs/{place.sequence:016x}.seg"
    file = leader.blobs._disk.open(name)
    file.write(place.end - 1, b"\xff")
    shard.back(gone)
    shard.turns(30.0)
    assert len(shard.digests()) == 1
    assert gone.replica.blobs.has(digest)
    assert leader.blobs.get(digest), "it asked the others as well"


def test_the_replicas_of_a_node_read_no_more_than_the_node_that_asked_takes() -> None:
    memory = Memory(sending_bytes_max=30_000)
    shards = [Lent(), Lent()]
    for shard in shards:
        gone = shard.away()
        leader = shard.leader()
        leader.streams.memory = memory
        wanted = b"".join(map(digest_of, range(MANY)))
        frames = leader.lending.ask(shard.now, gone.node, wanted, 0)
        assert [kind for _, kind, _ in frames] == [FrameKind.SOON]
        assert len(b"".join(frames[0][2])) == MANY * DIGEST_BYTES
    one, two = (shard.leader().lending for shard in shards)
    assert one.begin_read(1.0) is not None
    assert two.begin_read(1.0) is None
    assert one._reading is not None
    one.streams.acknowledged(one._reading[0], one._reading[1].header.digest)
    assert two.begin_read(1.0) is not None


def test_short_bodies_are_given_in_parts_and_only_while_the_link_has_room() -> None:
    shard = Lent()
    gone = shard.end(shard.followers[1].number)
    texts = [f"{n:03}" for n in range(300)]
    for text in texts:
        answers = shard.submit(text, 4000)
        shard.until(lambda answers=answers: answers)
    digests = [hashlib.sha256((t.encode() * 4000)[:4000]).digest() for t in texts]
    leader = shard.leader()
    queued = 0
    leader.memory.queued_bytes = lambda _node: queued
    frames = leader.lending.ask(shard.now, gone.node, b"".join(digests[:256]), 0)
    given = [kind for _, kind, _ in frames].count(FrameKind.BLOB)
    assert (512 << 10) // 4000 <= given < 256 and frames[-1][1] == FrameKind.SOON
    queued = 3 << 20
    assert leader.lending.has_short and not leader.lending.give()
    queued = 0
    assert len(leader.lending.give()) == 256 - given and not leader.lending
