"""What bytes become requests, and what does not."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from raftmail.frontends.imap.request_reader import (
    BEFORE_LOGIN,
    BadRequest,
    ContinuationNeeded,
    Event,
    ImapRequest,
    Literal,
    RequestLimits,
    RequestReader,
)
from raftmail.net.lines import ProtocolViolation
from tests.frontends.imap.parsing import SMALL, drained, events_of
from tests.fuzzing import bounded_memory

GO_ON = ContinuationNeeded()

PIECES = st.lists(
    st.sampled_from(
        [
            *(b"\r\n", b"\n", b"\r", b"\0", b" ", b'"', b"\\", b"(", b"~", b"a", b"a NOOP", b"*"),
            *(b"{3}\r\n", b"{3+}\r\n", b"~{3}\r\n", b"~{2+}\n", b" {0}\r\n", b"{30+}\r\n"),
            *(b"{130+}\r\n", b"{9999999999999999999999}\r\n", b"x APPEND ", b"IDLE", b"y " * 40),
            *(b'"a{3+}\r\n', b"z LOGIN ", b"DONE\r\n", b"{3+", b"}"),
        ]
    ),
    max_size=25,
).map(b"".join)


def test_a_request_is_a_tag_and_what_follows() -> None:
    assert events_of(b"a1 NOOP\r\nb.2 LOGOUT \r\n") == [
        ImapRequest(b"a1", (b"NOOP",)),
        ImapRequest(b"b.2", (b"LOGOUT ",)),
    ]


def test_a_line_may_end_in_lf_alone_and_empty_lines_are_skipped() -> None:
    assert events_of(b"\r\n\na NOOP\n\r\nb NOOP\r\n\r\n") == [
        ImapRequest(b"a", (b"NOOP",)),
        ImapRequest(b"b", (b"NOOP",)),
    ]


@pytest.mark.parametrize("line", [b"a NO\0OP", b"a NO\rOP", b"a NOOP\r\r", b"\0"])
def test_nul_and_cr_within_a_line_are_refused(line: bytes) -> None:
    bad, good = events_of(line + b"\r\nb NOOP\r\n")
    assert isinstance(bad, BadRequest)
    assert good == ImapRequest(b"b", (b"NOOP",))


@pytest.mark.parametrize("line", [b" NOOP", b"+ NOOP", b"a+b NOOP", b"(a NOOP", b"t" * 256 + b" x"])
def test_what_has_no_tag_is_refused_with_a_star(line: bytes) -> None:
    bad, good = events_of(line + b"\r\nb NOOP\r\n")
    assert bad == BadRequest(b"*", "a request begins with a tag and a space")
    assert good == ImapRequest(b"b", (b"NOOP",))


def test_a_tag_may_be_longer_than_that_of_any_client() -> None:
    assert events_of(b"t" * 255 + b" NOOP\r\n") == [ImapRequest(b"t" * 255, (b"NOOP",))]


def test_zeros_before_the_length_of_a_literal_count_for_nothing() -> None:
    (event,) = events_of(b"a LOGIN {%b3+}\r\nabc x\r\n" % (b"0" * 40))
    assert event == ImapRequest(b"a", (b"LOGIN ", Literal(b"abc"), b" x"), 3)


def test_a_word_alone_is_a_tag_without_a_command() -> None:
    """R49: the second DONE gets its BAD with its own tag."""
    assert events_of(b"DONE\r\n") == [ImapRequest(b"DONE", (b"",))]


def test_a_synchronising_literal_is_asked_for() -> None:
    reader = RequestReader(RequestLimits())
    reader.feed(b"a LOGIN {3}\r\n")
    assert drained(reader) == [GO_ON]
    assert reader.wanted_bytes == 3 and reader.inside_request
    reader.feed(b"bob {2}\r\n")
    assert drained(reader) == [GO_ON]
    reader.feed(b"pw\r\n")
    assert drained(reader) == [
        ImapRequest(b"a", (b"LOGIN ", Literal(b"bob"), b" ", Literal(b"pw")), 5),
    ]
    assert not reader.inside_request


def test_a_non_synchronising_literal_is_not_asked_for() -> None:
    """R56: the CR LF after the literal is the end of its request."""
    assert events_of(b"a APPEND x {4+}\r\nhi\r\n\r\n\r\nb NOOP\r\n") == [
        ImapRequest(b"a", (b"APPEND x ", Literal(b"hi\r\n")), 4),
        ImapRequest(b"b", (b"NOOP",)),
    ]


def test_a_literal8_is_told_from_a_literal() -> None:
    assert events_of(b"a APPEND x ~{3+}\r\n\0\r\n UTF8 (~{1+}\r\nx)\r\n") == [
        ImapRequest(
            b"a",
            (b"APPEND x ", Literal(b"\0\r\n", True), b" UTF8 (", Literal(b"x", True), b")"),
            4,
        )
    ]


@given(data=PIECES, cuts=st.lists(st.integers(0, 120)))
@example(data=b"a APPEND x {3+}\r\nabc\r\n", cuts=[16, 17, 18, 20, 21])
@example(data=b"a " + b"x" * 58 + b"\r\nb NOOP\r\n", cuts=[60, 61, 62])
@example(data=b"a " + b"x" * 90 + b" {3+}\r\nabc\r\nb NOOP\r\n", cuts=[61, 95, 96])
def test_chunks_make_no_difference(data: bytes, cuts: list[int]) -> None:
    at = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    chunks = [data[a:b] for a, b in itertools.pairwise(at)]
    assert events_of(*chunks, limits=SMALL) == events_of(data, limits=SMALL)


@given(data=st.one_of(PIECES, st.binary(max_size=200)))
def test_one_byte_at_a_time_makes_no_difference(data: bytes) -> None:
    single = [data[at : at + 1] for at in range(len(data))]
    assert events_of(*single, limits=SMALL) == events_of(data, limits=SMALL)


# Literals where none may be


@pytest.mark.parametrize("text", [b"LOGIN x pw{5}", b"LOGIN x {5}{5}", b'LOGIN x "p"{5}'])
def test_a_literal_that_touches_other_text_is_refused_without_being_asked_for(text: bytes) -> None:
    """R75: `{` in a password that was not quoted."""
    bad, good = events_of(b"a " + text + b"\r\nb NOOP\r\n")
    assert bad == BadRequest(b"a", "a literal stands after a space or ( only")
    assert good == ImapRequest(b"b", (b"NOOP",))


def test_a_touching_literal_that_the_client_sends_unasked_is_never_taken_for_a_request() -> None:
    bad, good = events_of(b"a LOGIN x pw{8+}\r\nz NOOP\r\n\r\nb NOOP\r\n")
    assert bad == BadRequest(b"a", "a literal stands after a space or ( only")
    assert good == ImapRequest(b"b", (b"NOOP",))


def test_a_brace_inside_quotes_is_no_literal() -> None:
    assert events_of(b'a LOGIN x "({x?{5}"\r\nb NOOP\r\n') == [
        ImapRequest(b"a", (b'LOGIN x "({x?{5}"',)),
        ImapRequest(b"b", (b"NOOP",)),
    ]
    bad, good = events_of(b'a LOGIN x "pw {5+}\r\nb NOOP\r\n')
    assert bad == BadRequest(b"a", "a string in quotes does not end on its line")
    assert good == ImapRequest(b"b", (b"NOOP",))


def test_quotes_before_a_literal_do_not_hide_it() -> None:
    assert events_of(b'a LOGIN "a\\"b" {1+}\r\nx\r\n') == [
        ImapRequest(b"a", (b'LOGIN "a\\"b" ', Literal(b"x")), 1),
    ]


# Limits


def test_a_literal_of_4_gb_before_login_ends_the_connection_before_it_is_read() -> None:
    text = "a literal of 4294967296 bytes; at most 4096 are taken here"
    assert events_of(b"a LOGIN {4294967296+}\r\n", limits=BEFORE_LOGIN) == [text]
    assert events_of(b"a LOGIN {4097+}\r\n", limits=BEFORE_LOGIN)[0] == text.replace(
        "4294967296", "4097"
    )


@pytest.mark.parametrize("count", [b"999999999999", b"9" * 5000, b"4294967296"])
def test_a_literal_that_is_too_long_is_refused_and_not_asked_for(count: bytes) -> None:
    """R55: tagged NO [TOOBIG], no `+`."""
    bad, good = events_of(b"a APPEND x {%b}\r\nb NOOP\r\n" % count)
    assert isinstance(bad, BadRequest)
    assert (bad.tag, bad.code, bad.no) == (b"a", "TOOBIG", True)
    assert good == ImapRequest(b"b", (b"NOOP",))


def test_a_literal_that_comes_unasked_and_is_too_long_is_read_past() -> None:
    """R55: its bytes are never parsed as commands."""
    body = (b"z NOOP\r\n" * 8)[:50]
    bad, good = events_of(b"a APPEND x {50+}\r\n" + body + b"\r\nb NOOP\r\n", limits=SMALL)
    assert bad == BadRequest(
        b"a", "a literal of 50 bytes; at most 40 are taken here", "TOOBIG", True
    )
    assert good == ImapRequest(b"b", (b"NOOP",))


def test_a_literal_beyond_what_is_read_past_ends_the_connection() -> None:
    (text,) = events_of(b"a APPEND x {101+}\r\n", limits=SMALL)
    assert text == "a literal of 101 bytes; at most 40 are taken here"


def test_strings_are_shorter_than_messages() -> None:
    (bad,) = events_of(b"a CREATE {21}\r\n", limits=SMALL)
    assert isinstance(bad, BadRequest) and bad.code == "TOOBIG"
    assert events_of(b"a append {21}\r\n", limits=SMALL) == [GO_ON]


def test_a_request_has_a_limited_length_and_number_of_literals() -> None:
    many = b"a ID (" + b" {1+}\r\nx" * 4 + b")\r\nb NOOP\r\n"
    bad, good = events_of(many, limits=SMALL)
    assert isinstance(bad, BadRequest) and "3 literals" in bad.text
    assert good == ImapRequest(b"b", (b"NOOP",))
    (text,) = events_of(
        b"a APPEND" + (b" {40+}\r\n" + b"x" * 40) * 9,
        limits=RequestLimits(
            literal_bytes_max=40, request_bytes_max=200, discard_bytes_max=100, literals_max=99
        ),
    )
    assert text == "a request has at most 200 bytes"


def test_a_refused_request_asks_for_no_more_literals() -> None:
    bad, good = events_of(b"a APPEND x {50+}\r\n" + b"x" * 50 + b" {3}\r\nb NOOP\r\n", limits=SMALL)
    assert isinstance(bad, BadRequest) and bad.code == "TOOBIG"
    assert good == ImapRequest(b"b", (b"NOOP",))


def test_a_line_that_is_too_long_is_refused_with_its_tag() -> None:
    bad, good = events_of(b"a FETCH " + b"1," * 50 + b"\r\nb NOOP\r\n", limits=SMALL)
    assert bad == BadRequest(b"a", "a line is longer than 60 bytes")
    assert good == ImapRequest(b"b", (b"NOOP",))


def test_a_literal_behind_a_line_that_is_too_long_is_read_past() -> None:
    text = b"a LOGIN " + b"x" * 90
    after = b"\r\nb NOOP\r\n"
    bad, good = events_of(text + b" {000000000000008+}\r\nz NOOP\r\n" + after, limits=SMALL)
    assert bad == BadRequest(b"a", "a line is longer than 60 bytes")
    assert good == ImapRequest(b"b", (b"NOOP",))
    assert events_of(text + b" {8}" + after, limits=SMALL) == [bad, good]


def test_an_endless_line_ends_the_connection_and_is_not_kept() -> None:
    reader = RequestReader(RequestLimits(discard_bytes_max=64 << 20))
    chunk = b"x" * 65536
    with bounded_memory(1 << 20), pytest.raises(ProtocolViolation, match="longer than 65536"):
        for _ in range(2000):
            reader.feed(chunk)
            assert drained(reader) == []
    assert events_of(b"x" * 8193, limits=BEFORE_LOGIN) == ["a line is longer than 8192 bytes"]


def test_a_literal_that_is_read_past_is_not_kept() -> None:
    reader = RequestReader(RequestLimits())
    reader.feed(b"a APPEND x {104857600+}\r\n")
    chunk = b"x" * 65536
    with bounded_memory(1 << 20):
        for _ in range(1600):
            assert drained(reader) == []
            reader.feed(chunk)
    reader.feed(b"\r\n")
    (bad,) = drained(reader)
    assert isinstance(bad, BadRequest) and bad.code == "TOOBIG"


def test_requests_before_a_violation_are_given_first() -> None:
    reader = RequestReader(BEFORE_LOGIN)
    reader.feed(b"a NOOP\r\nb LOGIN {9999+}\r\n")
    assert reader.take() == [ImapRequest(b"a", (b"NOOP",))]
    for _ in range(2):
        with pytest.raises(ProtocolViolation):
            reader.take()
    with pytest.raises(ProtocolViolation):
        reader.take_line()


# Admission


def test_each_literal_is_admitted_first_and_counted() -> None:
    asked: list[tuple[int, bool]] = []

    def admit(count: int, first: bool) -> str:
        asked.append((count, first))
        return ""

    (request,) = events_of(b"a APPEND x {3+}\r\nabc {2+}\r\nab\r\n", admit=admit)
    assert isinstance(request, ImapRequest) and request.literal_bytes == 5
    assert asked == [(3, True), (2, False)]


def test_a_literal_that_is_not_admitted_yet_stops_the_stream_until_it_is() -> None:
    answers: list[str | None] = [None, None, ""]
    reader = RequestReader(RequestLimits(), lambda count, first: answers.pop(0))
    reader.feed(b"a APPEND x {3}\r\n")
    assert reader.take() == [] and reader.waiting
    assert reader.take() == [] and reader.waiting
    assert reader.take() == [GO_ON] and not reader.waiting
    reader.feed(b"abc\r\n")
    assert reader.take() == [ImapRequest(b"a", (b"APPEND x ", Literal(b"abc")), 3)]


@pytest.mark.parametrize("literal", [b"{3}\r\n", b"{3+}\r\nabc\r\n"])
def test_a_literal_that_is_not_admitted_is_refused_and_not_kept(literal: bytes) -> None:
    found = events_of(
        b"a APPEND x " + literal + b"b NOOP\r\n", admit=lambda count, first: "no room"
    )
    assert found == [
        BadRequest(b"a", "no room", "UNAVAILABLE", True),
        ImapRequest(b"b", (b"NOOP",)),
    ]


def test_bytes_that_were_admitted_are_told_with_a_refusal() -> None:
    answers = iter(["", "no room"])
    (bad,) = events_of(
        b"a APPEND x {3+}\r\nabc {2+}\r\nab\r\n", admit=lambda count, first: next(answers)
    )
    assert bad == BadRequest(b"a", "no room", "UNAVAILABLE", True, 3)


# Requests that change how the stream is read on


@pytest.mark.parametrize(
    "text", [b"IDLE", b"idle", b"STARTTLS", b"AUTHENTICATE PLAIN", b"LOGIN a b", b"COMPRESS x"]
)
def test_take_stops_behind_what_changes_the_reading(text: bytes) -> None:
    reader = RequestReader(RequestLimits())
    reader.feed(b"a NOOP\r\nb " + text + b"\r\nc NOOP\r\n")
    first, second = reader.take()
    assert isinstance(first, ImapRequest) and not first.changes_reading
    assert isinstance(second, ImapRequest) and second.changes_reading
    assert reader.unread_bytes == 8
    assert reader.take() == [ImapRequest(b"c", (b"NOOP",))]


def test_a_line_by_itself_is_given_as_it_is() -> None:
    """R49: DONE and the next command in one packet."""
    reader = RequestReader(RequestLimits())
    reader.feed(b"a IDLE\r\ndone\r\nb NOOP\r\n")
    assert reader.take() == [ImapRequest(b"a", (b"IDLE",))]
    assert reader.take_line() == b"done"
    assert reader.take() == [ImapRequest(b"b", (b"NOOP",))]
    assert reader.take_line() is None
    reader.feed(b"AGJvYgBwdw=")
    assert reader.take_line() is None
    reader.feed(b"=\n")
    assert reader.take_line() == b"AGJvYgBwdw=="


def test_a_line_by_itself_has_the_limit_of_lines() -> None:
    reader = RequestReader(BEFORE_LOGIN)
    reader.feed(b"x" * 8193)
    with pytest.raises(ProtocolViolation):
        reader.take_line()


def test_what_follows_starttls_can_be_thrown_away() -> None:
    """R77: bytes behind STARTTLS, in the same packet."""
    reader = RequestReader(BEFORE_LOGIN)
    reader.feed(b"a STARTTLS\r\nb CAPABILITY\r\n")
    assert reader.take() == [ImapRequest(b"a", (b"STARTTLS",))]
    assert reader.rest() == b"b CAPABILITY\r\n"
    assert reader.take() == [] and not reader.inside_request


def test_limits_can_be_changed_between_requests() -> None:
    reader = RequestReader(BEFORE_LOGIN)
    reader.feed(b"a LOGIN b c\r\nb APPEND x {5000+}\r\n")
    assert [type(event) for event in reader.take()] == [ImapRequest]
    reader.limits = RequestLimits()
    assert reader.take() == [] and reader.wanted_bytes == 5000


def test_passwords_are_not_shown() -> None:
    events: list[Event | str] = events_of(b"a LOGIN bob secret\r\nb LOGIN x {6+}\r\nsecret\r\n")
    assert "secret" not in repr(events)
