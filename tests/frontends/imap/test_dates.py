"""Date fields as they are written, and as they should not be."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftmail.frontends.imap.dates import UNIX_DAY, SentDate, read_date
from tests.fuzzing import bounded

NOON = SentDate(date(2024, 6, 3).toordinal(), 1717408800)
"""12:00 +0200."""


@pytest.mark.parametrize(
    "value",
    [
        b"Mon, 3 Jun 2024 12:00:00 +0200",
        b"mon, 03 JUN 2024 12:00 +0200 (CEST)",
        b" \tMon,3 Jun 2024 12:00:00 +0200",
        b"3 Jun 2024 12:00:00 CEST",
        b"Mon 3 June 2024 12.00.00 +0200",
        b"Monday, 03-Jun-24 12:00:00 +0200",
        b"(comment) Mon, 3 Jun 2024 12:00:00 +0200",
        b"Mon Jun  3 12:00:00 2024 +0200",
        b"Mon Jun  3 12:00:00 CEST 2024",
        b"Tue, 3 Jun 2024 12:00:00 +0200",
        b"Mon, 3 Jun 2024 06:00:00 EDT",
    ],
)
def test_what_senders_write_is_read(value: bytes) -> None:
    assert read_date(value) == NOON


def test_the_day_is_the_one_written_whatever_the_zone() -> None:
    early = read_date(b"Sun, 28 Dec 2025 07:30:00 +0000")
    late = read_date(b"Sat, 27 Dec 2025 23:30:00 -0800")
    assert early is not None
    assert late is not None
    assert early.utc_s == late.utc_s
    assert (early.day, late.day) == (date(2025, 12, 28).toordinal(), date(2025, 12, 27).toordinal())


@pytest.mark.parametrize(
    "value",
    [b"", b"tomorrow", b"2024-06-03", b"31 Feb 2026 00:00:00 +0000", b"0 Jun 2024", b"3 Foo 2024",
     b"3 Jun 0000", b"3 Jun 99999", b"3 Jun", b"\xff" * 100, b"(" * 1000],
)  # fmt: skip
def test_what_names_no_day_is_no_date(value: bytes) -> None:
    assert read_date(value) is None


@pytest.mark.parametrize(
    ("value", "second"),
    [
        (b"1 Jan 1970", 0),
        (b"1 Jan 1970 00:00:61 +0000", 0),
        (b"1 Jan 1970 25:00:00 +0000", 0),
        (b"1 Jan 1970 01:00:00 nowhere", 3600),
        (b"1 Jan 1970 01:00:00 +9900", 3600),
        (b"1 Jan 1970 01:00:00 -0000", 3600),
        (b"1 Jan 70 01:00:00", 3600),
        (b"1 Jan 070 01:00:00", 3600),
        (b"31 Dec 1969 23:59:60 UT", 0),
    ],
)
def test_a_broken_time_is_midnight_and_a_broken_zone_is_utc(value: bytes, second: int) -> None:
    found = read_date(value)
    assert found is not None
    assert found.utc_s == second


def test_days_are_counted_as_python_counts_them() -> None:
    assert date(1970, 1, 1).toordinal() == UNIX_DAY


@bounded
@given(st.text("0123456789 JunMon,:+-()\t\n.").map(str.encode) | st.binary())
def test_no_bytes_are_too_odd_to_be_asked_for_a_date(value: bytes) -> None:
    read_date(value)
