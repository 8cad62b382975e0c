"""Giving back the space of bodies that nothing needs any more.

Segments are emptied one at a time, in steps:

1. *Copy*: every body of the segment that is needed is appended anew, at the end of the store.
2. *Settle*: when the copies are on stable storage, their places and the end of the segment are
   committed to the index. Whatever became needed since it was passed over is copied after all, and
   the settling begins again. Where a part of the segment is no record that can be read, the place
   table tells which bodies were in it. One that is needed is damaged, and the segment stays.
3. *Remove* the file. A crash before that leaves a file that the index does not know; `open`
   removes it.

Which segments are worth it is known from hints (`note_dead`), which are cheap and may be wrong, and
from counting: while nothing is to be emptied, each step counts a part of the next segment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final, Protocol

from raftmail.storage.blobfiles import BlobLimits, BlobSegmentFiles, Position
from raftmail.storage.blobformat import (
    HEADER_BYTES,
    SEGMENT_HEADER_BYTES,
    BlobHeader,
    BlobPlace,
    unpack_place,
    walk,
)
from raftmail.storage.disk import File
from raftmail.storage.place_table import PlaceTable, record_sealed

_LOOK_COST_BYTES: Final = 1024
"""What looking at one record without reading its body takes of a step's budget."""

_PLACES_AT_ONCE: Final = 1000


@dataclass(frozen=True, slots=True)
class ReclaimProgress:
    """What a step of `reclaim` did."""

    more: bool
    """True: there is more to do now; False: every segment was looked at, none is worth it."""
    waits_for_sync: bool = False
    """True: the next step waits for a sync of the store."""
    segment: int | None = None
    """The segment being emptied or counted."""
    copied_bytes: int = 0
    freed_bytes: int = 0
    damaged: tuple[bytes, ...] = ()
    """Bodies that are needed, and that the step found to be damaged."""


@dataclass(slots=True)
class _Walk:
    """A segment that is being looked at, record by record."""

    sequence: int
    file: File
    records: Iterator[BlobHeader | tuple[int, int]]
    live_bytes: int = 0
    """Found while counting."""
    seen: list[tuple[bytes, BlobPlace]] = field(default_factory=list)
    """While emptying: bodies whose place was here when the walk came by. It still is when they were
    not needed, are damaged, or could not be copied because the disk was full."""
    copied_to: Position = (0, 0)
    has_gaps: bool = False
    """Some of it is no record that can be read."""
    looked_from: bytes = b""
    """While emptying one that has: the place table was looked through up to here."""
    lost: list[bytes] = field(default_factory=list)
    """Bodies that are needed and damaged."""


class EmptiedStore(Protocol):
    """What emptying a segment needs of the store; see `blobs.BlobStore`."""

    limits: BlobLimits

    def place_of(self, digest: bytes) -> BlobPlace | None: ...
    def current_place(self, digest: bytes) -> BlobPlace | None: ...
    def read(self, digest: bytes, place: BlobPlace) -> bytes | None: ...
    def mark_damaged(self, digest: bytes, place: BlobPlace) -> None: ...
    def move(self, digest: bytes, body: bytes) -> BlobPlace: ...
    def forget(self, digest: bytes) -> None: ...
    def is_pinned(self, digest: bytes) -> bool: ...
    def place_pending(self) -> object: ...


