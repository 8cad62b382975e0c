"""The format of blob segments: records of bodies, to bytes and back.

A segment `%016x.seg` (the name is its sequence number) is a header of 32 bytes followed by records.
All numbers are little-endian. Whatever comes after the last record is zeros (space allocated ahead)
or the end of the file.

Record: `magic u32 | crc of the header u32 | sha256 | raw length u32 | stored length u32 | crc of
the stored bytes u32 | flags u32 | stored bytes`. The CRC-32 of the header is seeded with the
record's segment and offset, so a record is good only where it was written. The sha256 is that of
the body; the stored bytes are the body or, with the flag `ZSTD`, one zstd frame of it.

Since bodies are addressed by what they are, a record proves itself: no order of records matters,
and a scan may go on behind one that is bad.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from functools import lru_cache
from hashlib import sha256
from threading import local
from typing import Final, NamedTuple
from zlib import crc32

from zstandard import ZstdDecompressor, ZstdError, frame_content_size

from raftmail.storage.disk import Disk, File, read_what_can_be

SEGMENT_HEADER_BYTES: Final = 32
_SEGMENT_HEADER: Final = struct.Struct("<8sIIQI")
_SEGMENT_MAGIC: Final = b"rmbodies"
_FORMAT_VERSION: Final = 1

HEADER: Final = struct.Struct("<II32sIIII")
HEADER_BYTES: Final = HEADER.size
MAGIC: Final = 0x626D72F5
_MAGIC_BYTES: Final = struct.pack("<I", MAGIC)
_HEADER_CRC_FROM: Final = 8
_HEADER_START: Final = struct.Struct("<II")
_HEADER_FIELDS: Final = struct.Struct("<32sIIII")
ZSTD: Final = 1
FILLER: Final = 2
"""Not a body, but what a torn record left between good ones."""
DIGEST_BYTES: Final = 32

_PLACE: Final = struct.Struct("<QII")
_NAME: Final = re.compile(r"[0-9a-f]{16}\.seg")
_SEARCH_BYTES: Final = 1 << 20


class _OfThread(local):
    """zstd's decompressor keeps what it is at: two threads with one would spoil each other's."""

    def __init__(self) -> None:
        self.decompressor = ZstdDecompressor()


_own: Final = _OfThread()


class BlobPlace(NamedTuple):
    """Where a body is. Places are ordered as they were written."""

    sequence: int
    offset: int
    stored_bytes: int
    """Length of the stored bytes, without the record's header."""

    @property
    def end(self) -> int:
        return self.offset + HEADER_BYTES + self.stored_bytes


def pack_place(place: BlobPlace) -> bytes:
    """A place as it stands in the place table."""
    return _PLACE.pack(*place)


def unpack_place(data: bytes) -> BlobPlace:
    """The reverse of `pack_place`. Raises ValueError for anything else."""
    if len(data) != _PLACE.size:
        raise ValueError(f"a place has {_PLACE.size} bytes, not {len(data)}")
    return BlobPlace(*_PLACE.unpack(data))


def segment_name(folder: str, sequence: int) -> str:
    """The path of a segment."""
    return f"{folder}/{sequence:016x}.seg"


def list_segments(disk: Disk, folder: str) -> list[int]:
    """The sequence numbers of the segments in a folder, ascending."""
    return [int(name[:16], 16) for name in disk.listdir(folder) if _NAME.fullmatch(name)]


def encode_segment_header(sequence: int) -> bytes:
    """The 32 bytes at the beginning of a segment."""
    body = _SEGMENT_HEADER.pack(_SEGMENT_MAGIC, _FORMAT_VERSION, 0, sequence, 0)
    return body + struct.pack("<I", crc32(body))


def is_segment_header(data: bytes, sequence: int) -> bool:
    """True for what `encode_segment_header` makes for this sequence number."""
    return data[:SEGMENT_HEADER_BYTES] == encode_segment_header(sequence)


@lru_cache(maxsize=256)
def seed_of(sequence: int) -> int:
    """The seed, at offset 0, of the header checksums in a segment."""
    return crc32(struct.pack("<Q", sequence))


