"""ENVELOPE, BODY and BODYSTRUCTURE as the formal syntax has them (RFC 9051 section 9): no list is
empty, no space stands between the bodies of a multipart, and NIL stands only where it may."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from tests.frontends.imap.strict_cursor import StrictCursor

StrictAddress: TypeAlias = tuple[bytes | None, bytes | None, bytes | None, bytes | None]
Parameters: TypeAlias = dict[bytes, bytes]

_LEVELS_MAX = 400


@dataclass(frozen=True, slots=True)
class StrictEnvelope:
    date: bytes | None
    subject: bytes | None
    addresses: tuple[tuple[StrictAddress, ...], ...]
    """From, sender, reply-to, to, cc, bcc."""
    in_reply_to: bytes | None
    message_id: bytes | None


@dataclass(slots=True)
class StrictBody:
    """A part: `children` of a multipart, or of an embedded message its one body."""

    media: bytes
    subtype: bytes
    children: list[StrictBody] = field(default_factory=list)
    parameters: Parameters = field(default_factory=dict)
    id: bytes | None = None
    description: bytes | None = None
    encoding: bytes = b""
    octets: int = 0
    lines: int = 0
    envelope: StrictEnvelope | None = None
    disposition: tuple[bytes, Parameters] | None = None
    languages: tuple[bytes, ...] = ()
    location: bytes | None = None


def envelope(cursor: StrictCursor) -> StrictEnvelope:
    cursor.expect(b"(")
    date = cursor.nstring()
    cursor.space()
    subject = cursor.nstring()
    lists = []
    for _ in range(6):
        cursor.space()
        lists.append(_addresses(cursor))
    cursor.space()
    in_reply_to = cursor.nstring()
    cursor.space()
    message_id = cursor.nstring()
    cursor.expect(b")")
    return StrictEnvelope(date, subject, tuple(lists), in_reply_to, message_id)


def _addresses(cursor: StrictCursor) -> tuple[StrictAddress, ...]:
    """`(1*address)` or NIL; groups begin and end in it, and are not in one another."""
    if cursor.nil():
        return ()
    found = cursor.joined(lambda: _address(cursor))
    inside = False
    for name, _, mailbox, host in found:
        if host is not None:
            if mailbox is None:
                cursor.fail("an address before this has a host and no mailbox")
            continue
        if mailbox is None:
            if not inside or name is not None:
                cursor.fail("a group before this ends where none has begun")
            inside = False
        else:
            if inside:
                cursor.fail("a group before this begins inside a group")
            inside = True
    if inside:
        cursor.fail("a group before this has no end")
    return tuple(found)


def _address(cursor: StrictCursor) -> StrictAddress:
    cursor.expect(b"(")
    name = cursor.nstring()
    cursor.space()
    route = cursor.nstring()
    cursor.space()
    mailbox = cursor.nstring()
    cursor.space()
    host = cursor.nstring()
    cursor.expect(b")")
    return name, route, mailbox, host


def body(cursor: StrictCursor, *, extended: bool, level: int = 0) -> StrictBody:
    """A BODYSTRUCTURE; without `extended` a BODY, which has no extension data."""
    if level > _LEVELS_MAX:
        cursor.fail("bodies are nested too deep")
    cursor.expect(b"(")
    if cursor.next_is(b"("):
        found = _multipart(cursor, extended=extended, level=level)
    else:
        found = _single(cursor, extended=extended, level=level)
    cursor.expect(b")")
    return found


def _multipart(cursor: StrictCursor, *, extended: bool, level: int) -> StrictBody:
    children = []
    while cursor.next_is(b"("):
        children.append(body(cursor, extended=extended, level=level + 1))
    cursor.space()
    found = StrictBody(b"MULTIPART", cursor.string().upper(), children)
    if extended and cursor.skip(b" "):
        found.parameters = _parameters(cursor)
        _extensions(cursor, found)
    return found


def _single(cursor: StrictCursor, *, extended: bool, level: int) -> StrictBody:
    media = cursor.string().upper()
    cursor.space()
    found = StrictBody(media, cursor.string().upper())
    cursor.space()
    found.parameters = _parameters(cursor)
    cursor.space()
    found.id = cursor.nstring()
    cursor.space()
    found.description = cursor.nstring()
    cursor.space()
    found.encoding = cursor.string()
    if not found.encoding:
        cursor.fail("an encoding before this is empty")
    cursor.space()
    found.octets = cursor.number()
    if media == b"MESSAGE" and found.subtype in (b"RFC822", b"GLOBAL"):
        cursor.space()
        found.envelope = envelope(cursor)
        cursor.space()
        found.children = [body(cursor, extended=extended, level=level + 1)]
    if media == b"TEXT" or found.envelope is not None:
        cursor.space()
        found.lines = cursor.number64()
    if extended and cursor.skip(b" "):
        cursor.nstring()  # MD5
        _extensions(cursor, found)
    return found


def _extensions(cursor: StrictCursor, found: StrictBody) -> None:
    """Disposition, language, location, and whatever else follows."""
    if not cursor.skip(b" "):
        return
    found.disposition = _disposition(cursor)
    if not cursor.skip(b" "):
        return
    found.languages = _languages(cursor)
    if not cursor.skip(b" "):
        return
    found.location = cursor.nstring()
    while cursor.skip(b" "):
        _extension(cursor)


def _extension(cursor: StrictCursor) -> None:
    if cursor.next_is(b"("):
        cursor.listed(lambda: _extension(cursor))
    elif cursor.data[cursor.at : cursor.at + 1].isdigit():
        cursor.number64()
    else:
        cursor.nstring()


def _disposition(cursor: StrictCursor) -> tuple[bytes, Parameters] | None:
    if cursor.nil():
        return None
    cursor.expect(b"(")
    kind = cursor.string()
    cursor.space()
    parameters = _parameters(cursor)
    cursor.expect(b")")
    return kind, parameters


def _languages(cursor: StrictCursor) -> tuple[bytes, ...]:
    if cursor.next_is(b"("):
        return tuple(cursor.listed(cursor.string))
    one = cursor.nstring()
    return () if one is None else (one,)


def _parameters(cursor: StrictCursor) -> Parameters:
    if cursor.nil():
        return {}
    return dict(cursor.listed(lambda: _parameter(cursor)))


def _parameter(cursor: StrictCursor) -> tuple[bytes, bytes]:
    name = cursor.string()
    cursor.space()
    return name, cursor.string()
