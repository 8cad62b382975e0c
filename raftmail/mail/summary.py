"""The summary of a message: all that is ever asked of it short of the body itself.

A front end summarises a message once, when it arrives. The summary travels in the log entry and
lies in the index. Every later ENVELOPE, BODYSTRUCTURE, common header field or part of the message
is answered from it without parsing anything again.

`summarise` takes any bytes whatever: a broken message gets a poorer summary, never an error. An
encoded summary never exceeds `SUMMARY_BYTES_MAX`. Cached fields have `HEADERS_BYTES_MAX`, and the
envelope has limits for each of its members (`envelope`). The structure has what these leave
(`mime`), which is enough for many hundreds of parts in all but the oddest messages.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from struct import Struct
from typing import Final

from raftmail.mail.envelope import ENVELOPE_BYTES_MAX, envelope
from raftmail.mail.headers import (
    CACHED_FIELDS,
    HEADER_BYTES_MAX,
    header_end,
    read_fields,
    select_fields,
)
from raftmail.mail.mime import NO_MESSAGE, PARTS_MAX, PLACE, STRUCTURE_BYTES_FLOOR, structure

SUMMARY_BYTES_MAX: Final = 64 * 1024
"""Length that no encoded summary exceeds."""
HEADERS_BYTES_MAX: Final = 16 * 1024
"""Bytes of cached header fields; a field that would exceed it is left out."""

_VERSION = 1
_PARTS_VERSION = b"\x01"
_HEAD = Struct("<BBQQIIII")
_LENGTHS = Struct("<BB16xIIII")
"""Of `_HEAD`: version, flags, and the lengths of what follows."""
_HEADERS_COMPLETE, _STRUCTURE_COMPLETE = 1, 2
_SHARED_BYTES = (
    SUMMARY_BYTES_MAX
    - _HEAD.size
    - len(_PARTS_VERSION)
    - ENVELOPE_BYTES_MAX
    - STRUCTURE_BYTES_FLOOR
)
"""What cached fields and recipients share."""


class SummaryError(ValueError):
    """Bytes that should be an encoded summary or part list are not. Fetch them again."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What is kept of a message beside its body."""

    size: int
    """Length of the message in bytes (RFC822.SIZE)."""
    header_bytes: int
    """Length of its header with the empty line at its end; the text is the rest."""
    envelope: bytes
    """Finished ENVELOPE list."""
    bodystructure: bytes
    """Finished BODYSTRUCTURE list, with extension data."""
    parts: bytes
    """Where the parts are, for `decode_parts` and `find_part`."""
    headers: bytes
    """The fields named in `CACHED_FIELDS`, in order, raw, each with its line end."""
    headers_complete: bool
    """False if a cached field was left out, or part of the header was not read."""
    structure_complete: bool
    """False if parts were left out of `bodystructure` and `parts`."""


@dataclass(frozen=True, slots=True)
class Part:
    """The place of one MIME part, in bytes from the start of the message.

    `path` is the part number of FETCH BODY[1.2]. The header is BODY[1.2.MIME] and the body
    BODY[1.2]; for a message/rfc822 part the first `message_header_bytes` of the body are
    BODY[1.2.HEADER] and the rest BODY[1.2.TEXT]. For other parts it is None. The only part of a
    message that is no multipart is 1, with the message's own header.
    """

    path: tuple[int, ...]
    header_offset: int
    header_bytes: int
    body_offset: int
    body_bytes: int
    message_header_bytes: int | None


def summarise(body: bytes | memoryview) -> Summary:
    """Summarise a whole message. Never raises, whatever the bytes are."""
    data = body if isinstance(body, bytes) else bytes(body)
    size = len(data)
    header_bytes = header_end(data, 0, size)
    block = data[: min(header_bytes, HEADER_BYTES_MAX)]
    headers_complete = header_bytes <= HEADER_BYTES_MAX
    if not headers_complete:
        block = block[: block.rfind(b"\n") + 1]
    elif not block.endswith(b"\n"):
        block += b"\r\n"
    fields, cached = read_fields(block)
    headers = b"\n".join((*cached, b""))
    if len(headers) > HEADERS_BYTES_MAX:
        headers_complete = False
        headers = _first_lines(cached)
    shown_envelope = envelope(fields, _SHARED_BYTES - len(headers))
    room = SUMMARY_BYTES_MAX - _HEAD.size - 1 - len(headers) - len(shown_envelope)
    shown_structure, places, structure_complete = structure(data, fields, header_bytes, room)
    return Summary(
        size,
        header_bytes,
        shown_envelope,
        shown_structure,
        b"".join((_PARTS_VERSION, *places)),
        headers,
        headers_complete,
        structure_complete,
    )


def _first_lines(cached: list[bytes]) -> bytes:
    room = HEADERS_BYTES_MAX
    lines = []
    for line in cached:
        if len(line) < room:
            room -= len(line) + 1
            lines.append(line + b"\n")
    return b"".join(lines)


def header_fields(summary: Summary, names: Iterable[bytes]) -> bytes | None:
    """The fields that FETCH BODY[HEADER.FIELDS (names)] asks for, without the empty line after.

    None if the summary cannot tell, and the header of the message itself has to be read (for
    example with `select_fields`): a name is not in `CACHED_FIELDS`, or not all were kept.
    """
    wanted = {name.lower() for name in names}
    if not summary.headers_complete or not wanted <= CACHED_FIELDS:
        return None
    return select_fields(summary.headers, wanted.__contains__)


