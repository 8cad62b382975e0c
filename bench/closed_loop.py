"""What every closed-loop load has in common: what is written down, and what is made of it.

A load generator is a module run as a process of its own, so that it shares no interpreter with what
it measures. It keeps a :class:`LoadTally`, has :func:`observe` time it, and prints the
:class:`LoadResult` as JSON, which :func:`run_generator` reads.
"""

from __future__ import annotations

import asyncio
import gc
import json
import resource
import subprocess
import sys
import time
from array import array
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from bench.runtime import BenchError, new_event_loop
from bench.stats import percentile, to_json

RETRY_S = 0.02
DRAIN_S = 5.0


@dataclass(frozen=True, slots=True)
class LoadResult:
    """What a run measured.

    ``done`` operations were acknowledged inside the measured ``seconds``. ``accepted_total`` also
    counts the warm-up and those still under way at the end, and is what the server must hold.
    Failures are of the whole run, by reply code, or ``connect``, ``lost`` (connection),
    ``protocol``, ``unfinished``. ``longest_gap_ms`` is the longest time inside the measured seconds
    without an acknowledgement. Figures that need an operation are None when none was done.
    """

    done: int
    accepted_total: int
    seconds: float
    per_s: float
    p50_ms: float | None
    p99_ms: float | None
    longest_gap_ms: float
    failures: dict[str, int]
    generator_cpu_us: float | None
    notes: dict[str, bool] = field(default_factory=dict)

    def figures(self) -> dict[str, float]:
        """The numbers that medians over runs make sense for; BenchError if nothing came through."""
        if self.p50_ms is None or self.p99_ms is None or self.generator_cpu_us is None:
            raise BenchError(f"nothing was acknowledged; failures: {self.failures}")
        return {
            "per_s": self.per_s,
            "p50_ms": self.p50_ms,
            "p99_ms": self.p99_ms,
            "longest_gap_ms": self.longest_gap_ms,
            "failures": sum(self.failures.values()),
            "generator_cpu_us": self.generator_cpu_us,
        }


@dataclass(slots=True)
class LoadTally:
    """What all connections of a run write down together."""

    latencies_s: array[float] = field(default_factory=lambda: array("d"))
    acknowledged_at_s: array[float] = field(default_factory=lambda: array("d"))
    failures: Counter[str] = field(default_factory=Counter)
    stopping: bool = False

    def acknowledged(self, begun_s: float) -> None:
        """An operation begun at ``begun_s`` (perf_counter) has succeeded now."""
        now = time.perf_counter()
        self.latencies_s.append(now - begun_s)
        self.acknowledged_at_s.append(now)


async def observe(
    connections: Iterable[Coroutine[Any, Any, None]],
    tally: LoadTally,
    warmup_s: float,
    seconds: float,
) -> LoadResult:
    """Run connections that go on until ``tally.stopping``; measure ``seconds`` of them."""
    workers = [asyncio.create_task(connection) for connection in connections]
    await asyncio.sleep(warmup_s)
    begun_s, cpu_before_s = time.perf_counter(), _cpu_s()
    await asyncio.sleep(seconds)
    ended_s, cpu_s = time.perf_counter(), _cpu_s() - cpu_before_s
    tally.stopping = True
    _, unfinished = await asyncio.wait(workers, timeout=DRAIN_S)
    for worker in unfinished:
        worker.cancel()
        tally.failures["unfinished"] += 1
    return summarise(tally, begun_s, ended_s, cpu_s)


async def keep_connected(
    connect: Callable[[Callable[[], None]], Coroutine[Any, Any, None]], tally: LoadTally
) -> None:
    """Open a connection again whenever it ends, until the tally says stop.

    ``connect`` is given what the connection has to call when it has ended.
    """
    while not tally.stopping:
        ended = asyncio.Event()
        try:
            await connect(ended.set)
        except OSError:
            tally.failures["connect"] += 1
        else:
            await ended.wait()
        if not tally.stopping:
            await asyncio.sleep(RETRY_S)


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def summarise(tally: LoadTally, begun_s: float, ended_s: float, cpu_s: float) -> LoadResult:
    """What a tally says about ``begun_s`` to ``ended_s``, which cost the generator ``cpu_s``."""
    measured = [
        (at_s, latency_s)
        for at_s, latency_s in zip(tally.acknowledged_at_s, tally.latencies_s, strict=True)
        if begun_s <= at_s < ended_s
    ]
    latencies_s = sorted(latency_s for _, latency_s in measured)
    moments_s = [begun_s, *(at_s for at_s, _ in measured), ended_s]
    seconds, count = ended_s - begun_s, len(measured)
    return LoadResult(
        done=count,
        accepted_total=len(tally.latencies_s),
        seconds=seconds,
        per_s=count / seconds,
        p50_ms=percentile(latencies_s, 0.50) * 1e3 if count else None,
        p99_ms=percentile(latencies_s, 0.99) * 1e3 if count else None,
        longest_gap_ms=max(after - before for before, after in pairwise(moments_s)) * 1e3,
        failures=dict(tally.failures),
        generator_cpu_us=cpu_s / count * 1e6 if count else None,
    )


def run_and_print(
    load: Callable[[], Coroutine[Any, Any, LoadResult]], name: str, as_json: bool
) -> int:
    """Run a load to its end and print its result; exit status 1 when nothing was acknowledged."""
    # Nothing here makes cycles by the thousand, and a collection would show up as latency.
    gc.disable()
    loop = new_event_loop()
    try:
        result = loop.run_until_complete(load())
    except BenchError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 1
    finally:
        loop.close()
    if as_json:
        print(to_json(asdict(result)))
    else:
        for key, value in asdict(result).items():
            print(f"{key:18} {value:,.2f}" if isinstance(value, float) else f"{key:18} {value}")
    return 0 if result.done else 1


def run_generator(module: str, arguments: Sequence[str], timeout_s: float) -> LoadResult:
    """Run a generator module in a process of its own, which must print JSON, and wait for it.

    Raises BenchError with the generator's own words when it fails.
    """
    try:
        ended = subprocess.run(
            [sys.executable, "-m", module, *arguments],
            cwd=Path(__file__).resolve().parent.parent,
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise BenchError(f"{module} did not end within {timeout_s:.0f} s") from error
    if ended.returncode:
        said = (ended.stderr or ended.stdout).decode(errors="replace").strip()
        raise BenchError(said or f"{module} ended with status {ended.returncode}")
    return LoadResult(**json.loads(ended.stdout))
