"""The blob store's files: a buffer that is written to the newest segment, and the sync of it.

Space is allocated ahead (fallocate), before a body is accepted into the buffer, so that the buffer
can always be written: a full disk is noticed when something is appended, and nothing has happened
then. Zeros are not written ahead, as the journal does: bodies come in larger batches, and writing
everything twice costs more than the shorter sync saves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from raftmail.storage.blobformat import (
    HEADER_BYTES,
    SEGMENT_HEADER_BYTES,
    BlobPlace,
    encode_header,
    encode_segment_header,
    seed_of,
    segment_name,
)
from raftmail.storage.disk import Disk, DiskFull, File

Position = tuple[int, int]
"""(segment sequence, offset)."""

OPEN_SEGMENTS_MAX: Final = 8
"""Older segments that are kept open for reading."""


@dataclass(frozen=True, slots=True)
class BlobLimits:
    """Sizes in bytes, and what is worth compressing."""

    segment_bytes_max: int = 64 << 20
    """A larger body gets a segment of its own."""
    body_bytes_max: int = (256 << 20) + (64 << 10)
    """The largest body; `BlobTooLarge` beyond it."""
    buffer_bytes_max: int = 1 << 20
    """Appended and not yet written; beyond it `append` writes by itself."""
    alloc_bytes_min: int = 256 << 10
    """Space is allocated ahead, first so much at a time, then doubling ..."""
    alloc_bytes_max: int = 4 << 20
    """... up to so much."""
    free_bytes_min: int = 256 << 20
    """With less space left on the file system than this, `nearly_full` is true."""
    compress_bytes_min: int = 16 << 10
    """Bodies from this size on are compressed when they come. Smaller ones wait for `reclaim`: at
    4 KiB zstd takes three times as long as everything else that is done to a body."""
    compress_level: int = 1
    recompress_bytes_min: int = 1 << 10
    """Bodies from this size on are compressed when `reclaim` moves them."""
    recompress_level: int = 3
    saved_percent_min: int = 10
    """A body is stored as it is unless compressing saves this much."""
    dead_percent_min: int = 50
    """`reclaim` empties segments of which this much is not needed any more."""


@dataclass(slots=True, repr=False)
class BlobSyncJob:
    """One sync of the blob store. `run` may be called in another thread."""

    disk: Disk
    folder: str
    files: list[File]
    new_names: bool
    position: Position
    finished: bool = False

    def run(self) -> None:
        """Sync. Raises `SyncFailed`, after which the store must not be used any more."""
        for file in self.files:
            file.sync()
        if self.new_names:
            self.disk.sync_folder(self.folder)
        self.finished = True


class BlobSegmentFiles:
    """Reads and appends records. Knows nothing of which of them are needed."""

    def __init__(self, disk: Disk, folder: str, limits: BlobLimits) -> None:
        self.durable: Position = (0, 0)
        """Records before it are on stable storage."""
        self.sealed: dict[int, int] = {}
        """Length of every segment that is not appended to any more."""
        self.just_sealed: list[int] = []
        """Segments sealed since someone last took this list."""
        self.sequence_max = 0
        """The highest sequence number that was ever used."""

        self._disk = disk
        self._folder = folder
        self._limits = limits
        self._file: File | None = None  # the segment that is appended to
        self._sequence = 0
        self._written = 0  # of it, in the file
        self._allocated = 0
        self._buffer = bytearray()
        self._seed = 0
        self._alloc_bytes = limits.alloc_bytes_min
        self._readers: dict[int, File] = {}
        self._unsynced: list[File] = []
        self._synced: set[int] = (
            set()
        )  # segments at or behind `durable` that are durable on their own
        self._new_names = False
        self._job: BlobSyncJob | None = None
        self.pressing = False
        """Something was appended that only a sync makes safe, and none has begun to cover it."""

    # ---------------------------------------------------------------- the newest segment

    @property
    def position(self) -> Position:
        """Where the next record goes; (0, 0) when there is no segment to append to."""
        return self._sequence, self._written + len(self._buffer)

    @property
    def total_bytes(self) -> int:
        """Length of all segments, without what is allocated ahead."""
        return sum(self.sealed.values()) + self._written + len(self._buffer)

    def reaches(self, sequence: int, end: int) -> bool:
        """Whether there is a segment, and it is so long."""
        length = self.sealed.get(sequence)
        if length is None:
            return sequence == self._sequence and self._file is not None
        return end <= length

    def adopt(self, sequence: int, end: int) -> None:
        """Go on appending to an existing segment whose records end at `end`."""
        file = self._disk.open(segment_name(self._folder, sequence))
        self._file = file
        self._sequence, self._written, self._allocated = sequence, end, file.size()
        self._seed = seed_of(sequence)
        self.sequence_max = max(self.sequence_max, sequence)
        self._unsynced.append(file)
        self._new_names = True

    def take_sequence(self) -> int:
        """The number of a segment that the caller writes by itself."""
        self.sequence_max += 1
        return self.sequence_max

    def adopt_synced(self, sequence: int, length: int) -> None:
        """Take a segment that was written and synced by itself among the sealed ones. What is
        appended from now on comes behind it."""
        if self._file is not None and self._sequence < sequence:
            self.seal()
        self.sealed[sequence] = length
        self.just_sealed.append(sequence)
        self._synced.add(sequence)
        if self._file is None and self._job is None and not self.dirty:
            self._advance((self.sequence_max + 1, 0))

    def is_durable(self, place: BlobPlace) -> bool:
        """Whether a record is on stable storage."""
        return (place.sequence, place.end) <= self.durable or place.sequence in self._synced

    def _advance(self, position: Position) -> None:
        self.durable = max(self.durable, position)
        self._synced = {sequence for sequence in self._synced if sequence >= self.durable[0]}

    def append(
        self, digest: bytes, raw_bytes: int, stored: bytes, stored_crc: int, flags: int
    ) -> BlobPlace:
        """Put a record into the buffer. Raises `DiskFull`, having changed nothing."""
        if len(self._buffer) >= self._limits.buffer_bytes_max:
            self.write()
        length = HEADER_BYTES + len(stored)
        at = self._written + len(self._buffer)
        if self._file is None or (
            at + length > self._limits.segment_bytes_max and at > SEGMENT_HEADER_BYTES
        ):
            self._begin(length)
            at = self._written
        elif at + length > self._allocated:
            self._allocated = self._allocate(self._file, at + length, self._allocated)
        stored_bytes = len(stored)
        self._buffer += encode_header(
            digest, raw_bytes, stored_bytes, stored_crc, flags, self._seed + at
        )
        self._buffer += stored
        return BlobPlace(self._sequence, at, stored_bytes)

    def _allocate(self, file: File, needed: int, allocated: int) -> int:
        """Have space for `needed` bytes, better for more; returns for how much there is."""
        ahead = min(allocated + self._alloc_bytes, self._limits.segment_bytes_max)
        if ahead > needed:
            try:
                file.allocate(ahead)
            except DiskFull:
                pass
            else:
                self._alloc_bytes = min(self._alloc_bytes * 2, self._limits.alloc_bytes_max)
                return ahead
        file.allocate(needed)
        return needed

    def _begin(self, length: int) -> None:
        """Seal the newest segment and begin another, with space for a record of `length` bytes."""
        sequence = self.sequence_max + 1
        name = segment_name(self._folder, sequence)
        self.write()
        file = self._disk.open(name, create=True)
        try:
            allocated = self._allocate(file, SEGMENT_HEADER_BYTES + length, 0)
            file.write(0, encode_segment_header(sequence))
        except BaseException:
            file.close()
            self._disk.remove(name)
            raise
        self.seal()
        self._file = file
        self._sequence, self._written = sequence, SEGMENT_HEADER_BYTES
        self._allocated = allocated
        self._seed = seed_of(sequence)
        self.sequence_max = sequence
        self._unsynced.append(file)
        self._new_names = True

    def seal(self) -> None:
        """Append no more to the newest segment."""
        if self._file is None:
            return
        self.write()
        self._file.truncate(self._written)
        self._mark_unsynced(self._file)
        self.sealed[self._sequence] = self._written
        self.just_sealed.append(self._sequence)
        self._keep_reader(self._sequence, self._file)
        self._file = None
        self._sequence = self._written = self._allocated = 0

    def write(self) -> None:
        """Write the buffer, without a sync."""
        if self._buffer:
            assert self._file is not None
            self._file.write(self._written, self._buffer)
            self._written += len(self._buffer)
            self._buffer.clear()
            self._mark_unsynced(self._file)

    def _mark_unsynced(self, file: File) -> None:
        if not self._unsynced or self._unsynced[-1] is not file:
            self._unsynced.append(file)

    # ---------------------------------------------------------------- reading

    def read(self, place: BlobPlace) -> bytes:
        """A record, header and all; short when the file is. Raises FileNotFoundError,
        `DiskError`.
        """
        return self._read(place, HEADER_BYTES + place.stored_bytes)

    def read_head(self, place: BlobPlace) -> bytes:
        """The header of a record. Raises as `read`."""
        return self._read(place, HEADER_BYTES)

    def _read(self, place: BlobPlace, length: int) -> bytes:
        if place.sequence == self._sequence and self._file is not None:
            at = place.offset - self._written
            if at >= 0:
                return bytes(self._buffer[at : at + length])
            return self._file.read(place.offset, length)
        return self.reader(place.sequence).read(place.offset, length)

    def reader(self, sequence: int) -> File:
        """A file to read a sealed segment with. Raises FileNotFoundError."""
        file = self._readers.get(sequence)
        if file is None:
            file = self._disk.open(segment_name(self._folder, sequence))
            self._keep_reader(sequence, file)
        return file

    def open_copy(self, sequence: int) -> File:
        """A sealed segment, opened for a long walk; the caller closes it."""
        return self._disk.open(segment_name(self._folder, sequence))

    def _keep_reader(self, sequence: int, file: File) -> None:
        self._readers[sequence] = file
        while len(self._readers) > OPEN_SEGMENTS_MAX:
            oldest = next(iter(self._readers))
            self._close_later(self._readers.pop(oldest))

    def _close_later(self, file: File) -> None:
        """Close a file, unless a sync still needs it; `end_sync` closes it then."""
        if file not in self._unsynced and (self._job is None or file not in self._job.files):
            file.close()

    # ---------------------------------------------------------------- syncing and removing

    @property
    def dirty(self) -> bool:
        """True when something was appended that no sync has begun to cover."""
        return bool(self._buffer or self._unsynced)

    def begin_sync(self) -> BlobSyncJob | None:
        """Write the buffer and hand out the sync; None: nothing waits, or one is running."""
        if self._job is not None or not self.dirty:
            return None
        self.write()
        position = self.position if self._file is not None else (self.sequence_max + 1, 0)
        self._job = BlobSyncJob(self._disk, self._folder, self._unsynced, self._new_names, position)
        self._unsynced, self._new_names = [], False
        self.pressing = False
        return self._job

    def end_sync(self, job: BlobSyncJob) -> None:
        """Note that `job.run()` has returned. Raises RuntimeError when it has not."""
        if not job.finished:
            raise RuntimeError("the sync has not finished; after a failed sync the process stops")
        self._job = None
        self._advance(job.position)
        for file in job.files:
            if file is not self._file and file not in self._readers.values():
                self._close_later(file)

    def remove(self, sequence: int) -> None:
        """Remove a sealed segment, durably."""
        file = self._readers.pop(sequence, None)
        if file is not None:
            self._close_later(file)
        self.sealed.pop(sequence, None)
        self._disk.remove(segment_name(self._folder, sequence))
        self._disk.sync_folder(self._folder)

    def close(self) -> None:
        """Close the files as they are. Twice is harmless."""
        for file in [*self._readers.values(), *self._unsynced]:
            file.close()
        if self._file is not None:
            self._file.close()
