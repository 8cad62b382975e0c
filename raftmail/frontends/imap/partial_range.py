"""The range of PARTIAL (RFC 9394 section 3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PartialRange:
    """Which of the results are meant, from 1 on, or with `from_end` from the last, which is 1,
    back. `start` may be larger than `stop`: both orders are the same."""

    start: int
    stop: int
    from_end: bool

    def of(self, results: Sequence[T]) -> Sequence[T]:
        """Those of results that are in the range, in their order."""
        first, last = self.among(len(results))
        return results[first - 1 : last]

    def among(self, count: int) -> tuple[int, int]:
        """The first and the last of so many results that are in the range; the last is before the
        first when none is."""
        low, high = min(self.start, self.stop), max(self.start, self.stop)
        if self.from_end:
            low, high = count - high + 1, count - low + 1
        first = max(low, 1)
        return first, max(min(high, count), first - 1)

    def shown(self) -> bytes:
        """As the client wrote it."""
        return (b"-%d:-%d" if self.from_end else b"%d:%d") % (self.start, self.stop)
