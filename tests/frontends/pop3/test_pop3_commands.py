"""Lines of POP3 become commands, or are refused without a word of theirs being repeated."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftmail.frontends.pop3.commands import (
    Pop3Command,
    Pop3Malformed,
    Pop3Verb,
    parse_pop3,
)
from raftmail.frontends.pop3.states import TAKEN_IN, Pop3State


@pytest.mark.parametrize(
    ("line", "command"),
    [
        (b"STAT", Pop3Command(Pop3Verb.STAT)),
        (b"stat", Pop3Command(Pop3Verb.STAT)),
        (b"NOOP ", Pop3Command(Pop3Verb.NOOP)),
        (b"LIST", Pop3Command(Pop3Verb.LIST)),
        (b"LIST 7", Pop3Command(Pop3Verb.LIST, number=7)),
        (b"uidl 007", Pop3Command(Pop3Verb.UIDL, number=7)),
        (b"RETR 1", Pop3Command(Pop3Verb.RETR, number=1)),
        (b"DELE  9999999999", Pop3Command(Pop3Verb.DELE, number=9_999_999_999)),
        (b"TOP 1 0", Pop3Command(Pop3Verb.TOP, number=1, lines=0)),
        (b"USER a@example.org", Pop3Command(Pop3Verb.USER, b"a@example.org")),
        (b"PASS  two  blanks ", Pop3Command(Pop3Verb.PASS, b" two  blanks ")),
        (b"PASS \xffbytes", Pop3Command(Pop3Verb.PASS, b"\xffbytes")),
        (b"AUTH PLAIN AGEAYg==", Pop3Command(Pop3Verb.AUTH, b"PLAIN AGEAYg==")),
    ],
)
def test_a_line_is_a_command(line: bytes, command: Pop3Command) -> None:
    assert parse_pop3(line) == command


@pytest.mark.parametrize(
    "line",
    [
        b"", b" ", b"XTND", b"APOP a b", b"STAT 1", b"NOOP x", b"QUIT now", b"TOP", b"TOP 1",
        b"TOP 1 -1", b"TOP -1 1", b"TOP 1 2 3", b"RETR", b"RETR x", b"RETR 1 2", b"DELE",
        b"DELE +1",
        b"LIST -1", b"LIST 1 2", b"UIDL 0x1", b"RETR \xd9\xa3", b"RETR 12345678901", b"USER",
        b"PASS", b"AUTH", b"USER a\x00b", b"STAT\x00", b"RETR 1\x00", b"RETR\t1", b"LIST \x0b1",
        b"CAPA \x7f",
    ],
)  # fmt: skip
def test_what_is_no_command_is_refused(line: bytes) -> None:
    with pytest.raises(Pop3Malformed):
        parse_pop3(line)


@given(st.binary(max_size=80) | st.sampled_from(list(Pop3Verb)).flatmap(
    lambda verb: st.binary(max_size=40).map(lambda rest: verb.value.encode() + b" " + rest)
))  # fmt: skip
def test_any_line_is_a_command_or_refused_and_shows_no_argument(line: bytes) -> None:
    try:
        command = parse_pop3(line)
    except Pop3Malformed as e:
        assert str(e).isascii()
    else:
        assert command.text not in repr(command).encode() or len(command.text) < 8


def test_what_is_about_messages_waits_for_the_log_in_and_nothing_follows_quit() -> None:
    before, after = TAKEN_IN[Pop3State.AUTHORIZATION], TAKEN_IN[Pop3State.TRANSACTION]
    assert before & after == {Pop3Verb.CAPA, Pop3Verb.QUIT}
    assert before | after == set(Pop3Verb)
    for state in (Pop3State.SECURING, Pop3State.UPDATE, Pop3State.ENDED):
        assert not TAKEN_IN[state]
