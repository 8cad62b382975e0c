"""The journal's files: a buffer that is written to the newest segment, and the sync of it.

Space is allocated ahead by writing zeros. A sync of data that overwrites zeros needs no change to
the file's metadata, and takes half the time. Allocating before a record is accepted into the buffer
also means that the buffer can always be written: a full disk is noticed when something is added,
never between a promise and its keeping.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from raftmail.consensus.log_cache import Entry
from raftmail.consensus.records import (
    BODY_RECORD_BYTES,
    CLOSED,
    ENTRY,
    HEADER_BYTES,
    MARK,
    RECORD_BYTES,
    Header,
    Identity,
    Position,
    UnknownFormat,
    Vote,
    decode_header,
    encode_body_head,
    encode_header,
    encode_record,
    iter_records,
    mark_payload,
    record_at,
)
from raftmail.consensus.replay import (
    NOWHERE,
    OFFSET_BITS,
    JournalDamaged,
    Replayed,
    ReplayedLog,
    read_bodies,
    segment_name,
)
from raftmail.storage.disk import Disk, DiskError, DiskFull, File, ReadFailed

_OFFSET_MASK: Final = (1 << OFFSET_BITS) - 1
_REMOVALS_PER_SYNC: Final = 1
"""Files that one sync removes: acknowledgements wait for it, and however many there are, not for
long."""
_MARK_BYTES: Final = RECORD_BYTES + len(mark_payload(0))


@dataclass(frozen=True, slots=True)
class JournalLimits:
    """Sizes, in bytes."""

    segment_bytes_max: int = 8 << 20
    """A new segment is begun by the first flush after which the current one is this long."""
    entry_bytes_max: int = 16 << 20
    """The longest command."""
    buffer_bytes_max: int = 16 << 20
    """Added and not yet written; beyond it the journal flushes by itself."""
    cache_bytes_max: int = 8 << 20
    """Commands kept in memory, the newest; older ones are read back from the disk."""
    prealloc_bytes_min: int = 64 << 10
    """Space is allocated ahead, first so much at a time, then doubling ..."""
    prealloc_bytes_max: int = 1 << 20
    """... up to so much."""
    reserve_bytes: int = 16 << 10
    """Allocated space that is left for terms, votes and the engine's own entries on a full disk."""


@dataclass(slots=True, repr=False)
class SyncJob:
    """One sync of the journal. `run` may be called in another thread."""

    disk: Disk
    folder: str
    files: list[File]
    new_names: bool
    removals: list[str]
    position: Position
    last_index: int
    hard_state: tuple[int, Vote]
    finished: bool = False

    def run(self) -> None:
        """Sync. Raises `SyncFailed`, after which the journal must not be used any more."""
        for file in self.files:
            file.sync()
        if self.new_names:
            self.disk.sync_folder(self.folder)
        for name in self.removals:
            # One name at a time, oldest first, so that a crash cannot leave a gap.
            with suppress(FileNotFoundError):  # somebody else removed it
                self.disk.remove(name)
            self.disk.sync_folder(self.folder)
        self.finished = True


