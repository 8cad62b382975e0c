"""The loop that drives a replica: input, frames out, disk sync, answers, frames out.

Everything that arrives in one turn of the event loop is handled together: one Raft entry, one sync, one batch of answers. While a sync
runs in a thread, the next batch gathers. On a disk whose sync takes less than a thread hand-over costs, the sync is made in place.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from raftmail.consensus.beats import Beat
from raftmail.shard.frames import FrameKind
from raftmail.shard.replica import Frame, Replica

logger = logging.getLogger(__name__)

INLINE_SYNC_S = 0.003
"""Syncs that take less than this on average are made in place: a thread would cost as much, and the loop has nothing else that could be
acknowledged meanwhile. One slow sync is enough to change over."""

PARALLEL_SYNC_S = 0.006
"""Syncs that take longer are made by several threads at once."""


def _timed(jobs: Sequence[Callable[[], None]], clock: Callable[[], float]) -> Callable[[], float]:
    """One call that runs the jobs, one after the other, and returns the seconds that they took."""

    def run() -> float:
        began = clock()
        for job in jobs:
            job()
        return clock() - began

    return run


@dataclass(slots=True)
class Runner:
    """Drives one replica. `send` queues a frame on a link; `fatal` stops the process after an error that must not be survived
    (a failed sync, damage, a broken promise of Raft).

    A turn has three phases: step and send; sync, and send what that allows; apply and answer. What is sent in one leaves before the next
    begins, so that the other nodes work meanwhile."""

    replica: Replica
    loop: asyncio.AbstractEventLoop
    executor: ThreadPoolExecutor
    send: Callable[[int, Frame], None]
    fatal: Callable[[BaseException], None]
    flush_links: Callable[[], None]
    after: Callable[[], None]
    role_changed: Callable[[int], None]
    sync_s: float = 0.0
    _scheduled: bool = False
    _busy: bool = False
    _in_threads: bool = False
    _again: bool = False
    _in_background: bool = False
    _stopped: bool = False
    _failed: bool = False
    _next_tick: float = -1e18
    _role: tuple[int, int | None] = (-1, None)
    _idle: asyncio.Event = field(default_factory=asyncio.Event)

    def wake(self) -> None:
        """Have the replica stepped before this turn of the loop ends."""
        if not self._scheduled and not self._stopped:
            self._scheduled = True
            self.loop.call_soon(self._run)

    def received(self, kind: str) -> None:
        """The replica took a frame. Of Raft's messages many leave nothing to do, such as the acknowledgement by the second of two
        followers."""
        if kind != FrameKind.RAFT or self.replica.needs_turn:
            self.wake()
        else:
            self._note_role()

    def tick(self, now: float) -> Sequence[tuple[str, bytes]]:
        """Let time pass, if there is anything to be done about it. Returns beats to be packed with others' (nodes and records)."""
        if now < self._next_tick or self._stopped or self._failed:
            return ()
        replica = self.replica
        try:
            replica.tick(now)
        except Exception as e:
            self.fatal(e)
            return ()
        self._next_tick = replica.next_deadline(now)
        return self._take_beats()

    def beat(self, now: float, node: str, beat: Beat) -> Sequence[tuple[str, bytes]]:
        """Give the replica a beat from another node. Returns as `tick`."""
        if self._stopped or self._failed:
            return ()
        try:
            if self.replica.receive_beat(now, node, beat):
                return self.replica.take_beats()
        except Exception as e:
            self.fatal(e)
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

    async def failed(self) -> None:
        """After an error in a turn: begin no more, and wait for what still runs in threads."""
        self._stopped = self._failed = True
        while self._in_threads or self._in_background:  # noqa: ASYNC110  a sync ends soon, and there is nothing to be told by
            await asyncio.sleep(0.01)
        self._busy = False
        self._idle.set()

    async def idle(self) -> None:
        """Wait until no turn, and no work in the background, is under way any more."""
        while self._busy or self._in_background:
            self._idle.clear()
            await self._idle.wait()

    def _run(self) -> None:
        self._scheduled = False
        if self._stopped:
            return
        if not self._busy:
            self._busy = True
            self._guarded(self._turn)
            return
        self._again = True
        if self._in_threads:
            self._guarded(self._send_meanwhile)

    def _guarded(self, phase: Callable[[], None]) -> None:
        if self._failed:
            return
        try:
            phase()
        except Exception as e:
            self.fatal(e)

    def _then(self, phase: Callable[[], None], *, sent: bool) -> None:
        """Go on with a phase; when something was sent, in the next turn of the loop, before which it leaves."""
        if sent:
            self.loop.call_soon(self._guarded, phase)
        else:
            phase()

    def _turn(self) -> None:
        self._then(self._sync, sent=self._step())

    def _send_meanwhile(self) -> None:
        """While a slow disk syncs, what came in goes to the followers already."""
        self._step()

    def _step(self) -> bool:
        self.replica.step(self.loop.time())
        return self._send_now()

    def _sync(self) -> None:
        jobs = self.replica.begin_sync()
        clock = self.loop.time
        if not jobs:
            self._synced()
        elif self.sync_s < INLINE_SYNC_S:
            self._measure(_timed(jobs, clock)())
            self._synced()
        elif self.sync_s < PARALLEL_SYNC_S:
            self._sync_in_threads([_timed(jobs, clock)])
        else:
            self._sync_in_threads([_timed([job], clock) for job in jobs])

    def _sync_in_threads(self, jobs: Sequence[Callable[[], float]]) -> None:
        self._in_threads = True
        left = len(jobs)
        longest_s = 0.0

        def done(future: asyncio.Future[float]) -> None:
            nonlocal left, longest_s
            left -= 1
            error = future.exception()
            if error is not None:
                self.fatal(error)
                return
            longest_s = max(longest_s, future.result())
            if not left:
                self._in_threads = False
                self._measure(longest_s)
                if not self._failed:
                    self._guarded(self._synced)

        for job in jobs:
            self.loop.run_in_executor(self.executor, job).add_done_callback(done)

    def _synced(self) -> None:
        """Acknowledgements leave before anything is applied."""
        self.replica.end_sync(self.loop.time())
        self._then(self._advance, sent=self._send_now())

    def _advance(self) -> None:
        replica = self.replica
        now = self.loop.time()
        replica.advance(now)
        self._next_tick = replica.next_deadline(now)
        self._note_role()
        self._send_now()
        self.after()
        job = replica.bodies.begin_sync(self.loop.time())
        if job is not None:
            self._in_background = True
            self.loop.run_in_executor(self.executor, job).add_done_callback(self._background_done)
        self._busy = False
        self._idle.set()
        again, self._again = self._again, False
        if again or replica.has_work:
            self.wake()

    def _background_done(self, future: asyncio.Future[None]) -> None:
        self._in_background = False
        self._idle.set()
        error = future.exception()
        if error is not None:
            self.fatal(error)
            return
        self._guarded(self.replica.bodies.end_sync)
        self.wake()

    def _measure(self, took_s: float) -> None:
        self.sync_s += 0.05 * (min(took_s, 0.1) - self.sync_s)
        self.replica.counters.sync_ms = self.sync_s * 1000

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
        self.flush_links()
        return True
