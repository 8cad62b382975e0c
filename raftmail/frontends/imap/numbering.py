"""Messages by number (RFC 9051 section 2.3.1.2): the first has 1, in the order of their UIDs.

It takes memory for ranges of UIDs, not for messages, and sessions that see a mailbox in the same
state share the set.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from raftmail.mail.uidset import UidSet


class Numbering:
    """UIDs and their numbers. It does not change."""

    __slots__ = ("_before", "_bounds", "count", "uids")

    def __init__(self, uids: UidSet) -> None:
        self.uids = uids
        self._bounds = bounds = uids.bounds
        before, count = array("I"), 0
        for low, high in zip(bounds[::2], bounds[1::2], strict=True):
            before.append(count)
            count += high - low + 1
        self._before = before
        """How many messages stand before each range."""
        self.count = count

    def number_of(self, uid: int) -> int:
        """The number of a message; 0 when there is none with this UID."""
        bounds = self._bounds
        at = bisect_left(bounds, uid)
        if at & 1:
            return self._before[at >> 1] + uid - bounds[at - 1] + 1
        if at < len(bounds) and bounds[at] == uid:
            return self._before[at >> 1] + 1
        return 0

    def numbers_of(self, uids: Sequence[int]) -> Sequence[int]:
        """The numbers of some UIDs, all of which there are, ascending."""
        if not uids:
            return uids
        first, last = self.number_of(uids[0]), self.number_of(uids[-1])
        if last - first == len(uids) - 1:
            return range(first, last + 1)
        return [self.number_of(uid) for uid in uids]

    def uid_of(self, number: int) -> int:
        """The UID of a number from 1 to `count`."""
        at = bisect_right(self._before, number - 1) - 1
        return self._bounds[2 * at] + number - 1 - self._before[at]

    def known(self, wanted: UidSet) -> UidSet:
        """Those of `wanted` that there are."""
        if wanted.range_count() > 2 * self.uids.range_count():
            return wanted & self.uids
        parts = [self.uids.part(low, high) for low, high in wanted.ranges()]
        return _joined(parts)

    def numbered(self, numbers: UidSet) -> UidSet:
        """The UIDs of numbers, none of which is above `count`."""
        parts = [
            self.uids.part(self.uid_of(low), self.uid_of(high)) for low, high in numbers.ranges()
        ]
        return _joined(parts)

    def numbers(self, uids: UidSet) -> UidSet:
        """The numbers of UIDs, all of which there are."""
        ranges = []
        for low, high in uids.ranges():
            first = self.number_of(low)
            ranges.append((first, first + high - low))
        return UidSet.from_ranges(ranges)


def _joined(parts: list[UidSet]) -> UidSet:
    if len(parts) == 1:
        return parts[0]
    return UidSet.from_ranges(one for part in parts for one in part.ranges())
