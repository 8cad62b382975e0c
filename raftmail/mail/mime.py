"""BODYSTRUCTURE (RFC 3501 and RFC 9051, section 7.5.2) and the places of all MIME parts.

One walk over a message gives both, so that they always agree: whatever part a client sees in
BODYSTRUCTURE can be fetched by its number. Where a message is broken or too much:

- A multipart whose boundary is missing, or never occurs, is shown as text/plain.
- A Content-Type that cannot be read is text/plain in US-ASCII (RFC 2045 section 5.2).
- A message/rfc822 part that is encoded, which RFC 2046 section 5.2.1 forbids, is shown as
  application/octet-stream.
- After `PARTS_MAX` parts, or when the room for the structure is used up, the parts that follow are
  left out. A container is shown as application/octet-stream in three cases: no part has room, it
  lies `NESTING_MAX` deep, or its scan would exceed the work allowed for the message.
- Strings are cut after `STRING_BYTES_MAX` bytes, and a parameter list ends, after a whole
  parameter, before `PARAMETERS_BYTES_MAX`.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from struct import Struct
from typing import Final, NamedTuple

from raftmail.mail.envelope import envelope
from raftmail.mail.headers import (
    HEADER_BYTES_MAX,
    header_end,
    nstring,
    read_fields,
    string,
    unfold,
    without_comments,
)

PARTS_MAX: Final = 1000
"""Parts of one message that are shown and can be fetched."""
NESTING_MAX: Final = 100
"""Containers (multipart or message/rfc822) inside one another that are opened."""
STRING_BYTES_MAX: Final = 1024
"""Bytes of a parameter's value, Content-ID, Content-Description and their like."""
PARAMETERS_BYTES_MAX: Final = 3 * 1024
"""Rendered bytes of one parameter list."""
EMBEDDED_RECIPIENTS_BYTES_MAX: Final = 4 * 1024
"""Rendered bytes of To, Cc and Bcc in the envelope of a message inside the message."""
STRUCTURE_BYTES_FLOOR: Final = 2 * PARAMETERS_BYTES_MAX + 6 * STRING_BYTES_MAX + 1024
"""Room in which a structure of one part, at its largest, always fits."""
LOCATED_BYTES_MAX: Final = 2**32 - 2
"""Length of a message above which its parts are not looked for: offsets have 32 bits."""

_LANGUAGES_MAX = 16
_TOKEN_BYTES_MAX = 127
_BOUNDARY_BYTES_MAX = 1000
_DELIMITERS_MAX = 10 * PARTS_MAX
_WORK_FACTOR, _WORK_BYTES_MIN = 8, 4 * 1024 * 1024
_CACHED_VALUE_BYTES_MAX = 256

PLACE: Final = Struct("<BHIIII")
"""Depth, last number, header offset, header length, body length, header length of the message
inside, or NO_MESSAGE."""
NO_MESSAGE: Final = 2**32 - 1

_TYPE = re.compile(
    rb"[ \t]*([^][\x00-\x20\x7f-\xff()<>@,;:\\\"/?=]+)/([^][\x00-\x20\x7f-\xff()<>@,;:\\\"/?=]+)"
).match
_TOKEN = re.compile(rb"[^][\x00-\x20\x7f-\xff()<>@,;:\\\"/?=]+").match
_PARAMETER = re.compile(
    rb""";[ \t]*+([^\s=;"]++)[ \t]*+=[ \t]*+(?:"((?:[^"\\]++|\\.)*+)\\?"?|([^;]*+))""", re.DOTALL
).findall
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL).sub
_DELIMITER_TAIL = re.compile(rb"(--)?[ \t]*\r?(?:\n|\Z)").match

_ENCODINGS: Mapping[bytes, bytes] = {
    name: b'"' + name + b'"'
    for name in (b"7bit", b"8bit", b"binary", b"base64", b"quoted-printable")
}
_TRANSPARENT = frozenset((b'"7bit"', b'"8bit"', b'"binary"'))


class _Type(NamedTuple):
    """A Content-Type, or a Content-Disposition (which has no subtype), ready to be shown."""

    kind: bytes
    subtype: bytes
    parameters: bytes
    boundary: bytes


_TEXT_PLAIN = _Type(b"text", b"plain", b'("charset" "us-ascii")', b"")
_RFC822 = _Type(b"message", b"rfc822", b"NIL", b"")
_OPAQUE = _Type(b"application", b"octet-stream", b"NIL", b"")


