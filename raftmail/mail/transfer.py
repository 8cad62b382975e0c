"""Content-Transfer-Encoding undone (RFC 2045 section 6).

Whatever the bytes are, they decode to something: readers of mail are better served by most of a
damaged part than by none of it. Only an encoding that nobody knows is an error.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator
from typing import Final

TRANSPARENT: Final = frozenset((b"7bit", b"8bit", b"binary"))
"""Encodings that leave the bytes as they are."""

_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_NOT_BASE64 = bytes(set(range(256)) - set(_BASE64))
_SPACE_BEFORE_LINE_END = re.compile(rb"(?<![ \t])[ \t]++(?=\r?\n)").sub
_CUT = re.compile(rb"\n|[^=\s]{2}").search
"""Where quoted-printable can be cut: behind a line, or behind two octets that belong to no sequence
and to no space at the end of a line."""
_AT_ONCE_BYTES = 64 * 1024
"""What is decoded together, so that other threads have their turn. Each line that ends in space
costs an object for that time."""


class UnknownEncodingError(ValueError):
    """A part has a transfer encoding that nobody here knows. Its bytes can be read as they are."""


def decode_transfer(data: bytes, encoding: bytes) -> bytes:
    """The bytes of a part without its transfer encoding, named as `mime.transfer_encoding` does.

    Raises UnknownEncodingError for any but base64, quoted-printable, 7bit, 8bit and binary.
    """
    if encoding in TRANSPARENT:
        return data
    if encoding == b"base64":
        return _base64(data)
    if encoding == b"quoted-printable":
        return _quoted_printable(data)
    raise UnknownEncodingError(
        f"transfer encoding {encoding.decode('ascii', 'replace')} is unknown; read the part raw"
    )


def _base64(data: bytes) -> bytes:
    """What is no digit is passed over. The first padding ends the data (RFC 2045 section 6.8)."""
    try:
        return binascii.a2b_base64(data)
    except binascii.Error:
        digits = data.translate(None, _NOT_BASE64)
        whole = len(digits) - (len(digits) % 4 == 1)
        return binascii.a2b_base64(digits[:whole] + b"=" * (-whole % 4))


def _quoted_printable(data: bytes) -> bytes:
    """Space at the end of a line goes, and `=` before what is no octet stays (RFC 2045 section
    6.7)."""
    return b"".join(map(_quoted_piece, _pieces(data)))


def _quoted_piece(data: bytes) -> bytes:
    if b" \n" in data or b"\t\n" in data or b" \r\n" in data or b"\t\r\n" in data:
        data = _SPACE_BEFORE_LINE_END(b"", data)
    if b"=\r" in data:
        # What follows `=` and a CR up to the next LF would be lost if they did not touch.
        data = data.replace(b"=\r\n", b"=\n").replace(b"=\r", b"=3D\r")
    return binascii.a2b_qp(data)


def _pieces(data: bytes) -> Iterator[bytes]:
    """The data in pieces of about `_AT_ONCE_BYTES`, each of which can be decoded by itself."""
    start = 0
    while start < len(data):
        found = _CUT(data, start + _AT_ONCE_BYTES)
        end = len(data) if found is None else found.end()
        yield data[start:end]
        start = end
