"""Appends that a follower cannot take yet, because blobs that their entries name are not here."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from raftmail.consensus.messages import Message


@dataclass(slots=True, repr=False)
class ParkedAppends:
    """Messages in the order they came, bounded in bytes (P7); what does not fit is sent again by
    the leader."""

    bytes_max: int
    held_bytes: int = 0
    _held: deque[tuple[float, Message, int]] = field(default_factory=deque)

    def __bool__(self) -> bool:
        return bool(self._held)

    def add(self, now: float, message: Message, size: int) -> bool:
        """False when there is no room."""
        if self.held_bytes + size > self.bytes_max:
            return False
        self._held.append((now, message, size))
        self.held_bytes += size
        return True

    def take_all(self) -> list[tuple[float, Message, int]]:
        """Everything, with when it came, to be looked at again."""
        held, self._held = self._held, deque()
        self.held_bytes = 0
        return list(held)

    def expire(self, before: float) -> None:
        """Drop everything when the oldest came before this time: the blobs do not come, the leader
        has to begin again."""
        if self._held and self._held[0][0] < before:
            self.clear()

    def clear(self) -> None:
        self._held.clear()
        self.held_bytes = 0
