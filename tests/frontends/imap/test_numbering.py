"""Numbers and UIDs lead to each other, as in a list."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from raftmail.frontends.imap.numbering import Numbering
from raftmail.mail.uidset import UidSet

uid_sets = st.frozensets(st.integers(1, 40))


@given(uid_sets, uid_sets)
def test_numbers_are_places_in_the_list_of_uids(
    there: frozenset[int], wanted: frozenset[int]
) -> None:
    uids = sorted(there)
    numbering = Numbering(UidSet.from_uids(there))
    assert numbering.count == len(uids)
    for uid in range(1, 42):
        assert numbering.number_of(uid) == (uids.index(uid) + 1 if uid in there else 0)
    known = numbering.known(UidSet.from_uids(wanted))
    assert set(known) == there & wanted
    assert [uids[number - 1] for number in numbering.numbers(known)] == sorted(there & wanted)
    numbers = UidSet.from_uids(one for one in wanted if one <= len(uids))
    assert list(numbering.numbered(numbers)) == [uids[number - 1] for number in numbers]


def test_a_million_messages_in_a_row_take_the_memory_of_one() -> None:
    numbering = Numbering(UidSet.from_ranges([(5, 1_000_004)]))
    assert numbering.count == 1_000_000
    assert numbering.number_of(1_000_004) == 1_000_000
    assert numbering.uid_of(1_000_000) == 1_000_004
    assert len(numbering._before) == 1
