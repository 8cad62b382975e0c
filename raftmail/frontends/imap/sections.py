"""What FETCH gives of a message's text: BODY[...], BINARY[...] and BINARY.SIZE[...] (RFC 9051
section 6.4.5; the numbers of parts: section 6.4.5.1).

Parts are those that the summary found, so that a client can fetch what BODYSTRUCTURE shows, and
nothing else. None stands for a part that does not exist, and for HEADER or TEXT of a part that is
no message. It is said as NIL, and never ends a session. Where the RFCs leave a choice:

- The only part of a message that is no multipart has the message's header as its MIME header.
- A header that ends without an empty line has none in BODY[HEADER], so that header and text
  together are always the message. HEADER.FIELDS and HEADER.FIELDS.NOT end with an empty line, and
  pass over lines that are no fields.
- BINARY[] is the message as it is, as is BINARY of a multipart or of an embedded message: what is
  encoded in them says so itself.
- BINARY.SIZE of a part that does not exist is 0, since the grammar has no NIL there.

Time and memory are linear in the part that is asked for, whatever it holds.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from raftmail.frontends.imap.fetch_items import (
    Attribute,
    BinarySection,
    BinarySize,
    BodySection,
    FetchItem,
    Partial,
    Preview,
    SectionKind,
)
from raftmail.mail.headers import HEADER_BYTES_MAX, read_fields, select_fields
from raftmail.mail.mime import transfer_encoding
from raftmail.mail.summary import Part, Summary, decode_parts, header_fields
from raftmail.mail.transfer import decode_transfer

_PART_LISTS_KEPT: Final = 8
"""Clients ask for one part of a message after another."""
_EMPTY_LINE = b"\r\n"

Span = tuple[int, int]


@lru_cache(maxsize=_PART_LISTS_KEPT)
def _parts_of(parts: bytes) -> dict[tuple[int, ...], Part]:
    return {part.path: part for part in decode_parts(parts)}


def needs_body(summary: Summary, item: FetchItem) -> bool:
    """Whether the message's bytes are needed to answer an item. Where they are not, the functions
    below take b"" for them. PREVIEW, which may be kept from before, is looked after by itself.

    Raises SummaryError for a summary that is damaged.
    """
    if isinstance(item, Attribute | Preview):
        return False
    if isinstance(item, BodySection):
        span = _span(summary, item)
        if span is None or _known_fields(summary, item) is not None:
            return False
        start, end = span if _chooses_fields(item) else clipped(item.partial, *span)
        return start < end
    if not item.part:
        return summary.size > 0
    part = _parts_of(summary.parts).get(item.part)
    return part is not None and part.body_bytes > 0


def octets_read(summary: Summary, item: BodySection | BinarySection | BinarySize) -> int:
    """How many octets of the message an item makes use of. Those of BINARY are decoded from the
    first on, whatever its `partial` is.

    Raises SummaryError for a summary that is damaged.
    """
    if isinstance(item, BodySection):
        span = _span(summary, item)
        if span is None:
            return 0
        start, end = span if _chooses_fields(item) else clipped(item.partial, *span)
        return end - start
    if not item.part:
        return summary.size
    part = _parts_of(summary.parts).get(item.part)
    return 0 if part is None else part.body_bytes


def _chooses_fields(item: BodySection) -> bool:
    return item.kind in (SectionKind.FIELDS, SectionKind.FIELDS_NOT)


def _known_fields(summary: Summary, item: BodySection) -> bytes | None:
    """HEADER.FIELDS as far as the summary knows them, without the empty line; else None."""
    if item.part or item.kind is not SectionKind.FIELDS:
        return None
    return header_fields(summary, item.fields)


def _span(summary: Summary, item: BodySection) -> Span | None:
    """Where a section lies in the message, or the header that fields are chosen from."""
    if not item.part:
        start, header_end, end = 0, summary.header_bytes, summary.size
        if item.kind is SectionKind.MIME:
            return None
    else:
        part = _parts_of(summary.parts).get(item.part)
        if part is None:
            return None
        if item.kind is SectionKind.MIME:
            return part.header_offset, part.body_offset
        start = header_end = part.body_offset
        end = start + part.body_bytes
        if item.kind is not SectionKind.ALL:
            if part.message_header_bytes is None:
                return None
            header_end = start + part.message_header_bytes
    if item.kind is SectionKind.ALL:
        return start, end
    if item.kind is SectionKind.TEXT:
        return header_end, end
    return start, header_end


def section_of(summary: Summary, body: bytes, item: BodySection) -> bytes | None:
    """The octets of BODY[...], cut as its `partial` asks; None is NIL.

    `body` is the whole message. Raises SummaryError for a summary that is damaged.
    """
    span = _span(summary, item)
    if span is None:
        return None
    start, end = span
    if not _chooses_fields(item):
        start, end = clipped(item.partial, start, end)
        return body[start:end]
    lines = _known_fields(summary, item)
    if lines is None:
        block = body[start:end]
        if not block.endswith(b"\n"):
            block += b"\r\n"
        named = {name.lower() for name in item.fields}
        chosen = item.kind is SectionKind.FIELDS
        lines = select_fields(block, lambda name: (name in named) == chosen)
    lines += _EMPTY_LINE
    start, end = clipped(item.partial, 0, len(lines))
    return lines[start:end]


def clipped(partial: Partial | None, start: int, end: int) -> Span:
    """The span of `<first.count>` in [start, end): empty where it begins beyond the end."""
    if partial is None:
        return start, end
    first = min(start + partial.first, end)
    return first, min(first + partial.count, end)


def binary_of(summary: Summary, body: bytes, item: BinarySection) -> bytes | None:
    """The octets of BINARY[...], decoded, then cut as its `partial` asks; None is NIL.

    `body` is the whole message. Raises UnknownEncodingError, to be told as NO [UNKNOWN-CTE], and
    SummaryError for a summary that is damaged.
    """
    decoded = _decoded(summary, body, item.part)
    if decoded is None:
        return None
    start, end = clipped(item.partial, 0, len(decoded))
    return decoded[start:end]


def binary_size_of(summary: Summary, body: bytes, item: BinarySize) -> int:
    """How many octets BINARY[...] has; 0 if there is no such part. Raises as `binary_of` does."""
    return len(_decoded(summary, body, item.part) or b"")


def _decoded(summary: Summary, body: bytes, path: tuple[int, ...]) -> bytes | None:
    if not path:
        return body
    parts = _parts_of(summary.parts)
    part = parts.get(path)
    if part is None:
        return None
    octets = body[part.body_offset : part.body_offset + part.body_bytes]
    if part.message_header_bytes is not None or (*path, 1) in parts:
        return octets
    return decode_transfer(octets, transfer_encoding(part_fields(body, part).get(_ENCODING)))


_ENCODING = b"content-transfer-encoding"


def part_fields(body: bytes, part: Part) -> dict[bytes, bytes]:
    """The fields that matter of a part's own header (see `read_fields`)."""
    end = part.header_offset + min(part.header_bytes, HEADER_BYTES_MAX)
    return read_fields(body[part.header_offset : end])[0]


def shown(item: BodySection | BinarySection | BinarySize) -> bytes:
    """How an answer names an item: with the first octet of a partial, and without its length."""
    if isinstance(item, BodySection):
        name = item.shown
    else:
        size = b".SIZE" if isinstance(item, BinarySize) else b""
        name = b"BINARY%b[%b]" % (size, b".".join(b"%d" % number for number in item.part))
    if isinstance(item, BinarySize) or item.partial is None:
        return name
    return b"%b<%d>" % (name, item.partial.first)
