"""How long shards are without a master when the node is killed (SIGKILL) that leads (nearly) all 64
of them.

Every shard has a user and a client of its own, half of which STORE and half deliver by LMTP. Those
on the killed node go to another one. Masterships are handed to one node, it is killed under load,
and the two others are asked until they lead all shards. Then it is started again, must catch up,
and gets all masterships again.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import Sequence
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
from bench.stats import Cell, percentile
from bench.store_load import StorePlan, fill

SHARDS = 64
ALL_SHARDS = SHARDS + 1
"""With the root."""
KILLS = 10
KILLS_QUICK = 3
WITHIN_S = 3.0

PAUSE_S = 0.2
"""Of each of the 64 clients: some 300 commands a second, so that the machine is not full."""
HANDED_MAX = 10
RECOVERY_S = 30.0
LAG_MAX = 200
_POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Kill:
    """From the kill until every shard was led again, until the user of every shard had something
    acknowledged, and until the node was back."""

    at_s: float
    led_s: float
    recovered_s: float
    ready_s: float
    led: int = ALL_SHARDS
    """How many it led."""


def measure(options: BenchOptions) -> BenchReport:
    """Raises BenchError when the cluster does not come back, or has lost something."""
    count = options.count(KILLS, KILLS_QUICK)
    users = users_over(SHARDS)
    storing, receiving = users[::2], users[1::2]
    with Raftmail(users=users, shards=SHARDS, parent=options.parent) as cluster:
        asyncio.run(
            fill(StorePlan(cluster.client_addresses, storing, messages=1, access=cluster.access))
        )
        ledger = FailoverLedger()
        meter = CpuMeter(cluster.cpu_s)
        with first_of_group():
            kills = asyncio.run(_run(cluster, ledger, storing, receiving, count))
        cpu = meter.read()
        cluster.wait_until_ready()
        stored, acknowledged = cluster.messages_of(receiving), ledger.count("LMTP")
        if stored < acknowledged:
            raise BenchError(f"{acknowledged} deliveries were acknowledged, {stored} are there")
        if not cluster.is_equal():
            raise BenchError("the replicas are not equal")
    report = report_of(ledger, kills)
    report.notes += [
        f"{ledger.count('STORE')} STOREs and {acknowledged} deliveries acknowledged, none lost; "
        f"replicas equal",
        f"failures that clients saw: {dict(ledger.failures)}",
        f"other_cores {cpu.other_cores:.2f}",
    ]
    return report


async def _run(
    cluster: Raftmail,
    ledger: FailoverLedger,
    storing: Sequence[str],
    receiving: Sequence[str],
    count: int,
) -> list[Kill]:
    clients: list[FailoverClient] = []
    for at, user in enumerate(storing):
        addresses = cluster.client_addresses
        clients.append(
            StoreClient(addresses, at, ledger, user=user, pause_s=PAUSE_S, access=cluster.access)
        )
    for at, user in enumerate(receiving):
        addresses = cluster.lmtp_addresses
        clients.append(LmtpFailoverClient(addresses, at, ledger, recipient=user, pause_s=PAUSE_S))
    kills: list[Kill] = []
    async with asyncio.TaskGroup() as group:
        group.create_task(watch_stalls(ledger))
        for client in clients:
            group.create_task(client.run())
        try:
            for turn in range(count):
                victim = cluster.names[turn % len(cluster.names)]
                await asyncio.sleep(random.uniform(1.0, 1.5))
                led = await _hand_all(cluster, victim)
                kills.append(await _kill(cluster, ledger, victim, led))
        finally:
            ledger.stopping = True
    return kills


async def _hand_all(cluster: Raftmail, victim: str) -> int:
    """How many shards it leads then. The root's master takes some away meanwhile, to balance them,
    and must not be waited for."""
    for _ in range(HANDED_MAX):
        await asyncio.to_thread(cluster.lead_all, victim)
        led = len(await asyncio.to_thread(cluster.led_by, victim))
        if led >= ALL_SHARDS * 0.9:
            return led
    if led < ALL_SHARDS / 2:
        raise BenchError(f"{victim} leads {led} of {ALL_SHARDS} shards after {HANDED_MAX} attempts")
    return led


async def _kill(cluster: Raftmail, ledger: FailoverLedger, victim: str, led: int) -> Kill:
    at_s = time.monotonic()
    await asyncio.to_thread(cluster.kill, victim)
    led_s = await asyncio.to_thread(_wait_until_led, cluster, victim, at_s)
    while not ledger.all_since(at_s + 0.01):
        if time.monotonic() > at_s + RECOVERY_S:
            raise BenchError(
                f"{RECOVERY_S:.0f} s after {victim} was killed some users have nothing "
                f"acknowledged: {dict(ledger.failures)}\n{cluster.logs()}"
            )
        await asyncio.sleep(0.02)
    recovered_s = time.monotonic()
    await asyncio.sleep(0.5)
    cluster.restart(victim)
    await asyncio.to_thread(cluster.wait_until_ready, lag_max=LAG_MAX)
    return Kill(at_s, led_s, recovered_s, time.monotonic(), led)


def _wait_until_led(cluster: Raftmail, victim: str, at_s: float) -> float:
    others = [name for name in cluster.names if name != victim]
    while time.monotonic() < at_s + RECOVERY_S:
        led = frozenset[int]().union(*map(cluster.led_by, others))
        if len(led) == ALL_SHARDS:
            return time.monotonic()
        time.sleep(_POLL_S)
    raise BenchError(
        f"{RECOVERY_S:.0f} s after {victim} was killed {len(led)} shards are led again"
    )


def report_of(ledger: FailoverLedger, kills: Sequence[Kill]) -> BenchReport:
    """Kills during which the measuring process stood still are left out. Raises BenchError when
    none is left."""
    quiet = [kill for kill in kills if not ledger.stalled(kill.at_s, kill.recovered_s)]
    if not quiet:
        raise BenchError("the machine stood still during every kill: nothing was measured")
    gaps = [
        [longest_gap_s(times, kill.at_s, kill.recovered_s) for times in ledger.acknowledged_at_s]
        for kill in quiet
    ]
    figures = {
        "all shards led again after": [kill.led_s - kill.at_s for kill in quiet],
        "every user acknowledged after": [kill.recovered_s - kill.at_s for kill in quiet],
        "longest gap of any user": [max(of_users) for of_users in gaps],
        "longest gap of the median user": [percentile(sorted(one), 0.5) for one in gaps],
    }
    rows: list[dict[str, Cell]] = []
    for what, seconds in figures.items():
        ascending = sorted(seconds)
        rows.append(
            {
                "seconds": what,
                "kills": len(quiet),
                "p50": percentile(ascending, 0.5),
                "longest": ascending[-1],
            }
        )
    report = BenchReport("nodefail", [rows])
    led = sorted(kill.led for kill in kills)
    report.notes.append(f"the killed node led {led[0]} to {led[-1]} of {ALL_SHARDS} shards")
    for what in ("all shards led again after", "longest gap of any user"):
        report.targets.append(BenchTarget(f"{what}, seconds", max(figures[what]), at_most=WITHIN_S))
    if len(quiet) < len(kills):
        report.notes.append(f"{len(kills) - len(quiet)} kills left out: the machine stood still")
    return report


if __name__ == "__main__":
    sys.exit(main_of("nodefail", measure, __doc__))
