"""Storing one long body, in a segment of its own: all that takes time is done by `LongBody.run`, which
may be called in another thread while the store goes on."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import Final
from zlib import crc32

from zstandard import ZstdCompressor

from raftmail.storage.blobformat import (
    SEGMENT_HEADER_BYTES,
    ZSTD,
    BlobPlace,
    encode_header,
    encode_segment_header,
    seed_of,
    segment_name,
)
from raftmail.storage.disk import Disk, DiskFull, File

_WRITE_BYTES: Final = 1 << 20


@dataclass(slots=True, repr=False)
class LongBody:
    """A body on its way into the segment `sequence`, which nothing else uses.

    After `run`: `place` tells where it is, on stable storage; without one, `full` tells that there is no
    space, or the body is not the one of `digest`. The segment is then not there."""

    disk: Disk
    folder: str
    sequence: int
    digest: bytes
    body: bytes | memoryview
    compress_level: int
    saved_percent_min: int
    place: BlobPlace | None = None
    full: DiskFull | None = None

    def run(self) -> None:
        """Verify, compress, write and sync. Raises `SyncFailed`, after which the store must not be used."""
        if sha256(self.body).digest() != self.digest:
            return
        stored, flags = self.body, 0
        level = self.compress_level
        compressed = ZstdCompressor(
            level=level, write_checksum=False, write_content_size=True
        ).compress(self.body)
        if len(compressed) * 100 <= len(self.body) * (100 - self.saved_percent_min):
            stored, flags = compressed, ZSTD
        place = BlobPlace(self.sequence, SEGMENT_HEADER_BYTES, len(stored))
        name = segment_name(self.folder, self.sequence)
        try:
            file = self.disk.open(name, create=True)
            try:
                file.allocate(place.end)
                self._write(file, stored, flags)
                file.sync()
            finally:
                file.close()
        except DiskFull as e:
            self.full = e
            if self.disk.exists(name):
                self.disk.remove(name)
            return
        self.disk.sync_folder(self.folder)
        self.place = place

    def _write(self, file: File, stored: bytes | memoryview, flags: int) -> None:
        at = SEGMENT_HEADER_BYTES
        head = encode_header(
            self.digest,
            len(self.body),
            len(stored),
            crc32(stored),
            flags,
            seed_of(self.sequence) + at,
        )
        file.write(0, encode_segment_header(self.sequence) + head)
        at += len(head)
        view = memoryview(stored)
        for start in range(0, len(view), _WRITE_BYTES):
            file.write(at + start, view[start : start + _WRITE_BYTES])
