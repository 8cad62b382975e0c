"""Replicas take their turns together: what is due at the same moment is one flush of the links for
each phase, and one round of syncs.

A node holds many replicas, each with a log of its own. What one turn costs beside its entries
(records of TLS, hand-overs to threads) would be paid for each of them. So the runners that are due
go through a phase one after the other before any of them begins the next. None waits for another's
sync longer than it would for the disk itself. Those that have nothing to sync go on at once. Where
syncs are slow several threads make them, each going on with those whose syncs it has made.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field

from raftmail.node.disk_watch import DiskWatch
from raftmail.node.runner import Runner

INLINE_SYNC_S = 0.003
"""Syncs that take less than this on average are made in place: a thread would cost as much, and the
loop has nothing else that could be acknowledged meanwhile. One slow sync is enough to change
over."""

INLINE_TURN_S = 0.02
"""As long as those of one turn take no longer than this together, or the heartbeats of other
replicas would be late."""

SYNC_THREADS_MAX = 8
"""Several syncs at once share what the file system and the disk do for each."""

Job = Callable[[], None]
_Made = tuple[float, list[tuple[Runner, BaseException | None]]]


def _make(
    jobs: Sequence[tuple[Runner, Job]], clock: Callable[[], float], watch: DiskWatch
) -> _Made:
    """Run jobs one after the other: the seconds that they took, and what each raised."""
    began = clock()
    made: list[tuple[Runner, BaseException | None]] = []
    for runner, job in jobs:
        number = watch.begin()
        try:
            job()
        except Exception as e:
            made.append((runner, e))
        else:
            made.append((runner, None))
        finally:
            watch.end(number)
    return clock() - began, made


@dataclass(slots=True, repr=False)
class TurnScheduler:
    """See the module's docstring. `flush_links` has what was sent leave; `after` is called when
    replicas have answered. What is sent in one phase leaves before the next begins, so that the
    other nodes work meanwhile."""

    loop: asyncio.AbstractEventLoop
    executor: Executor
    flush_links: Callable[[], None]
    after: Callable[[], None]
    sync_s: float = 0.0
    """What one sync takes: a running average over all replicas, which share a disk."""
    disk: DiskWatch = field(init=False)
    _due: dict[Runner, None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.disk = DiskWatch("the disk of this node", self.loop.time)

    def wake(self, runner: Runner) -> None:
        """Have a replica stepped before this turn of the loop ends."""
        if not self._due:
            self.loop.call_soon(self._run)
        self._due[runner] = None

    def _run(self) -> None:
        due, self._due = self._due, {}
        # While a slow disk syncs, what came in goes to the followers already.
        meanwhile = [runner for runner in due if runner.driver.syncs]
        self._each(meanwhile, Runner.step)
        begun, sent = self._each([runner for runner in due if runner.begin()], Runner.step)
        self._then(self._sync, begun, sent=sent)

    def _each(
        self, runners: Iterable[Runner], phase: Callable[[Runner], bool | None]
    ) -> tuple[list[Runner], bool]:
        """Have each go through a phase. Those that did, and whether anything was sent. One whose
        phase raises an error fails alone."""
        went = []
        sent = False
        for runner in runners:
            if runner.has_failed:
                continue
            try:
                sent = bool(phase(runner)) or sent
            except Exception as e:
                runner.fail(e)
            else:
                went.append(runner)
        if sent:
            self.flush_links()
        return went, sent

    def _then(
        self, phase: Callable[[list[Runner]], None], runners: list[Runner], *, sent: bool
    ) -> None:
        """Go on with a phase; when something was sent, in the next turn of the loop, before which
        it leaves."""
        if not runners:
            return
        if sent:
            self.loop.call_soon(phase, runners)
        else:
            phase(runners)

    def _sync(self, runners: list[Runner]) -> None:
        jobs: list[tuple[Runner, Job]] = []

        def begin(runner: Runner) -> bool:
            jobs.extend((runner, job) for job in runner.driver.begin_sync())
            return False

        begun, _ = self._each(runners, begin)
        expected_s = self.sync_s * len(jobs)
        if jobs and self.sync_s < INLINE_SYNC_S and expected_s < INLINE_TURN_S:
            self._made(_make(jobs, self.loop.time, self.disk))
            jobs = []
        self._synced([runner for runner in begun if not runner.driver.syncs])
        threads = min(len(jobs), SYNC_THREADS_MAX, 1 + int(expected_s / INLINE_SYNC_S))
        for at in range(threads):
            part = jobs[at::threads]
            made = self.loop.run_in_executor(self.executor, _make, part, self.loop.time, self.disk)
            made.add_done_callback(self._made_in_thread)

    def _made_in_thread(self, future: asyncio.Future[_Made]) -> None:
        self._synced(self._made(future.result()))

    def _made(self, made: _Made) -> list[Runner]:
        """Note what was made. The runners that have no sync under way any more."""
        took_s, results = made
        self.sync_s += 0.05 * (min(took_s / len(results), 0.1) - self.sync_s)
        ready = []
        for runner, error in results:
            is_last = runner.driver.job_done()
            runner.replica.note_sync(self.sync_s * 1000)
            if error is not None:
                runner.fail(error)
            elif is_last:
                ready.append(runner)
        return ready

    def _synced(self, runners: list[Runner]) -> None:
        """Acknowledgements leave before anything is applied."""
        going, sent = self._each(runners, Runner.end_sync)
        self._then(self._advance, going, sent=sent)

    def _advance(self, runners: list[Runner]) -> None:
        done, _ = self._each(runners, Runner.advance)
        self.after()
        self._each(done, Runner.end)
