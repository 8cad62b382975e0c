"""The format of the journal's segment files: headers and records, to bytes and back.

A segment `%016x.log` (the name is its sequence number) is a header of 512 bytes followed by
records. All numbers are little-endian. Whatever comes after the last record is zeros (space
allocated ahead) or the end of the file.

Header:

- magic, format version, flags, cluster id, shard, replica, sequence;
- index and term of the entry before the segment's first record;
- where the previous segment ends;
- the position known to be durable when the header was written;
- the hard state (term and vote) of that moment;
- padding, CRC-32 of all of it.

Record: `crc u32 | length u32 | kind u8 | index u64 | term u64 | payload`; `length` counts the whole
record. The CRC-32 is seeded with the segment's salt plus the record's offset, so a record is good
only where it was written. It covers the payload, of a BODY record the beginning of it (see `BODY`).

A position is a pair (segment sequence, offset); positions are ordered as they were written. A MARK
says "everything before this position is known to be durable". That tells rot from the torn end of a
batch that nobody was told about. A bad record before a marked position is damage, one after every
mark was never acknowledged.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final
from zlib import crc32

HEADER_BYTES: Final = 512
FORMAT_VERSION: Final = 3
"""2 has BODY records, 3 has PROMISES; segments of older versions are read as they are."""
_MAGIC: Final = b"rmjournl"

ENTRY: Final = 1
"""A log entry: index, term, payload."""
CUT: Final = 2
"""Entries from `index` on are no longer part of the log; `term` is that of the entry before it."""
HARD_STATE: Final = 3
"""`term` is the current term, the payload the vote."""
MARK: Final = 4
"""Everything before (segment `index`, offset `term`) is durable; the payload has the commit
hint.
"""
CLOSED: Final = 5
"""A MARK written and synced when the journal was closed in order."""

BODY: Final = 6
"""A message's body, which is kept here until the blob store has it on the disk: sha256, CRC-32 of
the bytes, the bytes. Not part of the log; `index` and `term` are 0. The record's own checksum ends
before the bytes, so that they are summed once for the journal and the blob store together.
"""

PROMISES: Final = 7
"""What other replicas promised to this one (`promises`), all of it: the last such record counts.
Not part of the log; `index` and `term` are 0.
"""

KIND_NAMES: Final = {
    ENTRY: "entry",
    CUT: "cut",
    HARD_STATE: "hard-state",
    MARK: "mark",
    CLOSED: "closed",
    BODY: "body",
    PROMISES: "promises",
}

HEAD: Final = struct.Struct("<IBQQ")
CRC: Final = struct.Struct("<I")
_CRC_AND_HEAD: Final = struct.Struct("<IIBQQ")
_SALT: Final = struct.Struct("<16sIIQ")
RECORD_BYTES: Final = CRC.size + HEAD.size
"""Size of a record without its payload."""

BODY_HEAD: Final = struct.Struct("<32sI")
BODY_RECORD_BYTES: Final = RECORD_BYTES + BODY_HEAD.size
"""Size of a BODY record without the body."""

_MARK_MAGIC: Final = b"\xf5rmMARK\xfa"
_MARK: Final = struct.Struct("<8sQ")
_HEADER: Final = struct.Struct("<8sHH16sIIQQQQQQQ")
_RESET_FLAG: Final = 1
_VOTE_BYTES_MAX: Final = 255


class UnknownFormat(Exception):
    """The segment was written in a format that this program does not know."""


Position = tuple[int, int]
"""(segment sequence, offset in bytes)."""
Vote = str | int | None
"""The member voted for in the current term, by its engine id; None when no vote was given."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose journal this is. A segment that carries another identity is refused."""

    cluster_id: bytes
    shard: int
    replica: int

    def __post_init__(self) -> None:
        if len(self.cluster_id) != 16:
            raise ValueError(f"a cluster id has 16 bytes, not {len(self.cluster_id)}")

    def __str__(self) -> str:
        return f"cluster {self.cluster_id.hex()}, shard {self.shard}, replica {self.replica}"

    def salt(self, sequence: int) -> int:
        """The seed of the checksums in the segment `sequence`."""
        return crc32(_SALT.pack(self.cluster_id, self.shard, self.replica, sequence))


@dataclass(frozen=True, slots=True)
class Header:
    """What stands at the beginning of a segment."""

    identity: Identity
    sequence: int
    base_index: int
    """Index of the entry before the segment's first record; 0 at the beginning of the log."""
    base_term: int
    previous_end: int
    """Where the records of the previous segment end; 0 when there is none."""
    durable: Position
    term: int
    vote: Vote
    reset: bool
    """True: the log begins here, whatever older segments say."""


def encode_vote(vote: Vote) -> bytes:
    """A vote as bytes. Raises ValueError when a textual id has more than 255 bytes."""
    if vote is None:
        return b"\0"
    if isinstance(vote, int):
        return b"\2" + struct.pack("<q", vote)
    text = vote.encode()
    if len(text) > _VOTE_BYTES_MAX:
        raise ValueError(f"a member id has at most {_VOTE_BYTES_MAX} bytes, not {len(text)}")
    return b"\1" + text


