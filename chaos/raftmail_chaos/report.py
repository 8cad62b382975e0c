"""What a run came to: figures and findings, as text and as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

from raftmail_chaos.faults import Fault
from raftmail_chaos.judge import HistoryVerdict, RuleFinding
from raftmail_chaos.series import Series, after, apart_from, percentile

_SHOWN_MAX = 20
_KILLS = ("kill-master", "kill-all")


@dataclass(frozen=True, slots=True)
class Figures:
    """Counts of the whole run; times in seconds, latencies in milliseconds."""

    seconds: float
    operations: int
    acknowledged_writes: int
    acknowledged_messages: int
    outcome_unknown: int
    without_effect: int
    left_out: int
    kills: int
    faults: dict[str, int]
    read_back: int
    lost: int
    duplicated: int
    doubled: int
    retried: int
    largest_bytes: int
    recipients_most: int
    uids_changed: int
    writes_per_s: float
    p50_ms: float
    p99_ms: float
    gaps: int
    gap_median_s: float
    gap_longest_s: float
    after_kill_median_s: float
    after_kill_longest_s: float
    machine_stalls: int
    machine_stall_longest_s: float
    gap_longest_running_s: float
    disk_sync_median_s: float
    disk_sync_longest_s: float
    packets_lost: int
    imap_looks: int = 0
    imap_opened: int = 0
    imap_broken: int = 0


@dataclass(frozen=True, slots=True)
class MemoryPeak:
    """The most that a node had resident, and what it said that it needs at most (0: it did not
    say). Bytes."""

    peak_bytes: int
    budget_bytes: int

    @property
    def is_over(self) -> bool:
        return 0 < self.budget_bytes < self.peak_bytes

    def __str__(self) -> str:
        of = f" of {self.budget_bytes >> 20}" if self.budget_bytes else ""
        return f"{self.peak_bytes >> 20}{of} MiB"


@dataclass(frozen=True, slots=True)
class ChaosReport:
    """`findings` are broken promises: empty is good. `undecided` says why there is no whole
    verdict, "" when there is one."""

    profiles: tuple[str, ...]
    nodes: int
    rate: float
    seed: int
    folder: str
    links: str
    figures: Figures
    findings: tuple[RuleFinding, ...] = ()
    undecided: str = ""
    notes: tuple[str, ...] = ()
    """What was wanted, and is not to be had on this machine."""
    kinds: dict[str, int] = field(default_factory=dict)
    memory: dict[str, MemoryPeak] = field(default_factory=dict)
    """By node."""
    ended: tuple[str, ...] = ()
    """Nodes that ended and were not killed."""

    @property
    def is_good(self) -> bool:
        return not self.findings and not self.undecided


def figures_of(
    series: Series,
    faults: Sequence[Fault],
    verdict: HistoryVerdict,
    read_back: int,
    now: float,
    packets_lost: int = 0,
    imap_broken: int = 0,
) -> Figures:
    """Everything that is counted."""
    end = series.ended or now
    found = series.gaps(now)
    gaps = [to - begun for begun, to in found]
    running = [to - begun for begun, to in apart_from(found, series.stalls)]
    stalls = [to - begun for begun, to in series.stalls]
    latencies = [ms for _, ms in series.writes]
    times = sorted(at for at, _ in series.writes)
    kills = [fault.began for fault in faults if fault.kind in _KILLS]
    waits = after(times, kills)
    counts: dict[str, int] = {}
    for fault in faults:
        counts[fault.kind] = counts.get(fault.kind, 0) + 1
    seconds = max(end - series.began, 0.001)
    broken = verdict.broken
    return Figures(
        round(seconds, 1),
        verdict.operations,
        verdict.acknowledged_writes,
        verdict.acknowledged_messages,
        verdict.fates["lost"],
        verdict.fates["nothing"],
        series.left_out,
        len(kills),
        counts,
        read_back,
        broken["SAVE"] + broken["message"] + broken["body"],
        broken["once"],
        verdict.doubled,
        verdict.retried,
        verdict.largest_bytes,
        verdict.recipients_most,
        broken["UID"] + broken["UIDVALIDITY"] + broken["UIDNEXT"] + broken["mailbox"],
        round(len(series.writes) / seconds, 1),
        percentile(latencies, 0.5),
        percentile(latencies, 0.99),
        len(gaps),
        round(median(gaps), 3) if gaps else 0.0,
        round(max(gaps), 3) if gaps else 0.0,
        round(median(waits), 3) if waits else 0.0,
        round(max(waits), 3) if waits else 0.0,
        len(stalls),
        round(max(stalls, default=0.0), 3),
        round(max(running, default=0.0), 3),
        round(percentile([took for _, took in series.syncs], 0.5), 4),
        round(max([took for _, took in series.syncs], default=0.0), 3),
        packets_lost,
        verdict.looks,
        verdict.opened,
        imap_broken,
    )


def to_json(report: ChaosReport) -> str:
    """The whole report."""
    value: dict[str, Any] = {"good": report.is_good} | asdict(report)
    return json.dumps(value, indent=2)


def to_text(report: ChaosReport) -> str:
    """The report for people: what was done, what came of it, and what is broken."""
    f = report.figures
    done = ", ".join(f"{count} {kind}" for kind, count in f.faults.items()) or "none"
    lost = f"; {f.packets_lost} packets lost" if f.packets_lost else ""
    lines = [
        f"{report.nodes} nodes, {f.seconds:.0f} s of {' + '.join(report.profiles)} at "
        f"{report.rate:g} operations/s, seed {report.seed}, {report.links}",
        "",
        f"  faults                  {done}{lost}",
        f"  operations              {f.operations} ({f.outcome_unknown} with unknown outcome, "
        f"{f.without_effect} given up without effect, {f.left_out} left out)",
        f"  acknowledged            {f.acknowledged_messages} messages, {f.acknowledged_writes} "
        f"writes "
        f"({f.writes_per_s:.1f}/s, p50 {f.p50_ms:.1f} ms, p99 {f.p99_ms:.0f} ms)",
        f"  read back               {f.read_back} messages through each of {report.nodes} nodes",
        f"  without progress        {f.gaps} times, median {f.gap_median_s:.2f} s, longest "
        f"{f.gap_longest_s:.2f} s",
        f"  from kill to next write median {f.after_kill_median_s:.2f} s, longest "
        f"{f.after_kill_longest_s:.2f} s "
        f"({f.kills} kills)",
        f"  the disk by itself      takes {f.disk_sync_median_s * 1000:.1f} ms to sync, at worst "
        f"{f.disk_sync_longest_s:.2f} s",
        f"  deliveries              up to {f.largest_bytes / (1 << 20):.1f} MiB, up to "
        f"{f.recipients_most} recipients, "
        f"{f.retried} given more than once",
        f"  mail programs (IMAP)    looked at all of a mailbox {f.imap_looks} times, opened one or "
        f"asked for its state {f.imap_opened} times; {f.imap_broken} were told what cannot be true",
        f"  memory, at most         "
        f"{', '.join(f'{name} {used}' for name, used in report.memory.items())}",
        f"  lost {f.lost}   duplicated {f.duplicated}   DOUBLED {f.doubled}   UIDs changed "
        f"{f.uids_changed}   "
        f"ended by themselves {len(report.ended)}",
        "",
    ]
    if f.machine_stalls:
        lines[-1:] = [
            f"  THE MACHINE OR ITS DISK STOOD STILL {f.machine_stalls} times, at most "
            f"{f.machine_stall_longest_s:.1f} s: times and rates "
            f"above tell little; the longest time without progress apart from that was "
            f"{f.gap_longest_running_s:.2f} s",
            "",
        ]
    lines[-1:-1] = [f"  note                    {note}" for note in report.notes]
    for finding in report.findings[:_SHOWN_MAX]:
        whose = f" ({finding.user})" if finding.user else ""
        lines.append(f"BROKEN {finding.rule}{whose}: {finding.text}")
    if len(report.findings) > _SHOWN_MAX:
        lines.append(f"... and {len(report.findings) - _SHOWN_MAX} more in report.json")
    if report.undecided:
        lines.append(f"UNDECIDED: {report.undecided}")
    if report.is_good:
        lines.append("Every promise was kept.")
    return "\n".join(lines)
