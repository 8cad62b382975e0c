"""Bytes that many hold together, within a limit (P7)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True, repr=False)
class Budget:
    """Bytes that all who share it hold in memory.

    Invariant: 0 <= used_bytes <= bytes_max."""

    bytes_max: int
    used_bytes: int = 0

    def take(self, count: int) -> bool:
        """Reserve, or say False and reserve nothing."""
        if self.used_bytes + count > self.bytes_max:
            return False
        self.used_bytes += count
        return True

    def give(self, count: int) -> None:
        """Give back what was taken."""
        self.used_bytes -= count