def encode_header(
    digest: bytes, raw_bytes: int, stored_bytes: int, stored_crc: int, flags: int, seed: int
) -> bytes:
    """A record's header; `seed` is `seed_of` its segment plus its offset."""
    fields = _HEADER_FIELDS.pack(digest, raw_bytes, stored_bytes, stored_crc, flags)
    return _HEADER_START.pack(MAGIC, crc32(fields, seed & 0xFFFFFFFF)) + fields


class BlobHeader(NamedTuple):
    """A record's header that has been verified."""

    place: BlobPlace
    digest: bytes
    raw_bytes: int
    crc: int
    flags: int


def filler_header(sequence: int, offset: int, length: int) -> bytes:
    """The header that makes a record of no one's of the `length` bytes from `offset` on."""
    stored_bytes = length - HEADER_BYTES
    return encode_header(
        bytes(DIGEST_BYTES), 0, stored_bytes, 0, FILLER, seed_of(sequence) + offset
    )


def decode_header(data: bytes, sequence: int, offset: int) -> BlobHeader | None:
    """The record header at the beginning of `data`, or None when it is not one of this place."""
    if len(data) < HEADER_BYTES:
        return None
    magic, crc, digest, raw_bytes, stored_bytes, body_crc, flags = HEADER.unpack_from(data)
    seed = (seed_of(sequence) + offset) & 0xFFFFFFFF
    if magic != MAGIC or crc32(data[_HEADER_CRC_FROM:HEADER_BYTES], seed) != crc:
        return None
    return BlobHeader(BlobPlace(sequence, offset, stored_bytes), digest, raw_bytes, body_crc, flags)


def decode_body(header: BlobHeader, stored: bytes) -> bytes | None:
    """The body, or None when it is not the one the header promises. Any thread may call it."""
    if len(stored) != header.place.stored_bytes:
        return None
    body = stored
    if header.flags & ZSTD:
        if crc32(stored) != header.crc:
            return None
        try:
            # The length in the frame is allocated at once, whatever it is.
            if frame_content_size(stored) != header.raw_bytes:
                return None
            body = _own.decompressor.decompress(stored, max_output_size=header.raw_bytes)
        except ZstdError:
            return None
    if len(body) != header.raw_bytes or sha256(body).digest() != header.digest:
        return None
    return body


def read_body(file: File, header: BlobHeader) -> bytes | None:
    """The body of a record whose header was read, or None when it is not the one promised."""
    place = header.place
    return decode_body(
        header, read_what_can_be(file, place.offset + HEADER_BYTES, place.stored_bytes)
    )


def walk(file: File, sequence: int, start: int, end: int) -> Iterator[BlobHeader | tuple[int, int]]:
    """The headers of the records between two offsets, and in between the ranges that are none.

    A range is (from, to). Reads headers only, except where one is bad: then it looks for the next.
    """
    offset = start
    while offset < end:
        header = decode_header(read_what_can_be(file, offset, HEADER_BYTES), sequence, offset)
        if header is None or header.place.end > end:
            following = _next_header(file, sequence, offset + 1, end)
            yield offset, following
            offset = following
        else:
            if not header.flags & FILLER:
                yield header
            offset = header.place.end


def _next_header(file: File, sequence: int, start: int, end: int) -> int:
    """The offset of the next good record header at or after `start`; `end` when there is none."""
    offset = start
    while offset < end:
        # Overlapping reads, so that a header is never cut in two.
        data = read_what_can_be(file, offset, min(_SEARCH_BYTES + HEADER_BYTES, end - offset))
        at = data.find(_MAGIC_BYTES)
        while at >= 0:
            header = decode_header(data[at : at + HEADER_BYTES], sequence, offset + at)
            if header is not None and header.place.end <= end:
                return offset + at
            at = data.find(_MAGIC_BYTES, at + 1)
        offset += _SEARCH_BYTES
    return end


def is_zero(file: File, start: int, end: int) -> bool:
    """True when a range holds nothing but zeros."""
    return not any(
        read_what_can_be(file, offset, min(_SEARCH_BYTES, end - offset)).strip(b"\0")
        for offset in range(start, end, _SEARCH_BYTES)
    )
