"""What routing needs to know of the cluster: which nodes there are, and where each shard's replicas
and users are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from raftmail.cluster.records import ROOT_SHARD

__all__ = ["ROOT_SHARD", "ClusterView"]


class ClusterView(Protocol):
    """The cluster at one revision. A newer one replaces it whole (`Router.follow`)."""

    @property
    def revision(self) -> int:
        """Rises with every change of the cluster; 0 before the root has written anything."""

    @property
    def nodes(self) -> Sequence[str]:
        """The names of the nodes that take part, sorted."""

    @property
    def shards(self) -> Sequence[int]:
        """The numbers of all shards, sorted; 0 is the root."""

    def members(self, shard: int) -> Sequence[str]:
        """The nodes that have a replica of a shard; empty when there is no such shard."""

    def shard_of(self, user: str) -> int:
        """The shard that holds a user's mail."""

    def quota_of(self, user: str) -> int:
        """How many bytes all messages of a user may have together; 0: there is no limit."""

    def delivered_to(self, address: str) -> Sequence[str]:
        """The addresses that mail for an address goes to: itself, when it is no alias."""

    def catch_all(self, address: str) -> str:
        """Who gets mail for an address of the same domain that nobody has; "": nobody."""
