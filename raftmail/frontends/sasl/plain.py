"""Mechanisms that show the password: PLAIN (RFC 4616), and LOGIN, which old clients know."""

from __future__ import annotations

from raftmail.frontends.sasl.steps import (
    NOT_FOR_OTHERS,
    Mechanism,
    SaslMalformed,
    challenge,
    is_same_user,
    show,
    user_name,
)
from raftmail.service.login import PasswordShown


def plain(initial: bytes | None) -> Mechanism:
    """`[authzid] NUL authcid NUL passwd`. Raises `SaslMalformed`."""
    message = initial if initial is not None else (yield from challenge(b""))
    parts = message.split(b"\x00")
    if len(parts) != 3:
        raise SaslMalformed("PLAIN is a user, NUL, a user, NUL and a password")
    acts_as, user, password = user_name(parts[0]), user_name(parts[1]), parts[2]
    if not user or not password:
        raise SaslMalformed("PLAIN has a user and a password")
    if acts_as and not is_same_user(acts_as, user):
        return NOT_FOR_OTHERS
    return (yield from show(PasswordShown(user, password)))


def login(initial: bytes | None) -> Mechanism:
    """User and password, each asked for by itself (draft-murchison-sasl-login). Raises
    `SaslMalformed`."""
    name = initial if initial is not None else (yield from challenge(b"Username:"))
    password = yield from challenge(b"Password:")
    user = user_name(name)
    if not user or not password:
        raise SaslMalformed("LOGIN has a user and a password")
    return (yield from show(PasswordShown(user, password)))
