"""Whatever a client sends is a command, or is refused with a text, or ends its connection."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftmail.frontends.imap.dialect import Dialect
from raftmail.frontends.imap.grammar import parse
from raftmail.frontends.imap.request_reader import (
    BEFORE_LOGIN,
    BadRequest,
    ImapRequest,
    RequestLimits,
    RequestReader,
)
from raftmail.frontends.imap.scanner import ParseError
from raftmail.net.lines import ProtocolViolation
from tests.frontends.imap.parsing import SMALL, UTF8, UTF8_ACCEPT, drained, events_of
from tests.fuzzing import altered, bounded_memory

GOOD = [
    b'APPEND x (\\Seen) " 3-Feb-2026 01:02:03 +0100" {4+}\r\nhi\r\n UTF8 (~{3+}\r\na\0b)',
    b"AUTHENTICATE PLAIN AGEAYg==",
    b"CREATE &APg-re (USE (\\Sent))",
    b"ENABLE CONDSTORE UTF8=ACCEPT",
    b'FETCH 1:*,4 (FLAGS BODY.PEEK[1.2.HEADER.FIELDS (A "b")]<0.10> BINARY[1]) (CHANGEDSINCE 5)',
    b'ID ("name" "x" "os" NIL)',
    b'LIST (SUBSCRIBED) "" (a "b*") RETURN (CHILDREN STATUS (MESSAGES))',
    b'LOGIN "a\\"b" {3+}\r\na\xc3\xb6',
    b'RENAME "a b" {3+}\r\nabc',
    b"SEARCH RETURN (MIN) CHARSET UTF-8 NOT (OR NEW SUBJECT {2+}\r\n\xc3\xb6) SINCE 1-Feb-2026 $",
    b'SEARCH HEADER X "y" MODSEQ "/flags/\\\\draft" all 7 LARGER 5 UID 1:*',
    b"SELECT x (CONDSTORE QRESYNC (1 2 3:4 (1,2 3,4)))",
    b"SORT (REVERSE DATE SUBJECT) UTF-8 ALL",
    b"STATUS x (MESSAGES UNSEEN)",
    b"STORE 1,4294967295 (UNCHANGEDSINCE 5) +FLAGS.SILENT (\\Seen $x)",
    b"THREAD REFERENCES UTF-8 1:2",
    b"UID FETCH $ FULL",
    b"UID MOVE 3,7 Trash",
]
DIALECTS = (Dialect(), UTF8, UTF8_ACCEPT)
TOKENS = sorted({word for text in GOOD for word in text.replace(b"(", b" ( ").split(b" ")})


def survives(data: bytes, limits: RequestLimits) -> None:
    """Each event is answered with one line of ASCII at most."""
    for event in events_of(data, limits=limits):
        if isinstance(event, ImapRequest):
            for dialect in DIALECTS:
                try:
                    parse(event, dialect)
                except ParseError as error:
                    answerable(str(error), error.code)
        elif isinstance(event, BadRequest):
            answerable(event.text, event.code)
            assert event.tag.isascii() and b" " not in event.tag
        elif isinstance(event, str):
            answerable(event, "")


def answerable(text: str, code: str) -> None:
    assert text.isascii() and text.isprintable() and 0 < len(text) < 400
    assert text[0] not in "[ " and code.isascii() and "]" not in code


@pytest.mark.parametrize("text", GOOD)
def test_the_good_requests_are_good(text: bytes) -> None:
    (event,) = events_of(b"a " + text + b"\r\n")
    assert isinstance(event, ImapRequest)
    parse(event, Dialect())


@pytest.mark.parametrize("limits", [RequestLimits(), BEFORE_LOGIN, SMALL])
@given(data=st.binary(max_size=300))
def test_any_bytes_are_survived(limits: RequestLimits, data: bytes) -> None:
    survives(data, limits)
    survives(b"a " + data + b"\r\n", limits)


@given(words=st.lists(st.sampled_from([*TOKENS, b"(", b")", b'"', b"{1+}\r\nx", b"\0", b"]"])))
def test_words_in_any_order_are_survived(words: list[bytes]) -> None:
    survives(b"a " + b" ".join(words) + b"\r\n", RequestLimits())


@pytest.mark.parametrize("text", GOOD)
def test_requests_that_are_nearly_right_are_survived(text: bytes) -> None:
    for seed in range(150):
        survives(b"a " + altered(text, seed) + b"\r\nb NOOP\r\n", RequestLimits())


@pytest.mark.parametrize("text", GOOD)
def test_requests_that_are_cut_anywhere_are_survived(text: bytes) -> None:
    for at in range(len(text)):
        survives(b"a " + text[:at] + b"\r\n", RequestLimits())
        survives(b"a " + text[:at] + b"\0" + text[at:] + b"\r\n", RequestLimits())
        survives(b"a " + text[:at] + b"\r\n" * 3 + text[at:] + b"\r\n", RequestLimits())


@pytest.mark.parametrize("character", [b"(", b")", b'"', b"{", b"[", b"\\", b"&", b"1,", b"NOT "])
@pytest.mark.parametrize(
    "command", [b"SEARCH ", b"FETCH ", b"FETCH 1 ", b"LIST ", b"STORE 1 FLAGS "]
)
def test_one_thing_ten_thousand_times_is_survived(command: bytes, character: bytes) -> None:
    with bounded_memory(8 << 20):
        survives(b"a " + command + character * 10_000 + b"\r\n", RequestLimits())


def test_a_reader_never_holds_more_than_its_limits_allow() -> None:
    rng = random.Random(4)
    pieces = (b"a APPEND x {2000+}\r\n", b"x" * 2000, b"\r\n", b" {9000+}\r\n", b'"' * 500, b"a ")
    limits = RequestLimits(
        line_bytes_max=4096,
        literal_bytes_max=4096,
        string_bytes_max=4096,
        request_bytes_max=16384,
        discard_bytes_max=1 << 30,
    )
    reader = RequestReader(limits)
    with bounded_memory(256 << 10):
        for _ in range(20_000):
            reader.feed(rng.choice(pieces))
            drained(reader)


def test_a_stranger_who_sends_bad_requests_for_ever_holds_nothing() -> None:
    reader = RequestReader(BEFORE_LOGIN)
    with bounded_memory(256 << 10), pytest.raises(ProtocolViolation):
        reader.feed(b"a LOGIN")
        for _ in range(5000):
            reader.feed(b" {1+}\r\nx")
            drained(reader)
