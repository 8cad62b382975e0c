"""The turns of a replica: their phases, in the only order there is.

| phase | what the replica does | what may follow it |
|---|---|---|
| `step` | proposes what waits | frames leave, so that other disks work in parallel with the own |
| `begin_sync` | gives the jobs that answers wait for | they run, in any threads and order |
| `end_sync` | releases what they held up | acknowledgements leave before anything is applied |
| `advance` | commits, applies and answers | frames leave |
| `begin_background` | gives the jobs that nobody waits for | they run beside the turns |
| `end` | tells whether another turn is due | |

Whoever schedules decides when each phase comes, and on which thread the jobs run: `node.runner`
with threads and several replicas at once, the simulator by its clock, tests inline (`Driver.turn`).
A phase that is left out, or comes twice, is a RuntimeError: else nothing would be committed or
trimmed, and all would look well."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, unique
from typing import TypeAlias

from raftmail.shard.frames import Frame, FrameKind
from raftmail.shard.replica import BackgroundJob, Replica

Job: TypeAlias = Callable[[], None]


@unique
class Phase(Enum):
    """How far a turn is."""

    IDLE = "idle"
    """No turn is under way."""
    BEGUN = "begun"
    SYNCING = "syncing"
    """Jobs of `begin_sync` run."""
    SYNCED = "synced"
    ADVANCED = "advanced"
    BACKGROUND = "background"
    """What remains is `end`."""


@dataclass(slots=True, eq=False, repr=False)
class Driver:
    """Takes one replica through its turns. `send` takes its frames, in order; it is not called
    without any.

    Invariants: phases follow each other as the module's docstring tells. One turn is under way at a
    time. What comes in meanwhile is handled by `step`, or has another turn follow.
    """

    replica: Replica
    send: Callable[[list[Frame]], None]
    syncs: int = 0
    """Jobs of `begin_sync` that have not returned."""
    in_background: int = 0
    """Jobs of `begin_background` that have not ended."""
    phase: Phase = Phase.IDLE
    _again: bool = False
    _next_tick: float | None = None
    """None: the replica is to be asked."""

    @property
    def is_busy(self) -> bool:
        """Whether a turn is under way."""
        return self.phase is not Phase.IDLE

    # -- what comes in: whether a turn is due because of it ----------------------------------------

    def submitted(self) -> bool:
        """The replica was given a request. While an entry is on its way most requests wait for it,
        and what it is acknowledged by has a turn follow."""
        return self.replica.request_needs_turn

    def received(self, kind: str) -> bool:
        """The replica took a frame. Of Raft's messages many leave nothing to do, such as the
        acknowledgement by the second of two followers."""
        return kind != FrameKind.RAFT or self.heard()

    def heard(self) -> bool:
        """The replica was told something that may leave it nothing to do, such as that a link is up
        or down."""
        if self.replica.needs_turn:
            return True
        self._next_tick = None  # it may have changed
        return False

    # -- time --------------------------------------------------------------------------------------

    def tick_is_due(self, now: float) -> bool:
        """Whether the replica wants to be ticked. Only then it is: a tick that it needs, and does
        not ask for, is missed."""
        if self._next_tick is None:
            self._next_tick = self.replica.next_deadline(now)
        return now >= self._next_tick

    def tick(self, now: float) -> list[tuple[str, bytes]]:
        """Let time pass. Returns beats, which wait for no turn; `Replica.needs_turn` tells whether
        one is due besides."""
        self._next_tick = self.replica.tick(now)
        return self.replica.take_beats()

    # -- a turn ------------------------------------------------------------------------------------

    def begin(self) -> bool:
        """Begin a turn. False: one is under way, and another one follows it."""
        if self.is_busy:
            self._again = True
            return False
        self.phase = Phase.BEGUN
        return True

    def step(self, now: float) -> bool:
        """Also while a turn is under way: what came in goes to the followers already. Whether any
        frames left."""
        self.replica.step(now)
        return self._carry()

    def begin_sync(self) -> list[Job]:
        """The jobs to run; `job_done` after each."""
        self._go(Phase.BEGUN, Phase.SYNCING)
        jobs = self.replica.begin_sync()
        self.syncs = len(jobs)
        return jobs

    def job_done(self) -> bool:
        """A job of `begin_sync` has returned. Whether it was the last."""
        self.syncs -= 1
        return not self.syncs

    def end_sync(self, now: float) -> bool:
        """Whether any frames left."""
        if self.syncs:
            raise RuntimeError(f"{self.syncs} jobs of the sync have not returned")
        self._go(Phase.SYNCING, Phase.SYNCED)
        self.replica.end_sync(now)
        return self._carry()

    def advance(self, now: float) -> bool:
        """Whether any frames left."""
        self._go(Phase.SYNCED, Phase.ADVANCED)
        self.replica.advance(now)
        self._next_tick = None
        return self._carry()

    def begin_background(self, now: float) -> list[BackgroundJob]:
        """The jobs to run beside the turns; `end_background` after each."""
        self._go(Phase.ADVANCED, Phase.BACKGROUND)
        jobs = self.replica.begin_background(now)
        self.in_background += len(jobs)
        return jobs

    def end_background(self, job: BackgroundJob) -> bool:
        """A job of `begin_background` has returned, in whatever phase. Whether a turn is due."""
        self.in_background -= 1
        job.end()
        return self.heard()

    def drop_background(self) -> None:
        """A job of `begin_background` has failed."""
        self.in_background -= 1

    def end(self) -> bool:
        """The turn is over. Whether another one is due."""
        self._go(Phase.BACKGROUND, Phase.IDLE)
        again, self._again = self._again, False
        return again or self.replica.has_work

    def abandon(self) -> None:
        """After an error: the turn that is under way is over, and nothing of it has been
        acknowledged since."""
        self.phase = Phase.IDLE

    def turn(self, now: float, background: Callable[[BackgroundJob], None] | None = None) -> bool:
        """A tick and a whole turn at once, with all its jobs run here; or those of
        `begin_background` by `background`, which ends them. Whether another turn is due at once."""
        self.replica.tick(now)
        self.begin()
        self.step(now)
        for job in self.begin_sync():
            job()
            self.job_done()
        self.end_sync(now)
        self.advance(now)
        for job_beside in self.begin_background(now):
            if background is not None:
                background(job_beside)
            else:
                job_beside.run()
                self.end_background(job_beside)
        return self.end()

    def _go(self, before: Phase, after: Phase) -> None:
        if self.phase is not before:
            raise RuntimeError(
                f"{after.value} follows {before.value}, and this turn is {self.phase.value}"
            )
        self.phase = after

    def _carry(self) -> bool:
        frames = self.replica.take_frames()
        if frames:
            self.send(frames)
        return bool(frames)