def _parameters(value: bytes) -> tuple[bytes, bytes]:
    """The parameters in `value` as an IMAP list or NIL, and the boundary among them if any."""
    shown: list[bytes] = []
    boundary = b""
    room = PARAMETERS_BYTES_MAX
    for name, quoted, plain in _PARAMETER(value):
        name = name.lower()
        text = _ESCAPED(rb"\1", quoted) if quoted else plain.strip()
        if name == b"boundary" and not boundary:
            boundary = text.rstrip()
        pair = string(name[:_TOKEN_BYTES_MAX]) + b" " + string(text[:STRING_BYTES_MAX])
        room -= len(pair) + 1
        if room < 1:
            break
        shown.append(pair)
    if not 0 < len(boundary) <= _BOUNDARY_BYTES_MAX or b"\r" in boundary:
        boundary = b""
    return (b"(%b)" % b" ".join(shown) if shown else b"NIL"), boundary


def _clean(raw: bytes) -> bytes:
    return without_comments(unfold(raw))


@lru_cache(maxsize=512)
def _content_type(raw: bytes) -> _Type:
    value = _clean(raw)
    found = _TYPE(value)
    if found is None or max(len(found[1]), len(found[2])) > _TOKEN_BYTES_MAX:
        return _TEXT_PLAIN
    parameters, boundary = _parameters(value)
    return _Type(found[1].lower(), found[2].lower(), parameters, boundary)


@lru_cache(maxsize=512)
def _disposition(raw: bytes) -> bytes:
    value = _clean(raw)
    found = _TOKEN(value)
    if found is None or len(found[0]) > _TOKEN_BYTES_MAX:
        return b"NIL"
    return b'("%b" %b)' % (found[0].lower(), _parameters(value)[0])


def _language(raw: bytes) -> bytes:
    tags = [tag for part in _clean(raw)[:STRING_BYTES_MAX].split(b",") if (tag := part.strip())]
    shown = [string(tag) for tag in tags[:_LANGUAGES_MAX]]
    if len(shown) == 1:
        return shown[0]
    return b"(%b)" % b" ".join(shown) if shown else b"NIL"


def transfer_encoding(raw: bytes | None) -> bytes:
    """The name in a Content-Transfer-Encoding field, in lower case (RFC 2045 section 6.1).

    `raw` is the field's value. It is 7bit if there is no field, or none that can be read.
    """
    if raw is None:
        return b"7bit"
    found = _TOKEN(_clean(raw))
    return b"7bit" if found is None else found[0][:_TOKEN_BYTES_MAX].lower()


def _encoding(raw: bytes | None) -> bytes:
    name = transfer_encoding(raw)
    return _ENCODINGS.get(name) or string(name)


def type_and_charset(raw: bytes | None) -> tuple[bytes, bytes]:
    """What a Content-Type field says of a part, in lower case: its type, and its charset or b"".

    `raw` is the field's value. The type is text if there is no field, or none that can be read, as
    in BODYSTRUCTURE. The subtype does not matter to those who ask.
    """
    if raw is None:
        return b"text", b""
    value = _clean(raw)
    found = _TYPE(value)
    if found is None or max(len(found[1]), len(found[2])) > _TOKEN_BYTES_MAX:
        return b"text", b""
    for name, quoted, plain in _PARAMETER(value):
        if name.lower() == b"charset":
            charset = _ESCAPED(rb"\1", quoted) if quoted else plain.strip()
            return found[1].lower(), charset[:_TOKEN_BYTES_MAX].lower()
    return found[1].lower(), b""


def _type_of(fields: Mapping[bytes, bytes], in_digest: bool) -> _Type:
    raw = fields.get(b"content-type")
    if raw is None:
        return _RFC822 if in_digest else _TEXT_PLAIN
    if len(raw) <= _CACHED_VALUE_BYTES_MAX:
        return _content_type(raw)
    return _content_type.__wrapped__(raw)


def _disposition_of(fields: Mapping[bytes, bytes]) -> bytes:
    raw = fields.get(b"content-disposition")
    if raw is None:
        return b"NIL"
    if len(raw) <= _CACHED_VALUE_BYTES_MAX:
        return _disposition(raw)
    return _disposition.__wrapped__(raw)


