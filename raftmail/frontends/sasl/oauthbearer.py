"""OAUTHBEARER (RFC 7628): a token of an issuer that the node trusts says who the client is."""

from __future__ import annotations

from typing import Final

from raftmail.frontends.sasl.steps import (
    Mechanism,
    SaslMalformed,
    challenge,
    gs2_header,
    show,
)
from raftmail.service.login import LogInRefused, RefusalReason, TokenShown

_MARK: Final = b"\x01"
_PAIRS_MAX: Final = 20
_ERROR: Final = b'{"status":"invalid_token"}'


def oauthbearer(initial: bytes | None) -> Mechanism:
    """A GS2 header, then `key=value` between bytes of 1; the token stands in `auth=Bearer …`.

    A token that is not taken is told by a challenge, which the client answers by one byte of 1
    (RFC 7628 section 3.2.3). Raises `SaslMalformed`."""
    message = initial if initial is not None else (yield from challenge(b""))
    outcome = yield from show(_read(message))
    if isinstance(outcome, LogInRefused) and outcome.reason is not RefusalReason.LIMIT:
        yield from challenge(_ERROR)
    return outcome


def _read(message: bytes) -> TokenShown:
    flag, user, end = gs2_header(message)
    if flag not in (b"n", b"y"):
        raise SaslMalformed("OAUTHBEARER begins with n or y, for it binds no channel")
    rest = message[end:]
    if not rest.startswith(_MARK) or not rest.endswith(_MARK + _MARK):
        raise SaslMalformed("OAUTHBEARER has its values between bytes of 1, and two at the end")
    pairs = rest[1:-2].split(_MARK)
    if len(pairs) > _PAIRS_MAX:
        raise SaslMalformed(f"OAUTHBEARER has at most {_PAIRS_MAX} values")
    values = [pair[5:] for pair in pairs if pair.startswith(b"auth=")]
    if len(values) != 1:
        raise SaslMalformed("OAUTHBEARER has one value auth=")
    scheme, _, token = values[0].partition(b" ")
    token = token.strip(b" ")
    if scheme.lower() != b"bearer" or not token:
        raise SaslMalformed("auth= of OAUTHBEARER is Bearer and a token")
    return TokenShown(user, token)
