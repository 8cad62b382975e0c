"""Replicas that take their turns together: what is shared, who waits for whom, and how it ends."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

from raftmail.node.runner import Runner
from raftmail.node.turn_scheduler import INLINE_SYNC_S, TurnScheduler
from raftmail.shard.replica import Replica


class _Replica:
    """Notes what it is asked. With `slow` its sync takes until it is let go."""

    has_work = False
    needs_turn = False
    request_needs_turn = False

    def __init__(self, shard: int, log: list[tuple[Any, ...]], *, slow: bool = False) -> None:
        self.shard = shard
        self.log = log
        self.slow = slow
        self.let_go = threading.Event()
        self.error: Exception | None = None
        self.background_error: Exception | None = None
        self.frames: list[Any] = []
        self.term, self.leader = 1, None
        self.tick_at = 0.0

    def step(self, now: float) -> None:
        self.log.append(("step", self.shard))
        self.frames.append(("n2", "RAFT", [b"entry"]))

    def take_frames(self) -> list[Any]:
        frames, self.frames = self.frames, []
        return frames

    def begin_sync(self) -> list[Callable[[], object]]:
        return [self._sync]

    def _sync(self) -> None:
        if self.slow:
            self.let_go.wait()
        if self.error is not None:
            raise self.error

    def end_sync(self, now: float) -> None:
        self.log.append(("synced", self.shard))
        self.frames.append(("n2", "RAFT", [b"acknowledged"]))

    def advance(self, now: float) -> None:
        self.log.append(("advance", self.shard))

    def note_sync(self, sync_ms: float) -> None: ...

    def begin_background(self, now: float) -> list[Any]:
        if self.background_error is not None:
            raise self.background_error
        return []

    def next_deadline(self, now: float) -> float:
        self.log.append(("asked", self.shard))
        return self.tick_at

    def tick(self, now: float) -> float:
        self.log.append(("tick", self.shard))
        return self.tick_at

    def take_beats(self) -> list[tuple[str, bytes]]:
        return []


class _Node:
    """Replicas 1 to `count` on one `TurnScheduler`; must be made while a loop runs."""

    def __init__(self, executor: ThreadPoolExecutor, count: int, *slow: int) -> None:
        loop = asyncio.get_running_loop()
        self.log: list[tuple[Any, ...]] = []
        self.fatal: list[tuple[int, BaseException]] = []
        self.foreseen: list[tuple[int, BaseException]] = []
        self.turns = TurnScheduler(
            loop,
            executor,
            lambda: self.log.append(("flush",)),
            lambda: self.log.append(("after",)),
            sync_s=2 * INLINE_SYNC_S if slow else 0.0,
        )
        self.replicas = {n: _Replica(n, self.log, slow=n in slow) for n in range(1, count + 1)}
        self.runners = {
            n: Runner(
                cast(Replica, replica),
                loop,
                executor,
                self.turns.wake,
                lambda shard, frame: self.log.append(("sent", shard)),
                lambda error, n=n: self.fatal.append((n, error)),  # type: ignore[misc]
                lambda shard: None,
            )
            for n, replica in self.replicas.items()
        }

    async def until(self, *entry: Any, times: int = 1) -> None:
        while self.log.count(entry) < times:
            assert self.fatal == self.foreseen
            await asyncio.sleep(0.001)


def run(test: Callable[[ThreadPoolExecutor], Any]) -> None:
    async def all_of_it() -> None:
        with ThreadPoolExecutor(4) as executor:
            await test(executor)

    asyncio.run(all_of_it())


def test_replicas_that_are_due_together_share_each_flush() -> None:
    async def test(executor: ThreadPoolExecutor) -> None:
        node = _Node(executor, 3)
        for runner in node.runners.values():
            runner.wake()
            runner.wake()
        await node.until("after")
        shards = (1, 2, 3)
        phases: list[tuple[Any, ...]] = []
        for phase in ("step", "synced"):
            for shard in shards:
                phases += [(phase, shard), ("sent", shard)]
            phases.append(("flush",))
        assert node.log == [*phases, *[("advance", shard) for shard in shards], ("after",)]

    run(test)


def test_a_slow_sync_holds_up_its_own_replica_alone() -> None:
    async def test(executor: ThreadPoolExecutor) -> None:
        node = _Node(executor, 2, 1)
        for runner in node.runners.values():
            runner.wake()
        await node.until("advance", 2)
        node.runners[2].wake()
        await node.until("advance", 2, times=2)
        assert ("synced", 1) not in node.log
        node.replicas[1].let_go.set()
        await node.until("advance", 1)

    run(test)


def test_what_comes_in_during_a_slow_sync_is_sent_on_at_once_and_synced_after_it() -> None:
    async def test(executor: ThreadPoolExecutor) -> None:
        node = _Node(executor, 1, 1)
        runner = node.runners[1]
        runner.wake()
        await node.until("flush")
        runner.wake()
        await node.until("flush", times=2)
        assert node.log.count(("step", 1)) == 2
        assert ("synced", 1) not in node.log
        node.replicas[1].let_go.set()
        await node.until("advance", 1, times=2)
        assert node.log.count(("synced", 1)) == 2

    run(test)


def test_a_replica_whose_sync_fails_goes_no_further_and_the_others_go_on() -> None:
    async def test(executor: ThreadPoolExecutor) -> None:
        node = _Node(executor, 2)
        error = OSError("no such disk")
        node.replicas[1].error = error
        node.foreseen = node.fatal
        for runner in node.runners.values():
            runner.wake()
        await node.until("advance", 2)
        node.runners[1].wake()
        await node.runners[1].failed()
        assert node.fatal == [(1, error)]
        assert {entry for entry in node.log if entry[-1] == 1} == {("step", 1), ("sent", 1)}
        assert node.log.count(("step", 1)) == 1

    run(test)


def test_a_runner_that_is_stopped_during_a_sync_ends_it_before_it_is_idle() -> None:
    """Else the journal cannot be closed after it."""

    async def test(executor: ThreadPoolExecutor) -> None:
        node = _Node(executor, 1, 1)
        runner = node.runners[1]
        runner.wake()
        await node.until("flush")
        runner.stop()
        node.replicas[1].let_go.set()
        await runner.idle()
        assert ("advance", 1) in node.log
        runner.wake()
        await asyncio.sleep(0.01)
        assert node.log.count(("step", 1)) == 1
        assert not node.fatal

    run(test)


def test_a_request_that_waits_for_the_entry_before_it_takes_no_turn() -> None:
    async def test(executor: ThreadPoolExecutor) -> None:
        node = _Node(executor, 2)
        node.runners[1].submitted()
        node.replicas[2].request_needs_turn = True
        node.runners[2].submitted()
        await node.until("advance", 2)
        assert ("step", 1) not in node.log

    run(test)


def test_a_link_that_comes_up_begins_a_turn_only_where_it_leaves_something_to_do() -> None:
    async def test(executor: ThreadPoolExecutor) -> None:
        node = _Node(executor, 2)
        node.replicas[2].needs_turn = True
        for runner in node.runners.values():
            runner.heard()
        await node.until("advance", 2)
        assert ("step", 1) not in node.log

    run(test)


def test_a_replica_is_ticked_when_it_says_and_asked_for_that_once_after_many_turns() -> None:
    async def test(executor: ThreadPoolExecutor) -> None:
        node = _Node(executor, 1)
        replica, runner = node.replicas[1], node.runners[1]
        replica.tick_at = 5.0
        for turns in (1, 2, 3):
            runner.wake()
            await node.until("advance", 1, times=turns)
        for now in (1.0, 2.0, 4.9):
            runner.tick(now)
        assert node.log.count(("asked", 1)) == 1
        assert ("tick", 1) not in node.log
        runner.tick(5.0)
        assert node.log.count(("tick", 1)) == 1
        replica.tick_at = 3.0
        runner.heard()  # what it heard may have changed when it is to be ticked
        runner.tick(4.0)
        assert node.log.count(("tick", 1)) == 2

    run(test)


def test_a_replica_whose_bodies_cannot_go_to_the_store_fails_and_does_not_stand_still() -> None:
    async def test(executor: ThreadPoolExecutor) -> None:
        node = _Node(executor, 2)
        error = OSError("a read-only file system")

        node.replicas[1].background_error = error
        node.foreseen = node.fatal
        for runner in node.runners.values():
            runner.wake()
        await node.until("advance", 2)
        node.runners[2].wake()
        await asyncio.wait_for(node.until("advance", 2, times=2), 10.0)
        assert node.fatal == [(1, error)]
        assert node.runners[1].has_failed

    run(test)