def _described(fields: Mapping[bytes, bytes]) -> bytes:
    """Content-ID, Content-Description and encoding, as every part but a multipart has them."""
    get = fields.get
    return b"%b %b %b" % (
        nstring(get(b"content-id"), STRING_BYTES_MAX),
        nstring(get(b"content-description"), STRING_BYTES_MAX),
        _encoding(get(b"content-transfer-encoding")),
    )


def _extended(fields: Mapping[bytes, bytes]) -> bytes:
    """Disposition, language and location: the extension data that all parts have."""
    language = fields.get(b"content-language")
    return b"%b %b %b" % (
        _disposition_of(fields),
        b"NIL" if language is None else _language(language),
        nstring(fields.get(b"content-location"), STRING_BYTES_MAX),
    )


class _Walk:
    """The walk over one message. Its allowances only shrink, so that it ends soon on any input.

    Invariants: `places` is in the order of the part numbers, and every part in it is shown in the
    structure. What is shown and located is paid for from `room`.
    """

    __slots__ = ("complete", "data", "delimiters", "places", "room", "work")

    def __init__(self, data: bytes, room: int) -> None:
        self.data = data
        self.room = room
        self.work = _WORK_FACTOR * len(data) + _WORK_BYTES_MIN
        self.delimiters = _DELIMITERS_MAX
        self.places: list[bytes] = []
        self.complete = True

    def _spans(self, boundary: bytes, start: int, end: int) -> list[tuple[int, int]]:
        """The places of a multipart's parts (RFC 2046 section 5.1.1); no more than may be shown."""
        data = self.data
        find = data.find
        needle = b"\n--" + boundary
        parts_max = PARTS_MAX - len(self.places)
        spans: list[tuple[int, int]] = []
        begin = -1
        position = start - 1
        while (position := find(needle, position, end)) >= 0:
            self.delimiters -= 1
            if self.delimiters < 0 or len(spans) == parts_max:
                self.complete = False
                return spans
            tail = _DELIMITER_TAIL(data, position + len(needle), end)
            if tail is None:
                position += len(needle)
                continue
            if begin >= 0:
                stop = position - 1 if data[position - 1] == 13 else position
                spans.append((begin, max(begin, stop)))
            if tail[1]:
                return spans
            begin = tail.end()
            position = begin - 1
        if begin >= 0:
            spans.append((begin, end))
        return spans

    def _leaf(
        self,
        kind: _Type,
        fields: Mapping[bytes, bytes],
        place: tuple[int, int, int],
        body: int,
        end: int,
    ) -> bytes | None:
        """A part without parts, or None if there is no room for it."""
        depth, number, start = place
        octets = end - body
        md5 = fields.get(b"content-md5")
        shown = b'("%b" "%b" %b %b %d%b %b %b)' % (
            kind.kind,
            kind.subtype,
            kind.parameters,
            _described(fields),
            octets,
            b" %d" % self.data.count(b"\n", body, end) if kind.kind == b"text" else b"",
            b"NIL" if md5 is None else nstring(md5, STRING_BYTES_MAX),
            _extended(fields),
        )
        cost = len(shown) + PLACE.size
        if cost > self.room or len(self.places) >= PARTS_MAX:
            self.complete = False
            return None
        self.room -= cost
        self.places.append(PLACE.pack(depth, number, start, body - start, octets, NO_MESSAGE))
        return shown

    def _multipart(
        self,
        kind: _Type,
        fields: Mapping[bytes, bytes],
        place: tuple[int, int, int] | None,
        body: int,
        end: int,
        spans: list[tuple[int, int]],
        depth: int,
        level: int,
    ) -> bytes | None:
        """A multipart with those of its parts that have room, or None if none has."""
        tail = b' "%b" %b %b)' % (kind.subtype, kind.parameters, _extended(fields))
        cost = len(tail) + 1
        if place is not None:
            cost += PLACE.size
            self.places.append(
                PLACE.pack(place[0], place[1], place[2], body - place[2], end - body, NO_MESSAGE)
            )
        self.room -= cost
        shown = []
        digest = kind.subtype == b"digest"
        for number, (begin, stop) in enumerate(spans, 1):
            part = self._part(begin, stop, depth, number, level, digest)
            if part is None:
                break
            shown.append(part)
        if shown:
            return b"(%b%b" % (b"".join(shown), tail)
        self.room += cost
        if place is not None:
            self.places.pop()
        return None

    def _message(
        self,
        kind: _Type,
        fields: Mapping[bytes, bytes],
        place: tuple[int, int, int],
        body: int,
        end: int,
        level: int,
    ) -> bytes | None:
        """A message/rfc822 part with the message in it, or None if that has no room."""
        depth, number, start = place
        text = header_end(self.data, body, end)
        inner, _ = read_fields(self.data[body : min(text, body + HEADER_BYTES_MAX)])
        md5 = fields.get(b"content-md5")
        before = b'("message" "%b" %b %b %d %b ' % (
            kind.subtype,
            kind.parameters,
            _described(fields),
            end - body,
            envelope(inner, EMBEDDED_RECIPIENTS_BYTES_MAX),
        )
        after = b" %d %b %b)" % (
            self.data.count(b"\n", body, end),
            b"NIL" if md5 is None else nstring(md5, STRING_BYTES_MAX),
            _extended(fields),
        )
        cost = len(before) + len(after) + PLACE.size
        self.room -= cost
        self.places.append(PLACE.pack(depth, number, start, body - start, end - body, text - body))
        shown = self.body(inner, body, text, end, depth, 0, level, False)
        if shown is not None:
            return before + shown + after
        self.room += cost
        self.places.pop()
        return None

    def _part(
        self, start: int, end: int, depth: int, number: int, level: int, in_digest: bool
    ) -> bytes | None:
        if len(self.places) >= PARTS_MAX or self.room <= 0:
            self.complete = False
            return None
        body = header_end(self.data, start, end)
        fields, _ = read_fields(self.data[start : min(body, start + HEADER_BYTES_MAX)])
        return self.body(fields, start, body, end, depth, number, level, in_digest)

    def body(
        self,
        fields: Mapping[bytes, bytes],
        start: int,
        body: int,
        end: int,
        depth: int,
        number: int,
        level: int,
        in_digest: bool,
    ) -> bytes | None:
        """What lies in [body, end) under the header at `start`, or None if there is no room.

        `depth` is how many numbers the part's own number has. `number` is its last, or 0 for the
        body of a message. That has the number of the message with .1 after it unless it is a
        multipart (RFC 3501 section 6.4.5). `level` counts the containers around it.
        """
        kind = _type_of(fields, in_digest)
        place = (depth, number, start) if number else (depth + 1, 1, start)
        container = kind.kind == b"multipart" or (
            kind.kind == b"message" and kind.subtype in (b"rfc822", b"global")
        )
        if not container:
            return self._leaf(kind, fields, place, body, end)
        shown = None
        if kind.kind == b"message":
            transparent = _encoding(fields.get(b"content-transfer-encoding")) in _TRANSPARENT
            if transparent and self._enter(level, end - body):
                shown = self._message(kind, fields, place, body, end, level + 1)
        elif not kind.boundary:
            return self._leaf(_TEXT_PLAIN, fields, place, body, end)
        elif self._enter(level, end - body):
            spans = self._spans(kind.boundary, body, end)
            if not spans:
                return self._leaf(_TEXT_PLAIN, fields, place, body, end)
            own = place if number else None
            shown = self._multipart(kind, fields, own, body, end, spans, depth + 1, level + 1)
        return shown if shown is not None else self._leaf(_OPAQUE, fields, place, body, end)

    def _enter(self, level: int, octets: int) -> bool:
        """Whether a container may be opened; pays for the scan of what is in it."""
        self.work -= octets
        if level < NESTING_MAX and self.work >= 0 and len(self.places) < PARTS_MAX:
            return True
        self.complete = False
        return False


def structure(
    data: bytes, fields: Mapping[bytes, bytes], header_bytes: int, room: int
) -> tuple[bytes, list[bytes], bool]:
    """BODYSTRUCTURE of a message, the packed places of its parts, and whether nothing was left out.

    `fields` are those of the message's header, `room` is how long structure and places together
    may become, at least `STRUCTURE_BYTES_FLOOR`.
    """
    if len(data) > LOCATED_BYTES_MAX:
        size = len(data) - header_bytes
        return b'("application" "octet-stream" NIL NIL NIL "binary" %d)' % size, [], False
    walk = _Walk(data, room)
    shown = walk.body(fields, 0, header_bytes, len(data), 0, 0, 0, False)
    if shown is None:
        raise ValueError(f"room of {room} bytes is less than the {STRUCTURE_BYTES_FLOOR} required")
    return shown, walk.places, walk.complete
