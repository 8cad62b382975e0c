"""PLAIN and LOGIN."""

from __future__ import annotations

import pytest

from raftmail.service.login import WRONG, LoggedIn, LogInRefused, RefusalReason
from tests.frontends.sasl.talking import ANNA, talk

RIGHT = b"\0" + ANNA.encode() + b"\0secret"


def reason_of(mechanism: str, *said: bytes) -> RefusalReason:
    _, outcome = talk(mechanism, *said)
    assert isinstance(outcome, LogInRefused)
    return outcome.reason


def test_plain_comes_with_the_command_or_as_an_answer() -> None:
    assert talk("PLAIN", initial=RIGHT) == ([], LoggedIn(ANNA))
    assert talk("PLAIN", RIGHT) == ([b""], LoggedIn(ANNA))


def test_who_acts_as_itself_is_let_in_however_it_spells_itself() -> None:
    assert talk("PLAIN", b"Anna@Example.ORG" + RIGHT)[1] == LoggedIn(ANNA)
    assert talk("PLAIN", b"ANNA@example.org\0anna@EXAMPLE.org\0secret")[1] == LoggedIn(ANNA)


def test_nobody_acts_for_another() -> None:
    assert reason_of("PLAIN", b"bert@example.org" + RIGHT) is RefusalReason.NOT_ALLOWED
    assert reason_of("PLAIN", b"no address" + RIGHT) is RefusalReason.NOT_ALLOWED


def test_a_wrong_password_and_a_wrong_user_have_one_answer() -> None:
    assert talk("PLAIN", RIGHT + b"x")[1] == WRONG
    assert talk("PLAIN", b"\0bert@example.org\0secret")[1] == WRONG


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\0",
        b"\0\0",
        b"\0\0secret",
        b"\0" + ANNA.encode(),
        b"\0" + ANNA.encode() + b"\0",
        RIGHT + b"\0",
        b"\0" + RIGHT,
        b"\0\xff\0secret",
        b"\xff" + RIGHT,
    ],
)
def test_what_is_not_plain_is_malformed(message: bytes) -> None:
    assert reason_of("PLAIN", message) is RefusalReason.MALFORMED


def test_login_asks_for_user_and_password() -> None:
    name = ANNA.encode()
    asked = [b"Username:", b"Password:"]
    assert talk("LOGIN", name, b"secret") == (asked, LoggedIn(ANNA))
    assert talk("LOGIN", b"secret", initial=name) == (asked[1:], LoggedIn(ANNA))
    assert talk("LOGIN", name, b"Secret") == (asked, WRONG)


@pytest.mark.parametrize(
    ("name", "password"), [(b"", b"x"), (b"x", b""), (b"\xff", b"x"), (b"a\0b", b"x")]
)
def test_what_is_not_login_is_malformed(name: bytes, password: bytes) -> None:
    assert reason_of("LOGIN", name, password) is RefusalReason.MALFORMED
