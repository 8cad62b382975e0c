"""Bytes become lines, however they were cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftmail.frontends.pop3.line_reader import Pop3LineReader, Pop3LineTooLong


def lines_of(reader: Pop3LineReader) -> list[bytes]:
    found = []
    while (line := reader.take()) is not None:
        found.append(line)
    return found


def test_lines_end_at_lf_and_a_cr_before_it_is_no_part() -> None:
    reader = Pop3LineReader(100)
    reader.feed(b"a\r\nb\n\r\r\nc")
    assert lines_of(reader) == [b"a", b"b", b"\r"]
    assert reader.unread_bytes == 1


@given(st.lists(st.binary(max_size=12).map(lambda b: b.replace(b"\n", b"")), max_size=8), st.data())
def test_how_bytes_were_cut_makes_no_difference(lines: list[bytes], data: st.DataObject) -> None:
    left = b"".join(line + b"\r\n" for line in lines)
    reader, found = Pop3LineReader(20), []
    while left:
        count = data.draw(st.integers(1, len(left)))
        reader.feed(left[:count])
        left = left[count:]
        found += lines_of(reader)
    assert found == lines
    assert not reader.unread_bytes


@pytest.mark.parametrize("data", [b"x" * 21, b"x" * 21 + b"\r\n", b"a\r\n" + b"x" * 21])
def test_a_line_beyond_the_limit_is_the_end(data: bytes) -> None:
    reader = Pop3LineReader(20)
    reader.feed(data)
    with pytest.raises(Pop3LineTooLong):
        lines_of(reader)


def test_what_is_forgotten_never_comes() -> None:
    reader = Pop3LineReader(20)
    reader.feed(b"STLS\r\nCAPA\r\nNO")
    assert reader.take() == b"STLS"
    reader.clear()
    reader.feed(b"STAT\r\n")
    assert lines_of(reader) == [b"STAT"]
