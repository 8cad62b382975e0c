"""STORE of a flag with 128 commands outstanding, beside puts into etcd over 128 connections.

Three nodes each, in turns, each time from a fresh start. Every STORE changes one message, and every
put one key; a majority of nodes has it on disk before the answer. Clients of raftmail connect to
the master, and in one row are dealt to all nodes.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass

from bench.cluster import Raftmail
from bench.peers.etcd import Etcd
from bench.peers.etcd_load import PutPlan, run_puts
from bench.report import BenchOptions, BenchReport, BenchTarget, Runs, main_of
from bench.runtime import CpuMeter
from bench.store_load import StorePlan, fill, run_load

USER = "user@example.org"
OUTSTANDING = 128
STORES_PER_S = 20_000.0
ETCD_RATIO = 3.0


@dataclass(frozen=True, slots=True)
class _Shape:
    connections: int
    to_all: bool = False

    @property
    def subject(self) -> str:
        where = " all nodes" if self.to_all else ""
        return f"raftmail{where} {self.connections} x {OUTSTANDING // self.connections}"


SHAPES = (_Shape(1), _Shape(16), _Shape(128), _Shape(16, to_all=True))


def measure(options: BenchOptions) -> BenchReport:
    """Medians of ``options.runs`` alternated runs. Raises BenchError."""
    seconds = options.seconds(5.0, 1.5)
    runs = Runs()
    for turn in range(options.runs):
        halves = [_raftmail, _etcd]
        for half in halves if turn % 2 == 0 else reversed(halves):
            half(options, seconds, runs)
    report = BenchReport("store", [runs.table()])
    for shape in SHAPES:
        rate = runs.median(shape.subject, "per_s")
        if not shape.to_all:
            report.targets.append(
                BenchTarget(f"{shape.subject}: STOREs/s", rate, at_least=STORES_PER_S)
            )
    ratio = runs.median(_Shape(128).subject, "per_s") / runs.median("etcd", "per_s")
    what = "STOREs/s to etcd's puts/s, 128 connections each"
    report.targets.append(BenchTarget(what, ratio, at_least=ETCD_RATIO))
    return report


def _raftmail(options: BenchOptions, seconds: float, runs: Runs) -> None:
    with Raftmail(users=[USER], parent=options.parent) as cluster:
        master = cluster.master_of()
        for shape in SHAPES:
            plan = StorePlan(
                cluster.client_addresses if shape.to_all else (cluster.client_address_of(master),),
                (USER,),
                connections=shape.connections,
                pipeline=OUTSTANDING // shape.connections,
                seconds=seconds,
                access=cluster.access,
            )
            asyncio.run(fill(plan))
            meter, master_before_s = CpuMeter(cluster.cpu_s), cluster.cpu_s(master)
            result = run_load(plan)
            cpu, master_s = meter.read(), cluster.cpu_s(master) - master_before_s
            runs.add(
                shape.subject,
                {
                    **result.figures(),
                    "server_cpu_us": cpu.server_s / result.accepted_total * 1e6,
                    "master_cpu_us": master_s / result.accepted_total * 1e6,
                    "other_cores": cpu.other_cores,
                },
            )


def _etcd(options: BenchOptions, seconds: float, runs: Runs) -> None:
    with Etcd(options.parent) as etcd:
        meter = CpuMeter(etcd.cpu_s)
        result = run_puts(PutPlan((etcd.leader_address,), OUTSTANDING, seconds))
        cpu = meter.read()
        cpu_us = cpu.server_s / result.accepted_total * 1e6
        runs.add(
            "etcd",
            {
                **result.figures(),
                "server_cpu_us": cpu_us,
                "master_cpu_us": cpu_us,
                "other_cores": cpu.other_cores,
            },
        )


if __name__ == "__main__":
    sys.exit(main_of("store", measure, __doc__))
