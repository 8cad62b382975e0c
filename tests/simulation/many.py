"""Many seeds, in several processes at once, with what came of them added up as they end.

A seed is the same run in any process. Sums are kept, and not the outcomes: ten thousand runs take
no more memory than ten.
"""

from __future__ import annotations

import gc
import multiprocessing
import signal
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import islice

from tests.simulation.run import Outcome, simulate

AHEAD = 4
"""Seeds of each process that may wait, so that none is idle while an earlier one takes its time."""
PROGRESS_S = 30.0
GARBAGE_MAX = 5_000_000
"""Objects; ten times what most seeds leave."""


@dataclass(slots=True)
class Tally:
    """What many runs came to. `cpu_s` is what they took of a core, all together."""

    seeds: int = 0
    seconds: float = 0.0
    operations: int = 0
    answered: int = 0
    cpu_s: float = 0.0
    reached: Counter[str] = field(default_factory=Counter)
    failed: list[int] = field(default_factory=list)
    interrupted: bool = False

    def add(self, outcome: Outcome, cpu_s: float) -> None:
        self.seeds += 1
        self.seconds += outcome.seconds
        self.operations += outcome.operations
        self.answered += outcome.answered
        self.cpu_s += cpu_s
        self.reached.update(outcome.reached)
        if outcome.problem:
            self.failed.append(outcome.seed)

    def __str__(self) -> str:
        told = (
            f"{self.seeds} seeds, {self.seconds:.0f} cluster-seconds, "
            f"{self.operations} operations ({self.answered} answered), {len(self.failed)} failed"
        )
        if self.cpu_s:
            told += f"; {self.cpu_s:.0f} s of a core, {self.seconds / self.cpu_s:.0f} in each"
        return told


def nodes_of(seed: int) -> int:
    """How many nodes a seed has unless it is said otherwise."""
    return 5 if seed % 4 == 3 else 3


def tell(outcome: Outcome, *, imap: bool) -> None:
    """Print what a failed seed came to, and how to run it again."""
    print(f"seed {outcome.seed}, {outcome.nodes} nodes: {outcome.problem}")
    options = f"--seed {outcome.seed} --nodes {outcome.nodes}{' --imap' if imap else ''}"
    print(f"  again: python -m tests.simulation {options}", flush=True)


def simulate_many(
    seeds: Iterable[int], nodes: int | None, jobs: int, *, imap: bool = False
) -> Tally:
    """Run them all, in order, `jobs` at a time, and print each failure when it is known and now and
    then how far it is. Ctrl-C ends it early, with the sums so far."""
    tally = Tally()
    began = told = time.monotonic()
    try:
        for outcome, cpu_s in _outcomes(seeds, nodes, jobs, imap=imap):
            tally.add(outcome, cpu_s)
            if outcome.problem:
                tell(outcome, imap=imap)
            now = time.monotonic()
            if now - told >= PROGRESS_S:
                told = now
                print(f"after {now - began:.0f} s: {tally}", flush=True)
    except KeyboardInterrupt:
        tally.interrupted = True
        print("interrupted", file=sys.stderr)
    return tally


def _outcomes(
    seeds: Iterable[int], nodes: int | None, jobs: int, *, imap: bool
) -> Iterator[tuple[Outcome, float]]:
    quieten_collector()
    if jobs == 1:
        for seed in seeds:
            yield _one(seed, nodes, imap=imap)
        return
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(jobs, context, initializer=_begin) as pool:
        waiting: deque[Future[tuple[Outcome, float]]] = deque()
        following = iter(seeds)
        try:
            while True:
                room = jobs * AHEAD - len(waiting)
                waiting += [
                    pool.submit(_one, seed, nodes, imap=imap) for seed in islice(following, room)
                ]
                if not waiting:
                    return
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _begin() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the one who gathers decides


def _one(seed: int, nodes: int | None, *, imap: bool) -> tuple[Outcome, float]:
    began = time.process_time()
    outcome = simulate(seed, nodes or nodes_of(seed), imap=imap)
    gc.collect()
    return outcome, time.process_time() - began


def quieten_collector() -> None:
    """What a seed leaves is garbage all at once, and is collected then; looking for some all the
    time takes a tenth of a core. One that goes on and on is looked through all the same."""
    gc.freeze()
    gc.set_threshold(GARBAGE_MAX, 10, 10)


def until(deadline: float, seeds: Iterable[int], clock: Callable[[], float]) -> Iterator[int]:
    """Those that begin before the deadline."""
    for seed in seeds:
        if clock() >= deadline:
            return
        yield seed