class Reclaimer:
    """The state of emptying, between the steps."""

    def __init__(self, store: EmptiedStore, files: BlobSegmentFiles, places: PlaceTable) -> None:
        self._store = store
        self._files = files
        self._places = places
        self._dead: dict[int, int] = {}
        self._emptying: _Walk | None = None
        self._counting: _Walk | None = None
        self._counted_up_to = 0
        self._stuck: set[int] = set()

    def close(self) -> None:
        """Give up what is under way."""
        for walking in (self._emptying, self._counting):
            if walking is not None:
                walking.file.close()
        self._emptying = self._counting = None

    @property
    def dead_bytes(self) -> int:
        """How much of all segments is known not to be needed."""
        return sum(self._dead.values())

    def note_dead(self, place: BlobPlace | None) -> None:
        """A body at a place is not needed any more. A hint, which may be wrong."""
        if place is not None:
            length = HEADER_BYTES + place.stored_bytes
            self._dead[place.sequence] = self._dead.get(place.sequence, 0) + length

    def step(self, references: Callable[[bytes], int], budget_bytes: int) -> ReclaimProgress:
        """See `BlobStore.reclaim`."""
        if self._emptying is None:
            worst = self._worst()
            if worst is None:
                return self._count(references, budget_bytes)
            if self._counting is not None:
                self._counting.file.close()
                self._counting = None
            self._emptying = self._walk(worst)
        return self._empty(self._emptying, references, budget_bytes)

    def _walk(self, sequence: int) -> _Walk:
        file = self._files.open_copy(sequence)
        end = self._files.sealed[sequence]
        return _Walk(sequence, file, walk(file, sequence, SEGMENT_HEADER_BYTES, end))

    def _worst(self) -> int | None:
        """The sealed segment with the largest part that is not needed, when that is large
        enough.
        """
        worst, most = None, self._store.limits.dead_percent_min / 100
        for sequence, dead in self._dead.items():
            length = self._files.sealed.get(sequence, 0)
            if length > 0 and dead / length >= most and sequence not in self._stuck:
                worst, most = sequence, dead / length
        return worst

    # ---------------------------------------------------------------- emptying

    def _empty(
        self, job: _Walk, references: Callable[[bytes], int], budget_bytes: int
    ) -> ReclaimProgress:
        store = self._store
        copied = 0
        for item in job.records:
            if not isinstance(item, BlobHeader):
                job.has_gaps = True
            elif store.current_place(item.digest) == item.place:
                job.seen.append((item.digest, item.place))
                if references(item.digest) or store.is_pinned(item.digest):
                    copied += self._copy(job, item.digest, item.place)
            budget_bytes -= _LOOK_COST_BYTES
            if copied >= budget_bytes:
                return ReclaimProgress(True, False, job.sequence, copied)
        # The checkpoint is never in a segment that is gone.
        if self._files.durable < max(job.copied_to, (job.sequence + 1, 0)):
            return ReclaimProgress(True, True, job.sequence, copied)
        return self._settle(job, references, copied)

    def _copy(self, job: _Walk, digest: bytes, place: BlobPlace) -> int:
        """Copy a body and return its length in the segment; 0 when it is damaged."""
        body = self._store.read(digest, place)
        if body is None:
            self._store.mark_damaged(digest, place)
            job.lost.append(digest)
            return 0
        copy = self._store.move(digest, body)
        job.copied_to = (copy.sequence, copy.end)
        return HEADER_BYTES + place.stored_bytes

    def _settle(
        self, job: _Walk, references: Callable[[bytes], int], copied: int
    ) -> ReclaimProgress:
        store = self._store
        left = [item for item in job.seen if store.current_place(item[0]) == item[1]]
        needed = [d for d, _ in left if references(d) or store.is_pinned(d)]
        if needed:
            places = dict(left)
            lengths = [self._copy(job, digest, places[digest]) for digest in needed]
            if all(lengths):
                return ReclaimProgress(True, True, job.sequence, copied + sum(lengths))
            return self._stay(job, copied + sum(lengths))
        store.place_pending()  # which may record that it was sealed
        if job.has_gaps and not self._looked_through(job, references):
            return ReclaimProgress(True, False, job.sequence, copied)
        if any(self._is_in(digest, job.sequence) for digest in job.lost):
            return self._stay(job, copied)
        for digest, _ in left:
            store.forget(digest)
        record_sealed(self._places, job.sequence, None)
        self._places.commit_durable()
        length = self._files.sealed[job.sequence]
        self._finish(job)
        self._files.remove(job.sequence)
        self._dead.pop(job.sequence, None)
        return ReclaimProgress(True, False, job.sequence, copied, length)

    def _looked_through(self, job: _Walk, references: Callable[[bytes], int]) -> bool:
        """Look at some more rows of the place table, for bodies whose records could not be read
        here; whether those were the last."""
        store = self._store
        rows = self._places.places_from(job.looked_from, _PLACES_AT_ONCE)
        seen = {digest for digest, _ in job.seen}
        for digest, packed in rows:
            place = unpack_place(packed)
            is_here = place.sequence == job.sequence and store.current_place(digest) == place
            if is_here and digest not in seen and (references(digest) or store.is_pinned(digest)):
                store.mark_damaged(digest, place)
                job.lost.append(digest)
        if len(rows) < _PLACES_AT_ONCE:
            return True
        job.looked_from = rows[-1][0] + b"\0"
        return False

    def _is_in(self, digest: bytes, sequence: int) -> bool:
        place = self._store.current_place(digest)
        return place is not None and place.sequence == sequence

    def _stay(self, job: _Walk, copied: int) -> ReclaimProgress:
        """A damaged body is needed: what is left of it stays until there is a good copy."""
        self._stuck.add(job.sequence)
        self._finish(job)
        damaged = tuple(dict.fromkeys(job.lost))
        return ReclaimProgress(True, False, job.sequence, copied, damaged=damaged)

    def _finish(self, job: _Walk) -> None:
        job.file.close()
        self._emptying = None

    # ---------------------------------------------------------------- counting

    def _count(self, references: Callable[[bytes], int], budget_bytes: int) -> ReclaimProgress:
        if self._counting is None:
            sequence = min((n for n in self._files.sealed if n > self._counted_up_to), default=None)
            if sequence is None:
                self._counted_up_to = 0
                self._stuck.clear()
                return ReclaimProgress(False)
            self._counting = self._walk(sequence)
        job = self._counting
        store = self._store
        for item in job.records:
            if (
                isinstance(item, BlobHeader)
                and store.place_of(item.digest) == item.place
                and (references(item.digest) or store.is_pinned(item.digest))
            ):
                job.live_bytes += item.place.end - item.place.offset
            budget_bytes -= _LOOK_COST_BYTES
            if budget_bytes <= 0:
                return ReclaimProgress(True, False, job.sequence)
        total = self._files.sealed[job.sequence] - SEGMENT_HEADER_BYTES
        self._dead[job.sequence] = total - job.live_bytes
        self._counted_up_to = job.sequence
        job.file.close()
        self._counting = None
        return ReclaimProgress(True, False, job.sequence)
