"""What drives a replica: input, frames out, disk sync, answers, frames out.

Everything that arrives in one turn of the event loop is handled together: one Raft entry, one sync, one batch of answers. While a sync
runs in a thread, the next batch gathers. When each phase of a turn comes, `turns` decides, for all replicas of the node.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial

from raftmail.consensus.beats import Beat
from raftmail.shard.frames import FrameKind
from raftmail.shard.replica import Frame, Replica

logger = logging.getLogger(__name__)


@dataclass(slots=True, eq=False, repr=False)
class Runner:
    """Drives one replica. `due` has `turns` begin a turn of it; `send` queues a frame on a link; `fatal` stops the process after an error
    that must not be survived (a failed sync, damage, a broken promise of Raft).

    A turn has three phases: `step`; `begin_sync`, the jobs, and `end_sync`; `advance`. Each tells whether it sent anything."""

    replica: Replica
    loop: asyncio.AbstractEventLoop
    executor: Executor
    due: Callable[[Runner], None]
    send: Callable[[int, Frame], None]
    fatal: Callable[[BaseException], None]
    role_changed: Callable[[int], None]
    long_executor: Executor | None = None
    """For storing long bodies, which takes memory of their length: a few at a time. None: `executor`."""
    syncs: int = 0
    """Jobs of `begin_sync` that have not returned."""
    has_failed: bool = False
    _busy: bool = False
    _again: bool = False
    _in_background: int = 0
    _stopped: bool = False
    _next_tick: float | None = None
    """None: the replica is to be asked."""
    _role: tuple[int, int | None] = (-1, None)
    _idle: asyncio.Event = field(default_factory=asyncio.Event)

    def wake(self) -> None:
        """Have the replica stepped before this turn of the loop ends."""
        if not self._stopped:
            self.due(self)

    def submitted(self) -> None:
        """The replica was given a request. While an entry is on its way most requests wait for it, and what it is acknowledged by wakes
        the replica."""
        if self.replica.request_needs_turn:
            self.wake()

    def received(self, kind: str) -> None:
        """The replica took a frame. Of Raft's messages many leave nothing to do, such as the acknowledgement by the second of two
        followers."""
        if kind != FrameKind.RAFT:
            self.wake()
        else:
            self.heard()

    def heard(self) -> None:
        """The replica was told something that may leave it nothing to do, such as that a link is up or down."""
        if self.replica.needs_turn:
            self.wake()
        else:
            self._note_role()
            self._next_tick = None  # it may have changed

    def tick(self, now: float) -> Sequence[tuple[str, bytes]]:
        """Let time pass, if there is anything to be done about it. Returns beats to be packed with others' (nodes and records)."""
        if self._stopped:
            return ()
        replica = self.replica
        if self._next_tick is None:
            self._next_tick = replica.next_deadline(now)
        if now < self._next_tick:
            return ()
        try:
            self._next_tick = replica.tick(now)
        except Exception as e:
            self.fail(e)
            return ()
        return self._take_beats()

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
        return self._take_beats()

    def _take_beats(self) -> Sequence[tuple[str, bytes]]:
        """The replica's beats; what else there is to do is done in a turn."""
        beats = self.replica.take_beats()
        if self.replica.needs_turn:
            self.wake()
        else:
            self._note_role()
        return beats

    def stop(self) -> None:
        """Begin no more turns; `idle` waits for the one that is under way."""
        self._stopped = True

    def fail(self, error: BaseException) -> None:
        """Go no further after an error."""
        self._stopped = self.has_failed = True
        self.fatal(error)

    async def failed(self) -> None:
        """After an error: begin no more turns, and wait for what still runs in threads."""
        self._stopped = self.has_failed = True
        while self.syncs or self._in_background:  # noqa: ASYNC110  a sync ends soon, and there is nothing to be told by
            await asyncio.sleep(0.01)
        self._busy = False
        self._idle.set()

    async def idle(self) -> None:
        """Wait until no turn, and no work in the background, is under way any more."""
        while self._busy or self._in_background:
            self._idle.clear()
            await self._idle.wait()

    # -- a turn, driven by `turns` ---------------------------------------------------------------------

    def begin(self) -> bool:
        """Begin a turn; False when one is under way, after which another one follows, or when none may begin."""
        if self._stopped:
            return False
        if self._busy:
            self._again = True
            return False
        self._busy = True
        return True

    def step(self) -> bool:
        """Also while a sync is under way."""
        self.replica.step(self.loop.time())
        return self._send_now()

    def begin_sync(self) -> list[Callable[[], None]]:
        """The jobs; who runs them counts `syncs` down."""
        jobs = self.replica.begin_sync()
        self.syncs = len(jobs)
        return jobs

    def end_sync(self) -> bool:
        self.replica.end_sync(self.loop.time())
        return self._send_now()

    def advance(self) -> bool:
        self.replica.advance(self.loop.time())
        self._next_tick = None
        self._note_role()
        return self._send_now()

    def end(self) -> None:
        """The turn is over."""
        bodies = self.replica.bodies
        self._begin(self.executor, bodies.begin_sync(self.loop.time()), bodies.end_sync)
        self._begin(self.long_executor or self.executor, bodies.begin_long(), bodies.end_long)
        self._busy = False
        self._idle.set()
        again, self._again = self._again, False
        if again or self.replica.has_work:
            self.wake()

    def _begin(
        self, executor: Executor, job: Callable[[], None] | None, end: Callable[[], None]
    ) -> None:
        """Have a job run in another thread, beside the turns; `end` then."""
        if job is not None:
            self._in_background += 1
            done = self.loop.run_in_executor(executor, job)
            done.add_done_callback(partial(self._background_done, end))

    def _background_done(self, end: Callable[[], None], future: asyncio.Future[None]) -> None:
        self._in_background -= 1
        self._idle.set()
        error = future.exception()
        if error is None and not self.has_failed:
            try:
                end()
            except Exception as e:
                error = e
        if error is not None:
            self.fail(error)
        else:
            self.heard()

    def _note_role(self) -> None:
        group = self.replica.group
        role = (group.term, group.leader)
        if role != self._role:
            self._role = role
            self.role_changed(self.replica.shard)

    def _send_now(self) -> bool:
        """Send the replica's frames; whether there were any."""
        frames = self.replica.take_frames()
        if not frames:
            return False
        shard = self.replica.shard
        for frame in frames:
            self.send(shard, frame)
        return True
