"""DEFLATE over both directions of a connection (RFC 1951, as RFC 4978 uses it), piece by piece."""

from __future__ import annotations

import zlib

INFLATED_BYTES_MAX = 64 * 1024
"""Inflated for one connection in one turn of the loop."""

_LEVEL = 3
_NO_HEADER = -15


class NotDeflate(Exception):
    """What came is not DEFLATE."""


class Deflate:
    """Both directions of one connection. It holds what came and was not inflated yet."""

    __slots__ = ("_deflate", "_inflate", "_unread")

    def __init__(self) -> None:
        self._deflate = zlib.compressobj(_LEVEL, zlib.DEFLATED, _NO_HEADER)
        self._inflate = zlib.decompressobj(_NO_HEADER)
        self._unread = b""

    def compress(self, data: bytes) -> bytes:
        """What is sent for `data`; the other side can read all of it at once."""
        return self._deflate.compress(data) + self._deflate.flush(zlib.Z_SYNC_FLUSH)

    def feed(self, data: bytes) -> None:
        """Take what came."""
        self._unread += data

    def piece(self) -> bytes:
        """The next at most `INFLATED_BYTES_MAX` bytes; none: all is inflated. Raises
        `NotDeflate`."""
        try:
            piece = self._inflate.decompress(self._unread, INFLATED_BYTES_MAX)
        except zlib.error:
            raise NotDeflate from None
        self._unread = self._inflate.unconsumed_tail
        return piece
