"""OAUTHBEARER."""

from __future__ import annotations

import pytest

from raftmail.frontends.sasl.oauthbearer import oauthbearer
from raftmail.frontends.sasl.steps import Challenge
from raftmail.service.login import (
    WRONG,
    LoggedIn,
    LogInRefused,
    RefusalReason,
    TokenShown,
)
from tests.frontends.sasl.talking import ANNA, talk

MESSAGE = (
    b"n,a=user@example.com,\x01host=server.example.com\x01port=143\x01auth=Bearer vF9df\x01\x01"
)


def test_the_example_of_rfc_7628_shows_user_and_token() -> None:
    dialogue = oauthbearer(MESSAGE)
    assert next(dialogue) == TokenShown("user@example.com", b"vF9df")
    with pytest.raises(StopIteration) as end:
        dialogue.send(LoggedIn("user@example.com"))
    assert end.value.value == LoggedIn("user@example.com")


def test_a_token_that_is_not_taken_is_told_and_then_refused() -> None:
    dialogue = oauthbearer(None)
    assert next(dialogue) == Challenge(b"")
    dialogue.send(MESSAGE)
    assert dialogue.send(WRONG) == Challenge(b'{"status":"invalid_token"}')
    with pytest.raises(StopIteration) as end:
        dialogue.send(b"\x01")
    assert end.value.value == WRONG


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        (b"n,,\x01auth=Bearer t\x01\x01", TokenShown("", b"t")),
        (b"y,,\x01auth=bearer  t \x01\x01", TokenShown("", b"t")),
        (b"n,a=a=2Cb=3Dc,\x01auth=BEARER t\x01\x01", TokenShown("a,b=c", b"t")),
        (b"n,,\x01x=auth=\x01auth=Bearer t\x01\x01", TokenShown("", b"t")),
    ],
)
def test_clients_write_it_in_several_ways(message: bytes, shown: TokenShown) -> None:
    assert next(oauthbearer(message)) == shown


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\x01",
        b"\x01\x01",
        b"n,,",
        b"n,,\x01",
        b"n,,\x01\x01",
        b"n,,\x01auth=Bearer t",
        b"n,,\x01auth=Bearer t\x01",
        b"n,,auth=Bearer t\x01\x01",
        b"n,\x01auth=Bearer t\x01\x01",
        b"p=tls-exporter,,\x01auth=Bearer t\x01\x01",
        b"n,b=x,\x01auth=Bearer t\x01\x01",
        b"n,a=\xff,\x01auth=Bearer t\x01\x01",
        b"n,a=x=y,\x01auth=Bearer t\x01\x01",
        b"n,,\x01auth=Basic t\x01\x01",
        b"n,,\x01auth=Bearer\x01\x01",
        b"n,,\x01auth=Bearer  \x01\x01",
        b"n,,\x01auth=Bearer t\x01auth=Bearer u\x01\x01",
        b"n,,\x01" + b"x=y\x01" * 100 + b"auth=Bearer t\x01\x01",
        b'{"token": "t"}',
    ],
)
def test_what_is_not_oauthbearer_is_malformed(message: bytes) -> None:
    _, outcome = talk("OAUTHBEARER", message)
    assert isinstance(outcome, LogInRefused)
    assert outcome.reason is RefusalReason.MALFORMED
    assert ANNA not in outcome.text


def test_where_no_issuer_is_trusted_no_token_is_right() -> None:
    said, outcome = talk("OAUTHBEARER", MESSAGE, b"\x01")
    assert len(said) == 2 and outcome == WRONG
