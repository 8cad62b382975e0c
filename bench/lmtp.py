"""LMTP deliveries of 4 KB: raftmail's three nodes, each syncing, beside one Dovecot.

Both are given the same users and the same load, in turns, each time from a fresh start. What
raftmail is asked to do is more: a majority of nodes has the message on disk before the reply.
Clients connect to the master of the shard that holds the users, or are dealt to all nodes.
"""

from __future__ import annotations

import sys

from bench.cluster import Raftmail
from bench.lmtp_load import LoadPlan, run_load
from bench.peers.dovecot import Dovecot
from bench.report import BenchOptions, BenchReport, BenchTarget, Runs, main_of
from bench.runtime import BenchError, CpuMeter

USERS = tuple(f"user{number}@example.org" for number in range(20))
CONNECTIONS = (1, 32)
RATIO_32 = 4.0
RATIO_1 = 1.0


def measure(options: BenchOptions) -> BenchReport:
    """Medians of ``options.runs`` alternated runs. Raises BenchError, also when a server holds
    something else than what it acknowledged."""
    seconds = options.seconds(5.0, 1.5)
    runs = Runs()
    for turn in range(options.runs):
        halves = [_raftmail, _dovecot]
        for half in halves if turn % 2 == 0 else reversed(halves):
            half(options, seconds, runs)
    report = BenchReport("lmtp", [runs.table()])
    for connections, wanted in ((32, RATIO_32), (1, RATIO_1)):
        ratio = runs.median(f"raftmail master {connections}", "per_s") / runs.median(
            f"dovecot {connections}", "per_s"
        )
        what = f"deliveries/s with {connections} connections, raftmail to Dovecot"
        report.targets.append(BenchTarget(what, ratio, at_least=wanted))
    return report


def _raftmail(options: BenchOptions, seconds: float, runs: Runs) -> None:
    with Raftmail(users=USERS, parent=options.parent) as cluster:
        master = cluster.master_of()
        accepted = 0
        for where, address in (
            ("master", cluster.lmtp_address_of(master)),
            ("all nodes", ",".join(cluster.lmtp_addresses)),
        ):
            for connections in CONNECTIONS:
                plan = LoadPlan(address, USERS, connections, seconds)
                meter, master_before_s = CpuMeter(cluster.cpu_s), cluster.cpu_s(master)
                result = run_load(plan)
                cpu, master_s = meter.read(), cluster.cpu_s(master) - master_before_s
                accepted += result.accepted_total
                runs.add(
                    f"raftmail {where} {connections}",
                    {
                        **result.figures(),
                        "server_cpu_us": cpu.server_s / result.accepted_total * 1e6,
                        "master_cpu_us": master_s / result.accepted_total * 1e6,
                        "other_cores": cpu.other_cores,
                    },
                )
        stored = cluster.messages_of(USERS)
        if stored != accepted:
            raise BenchError(f"raftmail accepted {accepted} messages and holds {stored}")


def _dovecot(options: BenchOptions, seconds: float, runs: Runs) -> None:
    with Dovecot(USERS, options.parent) as dovecot:
        accepted = 0
        for connections in CONNECTIONS:
            meter = CpuMeter(dovecot.cpu_s)
            result = run_load(LoadPlan(dovecot.lmtp_address, USERS, connections, seconds))
            cpu = meter.read()
            accepted += result.accepted_total
            cpu_us = cpu.server_s / result.accepted_total * 1e6
            runs.add(
                f"dovecot {connections}",
                {
                    **result.figures(),
                    "server_cpu_us": cpu_us,
                    "master_cpu_us": cpu_us,
                    "other_cores": cpu.other_cores,
                },
            )
        stored = dovecot.stored_messages()
        if stored != accepted:
            raise BenchError(f"Dovecot accepted {accepted} messages and holds {stored}")


if __name__ == "__main__":
    sys.exit(main_of("lmtp", measure, __doc__))
