"""One encoder for every kind of value: whatever it is given, a client can read it again."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftmail.frontends.imap import responses
from raftmail.mail.uidset import UidSet

_QUOTED = re.compile(rb'"((?:[^"\\\r\n\x00\x80-\xff]|\\["\\])*)"')
_LITERAL = re.compile(rb"\{([0-9]+)\}\r\n(.*)", re.DOTALL)


def read(value: bytes) -> bytes:
    """A string as a strict client reads it."""
    if found := _QUOTED.fullmatch(value):
        return re.sub(rb'\\(["\\])', rb"\1", found[1])
    found = _LITERAL.fullmatch(value)
    assert found is not None and int(found[1]) == len(found[2])
    return found[2]


@given(st.binary(max_size=200))
def test_a_string_is_read_as_it_was_but_for_nul(value: bytes) -> None:
    for made in (responses.string(value), responses.literal(value)):
        assert read(made) == value.replace(b"\x00", b" ")
    atom = responses.astring(value)
    if re.fullmatch(rb"[!-~]+", atom) and not atom.startswith((b'"', b"{")):
        assert atom == value and not set(atom) & set(b'(){%*"\\ ')
    else:
        assert read(atom) == value.replace(b"\x00", b" ")


@pytest.mark.parametrize("word", [b"NIL", b"nil", b"", b"a b", b"a]", b"x" * 300])
def test_what_could_be_taken_for_something_else_is_no_atom(word: bytes) -> None:
    assert read(responses.astring(word)) == word


def test_binary_keeps_nul_in_a_literal8() -> None:
    assert responses.binary(b"a\x00b") == b"~{3}\r\na\x00b"
    assert responses.binary(b"ab") == b"{2}\r\nab"


def test_a_text_is_one_line_of_ascii_and_looks_like_no_response_code() -> None:
    assert responses.text("[ALERT] two\r\nlines é") == b"ALERT] two lines ?"
    assert responses.text("") == b"."


@pytest.mark.parametrize(
    ("received_us", "zone", "shown"),
    [
        (0, 0, b'" 1-Jan-1970 00:00:00 +0000"'),
        (1_700_000_000_000_000, 60, b'"14-Nov-2023 23:13:20 +0100"'),
        (1_700_000_000_000_000, -570, b'"14-Nov-2023 12:43:20 -0930"'),
        (2**62, 0, b'" 1-Jan-1970 00:00:00 +0000"'),
    ],
)
def test_a_date_is_shown_as_the_clock_of_its_zone_shows_it(
    received_us: int, zone: int, shown: bytes
) -> None:
    assert responses.internal_date(received_us, zone) == shown


def test_long_sets_go_in_pieces_that_are_the_whole_together() -> None:
    numbers = UidSet.from_uids(range(1, 100_000, 3))
    pieces = responses.number_sets(numbers)
    assert max(map(len, pieces)) <= responses.LINE_SETS_BYTES_MAX and len(pieces) > 10
    assert UidSet.parse(b",".join(pieces).decode()) == numbers
    assert responses.number_sets(UidSet()) == []
