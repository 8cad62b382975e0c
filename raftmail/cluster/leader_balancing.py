"""Where masters should be, and which to move.

In this order:

- away from nodes that are drained or cordoned and replicas that leave;
- into the zone that a shard prefers;
- near its clients;
- to nodes that lead less.

Moving a master costs its shard some milliseconds, so the last two have hysteresis: clients must
come from elsewhere twice as much, and a node must lead clearly more than another. None but the
first undoes what an operator has just asked for: for a while such a shard is held
(`ObservedShard.held`). A round moves at most one master from each node and to each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from raftmail.cluster.records import ROOT_SHARD, NodeRecord, NodeState, ReplicaState, ShardRecord
from raftmail.cluster.state import ClusterState
from raftmail.cluster.steps import Observed, ObservedShard, StepLimits, Transfer

NEAR_CLIENTS = "near-clients"
BALANCED = "balanced"
ZONE = "zone:"
"""What `ShardRecord.master` can be; a zone's name follows the last."""

COMMANDS_MIN = 200
"""With fewer commands, nothing is said about where clients are."""

_GAP_MIN = 2
_GAP_PERCENT = 10


def check_preference(master: str) -> str:
    """What `ShardRecord.master` can be. Raises ValueError."""
    if master in (BALANCED, NEAR_CLIENTS) or (master.startswith(ZONE) and len(master) > len(ZONE)):
        return master
    raise ValueError(f"master: {BALANCED}, {NEAR_CLIENTS} or {ZONE}NAME, not {master!r}")


def candidates(state: ClusterState, shard: ShardRecord, seen: ObservedShard) -> list[NodeRecord]:
    """The nodes that can lead a shard at once: they stay, and their replica is whole and says that
    it may lead (`shard.status`). The master is among them if it stays and may lead. Cordoned ones
    are among them only where no other can."""
    found = _able(state, shard, seen)
    return [node for node in found if not node.cordoned] or found


def _able(state: ClusterState, shard: ShardRecord, seen: ObservedShard) -> list[NodeRecord]:
    found = []
    for replica in shard.replicas:
        node = state.find(NodeRecord, replica.node)
        if (
            replica.state is ReplicaState.VOTER
            and replica.id in seen.whole
            and replica.id in seen.able
            and replica.id in seen.membership.voters
            and node is not None
            and node.state is NodeState.ACTIVE
        ):
            found.append(node)
    return found


def heir(state: ClusterState, shard: ShardRecord, seen: ObservedShard) -> str:
    """The node that should lead when the master leaves; "" when none can."""
    able = [node for node in _able(state, shard, seen) if node.name != seen.master]
    others = [node for node in able if not node.cordoned] or able
    preferred = _preferred(shard, others) or others
    return min((node.name for node in preferred), default="")


def _preferred(shard: ShardRecord, nodes: list[NodeRecord]) -> list[NodeRecord]:
    """Those in the zone that the shard prefers; () when it prefers none."""
    if not shard.master.startswith(ZONE):
        return []
    return [node for node in nodes if node.zone == shard.master[len(ZONE) :]]


def transfers(
    state: ClusterState, observed: Observed, busy: set[int], limits: StepLimits
) -> Iterator[Transfer]:
    """The masters to move now, of shards that are not `busy`."""
    return _Round(state, observed, busy, limits).run()


