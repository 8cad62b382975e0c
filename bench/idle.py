"""What replicas cost that have nothing to do: three nodes, each with a replica of each of 64
shards.

Beside a cluster with one shard for mail, in turns, each from a fresh start. Nobody is connected and
nothing is written; what is left are Raft's heartbeats, the links, and the passing of time.
"""

from __future__ import annotations

import sys
import time
from statistics import mean

from bench.cluster import Raftmail
from bench.report import BenchOptions, BenchReport, BenchTarget, Runs, main_of
from bench.runtime import CpuMeter
from bench.spread import in_turns

SHARDS = (1, 64)
CORE_PERCENT = 3.0
RSS_MIB = 64.0
SETTLE_S = 3.0


def measure(options: BenchOptions) -> BenchReport:
    """Medians of ``options.runs`` alternated runs, each a mean of the nodes. Raises BenchError."""
    seconds = options.seconds(20.0, 5.0)
    runs = Runs()
    for shards in in_turns(options, SHARDS):
        with Raftmail(shards=shards, parent=options.parent) as cluster:
            time.sleep(SETTLE_S)
            meter, begun_s = CpuMeter(cluster.cpu_s), time.monotonic()
            time.sleep(seconds)
            cpu, took_s = meter.read(), time.monotonic() - begun_s
            memory = [cluster.rss_bytes(name) for name in cluster.names]
        runs.add(
            _subject(shards),
            {
                "core_percent": cpu.server_s / took_s / len(memory) * 100,
                "rss_mib": mean(outside for outside, _ in memory) / 2**20,
                "resident_index_mib": mean(index for _, index in memory) / 2**20,
                "other_cores": cpu.other_cores,
            },
        )
    few, many = map(_subject, SHARDS)
    more = {
        figure: runs.median(many, figure) - runs.median(few, figure)
        for figure in ("core_percent", "rss_mib")
    }
    of = f"of a node with {SHARDS[1]} shards more than with {SHARDS[0]}"
    return BenchReport(
        "idle",
        [runs.table()],
        [
            BenchTarget(f"percent of a core {of}", more["core_percent"], at_most=CORE_PERCENT),
            BenchTarget(f"memory {of}, MiB", more["rss_mib"], at_most=RSS_MIB),
        ],
    )


def _subject(shards: int) -> str:
    return f"{shards} shard{'s' if shards > 1 else ''}, each node"


if __name__ == "__main__":
    sys.exit(main_of("idle", measure, __doc__))
