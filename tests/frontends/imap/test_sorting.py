"""The order in which SORT puts messages."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftmail.frontends.imap.commands import SortCriterion, SortKey
from raftmail.frontends.imap.search import Level
from raftmail.frontends.imap.sorting import Sorter, collated
from raftmail.mail.queries import MessageInfo
from raftmail.mail.summary import summarise
from tests.frontends.imap.odd_messages import ODD, odd_bytes
from tests.fuzzing import bounded


def info(number: int, received_s: int = 0, size: int = 0) -> MessageInfo:
    return MessageInfo(number, bytes(16), 1, (), received_s * 1_000_000, size, bytes(32))


def sort(*keys: SortKey | SortCriterion, messages: list[bytes]) -> list[int]:
    """Of messages that all arrived at the beginning of 1970."""
    return sort_records(*keys, messages=[(info(n), m) for n, m in enumerate(messages, 1)])


def sort_records(
    *keys: SortKey | SortCriterion, messages: list[tuple[MessageInfo, bytes]]
) -> list[int]:
    criteria = tuple(
        key if isinstance(key, SortCriterion) else SortCriterion(key, False) for key in keys
    )
    sorter = Sorter(criteria)
    for number, (record, message) in enumerate(messages, 1):
        sorter.add(number, record, summarise(message))
    return sorter.numbers()


def reverse(key: SortKey) -> SortCriterion:
    return SortCriterion(key, True)


def fields(*lines: str) -> list[bytes]:
    return [line.encode() + b"\r\n\r\n" for line in lines]


SUBJECTS = fields(
    "Subject: re [2]: bb",
    "Subject: [Fwd: aa]",
    "Subject: Fw [x]: cc",
    "Subject: =?utf-8?q?AA?= (fwd)",
)


def test_subjects_are_sorted_by_their_base_without_case() -> None:
    assert sort(SortKey.SUBJECT, messages=SUBJECTS) == [2, 4, 1, 3]


def test_equals_stand_in_the_order_of_their_numbers_also_in_reverse() -> None:
    assert sort(reverse(SortKey.SUBJECT), messages=SUBJECTS) == [3, 1, 2, 4]
    assert sort(reverse(SortKey.CC), messages=SUBJECTS) == [1, 2, 3, 4]


def test_each_criterion_is_reversed_for_itself() -> None:
    messages = fields(
        "From: b@x\r\nSubject: 1",
        "From: a@x\r\nSubject: 1",
        "From: b@x\r\nSubject: 2",
        "From: a@x\r\nSubject: 2",
    )
    assert sort(reverse(SortKey.FROM), SortKey.SUBJECT, messages=messages) == [1, 3, 2, 4]
    assert sort(SortKey.FROM, reverse(SortKey.SUBJECT), messages=messages) == [4, 2, 3, 1]


def test_a_date_that_cannot_be_read_is_that_of_arrival() -> None:
    messages = [
        (info(1, 500), b"Date: 1 Jan 1970 00:10:00 +0000\r\n\r\n"),
        (info(2, 500), b"Date: tomorrow\r\n\r\n"),
        (info(3, 700), b"\r\n"),
        (info(4, 0), b"Date: 1 Jan 1970 01:10:00 +0100\r\n\r\n"),
        (info(5, 0), b"Date: 31 Dec 1969 23:10:00 -0100\r\n\r\n"),
    ]
    assert sort_records(SortKey.DATE, messages=messages) == [2, 1, 4, 5, 3]
    assert sort_records(SortKey.ARRIVAL, messages=messages) == [4, 5, 1, 2, 3]


def test_sizes_are_those_of_the_record() -> None:
    messages = [(info(n, size=size), b"") for n, size in enumerate((30, 10, 20), 1)]
    assert sort_records(SortKey.SIZE, messages=messages) == [2, 3, 1]


ADDRESSES = fields(
    "From: zoe@a.example\r\nTo: b@x, a@x\r\nCc: C <m@x>",
    'From: "Anna" <yves@b.example>\r\nTo: a@x',
    "From: =?utf-8?q?=C3=84nne?= <Xaver@c.example>",
    "To: crew: z@x;\r\nFrom: Zed",
    "X: no addresses",
)


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (SortKey.FROM, [5, 3, 2, 4, 1]),
        (SortKey.TO, [3, 5, 2, 1, 4]),
        (SortKey.CC, [2, 3, 4, 5, 1]),
        (SortKey.DISPLAYFROM, [5, 2, 3, 4, 1]),
        (SortKey.DISPLAYTO, [3, 5, 2, 1, 4]),
    ],
)
def test_addresses_are_sorted_by_the_first_of_them(key: SortKey, expected: list[int]) -> None:
    assert sort(key, messages=ADDRESSES) == expected


def test_letters_with_accents_stand_after_their_letters() -> None:
    words = ["Zebra", "äpfel", "apfel", "Birne", "Äpfel", "_"]
    messages = fields(*(f"Subject: {word}" for word in words))
    assert sort(SortKey.SUBJECT, messages=messages) == [3, 2, 5, 4, 1, 6]
    assert collated("straße") == "STRASSE"


def test_a_sort_by_arrival_and_size_needs_no_summaries() -> None:
    criteria = (SortCriterion(SortKey.ARRIVAL, False), SortCriterion(SortKey.SIZE, True))
    sorter = Sorter(criteria)
    assert sorter.needs is Level.RECORD
    sorter.add(1, info(1, 2), None)
    sorter.add(2, info(2, 1), None)
    assert sorter.numbers() == [2, 1]
    assert Sorter((*criteria, SortCriterion(SortKey.DATE, False))).needs is Level.SUMMARY


def test_nothing_is_sorted_to_nothing() -> None:
    assert sort(SortKey.DATE, messages=[]) == []


@bounded
@given(
    st.lists(odd_bytes, max_size=4),
    st.lists(st.sampled_from(SortKey), min_size=1, max_size=3),
    st.booleans(),
)
def test_no_bytes_are_too_odd_to_be_sorted(
    messages: list[bytes], keys: list[SortKey], reverse_all: bool
) -> None:
    criteria = [SortCriterion(key, reverse_all) for key in keys]
    found = sort(*criteria, messages=[*messages, *ODD.values()])
    assert sorted(found) == list(range(1, len(messages) + len(ODD) + 1))
