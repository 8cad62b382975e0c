"""Which nodes hold a new shard.

Each replica goes, in this order of importance,

1. to a zone that has the fewest replicas of the shard, so that they are in different zones when
   there are enough;
2. to a machine that has the fewest, so that no two are on one host when there are enough hosts;
3. to a node that holds little for its capacity (within `SLACK` replicas of the least);
4. to a node that shares the fewest shards with those already chosen. So what a node led is spread
   over all others when it fails;
5. by rendezvous hashing (the highest hash of shard and node), so that nothing depends on the order
   of names.

Placements are written down (`Shard.replicas`), not computed again: a hash alone spreads unevenly,
and moves more than it must when a node comes (docs/scaling.md has figures). `moves` changes what is
written as little as it can. Only whole numbers are compared, for every node has to come to the same
genesis.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from raftmail.cluster.records import NodeRecord

SLACK = 1
_RATIO = 1_000_000


@dataclass(frozen=True, slots=True)
class PlacementNode:
    """A node as placement sees it; `zone` and `machine` are what fails together."""

    name: str
    zone: str
    machine: tuple[str, str]
    capacity: int

    @staticmethod
    def of(node: NodeRecord) -> PlacementNode:
        return PlacementNode(node.name, node.zone, node.machine, max(1, node.capacity))


def rendezvous(shard: int, node: str) -> int:
    """The hash by which a shard prefers nodes."""
    return int.from_bytes(
        hashlib.blake2b(b"%d %b" % (shard, node.encode()), digest_size=8).digest(), "big"
    )


@dataclass(slots=True, repr=False)
class PlacementLoad:
    """How many replicas each node holds, and how many shards each two nodes share."""

    replicas: Counter[str] = field(default_factory=Counter)
    shared: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, node: str, others: Iterable[str], count: int = 1) -> None:
        """A replica on `node` of a shard that `others` hold; -1 takes it away."""
        self.replicas[node] += count
        for other in others:
            self.shared[_pair(node, other)] += count

    def together(self, node: str, others: Iterable[str]) -> int:
        """How many shards a node shares with others."""
        return sum(self.shared[_pair(node, other)] for other in others)

    def ratio(self, place: PlacementNode, more: int = 0) -> int:
        """What a node holds, and `more`, in proportion to its capacity."""
        return (self.replicas[place.name] + more) * _RATIO // place.capacity


def _pair(a: str, b: str) -> tuple[str, str]:
    return (a, b) if a < b else (b, a)


def choose(
    shard: int, places: Sequence[PlacementNode], held: Sequence[PlacementNode], load: PlacementLoad
) -> PlacementNode | None:
    """The best node for one replica more of a shard that the nodes `held` have; None when all have
    one."""
    names = {place.name for place in held}
    free = [place for place in places if place.name not in names]
    if not free:
        return None
    zones = Counter(place.zone for place in held)
    machines = Counter(place.machine for place in held)
    apart = min((zones[place.zone], machines[place.machine]) for place in free)
    free = [place for place in free if (zones[place.zone], machines[place.machine]) == apart]
    least = min(load.ratio(place) for place in free)
    free = [place for place in free if load.ratio(place, -SLACK) <= least]
    return min(
        free,
        key=lambda place: (
            load.together(place.name, names),
            load.ratio(place),
            -rendezvous(shard, place.name),
            place.name,
        ),
    )


def place(
    places: Sequence[PlacementNode],
    shards: Iterable[int],
    replication: int,
    load: PlacementLoad | None = None,
) -> dict[int, list[str]]:
    """Nodes for new shards, as many as `replication` says or there are. `load` is what the nodes
    hold already; it grows."""
    load = PlacementLoad() if load is None else load
    placed: dict[int, list[str]] = {}
    for shard in shards:
        held: list[PlacementNode] = []
        while len(held) < replication:
            best = choose(shard, places, held, load)
            if best is None:
                break
            load.add(best.name, [other.name for other in held])
            held.append(best)
        placed[shard] = [one.name for one in held]
    return placed


def apart(places: Sequence[PlacementNode]) -> tuple[int, int]:
    """How badly nodes share zones and machines: replicas beyond the first in each, squared so that
    three in one are worse than two pairs. The lower the better."""
    zones = Counter(one.zone for one in places)
    machines = Counter(one.machine for one in places)
    return sum(n * n for n in zones.values()), sum(n * n for n in machines.values())
