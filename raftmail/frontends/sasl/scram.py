"""SCRAM-SHA-256 and SCRAM-SHA-256-PLUS, the server's side (RFC 5802, RFC 7677).

The password is never sent: the client proves that it knows it, and the server that it knows of it.
"""

from __future__ import annotations

import binascii
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from raftmail.frontends.sasl.base64_lines import encode
from raftmail.frontends.sasl.steps import (
    NOT_FOR_OTHERS,
    Mechanism,
    SaslMalformed,
    ScramAsked,
    challenge,
    gs2_header,
    is_same_user,
    saslname,
    show,
)
from raftmail.service.login import LoggedIn, ScramOffer, ScramShown

MESSAGE_BYTES_MAX: Final = 4096
NONCE_BYTES_MAX: Final = 256
_NONCE_BYTES = 18
_NONCE = re.compile(rb"[\x21-\x2b\x2d-\x7e]{1,%d}" % NONCE_BYTES_MAX)
_BINDING = re.compile(rb"p=([A-Za-z0-9.-]{1,64})")


@dataclass(frozen=True, slots=True)
class ClientFirst:
    """What a client says first. `header` is the GS2 header as it was sent, `bare` the rest."""

    header: bytes
    bare: bytes
    binding: str
    """The channel binding that the client uses, "" for none."""
    could_bind: bool
    """The client could use one, and believes that the server cannot."""
    acts_as: str
    user: str
    nonce: bytes

    @staticmethod
    def parse(message: bytes) -> ClientFirst:
        """From a client-first-message (RFC 5802 section 7). Raises `SaslMalformed`."""
        _check_size(message)
        flag, acts_as, end = gs2_header(message)
        found = _BINDING.fullmatch(flag)
        if found is None and flag not in (b"n", b"y"):
            raise SaslMalformed("SCRAM begins with n, y or p= and the name of a channel binding")
        bare = message[end:]
        parts = bare.split(b",")
        if parts[0].startswith(b"m="):
            raise SaslMalformed("no extension of SCRAM that must be known is known here")
        if len(parts) < 2 or not parts[0].startswith(b"n=") or not parts[1].startswith(b"r="):
            raise SaslMalformed("SCRAM goes on with n=, a user, r= and a nonce")
        user, nonce = saslname(parts[0][2:]), parts[1][2:]
        if not user:
            raise SaslMalformed("SCRAM names a user")
        if _NONCE.fullmatch(nonce) is None:
            raise SaslMalformed(
                f"a nonce is 1 to {NONCE_BYTES_MAX} visible characters without a comma"
            )
        binding = found[1].decode() if found is not None else ""
        return ClientFirst(message[:end], bare, binding, flag == b"y", acts_as, user, nonce)


def scram(
    initial: bytes | None,
    bindings: Mapping[str, bytes],
    *,
    plus: bool,
    nonce: bytes | None = None,
) -> Mechanism:
    """`bindings` has the data of each channel binding of this connection by its name. `plus` says
    that the mechanism's name ends so. `nonce` is the server's, made here unless a test gives it.
    Raises `SaslMalformed`."""
    message = initial if initial is not None else (yield from challenge(b""))
    first = ClientFirst.parse(message)
    header = _bound_header(first, bindings, plus=plus)
    if first.acts_as and not is_same_user(first.acts_as, first.user):
        return NOT_FOR_OTHERS
    offer = yield ScramAsked(first.user)
    assert isinstance(offer, ScramOffer)
    whole_nonce = first.nonce + (nonce or encode(os.urandom(_NONCE_BYTES)))
    server_first = b"r=%b,s=%b,i=%d" % (whole_nonce, encode(offer.salt), offer.iterations)
    final = yield from challenge(server_first)
    bare_final, proof = _client_final(final, header, whole_nonce)
    signed = b",".join((first.bare, server_first, bare_final))
    outcome = yield from show(ScramShown(first.user, offer, signed, proof))
    if isinstance(outcome, LoggedIn):
        last = yield from challenge(b"v=" + encode(outcome.signature))
        if last:
            raise SaslMalformed("nothing is left to say at the end of SCRAM")
    return outcome


def _check_size(message: bytes) -> None:
    if len(message) > MESSAGE_BYTES_MAX:
        raise SaslMalformed(f"a message of SCRAM has at most {MESSAGE_BYTES_MAX} bytes")


def _bound_header(first: ClientFirst, bindings: Mapping[str, bytes], *, plus: bool) -> bytes:
    """What `c=` has to hold (RFC 5802 section 6). Raises `SaslMalformed`."""
    if plus != bool(first.binding):
        raise SaslMalformed("a mechanism whose name ends in -PLUS binds the channel, and no other")
    if first.could_bind and bindings:
        raise SaslMalformed("this side can bind the channel: somebody between may have hidden that")
    if not first.binding:
        return first.header
    if first.binding not in bindings:
        known = ", ".join(bindings) or "none"
        raise SaslMalformed(f"that channel binding is not known here; known: {known}")
    return first.header + bindings[first.binding]


def _client_final(message: bytes, header: bytes, nonce: bytes) -> tuple[bytes, bytes]:
    """What is signed of the client's last message, and the proof. Raises `SaslMalformed`."""
    _check_size(message)
    bare, comma, proof = message.rpartition(b",p=")
    parts = bare.split(b",")
    if not comma or len(parts) < 2:
        raise SaslMalformed("SCRAM ends with c=, r=, and p= as the last")
    if parts[0] != b"c=" + encode(header):
        raise SaslMalformed("the channel that the client is bound to is not this one")
    if parts[1] != b"r=" + nonce:
        raise SaslMalformed("that is not the nonce of this log-in")
    try:
        return bare, binascii.a2b_base64(proof, strict_mode=True)
    except binascii.Error:
        raise SaslMalformed("a proof is BASE64 with its padding") from None
