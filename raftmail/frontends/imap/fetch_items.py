"""What FETCH asks for (RFC 9051 section 6.4.5, RFC 3501 section 6.4.5)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias


class Attribute(Enum):
    """Attributes that take no argument; the value is how they are written."""

    UID = b"UID"
    FLAGS = b"FLAGS"
    INTERNALDATE = b"INTERNALDATE"
    SAVEDATE = b"SAVEDATE"
    """RFC 8514."""
    SIZE = b"RFC822.SIZE"
    ENVELOPE = b"ENVELOPE"
    BODY = b"BODY"
    """BODYSTRUCTURE without extension data."""
    BODYSTRUCTURE = b"BODYSTRUCTURE"
    MODSEQ = b"MODSEQ"
    EMAILID = b"EMAILID"
    THREADID = b"THREADID"


class SectionKind(Enum):
    """What of a message, or of a part, BODY[...] names; the value is how it is written."""

    ALL = b""
    HEADER = b"HEADER"
    TEXT = b"TEXT"
    MIME = b"MIME"
    FIELDS = b"HEADER.FIELDS"
    FIELDS_NOT = b"HEADER.FIELDS.NOT"


@dataclass(frozen=True, slots=True)
class Partial:
    """`<first.count>`: at most `count` octets from octet `first` on, which is 0 for the first."""

    first: int
    count: int


@dataclass(frozen=True, slots=True)
class BodySection:
    """`BODY[part.kind (fields)]<partial>`. `part` is () for the message. Without `peek` the message
    becomes \\Seen. `shown` is how the answer names it, up to the partial: `BODY[1.MIME]`, or one of
    the old names `RFC822`, `RFC822.HEADER`, `RFC822.TEXT`."""

    part: tuple[int, ...]
    kind: SectionKind
    fields: tuple[bytes, ...]
    partial: Partial | None
    peek: bool
    shown: bytes


@dataclass(frozen=True, slots=True)
class BinarySection:
    """`BINARY[part]<partial>` (RFC 9051 section 6.4.5.1): a part's body, decoded."""

    part: tuple[int, ...]
    partial: Partial | None
    peek: bool


@dataclass(frozen=True, slots=True)
class BinarySize:
    """`BINARY.SIZE[part]`: how long a part's body is, decoded."""

    part: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Preview:
    """`PREVIEW` (RFC 8970); with `lazy`, only if it is at hand."""

    lazy: bool


FetchItem: TypeAlias = Attribute | BodySection | BinarySection | BinarySize | Preview
