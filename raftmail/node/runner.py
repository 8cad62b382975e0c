"""When a replica takes its turns, and which threads run its disk jobs.

Everything that arrives in one turn of the event loop is handled together: one Raft entry, one sync,
one batch of answers. While a sync runs in a thread, the next batch gathers. When each phase of a
turn comes, `turn_scheduler` decides, for all replicas of the node.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial

from raftmail.consensus.heartbeats import Beat
from raftmail.node.pace import LongBodyPace
from raftmail.shard.driver import Driver
from raftmail.shard.replica import BackgroundJob, Frame, Replica
from raftmail.storage.longbody import LongBody


@dataclass(slots=True, eq=False, repr=False)
class Runner:
    """Schedules the turns of one replica (`shard.driver`). `due` has `turn_scheduler` begin a turn
    of it. `send` queues a frame on a link. `ended_by` is told of an error after which the replica
    must not go on (see `ReplicaTable.failed`).
    """

    replica: Replica
    loop: asyncio.AbstractEventLoop
    executor: Executor
    due: Callable[[Runner], None]
    send: Callable[[int, Frame], None]
    ended_by: Callable[[BaseException], None]
    role_changed: Callable[[int], None]
    long_executor: Executor | None = None
    """For storing and reading long bodies, which takes memory of their length: a few at a time.
    None: `executor`."""
    driver: Driver = field(init=False)
    has_failed: bool = False
    _stopped: bool = False
    _role: tuple[int, int | None] = (-1, None)
    _idle: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.driver = Driver(self.replica, self._send)

    def _send(self, frames: list[Frame]) -> None:
        shard = self.replica.shard
        for frame in frames:
            self.send(shard, frame)

    def wake(self) -> None:
        """Have the replica stepped before this turn of the loop ends."""
        if not self._stopped:
            self.due(self)

    def submitted(self) -> None:
        """The replica was given a request."""
        if self.driver.submitted():
            self.wake()

    def received(self, kind: str) -> None:
        """The replica took a frame."""
        if self.driver.received(kind):
            self.wake()
        else:
            self._note_role()

    def heard(self) -> None:
        """The replica was told something, such as that a link is up or down."""
        if self.driver.heard():
            self.wake()
        else:
            self._note_role()

    def tick(self, now: float) -> Sequence[tuple[str, bytes]]:
        """Let time pass, if there is anything to be done about it. Returns beats to be packed with
        others' (nodes and records)."""
        if self._stopped or not self.driver.tick_is_due(now):
            return ()
        try:
            beats = self.driver.tick(now)
        except Exception as e:
            self.fail(e)
            return ()
        self._wake_if_needed()
        return beats

    def beat(self, now: float, node: str, beat: Beat) -> Sequence[tuple[str, bytes]]:
        """Give the replica a beat from another node. Returns as `tick`."""
        if self._stopped:
            return ()
        try:
            if self.replica.receive_beat(now, node, beat):
                return self.replica.take_beats()
        except Exception as e:
            self.fail(e)
            return ()
        beats = self.replica.take_beats()
        self._wake_if_needed()
        return beats

    def _wake_if_needed(self) -> None:
        """Have what there is to do besides the beats done in a turn."""
        if self.replica.needs_turn:
            self.wake()
        else:
            self._note_role()

    def stop(self) -> None:
        """Begin no more turns; `idle` waits for the one that is under way."""
        self._stopped = True

    def fail(self, error: BaseException) -> None:
        """Go no further after an error."""
        self._stopped = self.has_failed = True
        self.ended_by(error)

    async def failed(self) -> None:
        """After an error: begin no more turns, and wait for what still runs in threads."""
        self._stopped = self.has_failed = True
        driver = self.driver
        while driver.syncs or driver.in_background:  # noqa: ASYNC110  a sync ends soon, and there is nothing to be told by
            await asyncio.sleep(0.01)
        driver.abandon()
        self._idle.set()

    async def idle(self) -> None:
        """Wait until no turn, and no work in the background, is under way any more."""
        while self.driver.is_busy or self.driver.in_background:
            self._idle.clear()
            await self._idle.wait()

    # -- a turn, whose phases `turn_scheduler` has come --------------------------------------------

    def begin(self) -> bool:
        """Begin a turn; False when one is under way, after which another one follows, or when none
        may begin."""
        return not self._stopped and self.driver.begin()

    def step(self) -> bool:
        """Whether anything was sent."""
        return self.driver.step(self.loop.time())

    def end_sync(self) -> bool:
        """Whether anything was sent."""
        return self.driver.end_sync(self.loop.time())

    def advance(self) -> bool:
        """Whether anything was sent."""
        sent = self.driver.advance(self.loop.time())
        self._note_role()
        return sent

    def end(self) -> None:
        """Have the background jobs run, and end the turn."""
        for job in self.driver.begin_background(self.loop.time()):
            executor = None
            if job.long_body is not None:
                executor = self.long_executor
            if isinstance(job.long_body, LongBody):
                job.long_body.rest = LongBodyPace(lambda: self._stopped).rest
            done = self.loop.run_in_executor(executor or self.executor, job.run)
            done.add_done_callback(partial(self._background_done, job))
        due = self.driver.end()
        self._idle.set()
        if due:
            self.wake()

    def _background_done(self, job: BackgroundJob, future: asyncio.Future[None]) -> None:
        self._idle.set()
        error = future.exception()
        if error is not None or self.has_failed:
            self.driver.drop_background()
            if error is not None:
                self.fail(error)
            return
        try:
            due = self.driver.end_background(job)
        except Exception as e:
            self.fail(e)
            return
        if due:
            self.wake()
        else:
            self._note_role()

    def _note_role(self) -> None:
        role = (self.replica.term, self.replica.leader)
        if role != self._role:
            self._role = role
            self.role_changed(self.replica.shard)
