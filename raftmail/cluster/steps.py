"""What the controller sees (`Observed`) and what it has done (`Step`): values between
`controller.next_steps` and the node that carries them out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from raftmail.cluster.changes import Change
from raftmail.consensus.membership import Membership


@dataclass(frozen=True, slots=True)
class ObservedShard:
    """What a shard's master says of it, after a round that proved that it leads. `membership` is
    the committed one; `changing` tells of one that is not committed yet. `whole` are the replicas,
    its own among them, that answer and hold all that was committed a moment ago, bodies too:
    learners that can be promoted, voters that can be counted on. `able` are those of them that say
    that they may lead. `held` tells that an operator has had the mastership put there a moment
    ago."""

    master: str
    master_id: int
    membership: Membership
    changing: bool = False
    whole: frozenset[int] = frozenset()
    able: frozenset[int] = frozenset()
    size_bytes: int = 0
    held: bool = False


@dataclass(frozen=True, slots=True)
class ObservedNode:
    """`silent_s` is how long nothing was heard of it; `revision` that of the state it follows."""

    alive: bool
    silent_s: float = 0.0
    revision: int = 0


@dataclass(frozen=True, slots=True)
class Observed:
    """`commands` counts, for each shard, the commands of the last minutes by the node that clients
    gave them to. `users` has all users of the domains whose rule is being changed
    (`rules.to_pin`)."""

    shards: Mapping[int, ObservedShard]
    nodes: Mapping[str, ObservedNode]
    commands: Mapping[int, Mapping[str, int]] = field(default_factory=dict)
    users: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def alive(self, node: str) -> bool:
        found = self.nodes.get(node)
        return found is not None and found.alive


Seen: TypeAlias = tuple[tuple[int, ...], tuple[int, ...]]
"""The ids of the voters and learners that a step was decided by. It is carried out only while the
group has just these, so that a step that comes late, or twice, does nothing."""


@dataclass(frozen=True, slots=True)
class AddLearner:
    """Add replica `id` on `node`, which has it open and empty. The membership's `next_id` becomes
    `id` + 1; ids between were given up before they were used."""

    shard: int
    id: int
    node: str
    seen: Seen


@dataclass(frozen=True, slots=True)
class Promote:
    """Make learner `id` a voter. The master checks once more that it has caught up."""

    shard: int
    id: int
    seen: Seen


@dataclass(frozen=True, slots=True)
class RemoveReplica:
    """Take replica `id` out of the group; it is never the master's own."""

    shard: int
    id: int
    seen: Seen


@dataclass(frozen=True, slots=True)
class Transfer:
    """Have `node` lead the shard."""

    shard: int
    node: str
    why: str = ""


@dataclass(frozen=True, slots=True)
class WriteRecords:
    """Write a change to the root; one that is refused with CONFLICT is forgotten, for the next
    round decides anew."""

    change: Change
    why: str = ""


Step: TypeAlias = AddLearner | Promote | RemoveReplica | Transfer | WriteRecords


@dataclass(frozen=True, slots=True)
class StepLimits:
    """How much is done at once: replicas filling in all and by node, masters moved and records
    written in a round."""

    moves_max: int = 16
    moves_per_node_max: int = 2
    transfers_max: int = 8
    configures_max: int = 32
    give_up_s: float = 600.0
    """A joining replica whose node is silent for so long is made elsewhere."""
