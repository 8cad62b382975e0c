"""SCRAM-SHA-256 and SCRAM-SHA-256-PLUS."""

from __future__ import annotations

import base64
from collections.abc import Callable

import pytest

from raftmail.frontends.sasl.scram import MESSAGE_BYTES_MAX, scram
from raftmail.frontends.sasl.steps import Challenge, ScramAsked
from raftmail.service.login import (
    WRONG,
    LoggedIn,
    LogInRefused,
    RefusalReason,
    ScramOffer,
    ScramShown,
)
from raftmail.service.scram_keys import make_keys, signature_of
from tests.frontends.sasl.talking import ANNA, PASSWORD, Saying, ScramClient, accounts, talk

BINDINGS = {"tls-server-end-point": b"hash of a certificate"}


def reason_of(mechanism: str, *said: Saying, bound: bool = False) -> RefusalReason:
    _, outcome = talk(mechanism, *said, bindings=BINDINGS if bound else {})
    assert isinstance(outcome, LogInRefused)
    return outcome.reason


def test_the_example_of_rfc_7677_is_said_byte_for_byte() -> None:
    salt = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
    dialogue = scram(
        b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
        {},
        plus=False,
        nonce=b"%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0",
    )
    assert next(dialogue) == ScramAsked("user")
    offer = ScramOffer(salt, 4096, (make_keys(b"pencil", salt, 4096),))
    assert dialogue.send(offer) == Challenge(
        b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    )
    shown = dialogue.send(
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
        b"p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    )
    assert isinstance(shown, ScramShown)
    signature = signature_of(shown)
    assert signature is not None
    assert dialogue.send(LoggedIn("user", signature)) == Challenge(
        b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
    )
    with pytest.raises(StopIteration) as end:
        dialogue.send(b"")
    assert end.value.value == LoggedIn("user", signature)


def test_client_and_server_show_each_other_that_they_know_the_password() -> None:
    for initial in (True, False):
        client = ScramClient(ANNA, PASSWORD)
        if initial:
            said, outcome = talk("SCRAM-SHA-256", client.final, client.end, initial=client.first)
        else:
            said, outcome = talk("SCRAM-SHA-256", client.first, client.final, client.end)
            assert said.pop(0) == b""
        assert isinstance(outcome, LoggedIn) and outcome.user == ANNA
        assert len(said) == 2


def test_a_wrong_password_a_wrong_user_and_one_without_keys_have_one_answer() -> None:
    service = accounts()
    service.users["old@example.org"] = "scrypt$1$1$1$00$00"
    service.users["external@example.org"] = "external"
    for user, password in (
        (ANNA, b"Secret"),
        ("bert@example.org", PASSWORD),
        ("old@example.org", PASSWORD),
        ("external@example.org", b""),
        ("no address", PASSWORD),
    ):
        client = ScramClient(user, password)
        said, outcome = talk("SCRAM-SHA-256", client.first, client.final, service=service)
        assert outcome == WRONG
        assert said[1].startswith(b"r=" + client.nonce) and said[1].endswith(b",i=60000")


def test_a_name_may_have_commas_and_equals_signs() -> None:
    service = accounts()
    service.users["a,b=c@example.org"] = service.users[ANNA]
    client = ScramClient("a,b=c@example.org", PASSWORD)
    _, outcome = talk("SCRAM-SHA-256", client.first, client.final, client.end, service=service)
    assert isinstance(outcome, LoggedIn) and outcome.user == "a,b=c@example.org"


def test_nobody_acts_for_another() -> None:
    client = ScramClient(ANNA, PASSWORD, header=b"n,a=ANNA@example.org,")
    _, outcome = talk("SCRAM-SHA-256", client.first, client.final, client.end)
    assert isinstance(outcome, LoggedIn)
    client.header = b"n,a=bert@example.org,"
    assert reason_of("SCRAM-SHA-256", client.first) is RefusalReason.NOT_ALLOWED


def test_each_log_in_has_a_nonce_of_its_own() -> None:
    client = ScramClient(ANNA, PASSWORD)
    nonces = {talk("SCRAM-SHA-256", client.first)[0][1].split(b",")[0] for _ in range(3)}
    assert len(nonces) == 3
    recorded: list[bytes] = []

    def record(challenge: bytes) -> bytes:
        recorded.append(client.final(challenge))
        return recorded[0]

    talk("SCRAM-SHA-256", client.first, record, client.end)
    assert reason_of("SCRAM-SHA-256", client.first, recorded[0]) is RefusalReason.MALFORMED


def test_plus_binds_the_channel() -> None:
    header = b"p=tls-server-end-point,,"
    client = ScramClient(ANNA, PASSWORD, header, BINDINGS["tls-server-end-point"])
    plus = "SCRAM-SHA-256-PLUS"
    _, outcome = talk(plus, client.first, client.final, client.end, bindings=BINDINGS)
    assert isinstance(outcome, LoggedIn)
    client.binding = b"hash of another certificate"
    assert reason_of(plus, client.first, client.final, bound=True) is RefusalReason.MALFORMED
    client.header = b"p=tls-exporter,,"
    assert reason_of(plus, client.first, bound=True) is RefusalReason.MALFORMED
    client.header = b"n,,"
    assert reason_of(plus, client.first, bound=True) is RefusalReason.MALFORMED


def test_who_believes_that_no_channel_can_be_bound_is_told_of_the_attack() -> None:
    client = ScramClient(ANNA, PASSWORD, b"y,,")
    assert reason_of("SCRAM-SHA-256", client.first, bound=True) is RefusalReason.MALFORMED
    _, outcome = talk("SCRAM-SHA-256", client.first, client.final, client.end)
    assert isinstance(outcome, LoggedIn), "where that is so, it is right"
    client.header = b"p=tls-server-end-point,,"
    assert reason_of("SCRAM-SHA-256", client.first, bound=True) is RefusalReason.MALFORMED


@pytest.mark.parametrize(
    "first",
    [
        b"",
        b",",
        b",,",
        b"n,,",
        b"n,,n=anna",
        b"n,,n=anna,r=",
        b"n,,r=abc,n=anna",
        b"n,,n=,r=abc",
        b"n,,m=x,n=anna,r=abc",
        b"n,,n=an=na,r=abc",
        b"n,,n=an=2cna,r=abc",
        b"n,,n=anna=,r=abc",
        b"n,,n=an\0na,r=abc",
        b"n,,n=\xff,r=abc",
        b"n,a=\xff,n=anna,r=abc",
        b"n,b=anna,n=anna,r=abc",
        b"n,,n=anna,r=a\x7fc",
        b"n,,n=anna,r=a c",
        b"n,,n=anna,r=" + b"x" * 257,
        b"x,,n=anna,r=abc",
        b"p=,,n=anna,r=abc",
        b"p=tls exporter,,n=anna,r=abc",
        b"N,,n=anna,r=abc",
        b"n,,n=anna,r=abc,x=" + b"x" * MESSAGE_BYTES_MAX,
    ],
)
def test_what_no_client_says_first_is_malformed(first: bytes) -> None:
    assert reason_of("SCRAM-SHA-256", first) is RefusalReason.MALFORMED


def _changed(change: Callable[[bytes], bytes]) -> RefusalReason:
    client = ScramClient(ANNA, PASSWORD)
    return reason_of("SCRAM-SHA-256", client.first, lambda said: change(client.final(said)))


@pytest.mark.parametrize(
    "change",
    [
        lambda final: b"",
        lambda final: b"*",
        lambda final: final.rpartition(b",p=")[0],
        lambda final: final.rpartition(b",p=")[0] + b",p=",
        lambda final: final + b"x",
        lambda final: final.replace(b"c=biws", b"c=eSws"),
        lambda final: final.replace(b"c=biws", b"c=biws="),
        lambda final: final.replace(b"c=biws,", b""),
        lambda final: final.replace(b",r=", b",r=x"),
        lambda final: final.replace(b",p=", b"x,p="),
        lambda final: final + b"=" * MESSAGE_BYTES_MAX,
        lambda final: b"p=AAAA," + final.rpartition(b",p=")[0],
    ],
)
def test_what_no_client_says_last_is_never_let_in(change: Callable[[bytes], bytes]) -> None:
    assert _changed(change) in (RefusalReason.MALFORMED, RefusalReason.WRONG)


def test_an_extension_is_signed_and_not_understood() -> None:
    assert _changed(lambda final: final.replace(b",p=", b",x=1,p=")) is RefusalReason.WRONG


def test_nothing_is_said_after_the_servers_signature() -> None:
    client = ScramClient(ANNA, PASSWORD)
    assert reason_of("SCRAM-SHA-256", client.first, client.final, b"more") is (
        RefusalReason.MALFORMED
    )
