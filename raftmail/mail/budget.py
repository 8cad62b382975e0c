"""Bytes that many hold together, within a limit (P7)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

SHORT_BYTES_MAX: Final = 64 << 10
"""What is longer leaves the reserve alone."""


@dataclass(slots=True, repr=False)
class Budget:
    """Bytes that all who share it hold in memory. `reserve_bytes` of them are for what is short:
    long mail never fills all of it.

    Invariant: 0 <= used_bytes, and used_bytes <= bytes_max but for what `hold` counted."""

    bytes_max: int
    used_bytes: int = 0
    reserve_bytes: int = 0

    @property
    def long_bytes_max(self) -> int:
        """What long ones may have together."""
        return self.bytes_max - self.reserve_bytes

    def take(self, count: int) -> bool:
        """Reserve, or say False and reserve nothing."""
        reserve = self.reserve_bytes if count > SHORT_BYTES_MAX else 0
        if self.used_bytes + count + reserve > self.bytes_max:
            return False
        self.used_bytes += count
        return True

    def hold(self, count: int) -> None:
        """Count what is in memory already, also over the limit: whoever holds it stops to take
        more."""
        self.used_bytes += count

    def give(self, count: int) -> None:
        """Give back what was taken."""
        self.used_bytes -= count
