"""The durable Raft log: entries, current term and vote, in checksummed segment files.

It takes the place of PySyncObj's journal, whose interface it keeps (see "as the engine sees it"
below). Nothing is ever overwritten: cutting off a conflicting suffix is a record, trimming removes
whole files. The format is told in `records`, what happens on opening in `replay`.

Invariants:

1. The log has no gap: position p holds the entry of index `first_index + p`. After a trim or a
   reset position 0 is a stub. It is the entry before the first that is kept, with its term and an
   empty command.
2. What is in memory is what a replay of everything written and buffered would give.
3. `synced_index` and `synced_hard_state` speak only of what a finished sync has covered.
4. A write that fails changes nothing: what it was to write stays in the buffer, for the next flush.
5. Entries that cannot be read back are never passed over: `JournalDamaged`.

Bodies may be kept here, too, between the entries, so that one sync serves both: what was added with
`add_body` stays until `release_bodies` says that the blob store has it on the disk.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Final, overload
from zlib import crc32

from raftmail.consensus.log_cache import ENTRY_OVERHEAD_BYTES, Entry, Hidden, LogCache, LogView
from raftmail.consensus.records import (
    CRC,
    CUT,
    ENTRY,
    HARD_STATE,
    HEAD,
    PROMISES,
    RECORD_BYTES,
    Identity,
    Vote,
    encode_vote,
)
from raftmail.consensus.replay import (
    NOWHERE,
    OFFSET_BITS,
    JournalDamaged,
    JournalError,
    JournalForeign,
    Record,
    ReplayedLog,
    list_segments,
    read_records,
    replay,
    segment_name,
)
from raftmail.consensus.segments import JournalLimits, SegmentFiles, SyncJob
from raftmail.storage.disk import Disk, DiskError, DiskFull

__all__ = [
    "Entry",
    "Identity",
    "Journal",
    "JournalDamaged",
    "JournalError",
    "JournalForeign",
    "JournalLimits",
    "Record",
    "SyncJob",
    "Vote",
    "read_records",
]

_LIST_SLICE_MAX: Final = 64
"""Slices of up to this many entries are lists even when they have to be read from the disk."""
_SMALL_ENTRY_BYTES: Final = 64
"""Entries up to this long (the engine's own) may use the reserve of a full disk ..."""
_HARD_STATE_SPARE_BYTES: Final = 4096
"""... but leave so much of it for terms and votes."""


class Journal:
    """A replica's log. One thread uses it; only `SyncJob.run` may run in another.

    The life of a batch: `add` …, `begin_sync`, `job.run()`, `end_sync(job)`; then everything up to
    `synced_index` may be acknowledged, and the term and vote in `synced_hard_state` told to others.
    """

    def __init__(
        self, disk: Disk, folder: str, identity: Identity, limits: JournalLimits, log: ReplayedLog
    ) -> None:
        self.identity = identity
        self._limits = limits
        self._entry_bytes_max = limits.entry_bytes_max
        self._files = SegmentFiles(disk, folder, identity, limits, log)
        self.file_lengths = (
            self._files.lengths
        )  # the files that must be there, and how long at least
        self._adopt_log(log)
        self._dirty = False  # something but marks was added since the last sync began
        self._job: SyncJob | None = None
        self._promises_in = (b"", 0)  # what was written last, and into which segment
        self._bodies_added = self._bodies_in_job = self._bodies_synced = 0  # how many
        self._synced_index = log.last_index
        self._synced_hard_state: tuple[int, Vote] = (log.term, log.vote)
        self._checked = 0  # the segment that `check_next` read last
        self._closed = False

    def _adopt_log(self, log: ReplayedLog) -> None:
        self._log = log
        self._places = log.places
        self._lengths = log.lengths
        self._terms = log.terms
        self._cache = LogCache(first=log.last_index + 1)
        self._hidden: Hidden | None = None
        self._next_index = log.last_index + 1
        self._flushed_index = log.last_index

    # ------------------------------------------------------------------ opening and closing

    @classmethod
    def open(
        cls,
        disk: Disk,
        folder: str,
        identity: Identity,
        limits: JournalLimits | None = None,
        *,
        create: bool,
    ) -> Journal:
        """Open the journal in `folder`, finishing what a crash interrupted.

        With `create` a journal that is not there is begun. Without, that is `JournalDamaged`: a
        replica that has voted must not forget it. Everything that is read is synced before `open`
        returns. Raises `JournalDamaged`, `JournalForeign`, `DiskError`.
        """
        limits = limits or JournalLimits()
        found = replay(disk, folder, identity)
        if found is None:
            if not create:
                raise JournalDamaged(segment_name(folder, 1), 0, "the journal is missing")
            disk.mkdir(folder)
            disk.sync_folder(folder.rpartition("/")[0])
            for sequence in list_segments(disk, folder):
                disk.remove(segment_name(folder, sequence))  # a first one that was never finished
            self = cls(disk, folder, identity, limits, ReplayedLog())
            self._files.begin(reset=False)
        else:
            self = cls(disk, folder, identity, limits, found.log)
            self._files.adopt(found)
        self._sync_now()
        return self

    def close(self) -> None:
        """Write and sync everything, and a last record after which any damage can be told for rot.

        Raises `SyncFailed`, `DiskError`; the files are closed in any case. Twice is harmless.
        """
        if self._closed:
            return
        try:
            self._sync_now(closed=True)
            self._sync_now()
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Close the files as they are, as a crash would leave them."""
        self._closed = True
        self._files.close()

    # ------------------------------------------------------------------ what is in it

    @property
    def first_index(self) -> int:
        """Index of position 0; that entry is a stub when the log was trimmed or reset."""
        return self._log.base_index or 1

    @property
    def begins_at(self) -> int:
        """The entry after which the log begins; 0: it has the first."""
        return self._log.base_index

    @property
    def last_index(self) -> int:
        """Index of the last entry; 0 when there is none."""
        return self._next_index - 1

    @property
    def synced_index(self) -> int:
        """Entries up to here are on stable storage."""
        synced, last = self._synced_index, self._next_index - 1
        return synced if synced < last else last

    @property
    def synced_hard_state(self) -> tuple[int, Vote]:
        """The (term, vote) on stable storage."""
        return self._synced_hard_state

    @property
    def syncing(self) -> bool:
        """True between `begin_sync` and `end_sync`."""
        return self._job is not None

    @property
    def dirty(self) -> bool:
        """True when something waits for a sync that has not begun."""
        return self._dirty or self._hidden is not None or bool(self._files.removals)

    @property
    def total_bytes(self) -> int:
        """Space that the segment files take, in bytes."""
        return self._files.total_bytes

    def term_of(self, index: int) -> int:
        """The term of an entry from `first_index` to `last_index`. Raises IndexError outside."""
        log = self._log
        at = index - log.base_index - 1
        if at >= 0:
            return self._terms[at]
        if at == -1 and log.base_index:
            return log.base_term
        raise IndexError(f"entry {index} is not in the log ({self.first_index}–{self.last_index})")

    def entry(self, index: int) -> Entry:
        """The entry with this index. Raises IndexError, `JournalDamaged`, `DiskError`."""
        cache = self._cache
        at = index - cache.first
        if 0 <= at < len(cache.entries):
            return cache.entries[at]
        if index == self._log.base_index and index:
            return b"", index, self._log.base_term
        at = index - self._log.base_index - 1
        if not 0 <= at < len(self._terms):
            raise IndexError(
                f"entry {index} is not in the log ({self.first_index}–{self.last_index})"
            )
        term = self._terms[at]
        return self._files.read(self._places[at], self._lengths[at], index, term), index, term

    def entries(self, first: int, last: int) -> Sequence[Entry]:
        """The entries from `first`, or where the log begins, to `last`, which is in it. Raises as
        `entry`."""
        cache = self._cache
        at = first - cache.first
        if at >= 0:
            return cache.entries[at : max(at, last + 1 - cache.first)]
        indices = range(max(first, self.first_index), last + 1)
        if len(indices) <= _LIST_SLICE_MAX:
            return [self.entry(i) for i in indices]
        return LogView(self.entry, indices)

    # ------------------------------------------------------------------ as the engine sees it

    def __len__(self) -> int:
        return self._next_index - self.first_index

    @overload
    def __getitem__(self, item: int) -> Entry: ...
    @overload
    def __getitem__(self, item: slice) -> Sequence[Entry]: ...
    def __getitem__(self, item: int | slice) -> Entry | Sequence[Entry]:
        if item.__class__ is int:
            return self.entry(self._index_at(item))
        assert isinstance(item, slice)
        start, stop, step = item.indices(len(self))
        first = self.first_index
        if step != 1:
            return [self.entry(i) for i in range(first + start, first + stop, step)]
        return self.entries(first + start, first + stop - 1)

    def __iter__(self) -> Iterator[Entry]:
        return map(self.entry, range(self.first_index, self._next_index))

    def _index_at(self, position: int) -> int:
        length = len(self)
        if not -length <= position < length:
            raise IndexError(f"position {position} of a log of {length} entries")
        return self.first_index + position + (length if position < 0 else 0)

    def add(self, command: bytes, idx: int, term: int) -> None:
        """Append an entry, in memory; `idx` must be the last index plus one.

        Raises ValueError when it is not, or when the term goes back or the command is too long.
        Raises `DiskFull` when there is no space to write it. The entry is then not added.
        """
        if self._hidden is not None and self._restore(command, idx, term):
            return
        if idx != self._next_index:
            raise ValueError(f"entry {idx} does not follow entry {self._next_index - 1}")
        if term < (self._terms[-1] if self._terms else self._log.base_term):
            raise ValueError(f"entry {idx} has term {term}, older than the one before it")
        length = len(command)
        if length > self._entry_bytes_max:
            raise ValueError(f"entry {idx} has {length} bytes; at most {self._entry_bytes_max}")
        files = self._files
        buffer = files.buffer
        at = len(buffer)
        if at + RECORD_BYTES + length > files.buffer_room:
            self._make_room(idx, length)
            at = len(buffer)
        head = HEAD.pack(RECORD_BYTES + length, ENTRY, idx, term)
        crc = crc32(command, crc32(head, (files.seed + at) & 0xFFFFFFFF))
        buffer += CRC.pack(crc)
        buffer += head
        buffer += command
        self._places.append(files.place + at)
        self._lengths.append(length)
        self._terms.append(term)
        cache = self._cache
        cache.entries.append((command, idx, term))
        cache.bytes_held += length + ENTRY_OVERHEAD_BYTES
        self._next_index = idx + 1
        self._dirty = True

    def add_body(self, digest: bytes, body: bytes, crc: int) -> None:
        """Keep a body, in memory and with the next sync on the disk; `crc` is its CRC-32. An entry
        that is added later is never on the disk without it. Raises `DiskFull`; nothing was added
        then."""
        if len(self._files.buffer) + len(body) > self._limits.buffer_bytes_max:
            self.flush()
        self._files.append_body(digest, body, crc)
        self._bodies_added += 1
        self._dirty = True

    @property
    def has_unsynced_bodies(self) -> bool:
        """Whether bodies were added that no sync has covered here."""
        return self._bodies_added != self._bodies_synced

    def bodies(self) -> Iterator[tuple[bytes, bytes]]:
        """The bodies (sha256, bytes) that were kept when it was opened, released or not. Raises
        `DiskError`."""
        return self._files.read_bodies()

    def mark_bodies(self) -> None:
        """All bodies so far are in the blob store, whose sync begins now: `release_bodies` when it
        is done."""
        self._files.first_body_marked = NOWHERE

    def release_bodies(self) -> None:
        """The bodies before the last `mark_bodies` are on the disk in the blob store, and need not
        be kept here."""
        self._files.first_body = self._files.first_body_marked

    @property
    def promises(self) -> bytes:
        """What others promised, as it was kept last."""
        return self._log.promises

    def keep_promises(self, promises: bytes, *, alone: bool = False) -> None:
        """Have the next sync write what others promised; `alone`: also when there is nothing else
        to sync. Where there is no space for it, it is written when there is some."""
        self._log.promises = promises
        self._dirty = self._dirty or alone

    def _write_promises(self) -> None:
        """Put what others promised into the buffer, when the newest segment does not have it: an
        older one may go with this sync."""
        files, promises = self._files, self._log.promises
        place = (promises, files.newest_place)
        if promises and place != self._promises_in:
            record = RECORD_BYTES + len(promises)
            if files.claim(record, spare=self._limits.reserve_bytes):
                files.append(PROMISES, 0, 0, promises)
                self._promises_in = place

    def _make_room(self, idx: int, length: int) -> None:
        """The slow side of `add`: have space for a command of `length` bytes, or raise."""
        limits = self._limits
        if len(self._files.buffer) + length > limits.buffer_bytes_max:
            self.flush()
        record = RECORD_BYTES + length
        if self._files.claim(record, spare=limits.reserve_bytes):
            return
        if length > _SMALL_ENTRY_BYTES or not self._files.claim(
            record, spare=_HARD_STATE_SPARE_BYTES
        ):
            raise DiskFull(f"the disk is full: entry {idx} of {length} bytes was not added")

    def _restore(self, command: bytes, idx: int, term: int) -> bool:
        """True: the entry is the next one of the hidden suffix and has come back.

        Same index and same term is the same entry (Raft paper, section 5.3, log matching). So a cut
        that is followed by the same entries must never touch what may have been acknowledged.
        """
        hidden = self._hidden
        assert hidden is not None
        at = hidden.next
        in_cache = at - (len(hidden.terms) - len(hidden.cached))
        if (
            idx != self._next_index
            or at == len(hidden.terms)
            or hidden.terms[at] != term
            or hidden.lengths[at] != len(command)
            or (in_cache >= 0 and hidden.cached[in_cache][0] != command)
        ):
            self._write_cut()
            return False
        self._places.append(hidden.places[at])
        self._lengths.append(hidden.lengths[at])
        self._terms.append(term)
        if in_cache >= 0:
            entry = hidden.cached[in_cache]
            if not self._cache.entries:
                self._cache.first = idx
            self._cache.entries.append(entry)
            self._cache.bytes_held += len(entry[0]) + ENTRY_OVERHEAD_BYTES
        else:
            self._cache.first = idx + 1
        self._next_index = idx + 1
        hidden.next = at + 1
        if hidden.next == len(hidden.terms):
            self._hidden = None
        return True

    def deleteEntriesFrom(self, entryFrom: int) -> None:
        """Cut the log before position `entryFrom`; the stub stays.

        It becomes a record only when an entry is added that differs, or at the next flush.
        """
        index = self.first_index + entryFrom
        if index <= self._log.base_index or entryFrom < 0:
            raise ValueError(f"entry {index} is not in the log")
        if index >= self._next_index:
            return
        at = index - self._log.base_index - 1
        cache = self._cache
        in_cache = max(index - cache.first, 0)
        hidden = Hidden(
            self._places[at:], self._lengths[at:], self._terms[at:], cache.entries[in_cache:]
        )
        if self._hidden is not None:
            older = self._hidden
            cached_from = len(older.terms) - len(older.cached)
            hidden.places += older.places[older.next :]
            hidden.lengths += older.lengths[older.next :]
            hidden.terms += older.terms[older.next :]
            hidden.cached += older.cached[max(older.next - cached_from, 0) :]
        self._hidden = hidden
        del self._places[at:], self._lengths[at:], self._terms[at:]
        for command, _, _ in cache.entries[in_cache:]:
            cache.bytes_held -= len(command) + ENTRY_OVERHEAD_BYTES
        del cache.entries[in_cache:]
        if not cache.entries:
            cache.first = index
        self._next_index = index

    def _write_cut(self) -> None:
        """Put the cut into the buffer: the rest of the hidden suffix will not come back."""
        index = self._next_index
        self._files.append(CUT, index, self._log.last_term(), b"")
        self._hidden = None
        self._synced_index = min(self._synced_index, index - 1)
        self._flushed_index = min(self._flushed_index, index - 1)
        if self._job is not None:
            self._job.last_index = min(self._job.last_index, index - 1)
        self._dirty = True

    def deleteEntriesTo(self, entryTo: int) -> None:
        """`trim` to the entry at this position; entries before it may stay for a while."""
        self.trim(self.first_index + entryTo)

    def clear(self) -> None:
        """Not part of what the guarded engine uses: it would forget acknowledged entries (D2)."""
        raise JournalError("the log is never cleared; `reset` begins it after a snapshot")

    def setCurrentTerm(self, term: int, votedForNodeId: Vote) -> None:
        """Note the current term and vote; to be synced before any message tells of them.

        Raises ValueError when the term goes back or a vote changes within its term. Raises
        `DiskFull` when there is no space for it, which the reserve makes unlikely. Then nothing has
        changed.
        """
        log = self._log
        if term < log.term:
            raise ValueError(f"the term would go back from {log.term} to {term}")
        if term == log.term and log.vote is not None and votedForNodeId != log.vote:
            raise ValueError(f"the vote of term {term} would change from {log.vote!r}")
        if term == log.term and votedForNodeId == log.vote:
            return
        if self._hidden is not None:
            self._write_cut()
        self._files.append(HARD_STATE, 0, term, encode_vote(votedForNodeId))
        log.term, log.vote = term, votedForNodeId
        self._dirty = True

    def getCurrentTerm(self) -> int:
        """The current term; 0 at the beginning."""
        return self._log.term

    def getVotedForNodeId(self) -> Vote:
        """The member voted for in the current term."""
        return self._log.vote

    def setRaftCommitIndex(self, raftCommitIndex: int) -> None:
        """Note the commit index; it is written with the next mark, as a hint."""
        self._log.commit_index = raftCommitIndex

    def getRaftCommitIndex(self) -> int:
        """A commit index that is not beyond the log; at least 1, as the engine wants it."""
        return max(1, min(self._log.commit_index, self._next_index - 1))

    def onOneSecondTimer(self) -> None:
        """Let what waits be written: the mark of the last sync, and space, if there is some."""
        self.flush()

    def _destroy(self) -> None:
        self.close()

    # ------------------------------------------------------------------ writing

    def room(self) -> bool:
        """True: new entries may be accepted. False: the disk is full; what is left is for votes."""
        return not self._files.full

    def flush(self) -> None:
        """Write what was added, without a sync; tries for space again when the disk was full.

        Raises `DiskError`; everything then stays in memory for the next flush.
        """
        if self._hidden is not None:
            self._write_cut()
        self._files.flush()
        self._flushed_index = self._next_index - 1
        if self._cache.bytes_held > self._limits.cache_bytes_max:
            self._evict()

    def _evict(self) -> None:
        """Drop the oldest quarter of the cache, but nothing that is not yet in a file."""
        cache = self._cache
        target = self._limits.cache_bytes_max * 3 // 4
        held = cache.bytes_held
        count = 0
        most = self._flushed_index + 1 - cache.first
        while held > target and count < most:
            held -= len(cache.entries[count][0]) + ENTRY_OVERHEAD_BYTES
            count += 1
        self._cache.drop(count)

    # ------------------------------------------------------------------ syncing

    def begin_sync(self) -> SyncJob | None:
        """Flush, and hand out the sync to run; None: nothing waits, or one is already running.

        Raises `DiskError` as `flush` does.
        """
        if self._job is None and (self._dirty or self._files.removals):
            self._write_promises()
        self.flush()
        if self._job is not None or not (self._dirty or self._files.removals):
            return None
        self._dirty = False
        self._bodies_in_job = self._bodies_added
        self._job = self._files.begin_sync()
        return self._job

    def end_sync(self, job: SyncJob, *, closed: bool = False) -> None:
        """Take note that `job.run()` has returned. Raises RuntimeError when it has not."""
        if not job.finished:
            raise RuntimeError("the sync has not finished; after a failed sync the process stops")
        self._job = None
        self._files.end_sync(job, closed=closed)
        self._bodies_synced = self._bodies_in_job
        self._synced_index = job.last_index
        self._synced_hard_state = job.hard_state

    def _sync_now(self, *, closed: bool = False) -> None:
        if self._job is not None:
            raise RuntimeError("a sync is running; end it first")
        self._dirty = True
        job = self.begin_sync()
        assert job is not None
        job.run()
        self.end_sync(job, closed=closed)

    # ------------------------------------------------------------------ forgetting

    def trim(self, index: int) -> None:
        """Drop the segments that hold nothing but entries up to `index` and bodies that are
        released.

        The files go with the next sync, after everything that is kept is durable. Entries that stay
        are not touched. Does nothing while a cut may still be undone.
        """
        log = self._log
        if self._hidden is not None:
            return
        place = count = 0
        for boundary in self._files.boundaries():
            # Entries lie in the order of their places.
            below = bisect_left(self._places, boundary)
            if log.base_index + below > index or boundary > self._files.first_body:
                break
            place, count = boundary, below
        if place:
            self._drop_before(place, count)

    def _drop_before(self, place: int, count: int) -> None:
        """Drop the segments before the one that begins at `place`, and with them the oldest `count`
        entries."""
        log = self._log
        self._files.drop_before(place)
        if not count:
            return
        log.base_term = self._terms[count - 1]
        log.base_index += count
        del self._places[:count], self._lengths[:count], self._terms[:count]
        dropped = log.base_index + 1 - self._cache.first
        if dropped > 0:
            self._cache.drop(dropped)

    @property
    def newest_entries(self) -> int:
        """How many entries the newest segment has."""
        return len(self._places) - bisect_left(self._places, self._files.newest_place)

    def roll(self) -> bool:
        """End the newest segment early, so that `trim` can drop it, if there is space. False: not
        now. Raises `DiskError`."""
        if self._job is not None or self._hidden is not None:
            return False
        self.flush()
        if self.newest_entries:
            self._files.roll()
        return True

    def reset(self, index: int, term: int) -> None:
        """Forget every entry and go on after a snapshot at (`index`, `term`); term and vote stay.

        Durable when it returns. Crash-safe: the segment that says so is synced before the others
        are removed, and `open` removes what was left. Raises `DiskFull` (nothing has changed),
        `SyncFailed`, RuntimeError while a sync is running or bodies are kept.
        """
        if index < 1:
            raise ValueError(f"a snapshot cannot be at index {index}")
        if self._files.first_body != NOWHERE:
            raise RuntimeError("bodies are kept here that the blob store does not have on the disk")
        if self._job is not None:
            raise RuntimeError("a sync is running; end it first")
        self._begin_anew(index, term, ())

    # ------------------------------------------------------------- files that were changed in use

    def check_next(self) -> str:
        """Read one segment, each time the next one, and tell what was done to its file since it was
        written; "": nothing."""
        sequences = self._files.sequences()
        self._checked = next((n for n in sequences if n > self._checked), sequences[0])
        return self._files.check(self._checked)

    def mend(self, durable_index: int) -> bool:
        """Have files again that a start can read, after somebody removed, cut short or changed some
        while they were in use. What is in memory (terms, vote, where each entry is, and the newest
        entries themselves) is what the files were to say, so:

        1. What the index has on its disk, up to `durable_index`, needs no log. Damaged segments
           that hold nothing else are dropped, and those behind them stay.
        2. Otherwise the log begins anew at `durable_index`, with all that follows, in one segment
           that supersedes the others. The entries are on the disk before its header makes it one,
           so that a crash leaves either the old files or all entries.
        3. Where one of those cannot be read any more, True becomes False: the log begins anew,
           empty, at its end. Term and vote stay. A replica whose index ends before that must take
           no part until a resync from a source that stands there at least (`shard.index_recovery`):
           all that this one acknowledged and others count on is in such a source.

        Nobody may be told of anything meanwhile, nor after it but by who opens the journal again.
        Raises `DiskFull` (nothing has changed), `SyncFailed`, RuntimeError while a sync is running
        or bodies are kept."""
        if self._files.first_body != NOWHERE:
            raise RuntimeError("bodies are kept here that the blob store does not have on the disk")
        if self._job is not None:
            self.end_sync(self._job)
        wrong = [n for n in self._files.sequences() if self._files.check(n)]
        if not wrong:
            return True
        log = self._log
        base = max(log.base_index, min(durable_index, self.last_index))
        whole = True
        if not self._drop_damaged(max(wrong), base):
            try:
                entries = self._entries_behind(base)
            except (JournalDamaged, DiskError):
                hidden = self._hidden.terms[self._hidden.next :] if self._hidden else ()
                last = self.last_index + len(hidden)
                self._begin_anew(last, hidden[-1] if hidden else log.last_term(), ())
                whole = False
            else:
                self._begin_anew(base, self.term_of(base) if base else 0, entries)
        while self._files.removals:
            self._sync_now()
        return whole

    def _drop_damaged(self, newest: int, base: int) -> bool:
        """Drop the segments up to `newest`, if they hold no entries behind `base`."""
        following = next((p for p in self._files.boundaries() if p >> OFFSET_BITS > newest), 0)
        count = bisect_left(self._places, following)
        if not following or self._hidden is not None or self._log.base_index + count > base:
            return False
        self._drop_before(following, count)
        return True

    def _entries_behind(self, base: int) -> list[Entry]:
        """All entries after `base`; those that were cut, and may come back, as if they had not
        been: no record says so. Raises `JournalDamaged`, `DiskError`."""
        entries = [self.entry(index) for index in range(base + 1, self._next_index)]
        hidden = self._hidden
        if hidden is not None:
            cached_from = len(hidden.terms) - len(hidden.cached)
            for at in range(hidden.next, len(hidden.terms)):
                if at >= cached_from:
                    entries.append(hidden.cached[at - cached_from])
                    continue
                index, term = self._next_index + at - hidden.next, hidden.terms[at]
                place, length = hidden.places[at], hidden.lengths[at]
                entries.append((self._files.read(place, length, index, term), index, term))
        return entries

    def _begin_anew(self, index: int, term: int, entries: Sequence[Entry]) -> None:
        before = self._log
        log = ReplayedLog(index, term, before.term, before.vote, index, promises=before.promises)
        self._files.restart(log, entries)
        self._adopt_log(log)
        self._sync_now()
