"""What strangers may send to the proxy, and what it costs: a bound, and a clear word."""

from __future__ import annotations

import pytest

from raftmail.proxy.imap_front import ImapFront
from raftmail.proxy.pop3_front import Pop3Front
from raftmail.proxy.steps import BeginTls, EndWithClient, FrontStep, LogInWanted, SayToClient

MECHANISMS = ("SCRAM-SHA-256", "PLAIN", "LOGIN")


def _imap(*, trusted: bool = True) -> ImapFront:
    return ImapFront(MECHANISMS, may_start_tls=not trusted, trusted=trusted)


def _steps(front: ImapFront | Pop3Front, data: bytes) -> list[FrontStep]:
    front.feed(data)
    found = []
    while (step := front.next()) is not None:
        found.append(step)
        if not isinstance(step, SayToClient):
            break
    return found


def _said(steps: list[FrontStep]) -> bytes:
    return b"".join(step.data for step in steps if isinstance(step, (SayToClient, EndWithClient)))


@pytest.mark.parametrize(
    "front", [_imap(), Pop3Front(MECHANISMS, may_start_tls=False, trusted=True)]
)
def test_a_line_without_an_end_ends_the_connection(front: ImapFront | Pop3Front) -> None:
    assert isinstance(_steps(front, b"x" * 100_000)[-1], EndWithClient)


def test_a_literal_of_4_gb_is_refused_before_it_comes() -> None:
    front = _imap()
    assert _said(_steps(front, b"a LOGIN {4294967296}\r\n")).startswith(b"a BAD")
    assert isinstance(_steps(front, b"a LOGIN {4294967296+}\r\n")[-1], EndWithClient)
    assert isinstance(_steps(_imap(), b"a LOGIN {99999999999999999999+}\r\n")[-1], EndWithClient)


def test_many_literals_are_bounded_together() -> None:
    front = _imap()
    data = b"a LOGIN" + b" {4000+}\r\n" + (b"x" * 4000 + b" {4000+}\r\n") * 20
    assert isinstance(_steps(front, data)[-1], EndWithClient)


@pytest.mark.parametrize(
    "data",
    [
        b"PROXY TCP4 192.0.2.7 198.51.100.1 40000 143\r\n",
        b"\x16\x03\x01\x02\x00\x01\n" * 30,
        b"\r\n" * 30,
        b"a\r\n" * 30,
        b"a LOGIN\r\n" * 30,
        b'a LOGIN "x\r\n' * 30,
        b"a AUTHENTICATE PLAIN !!!\r\n" * 30,
        b"a SELECT INBOX\r\n" * 30,
        b"GET / HTTP/1.1\r\n",
    ],
)
def test_what_makes_no_sense_is_refused_and_never_passed_on(data: bytes) -> None:
    steps = _steps(_imap(), data)
    assert steps and not any(isinstance(step, (LogInWanted, BeginTls)) for step in steps)
    if data.count(b"\n") > 20:
        assert isinstance(steps[-1], EndWithClient)


def test_commands_sent_ahead_of_tls_are_never_performed() -> None:
    front = _imap(trusted=False)
    assert isinstance(_steps(front, b"a STARTTLS\r\nb CAPABILITY\r\n")[-1], EndWithClient)
    pop3 = Pop3Front(MECHANISMS, may_start_tls=True, trusted=False)
    assert isinstance(_steps(pop3, b"STLS\r\nCAPA\r\n")[-1], EndWithClient)


def test_no_password_is_asked_for_in_the_clear() -> None:
    front = _imap(trusted=False)
    assert b"LOGINDISABLED" in front.capabilities() and b"AUTH=" not in front.capabilities()
    assert b"NO [PRIVACYREQUIRED]" in _said(_steps(front, b"a LOGIN x y\r\n"))
    assert b"NO [PRIVACYREQUIRED]" in _said(_steps(front, b"a AUTHENTICATE PLAIN\r\n"))
    pop3 = Pop3Front(MECHANISMS, may_start_tls=True, trusted=False)
    assert _said(_steps(pop3, b"USER x\r\n")).startswith(b"-ERR")
    assert _said(_steps(pop3, b"AUTH PLAIN AGEAYg==\r\n")).startswith(b"-ERR")


@pytest.mark.parametrize(
    "data",
    [
        b'a LOGIN anna "se\\"cret"\r\n',
        b'a LOGIN {4}\r\nanna {7+}\r\nse"cret\r\n',
        b"a AUTHENTICATE PLAIN AGFubmEAc2UiY3JldA==\r\n",
        b"a AUTHENTICATE PLAIN\r\nAGFubmEAc2UiY3JldA==\r\n",
        b"a authenticate login\r\nYW5uYQ==\r\nc2UiY3JldA==\r\n",
    ],
)
def test_every_way_to_show_a_password_comes_to_the_same(data: bytes) -> None:
    wanted = _steps(_imap(), data)[-1]
    assert isinstance(wanted, LogInWanted)
    assert (wanted.tag, wanted.shown.mechanism, wanted.shown.user) == (b"a", "PLAIN", "anna")
    assert wanted.shown.message == b'\x00anna\x00se"cret'
    assert b"cret" not in repr(wanted).encode(), "a log never shows it"


def test_the_user_of_a_proof_is_seen_and_the_proof_is_not_repeated() -> None:
    wanted = _steps(_imap(), b"a AUTHENTICATE SCRAM-SHA-256 bixhPSxuPWFubmE9MkN4LHI9YWJj\r\n")[-1]
    assert isinstance(wanted, LogInWanted)
    assert wanted.shown.message == b"n,a=,n=anna=2Cx,r=abc"
    assert (wanted.shown.user, wanted.shown.may_be_repeated) == ("anna,x", False)
