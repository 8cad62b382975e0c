"""Messages between source and sink, cut into numbered, checksummed and compressed frames.

A frame: `version u8 | kind u8 | flags u16 | identity 8 | session u64 | message u32 | total u32 |
offset u32 | length u32 | crc u32`, big-endian, then the payload. `identity` is a hash of the
cluster and the shard. `message` counts from 1 in either direction of a session. `total`, `offset`
and `length` are bytes before compression (flag 1: zstd). The CRC32 covers the header before it and
the payload. The frames of a message follow each other without a gap, but for messages that have one
frame and the number 0: they stand outside the order, and may come at any time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from struct import Struct
from typing import NoReturn
from zlib import crc32

import zstandard

from raftmail.resync.limits import ResyncError

VERSION = 1
HEAD = Struct(">BBH8sQIIIII")
_CRC_AT = HEAD.size - 4
_CRC = Struct(">I")
_COMPRESSED = 1

_ASIDE = 0

FRAGMENT_BYTES = 64 << 10
"""Of a message in one frame, before compression."""

_COMPRESS_FROM_BYTES = 128
_LEVEL = 1


@dataclass(frozen=True, slots=True)
class Link:
    """Between whom a session is: what its frames carry, and its errors name."""

    cluster: str
    shard: int
    peer: str

    def identity(self) -> bytes:
        return blake2b(f"{self.cluster}\0{self.shard}".encode(), digest_size=8).digest()

    def error(self, what: str, *, elsewhere: bool = True) -> ResyncError:
        return ResyncError(self.shard, self.peer, what, elsewhere=elsewhere)


def session_of(frame: bytes) -> int:
    """The session a frame says it is of; 0 for what is no frame."""
    return int(HEAD.unpack_from(frame)[4]) if len(frame) >= HEAD.size else 0


def kind_of(frame: bytes) -> int:
    """The kind of message a frame says it is of; 0 for what is no frame."""
    return int(HEAD.unpack_from(frame)[1]) if len(frame) >= HEAD.size else 0


class Encoder:
    """Makes the frames of one direction of a session."""

    def __init__(self, link: Link, session: int) -> None:
        self._identity = link.identity()
        self._session = session
        self._message = 0
        self._compressor = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=False)

    def frames(self, kind: int, payload: bytes) -> Iterator[bytes]:
        """The frames of the next message, made as they are asked for."""
        self._message += 1
        return self._frames(kind, payload, self._message)

    def aside(self, kind: int, payload: bytes) -> bytes:
        """The one frame of a message outside the order, of up to `FRAGMENT_BYTES`."""
        (frame,) = self._frames(kind, payload, _ASIDE)
        return frame

    def _frames(self, kind: int, payload: bytes, message: int) -> Iterator[bytes]:
        total = len(payload)
        for offset in range(0, total or 1, FRAGMENT_BYTES):
            part = payload[offset : offset + FRAGMENT_BYTES]
            flags = 0
            length = len(part)
            if length >= _COMPRESS_FROM_BYTES:
                compressed = self._compressor.compress(part)
                if len(compressed) < length - (length >> 4):
                    part, flags = compressed, _COMPRESSED
            head = HEAD.pack(
                VERSION, kind, flags, self._identity, self._session, message, total, offset,
                length, 0,
            )[:_CRC_AT]  # fmt: skip
            yield head + _CRC.pack(crc32(part, crc32(head))) + part


class Decoder:
    """Puts the messages of one direction of a session together again, and trusts nothing. `aside`:
    the kinds that stand outside the order, and no others."""

    def __init__(
        self,
        link: Link,
        session: int,
        message_bytes_max: int,
        aside: frozenset[int] = frozenset(),
    ) -> None:
        self._link = link
        self._identity = link.identity()
        self._session = session
        self._bytes_max = message_bytes_max
        self._aside = aside
        self._message = 0
        self._kind = 0
        self._total = 0
        self._parts: list[bytes] = []
        self._got = 0
        self._decompressor = zstandard.ZstdDecompressor()

    def feed(self, frame: bytes) -> tuple[int, bytes] | None:
        """The kind and payload of a message, when this frame completes it. Raises `ResyncError`,
        after which the session is over."""
        if len(frame) < HEAD.size:
            self._bad(f"a frame is cut short: {len(frame)} bytes")
        version, kind, flags, identity, session, message, total, offset, length, crc = (
            HEAD.unpack_from(frame)
        )
        if version != VERSION:
            self._bad(f"a frame of version {version}; this release reads {VERSION}")
        part = frame[HEAD.size :]
        if crc32(part, crc32(frame[:_CRC_AT])) != crc:
            self._bad(f"message {message}: the checksum of a frame does not fit")
        if identity != self._identity:
            self._bad("a frame is foreign: it belongs to another cluster or shard")
        if session != self._session:
            self._bad(f"a frame belongs to session {session:x}, this is {self._session:x}")
        if flags & ~_COMPRESSED:
            self._bad(f"message {message}: unknown flags {flags}")
        is_aside = message == _ASIDE and kind in self._aside
        if not is_aside:
            self._check_order(kind, message, total, offset)
        if length > FRAGMENT_BYTES or offset + length > total or (not length and total):
            self._bad(f"message {message} is longer than it was announced")
        if is_aside and length != total:
            self._bad(f"a message of kind {kind} outside the order is not whole")
        if flags:
            part = self._decompressed(message, part, length)
        if len(part) != length:
            self._bad(f"message {message}: {length} bytes announced, {len(part)} there")
        if is_aside:
            return kind, part
        self._parts.append(part)
        self._got += length
        if self._got < total:
            return None
        payload = b"".join(self._parts)
        self._parts = []
        self._got = 0
        return kind, payload

    def _check_order(self, kind: int, message: int, total: int, offset: int) -> None:
        if self._parts:
            if message != self._message or offset != self._got:
                self._bad(
                    f"message {message} at {offset} where message {self._message} at {self._got} "
                    "was to follow"
                )
            if kind != self._kind or total != self._total:
                self._bad(f"message {message} changes in the middle")
            return
        if message <= self._message:
            self._bad(f"message {message} comes again after message {self._message}")
        if message != self._message + 1 or offset:
            self._bad(f"message {message} at {offset} comes after message {self._message}")
        if total > self._bytes_max:
            self._bad(f"message {message} has {total} bytes, more than {self._bytes_max}")
        self._message = message
        self._kind = kind
        self._total = total

    def _decompressed(self, message: int, part: bytes, length: int) -> bytes:
        try:
            if zstandard.frame_content_size(part) != length:
                self._bad(f"message {message}: a frame does not decompress to what it announced")
            return self._decompressor.decompress(
                part, max_output_size=length, allow_extra_data=False
            )
        except zstandard.ZstdError as e:
            self._bad(f"message {message}: a frame does not decompress: {e}")

    def _bad(self, what: str) -> NoReturn:
        raise self._link.error(what)
