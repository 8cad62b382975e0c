"""What the replicas of a node hold of requests and bodies: one pool for all of them (P7)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from raftmail.mail.budget import Budget
from raftmail.storage.column_pool import ColumnPool

_QUEUED_BYTES_MAX: Final = 2 << 20


def _nothing(_node: str) -> int:
    """Where there are no links that could be slow."""
    return 0


@dataclass(slots=True, repr=False)
class Memory:
    """Made once for a node, and given to each of its replicas.

    `waiting` is of requests that wait to be proposed, with their bodies; `arrived` of long bodies
    from other nodes that wait to be stored. `sending_bytes_max` bounds the long bodies that one
    node was sent and has not acknowledged; one always may be on its way. `columns` are those of
    messages that were listed or searched.

    Invariant: `arrived.bytes_max` is enough for what the other nodes may send at once. So bodies
    are dropped only when a link was lost and is up again.
    """

    waiting: Budget = field(default_factory=lambda: Budget(128 << 20))
    arrived: Budget = field(default_factory=lambda: Budget(160 << 20))
    sending_bytes_max: int = 64 << 20
    columns: ColumnPool = field(default_factory=ColumnPool)
    queued_bytes: Callable[[str], int] = _nothing
    """What is queued for a node, and nothing overtakes."""
    _sending: dict[str, int] = field(default_factory=dict)

    def expect(self, others: int) -> None:
        """So many other nodes may send long bodies: there is room for those of each. It never
        shrinks, since what a node sent may be here when it has left."""
        self.arrived.bytes_max = max(self.arrived.bytes_max, others * self.sending_bytes_max)

    def begin_sending(self, node: str, size: int) -> bool:
        """Whether a long body may be sent to a node now; it then counts until `end_sending`."""
        sent = self._sending.get(node, 0)
        if sent and sent + size > self.sending_bytes_max:
            return False
        self._sending[node] = sent + size
        return True

    def has_room(self, node: str) -> bool:
        """Whether short bodies that a node asked for may be queued for it: more than the link may
        hold would end it."""
        return self.queued_bytes(node) < _QUEUED_BYTES_MAX

    def end_sending(self, node: str, size: int) -> None:
        """A node has what it was sent, or it is lost."""
        self._sending[node] -= size
