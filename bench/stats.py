"""Percentiles, medians of runs, printing, and the machine that a figure belongs to."""

from __future__ import annotations

import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

Cell = str | int | float


def percentile(ascending: Sequence[float], q: float) -> float:
    """Nearest-rank percentile, ``0 < q <= 1``, of values already in ascending order.

    Always a value that was measured, never one between two. NaN when there are no values.
    """
    if not ascending:
        return float("nan")
    rank = -(-len(ascending) * q // 1)
    return ascending[max(0, min(len(ascending), int(rank)) - 1)]


def medians(runs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The median of each figure over runs that all report the same figures.

    Each figure is taken for itself, so the result need not equal any one run.
    """
    if not runs:
        raise ValueError("no runs to take medians of")
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


def format_table(rows: Sequence[Mapping[str, Cell]]) -> str:
    """Rows with the same keys as aligned columns under a line of headings."""
    if not rows:
        return ""
    cells = [list(rows[0])] + [[_cell(value) for value in row.values()] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        for line in cells
    )


def _cell(value: Cell) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.2f}"
    return str(value)


def to_json(value: object) -> str:
    """One line of JSON; NaN, which JSON lacks, must have been left out by the caller."""
    return json.dumps(value, allow_nan=False, sort_keys=True)


@dataclass(frozen=True, slots=True)
class MachineFacts:
    """What a figure depends on besides the program."""

    cpu: str
    cores: int
    memory_bytes: int
    kernel: str
    python: str
    file_system: str
    fdatasync_p50_us: float
    fdatasync_p99_us: float

    def line(self) -> str:
        return (
            f"{self.cpu}, {self.cores} cores, {self.memory_bytes / 2**30:.0f} GiB, "
            f"Linux {self.kernel}, Python {self.python}, {self.file_system}, "
            f"fdatasync of 4 KiB appended: p50 {self.fdatasync_p50_us:.0f} us, "
            f"p99 {self.fdatasync_p99_us:.0f} us"
        )


def describe_machine(folder: Path) -> MachineFacts:
    """Describe this machine and the disk below ``folder``, where a scratch file is written."""
    p50_us, p99_us = fdatasync_us(folder)
    return MachineFacts(
        cpu=_cpu_model(),
        cores=os.cpu_count() or 1,
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        kernel=platform.release(),
        python=platform.python_version(),
        file_system=_file_system(folder),
        fdatasync_p50_us=p50_us,
        fdatasync_p99_us=p99_us,
    )


def fdatasync_us(folder: Path, syncs: int = 200) -> tuple[float, float]:
    """p50 and p99, in microseconds, of appending 4 KiB and making it stable in ``folder``."""
    block = os.urandom(4096)
    taken: list[float] = []
    with tempfile.TemporaryFile(dir=folder, buffering=0) as scratch:
        for _ in range(syncs):
            begun = time.perf_counter()
            scratch.write(block)
            os.fdatasync(scratch.fileno())
            taken.append((time.perf_counter() - begun) * 1e6)
    taken.sort()
    return percentile(taken, 0.50), percentile(taken, 0.99)


def _cpu_model() -> str:
    for line in _lines("/proc/cpuinfo"):
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def _file_system(folder: Path) -> str:
    """Type of the file system that holds ``folder``: the longest mount point above it."""
    target = folder.resolve()
    best, kind = -1, "unknown file system"
    for line in _lines("/proc/self/mounts"):
        _, mount, this_kind, *_ = line.split()
        if target.is_relative_to(mount) and len(mount) > best:
            best, kind = len(mount), this_kind
    return kind


def _lines(path: str) -> Iterable[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return ()
