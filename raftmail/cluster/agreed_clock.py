"""What time it is at least, by several nodes: for what cannot be undone once a clock was wrong."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

AHEAD_S: Final = 3600.0
"""A clock that is so far ahead of where it should be has jumped."""

BELIEVED_S: Final = 86_400.0
"""A jump ahead is believed after so long."""


def earliest(members: Iterable[str], clocks: Mapping[str, float]) -> float | None:
    """The clock that is furthest behind of those of a group's members; None unless a majority of
    them told theirs. So one clock that is ahead does nothing, and one that is behind makes
    everybody wait."""
    names = list(members)
    heard = [clocks[name] for name in names if name in clocks]
    return min(heard) if 2 * len(heard) > len(names) else None


@dataclass(slots=True, repr=False)
class JumpGuard:
    """Holds a clock back that all at once is far ahead of where it was.

    Invariant: between two readings the time goes on by no more than what passed and `AHEAD_S`,
    unless a jump has lasted for `BELIEVED_S`."""

    _unix_s: float = 0.0
    _at: float = 0.0
    _jumped_at: float | None = None
    _began: bool = False

    def read(self, now: float, unix_s: float) -> float:
        """The time to go by. `now` is of a clock that never jumps, `unix_s` what others say."""
        expected = self._unix_s + now - self._at
        if self._began and unix_s > expected + AHEAD_S:
            if self._jumped_at is None:
                self._jumped_at = now
            if now - self._jumped_at < BELIEVED_S:
                return expected
        self._began, self._jumped_at = True, None
        self._unix_s, self._at = unix_s, now
        return unix_s

    @property
    def has_jumped(self) -> bool:
        """Whether the clock is held back now."""
        return self._jumped_at is not None
