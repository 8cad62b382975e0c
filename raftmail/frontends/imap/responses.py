"""What is said to a client: one encoder for every kind of value (RFC 9051 sections 4 and 9).

Nothing that comes from mail or from another client is written but by a function of this module.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Final

from raftmail.mail.annotations import ANNOTATION_BYTES_MAX
from raftmail.mail.uidset import UidSet

QUOTED_BYTES_MAX: Final = 1000
"""A longer string is a literal, so that lines stay short."""

TEXT_CHARS_MAX: Final = 400
"""Of a text for people."""

LINE_SETS_BYTES_MAX: Final = 6000
"""A set of numbers that is longer goes into several responses: some clients have short lines."""

_NOT_QUOTED = re.compile(rb"[\x00-\x1f\x7f-\xff]")
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
_SPECIAL = re.compile(rb'(["\\])')
_ATOM = re.compile(rb"[!#$&'+,\-./0-9:;<=>?@A-Z\[^_`a-z|}~]+")
_MONTHS: Final = b"Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class ResponseCode(Enum):
    """What a client may act on, in brackets (RFC 9051 section 7.1, RFC 5530)."""

    ALREADYEXISTS = b"ALREADYEXISTS"
    AUTHENTICATIONFAILED = b"AUTHENTICATIONFAILED"
    AUTHORIZATIONFAILED = b"AUTHORIZATIONFAILED"
    BADURL = b"BADURL"
    """With the URL (`url_text`), RFC 4469 section 4.1."""
    BADCHARSET = b"BADCHARSET (UTF-8 US-ASCII)"
    CANNOT = b"CANNOT"
    CLIENTBUG = b"CLIENTBUG"
    CLOSED = b"CLOSED"
    COMPRESSIONACTIVE = b"COMPRESSIONACTIVE"
    EXPIRED = b"EXPIRED"
    EXPUNGEISSUED = b"EXPUNGEISSUED"
    LIMIT = b"LIMIT"
    METADATA_MAXSIZE = b"METADATA MAXSIZE %d" % ANNOTATION_BYTES_MAX
    METADATA_TOOMANY = b"METADATA TOOMANY"
    NONEXISTENT = b"NONEXISTENT"
    NOPERM = b"NOPERM"
    OVERQUOTA = b"OVERQUOTA"
    PRIVACYREQUIRED = b"PRIVACYREQUIRED"
    READ_ONLY = b"READ-ONLY"
    READ_WRITE = b"READ-WRITE"
    SERVERBUG = b"SERVERBUG"
    TOOBIG = b"TOOBIG"
    TRYCREATE = b"TRYCREATE"
    UNAVAILABLE = b"UNAVAILABLE"
    UNKNOWN_CTE = b"UNKNOWN-CTE"
    USEATTR = b"USEATTR"


def string(value: bytes) -> bytes:
    """A string, quoted where that is possible, else as a literal. NUL, which neither may hold
    (RFC 9051 section 9, CHAR8), becomes a space."""
    if _NOT_QUOTED.search(value) is None and len(value) <= QUOTED_BYTES_MAX:
        return b'"' + _SPECIAL.sub(rb"\\\1", value) + b'"'
    return literal(value)


def utf8_string(value: bytes) -> bytes:
    """As `string`, for a client that takes UTF-8 in quotes (RFC 9051 section 4.3, RFC 9755 section
    3)."""
    if _CONTROL.search(value) is None and len(value) <= QUOTED_BYTES_MAX:
        try:
            value.decode()
        except UnicodeDecodeError:
            return literal(value)
        return b'"' + _SPECIAL.sub(rb"\\\1", value) + b'"'
    return literal(value)


def literal(value: bytes) -> bytes:
    """A string as a literal, whose length stays what it was. No octets go in quotes: `{0}` is
    legal, but some clients wait for ever behind it."""
    if not value:
        return b'""'
    if b"\x00" in value:
        value = value.replace(b"\x00", b" ")
    return b"{%d}\r\n%b" % (len(value), value)


def binary(value: bytes) -> bytes:
    """What BINARY answers: a literal8 where there are NULs (RFC 9051 section 4.3.1)."""
    return b"~{%d}\r\n%b" % (len(value), value) if b"\x00" in value else literal(value)


def nstring(value: bytes | None) -> bytes:
    """A string, or NIL."""
    return b"NIL" if value is None else string(value)


def astring(value: bytes) -> bytes:
    """An atom where that is possible, else a string."""
    if _ATOM.fullmatch(value) is not None and value.upper() != b"NIL" and len(value) < 200:
        return value
    return string(value)


def url_text(url: bytes) -> bytes:
    """A URL inside brackets: what cannot stand there goes in hexadecimal digits."""
    return b"".join(
        bytes((one,)) if 0x20 < one < 0x7F and one != 0x5D else b"%%%02X" % one for one in url
    )


def text(words: str) -> bytes:
    """A text for people: one line, never empty, of ASCII."""
    shown = " ".join(words.split()).encode("ascii", "replace")[:TEXT_CHARS_MAX]
    # A text must not begin with what looks like a response code.
    return shown.lstrip(b"[") or b"."


def flags(names: Iterable[str]) -> bytes:
    """A parenthesised list of flags."""
    return b"(" + " ".join(names).encode() + b")"


def internal_date(received_us: int, zone_minutes: int = 0) -> bytes:
    """`date-time`: microseconds since 1970, as the clock of a zone shows them."""
    try:
        at = _EPOCH + timedelta(microseconds=received_us, minutes=zone_minutes)
    except OverflowError:
        at, zone_minutes = _EPOCH, 0
    sign = b"-" if zone_minutes < 0 else b"+"
    hours, minutes = divmod(abs(zone_minutes), 60)
    return b'"%2d-%b-%04d %02d:%02d:%02d %b%02d%02d"' % (
        at.day,
        _MONTHS[at.month - 1],
        at.year,
        at.hour,
        at.minute,
        at.second,
        sign,
        hours,
        minutes,
    )


def number_set(numbers: UidSet) -> bytes:
    """`1:5,9`; of a set that is not empty."""
    return numbers.format().encode()


def number_sets(numbers: UidSet) -> list[bytes]:
    """A set in pieces that fit into lines; none for the empty set."""
    if not numbers:
        return []
    whole = number_set(numbers)
    pieces = []
    while len(whole) > LINE_SETS_BYTES_MAX:
        cut = whole.rindex(b",", 0, LINE_SETS_BYTES_MAX)
        pieces.append(whole[:cut])
        whole = whole[cut + 1 :]
    return [*pieces, whole]
