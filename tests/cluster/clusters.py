"""What tests of the cluster room share: small clusters, and moves carried out at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from raftmail.cluster import records as rec
from raftmail.cluster.moves import Move
from raftmail.cluster.state import ClusterState, genesis

ID = "0" * 32


def nodes(count: int, zones: int = 0, **fields: object) -> list[rec.NodeRecord]:
    made = []
    for at in range(count):
        node = rec.NodeRecord(
            f"n{at:02}", f"127.0.0.1:{7000 + at}", zone=f"z{at % zones}" if zones else ""
        )
        made.append(replace(node, **fields))  # type: ignore[arg-type]
    return made


def cluster(count: int, zones: int = 0, shards: int = 8, replication: int = 3) -> ClusterState:
    """A new cluster as the root has it after its first revision."""
    state = genesis(ID, nodes(count, zones), shards, replication)
    return put(ClusterState(), *(r for table in state.tables.values() for r in table.values()))


def put(state: ClusterState, *made: rec.Record) -> ClusterState:
    return state.with_puts([(rec.key_of(record), rec.encode(record)) for record in made])


def carried_out(state: ClusterState, moves: Iterable[Move]) -> ClusterState:
    """The state after moves, as if each were done in no time."""
    shards = dict(state.every_shard)
    for move in moves:
        shard = shards[move.shard]
        replicas = [replica for replica in shard.replicas if replica.id != move.source_id]
        if move.target:
            replicas.append(rec.ReplicaRecord(shard.next_id, move.target, rec.ReplicaState.VOTER))
        shards[move.shard] = replace(
            shard, replicas=tuple(replicas), next_id=shard.next_id + bool(move.target)
        )
    return put(state, *shards.values())


def zones_of(state: ClusterState, names: Sequence[str]) -> list[str]:
    return [state.every_node[name].zone for name in names]


def may_add_users(state: ClusterState, domain: str) -> bool:
    """Whether users can be made in a domain now: not while its rule is being changed."""
    rule = state.find(rec.RuleRecord, domain)
    return rule is None or rule.state is rec.RuleState.ACTIVE
