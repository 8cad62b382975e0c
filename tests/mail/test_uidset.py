"""UID sets are what Python's sets are, in ranges."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftmail.mail.packing import pack, unpack
from raftmail.mail.uidset import RANGES_MAX, STAR, UidSet, UidSetBuilder

_uids = st.frozensets(st.integers(1, 40) | st.integers(STAR - 5, STAR))


@given(_uids, _uids)
def test_sets_behave_like_sets(a: frozenset[int], b: frozenset[int]) -> None:
    x, y = UidSet.from_uids(a), UidSet.from_uids(b)
    assert list(x) == sorted(a)
    assert len(x) == len(a)
    assert bool(x) == bool(a)
    assert set(x | y) == a | b
    assert set(x & y) == a & b
    assert set(x - y) == a - b
    assert (x == y) == (a == b)
    assert (x | y) == UidSet.from_uids(a | b)
    assert (x - y) == UidSet.from_uids(a - b)
    assert (x & y) == UidSet.from_uids(a & b)
    assert hash(x | y) == hash(y | x)
    assert all((uid in x) == (uid in a) for uid in range(45))
    assert x.first == min(a, default=0)
    assert x.last == max(a, default=0)
    assert x.only == (next(iter(a)) if len(a) == 1 else 0)


@given(_uids)
def test_text_and_wire_forms_lead_back(uids: frozenset[int]) -> None:
    x = UidSet.from_uids(uids)
    assert UidSet.from_wire(unpack(pack(x.to_wire()))) == x
    if uids:
        assert UidSet.parse(x.format()) == x
    builder = UidSetBuilder()
    for uid in sorted(uids):
        builder.add(uid)
    assert builder.build() == x


@given(st.integers(0, 60), st.lists(st.integers(1, 50) | st.just(STAR), min_size=2, max_size=6))
def test_a_star_is_the_last_message(last: int, ends: list[int]) -> None:
    """RFC 9051 section 9, seq-range: `*` is the largest number in use, and either end may be it."""
    ranges = list(zip(ends[::2], ends[1::2], strict=False))
    text = ",".join(":".join("*" if end == STAR else str(end) for end in ends_) for ends_ in ranges)
    wanted: set[int] = set()
    starred = False
    for a, b in ranges:
        starred = starred or STAR in (a, b)
        low, high = sorted(last if end == STAR else end for end in (a, b))
        wanted |= set(range(low, high + 1))
    found = UidSet.parse(text).resolve(last)
    if starred and last == 0:
        assert not found
    elif starred:
        assert set(found) == {uid for uid in wanted if uid <= last}
    else:
        assert set(found) == wanted


@pytest.mark.parametrize(
    "text", ["", "0", "a", "1:", ":1", "1,,2", "1:2:3", "4294967296", "-1", "01", "1 ", "²", "1:x"]
)
def test_text_that_is_no_set_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="UID"):
        UidSet.parse(text)


def test_text_that_is_too_long_is_refused() -> None:
    with pytest.raises(ValueError, match="10 characters"):
        UidSet.parse("1,2,3,4,5,6", chars_max=10)


@pytest.mark.parametrize(
    "wire",
    [0, -1, True, None, "1", [1], [5, 0], [0, 1], [1, 1, 1, 1], [1, -1], [1, 1.0], [STAR, 1]],
)
def test_wire_forms_that_nobody_writes_are_refused(wire: object) -> None:
    with pytest.raises(ValueError, match="UID"):
        UidSet.from_wire(wire)


def test_ranges_are_bounded() -> None:
    wire = [1, 0] + [2, 0] * RANGES_MAX
    with pytest.raises(ValueError, match="limited number"):
        UidSet.from_wire(wire)


def test_a_set_of_a_million_uids_in_a_row_is_as_small_as_one_of_two() -> None:
    assert len(pack(UidSet.parse("1:1000000").to_wire())) < 10


@given(_uids, st.integers(1, 60), st.integers(1, 60))
def test_a_part_has_what_lies_between(uids: frozenset[int], low: int, high: int) -> None:
    part = UidSet.from_uids(uids).part(low, high)
    assert part == UidSet.from_uids(uid for uid in uids if low <= uid <= high)
