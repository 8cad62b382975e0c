"""Bytes that work holds, where what has no room waits for it, in order."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class ByteSemaphore:
    """Invariants: the holders have at most `bytes_max` bytes together, or there is one holder; who
    came first is served first."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        self.used_bytes = 0

    @asynccontextmanager
    async def taken(self, size_bytes: int) -> AsyncIterator[None]:
        """Hold so many bytes, after waiting until there is room."""
        if self._waiting or not self._fits(size_bytes):
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append((size_bytes, turn))
            try:
                await turn
            except asyncio.CancelledError:
                # It may have been served in the moment in which it gave up; or others were waiting
                # behind it.
                self._give(size_bytes if turn.done() and not turn.cancelled() else 0)
                raise
        else:
            self.used_bytes += size_bytes
        try:
            yield
        finally:
            self._give(size_bytes)

    def _fits(self, size_bytes: int) -> bool:
        return not self.used_bytes or self.used_bytes + size_bytes <= self._bytes_max

    def _give(self, size_bytes: int) -> None:
        self.used_bytes -= size_bytes
        while self._waiting:
            size, turn = self._waiting[0]
            if turn.done():
                self._waiting.popleft()  # it was cancelled
            elif self._fits(size):
                self._waiting.popleft()
                self.used_bytes += size
                turn.set_result(None)
            else:
                return
