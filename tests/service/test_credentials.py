"""What the cluster keeps of a password."""

from __future__ import annotations

import pytest

from raftmail.mail.limits import PASSWORD_HASH_BYTES_MAX
from raftmail.service.credentials import (
    MADE_BYTES_MIN,
    Credentials,
    make_credentials,
    make_quick_credentials,
    scram_salt_of,
)
from raftmail.service.passwords import PASSWORD_BYTES_MAX, hash_password, verify_password
from raftmail.service.scram_keys import ITERATIONS, make_keys

SALT = b"sixteen octets.."
MADE = b"made-by-a-program-42"


def test_a_chosen_password_is_kept_as_a_slow_hash_and_as_keys_of_scram() -> None:
    text = make_credentials(b"secret", SALT)
    kept = Credentials.parse(text)
    assert kept.fits_slowly(b"secret")
    assert not kept.fits_slowly(b"Secret")
    assert not kept.fits_quickly(b"secret")
    assert kept.scram is not None
    assert (kept.scram.salt, kept.scram.iterations) == (SALT, ITERATIONS)
    assert kept.scram.keys == (make_keys(b"secret", SALT),)
    assert text.isascii() and len(text) <= PASSWORD_HASH_BYTES_MAX
    assert "secret" not in text and "secret" not in repr(kept)


def test_a_made_password_is_kept_as_a_quick_hash_and_as_keys_of_scram() -> None:
    kept = Credentials.parse(make_quick_credentials(MADE, SALT))
    assert kept.fits_quickly(MADE)
    assert not kept.fits_quickly(MADE + b"x")
    assert not kept.fits_slowly(MADE)
    assert kept.scram is not None and kept.scram.keys == (make_keys(MADE, SALT),)


def test_a_made_password_that_could_be_guessed_is_refused() -> None:
    for bad in (b"", b"x" * (MADE_BYTES_MIN - 1), b"x" * (PASSWORD_BYTES_MAX + 1)):
        with pytest.raises(ValueError, match=r"made by a program"):
            make_quick_credentials(bad, SALT)


def test_a_password_that_scram_cannot_carry_is_for_the_others() -> None:
    kept = Credentials.parse(make_credentials(b"\xff\xfe", SALT))
    assert kept.scram is None
    assert kept.fits_slowly(b"\xff\xfe")


def test_what_earlier_releases_kept_is_read() -> None:
    text = hash_password(b"secret")
    kept = Credentials.parse(text)
    assert kept.fits_slowly(b"secret") and kept.scram is None
    assert verify_password(b"secret", text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "external",
        "plain$secret",
        "scrypt",
        "scrypt$1$1$1$00$",
        "sha256$00",
        "sha256$zz$00",
        "sha256$00$00$00",
        "scram-sha-256$4096$00$00$00",
        "scram-sha-256$x$" + "$".join(["00" * 16, "00" * 32, "00" * 32]),
        "scram-sha-256$" + "9" * 4000 + "$" + "$".join(["00" * 16, "00" * 32, "00" * 32]),
        "scram-sha-256$0$" + "$".join(["00" * 16, "00" * 32, "00" * 32]),
        "scram-sha-256$4096$$" + "$".join(["00" * 32, "00" * 32]),
        "a-later-scheme$1$2",
    ],
)
def test_no_password_fits_what_cannot_be_read(text: str) -> None:
    kept = Credentials.parse(text)
    assert kept.scram is None
    assert kept.is_external == (text == "external")
    assert not kept.fits_quickly(b"secret")
    assert not kept.fits_slowly(b"secret")


def test_a_salt_follows_from_the_name_and_differs_between_users_and_clusters() -> None:
    assert scram_salt_of("c", "anna@example.org") == scram_salt_of("c", "anna@example.org")
    salts = {scram_salt_of(c, u) for c in ("c", "d") for u in ("anna", "bert", "\udc80")}
    assert len(salts) == 6
