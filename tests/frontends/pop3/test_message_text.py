"""Messages go out whole, with dots that a client takes off, wherever pieces end."""

from __future__ import annotations

from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftmail.frontends.pop3 import message_text
from raftmail.frontends.pop3.message_text import PIECE_BYTES, pieces

HEADER = b"Subject: x\r\n\r\n"


def sent(message: bytes, lines: int | None = None) -> bytes:
    return b"".join(pieces(message, lines))


def unstuffed(data: bytes) -> bytes:
    """What a client makes of it that knows lines by LF; what follows the end is an error."""
    found: list[bytes] = []
    at = 0
    while True:
        stop = data.index(b"\n", at) + 1
        line = data[at:stop]
        at = stop
        if line == b".\r\n":
            assert at == len(data), "something follows the end"
            return b"".join(found)
        found.append(line.removeprefix(b"."))


@pytest.mark.parametrize(
    ("message", "wire"),
    [
        (b"", b".\r\n"),
        (b"a\r\n", b"a\r\n.\r\n"),
        (b"a", b"a\r\n.\r\n"),
        (b"a\n", b"a\n\r\n.\r\n"),
        (b"a\r", b"a\r\r\n.\r\n"),
        (b".\r\n..\r\n.x\r\nend", b"..\r\n...\r\n..x\r\nend\r\n.\r\n"),
        (b"a\n.\nb\r\n", b"a\n..\nb\r\n.\r\n"),
        (b".", b"..\r\n.\r\n"),
        (b"a\r.b\r\n", b"a\r.b\r\n.\r\n"),
        (b"\r\n", b"\r\n.\r\n"),
        (b"\n", b"\n\r\n.\r\n"),
    ],
)
def test_each_line_that_begins_with_a_dot_gets_one_more(message: bytes, wire: bytes) -> None:
    assert sent(message) == wire


@pytest.mark.parametrize("edge", [4096, PIECE_BYTES, 2 * PIECE_BYTES])
@pytest.mark.parametrize("middle", [b"\r\n.\r\n", b"\r\n..x\r\n", b"\n.\n", b"\n.", b"\r\n.x"])
@pytest.mark.parametrize("before", range(-4, 3))
def test_dots_are_found_wherever_a_piece_ends(edge: int, middle: bytes, before: int) -> None:
    start = HEADER + b"x" * (edge - len(HEADER) + before)
    message = start + middle + b"\r\nend\r\n"
    assert unstuffed(sent(message)) == message


@given(st.lists(st.sampled_from([b".", b"\r\n", b"\n", b"\r", b"a", b"..", b""]), max_size=40))
def test_what_a_client_takes_off_leaves_what_is_stored(parts: list[bytes]) -> None:
    message = b"".join(parts)
    found = unstuffed(sent(message))
    assert found == (message if not message or message.endswith(b"\r\n") else message + b"\r\n")


BODY = HEADER + b"one\r\n.two\r\nthree"


@pytest.mark.parametrize(
    ("lines", "end"),
    [
        (0, HEADER),
        (1, HEADER + b"one\r\n"),
        (2, HEADER + b"one\r\n.two\r\n"),
        (3, BODY + b"\r\n"),
        (99, BODY + b"\r\n"),
        (9_999_999_999, BODY + b"\r\n"),
    ],
)
def test_top_is_the_header_the_empty_line_and_so_many_lines(lines: int, end: bytes) -> None:
    assert unstuffed(sent(BODY, lines)) == end


@pytest.mark.parametrize(
    ("message", "end"),
    [
        (b"A: b\n\nbody\n", b"A: b\n\n\r\n"),
        (b"A: b\n\r\nbody\r\n", b"A: b\n\r\n"),
        (b"\r\nbody\r\n", b"\r\n"),
        (b"\nbody\r\n", b"\n\r\n"),
        (b"A: b\r\nC: d\r\n", b"A: b\r\nC: d\r\n"),
        (b"A: b\r\n\n\r\n\r\nx", b"A: b\r\n\n\r\n"),
        (b"", b""),
    ],
)
def test_a_header_ends_at_its_first_empty_line(message: bytes, end: bytes) -> None:
    assert unstuffed(sent(message, 0)) == end


def _obvious_top(message: bytes, lines: int) -> bytes:
    kept, in_header = [], True
    for line in _lines(message):
        if not in_header and not lines:
            break
        kept.append(line)
        if not in_header:
            lines -= 1
        elif line in (b"\n", b"\r\n"):
            in_header = False
    return b"".join(kept)


def _lines(message: bytes) -> list[bytes]:
    parts = message.split(b"\n")
    return [part + b"\n" for part in parts[:-1]] + ([parts[-1]] if parts[-1] else [])


@given(
    st.lists(st.sampled_from([b".", b"\r\n", b"\n", b"a", b"\r\n\r\n", b"bb:"]), max_size=40),
    st.integers(0, 6),
    st.integers(1, 9),
)
def test_top_is_as_an_obvious_one_says_with_pieces_of_any_size(
    parts: list[bytes], lines: int, size: int
) -> None:
    message = b"".join(parts)
    with patch.object(message_text, "PIECE_BYTES", size):
        found = unstuffed(sent(message, lines))
        whole = unstuffed(sent(message))
    wanted = _obvious_top(message, lines)
    assert found == (wanted if not wanted or wanted.endswith(b"\r\n") else wanted + b"\r\n")
    assert whole.startswith(message)


def test_a_long_message_goes_out_in_pieces_that_are_bounded() -> None:
    message = HEADER + b".\r\n" * 200_000
    found = list(pieces(message, 150_000))
    assert max(map(len, found)) <= 2 * PIECE_BYTES
    assert unstuffed(b"".join(found)) == HEADER + b".\r\n" * 150_000
