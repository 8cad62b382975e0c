"""Header fields as people read them, for searching and sorting.

Text is compared in folded form (`fold`). That uses Python's Unicode tables, which search may: it is
no part of the state machine, and what it finds is kept nowhere.
"""

from __future__ import annotations

import re
from typing import Final
from unicodedata import normalize
from urllib.parse import unquote_to_bytes

from raftmail.mail.charsets import decode_text
from raftmail.mail.encoded_words import decode_words
from raftmail.mail.headers import unfold

_ESCAPED = re.compile(r"\\(.)", re.DOTALL).sub
_MARKED = re.compile("\\w[\u0300-\u036f]{1,8}").sub
_MARK = re.compile("[\u0300-\u036f]").search

VALUE_BYTES_MAX: Final = 256 * 1024
"""Of a longer value only so much is decoded."""

_WITH_PARAMETERS: Final = frozenset((b"content-type", b"content-disposition"))
_EXTENDED = re.compile(
    rb""";[ \t]*+([^\s=;*"]{1,64}+)\*(?:([0-9]{1,3}+)(\*)?)?[ \t]*+=[ \t]*+
    (?: "((?:[^"\\]++|\\.)*+)\\?"? | ([^;]*+) )""",
    re.VERBOSE | re.DOTALL,
).findall


def fold(text: str) -> str:
    """Text as it is compared: without case, and letters with their accents as one character.

    Only common accents (U+0300 to U+036F) are joined to their letters, eight at most to each. So
    the time does not depend on what the text is.
    """
    if text.isascii():
        return text.lower()
    folded = text.casefold()
    if _MARK(folded) is not None:
        return _MARKED(lambda found: normalize("NFC", found[0]), folded)
    return folded


def decode_field(name: bytes, raw: bytes) -> str:
    """The raw value of a field (see `read_fields`) as it is searched.

    At most `VALUE_BYTES_MAX` of it are read. Escaped characters come twice, as they are and
    without their escapes. Parameters in other charsets or in pieces (RFC 2231) come after the
    value, each on a line of its own.
    """
    value = unfold(raw[:VALUE_BYTES_MAX])
    text = decode_words(value)
    if "\\" in text:
        text += "\n" + _ESCAPED(r"\1", text)
    if b"*" in value and name.lower() in _WITH_PARAMETERS:
        text = "\n".join((text, *_extended_parameters(value)))
    return text


def _extended_parameters(value: bytes) -> list[str]:
    """The values of parameters that RFC 2231 encodes or cuts in pieces."""
    pieces: dict[bytes, list[tuple[int, bytes]]] = {}
    charsets: dict[bytes, bytes] = {}
    for name, number, encoded, quoted, plain in _EXTENDED(value):
        key = name.lower()
        piece = quoted or plain.strip()
        if encoded or not number:
            if int(number or 0) == 0 and piece.count(b"'") >= 2:
                charsets[key], _, piece = piece.split(b"'", 2)
            piece = unquote_to_bytes(piece)
        pieces.setdefault(key, []).append((int(number or 0), piece))
    return [
        decode_text(b"".join(piece for _, piece in sorted(found)), charsets.get(key, b""))
        for key, found in pieces.items()
    ]
