"""Storing one long body, in a segment of its own: all that takes time is done by `LongBody.run`,
which may be called in another thread while the store goes on."""

from __future__ import annotations

from collections.abc import Callable
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

_PART_BYTES: Final = 1 << 20
"""Hashed, compressed, or written and synced at once."""


def _no_rest() -> None:
    """Go on at once."""


@dataclass(slots=True, repr=False)
class LongBody:
    """A body on its way into the segment `sequence`, which nothing else uses.

    After `run`: `place` tells where it is, on stable storage. Without one, `full` tells that there
    is no space, or the body is not the one of `digest`. The segment is then not there.
    """

    disk: Disk
    folder: str
    sequence: int
    digest: bytes
    body: bytes | memoryview
    compress_level: int
    saved_percent_min: int
    place: BlobPlace | None = None
    full: DiskFull | None = None
    rest: Callable[[], None] = _no_rest
    """Called after each MiB: it may wait, so that other work on the same disk and cores goes on."""

    def run(self) -> None:
        """Verify, compress, write and sync, a MiB at a time. Raises `SyncFailed`, after which the
        store must not be used."""
        if not self._is_of_digest():
            return
        stored, flags = self._compressed()
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

    def _is_of_digest(self) -> bool:
        sha = sha256()
        for part in _parts(self.body):
            sha.update(part)
            self.rest()
        return sha.digest() == self.digest

    def _compressed(self) -> tuple[bytes | memoryview, int]:
        """What is written, and its flags: the body as it is where compressing saves too little."""
        size = len(self.body)
        compressor = ZstdCompressor(
            level=self.compress_level, write_checksum=False, write_content_size=True
        ).compressobj(size=size)
        pieces = []
        for part in _parts(self.body):
            pieces.append(compressor.compress(part))
            self.rest()
        pieces.append(compressor.flush())
        if sum(map(len, pieces)) * 100 > size * (100 - self.saved_percent_min):
            return self.body, 0
        return b"".join(pieces), ZSTD

    def _write(self, file: File, stored: bytes | memoryview, flags: int) -> None:
        """Each part is synced: a sync of another file waits for all that this one has
        not written yet."""
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
        for part in _parts(stored):
            file.write(at, part)
            file.sync()
            at += len(part)
            self.rest()


def _parts(data: bytes | memoryview) -> list[memoryview]:
    view = memoryview(data)
    return [view[at : at + _PART_BYTES] for at in range(0, len(view), _PART_BYTES)]
