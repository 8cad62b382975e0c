"""A node of several workers: a process for each, and one that watches them.

Python runs on one core; a node with more of them spreads its replicas over as many processes. To
the cluster each is a node of its own, on one host (`Config.of_worker`). So placement never gives
two replicas of a shard to one machine while there are others. And everything that moves replicas
moves them between workers, too. What they share are the addresses for clients and for mail: the
kernel deals the connections out.

The process that was started only watches. It passes SIGTERM, SIGINT and SIGHUP on. It starts a
worker again that was killed, or ended itself after an error that must not be survived. It ends all
when one refuses to start. The workers are killed with it.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from raftmail.net.errors import tell
from raftmail.node.config import Config

logger = logging.getLogger(__name__)

EXIT_REFUSED = 1
"""With this a worker ends that cannot be started as it is configured."""

RESTART_MIN_S = 0.5
RESTART_MAX_S = 30.0
SETTLED_S = 60.0
"""A worker that ran so long is started again without delay."""

_PR_SET_PDEATHSIG = 1
_ENDING = frozenset((signal.SIGTERM, signal.SIGINT))
_WATCHED = frozenset((signal.SIGCHLD, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)) | _ENDING

Serve = Callable[[Config], int]


@dataclass(slots=True)
class _Worker:
    """`pid` is 0 while it does not run; then it is started at `start_at`."""

    config: Config
    pid: int = 0
    started: float = 0.0
    start_at: float = 0.0
    delay_s: float = RESTART_MIN_S


@dataclass(slots=True, repr=False)
class WorkerMonitor:
    """Starts the workers and watches them. `serve` runs one in its process, and returns its exit
    code.

    To be made in a process that has no threads: workers are forked, so that what they have loaded
    is in memory once."""

    config: Config
    serve: Serve
    _workers: list[_Worker] = field(init=False)
    _code: int = 0
    _stopping: bool = False

    def __post_init__(self) -> None:
        self._workers = [_Worker(config) for config in self.config.every_worker]

    def run(self) -> int:
        """Until SIGTERM or SIGINT, or until a worker refuses to start. Returns the exit code."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
        try:
            while True:
                now = time.monotonic()
                if not self._stopping:
                    for worker in self._workers:
                        if not worker.pid and worker.start_at <= now:
                            self._start(worker, now, before)
                elif not any(worker.pid for worker in self._workers):
                    return self._code
                got = signal.sigtimedwait(_WATCHED, self._patience(now))
                if got is not None and got.si_signo in _ENDING:
                    self._stop()
                elif got is not None and got.si_signo == signal.SIGHUP:
                    self._pass_on(signal.SIGHUP)
                self._reap()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _patience(self, now: float) -> float:
        due = [worker.start_at for worker in self._workers if not worker.pid]
        return max(0.0, min(due) - now) if due and not self._stopping else 3600.0

    def _start(self, worker: _Worker, now: float, mask: Iterable[int]) -> None:
        parent = os.getpid()
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if not pid:
            _become(worker.config, self.serve, parent, mask)
        worker.pid = pid
        worker.started = now

    def _reap(self) -> None:
        by_pid: Mapping[int, _Worker] = {w.pid: w for w in self._workers if w.pid}
        for pid, worker in by_pid.items():
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                worker.pid = 0
                self._ended(worker, os.waitstatus_to_exitcode(status))

    def _ended(self, worker: _Worker, code: int) -> None:
        name = worker.config.node.name
        if self._stopping:
            self._code = self._code or (code if code > 0 else 0)
            return
        if code in (0, EXIT_REFUSED):
            # It said why itself.
            self._code = code
            self._stop()
            return
        now = time.monotonic()
        if now - worker.started >= SETTLED_S:
            worker.delay_s = RESTART_MIN_S
        worker.start_at = now + worker.delay_s
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
        logger.error("worker %s %s; it is started again in %.1f s", name, how, worker.delay_s)
        worker.delay_s = min(2 * worker.delay_s, RESTART_MAX_S)

    def _stop(self) -> None:
        self._stopping = True
        self._pass_on(signal.SIGTERM)

    def _pass_on(self, number: signal.Signals) -> None:
        for worker in self._workers:
            if worker.pid:
                os.kill(worker.pid, number)


def _become(config: Config, serve: Serve, parent: int, mask: Iterable[int]) -> None:
    """In a forked process: be the worker, and never return."""
    code = 70
    try:
        # Who kills the node kills all of it, as with one process.
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(code)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        code = serve(config)
    except BaseException as error:
        tell(logger, f"worker {config.node.name} ends", error, logging.CRITICAL)
    finally:
        logging.shutdown()
        sys.stderr.flush()
        os._exit(code)