def decode_vote(data: bytes) -> Vote:
    """The reverse of `encode_vote`. Raises ValueError on anything it did not write."""
    if data == b"\0":
        return None
    if data[:1] == b"\1":
        return data[1:].decode()
    if data[:1] == b"\2" and len(data) == 9:
        number: int = struct.unpack("<q", data[1:])[0]
        return number
    raise ValueError("not a vote")


def encode_header(header: Header) -> bytes:
    """The 512 bytes of a segment's header."""
    identity = header.identity
    vote = encode_vote(header.vote)
    body = _HEADER.pack(
        _MAGIC,
        FORMAT_VERSION,
        _RESET_FLAG if header.reset else 0,
        identity.cluster_id,
        identity.shard,
        identity.replica,
        header.sequence,
        header.base_index,
        header.base_term,
        header.previous_end,
        *header.durable,
        header.term,
    )
    body = (body + struct.pack("<H", len(vote)) + vote).ljust(HEADER_BYTES - CRC.size, b"\0")
    return body + CRC.pack(crc32(body))


def decode_header(data: bytes) -> Header | None:
    """The header in the first 512 bytes of `data`, or None when it cannot be verified. Raises
    `UnknownFormat`.
    """
    body = data[: HEADER_BYTES - CRC.size]
    if len(data) < HEADER_BYTES or data[:8] != _MAGIC:
        return None
    if CRC.unpack_from(data, HEADER_BYTES - CRC.size)[0] != crc32(body):
        return None
    (_, version, flags, cluster, shard, replica, sequence, index, term, end, d_seq, d_off, hard) = (
        _HEADER.unpack_from(body)
    )
    if not 1 <= version <= FORMAT_VERSION:
        raise UnknownFormat(f"it is in format {version}; this program knows {FORMAT_VERSION}")
    (vote_bytes,) = struct.unpack_from("<H", body, _HEADER.size)
    start = _HEADER.size + 2
    try:
        vote = decode_vote(body[start : start + vote_bytes])
    except ValueError:
        return None
    return Header(
        Identity(cluster, shard, replica),
        sequence,
        index,
        term,
        end,
        (d_seq, d_off),
        hard,
        vote,
        bool(flags & _RESET_FLAG),
    )


def encode_record(kind: int, index: int, term: int, payload: bytes, seed: int) -> bytes:
    """A record; `seed` is the segment's salt plus the offset it will be written at."""
    head = HEAD.pack(RECORD_BYTES + len(payload), kind, index, term)
    return CRC.pack(crc32(payload, crc32(head, seed & 0xFFFFFFFF))) + head + payload


def encode_body_head(digest: bytes, length: int, crc: int, seed: int) -> bytes:
    """What stands before the bytes of a body in its record: `length` bytes with the CRC-32
    `crc`."""
    head = HEAD.pack(BODY_RECORD_BYTES + length, BODY, 0, 0) + BODY_HEAD.pack(digest, crc)
    return CRC.pack(crc32(head, seed & 0xFFFFFFFF)) + head


def mark_payload(commit_index: int) -> bytes:
    """The payload of a MARK or CLOSED record."""
    return _MARK.pack(_MARK_MAGIC, commit_index)


def mark_commit_index(payload: bytes) -> int:
    """The commit hint in the payload of a MARK or CLOSED record. Raises ValueError on anything
    `mark_payload` did not give."""
    if len(payload) != _MARK.size:
        raise ValueError(f"not a mark: {len(payload)} bytes")
    commit: int = _MARK.unpack(payload)[1]
    return commit


RawRecord = tuple[int, int, int, int, int]
"""(offset, length of the whole record, kind, index, term)."""


def record_at(data: bytes, offset: int, salt: int, limit: int) -> RawRecord | None:
    """The record at `offset` when it ends at or before `limit` and its checksum is right, or
    None.
    """
    if offset + RECORD_BYTES > limit:
        return None
    crc, length, kind, index, term = _CRC_AND_HEAD.unpack_from(data, offset)
    end = offset + length
    if length < RECORD_BYTES or end > limit or kind not in KIND_NAMES:
        return None
    view = memoryview(data)
    summed = end
    if kind == BODY:
        summed = offset + BODY_RECORD_BYTES
        if summed > end or crc32(view[summed:end]) != CRC.unpack_from(data, summed - 4)[0]:
            return None
    if crc32(view[offset + 4 : summed], (salt + offset) & 0xFFFFFFFF) != crc:
        return None
    return offset, length, kind, index, term


def iter_records(data: bytes, salt: int, limit: int) -> Iterator[RawRecord]:
    """The good records of a segment from its header on, up to the first that is not one (or to
    `limit`).
    """
    offset = HEADER_BYTES
    while (record := record_at(data, offset, salt, limit)) is not None:
        yield record
        offset += record[1]


def find_marks(data: bytes, start: int, salt: int) -> Iterator[Position]:
    """The durable positions claimed by good MARK and CLOSED records that begin anywhere at or after
    `start`.
    """
    at = data.find(_MARK_MAGIC, start)
    while at >= 0:
        if at >= RECORD_BYTES:
            record = record_at(data, at - RECORD_BYTES, salt, len(data))
            if record is not None and record[2] in (MARK, CLOSED):
                yield record[3], record[4]
        at = data.find(_MARK_MAGIC, at + 1)
