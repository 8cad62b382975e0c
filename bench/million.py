"""What a mailbox of a million messages costs, beside one of a thousand in the same cluster.

The large mailbox is filled by COPY of ranges into itself. So its messages share few bodies but have
records, modseqs and summaries of their own. Then single messages are saved and flagged in both
mailboxes in turns: one command at a time (latency), and many outstanding (rate, CPU). At last all
nodes are restarted, and their memory is looked at while they are idle.
"""

from __future__ import annotations

import asyncio
import sys
import time

from bench.access import Access
from bench.cluster import Raftmail, TextClient
from bench.report import BenchOptions, BenchReport, BenchTarget, Runs, main_of
from bench.runtime import BenchError, CpuMeter
from bench.stats import Cell
from bench.store_load import StorePlan, fill, run_load

MESSAGES = 1_000_000
MESSAGES_QUICK = 50_000
SMALL_MESSAGES = 1000
COPIED_AT_ONCE = 2000
RATIO = 1.3
RSS_MIB = 300.0

_LARGE, _SMALL = "large@example.org", "small@example.org"
_PIPELINE = 64
_IDLE_S = 3.0
_READY_S = 300.0


def measure(options: BenchOptions) -> BenchReport:
    """Medians of ``options.runs`` alternated runs. Raises BenchError."""
    messages = options.count(MESSAGES, MESSAGES_QUICK)
    seconds = options.seconds(3.0, 1.0)
    runs = Runs()
    report = BenchReport("million")
    with Raftmail(users=[_LARGE, _SMALL], parent=options.parent) as cluster:
        address = cluster.client_address_of(cluster.master_of())
        for user in (_LARGE, _SMALL):
            asyncio.run(
                fill(StorePlan((address,), (user,), messages=SMALL_MESSAGES, access=cluster.access))
            )
        begun_s = time.monotonic()
        grow(address, cluster.access, _LARGE, SMALL_MESSAGES, messages)
        cluster.wait_until_ready(_READY_S)
        took_s = time.monotonic() - begun_s
        per_s = (messages - SMALL_MESSAGES) / took_s
        report.notes.append(
            f"filled with {messages:,} messages by COPY in {took_s:.0f} s ({per_s:,.0f}/s)"
        )
        for turn in range(options.runs):
            users = [(_LARGE, messages), (_SMALL, SMALL_MESSAGES)]
            for user, count in users if turn % 2 == 0 else reversed(users):
                for operation in ("store", "save"):
                    for pipeline in (1, _PIPELINE):
                        _run(cluster, runs, operation, pipeline, user, count, seconds)
        report.tables.append(runs.table())
        memory = _memory(cluster)
    report.tables.append(memory)
    report.targets = [
        BenchTarget(f"{operation.upper()}, {what}: large to small", ratio, at_most=RATIO)
        for operation in ("store", "save")
        for what, ratio in _ratios(runs, operation)
    ]
    worst = max(float(row["rss_mib"]) for row in memory)
    report.targets.append(
        BenchTarget("memory outside the index's map, MiB", worst, at_most=RSS_MIB)
    )
    return report


def grow(address: str, access: Access, user: str, have: int, wanted: int) -> None:
    """Copy a user's INBOX into itself, range by range, until it has grown from ``have`` to
    ``wanted`` messages."""
    with TextClient(address, access) as client:
        client.ask(f"MAILBOX 1 {user} INBOX".encode())
        while have < wanted:
            count = min(have, COPIED_AT_ONCE, wanted - have)
            client.ask(b"COPY 1 %d:%d 1 deadline=60" % (have - count + 1, have))
            have += count
        answer = client.ask(f"MAILBOX 2 {user} INBOX".encode())
    if b" messages=%d " % wanted not in answer + b" ":
        raise BenchError(f"{user}'s INBOX should hold {wanted} messages now: {answer.decode()}")


def _run(
    cluster: Raftmail,
    runs: Runs,
    operation: str,
    pipeline: int,
    user: str,
    messages: int,
    seconds: float,
) -> None:
    plan = StorePlan(
        (cluster.client_address_of(cluster.master_of()),),
        (user,),
        operation=operation,
        pipeline=pipeline,
        messages=messages,
        seconds=seconds,
        warmup_s=0.5,
        access=cluster.access,
    )
    meter = CpuMeter(cluster.cpu_s)
    result = run_load(plan)
    cpu = meter.read()
    runs.add(
        _subject(operation, pipeline, user),
        {
            **result.figures(),
            "server_cpu_us": cpu.server_s / result.accepted_total * 1e6,
            "other_cores": cpu.other_cores,
        },
    )


def _subject(operation: str, pipeline: int, user: str) -> str:
    return f"{operation.upper()} {user.partition('@')[0]} x {pipeline}"


def _ratios(runs: Runs, operation: str) -> list[tuple[str, float]]:
    """How much more the large mailbox costs."""

    def large_to_small(pipeline: int, figure: str) -> float:
        large, small = (
            runs.median(_subject(operation, pipeline, user), figure) for user in (_LARGE, _SMALL)
        )
        return large / small

    return [
        ("p50 of one at a time", large_to_small(1, "p50_ms")),
        (f"seconds for each, {_PIPELINE} outstanding", 1 / large_to_small(_PIPELINE, "per_s")),
        (f"CPU of all nodes, {_PIPELINE} outstanding", large_to_small(_PIPELINE, "server_cpu_us")),
    ]


def _memory(cluster: Raftmail) -> list[dict[str, Cell]]:
    for name in cluster.names:
        cluster.stop(name)
    begun_s = time.monotonic()
    for name in cluster.names:
        cluster.restart(name)
    cluster.wait_until_ready(_READY_S)
    ready_s = time.monotonic() - begun_s
    time.sleep(_IDLE_S)
    rows: list[dict[str, Cell]] = []
    for name in cluster.names:
        outside, index = cluster.rss_bytes(name)
        rows.append(
            {
                "node": name,
                "rss_mib": outside / 2**20,
                "resident_index_mib": index / 2**20,
                "index_on_disk_mib": cluster.index_bytes(name) / 2**20,
                "all_ready_after_s": ready_s,
            }
        )
    return rows


if __name__ == "__main__":
    sys.exit(main_of("million", measure, __doc__))
