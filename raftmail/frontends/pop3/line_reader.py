"""Bytes to lines: what a client sends before it is a command."""

from __future__ import annotations


class Pop3LineTooLong(Exception):
    """A line passes the limit: what follows cannot be understood."""


class Pop3LineReader:
    """Takes bytes as they come, gives lines without their ends. A line ends at LF; a CR before it
    belongs to the end.

    Invariant: what it holds is what was fed and not taken."""

    def __init__(self, line_bytes_max: int) -> None:
        self.line_bytes_max = line_bytes_max
        self._data = bytearray()
        self._at = 0
        self._searched = 0

    @property
    def unread_bytes(self) -> int:
        """What was not taken."""
        return len(self._data) - self._at

    def feed(self, data: bytes) -> None:
        """Add what was received."""
        if self._at:
            del self._data[: self._at]
            self._searched -= self._at
            self._at = 0
        self._data += data

    def take(self) -> bytes | None:
        """The next line; None until it has come. Raises `Pop3LineTooLong`."""
        end = self._data.find(b"\n", max(self._at, self._searched))
        if (len(self._data) if end < 0 else end) - self._at > self.line_bytes_max:
            raise Pop3LineTooLong
        if end < 0:
            self._searched = len(self._data)
            return None
        line = bytes(self._data[self._at : end])
        self._at = self._searched = end + 1
        return line.removesuffix(b"\r")

    def clear(self) -> None:
        """Forget what was not taken."""
        self._data.clear()
        self._at = self._searched = 0