class _Round:
    """`leads` counts the mail shards that each node leads; `_from` and `_to` are the nodes that a
    master was moved from and to."""

    def __init__(
        self, state: ClusterState, observed: Observed, busy: set[int], limits: StepLimits
    ) -> None:
        self._state = state
        self._observed = observed
        self._limits = limits
        self._left = limits.transfers_max
        self._from: set[str] = set()
        self._to: set[str] = set()
        self._shards = [
            (shard, observed.shards[shard.number])
            for shard in state.every_shard.values()
            if shard.number not in busy
        ]
        self._leads = Counter(
            seen.master
            for number, seen in observed.shards.items()
            if number != ROOT_SHARD and seen.master
        )

    def run(self) -> Iterator[Transfer]:
        moved: set[int] = set()
        for choose in (self._away, self._by_preference, self._by_load):
            for shard, seen in self._shards:
                if not self._left:
                    return
                if shard.number in moved:
                    continue
                # A node that is emptied may give away many at once.
                if seen.master in self._from and choose != self._away:
                    continue
                target, why = choose(shard, seen)
                if (
                    target
                    and target != seen.master
                    and (choose == self._away or target not in self._to)
                ):
                    moved.add(shard.number)
                    self._note(shard, seen.master, target)
                    yield Transfer(shard.number, target, why)

    def _note(self, shard: ShardRecord, source: str, target: str) -> None:
        self._left -= 1
        self._from.add(source)
        self._to.add(target)
        if shard.number != ROOT_SHARD:
            self._leads[source] -= 1
            self._leads[target] += 1

    def _ratio(self, node: NodeRecord, more: int = 0) -> int:
        return (self._leads[node.name] + more) * 1_000_000 // max(1, node.capacity)

    def _least(self, nodes: list[NodeRecord]) -> NodeRecord:
        return min(nodes, key=lambda node: (self._ratio(node), node.name))

    def _away(self, shard: ShardRecord, seen: ObservedShard) -> tuple[str, str]:
        fit = candidates(self._state, shard, seen)
        if not fit or any(node.name == seen.master for node in fit):
            return "", ""
        node = self._state.find(NodeRecord, seen.master)
        target = self._least(_preferred(shard, fit) or fit)
        if node is not None and node.state is NodeState.ACTIVE and not _leaves(shard, seen):
            if node.cordoned and not target.cordoned:
                return target.name, f"{seen.master} is cordoned"
            return "", ""  # it is only not known to be whole at the moment
        return target.name, f"{seen.master} is emptied"

    def _by_preference(self, shard: ShardRecord, seen: ObservedShard) -> tuple[str, str]:
        if seen.held:
            return "", ""
        fit = candidates(self._state, shard, seen)
        if shard.master == NEAR_CLIENTS:
            return self._near(seen, fit, self._observed.commands.get(shard.number, {}))
        best = _preferred(shard, fit)
        if not best or any(node.name == seen.master for node in best):
            return "", ""
        return self._least(best).name, f"it is preferred in {shard.master}"

    def _near(
        self, seen: ObservedShard, fit: list[NodeRecord], commands: Mapping[str, int]
    ) -> tuple[str, str]:
        if sum(commands.values()) < COMMANDS_MIN:
            return "", ""

        def nearness(node: NodeRecord) -> int:
            own = commands.get(node.name, 0)
            zone = sum(
                count
                for name, count in commands.items()
                if node.zone and self._zone(name) == node.zone
            )
            return own + max(0, zone - own) // 2

        now = next((nearness(node) for node in fit if node.name == seen.master), 0)
        best = max(fit, key=lambda node: (nearness(node), node.name), default=None)
        if best is None or nearness(best) < max(1, 2 * now):
            return "", ""
        return best.name, "most of its commands come from there"

    def _zone(self, name: str) -> str:
        node = self._state.find(NodeRecord, name)
        return "" if node is None else node.zone

    def _by_load(self, shard: ShardRecord, seen: ObservedShard) -> tuple[str, str]:
        if seen.held or shard.number == ROOT_SHARD or shard.master == NEAR_CLIENTS:
            return "", ""
        fit = candidates(self._state, shard, seen)
        now = next((node for node in fit if node.name == seen.master), None)
        others = [node for node in (_preferred(shard, fit) or fit) if node is not now]
        if (
            now is None
            or not others
            or (shard.master != BALANCED and now not in _preferred(shard, fit))
        ):
            return "", ""
        best = self._least(others)
        gap = max(_GAP_MIN, self._leads[now.name] * _GAP_PERCENT // 100)
        if self._ratio(now, 1 - gap) <= self._ratio(best):
            return "", ""
        return best.name, f"{now.name} leads more than {best.name}"


def _leaves(shard: ShardRecord, seen: ObservedShard) -> bool:
    return any(r.id == seen.master_id and r.state is ReplicaState.LEAVING for r in shard.replicas)
