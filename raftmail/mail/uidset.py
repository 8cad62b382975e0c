"""Sets of UIDs as sorted, disjoint, non-adjacent ranges.

A set of one UID is the common case of the hot path: it is an int on the wire and costs one small
object. A set over a million consecutive UIDs costs the same. Text form and the meaning of `*` are
those of RFC 9051 (`sequence-set`).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from itertools import accumulate, chain
from typing import TypeAlias, final

UID_MAX = 2**32 - 2
"""The highest UID a message can have."""

STAR = 2**32 - 1
"""`*` in a set: the highest UID in the mailbox, whichever that is (see `UidSet.resolve`). No
message has it as UID."""

RANGES_MAX = 1_000_000
TEXT_CHARS_MAX = 1 << 20

Wire: TypeAlias = int | tuple[int, ...] | list[int]
"""What stands for a set in msgpack: an int for one UID, else the steps from bound to bound,
`first, length - 1, gap, ...`."""


@final
class UidSet:
    """An immutable set of UIDs from 1 to `STAR`. `UidSet()` is the empty set.

    Invariant: `_bounds` is `(low, high, low, high, ...)`, ascending, with at least one UID missing
    between ranges."""

    __slots__ = ("_bounds",)

    def __init__(self) -> None:
        self._bounds: tuple[int, ...] = ()

    @staticmethod
    def _of(bounds: tuple[int, ...]) -> UidSet:
        made = UidSet.__new__(UidSet)
        made._bounds = bounds
        return made

    @staticmethod
    def single(uid: int) -> UidSet:
        """The set of one UID, which the caller vouches is in range."""
        made = UidSet.__new__(UidSet)
        made._bounds = (uid, uid)
        return made

    @staticmethod
    def from_uids(uids: Iterable[int]) -> UidSet:
        """Of UIDs in any order, repeated or not. Raises ValueError for one that is out of range."""
        ordered = sorted(set(uids))
        if not ordered:
            return _EMPTY
        _check(ordered[0], ordered[-1])
        bounds = [ordered[0]]
        previous = ordered[0]
        for uid in ordered:
            if uid - previous > 1:
                bounds += (previous, uid)
            previous = uid
        bounds.append(previous)
        return UidSet._of(tuple(bounds))

    @staticmethod
    def from_ranges(ranges: Iterable[tuple[int, int]]) -> UidSet:
        """Of inclusive ranges in any order, overlapping or not, either end first (RFC 9051: `4:2`
        is `2:4`).

        Raises ValueError when out of range, or when more than `RANGES_MAX` ranges remain."""
        ordered = sorted((a, b) if a <= b else (b, a) for a, b in ranges)
        if not ordered:
            return _EMPTY
        bounds: list[int] = []
        low, high = ordered[0]
        _check(low, max(b for _, b in ordered))
        for a, b in ordered:
            if a > high + 1:
                bounds += (low, high)
                low, high = a, b
            elif b > high:
                high = b
        bounds += (low, high)
        if len(bounds) > 2 * RANGES_MAX:
            raise ValueError(f"a UID set may have {RANGES_MAX} ranges, this one has more")
        return UidSet._of(tuple(bounds))

    @staticmethod
    def parse(text: str, *, chars_max: int = TEXT_CHARS_MAX) -> UidSet:
        """Read `1:5,9,12:*`. Raises ValueError, saying what is wrong."""
        if len(text) > chars_max:
            raise ValueError(f"a UID set may have {chars_max} characters, this one has {len(text)}")
        if text.isdecimal() and text.isascii():
            uid = _number(text)
            return UidSet._of((uid, uid))
        ranges = []
        for part in text.split(","):
            low, colon, high = part.partition(":")
            a = _number(low)
            ranges.append((a, _number(high) if colon else a))
        return UidSet.from_ranges(ranges)

    def format(self) -> str:
        """The text form; empty for the empty set, which RFC 9051 cannot write."""
        bounds = self._bounds
        if not bounds:
            return ""
        return ",".join(
            _text(low) if low == high else f"{_text(low)}:{_text(high)}"
            for low, high in zip(bounds[::2], bounds[1::2], strict=True)
        )

    def to_wire(self) -> Wire:
        """The msgpack form; `from_wire` reads it."""
        bounds = self._bounds
        if len(bounds) == 2:
            low, high = bounds
            return low if low == high else [low, high - low]
        if not bounds:
            return []
        steps = [bounds[0]]
        steps += map(int.__sub__, bounds[1:], bounds[:-1])
        return steps

    @staticmethod
    def from_wire(value: object) -> UidSet:
        """Read the msgpack form. Raises ValueError for anything that `to_wire` does not write."""
        if type(value) is int:
            if 1 <= value <= STAR:
                return UidSet._of((value, value))
            raise ValueError(f"{value} is no UID")
        if type(value) is not tuple and type(value) is not list:
            raise ValueError("a UID set is an integer or a list of integers")
        count = len(value)
        if not count:
            return _EMPTY
        if count & 1 or count > 2 * RANGES_MAX or set(map(type, value)) != {int}:
            raise ValueError("a UID set has pairs of integers, of limited number")
        if count == 2 and value[1] == 0:
            raise ValueError("a UID set of one UID is an integer")
        if value[0] < 1 or min(value[1::2]) < 0 or (count > 2 and min(value[2::2]) < 2):
            raise ValueError("the ranges of a UID set ascend and do not touch")
        bounds = tuple(accumulate(value))
        if bounds[-1] > STAR:
            raise ValueError(f"{bounds[-1]} is no UID")
        return UidSet._of(bounds)

    def resolve(self, last_uid: int) -> UidSet:
        """Put the mailbox's highest UID in the place of `*`, and leave out what lies above it.
        `12:*` always contains the last message (RFC 9051 section 9, `seq-range`). `last_uid` is 0
        when the mailbox is empty."""
        bounds = self._bounds
        if not bounds or bounds[-1] != STAR:
            return self
        if last_uid == 0:
            return _EMPTY
        if bounds[-2] <= last_uid:
            return UidSet._of((*bounds[:-1], last_uid))
        kept = UidSet._of(bounds[:-2]) & UidSet._of((1, last_uid))
        return kept | UidSet.single(last_uid)

    @property
    def only(self) -> int:
        """The UID of a set that has exactly one, else 0."""
        bounds = self._bounds
        return bounds[0] if len(bounds) == 2 and bounds[0] == bounds[1] else 0

    @property
    def first(self) -> int:
        """The lowest UID; 0 of the empty set."""
        return self._bounds[0] if self._bounds else 0

    @property
    def last(self) -> int:
        """The highest UID; 0 of the empty set."""
        return self._bounds[-1] if self._bounds else 0

    def ranges(self) -> Iterator[tuple[int, int]]:
        """Inclusive ranges, ascending."""
        return zip(self._bounds[::2], self._bounds[1::2], strict=True)

    def range_count(self) -> int:
        return len(self._bounds) >> 1

    @property
    def bounds(self) -> tuple[int, ...]:
        """The ends of the ranges: `(low, high, low, high, ...)`, ascending."""
        return self._bounds

    def part(self, low: int, high: int) -> UidSet:
        """Those from `low` to `high`. The cost is that of the ranges it has."""
        bounds = self._bounds
        begin, end = bisect_left(bounds, low), bisect_right(bounds, high)
        inner = bounds[begin:end]
        if begin & 1:  # `low` is inside a range, or its end
            inner = (low, *inner)
        if end & 1:
            inner = (*inner, high)
        return UidSet._of(inner) if low <= high and inner else _EMPTY

    def __iter__(self) -> Iterator[int]:
        return chain.from_iterable(range(low, high + 1) for low, high in self.ranges())

    def __len__(self) -> int:
        bounds = self._bounds
        return sum(bounds[1::2]) - sum(bounds[::2]) + (len(bounds) >> 1)

    def __bool__(self) -> bool:
        return bool(self._bounds)

    def __contains__(self, uid: object) -> bool:
        if not isinstance(uid, int):
            return False
        bounds = self._bounds
        at = bisect_left(bounds, uid)
        return at & 1 == 1 or (at < len(bounds) and bounds[at] == uid)

    def __or__(self, other: UidSet) -> UidSet:
        if not other._bounds:
            return self
        if not self._bounds:
            return other
        if other._bounds[0] > self._bounds[-1] + 1:
            return UidSet._of(self._bounds + other._bounds)
        if other._bounds[0] == self._bounds[-1] + 1:
            return UidSet._of(self._bounds[:-1] + other._bounds[1:])
        return UidSet.from_ranges(chain(self.ranges(), other.ranges()))

    def __and__(self, other: UidSet) -> UidSet:
        a, b = self._bounds, other._bounds
        i = j = 0
        bounds: list[int] = []
        while i < len(a) and j < len(b):
            low = max(a[i], b[j])
            high = min(a[i + 1], b[j + 1])
            if low <= high:
                bounds += (low, high)
            if a[i + 1] < b[j + 1]:
                i += 2
            else:
                j += 2
        return UidSet._of(tuple(bounds))

    def __sub__(self, other: UidSet) -> UidSet:
        a, b = self._bounds, other._bounds
        j = 0
        bounds: list[int] = []
        for i in range(0, len(a), 2):
            low, high = a[i], a[i + 1]
            while j < len(b) and b[j + 1] < low:
                j += 2
            k = j
            while k < len(b) and b[k] <= high:
                if b[k] > low:
                    bounds += (low, b[k] - 1)
                low = b[k + 1] + 1
                k += 2
            if low <= high:
                bounds += (low, high)
        return UidSet._of(tuple(bounds))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, UidSet) and self._bounds == other._bounds

    def __hash__(self) -> int:
        return hash(self._bounds)

    def __repr__(self) -> str:
        return f"UidSet({self.format()!r})"


_EMPTY = UidSet()


class UidSetBuilder:
    """A set from UIDs that come ascending, in memory for its ranges alone."""

    __slots__ = ("_bounds", "_last")

    def __init__(self) -> None:
        self._bounds: list[int] = []
        self._last = -1

    def add(self, uid: int) -> None:
        last = self._last
        if uid != last + 1:
            if last >= 0:
                self._bounds.append(last)
            self._bounds.append(uid)
        self._last = uid

    def build(self) -> UidSet:
        if self._last < 0:
            return _EMPTY
        return UidSet._of((*self._bounds, self._last))


def _check(low: int, high: int) -> None:
    if low < 1 or high > STAR:
        raise ValueError(f"UIDs are from 1 to {STAR}, not {low if low < 1 else high}")


def _number(text: str) -> int:
    if text == "*":
        return STAR
    if not text.isdecimal() or not text.isascii() or len(text) > 10 or text[0] == "0":
        raise ValueError(
            f"{text[:20]!r} is no UID: a number from 1 to {STAR} or * stands in a UID set"
        )
    uid = int(text)
    _check(uid, uid)
    return uid


def _text(uid: int) -> str:
    return "*" if uid == STAR else str(uid)
