"""The blob store: message bodies by their sha256, in append-only segments.

A body is stored once, however many messages have it. Where it is stands in the index's place table
(`PlaceTable`), written in the transactions of the index. A checkpoint there says up to where the
segments have been entered, and `open` reads only what comes after it.

Invariants:

1. `has` is true only for a body that can be read, as far as is known: not for one whose segment is
   gone, or that a read has found damaged.
2. A place is put into the table only when the body is on stable storage.
3. A body that is pinned, or that the index refers to, is never reclaimed; nor one that became
   needed while its segment was being emptied.
4. A body is only ever given out after its sha256 was verified.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from hashlib import sha256
from typing import Final
from zlib import crc32

from zstandard import ZstdCompressor

from raftmail.storage.blobfiles import BlobLimits, BlobSegmentFiles, BlobSyncJob, Position
from raftmail.storage.blobformat import (
    HEADER_BYTES,
    SEGMENT_HEADER_BYTES,
    ZSTD,
    BlobHeader,
    BlobPlace,
    decode_body,
    decode_header,
    filler_header,
    is_zero,
    list_segments,
    pack_place,
    read_body,
    segment_name,
    unpack_place,
    walk,
)
from raftmail.storage.disk import Disk, ReadFailed
from raftmail.storage.longbody import LongBody
from raftmail.storage.longread import LongRead
from raftmail.storage.place_table import (
    CHECKPOINT,
    POSITION,
    PlaceTable,
    load_sealed,
    record_sealed,
)
from raftmail.storage.reclaim import Reclaimer, ReclaimProgress

__all__ = [
    "BlobDamaged",
    "BlobLimits",
    "BlobMissing",
    "BlobStore",
    "BlobSyncJob",
    "BlobTooLarge",
    "BlobsDamaged",
    "ReclaimProgress",
]

SECOND_RESERVE_BYTES_MAX = 128 << 20
"""However large the reserve is, with so much space what frees some is taken: it needs little
itself."""

_FREE_POLL_S: Final = 1.0


class BlobError(Exception):
    """Something is wrong with a body or the store of them."""


class BlobMissing(BlobError):
    """The store does not have this body; a peer may."""

    def __init__(self, digest: bytes) -> None:
        super().__init__(f"the body {digest.hex()} is not in the store")
        self.digest = digest


class BlobDamaged(BlobError):
    """This one body cannot be verified; a good copy from a peer mends it (`BlobStore.replace`)."""

    def __init__(self, digest: bytes, file: str, offset: int) -> None:
        super().__init__(
            f"{file}, offset {offset}: the body {digest.hex()} is damaged; it is to be fetched "
            f"again "
            f"from a peer"
        )
        self.digest = digest
        self.file = file
        self.offset = offset


class BlobTooLarge(BlobError):
    """The body is longer than `BlobLimits.body_bytes_max`."""


class BlobsDamaged(BlobError):
    """Segments that were on stable storage are gone or cut short. Nothing was changed."""

    def __init__(self, file: str, offset: int, what: str) -> None:
        super().__init__(
            f"{file}, offset {offset}: {what}. Put the file back; or open the store without it, "
            f"and "
            f"have the bodies that were in it fetched again from peers"
        )
        self.file = file
        self.offset = offset
        self.what = what


class BlobStore:
    """The bodies of one replica. One thread uses it; only `BlobSyncJob.run`,
    `LongBody.run` and `LongRead.run` may run in others."""

    def __init__(self, disk: Disk, folder: str, places: PlaceTable, limits: BlobLimits) -> None:
        self.limits = limits
        self._disk = disk
        self._folder = folder
        self._places = places
        self._files = BlobSegmentFiles(disk, folder, limits)
        # Places that are not yet in the table, in the order of the places. Those that were put into
        # it last are kept too. They come back here when the transaction turns out to have been
        # aborted.
        self._pending: dict[bytes, BlobPlace] = {}
        self._placed: dict[bytes, BlobPlace] = {}
        self._recorded: list[int] = []  # segments whose sealing was recorded with them
        self._checkpoint = b""
        self._pins: dict[Hashable, tuple[bytes, ...]] = {}
        self._pin_counts: dict[bytes, int] = {}
        self._damaged: dict[bytes, BlobPlace] = {}
        self._compressors: dict[int, ZstdCompressor] = {}
        self._free_bytes = 0
        self._nearly_full = False
        self._free_polled = -_FREE_POLL_S
        self._reclaimer = Reclaimer(self, self._files, places)

    # ---------------------------------------------------------------- opening and closing

    @classmethod
    def open(
        cls,
        disk: Disk,
        folder: str,
        places: PlaceTable,
        limits: BlobLimits | None = None,
        *,
        without_missing: bool = False,
        by_headers: bool = False,
    ) -> BlobStore:
        """Open the store, entering what was appended after the checkpoint.

        What no sync had covered may be torn; it is dropped. Bad records elsewhere do not hinder the
        opening: they are noticed when read. Raises `BlobsDamaged` when a whole segment is gone or
        shorter than it was, unless `without_missing`: then the bodies in it are missing.

        `by_headers`: the place table is new. Of all segments but the newest, records are entered
        whose header is good, without reading the bodies: the caller reads those that must be there.
        """
        self = cls(disk, folder, places, limits or BlobLimits())
        if folder not in ("", ".") and not disk.exists(folder):
            disk.mkdir(folder)
            disk.sync_folder(folder.rpartition("/")[0])
        found = places.get_local(CHECKPOINT)
        checkpoint: Position = POSITION.unpack(found) if found is not None else (0, 0)
        self._checkpoint = found or b""
        present = list_segments(disk, folder)
        highest = max([0, checkpoint[0], *present])
        sealed, reclaimed = load_sealed(places.get_local, highest)
        self._files.sequence_max = highest
        self._adopt_sealed(sealed, set(present), without_missing)
        if checkpoint[1] and checkpoint[0] not in present:
            if not without_missing:
                raise BlobsDamaged(segment_name(folder, checkpoint[0]), 0, "the file is missing")
            checkpoint = (checkpoint[0] + 1, 0)
            self._checkpoint = POSITION.pack(*checkpoint)
            places.put_local(CHECKPOINT, self._checkpoint)
        for sequence in reclaimed.intersection(present):
            disk.remove(segment_name(folder, sequence))
            disk.sync_folder(folder)
        unknown = [n for n in present if n not in sealed and n not in reclaimed]
        for sequence in unknown:
            start = checkpoint[1] if sequence == checkpoint[0] else SEGMENT_HEADER_BYTES
            is_newest = sequence == unknown[-1]
            trust = by_headers and not is_newest
            self._enter(sequence, start, checkpoint, is_newest, without_missing, trust)
        job = self._files.begin_sync()
        if job is not None:
            job.run()
            self._files.end_sync(job)
        self._files.durable = max(self._files.durable, checkpoint)
        return self

    def _adopt_sealed(
        self, sealed: dict[int, int], present: set[int], without_missing: bool
    ) -> None:
        for sequence, length in sealed.items():
            name = segment_name(self._folder, sequence)
            if sequence not in present:
                if not without_missing:
                    raise BlobsDamaged(name, 0, "the file is missing")
                record_sealed(self._places, sequence, None)
                continue
            file = self._disk.open(name)
            size = file.size()
            file.close()
            if size < length:
                if not without_missing:
                    raise BlobsDamaged(name, size, f"of {length} bytes, {size} are left")
                record_sealed(self._places, sequence, size)
            self._files.sealed[sequence] = min(length, size)

    def _enter(
        self,
        sequence: int,
        start: int,
        checkpoint: Position,
        is_newest: bool,
        without_missing: bool,
        trust_headers: bool,
    ) -> None:
        """Enter the bodies of a segment from `start` on; what is torn there belongs to no one."""
        name = segment_name(self._folder, sequence)
        file = self._disk.open(name)
        try:
            size = file.size()
            if sequence == checkpoint[0] and size < start and not without_missing:
                what = f"{start} bytes were on stable storage, {size} are left"
                raise BlobsDamaged(name, size, what)
            end = max(min(start, size), SEGMENT_HEADER_BYTES)
            for item in walk(file, sequence, end, size):
                if not isinstance(item, BlobHeader):
                    continue
                if not trust_headers and read_body(file, item) is None:
                    continue
                place = item.place
                if place.offset >= end + HEADER_BYTES:
                    file.write(end, filler_header(sequence, end, place.offset - end))
                end = place.end
                if sequence < checkpoint[0] and self.current_place(item.digest) is not None:
                    continue  # an older copy of what the table has
                self._pending.pop(item.digest, None)
                self._pending[item.digest] = place
            if end == SEGMENT_HEADER_BYTES:
                # It holds nothing, and may not even have its header.
                self._disk.remove(name)
                self._disk.sync_folder(self._folder)
                return
            if not is_zero(file, end, size):
                file.truncate(end)
                file.sync()
        finally:
            file.close()
        self._files.adopt(sequence, end)
        if not is_newest or sequence < checkpoint[0] or size < start:
            self._files.seal()

    def close(self) -> None:
        """Write and sync what was appended, and close the files. Raises `SyncFailed`."""
        try:
            job = self._files.begin_sync()
            if job is not None:
                job.run()
                self._files.end_sync(job)
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Close the files as they are, as a crash would leave them."""
        self._reclaimer.close()
        self._files.close()

    # ---------------------------------------------------------------- bodies

    def current_place(self, digest: bytes) -> BlobPlace | None:
        """Where a body was put last, whether it can still be read or not."""
        place = self._pending.get(digest)
        if place is None:
            place = self._placed.get(digest)
            if place is None:
                packed = self._places.get_place(digest)
                return None if packed is None else unpack_place(packed)
        return place

    def place_of(self, digest: bytes) -> BlobPlace | None:
        """Where a body is; None when it is not there, or was found to be damaged."""
        place = self.current_place(digest)
        if place is None or not self._files.reaches(place.sequence, place.end):
            return None
        if self._damaged and self._damaged.get(digest) == place:
            return None
        return place

    def has(self, digest: bytes) -> bool:
        """True when the body is there, durable or not."""
        return self.place_of(digest) is not None

    def durable(self, digest: bytes) -> bool:
        """True when the body is there and on stable storage."""
        place = self.place_of(digest)
        return place is not None and self._files.is_durable(place)

    def append(self, digest: bytes, body: bytes) -> bool:
        """Store a body whose sha256 the caller has verified to be `digest`; False: it was there.

        Raises `DiskFull` and `BlobTooLarge`, having changed nothing.
        """
        if self.place_of(digest) is not None:
            return False
        self._append(digest, body, self.limits.compress_bytes_min, self.limits.compress_level)
        return True

    def begin_long(self, digest: bytes, body: bytes | memoryview) -> LongBody:
        """Begin to store a body in a segment of its own; `end_long` when `LongBody.run` has
        returned. One at a time. Raises `BlobTooLarge`."""
        limits = self.limits
        if len(body) > limits.body_bytes_max:
            raise BlobTooLarge(f"a body of {len(body)} bytes; the limit is {limits.body_bytes_max}")
        return LongBody(
            self._disk,
            self._folder,
            self._files.take_sequence(),
            digest,
            body,
            limits.compress_level,
            limits.saved_percent_min,
        )

    def end_long(self, job: LongBody) -> bool:
        """Whether the body is in the store now, and on stable storage."""
        place = job.place
        if place is None:
            return False
        self._files.adopt_synced(place.sequence, place.end)
        if self.durable(job.digest):
            return True  # it came another way meanwhile; this copy is reclaimed
        self._damaged.pop(job.digest, None)
        self._pending.pop(job.digest, None)
        self._pending[job.digest] = place
        # Others may have been begun behind it and been appended to meanwhile.
        self._pending = dict(sorted(self._pending.items(), key=lambda item: item[1]))
        return True

    def append_kept(self, digest: bytes, body: bytes, crc: int) -> None:
        """Store a body, as it is, that the store does not have (`has`).

        The caller keeps it safe elsewhere until a sync of the store has covered it. `crc` is its
        CRC-32.

        Raises `DiskFull`, having changed nothing.
        """
        files = self._files
        self._pending.pop(digest, None)  # so that the order stays that of the places
        self._pending[digest] = files.append(digest, len(body), body, crc, 0)
        if self._damaged:
            self._damaged.pop(digest, None)

    def replace(self, digest: bytes, body: bytes) -> None:
        """Store a good copy of a body that is damaged or missing.

        Raises ValueError when the body is not the one of this digest, `DiskFull`, `BlobTooLarge`.
        """
        if sha256(body).digest() != digest:
            raise ValueError(f"this is not the body {digest.hex()}")
        self.move(digest, body)

    def move(self, digest: bytes, body: bytes) -> BlobPlace:
        """Store a verified body anew, compressed if that pays, and forget its old place."""
        limits = self.limits
        return self._append(digest, body, limits.recompress_bytes_min, limits.recompress_level)

    def _append(self, digest: bytes, body: bytes, compress_from: int, level: int) -> BlobPlace:
        if len(digest) != 32:
            raise ValueError(f"a sha256 has 32 bytes, not {len(digest)}")
        if len(body) > self.limits.body_bytes_max:
            raise BlobTooLarge(
                f"a body of {len(body)} bytes; the limit is {self.limits.body_bytes_max}"
            )
        stored, flags = body, 0
        if len(body) >= compress_from:
            compressed = self._compressor(level).compress(body)
            if len(compressed) * 100 <= len(body) * (100 - self.limits.saved_percent_min):
                stored, flags = compressed, ZSTD
        place = self._files.append(digest, len(body), stored, crc32(stored), flags)
        self._files.pressing = True
        self._pending.pop(digest, None)  # so that the order stays that of the places
        self._pending[digest] = place
        self._damaged.pop(digest, None)
        return place

    def _compressor(self, level: int) -> ZstdCompressor:
        compressor = self._compressors.get(level)
        if compressor is None:
            compressor = self._compressors[level] = ZstdCompressor(
                level=level, write_checksum=False, write_content_size=True
            )
        return compressor

    def get(self, digest: bytes) -> bytes:
        """The body. Raises `BlobMissing`, `BlobDamaged` (which puts it among `damaged`)."""
        place = self._place(digest)
        body = self.read(digest, place)
        if body is None:
            raise self._found_damaged(digest, place)
        return body

    def get_short(self, digest: bytes, bytes_max: int) -> bytes | None:
        """The body, by one read, if it has fewer bytes; None: it has not. Raises as `get`."""
        place = self._place(digest)
        if place.stored_bytes >= bytes_max:
            return None
        data = self._record(place)
        header = self._header_in(data, digest, place)
        if header is not None and header.raw_bytes >= bytes_max:
            return None
        body = None if header is None else decode_body(header, data[HEADER_BYTES:])
        if body is None:
            raise self._found_damaged(digest, place)
        return body

    def size_of(self, digest: bytes) -> int:
        """The length of a body, in bytes, by its record's header alone. Raises as `get`."""
        return self._header(digest).raw_bytes

    def begin_read(self, digest: bytes) -> LongRead:
        """Begin to read a body; `end_read` when `LongRead.run` has returned. Raises as `get`."""
        header = self._header(digest)
        self._files.write()
        try:
            file = self._files.open_copy(header.place.sequence)
        except FileNotFoundError:
            raise self._found_damaged(digest, header.place) from None
        return LongRead(file, header)

    def end_read(self, job: LongRead) -> bytes:
        """The body. Raises `BlobDamaged`, which puts it among `damaged`."""
        if job.body is None:
            raise self._found_damaged(job.header.digest, job.header.place)
        return job.body

    def _place(self, digest: bytes) -> BlobPlace:
        place = self.place_of(digest)
        if place is not None:
            return place
        bad = self._damaged.get(digest)
        if bad is not None:
            raise BlobDamaged(digest, segment_name(self._folder, bad.sequence), bad.offset)
        raise BlobMissing(digest)

    def _header(self, digest: bytes) -> BlobHeader:
        place = self._place(digest)
        try:
            header = decode_header(self._files.read_head(place), place.sequence, place.offset)
        except (FileNotFoundError, ReadFailed):
            header = None
        if header is None or header.digest != digest or header.place != place:
            raise self._found_damaged(digest, place)
        return header

    def _found_damaged(self, digest: bytes, place: BlobPlace) -> BlobDamaged:
        """What a read of the body at a place says that found it damaged."""
        self.mark_damaged(digest, place)
        return BlobDamaged(digest, segment_name(self._folder, place.sequence), place.offset)

    def read(self, digest: bytes, place: BlobPlace) -> bytes | None:
        """The body at a place, or None when what is there is not that body."""
        data = self._record(place)
        header = self._header_in(data, digest, place)
        return None if header is None else decode_body(header, data[HEADER_BYTES:])

    def _record(self, place: BlobPlace) -> bytes:
        """What is at a place; nothing where that cannot be read."""
        try:
            return self._files.read(place)
        except (FileNotFoundError, ReadFailed):
            return b""

    @staticmethod
    def _header_in(data: bytes, digest: bytes, place: BlobPlace) -> BlobHeader | None:
        """The header of the body at a place, if `data` is its record."""
        header = decode_header(data, place.sequence, place.offset)
        good = header is not None and header.digest == digest and header.place == place
        return header if good else None

    def mark_damaged(self, digest: bytes, place: BlobPlace) -> None:
        """Remember that a read of the body at this place failed."""
        self._damaged[digest] = place

    def forget(self, digest: bytes) -> None:
        """Drop a body that nothing needs from the store; its bytes stay until the segment goes."""
        self._pending.pop(digest, None)
        self._placed.pop(digest, None)
        self._damaged.pop(digest, None)
        self._places.delete_place(digest)

    def damaged(self) -> list[bytes]:
        """The bodies that reads have found to be damaged, and that were not replaced since."""
        return list(self._damaged)

    # ---------------------------------------------------------------- durability

    def dirty(self) -> bool:
        """True when something was appended that no sync has begun to cover."""
        return self._files.dirty

    def pressing(self) -> bool:
        """True when something was appended, other than by `append_kept`, that no sync has begun to
        cover."""
        return self._files.pressing

    def begin_sync(self) -> BlobSyncJob | None:
        """Write what was appended and hand out the sync; None: nothing to do, or one is running."""
        return self._files.begin_sync()

    def end_sync(self, job: BlobSyncJob) -> None:
        """Note that `job.run()` has returned. Raises RuntimeError when it has not."""
        self._files.end_sync(job)

    def place_pending(self) -> None:
        """Enter the places of durable bodies, and the checkpoint, into the index's transaction.

        To be followed by its commit. If that is aborted instead, the next call enters them again.
        """
        files = self._files
        if (self._places.get_local(CHECKPOINT) or b"") != self._checkpoint:
            # The transaction of the last call was aborted.
            self._pending = {**self._placed, **self._pending}
            files.just_sealed = self._recorded + files.just_sealed
        durable = files.durable
        placed: dict[bytes, BlobPlace] = {}
        for digest, place in self._pending.items():
            if (place.sequence, place.end) > durable:
                break  # also one that is durable on its own: the checkpoint must not pass over any
            placed[digest] = place
        if placed:
            self._places.put_places([(d, pack_place(place)) for d, place in placed.items()])
        for digest in placed:
            del self._pending[digest]
        recorded = [n for n in files.just_sealed if n < durable[0]]
        for sequence in recorded:
            record_sealed(self._places, sequence, files.sealed.get(sequence))
        files.just_sealed = [n for n in files.just_sealed if n >= durable[0]]
        self._placed, self._recorded = placed, recorded
        checkpoint = POSITION.pack(*durable)
        if checkpoint != self._places.get_local(CHECKPOINT):
            # Compared with the table: in the one that was aborted it was written, too.
            self._places.put_local(CHECKPOINT, checkpoint)
        self._checkpoint = checkpoint

    # ---------------------------------------------------------------- what is needed

    def pin(self, digests: Iterable[bytes], token: Hashable) -> None:
        """Keep bodies that a log entry not yet applied names; replaces an earlier pin of the
        token.
        """
        self.unpin(token)
        kept = tuple(digests)
        self._pins[token] = kept
        counts = self._pin_counts
        for digest in kept:
            counts[digest] = counts.get(digest, 0) + 1

    def unpin(self, token: Hashable) -> None:
        """Undo `pin`; an unknown token is fine."""
        counts = self._pin_counts
        for digest in self._pins.pop(token, ()):
            left = counts[digest] - 1
            if left:
                counts[digest] = left
            else:
                del counts[digest]

    def is_pinned(self, digest: bytes) -> bool:
        return digest in self._pin_counts

    def note_dead(self, digest: bytes) -> None:
        """The last message with this body is gone. A hint: `reclaim` asks again before it acts."""
        self._reclaimer.note_dead(self.place_of(digest))

    def reclaim(self, references: Callable[[bytes], int], budget_bytes: int) -> ReclaimProgress:
        """Take one step towards giving back the space of bodies that nothing needs any more.

        `references` tells how many messages have a body. A step reads about `budget_bytes`. Call it
        again, after the next sync, while the answer says there is more to do. Raises `DiskFull`
        (nothing is lost, try again later) and what `PlaceTable.commit_durable` raises.
        """
        return self._reclaimer.step(references, budget_bytes)

    # ---------------------------------------------------------------- figures

    @property
    def total_bytes(self) -> int:
        """Length of all segments."""
        return self._files.total_bytes

    def file_lengths(self) -> dict[str, int]:
        """The files that must be there, and how long each is at least."""
        lengths = dict(self._files.sealed)
        sequence, length = self._files.durable
        if sequence not in lengths and self._files.reaches(sequence, length):
            lengths[sequence] = length
        return {segment_name(self._folder, n): size for n, size in lengths.items()}

    @property
    def dead_bytes(self) -> int:
        """How much of it is known not to be needed."""
        return self._reclaimer.dead_bytes

    @property
    def pending(self) -> int:
        """Bodies whose places are not yet in the table."""
        return len(self._pending)

    def has_second_reserve(self) -> bool:
        """Whether half of the reserve is left, or `SECOND_RESERVE_BYTES_MAX`, from which requests
        are taken that free space: by what `nearly_full` saw last."""
        least = min(self.limits.free_bytes_min // 2, SECOND_RESERVE_BYTES_MAX)
        return self._free_bytes >= least

    def nearly_full(self, now: float) -> bool:
        """True when the file system has less than `free_bytes_min` left; asked once a second. When
        it was so the last time, there must be an eighth more before there is space again. Else what
        is given back would be used up at once.
        """
        if now - self._free_polled >= _FREE_POLL_S or now < self._free_polled:
            self._free_polled = now
            self._free_bytes = self._disk.free_bytes()
        least = self.limits.free_bytes_min
        self._nearly_full = self._free_bytes < (least + least // 8 if self._nearly_full else least)
        return self._nearly_full
