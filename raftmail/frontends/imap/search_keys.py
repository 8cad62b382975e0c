"""What SEARCH, SORT and THREAD look for (RFC 9051 section 6.4.4), as a tree."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from raftmail.frontends.imap.sequence import SequenceSet


class DateOf(Enum):
    """Which date of a message a key is about."""

    RECEIVED = "INTERNALDATE"
    SENT = "Date field"
    SAVED = "SAVEDATE"
    """RFC 8514 section 4.2."""


class Relation(Enum):
    BEFORE = "BEFORE"
    ON = "ON"
    SINCE = "SINCE"


@dataclass(frozen=True, slots=True)
class All:
    """Every message."""


@dataclass(frozen=True, slots=True)
class Flagged:
    """Messages with a flag or keyword (`SEEN`, `KEYWORD $Junk`); its opposite is `Not`. RECENT is
    `\\Recent`, which a message need not have in any form."""

    flag: str


@dataclass(frozen=True, slots=True)
class InSet:
    """Messages by sequence number, or by `uid`."""

    sequence: SequenceSet
    uid: bool


@dataclass(frozen=True, slots=True)
class Dated:
    """By day, without regard to time and zone. `day` counts from 1, the first of
    January of year 1."""

    of: DateOf
    relation: Relation
    day: int


@dataclass(frozen=True, slots=True)
class Sized:
    """Larger, or smaller, than so many octets."""

    larger: bool
    octets: int


@dataclass(frozen=True, slots=True)
class Within:
    """YOUNGER or OLDER than so many seconds (RFC 5032)."""

    younger: bool
    seconds: int


@dataclass(frozen=True, slots=True)
class FieldHas:
    """A field has the text in it, in any case, decoded (RFC 2047); "" matches every message that
    has the field. BCC, CC, FROM, SUBJECT and TO are such keys. `field` is in lower case."""

    field: bytes
    text: str


@dataclass(frozen=True, slots=True)
class TextHas:
    """The text is in the message's body; with `header`, in its header or body (TEXT)."""

    text: str
    header: bool


@dataclass(frozen=True, slots=True)
class ModSeq:
    """The modseq is at least this (RFC 7162 section 3.1.5)."""

    least: int


@dataclass(frozen=True, slots=True)
class EmailId:
    """The message has this EMAILID (RFC 8474 section 6)."""

    id: str


@dataclass(frozen=True, slots=True)
class ThreadId:
    """The message has this THREADID (RFC 8474 section 6)."""

    id: str


@dataclass(frozen=True, slots=True)
class Not:
    key: SearchKey


@dataclass(frozen=True, slots=True)
class And:
    keys: tuple[SearchKey, ...]


@dataclass(frozen=True, slots=True)
class Or:
    first: SearchKey
    second: SearchKey


SearchKey: TypeAlias = (
    All
    | Flagged
    | InSet
    | Dated
    | Sized
    | Within
    | FieldHas
    | TextHas
    | ModSeq
    | EmailId
    | ThreadId
    | Not
    | And
    | Or
)
