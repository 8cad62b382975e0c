"""What happened over time, gathered while it happens: writes, masters, faults, and the gaps between
writes."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

GAP_S = 0.25
"""Writes that are further apart than this are a time without progress, unless the load is so thin
that they are so anyway."""

STALL_S = 1.0
"""A sync and a pause that take so much longer than they should are a stall of the machine."""

_THIN = 8.0


@dataclass(frozen=True, slots=True)
class ClusterLook:
    """How the nodes were at one moment: who leads the mail, and who answers."""

    at: float
    master: str | None
    up: frozenset[str]


@dataclass(slots=True)
class Series:
    """Times are seconds of the run's clock; `began` and `ended` bound the time in which the load
    ran."""

    began: float
    rate: float
    ended: float | None = None
    writes: list[tuple[float, float]] = field(default_factory=list)
    looks: list[ClusterLook] = field(default_factory=list)
    syncs: list[tuple[float, float]] = field(default_factory=list)
    """When, and how long in seconds, syncs took that have nothing to do with the nodes, on the same
    disk."""
    stalls: list[tuple[float, float]] = field(default_factory=list)
    """From, to: times in which the process that watches did not run either, because the machine
    stood still or was overloaded."""
    asked: int = 0
    answered: int = 0
    messages: int = 0
    lost: int = 0
    nothing: int = 0
    left_out: int = 0
    outstanding: dict[int, int] = field(default_factory=dict)

    def add(self, worker: int, told: dict[str, object]) -> None:
        """What a load process told. Raises KeyError, TypeError, ValueError for what makes no
        sense."""
        for name in ("asked", "answered", "messages", "lost", "nothing", "left_out"):
            setattr(self, name, getattr(self, name) + int(str(told[name])))
        self.outstanding[worker] = int(str(told["outstanding"]))
        writes = told["writes"]
        assert isinstance(writes, list)
        self.writes += [(float(at), float(ms)) for at, ms in writes]

    def since(self, at: float) -> list[tuple[float, float]]:
        """The writes after a time, roughly in order."""
        found = []
        for write in reversed(self.writes):
            if write[0] < at - 2.0:
                break
            if write[0] >= at:
                found.append(write)
        return found

    @property
    def gap_s(self) -> float:
        """What counts as a gap at this rate."""
        return max(GAP_S, _THIN / self.rate)

    def gaps(self, now: float) -> list[tuple[float, float]]:
        """The times without progress: from, to."""
        end = now if self.ended is None else self.ended
        at = sorted({when for when, _ in self.writes if self.began <= when <= end} | {end})
        gaps, before = [], self.began
        for when in at:
            if when - before > self.gap_s:
                gaps.append((before, when))
            before = when
        return gaps


def apart_from(
    gaps: Iterable[tuple[float, float]], stalls: Sequence[tuple[float, float]]
) -> list[tuple[float, float]]:
    """The gaps during which the machine ran all the time: only they tell something about the
    cluster."""
    return [
        (begun, to)
        for begun, to in gaps
        if not any(start < to and begun < end for start, end in stalls)
    ]


def after(times: Sequence[float], moments: Iterable[float]) -> list[float]:
    """For each moment, how long until the next of `times` (ascending); those that have none are
    left out."""
    waits = []
    for moment in moments:
        at = bisect_right(times, moment)
        if at < len(times):
            waits.append(times[at] - moment)
    return waits


def percentile(values: Iterable[float], share: float) -> float:
    """The value that this share is at most; 0 when there is none."""
    found = sorted(values)
    return found[min(len(found) - 1, int(share * len(found)))] if found else 0.0


@dataclass(frozen=True, slots=True)
class Bucket:
    """One stretch of the timeline; latencies in ms."""

    at: float
    writes: int
    p50_ms: float
    p99_ms: float


def buckets(series: Series, count_max: int = 600) -> tuple[float, list[Bucket]]:
    """The writes in stretches of equal length, at least half a second: the length, and the
    stretches."""
    end = series.ended or series.began
    span = max(end - series.began, 0.5)
    width = max(0.5, span / count_max)
    writes = sorted(series.writes)
    times = [at for at, _ in writes]
    made = []
    for step in range(int(span / width) + 1):
        at = series.began + step * width
        latencies = [
            ms for _, ms in writes[bisect_left(times, at) : bisect_left(times, at + width)]
        ]
        made.append(
            Bucket(at, len(latencies), percentile(latencies, 0.5), percentile(latencies, 0.99))
        )
    return width, made
