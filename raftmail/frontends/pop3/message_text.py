"""A message as it goes out after RETR and TOP: its dots, its end, and as much of it as is wanted.

A line ends at LF here, with or without a CR before it. A client that takes LF alone for the end of
a line would take the dot behind it for the end of the message. So each line start is stuffed, and
clients that take off what they find there get the octets that are stored (RFC 1939 section 3).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

PIECE_BYTES: Final = 64 * 1024
"""What is looked at and sent in one turn of the loop."""

END: Final = b".\r\n"


def pieces(message: bytes, body_lines: int | None = None) -> Iterator[bytes]:
    """The message with its end, in pieces. With `body_lines` it is the header, the empty line, and
    so many lines of the body (TOP, RFC 1939 section 7)."""
    top = None if body_lines is None else _Top(message, body_lines)
    at_line_start = True
    last = b"\r\n"
    for at in range(0, len(message), PIECE_BYTES):
        stop = min(at + PIECE_BYTES, len(message))
        if top is not None:
            stop = top.cut(at, stop)
        piece = message[at:stop]
        if piece:
            last = (last + piece[-2:])[-2:]
            yield _stuffed(piece, at_line_start=at_line_start)
            at_line_start = piece.endswith(b"\n")
        if top is not None and top.is_done:
            break
    yield END if last == b"\r\n" else b"\r\n" + END


def _stuffed(piece: bytes, *, at_line_start: bool) -> bytes:
    stuffed = piece.replace(b"\n.", b"\n..")
    return b"." + stuffed if at_line_start and piece.startswith(b".") else stuffed


class _Top:
    """How far TOP goes. Each piece is looked at once."""

    def __init__(self, message: bytes, lines: int) -> None:
        self._message = message
        self._lines_left = lines
        self._in_header = True
        self.is_done = False

    def cut(self, at: int, stop: int) -> int:
        """Where what is sent of this piece ends."""
        if self._in_header:
            end = self._header_end(at, stop)
            if end is None:
                return stop
            self._in_header = False
            at = end
        message, left = self._message, self._lines_left
        found = message.count(b"\n", at, stop)
        if found < left:
            self._lines_left = left - found
            return stop
        for _ in range(left):
            at = message.index(b"\n", at) + 1
        self.is_done = True
        return at

    def _header_end(self, at: int, stop: int) -> int | None:
        """Just behind the empty line that ends the header, if it ends in this piece."""
        message = self._message
        if at < len(b"\r\n") and message.startswith((b"\n", b"\r\n")):
            end = message.index(b"\n") + 1
            return end if at < end <= stop else None
        ends = []
        for empty in (b"\n\n", b"\n\r\n"):
            # The beginning of the empty line may be in the piece before.
            found = message.find(empty, max(0, at - len(empty) + 1), stop)
            if found >= 0:
                ends.append(found + len(empty))
        return min(ends, default=None)
