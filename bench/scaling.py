"""What becomes of 30 nodes and 1,000 shards: placement, the failure of a node, five nodes more; and
what a million users need.

A simulation: the real placement and the real controller (`raftmail/cluster`), driven by groups that
are only sets of ids and take every step at once. No node is started, so the figures hold for any
machine, but for the times, which are those of the controller's own work.
"""

from __future__ import annotations

import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from bench.report import BenchOptions, BenchReport, BenchTarget, main_of
from bench.stats import Cell
from raftmail.cluster import changes, steps
from raftmail.cluster.controller import next_steps
from raftmail.cluster.moves import counts, load_of, plan
from raftmail.cluster.records import ROOT_SHARD, NodeRecord, encode, key_of
from raftmail.cluster.state import ClusterState, genesis
from raftmail.consensus.membership import Membership

NODES = 30
SHARDS = 1000
REPLICATION = 3
MORE = 5
ZONES = (0, 3, 5)

_ROUNDS_MAX = 2000
_TRANSFERS_AT_ONCE = steps.StepLimits(transfers_max=1000)

MOVED_RATIO = 1.15
HEIRS_RATIO = 1.15


class Fleet:
    """A cluster whose groups are sets of ids. `masters` are nodes by shard; `dead` nodes lead
    nothing and hold nothing that is whole."""

    def __init__(self, nodes: int, shards: int, zones: int, seed: int = 1) -> None:
        self.random = random.Random(seed)
        made = [_node(f"n{at:02}", at, zones) for at in range(nodes)]
        self.state = genesis("0" * 32, made, shards, REPLICATION)
        self.zones = zones
        self.dead: set[str] = set()
        self.groups: dict[int, Membership] = {}
        self.masters: dict[int, str] = {}
        for shard in self.state.every_shard.values():
            self.groups[shard.number] = Membership.founding({r.id: r.node for r in shard.replicas})
            self.masters[shard.number] = self.random.choice(shard.nodes)

    def add(self, count: int) -> None:
        """Nodes that join, empty."""
        nodes = [_node(f"x{at:02}", at, self.zones) for at in range(count)]
        self.state = self.state.with_puts([(key_of(node), encode(node)) for node in nodes])

    def fail(self, node: str) -> None:
        """A node dies; each shard that it led elects one of the others that have it, by chance."""
        self.dead.add(node)
        for number, master in self.masters.items():
            if master == node:
                left = [n for n in self.groups[number].voters.values() if n not in self.dead]
                self.masters[number] = self.random.choice(left)

    def leads(self) -> Counter[str]:
        return Counter(node for number, node in self.masters.items() if number != ROOT_SHARD)

    def observed(self) -> steps.Observed:
        seen = {}
        for number, group in self.groups.items():
            master = self.masters[number]
            id = next(id for id, node in group.voters.items() if node == master)
            whole = frozenset(id for id, node in group.nodes.items() if node not in self.dead)
            seen[number] = steps.ObservedShard(master, id, group, whole=whole, able=whole)
        alive = {name: steps.ObservedNode(name not in self.dead) for name in self.state.nodes}
        return steps.Observed(seen, alive)

    def run(self, limits: steps.StepLimits) -> tuple[int, Counter[str], float]:
        """Rounds of the controller until nothing is left to do: how many, what steps, and the
        longest time that it thought."""
        done: Counter[str] = Counter()
        longest_s = 0.0
        for count in range(_ROUNDS_MAX):
            seen = self.observed()
            begun_s = time.perf_counter()
            todo = next_steps(self.state, seen, 0.0, limits)
            longest_s = max(longest_s, time.perf_counter() - begun_s)
            if not todo:
                return count, done, longest_s
            for step in todo:
                done[type(step).__name__] += 1
                self._take(step)
        raise RuntimeError(f"the controller came to no rest in {_ROUNDS_MAX} rounds")

    def _take(self, step: steps.Step) -> None:
        if isinstance(step, steps.WriteRecords):
            self.state = self.state.with_puts(step.change.puts)
            return
        group = self.groups[step.shard]
        if isinstance(step, steps.Transfer):
            self.masters[step.shard] = step.node
        elif isinstance(step, steps.AddLearner):
            learners = {**group.learners, step.id: step.node}
            self.groups[step.shard] = Membership(group.voters, learners, step.id + 1)
        elif isinstance(step, steps.Promote):
            self.groups[step.shard] = group.promoted(step.id)
        else:
            self.groups[step.shard] = group.without(step.id)


