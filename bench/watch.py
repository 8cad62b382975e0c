"""How soon a session on a follower hears of a change, once the follower has applied it.

Three nodes run in one process, so that one clock times all of them. Users' mailboxes are created
at the leader; a session on each node watches. What is measured: from the apply on a follower to
the moment at which its session is woken, and from the leader's answer to that moment.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import uvloop

from bench.cluster import MAIL_SHARD, free_base_port
from bench.report import BenchOptions, BenchReport, BenchTarget, main_of
from bench.runtime import BenchError
from bench.stats import Cell, percentile
from raftmail.mail.commands import CreateMailbox
from raftmail.mail.failures import Unavailable
from raftmail.node.bootstrap import make_cluster, plan_loopback
from raftmail.node.config import load
from raftmail.node.exit_message import die
from raftmail.node.node import Node
from raftmail.service.cluster_service import ClusterService
from raftmail.shard.replica import Replica

WANTED_MS = 50.0
START_S = 60.0
CALL_S = 10.0
USER = "anna@bench.test"


def measure(options: BenchOptions) -> BenchReport:
    """One run of 1,000 changes, or 100 with `--quick`. Raises BenchError."""
    with tempfile.TemporaryDirectory(dir=options.parent) as folder:
        applied, answered = uvloop.run(_measure(Path(folder), options.count(1000, 100)))
    rows: list[dict[str, Cell]] = [
        {"from": name, "p50_ms": percentile(found, 0.5), "p99_ms": percentile(found, 0.99)}
        for name, found in (("apply", sorted(applied)), ("answer", sorted(answered)))
    ]
    worst = max(applied)
    what = "a session on a follower is woken after its apply, slowest of all, ms"
    return BenchReport("watch", [rows], [BenchTarget(what, worst, at_most=WANTED_MS)])


async def _measure(folder: Path, count: int) -> tuple[list[float], list[float]]:
    plans = plan_loopback(3, free_base_port(3))
    make_cluster(folder / "c", plans, shards=1, now=datetime.now(UTC))
    with ThreadPoolExecutor(8) as executor:
        loop = asyncio.get_running_loop()
        nodes = [
            Node(load(folder / "c" / plan.name), loop, executor, die, time.time) for plan in plans
        ]
        try:
            await asyncio.gather(*(node.start() for node in nodes))
            return await _times(nodes, count)
        finally:
            await asyncio.gather(*(node.stop() for node in nodes))


async def _times(nodes: list[Node], count: int) -> tuple[list[float], list[float]]:
    """Milliseconds from the apply, and from the answer, to the wake, at all followers."""
    services = [_service(node) for node in nodes]
    await _create(services[0], "first", START_S)
    ears = [Ear(*pair) for pair in zip(services, map(_replica, nodes), strict=True)]
    await asyncio.sleep(1.0)  # until every node has applied what was made at the start
    leader = next(ear for ear in ears if ear.replica.group.is_leader)
    ears.remove(leader)
    applied: list[float] = []
    answered: list[float] = []
    for number in range(count):
        for ear in ears:
            ear.listen(leader.replica.applied_index + 1)
        await _create(leader.service, f"box{number}", CALL_S)
        answer = time.perf_counter()
        for ear in ears:
            await asyncio.wait_for(ear.heard.wait(), CALL_S)
            applied.append((ear.heard_at - ear.applied_at) * 1000)
            answered.append((ear.heard_at - answer) * 1000)
    return applied, answered


class Ear:
    """A session on one node, and the moments at which it is told and its replica applies."""

    def __init__(self, service: ClusterService, replica: Replica) -> None:
        self.service = service
        self.replica = replica
        self.heard = asyncio.Event()
        self.heard_at = self.applied_at = 0.0
        self._watch = service.watch(USER, self._wake)

    def listen(self, index: int) -> None:
        """Note the next change, and the apply of entry `index`."""
        self._watch.take()
        self.heard.clear()
        self.replica.when_applied(index, self._applied)

    def _wake(self) -> None:
        self.heard_at = time.perf_counter()
        self.heard.set()

    def _applied(self, _ok: bool) -> None:
        self.applied_at = time.perf_counter()


def _service(node: Node) -> ClusterService:
    assert node._service is not None
    return node._service


def _replica(node: Node) -> Replica:
    assert node._table is not None
    return node._table.replicas[MAIL_SHARD]


async def _create(service: ClusterService, name: str, deadline_s: float) -> None:
    command = CreateMailbox(USER, name, 1_700_000_000, name.encode().ljust(16, b"-")[:16])
    try:
        await service.execute(command, deadline_s=deadline_s)
    except Unavailable as e:
        raise BenchError(f"no mailbox could be created: {e}") from None


if __name__ == "__main__":
    sys.exit(main_of("watch", measure, __doc__))
