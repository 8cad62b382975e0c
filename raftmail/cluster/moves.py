"""What has to move, so that replicas are where they should be: the difference between what is
written and what it ought to be.

`plan` gives the moves that must be made: replicas of nodes that are drained, removed, or not
allowed by the shard's pool, and replicas too few or too many. With `balance` also those that make
it better: away from shared zones and hosts, then from full nodes to empty ones. When one node is
added, only it receives: of n+1 nodes it gets at most its share, and nothing moves between the
others.

Nothing here looks at what is under way: a replica that is joining counts as there, one that is
leaving as gone. So the plan of a state in which all planned moves have begun is empty.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from raftmail.cluster.placement import SLACK, PlacementLoad, PlacementNode, apart, choose
from raftmail.cluster.records import ROOT_SHARD, NodeRecord, NodeState, ShardRecord
from raftmail.cluster.state import ClusterState


@dataclass(frozen=True, slots=True)
class Move:
    """A replica to add on `target` ("": none), and the replica to take away when it is there (0:
    none). `must` tells moves that have to be from those that only make it better."""

    shard: int
    target: str
    source_id: int = 0
    source: str = ""
    why: str = ""
    must: bool = True

    def __str__(self) -> str:
        if not self.target:
            return f"shard {self.shard}: take away {self.source} ({self.why})"
        if not self.source:
            return f"shard {self.shard}: add {self.target} ({self.why})"
        return f"shard {self.shard}: {self.source} to {self.target} ({self.why})"


def plan(
    state: ClusterState, *, balance: bool = False, avoid: frozenset[str] = frozenset()
) -> list[Move]:
    """The moves, those first that must be. What cannot be placed is left as it is (`missing` tells
    of it). Nothing moves to the nodes to `avoid`: those that are dead at the moment; nor to those
    that are cordoned."""
    return list(planned(state, balance=balance, avoid=avoid))


def planned(
    state: ClusterState, *, balance: bool, avoid: frozenset[str] = frozenset()
) -> Iterator[Move]:
    """`plan`, one move after the other, for who can only begin some: those for balance take time to
    find."""
    if state.is_blind:
        return  # what is seen of the cluster is not all of it
    planner = _Planner(state, avoid)
    yield from planner.needed()
    if balance:
        yield from planner.spread()
        yield from planner.balance()


def allowed(state: ClusterState, shard: ShardRecord) -> list[PlacementNode]:
    """The nodes that may hold a shard."""
    pool = state.pool_of(shard)
    return [
        PlacementNode.of(node)
        for node in state.every_node.values()
        if node.state is NodeState.ACTIVE and pool.allows(node)
    ]


def missing(state: ClusterState, shard: ShardRecord) -> str:
    """Why a shard cannot have as many replicas as it should; "": it can."""
    found = sum(
        state.every_node[place.name].is_open or bool(shard.on(place.name))
        for place in allowed(state, shard)
    )
    if found >= wanted(state, shard):
        return ""
    pool = state.pool_of(shard)
    return (
        f"shard {shard.number} is to have {shard.replication} replicas, and there "
        f"{'is' if found == 1 else 'are'} {found} node{'' if found == 1 else 's'} "
        f"{pool.wanted or 'to hold them'}: {wanted(state, shard) - found} more needed"
    )


def wanted(state: ClusterState, shard: ShardRecord) -> int:
    """How many replicas a shard is to have. The root has as many as there are nodes, up to its
    replication."""
    if shard.number == ROOT_SHARD:
        active = sum(n.state is NodeState.ACTIVE for n in state.every_node.values())
        return max(1, min(shard.replication, active))
    return shard.replication


_NOBODY = NodeRecord("", "", state=NodeState.REMOVED)


class _Planner:
    """Holds where replicas will be as moves are decided: node names by replica id. New ones have
    none yet; they are counted below 0, and not moved again."""

    def __init__(self, state: ClusterState, avoid: frozenset[str]) -> None:
        self._state = state
        self._avoid = avoid | {node.name for node in state.every_node.values() if node.cordoned}
        self._places = {node.name: PlacementNode.of(node) for node in state.every_node.values()}
        for shard in state.every_shard.values():
            for replica in shard.replicas:
                # Of a node that nobody knows nothing is known but the name.
                machine = ("", f"node {replica.node}")
                self._places.setdefault(replica.node, PlacementNode(replica.node, "", machine, 1))
        self._load = PlacementLoad()
        self._shards = state.every_shard
        self._allowed: dict[str, list[PlacementNode]] = {}
        self._held: dict[int, dict[int, str]] = {}
        self._on: dict[str, set[int]] = {name: set() for name in self._places}
        self._zones: dict[int, Counter[str]] = {}
        self._machines: dict[int, Counter[tuple[str, str]]] = {}
        self._new = 0
        self._barren: set[tuple[str, str]] = set()  # between these nothing can be moved
        for shard in self._shards.values():
            self._held[shard.number] = {}
            self._zones[shard.number] = Counter()
            self._machines[shard.number] = Counter()
            for replica in shard.staying:
                self._add(shard.number, replica.id, replica.node)

    # -- what must be ------------------------------------------------------------------------------

    def needed(self) -> Iterator[Move]:
        for shard in self._shards.values():
            may = {place.name for place in self._may(shard)}
            held = self._held[shard.number]
            bad = [id for id, node in held.items() if node not in may]
            lacking = wanted(self._state, shard) - (len(held) - len(bad))
            for id in list(bad):
                # A bad one stays while it is needed and nothing better can be had.
                target = self._choose(shard, without=bad)
                if lacking <= 0:
                    yield self._take(shard, id, self._why(held[id]))
                elif target is not None:
                    yield self._move(shard, id, target, self._why(held[id]))
                    lacking -= 1
                bad.remove(id)
            while lacking > 0 and (target := self._choose(shard)) is not None:
                yield self._move(shard, 0, target, "too few replicas")
                lacking -= 1
            while lacking < 0:
                yield self._take(shard, self._surplus(shard), "too many replicas")
                lacking += 1

    def _why(self, node: str) -> str:
        found = self._state.find(NodeRecord, node)
        if found is None or found.state is NodeState.REMOVED:
            return f"{node} is removed"
        if found.state is NodeState.DRAINING:
            return f"{node} is drained"
        return f"{node} is not in the pool"

    def _surplus(self, shard: ShardRecord) -> int:
        """The replica to do without: one that has yet to join, then one that shares a zone or host,
        then of the fullest node."""
        held = self._held[shard.number]
        joining = {r.id for r in shard.staying if r.state == "joining"}

        def rank(id: int) -> tuple[bool, tuple[int, int], int, int]:
            others = [self._places[node] for other, node in held.items() if other != id]
            ratio = self._load.ratio(self._places[held[id]])
            return (id not in joining, apart(others), -ratio, -id)

        return min((id for id in held if id > 0), key=rank)

    # -- what is better ----------------------------------------------------------------------------

    def spread(self) -> Iterator[Move]:
        """Away from zones and hosts that two replicas share, where that can be."""
        for shard in self._shards.values():
            while self._crowded(shard) and (move := self._apart(shard)) is not None:
                yield move

    def _crowded(self, shard: ShardRecord) -> bool:
        """Whether a zone or a machine has two replicas more than another could have."""
        zones, machines = self._zones[shard.number], self._machines[shard.number]
        may = self._may(shard)
        return bool(zones) and (
            max(zones.values()) - min((zones[one.zone] for one in may), default=0) > 1
            or max(machines.values()) - min((machines[one.machine] for one in may), default=0) > 1
        )

    def _apart(self, shard: ShardRecord) -> Move | None:
        held = self._held[shard.number]
        now = apart([self._places[node] for node in held.values()])
        best: tuple[tuple[int, int], int, int] | None = None
        target = ""
        for id in held:
            if id < 0:
                continue
            chosen = self._choose(shard, without=[id], but=held[id])
            if chosen is None:
                continue
            others = [self._places[node] for other, node in held.items() if other != id]
            after = (apart([*others, self._places[chosen]]), -self._load.replicas[held[id]], id)
            if after[0] < now and (best is None or after < best):
                best, target = after, chosen
        if best is None:
            return None
        return self._move(shard, best[2], target, "farther apart", must=False)

    def balance(self) -> Iterator[Move]:
        """From the fullest node to the emptiest, while that makes the two more alike and nothing
        else worse."""
        active = [
            place
            for place in self._places.values()
            if self._state.every_node.get(place.name, _NOBODY).state is NodeState.ACTIVE
        ]
        while (move := self._better(active)) is not None:
            yield move

    def _better(self, active: list[PlacementNode]) -> Move | None:
        load = self._load
        full = sorted(active, key=lambda place: (-load.ratio(place), place.name))
        empty = sorted(active, key=lambda place: (load.ratio(place, 1), place.name))
        for target in empty:
            if target.name in self._avoid:
                continue
            for source in full:
                # The source must stay above what the target becomes, so nothing ever goes back; and
                # what placement takes for equal is.
                if load.ratio(source, -1) < load.ratio(target, 1 + SLACK):
                    break
                if (source.name, target.name) in self._barren:
                    continue
                move = self._one(source, target)
                if move is not None:
                    return move
                self._barren.add((source.name, target.name))
        return None

    def _one(self, source: PlacementNode, target: PlacementNode) -> Move | None:
        best: tuple[int, int, int] | None = None
        for number in self._on[source.name]:
            shard = self._shards[number]
            held = self._held[number]
            if (
                number == ROOT_SHARD
                or target.name in held.values()
                or target not in self._may(shard)
            ):
                continue
            if self._shared(number, target, source) > self._shared(number, source, source):
                continue
            names = [node for node in held.values() if node != source.name]
            gain = self._load.together(target.name, names) - self._load.together(source.name, names)
            id = next(id for id, node in held.items() if node == source.name)
            if id < 0:
                continue
            rank = (gain, number, id)
            if best is None or rank < best:
                best = rank
        if best is None:
            return None
        why = f"{source.name} holds more than {target.name}"
        return self._move(self._shards[best[1]], best[2], target.name, why, must=False)

    def _shared(self, shard: int, place: PlacementNode, without: PlacementNode) -> tuple[int, int]:
        """How many replicas of a shard, but for that on `without`, a place shares its zone and its
        machine with."""
        return (
            self._zones[shard][place.zone] - (place.zone == without.zone),
            self._machines[shard][place.machine] - (place.machine == without.machine),
        )

    # -- deciding ----------------------------------------------------------------------------------

    def _may(self, shard: ShardRecord) -> list[PlacementNode]:
        found = self._allowed.get(shard.pool)
        if found is None:
            found = self._allowed[shard.pool] = allowed(self._state, shard)
        return found

    def _choose(
        self, shard: ShardRecord, without: list[int] | None = None, but: str = ""
    ) -> str | None:
        held = self._held[shard.number]
        stay = [self._places[node] for id, node in held.items() if id not in (without or ())]
        taken = {node for node in held.values() if node != but}
        taken |= self._avoid
        free = [place for place in self._may(shard) if place.name not in taken]
        found = choose(shard.number, free, stay, self._load)
        return None if found is None else found.name

    def _add(self, shard: int, id: int, node: str) -> None:
        held = self._held[shard]
        if shard != ROOT_SHARD:
            self._load.add(node, held.values())
        held[id] = node
        self._zones[shard][self._places[node].zone] += 1
        self._machines[shard][self._places[node].machine] += 1
        self._on.setdefault(node, set()).add(shard)

    def _drop(self, shard: int, id: int) -> str:
        held = self._held[shard]
        node = held.pop(id)
        self._zones[shard][self._places[node].zone] -= 1
        self._machines[shard][self._places[node].machine] -= 1
        if shard != ROOT_SHARD:
            self._load.add(node, held.values(), -1)
        if node not in held.values():
            self._on[node].discard(shard)
        return node

    def _move(self, shard: ShardRecord, id: int, target: str, why: str, must: bool = True) -> Move:
        source = self._drop(shard.number, id) if id else ""
        self._new -= 1
        self._add(shard.number, self._new, target)
        return Move(shard.number, target, id, source, why, must)

    def _take(self, shard: ShardRecord, id: int, why: str) -> Move:
        return Move(shard.number, "", id, self._drop(shard.number, id), why)


def load_of(state: ClusterState) -> PlacementLoad:
    """What the nodes hold, or will, of mail shards."""
    load = PlacementLoad()
    for shard in state.every_shard.values():
        if shard.number != ROOT_SHARD:
            held: list[str] = []
            for replica in shard.staying:
                load.add(replica.node, held)
                held.append(replica.node)
    return load


def counts(state: ClusterState) -> Mapping[str, int]:
    """How many replicas each node has or will have, of mail shards."""
    load = load_of(state).replicas
    return {name: load[name] for name in {*state.nodes, *load}}
