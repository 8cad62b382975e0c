"""A few at once, and whoever waits has a turn after those of others: no one's crowd keeps others
out."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class FairTurns:
    """Work that only so many may do at once. Those who wait stand in a line for each name, and the
    lines take turns.

    Invariant: while somebody waits, none is free."""

    def __init__(self, at_once_max: int) -> None:
        self._free = at_once_max
        self._lines: dict[str, deque[asyncio.Future[None]]] = {}

    @property
    def waiting(self) -> int:
        """How many wait."""
        return sum(map(len, self._lines.values()))

    @asynccontextmanager
    async def turn(self, name: str) -> AsyncIterator[None]:
        """Wait for a turn, and have it until the end of the block."""
        if self._free:
            self._free -= 1
        else:
            await self._wait(name)
        try:
            yield
        finally:
            self._pass_on()

    async def _wait(self, name: str) -> None:
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._lines.setdefault(name, deque()).append(mine)
        try:
            await mine
        except asyncio.CancelledError:
            if mine.done() and not mine.cancelled():
                self._pass_on()  # it was given, and is not taken
            else:
                self._leave(name, mine)
            raise

    def _leave(self, name: str, mine: asyncio.Future[None]) -> None:
        line = self._lines.get(name)
        if line is not None and mine in line:
            line.remove(mine)
            if not line:
                del self._lines[name]

    def _pass_on(self) -> None:
        while self._lines:
            name = next(iter(self._lines))
            line = self._lines.pop(name)
            first = line.popleft()
            if line:
                self._lines[name] = line  # behind the others
            if not first.done():
                first.set_result(None)
                return
        self._free += 1
