"""What a second worker does for a node: LMTP and STORE over 16 shards, one worker and two.

First one node with one replica of each shard, so that there is a core for each worker, and the load
generator between them. Then three nodes with three replicas on the same two cores, which are busy
already with one worker each.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

from bench.cluster import Raftmail
from bench.report import BenchOptions, BenchReport, Runs, main_of
from bench.spread import deliver, in_turns, store, users_over

SHARDS = 16


@dataclass(frozen=True, slots=True)
class _Shape:
    nodes: int
    workers: int

    @property
    def subject(self) -> str:
        nodes = f"{self.nodes} node{'s' if self.nodes > 1 else ''}"
        return f"{nodes} x {self.workers} worker{'s' if self.workers > 1 else ''}"


SHAPES = (_Shape(1, 1), _Shape(1, 2), _Shape(3, 1), _Shape(3, 2))


def measure(options: BenchOptions) -> BenchReport:
    """Medians of ``options.runs`` alternated runs. Raises BenchError."""
    seconds = options.seconds(5.0, 1.5)
    runs = Runs()
    users = users_over(SHARDS)
    for shape in in_turns(options, SHAPES):
        with Raftmail(
            shape.nodes,
            users,
            SHARDS,
            options.parent,
            replicas=shape.nodes,
            workers=shape.workers,
        ) as cluster:
            deliver(cluster, runs, shape.subject, seconds)
            store(cluster, runs, shape.subject, seconds)
    report = BenchReport("workers", [runs.table()])
    for load in ("LMTP", "STORE"):
        for one, two in ((SHAPES[0], SHAPES[1]), (SHAPES[2], SHAPES[3])):
            gain = runs.median(f"{load}, {two.subject}", "per_s") / runs.median(
                f"{load}, {one.subject}", "per_s"
            )
            report.notes.append(f"{load}: {two.subject} to {one.subject}: {gain:.2f}")
    return report


if __name__ == "__main__":
    sys.exit(main_of("workers", measure, __doc__))
