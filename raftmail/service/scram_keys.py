"""The keys of SCRAM-SHA-256 (RFC 5802 section 3, RFC 7677)."""

from __future__ import annotations

import hashlib
import hmac
import stringprep
import unicodedata
from typing import Final

from raftmail.service.login import ScramKeys, ScramShown

ITERATIONS: Final = 60_000
"""RFC 7677 asks for 4096 at least. Cyrus SASL, which many clients use, takes up to 65,536."""

KEY_BYTES: Final = 32

_UCD = unicodedata.ucd_3_2_0
"""SASLprep is defined over Unicode 3.2."""

_PROHIBITED: Final = (
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
)


def make_keys(password: bytes, salt: bytes, iterations: int = ITERATIONS) -> ScramKeys:
    """What is kept of a password: some 30 ms. Raises ValueError for one that SCRAM cannot carry."""
    try:
        prepared = saslprep(password.decode()).encode()
    except UnicodeDecodeError:
        raise ValueError("the password is not UTF-8") from None
    salted = hashlib.pbkdf2_hmac("sha256", prepared, salt, iterations)
    client_key = _hmac(salted, b"Client Key")
    return ScramKeys(hashlib.sha256(client_key).digest(), _hmac(salted, b"Server Key"))


def signature_of(shown: ScramShown) -> bytes | None:
    """The server's signature when the proof is that of one of the passwords; else None."""
    if len(shown.proof) != KEY_BYTES:
        return None
    found = None
    for keys in shown.offer.keys:
        signature = _hmac(keys.stored_key, shown.message)
        client_key = bytes(a ^ b for a, b in zip(shown.proof, signature, strict=True))
        if hmac.compare_digest(hashlib.sha256(client_key).digest(), keys.stored_key):
            found = _hmac(keys.server_key, shown.message)
    return found


def saslprep(text: str) -> str:
    """A password in the one form in which clients use it (RFC 4013). Raises ValueError when it has
    characters that are not allowed."""
    if text.isascii() and text.isprintable() and text:
        return text
    mapped = "".join(
        " " if stringprep.in_table_c12(character) else character
        for character in text
        if not stringprep.in_table_b1(character)
    )
    prepared = _UCD.normalize("NFKC", mapped)
    if not prepared:
        raise ValueError("nothing is left of the password")
    for character in prepared:
        if stringprep.in_table_a1(character) or any(bad(character) for bad in _PROHIBITED):
            raise ValueError(f"a password for SCRAM has no U+{ord(character):04X}")
    _check_direction(prepared)
    return prepared


def _check_direction(text: str) -> None:
    """RFC 3454 section 6. Raises ValueError."""
    right = [stringprep.in_table_d1(character) for character in text]
    if any(right) and not (
        right[0] and right[-1] and not any(stringprep.in_table_d2(one) for one in text)
    ):
        raise ValueError("a password for SCRAM is written in one direction")


def _hmac(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, "sha256")
