"""Log-ins as values: what a client shows to say who it is, and what comes of it.

Secrets are never part of what a value looks like in a log.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Final

EXTERNAL: Final = "external"
"""What the cluster keeps of a password that is judged elsewhere."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a log-in comes from: the client's IP address, "" over a unix socket, and the protocol
    that it speaks, such as "imap"."""

    address: str
    protocol: str


@dataclass(frozen=True, slots=True)
class PasswordShown:
    """An address and its password, or one of its app passwords."""

    user: str
    password: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class TokenShown:
    """A token of the issuer that the node trusts. A `user` that is not "" has to be the one that
    the token names."""

    user: str
    token: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class ScramKeys:
    """What is kept of a password for SCRAM (RFC 5802 section 3)."""

    stored_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class ScramOffer:
    """What the server says first in SCRAM, and what it compares the answer with. A user may have
    several passwords, which share salt and iterations; one who is not there has none."""

    salt: bytes
    iterations: int
    keys: tuple[ScramKeys, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class ScramShown:
    """A client's proof that it knows a password; `message` is SCRAM's AuthMessage."""

    user: str
    offer: ScramOffer
    message: bytes = field(repr=False)
    proof: bytes = field(repr=False)


Shown = PasswordShown | TokenShown | ScramShown


class RefusalReason(Enum):
    """Why a client is not let in."""

    WRONG = "wrong"
    """It is no user, or not the password; which of the two is told to nobody."""
    EXPIRED = "expired"
    """It was right, and its time is over."""
    NOT_ALLOWED = "not allowed"
    """It may not act for whom it named."""
    LIMIT = "limit"
    """Too many wrong log-ins came from there, or the user has too many connections."""
    MALFORMED = "malformed"
    """What was said is not what the mechanism says."""


@dataclass(frozen=True, slots=True)
class LoggedIn:
    """The client is this user. `signature` is SCRAM's ServerSignature."""

    user: str
    signature: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class LogInRefused:
    """The client is not let in; `text` is for people."""

    reason: RefusalReason
    text: str


LogInOutcome = LoggedIn | LogInRefused

WRONG = LogInRefused(RefusalReason.WRONG, "that is no user and password")
"""The one answer to all that is wrong."""
