"""Descriptors that are kept open for nothing, so that a file can be opened when no more may be.

What the process may open is shared by files and connections. Connections are kept away from the
last ones (`net.gate`). These spares are for what is opened all the same, and for a machine whose
table of files is full. When they are used up as well, whoever wants a file is told that there is no
room, as on a full disk. It tries again later.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

LACKING = frozenset((errno.EMFILE, errno.ENFILE))
"""What the system says when nothing more can be opened. The file that was to be opened may be as
whole as ever."""

AT_A_TIME = 4


class Spares:
    """Invariant: `count` descriptors are open, all of them of /dev/null."""

    def __init__(self) -> None:
        self._held: list[int] = []

    @property
    def count(self) -> int:
        """How many there are now."""
        return len(self._held)

    def fill(self, wanted: int) -> int:
        """Have as many as that, or as many as can be had. Returns the number."""
        while len(self._held) < wanted:
            try:
                self._held.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
            except OSError:
                break
        return len(self._held)

    def let_go(self, count: int = AT_A_TIME) -> bool:
        """Close some; False when there are none."""
        if not self._held:
            return False
        for fd in self._held[-count:]:
            os.close(fd)
        del self._held[-count:]
        return True

    def opening(self, work: Callable[[], T]) -> T:
        """Do what opens something, with spares for what it needs. Raises what it raises."""
        while True:
            try:
                return work()
            except OSError as error:
                if error.errno not in LACKING or not self.let_go():
                    raise


SPARES = Spares()
"""Of this process. Nobody holds any before `fill`."""
