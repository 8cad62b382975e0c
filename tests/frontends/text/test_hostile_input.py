"""What strangers send ends their connection at most, and takes a bounded part of each turn of the
loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftmail.frontends.text import requests, values
from raftmail.frontends.text.limits import TextLimits
from raftmail.net.lines import Line, LineReader, ProtocolViolation
from raftmail.peering import handshake
from raftmail.peering.handshake import HelloRefused
from tests.frontends.text.test_session import open_session
from tests.frontends.twin_service import TwinService

NASTY = st.one_of(
    st.binary(max_size=30),
    st.integers(-(10**40), 10**40).map(lambda n: str(n).encode()),
    st.text(max_size=12).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.sampled_from(
        [
            b"",
            b"nan",
            b"inf",
            b"-1",
            b"1e999",
            b"\xd9\xa3",
            b"0001-01-01T00:00:00+23:59",
            b"9999-12-31T23:59:59-23:59",
            b"\xed\xa0\x80",
            b"9" * 5000,
            b"1:*",
            b"%00%FF",
        ]
    ),
)
READERS: list[Callable[[bytes], Any]] = [
    values.read_flags,
    values.read_date,
    values.read_uids,
    requests.user_of,
    requests.name_of,
    requests.guid_of,
    requests.client_of,
    requests.date_of,
    lambda value: requests.text("x", value),
    lambda value: requests.integer("x", value),
    lambda value: requests.seconds(value, 10.0),
]


@given(st.sampled_from(READERS), NASTY)
def test_a_value_is_read_or_refused_with_a_value_error(
    read: Callable[[bytes], Any], value: bytes
) -> None:
    try:
        read(value)
    except ValueError:
        pass


@given(
    st.dictionaries(
        st.sampled_from(
            [b"version", b"cluster", b"node", b"to", b"boot", b"dial", b"link", b"seen"]
        ),
        st.one_of(NASTY, st.sampled_from([b"1", b"ab", b"n1"])),
    )
)
def test_a_hello_is_read_or_refused(named: dict[bytes, bytes]) -> None:
    try:
        handshake.read_hello(Line([b"p1", b"PEER", b"HELLO"], named))
    except HelloRefused:
        pass


@given(st.lists(NASTY, max_size=6), st.sampled_from([b" ", b"\r\n", b"=", b"{3}\r\n", b'"']))
def test_any_lines_are_read_or_end_the_connection(parts: list[bytes], between: bytes) -> None:
    reader = LineReader(TextLimits().before_auth)
    reader.feed(between.join(parts) + b"\r\n")
    try:
        while reader.take_one() is not None:
            pass
    except ProtocolViolation:
        pass


@given(st.lists(NASTY, min_size=1, max_size=5), st.booleans())
def test_a_session_raises_nothing_whatever_comes(parts: list[bytes], trusted: bool) -> None:
    async def run() -> None:
        names = (b"STORE", b"SAVE", b"FETCH", b"ADMIN", b"AUTH", b"HELLO", b"PEER", b"COPY")
        session, channel = open_session(TwinService(), trusted=trusted)
        for name in names:
            session.receive(b"t %b %b\r\n" % (name, b" ".join(parts)))
            if session.ended:
                break
        await channel.quiet()

    asyncio.run(run())


@pytest.mark.parametrize(
    "first", [b"POST / HTTP/1.1", b"Host: localhost", b'GET /"x" HTTP/1.1', b"x: y HTTP/1.1"]
)
def test_a_session_that_begins_as_the_web_does_executes_nothing(first: bytes) -> None:
    async def run() -> None:
        session, channel = open_session(TwinService(), trusted=True)
        session.receive(first + b"\r\na NOOP\r\n")
        await channel.quiet()
        answers = channel.take()
        assert b"a OK" not in answers
        assert answers.endswith(b'* BYE "this port is not for the web"\r\n')
        assert session.ended

    asyncio.run(run())


def test_bad_lines_before_the_first_good_one_end_a_session_soon() -> None:
    async def run() -> None:
        session, channel = open_session(TwinService(), trusted=True)
        session.receive(b"a x\r\nb x\r\nc x\r\nd NOOP\r\n")
        await channel.quiet()
        assert channel.take().splitlines()[-1] == b'* BYE "3 lines that make no sense"'

    asyncio.run(run())


def test_who_has_not_said_who_they_are_may_not_ask_for_ever() -> None:
    async def run() -> None:
        session, channel = open_session(TwinService(), trusted=False)
        session.receive(b"a LISTMAILBOXES ann\r\n" * 30)
        await channel.quiet()
        answers = channel.take().splitlines()
        assert len(answers) == TextLimits().refused_before_auth_max + 1
        assert answers[-1] == b'* BYE "say who you are first"'

    asyncio.run(run())


def test_one_turn_takes_a_bounded_piece_of_what_came() -> None:
    async def run() -> None:
        session, channel = open_session(TwinService(), trusted=True)
        session.receive(b"a NOOP\r\n")
        channel.take()
        session.receive(b"b NOOP\r\n" * 20_000)
        assert channel.take().count(b"b OK") <= 500
        assert session.blocked
        turns = 1
        while session.blocked:
            session.run()
            turns += 1
            assert channel.take().count(b"b OK") <= 500
        assert turns >= 40

    asyncio.run(run())


def test_empty_lines_end_a_session_and_take_a_bounded_piece_of_a_turn() -> None:
    async def run() -> None:
        session, channel = open_session(TwinService(), trusted=True)
        session.receive(b"a NOOP\r\n")
        channel.take()
        session.receive(b"\n" * (1 << 20))
        turns = 1
        while not session.ended:
            assert turns < 10
            session.run()
            turns += 1
        assert turns > 1
        assert channel.take() == b'* BYE "nothing but empty lines"\r\n'

    asyncio.run(run())


def test_a_long_literal_is_taken_in_one_turn_and_is_no_empty_line() -> None:
    async def run() -> None:
        session, channel = open_session(TwinService(), trusted=True)
        session.receive(b"a CREATE ann INBOX\r\nb MAILBOX 1 ann INBOX\r\n")
        await channel.quiet()
        channel.take()
        body = b"\n" * (1 << 20)
        session.receive(b"c SAVE 1 {%d}\r\n%b\r\n" % (len(body), body))
        for _ in range(5):
            session.run()
            await channel.quiet()
        assert b"c OK saved=" in channel.take()

    asyncio.run(run())