class SegmentFiles:
    """The segments of one journal. `log` is read for headers; it must match what was appended.

    Invariant: the buffer always fits into what is allocated of the newest segment.
    """

    def __init__(
        self, disk: Disk, folder: str, identity: Identity, limits: JournalLimits, log: ReplayedLog
    ) -> None:
        self.buffer = bytearray()
        self.seed = 0
        """The newest segment's salt plus the offset at which the buffer begins."""
        self.place = 0
        """The place at which the buffer begins."""
        self.buffer_room = 0
        """How long the buffer may get without touching the reserve, as allocated so far."""
        self.full = False
        """True: the last attempt to allocate space failed."""
        self.durable: Position = (0, 0)
        self.first_body = log.first_body
        """The place of the first body that is not released, and ..."""
        self.first_body_marked = NOWHERE
        """... of the first since `Journal.mark_bodies`."""

        self._disk = disk
        self._folder = folder
        self._identity = identity
        self._limits = limits
        self._log = log
        self._chunk_bytes = limits.prealloc_bytes_min
        self._file: File | None = None
        self._sequence = 0
        self._salted = self._salt = 0
        self._end = 0
        self._allocated = 0
        self._older: list[tuple[int, int]] = []  # (sequence, bytes), ascending
        self._older_bytes = 0
        self._ends: dict[int, int] = {}  # where the records of older segments end
        self._reader: tuple[int, File] | None = None
        self._unsynced: list[File] = []  # ends with the newest segment's file, when that is there
        self._new_names = False
        self.removals: list[str] = []
        """The files that are to be removed by the next syncs."""

    # ------------------------------------------------------------------ opening and closing

    def adopt(self, found: Replayed) -> None:
        """Go on where a replay ended, removing what does not belong to the log."""
        disk, folder = self._disk, self._folder
        for sequence in found.superseded + found.torn:
            disk.remove(segment_name(folder, sequence))
            disk.sync_folder(folder)
        for sequence in found.sequences[:-1]:
            file = disk.open(segment_name(folder, sequence))
            self._older.append((sequence, file.size()))
            self._older_bytes += self._older[-1][1]
            self._unsynced.append(file)
        self._ends.update(found.ends)
        self._sequence, self._end = found.end
        self._file = disk.open(segment_name(folder, self._sequence))
        self._allocated = self._file.size()
        if found.dirty_tail:
            # No one was told about the records of such a batch. They could otherwise come back to
            # life behind new ones that end where an old one began.
            self._file.truncate(self._end)
            self._allocated = self._end
        self._unsynced.append(self._file)
        self._new_names = True
        self._begin_buffer()

    def close(self) -> None:
        """Close the files as they are, as a crash would leave them. Twice is harmless."""
        for file in self._unsynced:
            file.close()
        if self._file is not None:
            self._file.close()
        if self._reader is not None:
            self._reader[1].close()

    # ------------------------------------------------------------------ appending

    def claim(self, length: int, *, spare: int) -> bool:
        """Try to have space for `length` more bytes in the buffer with `spare` bytes behind it."""
        needed = self._end + len(self.buffer) + length + spare - self._allocated
        if needed <= 0:
            return True
        reserve = self._limits.reserve_bytes
        for size in (max(self._chunk_bytes, needed + reserve), needed):
            try:
                assert self._file is not None
                self._file.write(self._allocated, bytes(size))
            except DiskFull:
                self.full = True
                continue
            self._chunk_bytes = min(self._chunk_bytes * 2, self._limits.prealloc_bytes_max)
            self._allocated += size
            self.buffer_room = self._allocated - self._end - reserve
            self.full = False
            return True
        return False

    def append(self, kind: int, index: int, term: int, payload: bytes) -> None:
        """Put a record other than an entry into the buffer. Raises `DiskFull`."""
        record = encode_record(kind, index, term, payload, self.seed + len(self.buffer))
        if not self.claim(len(record), spare=0):
            raise DiskFull(
                f"{self._name()}: no space, not even for a record of {len(record)} bytes"
            )
        self.buffer += record

    def append_body(self, digest: bytes, body: bytes, crc: int) -> None:
        """Put a body into the buffer. Raises `DiskFull`, leaving the reserve alone."""
        at = len(self.buffer)
        record = BODY_RECORD_BYTES + len(body)
        spare = self._limits.reserve_bytes
        if at + record > self.buffer_room and not self.claim(record, spare=spare):
            raise DiskFull(f"{self._name()}: no space for a body of {len(body)} bytes")
        self.buffer += encode_body_head(digest, len(body), crc, self.seed + at)
        self.buffer += body
        place = self.place + at
        self.first_body = min(self.first_body, place)
        self.first_body_marked = min(self.first_body_marked, place)

    def flush(self) -> None:
        """Write the buffer, without a sync, and begin a new segment when this one is long
        enough.
        """
        if self.buffer:
            assert self._file is not None
            self._file.write(self._end, self.buffer)
            self._end += len(self.buffer)
            if not self._unsynced or self._unsynced[-1] is not self._file:
                self._unsynced.append(self._file)
            if self._end >= self._limits.segment_bytes_max:
                self.roll()
            self._begin_buffer()
        if self.full and self.claim(0, spare=self._limits.reserve_bytes):
            self.full = False

    @property
    def newest_place(self) -> int:
        """The place at which the newest segment begins."""
        return self._sequence << OFFSET_BITS

    def roll(self) -> None:
        """Begin a new segment, the buffer being written; this one grows on until there is space."""
        try:
            self.begin(reset=False)
        except DiskFull:
            self.full = True

    def begin(self, *, reset: bool, entries: Sequence[Entry] = ()) -> None:
        """Begin a new segment, with `entries` in it, which are added to the log; they are durable
        before the segment counts as begun. Raises `DiskFull`, having changed nothing."""
        log = self._log
        sequence = self._sequence + 1
        places, records = self._encoded(sequence, entries)
        header = Header(
            self._identity,
            sequence,
            log.base_index if reset else log.last_index,
            log.base_term if reset else log.last_term(),
            0 if reset else self._end,
            (0, 0) if reset else self.durable,
            log.term,
            log.vote,
            reset,
        )
        end = HEADER_BYTES + len(records)
        size = max(self._chunk_bytes, end + 2 * self._limits.reserve_bytes)
        name = segment_name(self._folder, sequence)
        file = self._disk.open(name, create=True)
        try:
            # The header comes last: without it the file counts as not begun, even if the removal
            # of its name should be undone by a crash.
            file.write(0, bytes(size))
            if records:
                file.write(HEADER_BYTES, records)
                file.sync()
            file.write(0, encode_header(header))
        except BaseException:
            file.close()
            self._disk.remove(name)
            self._disk.sync_folder(self._folder)
            raise
        for place, (command, _, term) in zip(places, entries, strict=True):
            log.places.append(place)
            log.lengths.append(len(command))
            log.terms.append(term)
        if self._file is not None:
            self._older.append((self._sequence, self._allocated))
            self._older_bytes += self._allocated
            self._ends[self._sequence] = self._end
            if not self._unsynced or self._unsynced[-1] is not self._file:
                self._file.close()
        self._file = file
        self._sequence, self._end, self._allocated = sequence, end, size
        self._unsynced.append(file)
        self._new_names = True
        self.full = False
        self._begin_buffer()

    def _encoded(self, sequence: int, entries: Sequence[Entry]) -> tuple[list[int], bytes]:
        """The places of entries right behind a segment's header, and their records."""
        salt, high = self._identity.salt(sequence), sequence << OFFSET_BITS
        at = HEADER_BYTES
        places, records = [], []
        for command, index, term in entries:
            places.append(high | at)
            records.append(encode_record(ENTRY, index, term, command, salt + at))
            at += len(records[-1])
        return places, b"".join(records)

    def _begin_buffer(self) -> None:
        self.buffer.clear()
        if self._salted != self._sequence:
            self._salted, self._salt = self._sequence, self._identity.salt(self._sequence)
        self.seed = self._salt + self._end
        self.place = self._sequence << OFFSET_BITS | self._end
        self.buffer_room = self._allocated - self._end - self._limits.reserve_bytes

    def sequences(self) -> list[int]:
        """The numbers of all segments, oldest first."""
        return [*[sequence for sequence, _ in self._older], self._sequence]

    def lengths(self) -> dict[str, int]:
        """The files of all segments, and where their records end."""
        ends = {**self._ends, self._sequence: self._end}
        return {
            segment_name(self._folder, sequence): ends[sequence] for sequence in self.sequences()
        }

    def check(self, sequence: int) -> str:
        """What was done to a segment's file since it was written; "": nothing. Reads all of it."""
        name = segment_name(self._folder, sequence)
        try:
            file = self._disk.open(name)
        except FileNotFoundError:
            return f"{name} was removed"
        except DiskFull:
            return ""  # no descriptor is to be had, which tells nothing of the file
        except DiskError as e:
            return str(e)
        try:
            data = file.read(0, file.size())
            header = decode_header(data)
        except (DiskError, UnknownFormat) as e:
            return f"{name}: {e}"
        finally:
            file.close()
        if header is None or (header.identity, header.sequence) != (self._identity, sequence):
            return f"{name} was changed: its header is another"
        end = self._end if sequence == self._sequence else self._ends[sequence]
        good = HEADER_BYTES
        limit = min(end, len(data))
        for offset, length, *_ in iter_records(data, self._identity.salt(sequence), limit):
            good = offset + length
        if good >= end:
            return ""
        what = "cut short" if len(data) < end else "changed"
        return f"{name} was {what}: it ends at offset {good} instead of {end}"

    def _name(self) -> str:
        return segment_name(self._folder, self._sequence)

    # ------------------------------------------------------------------ reading

    def read(self, place: int, length: int, index: int, term: int) -> bytes:
        """The command of a flushed entry. Raises `JournalDamaged`."""
        sequence, offset = place >> OFFSET_BITS, place & _OFFSET_MASK
        try:
            data = self._open_reader(sequence).read(offset, RECORD_BYTES + length)
        except ReadFailed as e:
            raise JournalDamaged(segment_name(self._folder, sequence), offset, str(e)) from e
        # `record_at` adds the offset within `data`, which is 0 here, to the seed.
        salt = self._identity.salt(sequence) + offset
        if record_at(data, 0, salt, len(data)) != (0, RECORD_BYTES + length, ENTRY, index, term):
            name = segment_name(self._folder, sequence)
            raise JournalDamaged(name, offset, f"entry {index} cannot be verified")
        return data[RECORD_BYTES:]

    def _open_reader(self, sequence: int) -> File:
        if sequence == self._sequence:
            assert self._file is not None
            return self._file
        if self._reader is None or self._reader[0] != sequence:
            if self._reader is not None:
                self._reader[1].close()
            self._reader = None
            name = segment_name(self._folder, sequence)
            try:
                self._reader = sequence, self._disk.open(name)
            except FileNotFoundError:
                raise JournalDamaged(name, 0, "the file is missing") from None
        return self._reader[1]

    @property
    def total_bytes(self) -> int:
        """Space taken by all segments."""
        return self._allocated + self._older_bytes

    def read_bodies(self) -> Iterator[tuple[bytes, bytes]]:
        """The bodies that the files hold."""
        if self.first_body == NOWHERE:
            return iter(())
        return read_bodies(self._disk, self._folder, self._identity, self.sequences())

    # ------------------------------------------------------------------ syncing

    def begin_sync(self) -> SyncJob:
        """The sync of everything flushed."""
        job = SyncJob(
            self._disk,
            self._folder,
            self._unsynced,
            self._new_names,
            self.removals[:_REMOVALS_PER_SYNC],
            (self._sequence, self._end),
            self._log.last_index,
            (self._log.term, self._log.vote),
        )
        del self.removals[:_REMOVALS_PER_SYNC]
        self._unsynced, self._new_names = [], False
        return job

    def end_sync(self, job: SyncJob, *, closed: bool = False) -> None:
        """Note what is durable now, and let the next flush write it into the file."""
        for file in job.files:
            if file is not self._file and file not in self._unsynced:
                file.close()
        self.durable = job.position
        self.mark(CLOSED if closed else MARK)

    def mark(self, kind: int) -> None:
        """Put a mark of the durable position into the buffer; without space for it, do not."""
        if self.claim(_MARK_BYTES, spare=0):
            sequence, offset = self.durable
            commit = min(self._log.commit_index, self._log.last_index)
            self.append(kind, sequence, offset, mark_payload(commit))

    # ------------------------------------------------------------------ forgetting

    def boundaries(self) -> list[int]:
        """The places at which the segments after the oldest begin."""
        sequences = [sequence for sequence, _ in self._older[1:]]
        if self._older:
            sequences.append(self._sequence)
        return [sequence << OFFSET_BITS for sequence in sequences]

    def drop_before(self, place: int) -> None:
        """Have the next sync remove the segments before the one that begins at `place`."""
        sequence = place >> OFFSET_BITS
        drop = [n for n, _ in self._older if n < sequence]
        self._older_bytes -= sum(size for _, size in self._older[: len(drop)])
        self.removals += [segment_name(self._folder, n) for n in drop]
        del self._older[: len(drop)]
        for number in drop:
            del self._ends[number]
        if self._reader is not None and self._reader[0] < sequence:
            self._reader[1].close()
            self._reader = None

    def restart(self, log: ReplayedLog, entries: Sequence[Entry] = ()) -> None:
        """Begin a segment that supersedes all others, which the next sync removes. `entries` follow
        the base of `log`, and are added to it.

        Raises `DiskFull`, having changed nothing."""
        old, self._log = self._log, log
        try:
            self.begin(reset=True, entries=entries)
        except BaseException:
            self._log = old
            raise
        for file in self._unsynced[:-1]:
            file.close()
        del self._unsynced[:-1]
        self.drop_before(self.place)
