"""BODY from BODYSTRUCTURE: the same list without the extension data (RFC 3501 section 7.4.2)."""

import re

_NEXT = re.compile(
    rb'[ ]?+(?:"(?:[^"\\]++|\\.)*+"|\{(\d+)\}\r\n|(\()|(\))|[^ ()]++)', re.DOTALL
).match
_TEXT = b'("text" '
_MESSAGES = (b'("message" "rfc822" ', b'("message" "global" ')
_FIELDS = 7
"""Type, subtype, parameters, id, description, encoding, octets (body-type-basic)."""


def body_from(bodystructure: bytes) -> bytes:
    """The BODY list for a finished BODYSTRUCTURE list, as `summarise` writes it.

    Raises ValueError for anything that is not such a list.
    """
    return _body(bodystructure, 0)[0]


def _skip(data: bytes, position: int, depth: int = 0) -> int:
    """Offset after the value at `position`, or after the bracket that closes `depth` of them."""
    while True:
        match = _NEXT(data, position)
        if match is None:
            raise ValueError(f"BODYSTRUCTURE is not a finished list: no value at byte {position}")
        position = match.end()
        literal_bytes, opened, closed = match.groups()
        if literal_bytes is not None:
            position += int(literal_bytes)
        depth += (opened is not None) - (closed is not None)
        if depth == 0:
            return position


def _body(data: bytes, start: int) -> tuple[bytes, int]:
    """The BODY list for the list that begins at `start`, and the offset after the latter."""
    position = start + 1
    if data[position : position + 1] == b"(":
        parts = []
        while data[position : position + 1] == b"(":
            part, position = _body(data, position)
            parts.append(part)
        end = _skip(data, position)
        return b"(%b%b)" % (b"".join(parts), data[position:end]), _skip(data, end, 1)
    for _ in range(_FIELDS):
        position = _skip(data, position)
    if data.startswith(_MESSAGES, start):
        envelope_end = _skip(data, position)
        inner, position = _body(data, envelope_end + 1)
        end = _skip(data, position)
        return (
            b"%b %b%b)" % (data[start:envelope_end], inner, data[position:end]),
            _skip(data, end, 1),
        )
    if data.startswith(_TEXT, start):
        position = _skip(data, position)
    return data[start:position] + b")", _skip(data, position, 1)
