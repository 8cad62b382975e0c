"""Adding a fourth node under load: what clients see while it is invited, joins, and takes its
share.

Clients on the first three nodes, half of which STORE and half deliver by LMTP, in mailboxes of all
16 shards. After a while `raftmail member invite`, `raftmail node join` and `raftmail rebalance
--wait`, as an operator would; the rate meanwhile is held against the rate before. At the end the
replicas must be equal and hold every message that was acknowledged.
"""

from __future__ import annotations

import asyncio
import sys
import time
from bisect import bisect_left
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
from bench.spread import users_over
from bench.store_load import StorePlan, fill
from raftmail.admin.api.calls import GetNodeStatus

SHARDS = 16
USERS = 32
RATIO = 0.6
SETTLE_S = 1.0


@dataclass(frozen=True, slots=True)
class Growth:
    """When the load was measured first, when the node was invited, had joined, and had its
    share."""

    from_s: float
    invited_s: float
    joined_s: float
    done_s: float


def measure(options: BenchOptions) -> BenchReport:
    """Raises BenchError when the node does not come to its share, or something is lost."""
    before_s = options.seconds(10.0, 4.0)
    users = users_over(SHARDS, USERS)
    storing, receiving = users[::2], users[1::2]
    ledger = FailoverLedger()
    with Raftmail(users=users, shards=SHARDS, parent=options.parent) as cluster:
        asyncio.run(
            fill(StorePlan(cluster.client_addresses, storing, messages=1, access=cluster.access))
        )
        clients: list[FailoverClient] = [
            StoreClient(cluster.client_addresses, at, ledger, user=user, access=cluster.access)
            for at, user in enumerate(storing)
        ]
        clients += [
            LmtpFailoverClient(cluster.lmtp_addresses, at, ledger, recipient=user)
            for at, user in enumerate(receiving)
        ]
        meter = CpuMeter(cluster.cpu_s)
        with first_of_group():
            growth = asyncio.run(_run(cluster, ledger, clients, before_s))
        cpu = meter.read()
        cluster.wait_until_ready()
        stored, acknowledged = cluster.messages_of(receiving), ledger.count("LMTP")
        if stored < acknowledged:
            raise BenchError(f"{acknowledged} deliveries were acknowledged, {stored} are there")
        if not cluster.is_equal():
            raise BenchError("the replicas are not equal")
        held = cluster.admin(GetNodeStatus(), cluster.names[-1]).shards
    report = report_of(ledger, growth)
    report.notes += [
        f"{cluster.names[-1]} holds {len(held)} replicas; {ledger.count('STORE')} STOREs and "
        f"{acknowledged} deliveries acknowledged, none lost; replicas equal",
        f"failures that clients saw: {dict(ledger.failures)}",
        f"other_cores {cpu.other_cores:.2f}",
    ]
    return report


async def _run(
    cluster: Raftmail, ledger: FailoverLedger, clients: list[FailoverClient], before_s: float
) -> Growth:
    async with asyncio.TaskGroup() as group:
        group.create_task(watch_stalls(ledger))
        for client in clients:
            group.create_task(client.run())
        try:
            await asyncio.sleep(SETTLE_S)
            from_s = time.monotonic()
            await asyncio.sleep(before_s)
            invited_s = time.monotonic()
            await asyncio.to_thread(cluster.add_node)
            joined_s = time.monotonic()
            await asyncio.to_thread(cluster.raftmail, "rebalance", "--wait")
            done_s = time.monotonic()
        finally:
            ledger.stopping = True
    return Growth(from_s, invited_s, joined_s, done_s)


def report_of(ledger: FailoverLedger, growth: Growth) -> BenchReport:
    """What clients saw before, while the node joined, and while it was given its share."""
    times = ledger.times()
    stretches = {
        "before": (growth.from_s, growth.invited_s),
        "while it joins": (growth.invited_s, growth.joined_s),
        "while replicas move": (growth.joined_s, growth.done_s),
    }

    def per_s(from_s: float, to_s: float) -> float:
        return (bisect_left(times, to_s) - bisect_left(times, from_s)) / (to_s - from_s)

    report = BenchReport(
        "grow",
        [
            [
                {
                    "stretch": stretch,
                    "seconds": to_s - from_s,
                    "per_s": per_s(from_s, to_s),
                    "longest gap of any client, s": max(
                        longest_gap_s(of, from_s, to_s) for of in ledger.acknowledged_at_s
                    ),
                }
                for stretch, (from_s, to_s) in stretches.items()
            ]
        ],
    )
    ratio = per_s(growth.invited_s, growth.done_s) / per_s(growth.from_s, growth.invited_s)
    failed = float(sum(ledger.failures.values()))
    report.targets = [
        BenchTarget("commands/s while it grows, to before", ratio, at_least=RATIO),
        BenchTarget("failed commands", failed, at_most=0.0),
    ]
    return report


if __name__ == "__main__":
    sys.exit(main_of("grow", measure, __doc__))
