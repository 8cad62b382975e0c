"""How long writes wait for the log to be cut: every step of a compaction, and every sync that
removes files."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from bench.report import BenchOptions, BenchReport, BenchTarget, main_of
from bench.stats import Cell
from raftmail.consensus.journal import Identity, Journal, JournalLimits
from raftmail.shard.log_retention import LogLimits, LogRetention
from raftmail.storage.disk import RealDisk

ENTRY_BYTES = 8192
SYNC_ENTRIES = 64
STEP_EVERY = 8
"""Syncs between two looks at the log: a node commits its index, and looks, every half second or
more often."""

BLOCKED_MS_MAX = 50.0


def measure(options: BenchOptions) -> BenchReport:
    """Writes several times the log's limit, with a log that is shortened by much once."""
    report = BenchReport("compaction")
    rows: list[dict[str, Cell]] = []
    for bytes_max in (64 << 20, 8 << 20):
        with tempfile.TemporaryDirectory(prefix="compaction-", dir=options.parent) as name:
            limits = LogLimits(bytes_max=bytes_max)
            disk = RealDisk(Path(name))
            journal = Journal.open(
                disk,
                "journal",
                Identity(bytes(16), 1, 1),
                JournalLimits(segment_bytes_max=limits.segment_bytes),
                create=True,
            )
            # As after a change of the limit: much more is there than may be.
            _write(journal, None, options.count(256 << 20, 64 << 20))
            rows.append(_write(journal, LogRetention(limits), options.count(512 << 20, 128 << 20)))
            journal.close()
    report.tables.append(rows)
    worst = max(
        float(str(row[what])) for row in rows for what in ("longest step ms", "their longest ms")
    )
    report.targets.append(
        BenchTarget("ms that a compaction holds up writes", worst, at_most=BLOCKED_MS_MAX)
    )
    return report


def _write(journal: Journal, compaction: LogRetention | None, size: int) -> dict[str, Cell]:
    steps: list[float] = []
    plain: list[float] = []
    removing: list[float] = []
    body = bytes(ENTRY_BYTES)
    begun = time.perf_counter()
    for batch in range(size // ENTRY_BYTES // SYNC_ENTRIES):
        for _ in range(SYNC_ENTRIES):
            journal.add(body, journal.last_index + 1, 1)
        if compaction is not None and batch % STEP_EVERY == 0:
            then = time.perf_counter()
            compaction.step(then - begun, journal, journal.synced_index)
            steps.append(time.perf_counter() - then)
        job = journal.begin_sync()
        if job is not None:
            then = time.perf_counter()
            job.run()
            (removing if job.removals else plain).append(time.perf_counter() - then)
            journal.end_sync(job)
    row: dict[str, Cell] = {"written MB": round(size / 1e6)}
    if compaction is not None:
        row |= {
            "limit MiB": compaction.limits.bytes_max >> 20,
            "log MiB at the end": round(journal.total_bytes / (1 << 20), 1),
            "steps": len(steps),
            "longest step ms": round(max(steps) * 1000, 2),
            "syncs p50 ms": round(sorted(plain)[len(plain) // 2] * 1000, 2),
            "syncs that remove files": len(removing),
            "their p50 ms": round(sorted(removing)[len(removing) // 2] * 1000, 2),
            "their longest ms": round(max(removing) * 1000, 2),
        }
    return row


if __name__ == "__main__":
    sys.exit(main_of("compaction", measure, __doc__))
