"""LMTP on five nodes and on three, on the same machine: 16 shards with three replicas each.

The machine is the same, so five nodes have no more cores and disks than three: what is looked at is
what two more processes, and messages between more of them, take away.
"""

from __future__ import annotations

import sys

from bench.cluster import Raftmail
from bench.report import BenchOptions, BenchReport, BenchTarget, Runs, main_of
from bench.spread import deliver, in_turns, users_over

SHARDS = 16
NODES = (3, 5)
RATIO = 0.9


def measure(options: BenchOptions) -> BenchReport:
    """Medians of ``options.runs`` alternated runs. Raises BenchError."""
    seconds = options.seconds(8.0, 2.0)
    runs = Runs()
    users = users_over(SHARDS)
    for nodes in in_turns(options, NODES):
        with Raftmail(nodes, users, SHARDS, options.parent) as cluster:
            deliver(cluster, runs, f"{nodes} nodes", seconds)
    three, five = (runs.median(f"LMTP, {nodes} nodes", "per_s") for nodes in NODES)
    what = "deliveries/s, five nodes to three"
    return BenchReport("five", [runs.table()], [BenchTarget(what, five / three, at_least=RATIO)])


if __name__ == "__main__":
    sys.exit(main_of("five", measure, __doc__))
