"""How much of the log is kept, for followers that were away: by bytes, by entries and by age.

Only what the index has on its disk is ever cut off, and only whole segments of the journal go. So
that entries and age count too, segments are ended early. Entries carry no time: their age counts
from when they were seen here, or from the start.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from raftmail.consensus.journal import Journal

PARTS = 8
"""A segment is ended with this part of the entries, or of the age, that are kept."""


@dataclass(frozen=True, slots=True)
class LogLimits:
    """P7. 0 entries or seconds is without a limit. What is cut off goes in whole segments, so that
    up to one more than this stays."""

    bytes_max: int = 64 << 20
    entries_max: int = 1_000_000
    age_s: float = 7 * 86_400.0

    @property
    def segment_bytes(self) -> int:
        """How long a segment of the journal should be."""
        return max(64 << 10, min(8 << 20, self.bytes_max // PARTS))


@dataclass(slots=True, repr=False)
class LogRetention:
    """Of one journal."""

    limits: LogLimits
    _seen: deque[tuple[float, int]] = field(default_factory=deque)
    """When the log reached which index, some `PARTS` times within the age."""

    _rolled_at: float = 0.0

    def step(self, now: float, journal: Journal, durable_index: int) -> None:
        """Cut off what is over a limit and at or below `durable_index`, which the index has on its
        disk."""
        first, last = journal.first_index, journal.last_index
        if last <= first:
            return
        self._note(now, last)
        self._end_segment(now, journal)
        up_to = max(self._over_bytes(journal), self._over_entries(last), self._over_age(now))
        if up_to > first:
            journal.trim(min(durable_index, up_to))

    def _note(self, now: float, last: int) -> None:
        seen = self._seen
        if not seen or (last > seen[-1][1] and now - seen[-1][0] >= self.limits.age_s / PARTS):
            seen.append((now, last))

    def _end_segment(self, now: float, journal: Journal) -> None:
        limits = self.limits
        entries = journal.newest_entries
        many = limits.entries_max and entries * PARTS >= limits.entries_max
        old = limits.age_s and entries and now - self._rolled_at >= limits.age_s / PARTS
        if (many or old) and journal.roll():
            self._rolled_at = now

    def _over_bytes(self, journal: Journal) -> int:
        total, most = journal.total_bytes, self.limits.bytes_max
        if total <= most:
            return 0
        first = journal.first_index
        return first + (journal.last_index - first) * (total - most) // total

    def _over_entries(self, last: int) -> int:
        most = self.limits.entries_max
        return last - most if most else 0

    def _over_age(self, now: float) -> int:
        if not self.limits.age_s:
            return 0
        seen = self._seen
        up_to = 0
        while seen and now - seen[0][0] >= self.limits.age_s:
            up_to = seen[0][1]
            if len(seen) == 1:
                break
            seen.popleft()
        return up_to
