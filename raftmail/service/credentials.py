"""What the cluster keeps of a password, as one text: words with a space between them.

| word | what it is |
|---|---|
| `scrypt$n$r$p$salt$hash` | the hash of a password that a person chose (`passwords`) |
| `sha256$salt$hash` | the quick hash of a password that a program made: nobody guesses it |
| `scram-sha-256$iterations$salt$stored$server` | the keys of SCRAM (`scram_keys`) |
| `external` | the password is not here: the node asks its external source |

Binary values are hexadecimal. A word of another scheme is passed over, for a later release may have
written it.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from dataclasses import dataclass
from typing import Final

from raftmail.service.login import EXTERNAL, ScramKeys, ScramOffer
from raftmail.service.passwords import (
    NO_PASSWORD,
    PASSWORD_BYTES_MAX,
    hash_password,
    verify_password,
)
from raftmail.service.scram_keys import ITERATIONS, KEY_BYTES, make_keys

MADE_BYTES_MIN: Final = 20
"""A password that a program made is as long at least, so that its quick hash is no weakness."""

_SALT_BYTES = 16
_SALT_BYTES_MAX = 64
_ITERATIONS_MAX = 10_000_000


@dataclass(frozen=True, slots=True, repr=False)
class Credentials:
    """A text that the cluster keeps, read."""

    slow: str = ""
    """The scrypt word, "" for none."""
    quick: tuple[bytes, bytes] | None = None
    """Salt and hash of a password that a program made."""
    scram: ScramOffer | None = None
    is_external: bool = False

    @staticmethod
    def parse(text: str) -> Credentials:
        """Words that cannot be read are passed over: no password fits them."""
        slow, quick, scram, is_external = "", None, None, False
        for word in text.split(" "):
            scheme, *rest = word.split("$")
            if scheme == "scrypt":
                slow = word
            elif scheme == "sha256":
                quick = _parse_quick(rest)
            elif scheme == "scram-sha-256":
                scram = _parse_scram(rest)
            elif word == EXTERNAL:
                is_external = True
        return Credentials(slow, quick, scram, is_external)

    def fits_quickly(self, password: bytes) -> bool:
        """Whether it is this password, of one that a program made."""
        if self.quick is None:
            return False
        salt, made = self.quick
        return hmac.compare_digest(_quick_hash(password, salt), made)

    def fits_slowly(self, password: bytes) -> bool:
        """Whether it is this password, of one that a person chose: some 200 ms, whatever comes
        out."""
        return verify_password(password, self.slow or NO_PASSWORD)


def make_credentials(password: bytes, scram_salt: bytes) -> str:
    """What is kept of a password that a person chose: some 250 ms. Raises ValueError when it is
    empty or too long."""
    return " ".join((hash_password(password), *_scram_words(password, scram_salt)))


def make_quick_credentials(password: bytes, scram_salt: bytes) -> str:
    """What is kept of a password that a program made: some 30 ms. Raises ValueError when it is too
    short or too long."""
    if not MADE_BYTES_MIN <= len(password) <= PASSWORD_BYTES_MAX:
        raise ValueError(
            f"an app password is made by a program, of {MADE_BYTES_MIN} bytes at least"
        )
    salt = os.urandom(_SALT_BYTES)
    word = f"sha256${salt.hex()}${_quick_hash(password, salt).hex()}"
    return " ".join((word, *_scram_words(password, scram_salt)))


def scram_salt_of(cluster: str, user: str) -> bytes:
    """The salt of a user's passwords in SCRAM. It follows from the name, so that all passwords of a
    user share it, and one who is not there has one like everybody."""
    named = f"raftmail scram\0{cluster}\0{user}".encode("utf-8", "surrogatepass")
    return hashlib.sha256(named).digest()[:_SALT_BYTES]


def _scram_words(password: bytes, salt: bytes) -> list[str]:
    """None for a password that SCRAM cannot carry: it is for the other mechanisms alone."""
    try:
        keys = make_keys(password, salt)
    except ValueError:
        return []
    values = (str(ITERATIONS), salt.hex(), keys.stored_key.hex(), keys.server_key.hex())
    return ["$".join(("scram-sha-256", *values))]


def _quick_hash(password: bytes, salt: bytes) -> bytes:
    return hashlib.sha256(salt + password).digest()


def _parse_quick(values: list[str]) -> tuple[bytes, bytes] | None:
    try:
        salt, made = map(bytes.fromhex, values)
    except ValueError:
        return None
    return salt, made


def _parse_scram(values: list[str]) -> ScramOffer | None:
    try:
        count, *others = values
        salt, stored, server = map(bytes.fromhex, others)
        iterations = int(count) if count.isdecimal() and len(count) < 10 else 0
    except ValueError:
        return None
    if not 0 < len(salt) <= _SALT_BYTES_MAX or not 0 < iterations <= _ITERATIONS_MAX:
        return None
    if len(stored) != KEY_BYTES or len(server) != KEY_BYTES:
        return None
    return ScramOffer(salt, iterations, (ScramKeys(stored, server),))