def _node(name: str, at: int, zones: int) -> NodeRecord:
    return NodeRecord(name, f"{name}:7401", zone=f"z{at % zones}" if zones else "")


def measure(options: BenchOptions) -> BenchReport:
    """The tables of docs/scaling.md."""
    shards = options.count(SHARDS, 200)
    report = BenchReport("scaling")
    report.tables.append([_placement(shards, zones) for zones in ZONES])
    heirs = [_failover(shards, zones, options.count(5, 2)) for zones in ZONES]
    report.tables.append(heirs)
    growth = [_growth(shards, zones, more) for zones in ZONES for more in (1, MORE)]
    report.tables.append(growth)
    report.tables.append([_controller(shards)])
    report.tables.append(needs(Million()))
    for row in growth:
        what = (
            f"replicas moved to {row['new nodes']} new nodes, {row['zones']} zones, to their share"
        )
        report.targets.append(
            BenchTarget(what, _figure(row["moved to share"]), at_most=MOVED_RATIO)
        )
        between = _figure(row["between the others"])
        report.targets.append(BenchTarget("moved between the others", between, at_most=0.0))
    for row in heirs:
        what = f"most masters that one node has after a failure, to the mean, {row['zones']} zones"
        report.targets.append(
            BenchTarget(what, _figure(row["most to mean, balanced"]), at_most=HEIRS_RATIO)
        )
    return report


def _figure(cell: Cell) -> float:
    assert isinstance(cell, int | float)
    return float(cell)


def _placement(shards: int, zones: int) -> dict[str, Cell]:
    begun_s = time.perf_counter()
    fleet = Fleet(NODES, shards, zones)
    took_s = time.perf_counter() - begun_s
    held = counts(fleet.state)
    load = load_of(fleet.state)
    nodes = fleet.state.every_node
    pairs = [
        load.together(a, [b])
        for a, b in combinations(fleet.state.nodes, 2)
        if zones < REPLICATION or nodes[a].zone != nodes[b].zone
    ]
    apart = sum(
        len({nodes[name].zone for name in shard.nodes}) == min(zones, REPLICATION)
        for shard in fleet.state.every_shard.values()
        if shard.number != ROOT_SHARD
    )
    return {
        "zones": zones,
        "replicas of a node, least": min(held.values()),
        "most": max(held.values()),
        "in different zones, %": round(100 * apart / shards) if zones else "",
        "shards that two nodes share, least": min(pairs),
        "mean": round(sum(pairs) / len(pairs), 1),
        "most ": max(pairs),
        "placing took, s": round(took_s, 2),
    }


def _failover(shards: int, zones: int, failures: int) -> dict[str, Cell]:
    """Means over the failure of each of several nodes, each from the balanced cluster."""
    fleet = Fleet(NODES, shards, zones)
    fleet.run(_TRANSFERS_AT_ONCE)
    leads = fleet.leads()
    rested = dict(fleet.masters)
    lost: list[int] = []
    heirs: list[int] = []
    elected: list[float] = []
    balanced: list[float] = []
    moved: list[int] = []
    for name in list(fleet.state.nodes)[:failures]:
        fleet.masters = dict(rested)
        fleet.dead = set()
        before = fleet.leads()
        fleet.fail(name)
        after = fleet.leads()
        lost.append(before[name])
        heirs.append(sum(after[other] > before[other] for other in fleet.state.nodes))
        mean = shards / (NODES - 1)
        elected.append(max(after.values()) / mean)
        _, done, _ = fleet.run(_TRANSFERS_AT_ONCE)
        moved.append(done["Transfer"])
        balanced.append(max(fleet.leads().values()) / mean)
    return {
        "zones": zones,
        "masters of a node, least": min(leads[n] for n in fleet.state.nodes),
        "most": max(leads.values()),
        "lost with a node": _mean(lost),
        "nodes that took some": _mean(heirs),
        "most to mean, elected": round(max(elected), 2),
        "masters moved then": _mean(moved),
        "most to mean, balanced": round(max(balanced), 2),
    }


