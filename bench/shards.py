"""What more shards do for the same users: LMTP and STORE on three nodes with 1, 4, 16 and 64
shards.

Each time the same 64 users, spread evenly over the shards, and the same clients, dealt to all
nodes. Every shard has a log and files of its own, so entries become smaller and syncs more. In
return the masters are spread over the nodes.
"""

from __future__ import annotations

import sys

from bench.cluster import Raftmail
from bench.report import BenchOptions, BenchReport, Runs, main_of
from bench.spread import deliver, in_turns, store, users_over

SHARDS = (1, 4, 16, 64)


def measure(options: BenchOptions) -> BenchReport:
    """Medians of ``options.runs`` alternated runs. Raises BenchError."""
    seconds = options.seconds(5.0, 1.5)
    runs = Runs()
    for shards in in_turns(options, SHARDS):
        users = users_over(shards)
        with Raftmail(users=users, shards=shards, parent=options.parent) as cluster:
            deliver(cluster, runs, _subject(shards), seconds)
            store(cluster, runs, _subject(shards), seconds)
    report = BenchReport("shards", [runs.table()])
    for load in ("LMTP", "STORE"):
        rates = [runs.median(f"{load}, {_subject(shards)}", "per_s") for shards in SHARDS]
        ratios = [
            f"{shards}: {rate / rates[0]:.2f}" for shards, rate in zip(SHARDS, rates, strict=True)
        ]
        report.notes.append(f"{load}, rate to that of one shard: {', '.join(ratios)}")
    return report


def _subject(shards: int) -> str:
    return f"{shards} shard{'s' if shards > 1 else ''}"


if __name__ == "__main__":
    sys.exit(main_of("shards", measure, __doc__))
