"""Which replicas a node opens, keeps and gives up, by the cluster's state and by what it has made
itself. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from raftmail.cluster.records import ReplicaState, ShardRecord
from raftmail.cluster.state import ClusterState
from raftmail.consensus.membership import Membership


@dataclass(frozen=True, slots=True)
class Plan:
    """`open` maps shards to the ids of the replicas to run.

    `give_up` are shards whose replica here was taken out of the group. `lost` are shards of which
    this node should have a voter with a past, and has nothing.
    """

    open: Mapping[int, int]
    give_up: tuple[int, ...]
    lost: tuple[int, ...]


def plan(
    state: ClusterState, node: str, made: Mapping[int, int], lost: Mapping[int, int] | None = None
) -> Plan:
    """What a node that has made the replicas `made` (shard to id) should run. `lost` are those
    whose disk it lost: they are never begun again.

    A replica is given up when the shard's record is known to be younger than it and does not name
    it: a record that has given out no id above its own may be older. It was taken out of the group
    before the record forgot it. A voter is begun with an empty log only while the shard is founded.
    Afterwards an empty log is a lost disk, and would have forgotten what it voted and acknowledged.
    A replica that joins waits until the record names another that is there: alone, it would take
    itself for the whole group.
    """
    opened: dict[int, int] = {}
    gone: list[int] = []
    without: list[int] = []
    lost = lost or {}
    shards = state.every_shard
    for number, replica in made.items():
        shard = shards.get(number)
        if shard is None or replica in _ids(shard, node) or shard.next_id <= replica:
            opened[number] = replica
        else:
            gone.append(number)
    for number, shard in shards.items():
        if number in made:
            continue
        mine = [r for r in shard.on(node) if r.state is not ReplicaState.LEAVING]
        if any(r.id == lost.get(number) for r in mine):
            without.append(number)
            continue
        beginning = [
            r.id
            for r in mine
            if (r.state is ReplicaState.JOINING and _others(shard, r.id))
            or (shard.founding and r.state is ReplicaState.VOTER)
        ]
        if beginning:
            opened[number] = max(beginning)
        elif any(r.state is ReplicaState.VOTER for r in mine):
            without.append(number)
    return Plan(opened, tuple(gone), tuple(without))


def first_membership(state: ClusterState, number: int, replica: int, node: str) -> Membership:
    """Who a replica that is made now takes for its group, until its log tells: of a founder, what
    the group is founded with; of one that joins, those who are there and itself, as a learner. One
    that was made before knows better, and does not use it."""
    shard = state.find(ShardRecord, number)
    if shard is None:
        return Membership.founding({replica: node})
    if shard.founding:
        voters = {r.id: r.node for r in shard.replicas if r.state is ReplicaState.VOTER}
        return Membership(voters or {replica: node}, {}, max(shard.next_id, replica + 1))
    there = _others(shard, replica)
    if not there:
        return Membership.founding({replica: node})  # it was made before: see `plan`
    return Membership(there, {replica: node}, max(shard.next_id, replica + 1))


def _others(shard: ShardRecord, replica: int) -> dict[int, str]:
    """The other replicas that are in the group already."""
    return {
        r.id: r.node
        for r in shard.replicas
        if r.state is not ReplicaState.JOINING and r.id != replica
    }


def _ids(shard: ShardRecord, node: str) -> set[int]:
    return {replica.id for replica in shard.on(node)}