def encode_summary(summary: Summary) -> bytes:
    """The summary as bytes, for `decode_summary`. The format begins with a version."""
    return b"".join(
        (
            _HEAD.pack(
                _VERSION,
                _HEADERS_COMPLETE * summary.headers_complete
                | _STRUCTURE_COMPLETE * summary.structure_complete,
                summary.size,
                summary.header_bytes,
                len(summary.envelope),
                len(summary.bodystructure),
                len(summary.parts),
                len(summary.headers),
            ),
            summary.envelope,
            summary.bodystructure,
            summary.parts,
            summary.headers,
        )
    )


def decode_summary(encoded: bytes) -> Summary:
    """The summary in `encoded`.

    Raises SummaryError for another version, wrong lengths, or more than `SUMMARY_BYTES_MAX`.
    """
    if not _HEAD.size <= len(encoded) <= SUMMARY_BYTES_MAX:
        raise SummaryError(
            f"summary of {len(encoded)} bytes; {_HEAD.size} to {SUMMARY_BYTES_MAX} are allowed"
        )
    version, flags, size, header_bytes, *lengths = _HEAD.unpack_from(encoded)
    if version != _VERSION:
        raise SummaryError(f"summary has version {version}; this release reads {_VERSION}")
    if flags > _HEADERS_COMPLETE | _STRUCTURE_COMPLETE or header_bytes > size:
        raise SummaryError("summary has unknown flags, or a header longer than the message")
    if _HEAD.size + sum(lengths) != len(encoded):
        raise SummaryError(f"summary of {len(encoded)} bytes does not have the length it names")
    fields = []
    end = _HEAD.size
    for length in lengths:
        start, end = end, end + length
        fields.append(encoded[start:end])
    shown_envelope, bodystructure, parts, headers = fields
    return Summary(
        size,
        header_bytes,
        shown_envelope,
        bodystructure,
        parts,
        headers,
        bool(flags & _HEADERS_COMPLETE),
        bool(flags & _STRUCTURE_COMPLETE),
    )


def finished_envelopes(encoded: Sequence[bytes]) -> list[bytes]:
    """The finished ENVELOPE of each of some encoded summaries, without decoding the rest.

    Raises SummaryError as `decode_summary` does.
    """
    found = [
        one[_HEAD.size : _HEAD.size + envelope]
        for one, (version, _, envelope, structure, parts, headers) in _with_lengths(encoded)
        if version == _VERSION
        and _HEAD.size + envelope + structure + parts + headers == len(one) <= SUMMARY_BYTES_MAX
    ]
    if len(found) == len(encoded):
        return found
    return [decode_summary(one).envelope for one in encoded]


def finished_structures(encoded: Sequence[bytes]) -> list[bytes]:
    """As `finished_envelopes`, of BODYSTRUCTURE."""
    found = [
        one[_HEAD.size + envelope : _HEAD.size + envelope + structure]
        for one, (version, _, envelope, structure, parts, headers) in _with_lengths(encoded)
        if version == _VERSION
        and _HEAD.size + envelope + structure + parts + headers == len(one) <= SUMMARY_BYTES_MAX
    ]
    if len(found) == len(encoded):
        return found
    return [decode_summary(one).bodystructure for one in encoded]


def kept_headers(encoded: Sequence[bytes]) -> list[bytes | None]:
    """The cached header fields of each of some encoded summaries, without decoding the rest.

    None where some were left out, and for bytes that `decode_summary` does not take.
    """
    found = [
        one[len(one) - headers :]
        if version == _VERSION
        and flags & _HEADERS_COMPLETE
        and _HEAD.size + envelope + structure + parts + headers == len(one)
        else None
        for one, (version, flags, envelope, structure, parts, headers) in _with_lengths(encoded)
    ]
    return found if len(found) == len(encoded) else [None] * len(encoded)


def _with_lengths(encoded: Sequence[bytes]) -> Iterator[tuple[bytes, tuple[int, ...]]]:
    """Encoded summaries, each with what `_LENGTHS` has of it; nothing when one is too short."""
    heads = b"".join([one[: _HEAD.size] for one in encoded])
    if len(heads) != _HEAD.size * len(encoded):
        return iter(())
    return zip(encoded, _LENGTHS.iter_unpack(heads), strict=True)


def decode_parts(parts: bytes) -> tuple[Part, ...]:
    """All parts in `Summary.parts`, each before the parts inside it.

    Raises SummaryError for another version, or a list that cannot be one.
    """
    if parts[:1] != _PARTS_VERSION:
        raise SummaryError(f"part list begins with {parts[:1]!r}; expected {_PARTS_VERSION!r}")
    count, rest = divmod(len(parts) - 1, PLACE.size)
    if rest or count > PARTS_MAX:
        raise SummaryError(f"part list of {len(parts)} bytes; at most {PARTS_MAX} whole parts fit")
    path: tuple[int, ...] = ()
    decoded = []
    for depth, number, offset, header, body, message in PLACE.iter_unpack(memoryview(parts)[1:]):
        if not 1 <= depth <= len(path) + 1 or not number:
            raise SummaryError(f"part list has a part at depth {depth} after part {path}")
        path = (*path[: depth - 1], number)
        decoded.append(
            Part(
                path,
                offset,
                header,
                offset + header,
                body,
                None if message == NO_MESSAGE else message,
            )
        )
    return tuple(decoded)


def find_part(parts: bytes, path: Sequence[int]) -> Part | None:
    """The part with the number `path` (as in BODY[1.2]: 1, 2), or None if there is none.

    Raises SummaryError as `decode_parts` does.
    """
    wanted = tuple(path)
    return next((part for part in decode_parts(parts) if part.path == wanted), None)
