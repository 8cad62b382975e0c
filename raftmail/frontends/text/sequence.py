"""Sequence numbers of a client id and the floor below them (P3)."""

from __future__ import annotations


class SequenceWindow:
    """Gives sequence numbers, and knows the highest floor that passes over none without an
    answer.

    Invariant: every number at or below `floor` was given by `take` and released. Memory is bounded
    by the numbers given and not released, and those released above the oldest of them.
    """

    __slots__ = ("_released", "floor", "last")

    def __init__(self, last: int = 0) -> None:
        self.floor = last
        self.last = last
        self._released: set[int] = set()

    def take(self) -> int:
        """The next number."""
        self.last += 1
        return self.last

    def release(self, number: int) -> None:
        """The number has its answer, or is given up."""
        if number != self.floor + 1:
            self._released.add(number)
            return
        released = self._released
        while released and number + 1 in released:
            number += 1
            released.remove(number)
        self.floor = number

    @property
    def outstanding(self) -> int:
        """Numbers taken and not released."""
        return self.last - self.floor - len(self._released)
