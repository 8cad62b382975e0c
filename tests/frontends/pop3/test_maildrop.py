"""A maildrop keeps its numbers, and counts what is not marked."""

from __future__ import annotations

from array import array

import pytest

from raftmail.frontends.pop3.maildrop import Maildrop, NoSuchMessage
from raftmail.mail.uidset import UidSet


def maildrop(*sizes: int) -> Maildrop:
    """Messages with the UIDs 10, 20, 30, …"""
    found = Maildrop(3, 0xAB)
    found.add(range(10, 10 * len(sizes) + 1, 10), sizes)
    return found


def test_marks_keep_the_numbers_and_lower_the_count() -> None:
    drop = maildrop(5, 7, 11)
    drop.mark(2, most=9)
    assert (drop.messages, drop.octets, len(drop)) == (2, 16, 3)
    assert list(drop.listed(1, 9)) == [(1, 10, 5), (3, 30, 11)]
    assert drop.find(3) == (30, 11)
    assert drop.marked == UidSet.from_uids([20])
    drop.reset()
    assert (drop.messages, drop.octets, drop.marked) == (3, 23, UidSet())


@pytest.mark.parametrize("number", [0, 4, 9_999_999_999])
def test_there_is_no_message_outside_the_numbers(number: int) -> None:
    with pytest.raises(NoSuchMessage, match="there are 3"):
        maildrop(1, 1, 1).find(number)


def test_what_is_marked_is_there_for_nobody() -> None:
    drop = maildrop(1, 1)
    drop.mark(1, most=9)
    for asked in (drop.find, drop.unique_id, lambda n: drop.mark(n, most=9)):
        with pytest.raises(NoSuchMessage, match="deleted"):
            asked(1)


def test_one_quit_deletes_a_bounded_number_of_messages() -> None:
    drop = maildrop(1, 1, 1)
    drop.mark(1, most=2)
    drop.mark(2, most=2)
    with pytest.raises(NoSuchMessage, match="say QUIT"):
        drop.mark(3, most=2)
    assert drop.messages == 1


def test_a_unique_id_is_of_the_mailbox_and_the_uid() -> None:
    drop = maildrop(1, 1)
    assert drop.unique_id(2) == "000000ab00000014"
    last = Maildrop(1, 2**32 - 1)
    last.add([2**32 - 1], [2**40])
    assert last.unique_id(1) == "f" * 16
    assert last.octets == 2**40


def test_a_part_of_the_list_is_of_numbers_not_of_what_is_left() -> None:
    drop = maildrop(1, 2, 3, 4)
    drop.mark(2, most=9)
    assert [row[0] for row in drop.listed(1, 2)] == [1]
    assert [row[0] for row in drop.listed(3, 2)] == [3, 4]


@pytest.mark.parametrize("kind", ["B", "I", "L", "Q", "q"])
def test_columns_of_any_kind_are_taken(kind: str) -> None:
    maildrop = Maildrop(1, 7)
    maildrop.add(array(kind, [3, 5]), array(kind, [10, 20]))
    maildrop.add([9], (30,))
    assert list(maildrop.listed(1, 9)) == [(1, 3, 10), (2, 5, 20), (3, 9, 30)]
    assert (maildrop.messages, maildrop.octets) == (3, 60)
