"""The framing of the text protocol."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftmail.net.limits import ReaderLimits
from raftmail.net.lines import (
    BadLine,
    Item,
    Line,
    LineError,
    LineReader,
    ProtocolViolation,
    quote,
    quote_text,
)

TRACES = sorted((Path(__file__).parent / "traces").glob("lines_*.txt"))
SMALL = ReaderLimits(
    line_bytes_max=64,
    literal_bytes_max=100,
    request_bytes_max=300,
    discard_bytes_max=1000,
    words_max=20,
)


def show(item: Item) -> str:
    if isinstance(item, BadLine):
        return f"bad {ascii(item.tag)[2:-1]}: {item.text}"
    try:
        line = item if isinstance(item, Line) else Line.of(item)
    except LineError as error:
        assert isinstance(item, list)
        return f"bad {ascii(item[0])[2:-1]}: {error}"
    words = " ".join(ascii(word)[1:] for word in line.words)
    named = " ".join(f"{name.decode()}={ascii(value)[1:]}" for name, value in line.named.items())
    return f"{words} | {named}".rstrip()


def read_all(pieces: list[bytes], limits: ReaderLimits) -> list[str]:
    """What a reader makes of the pieces, one text an item, the error at the end."""
    reader = LineReader(limits)
    shown: list[str] = []
    try:
        for piece in pieces:
            reader.feed(piece)
            while items := reader.take():
                shown += map(show, items)
    except ProtocolViolation as error:
        shown.append(f"error: {error}")
    return shown


def read_trace(path: Path) -> tuple[bytes, list[str]]:
    """Lines that begin with `<` are received (Python's escapes; `~` at the end for no line end),
    the others are expected."""
    received = b""
    expected = []
    for text in path.read_text().splitlines():
        if text.startswith("< ") or text == "<":
            raw = text[2:].encode().decode("unicode_escape").encode("latin-1")
            received += raw[:-1] if raw.endswith(b"~") else raw + b"\r\n"
        elif text and not text.startswith("#"):
            expected.append(text)
    return received, expected


@pytest.mark.parametrize("path", TRACES, ids=lambda path: path.stem)
def test_a_trace_reads_as_it_says(path: Path) -> None:
    received, expected = read_trace(path)
    assert read_all([received], SMALL) == expected


@pytest.mark.parametrize("path", TRACES, ids=lambda path: path.stem)
def test_a_trace_reads_the_same_byte_by_byte_and_with_bare_line_feeds(path: Path) -> None:
    received, expected = read_trace(path)
    assert read_all([received[i : i + 1] for i in range(len(received))], SMALL) == expected


LINES = st.lists(
    st.one_of(
        st.sampled_from(
            [
                b"t1 NOOP\r\n",
                b"\r\n",
                b't2 X "a b" k="c\\"" {3}\r\nabc\r\n',
                b"t3 {0}\r\n y={2}\r\n\r\n z\n",
                b"t4 {500}\r\n" + b"x" * 500 + b" tail\n",
                b't5 "broken\n',
                b"t6 k=1 k=2\n",
                b"w " * 40 + b"\n",
            ]
        ),
        st.binary(max_size=30),
        st.text(alphabet='ab ="{}\\\r\n0123', max_size=30).map(str.encode),
    ),
    max_size=12,
).map(b"".join)


@settings(max_examples=200, deadline=None)
@given(LINES, st.lists(st.integers(0, 400), max_size=10))
def test_how_the_stream_is_cut_makes_no_difference(stream: bytes, cuts: list[int]) -> None:
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    pieces = [stream[a:b] for a, b in pairwise(edges)]
    assert read_all(pieces, SMALL) == read_all([stream], SMALL)


@settings(max_examples=200, deadline=None)
@given(LINES, st.integers(1, 50))
def test_one_at_a_time_gives_the_same_as_all_at_once(stream: bytes, size: int) -> None:
    reader = LineReader(SMALL)
    shown = []
    try:
        for at in range(0, len(stream), size):
            reader.feed(stream[at : at + size])
            while (item := reader.take_one()) is not None:
                shown.append(show(item))
    except ProtocolViolation as error:
        shown.append(f"error: {error}")
    assert shown == read_all([stream], SMALL)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.binary(max_size=200), max_size=40))
def test_whatever_comes_what_is_held_stays_bounded(pieces: list[bytes]) -> None:
    reader = LineReader(SMALL)
    try:
        for piece in pieces:
            reader.feed(piece)
            while reader.take():
                pass
            assert reader.unread_bytes <= SMALL.line_bytes_max
            held = reader._body
            assert held is None or len(held) <= SMALL.literal_bytes_max
            assert reader._request_bytes <= SMALL.request_bytes_max + SMALL.discard_bytes_max
    except ProtocolViolation:
        pass


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.binary(max_size=60), max_size=8),
    st.dictionaries(
        st.from_regex(rb"\A[a-z][a-z0-9_-]{0,5}\Z"), st.binary(max_size=1200), max_size=3
    ),
)
def test_what_is_quoted_reads_back(words: list[bytes], named: dict[bytes, bytes]) -> None:
    text = b" ".join([b"t", *map(quote, words), *(k + b"=" + quote(v) for k, v in named.items())])
    reader = LineReader(ReaderLimits())
    reader.feed(text + b"\r\n")
    (item,) = reader.take()
    assert not isinstance(item, BadLine)
    line = item if isinstance(item, Line) else Line.of(item)
    assert (line.words, line.named) == ([b"t", *words], named)


def test_a_text_for_people_is_one_quoted_string_whatever_it_says() -> None:
    reader = LineReader(ReaderLimits())
    reader.feed(b"t BAD " + quote_text('a "b"\r\n{5} \ud800 c\\') + b"\n")
    (line,) = reader.take()
    assert isinstance(line, Line)
    assert line.words == [b"t", b"BAD", b'a "b" {5} ? c\\']


def test_a_line_without_end_is_refused_when_it_passes_the_limit() -> None:
    reader = LineReader(SMALL)
    reader.feed(b"x" * 64)
    assert reader.take() == []
    reader.feed(b"x")
    with pytest.raises(ProtocolViolation, match="longer than 64 bytes"):
        reader.take()


def test_lines_before_an_error_are_given_before_it_is_raised() -> None:
    reader = LineReader(SMALL)
    reader.feed(b"t1 NOOP\n" + b"x" * 70 + b"\n")
    assert reader.take() == [[b"t1", b"NOOP"]]
    with pytest.raises(ProtocolViolation):
        reader.take()


def test_a_literal_that_is_told_to_wait_comes_when_it_is_admitted() -> None:
    answers: list[str | None] = [None, None, ""]
    reader = LineReader(SMALL, lambda count, first: answers.pop(0))
    reader.feed(b"t1 NOOP\nt2 {3}\r\nabc\r\nt3 NOOP\n")
    assert reader.take() == [[b"t1", b"NOOP"]]
    assert reader.waiting
    assert reader.take() == []
    (second, third) = reader.take()
    assert isinstance(second, Line)
    assert (second.words, second.literal_bytes) == ([b"t2", b"abc"], 3)
    assert third == [b"t3", b"NOOP"]
    assert not reader.waiting


def test_a_literal_that_is_refused_is_passed_over_and_its_line_is_busy() -> None:
    reader = LineReader(SMALL, lambda count, first: "" if first else "no room")
    reader.feed(b"t1 {3}\r\nabc {4}\r\ndefg\r\nt2 NOOP\n")
    assert reader.take() == [
        BadLine(b"t1", "no room", busy=True, literal_bytes=3),
        [b"t2", b"NOOP"],
    ]


def test_the_rest_after_a_line_is_left_for_another_reader() -> None:
    reader = LineReader(SMALL)
    reader.feed(b"t1 PEER\r\nS1 RAFT {3}\r\nabc")
    assert reader.take_one() == [b"t1", b"PEER"]
    assert reader.rest() == b"S1 RAFT {3}\r\nabc"
    assert reader.take() == []
