"""How many connections each user has."""

from __future__ import annotations

from collections import Counter


class UserSeats:
    """Of one process. Who has a seat gives it back once."""

    def __init__(self) -> None:
        self._taken: Counter[str] = Counter()

    def take(self, user: str, most: int) -> bool:
        """One more connection of a user; False: it has so many already."""
        if self._taken[user] >= most:
            return False
        self._taken[user] += 1
        return True

    def give(self, user: str) -> None:
        """A connection of the user has ended."""
        left = self._taken[user] - 1
        if left > 0:
            self._taken[user] = left
        else:
            del self._taken[user]
