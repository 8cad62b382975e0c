"""What this node's own replica of the root knows of users, without waiting: for what must be said
at once.

No barrier goes before: a user that is being removed may be known for as long as this replica lags.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from raftmail.cluster.rpc_server import NodeLinks
from raftmail.cluster.view import ROOT_SHARD
from raftmail.mail.queries import GetUser
from raftmail.shard.replica import Replica
from raftmail.shard.status import Capability
from raftmail.storage.records import IndexDamaged

KNOWN_MAX = 100_000
"""Users that are remembered; at the bound all are forgotten, and looked up again."""


class Rooted(Protocol):
    """What this needs of the router."""

    links: NodeLinks

    @property
    def replicas(self) -> Mapping[int, Replica]: ...
    @property
    def clock(self) -> Callable[[], float]: ...


@dataclass(slots=True, repr=False)
class OwnRoot:
    """Of one router. Invariant: `_known` is what the replica knew when it had applied `_at`."""

    router: Rooted
    _known: set[str] = field(default_factory=set)
    _at: int = 0

    @property
    def is_here(self) -> bool:
        """Whether this node has a replica of the root."""
        return ROOT_SHARD in self.router.replicas

    @property
    def can_be_read(self) -> bool:
        """Whether that replica may serve reads."""
        root = self.router.replicas.get(ROOT_SHARD)
        return root is not None and root.may(Capability.READ)

    @property
    def hears_leader(self) -> bool:
        """Whether it is told of what is new: who is not known then is not long there."""
        root = self.router.replicas.get(ROOT_SHARD)
        return root is not None and root.hears_leader(self.router.clock())

    def knows(self, user: str) -> bool:
        """Whether it knows a user; False also where it cannot tell."""
        root = self.router.replicas.get(ROOT_SHARD)
        if root is None:
            return False
        if self._at != root.applied_index:
            self._at = root.applied_index
            self._known.clear()
        if user in self._known:
            return True
        try:
            if root.query(GetUser(user)) is None:
                return False
        except IndexDamaged as e:
            root.index_damaged(e)
            self.router.links.wake(ROOT_SHARD)
            return False  # another node is asked
        if len(self._known) >= KNOWN_MAX:
            self._known.clear()
        self._known.add(user)
        return True
