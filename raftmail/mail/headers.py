"""Header fields: where a header ends, which fields matter, and how a value is written for IMAP.

A line ends at LF, with or without a CR before it; a bare CR is data. A header ends at its first
empty line (RFC 5322 section 2.1), and a message without one is all header. Lines that are not
fields are passed over. Of a header only the first `HEADER_BYTES_MAX` bytes are read for fields.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Final

HEADER_BYTES_MAX: Final = 128 * 1024
"""Bytes of one header that are read for fields; what comes after is stored but not summarised."""
REPEATED_BYTES_MAX: Final = 32 * 1024
"""Bytes of an address field above which further fields of the same name are not joined to it."""

CACHED_FIELDS: Final = frozenset(
    b"""bcc cc chat-version content-transfer-encoding content-type date
    disposition-notification-to from importance in-reply-to list-id list-post list-unsubscribe
    mail-followup-to message-id newsgroups priority references reply-to resent-message-id
    return-path sender subject to x-priority""".split()
)
"""Names (lower case) of the fields that a summary keeps as they came."""

_ADDRESS_FIELDS = frozenset(b"bcc cc from reply-to sender to".split())
_PARSED_FIELDS = _ADDRESS_FIELDS | frozenset(
    b"""content-description content-disposition content-id content-language content-location
    content-md5 content-transfer-encoding content-type date in-reply-to message-id
    subject""".split()
)
_CACHED, _PARSED, _ADDRESS = 1, 2, 4
_ROLES: Mapping[bytes, int] = {
    name: _CACHED * (name in CACHED_FIELDS)
    | _PARSED * (name in _PARSED_FIELDS)
    | _ADDRESS * (name in _ADDRESS_FIELDS)
    for name in CACHED_FIELDS | _PARSED_FIELDS
}

_HEADER_END = re.compile(rb"\n\r?\n").search
_EMPTY_LINE = re.compile(rb"\r?\n").match
_FIELD = re.compile(rb"^(([!-9;-~]++)[ \t]*:(.*+(?:\n[ \t].*+)*+))", re.MULTILINE)
_FIELDS = _FIELD.findall
_EACH_FIELD = _FIELD.finditer
_FOLD = re.compile(rb"(?<!\r)\r*+\n").sub
_COMMENT_STEP = re.compile(rb"(?:[^()\\]++|\\.)*+\\?([()])?", re.DOTALL).match
_STRING_OR_COMMENT = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|(?<![^ \t;])\(', re.DOTALL).search
_PLAIN = re.compile(rb"[\t -!#-\[\]-~]*").fullmatch
_QUOTABLE = re.compile(rb"[\t -~]*").fullmatch
_ODD = re.compile(rb'(["\\])')
_ESCAPES_MAX = 8


def header_end(data: bytes, start: int, end: int) -> int:
    """Offset just after the empty line that ends the header at `start`; `end` if there is none.

    `start` is 0 or follows a line end, as the first byte of a message or of a MIME part does.
    """
    if start == 0:
        if (empty := _EMPTY_LINE(data, 0, end)) is not None:
            return empty.end()
        found = _HEADER_END(data, 0, end)
    else:
        found = _HEADER_END(data, start - 1, end)
    return end if found is None else found.end()


def read_fields(block: bytes) -> tuple[dict[bytes, bytes], list[bytes]]:
    """The fields of a header that matter: values by lower-case name, and the cached lines.

    Values are raw: folded and with the space around them. Of repeated fields the first counts,
    except that address fields are joined with a comma. A cached line has its name and its folds,
    but not the LF at its end.
    """
    fields: dict[bytes, bytes] = {}
    cached: list[bytes] = []
    role_of = _ROLES.get
    for line, name, value in _FIELDS(block):
        key = name.lower()
        role = role_of(key)
        if role is None:
            continue
        if role & _CACHED:
            cached.append(line)
        if role & _PARSED:
            if key not in fields:
                fields[key] = value
            elif role & _ADDRESS and len(fields[key]) < REPEATED_BYTES_MAX:
                fields[key] += b"," + value
    return fields, cached


def select_fields(block: bytes, wanted: Callable[[bytes], bool]) -> bytes:
    """The lines of a header whose lower-case name is wanted, in order, each with its line end."""
    selected = bytearray()
    for found in _EACH_FIELD(block):
        if wanted(found[2].lower()):
            selected += found[1]
            selected += b"\n"
    return bytes(selected)


def each_field(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """All fields of a header, in order: the name as it is written, and the raw value (see
    `read_fields`)."""
    for found in _EACH_FIELD(block):
        yield found[2], found[3]


def unfold(value: bytes) -> bytes:
    """A field's value on one line, without the space around it (RFC 5322 section 2.2.3)."""
    if b"\n" in value:
        value = _FOLD(b"", value)
    return value.strip()


def comment_end(value: bytes, position: int) -> int:
    """Offset after the ")" that closes the comment whose text starts at `position`; -1 if none
    does. Comments may be in it (RFC 5322 section 3.2.2)."""
    depth = 1
    while depth and (step := _COMMENT_STEP(value, position)) is not None and step[1]:
        position = step.end()
        depth += 1 if step[1] == b"(" else -1
    return -1 if depth else position


def without_comments(value: bytes) -> bytes:
    """An unfolded value without its comments. One begins after a space or a semicolon, for names of
    files have parentheses in them; one that does not end is none."""
    if b"(" not in value:
        return value
    kept: list[bytes] = []
    start = position = 0
    while (found := _STRING_OR_COMMENT(value, position)) is not None:
        position = found.end()
        if found[0] != b"(":
            continue
        while (end := comment_end(value, position)) > 0 and value[end : end + 1] == b"(":
            position = end + 1
        if end < 0:
            break
        kept.append(value[start : found.start()])
        start = position = end
    return b"".join((*kept, value[start:])).strip()


def string(value: bytes) -> bytes:
    """`value` as an IMAP string: quoted if it is printable ASCII, otherwise a literal.

    NUL, which neither form may hold (RFC 3501 section 9, CHAR8), becomes a space.
    """
    if _PLAIN(value):
        return b'"' + value + b'"'
    if _QUOTABLE(value) and value.count(b'"') + value.count(b"\\") <= _ESCAPES_MAX:
        return b'"' + _ODD.sub(rb"\\\1", value) + b'"'
    return b"{%d}\r\n%b" % (len(value), value.replace(b"\0", b" "))


def nstring(value: bytes | None, bytes_max: int) -> bytes:
    """A raw field value as an IMAP nstring: NIL if absent, cut after `bytes_max` if longer."""
    if value is None:
        return b"NIL"
    return string(unfold(value)[:bytes_max])
