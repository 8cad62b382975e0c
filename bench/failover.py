"""How long nothing is acknowledged when the master is killed (SIGKILL) under load.

Half of the clients STORE, half deliver by LMTP, dealt to all nodes; those on the killed node go to
another one. The killed node is started again each time, and must have caught up before the next
kill. At the end the replicas must be equal and hold every message that was acknowledged.

The measuring process notes when it did not run itself, as on a machine whose owner lends it out:
kills during which that happened are counted apart, and are in no median.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from dataclasses import dataclass

from bench.cluster import Raftmail
from bench.failover_load import (
    FailoverClient,
    FailoverLedger,
    LmtpFailoverClient,
    StoreClient,
    longest_gap_s,
    watch_stalls,
)
from bench.report import BenchOptions, BenchReport, BenchTarget, main_of
from bench.runtime import BenchError, CpuMeter, first_of_group
from bench.stats import Cell, percentile
from bench.store_load import StorePlan, fill

KILLS = 50
KILLS_QUICK = 5
CLIENTS_OF_A_KIND = 4
MEDIAN_S = 1.0
P99_S = 2.0

RECOVERY_S = 30.0
LAG_MAX = 200
"""Entries: under load a replica that is up to date is always a few behind."""
_USERS = tuple(f"user{number}@example.org" for number in range(CLIENTS_OF_A_KIND))
_STORED = "flags@example.org"


@dataclass(frozen=True, slots=True)
class _Kill:
    """From the kill until all clients were acknowledged again, and until the node was back."""

    at_s: float
    recovered_s: float
    ready_s: float


def measure(options: BenchOptions) -> BenchReport:
    """Raises BenchError when the cluster does not come back, or has lost something."""
    count = options.count(KILLS, KILLS_QUICK)
    with Raftmail(users=[*_USERS, _STORED], parent=options.parent) as cluster:
        plan = StorePlan(
            cluster.client_addresses, (_STORED,), messages=CLIENTS_OF_A_KIND, access=cluster.access
        )
        asyncio.run(fill(plan))
        meter = CpuMeter(cluster.cpu_s)
        ledger = FailoverLedger()
        with first_of_group():
            kills = asyncio.run(_run(cluster, ledger, count))
        cpu = meter.read()
        cluster.wait_until_ready()
        stored, acknowledged = cluster.messages_of(_USERS), ledger.count("LMTP")
        if stored < acknowledged:
            raise BenchError(f"{acknowledged} deliveries were acknowledged, {stored} are there")
        if not cluster.is_equal():
            raise BenchError("the replicas are not equal")
    report = _report(ledger, kills)
    doubled = stored - acknowledged
    report.notes += [
        f"{ledger.count('STORE')} STOREs and {acknowledged} deliveries acknowledged, none lost; "
        f"{doubled} deliveries stored whose reply was lost; replicas equal",
        f"failures that clients saw: {dict(ledger.failures)}",
        f"other_cores {cpu.other_cores:.2f}",
    ]
    return report


async def _run(cluster: Raftmail, ledger: FailoverLedger, count: int) -> list[_Kill]:
    clients: list[FailoverClient] = []
    for at in range(CLIENTS_OF_A_KIND):
        clients.append(
            StoreClient(
                cluster.client_addresses,
                at,
                ledger,
                user=_STORED,
                uid=at + 1,
                access=cluster.access,
            )
        )
        clients.append(LmtpFailoverClient(cluster.lmtp_addresses, at, ledger, recipient=_USERS[at]))
    kills: list[_Kill] = []
    async with asyncio.TaskGroup() as group:
        group.create_task(watch_stalls(ledger))
        for client in clients:
            group.create_task(client.run())
        try:
            for _ in range(count):
                await asyncio.sleep(random.uniform(0.5, 1.0))
                kills.append(await _kill(cluster, ledger))
        finally:
            ledger.stopping = True
    return kills


async def _kill(cluster: Raftmail, ledger: FailoverLedger) -> _Kill:
    master = await asyncio.to_thread(cluster.master_of)
    at_s = time.monotonic()
    await asyncio.to_thread(cluster.kill, master)
    while not ledger.all_since(at_s + 0.01):
        if time.monotonic() > at_s + RECOVERY_S:
            raise BenchError(
                f"{RECOVERY_S:.0f} s after {master} was killed some clients have no "
                f"acknowledgement: {dict(ledger.failures)}\n{cluster.logs()}"
            )
        await asyncio.sleep(0.02)
    recovered_s = time.monotonic()
    await asyncio.sleep(0.3)
    cluster.restart(master)
    await asyncio.to_thread(cluster.wait_until_ready, lag_max=LAG_MAX)
    return _Kill(at_s, recovered_s, time.monotonic())


def _report(ledger: FailoverLedger, kills: list[_Kill]) -> BenchReport:
    quiet = [kill for kill in kills if not ledger.stalled(kill.at_s, kill.recovered_s)]
    if not quiet:
        raise BenchError("the machine stood still during every kill: nothing was measured")
    subjects = {
        "anybody": [ledger.times()],
        "STORE": [ledger.times("STORE")],
        "LMTP": [ledger.times("LMTP")],
        "slowest client": ledger.acknowledged_at_s,
    }
    rows: list[dict[str, Cell]] = []
    for subject, several in subjects.items():
        row: dict[str, Cell] = {"longest gap of": subject, "kills": len(quiet)}
        gaps = sorted(
            max(longest_gap_s(times, kill.at_s, kill.recovered_s) for times in several)
            for kill in quiet
        )
        row |= {"p50_s": percentile(gaps, 0.5), "p90_s": percentile(gaps, 0.9)}
        row |= {"p99_s": percentile(gaps, 0.99), "longest_s": gaps[-1]}
        back = [
            max(longest_gap_s(times, kill.recovered_s, kill.ready_s) for times in several)
            for kill in kills
            if not ledger.stalled(kill.recovered_s, kill.ready_s)
        ]
        row["while_it_comes_back_longest_s"] = max(back, default=0.0)
        rows.append(row)
    report = BenchReport("failover", [rows])
    anybody = rows[0]
    report.targets = [
        BenchTarget("median gap, seconds", float(anybody["p50_s"]), at_most=MEDIAN_S),
        BenchTarget("p99 of the gaps, seconds", float(anybody["p99_s"]), at_most=P99_S),
    ]
    if len(quiet) < len(kills):
        report.notes.append(f"{len(kills) - len(quiet)} kills left out: the machine stood still")
    return report


if __name__ == "__main__":
    sys.exit(main_of("failover", measure, __doc__))
