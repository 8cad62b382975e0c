"""Encoded words in header fields (RFC 2047).

They are decoded wherever they stand, also in quoted strings and with space in them. Senders write
them so, and other readers show them. Words that cannot be decoded stay as they are. Other text is
UTF-8 (RFC 6532) if it can be, else windows-1252.
"""

from __future__ import annotations

import binascii
import re

from raftmail.mail.charsets import codec_of, decode_text, guess
from raftmail.mail.transfer import decode_transfer

_WORD = re.compile(rb"=\?([^?\x00-\x20\x7f-\xff]{1,80})\?([bBqQ])\?([^?]*+)\?=").finditer


def decode_words(value: bytes) -> str:
    """An unfolded value with its encoded words decoded. Never raises."""
    if b"=?" not in value:
        return guess(value)
    out: list[str] = []
    joined: list[bytes] = []
    charset = b""
    position = 0
    for word in _WORD(value):
        if codec_of(word[1]) is None:
            continue
        between = value[position : word.start()]
        adjacent = bool(charset) and not between.strip()
        if not adjacent or word[1].lower() != charset:
            if charset:
                out.append(decode_text(b"".join(joined), charset))
            if not adjacent:
                out.append(guess(between))
            joined = []
            charset = word[1].lower()
        joined.append(_word_octets(word[2], word[3]))
        position = word.end()
    if charset:
        out.append(decode_text(b"".join(joined), charset))
    out.append(guess(value[position:]))
    return "".join(out)


def _word_octets(encoding: bytes, text: bytes) -> bytes:
    if encoding in b"bB":
        return decode_transfer(text, b"base64")
    return binascii.a2b_qp(text.replace(b"\r", b"").replace(b"\n", b""), header=True)