def _growth(shards: int, zones: int, more: int) -> dict[str, Cell]:
    fleet = Fleet(NODES, shards, zones)
    fleet.run(_TRANSFERS_AT_ONCE)
    fleet.add(more)
    moves = plan(fleet.state, balance=True)
    mail = [move for move in moves if move.shard != ROOT_SHARD]
    old = sum(not move.target.startswith("x") for move in mail)
    share = REPLICATION * shards * more / (NODES + more)
    held = Counter(counts(fleet.state))
    for move in mail:
        held[move.source] -= 1
        held[move.target] += 1
    fleet.state = fleet.state.with_puts(changes.rebalance(fleet.state, 0).puts)
    seen = fleet.observed()
    begun_s = time.perf_counter()
    next_steps(fleet.state, seen, 0.0)
    round_s = time.perf_counter() - begun_s
    return {
        "zones": zones,
        "new nodes": more,
        "replicas moved": len(mail),
        "their share": round(share, 1),
        "moved to share": round(len(mail) / share, 3),
        "between the others": old,
        "replicas of a node, least": min(held.values()),
        "most": max(held.values()),
        "a round of the controller, ms": round(round_s * 1000),
    }


def _controller(shards: int) -> dict[str, Cell]:
    """What the controller and the state cost when nothing is to be done."""
    fleet = Fleet(NODES, shards, 3)
    fleet.run(_TRANSFERS_AT_ONCE)
    seen = fleet.observed()
    begun_s = time.perf_counter()
    next_steps(fleet.state, seen, 0.0)
    round_s = time.perf_counter() - begun_s
    kept = fleet.state.to_bytes()
    begun_s = time.perf_counter()
    ClusterState.from_bytes(kept)
    read_s = time.perf_counter() - begun_s
    users = [f"user{at}@example.org" for at in range(10_000)]
    begun_s = time.perf_counter()
    for user in users:
        fleet.state.shard_of(user)
    asked_s = time.perf_counter() - begun_s
    return {
        "shards": shards,
        "a round at rest, ms": round(round_s * 1000),
        "the kept state, KiB": len(kept) >> 10,
        "reading it, ms": round(read_s * 1000),
        "a user's shard, us": round(asked_s * 1e6 / len(users), 1),
    }


@dataclass(frozen=True, slots=True)
class Million:
    """What a million users are taken to do and to have; and what a node does, of
    docs/performance.md and the simulation."""

    users: int = 1_000_000
    shards: int = SHARDS
    nodes: int = NODES
    mailbox_mib: int = 1024
    messages: int = 10_000
    mails_a_day: int = 50
    flags_a_day: int = 100
    peak: float = 4.0
    saves_per_core_s: float = 1e6 / 647
    """All three replicas' CPU for a delivery of 4 KB: 647 us."""

    stores_per_core_s: float = 1e6 / 94
    index_bytes: int = 860
    """Of the index, for each message."""

    link_mib_s: float = 100.0
    """What a node takes in while it is filled."""


def needs(m: Million) -> list[dict[str, Cell]]:
    """The arithmetic, line by line."""
    saves = m.users * m.mails_a_day / 86_400 * m.peak
    stores = m.users * m.flags_a_day / 86_400 * m.peak
    cores = saves / m.saves_per_core_s + stores / m.stores_per_core_s
    mail_tib = m.users * m.mailbox_mib / (1 << 20)
    node_tib = mail_tib * REPLICATION / m.nodes
    index_tib = m.users * m.messages * m.index_bytes / (1 << 40)
    shard_gib = mail_tib * 1024 / m.shards
    refill_h = node_tib * (1 << 20) / m.link_mib_s / 3600
    spread_h = node_tib * (1 << 20) / (m.nodes - 1) / m.link_mib_s / 3600
    lines: Sequence[tuple[str, float, str]] = (
        ("users of a shard", m.users / m.shards, ""),
        ("replicas of a node", m.shards * REPLICATION / m.nodes, ""),
        ("deliveries at the peak", saves, "per s"),
        ("of them for each node that leads", saves / m.nodes, "per s"),
        ("flag changes at the peak", stores, "per s"),
        ("CPU for both, whole cluster", cores, "cores"),
        ("mail, one copy", mail_tib, "TiB"),
        ("mail of a node", node_tib, "TiB"),
        ("index of a node", index_tib * REPLICATION / m.nodes * 1024, "GiB"),
        ("mail of a shard", shard_gib, "GiB"),
        ("one shard moved, at the whole link", shard_gib * 1024 / m.link_mib_s / 60, "min"),
        ("a lost disk filled again on its node", refill_h, "h"),
        ("a lost node made good by all others at once", spread_h, "h"),
    )
    return [
        {"what": what, "figure": round(value, 1 if value < 100 else None), "unit": unit}
        for what, value, unit in lines
    ]


def _mean(values: Sequence[int]) -> float:
    return round(sum(values) / len(values), 1)


if __name__ == "__main__":
    sys.exit(main_of("scaling", measure, __doc__))
