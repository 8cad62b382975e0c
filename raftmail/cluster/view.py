"""What routing needs to know of the cluster: which nodes there are, and where each shard's replicas and users are."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

ROOT_SHARD = 0


class View(Protocol):
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


@dataclass(frozen=True, slots=True)
class FirstView:
    """A cluster in which every node has a replica of every shard."""

    nodes: Sequence[str]
    mail_shards: int
    revision: int = 0

    @property
    def shards(self) -> Sequence[int]:
        return range(self.mail_shards + 1)

    def members(self, shard: int) -> Sequence[str]:
        return self.nodes if 0 <= shard <= self.mail_shards else ()

    def shard_of(self, user: str) -> int:
        return 1 + _hash_of(user) % self.mail_shards


@lru_cache(maxsize=65536)
def _hash_of(user: str) -> int:
    return int.from_bytes(hashlib.blake2b(user.encode(), digest_size=8).digest(), "big")
