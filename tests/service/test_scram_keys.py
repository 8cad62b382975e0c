"""The keys of SCRAM-SHA-256."""

from __future__ import annotations

import base64

import pytest

from raftmail.service.login import ScramOffer, ScramShown
from raftmail.service.scram_keys import make_keys, saslprep, signature_of

SALT = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
MESSAGE = (
    b"n=user,r=rOprNGfwEbeRWgbNEkqO,"
    b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,"
    b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
)
PROOF = base64.b64decode("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")


def shown(password: bytes, proof: bytes, *others: bytes) -> ScramShown:
    keys = tuple(make_keys(one, SALT, 4096) for one in (password, *others))
    return ScramShown("user", ScramOffer(SALT, 4096, keys), MESSAGE, proof)


def test_the_example_of_rfc_7677_is_judged_right_and_signed() -> None:
    found = signature_of(shown(b"pencil", PROOF))
    assert found is not None
    assert base64.b64encode(found) == b"6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


def test_a_proof_of_another_password_is_none() -> None:
    assert signature_of(shown(b"Pencil", PROOF)) is None
    assert signature_of(ScramShown("user", ScramOffer(SALT, 4096), MESSAGE, PROOF)) is None


def test_a_proof_of_any_of_a_users_passwords_is_one() -> None:
    assert signature_of(shown(b"one", PROOF, b"pencil", b"two")) == signature_of(
        shown(b"pencil", PROOF)
    )


@pytest.mark.parametrize("proof", [b"", b"x", bytes(31), bytes(32), bytes(33), PROOF[:-1] + b"\0"])
def test_what_is_no_proof_is_judged_wrong(proof: bytes) -> None:
    assert signature_of(shown(b"pencil", proof)) is None


@pytest.mark.parametrize(
    ("text", "prepared"),
    [
        ("I\u00adX", "IX"),
        ("user", "user"),
        ("USER", "USER"),
        ("\u00aa", "a"),
        ("\u2168", "IX"),
        ("Zo\u0065\u0308", "Zo\u00eb"),
        ("a\u00a0b", "a b"),
    ],
)
def test_passwords_are_prepared_as_rfc_4013_shows(text: str, prepared: str) -> None:
    assert saslprep(text) == prepared


@pytest.mark.parametrize("text", ["\u0007", "\u0627\u0031", "", "\u00ad", "\ue000", "\u0221"])
def test_what_rfc_4013_prohibits_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"password"):
        saslprep(text)


def test_a_password_that_is_no_utf_8_has_no_keys() -> None:
    with pytest.raises(ValueError, match=r"not UTF-8"):
        make_keys(b"\xff", SALT, 1)
