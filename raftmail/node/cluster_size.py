"""How much of a cluster one process has to do with, as far as its memory depends on it (`budget`).

The configuration tells with what the cluster began. Shards and nodes come later, too: the cluster's
state tells of those.
"""

from __future__ import annotations

from dataclasses import dataclass

from raftmail.cluster.state import ClusterState
from raftmail.node.config import Config


@dataclass(frozen=True, slots=True)
class ClusterSize:
    """Of one process: `replicas` are its own, the root's among them; `others` are the processes
    that it has links to."""

    replicas: int
    others: int


def first_size(config: Config) -> ClusterSize:
    """What the configuration tells: all shards with which the cluster began, and all its nodes."""
    processes = sum(member.workers for member in config.cluster.nodes.values())
    return ClusterSize(config.cluster.shards + 1, max(1, processes - 1))


def size_in(state: ClusterState, config: Config) -> ClusterSize:
    """What a state of the cluster tells, or the configuration where that is more."""
    first, name = first_size(config), config.node.name
    replicas = sum(1 for shard in state.every_shard.values() if shard.on(name))
    others = sum(1 for node in state.nodes if node != name)
    return ClusterSize(max(first.replicas, replicas), max(first.others, others))
