"""Which mechanisms there are."""

from __future__ import annotations

import random

import pytest

from raftmail.frontends.sasl.exchange import SaslExchange
from raftmail.frontends.sasl.mechanisms import offered
from raftmail.service.login import LoggedIn
from tests.frontends.sasl.talking import accounts, talk

ALL = offered(tokens=True, bindings={"tls-server-end-point": b"x"})


def test_what_cannot_be_is_not_offered() -> None:
    assert ALL == ("SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "PLAIN", "LOGIN", "OAUTHBEARER")
    assert offered(tokens=False, bindings={}) == ("SCRAM-SHA-256", "PLAIN", "LOGIN")


@pytest.mark.parametrize("mechanism", ALL)
def test_every_mechanism_that_is_offered_begins_by_an_empty_answer_or_a_challenge(
    mechanism: str,
) -> None:
    assert SaslExchange(mechanism, None, {}).mechanism == mechanism
    assert talk(mechanism)[1] is None


def test_a_mechanism_that_is_not_there_is_an_error() -> None:
    with pytest.raises(KeyError):
        SaslExchange("CRAM-MD5", None, {})


@pytest.mark.parametrize("mechanism", ALL)
def test_no_bytes_raise_anything_nor_are_let_in(mechanism: str) -> None:
    rng = random.Random(mechanism)
    service = accounts()
    alphabet = b"n,y=p\x00\x01arc ABC=auth=Bearer\xff"
    for _ in range(300):
        message = bytes(rng.choices(alphabet, k=rng.randrange(40)))
        _, outcome = talk(mechanism, initial=message, service=service)
        assert not isinstance(outcome, LoggedIn)
