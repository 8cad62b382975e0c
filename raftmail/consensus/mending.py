"""What a journal does about files that somebody removed, cut short or changed while it uses them."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Sequence

from raftmail.consensus.logcache import Cache, Entry, Hidden
from raftmail.consensus.replay import NOWHERE, OFFSET_BITS, JournalDamaged, Log
from raftmail.consensus.segments import SegmentFiles, SyncJob
from raftmail.storage.disk import DiskError


class Mending:
    """A part of `journal.Journal`, which owns what stands here."""

    _files: SegmentFiles
    _log: Log
    _places: array[int]
    _lengths: array[int]
    _terms: array[int]
    _cache: Cache
    _hidden: Hidden | None
    _next_index: int
    _job: SyncJob | None
    _checked: int = 0

    @property
    def last_index(self) -> int:
        """See `Journal`, as for those below."""
        raise NotImplementedError

    def entry(self, index: int) -> Entry:
        raise NotImplementedError

    def term_of(self, index: int) -> int:
        raise NotImplementedError

    def end_sync(self, job: SyncJob, *, closed: bool = False) -> None:
        raise NotImplementedError

    def _adopt_log(self, log: Log) -> None:
        raise NotImplementedError

    def _sync_now(self, *, closed: bool = False) -> None:
        raise NotImplementedError

    def check_next(self) -> str:
        """Read one segment, each time the next one, and tell what was done to its file since it was written; "": nothing."""
        sequences = self._files.sequences()
        self._checked = next((n for n in sequences if n > self._checked), sequences[0])
        return self._files.check(self._checked)

    def mend(self, durable_index: int) -> bool:
        """Have files again that a start can read, after somebody removed, cut short or changed some while they were in use. What is in
        memory (terms, vote, where each entry is, and the newest entries themselves) is what the files were to say, so:

        1. What the index has on its disk, up to `durable_index`, needs no log. Damaged segments that hold nothing else are dropped, and
           those behind them stay.
        2. Otherwise the log begins anew at `durable_index`, with all that follows, in one segment that supersedes the others. The entries
           are on the disk before its header makes it one, so that a crash leaves either the old files or all entries.
        3. Where one of those cannot be read any more, True becomes False: the log begins anew, empty, at its end. Term and vote stay. A
           replica whose index ends before that must take no part until a resync from a source that stands there at least
           (`shard.rescue`): all that this one acknowledged and others count on is in such a source.

        Nobody may be told of anything meanwhile, nor after it but by who opens the journal again. Raises `DiskFull` (nothing has
        changed), `SyncFailed`, RuntimeError while a sync is running or bodies are kept."""
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
        """All entries after `base`; those that were cut, and may come back, as if they had not been: no record says so. Raises
        `JournalDamaged`, `DiskError`."""
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

    def _drop_before(self, place: int, count: int) -> None:
        """Drop the segments before the one that begins at `place`, and with them the oldest `count` entries."""
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

    def _begin_anew(self, index: int, term: int, entries: Sequence[Entry]) -> None:
        before = self._log
        log = Log(index, term, before.term, before.vote, index, promises=before.promises)
        self._files.restart(log, entries)
        self._adopt_log(log)
        self._sync_now()
