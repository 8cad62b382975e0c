"""The lines in which SASL messages travel in IMAP (RFC 9051 section 6.2.2) and POP3 (RFC 5034)."""

from __future__ import annotations

import binascii
from typing import Final

LINE_BYTES_MAX: Final = 16 * 1024
"""A longer answer is refused; tokens of OAUTHBEARER are a few KiB."""


class SaslSyntaxError(Exception):
    """A line is no answer to a challenge; the text never repeats it."""


class SaslCancelled(Exception):
    """The client gave up, by `*`."""


def decode_answer(line: bytes) -> bytes:
    """The answer to a challenge. Raises `SaslSyntaxError`, `SaslCancelled`."""
    if line == b"*":
        raise SaslCancelled("the client gave the log-in up")
    return _decode(line)


def decode_initial(word: bytes) -> bytes:
    """What came with the command itself: `=` is the empty answer. Raises `SaslSyntaxError`."""
    if not word:
        raise SaslSyntaxError("an empty first answer is written =")
    return b"" if word == b"=" else _decode(word)


def encode(data: bytes) -> bytes:
    """A challenge in BASE64, without a line's end."""
    return binascii.b2a_base64(data, newline=False)


def _decode(text: bytes) -> bytes:
    if len(text) > LINE_BYTES_MAX:
        raise SaslSyntaxError(f"an answer has at most {LINE_BYTES_MAX} bytes")
    try:
        data = binascii.a2b_base64(text, strict_mode=True)
    except binascii.Error:
        raise SaslSyntaxError("an answer is BASE64 with its padding") from None
    if encode(data) != text:
        raise SaslSyntaxError("an answer is BASE64 whose last bits are zero")
    return data
