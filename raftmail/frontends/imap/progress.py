"""How far a long command is, told while it is under way (RFC 9585)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

TOLD_EVERY_S: Final = 10.0
"""RFC 9585 section 4: clients that wait need no more."""


class CommandProgress:
    """`goal` is how many messages the command looks at. `clock` counts seconds."""

    def __init__(
        self, write: Callable[[bytes], None], tag: bytes, goal: int, clock: Callable[[], float]
    ) -> None:
        self._write = write
        self._tag = tag
        self._goal = goal
        self._clock = clock
        self._told_at = clock()
        self._done = 0

    def add(self, messages: int) -> None:
        """So many messages more were looked at."""
        self._done += messages
        now = self._clock()
        if now - self._told_at >= TOLD_EVERY_S and 0 < self._done < self._goal:
            self._told_at = now
            self._write(
                b'* OK [INPROGRESS ("%b" %d %d)] this takes a while\r\n'
                % (self._tag, self._done, self._goal)
            )
