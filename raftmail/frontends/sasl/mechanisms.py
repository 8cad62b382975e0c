"""Which mechanisms there are, and which are offered on a connection."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from raftmail.frontends.sasl.oauthbearer import oauthbearer
from raftmail.frontends.sasl.plain import login, plain
from raftmail.frontends.sasl.scram import scram
from raftmail.frontends.sasl.steps import Mechanism

PLAIN: Final = "PLAIN"
LOGIN: Final = "LOGIN"
SCRAM_SHA_256: Final = "SCRAM-SHA-256"
SCRAM_SHA_256_PLUS: Final = "SCRAM-SHA-256-PLUS"
OAUTHBEARER: Final = "OAUTHBEARER"


def offered(*, tokens: bool, bindings: Mapping[str, bytes]) -> tuple[str, ...]:
    """The mechanisms for a connection that may log in, the best first. `tokens` says that the node
    trusts an issuer; `bindings` are the channel bindings of the connection."""
    found = [SCRAM_SHA_256, PLAIN, LOGIN]
    if bindings:
        found.insert(0, SCRAM_SHA_256_PLUS)
    if tokens:
        found.append(OAUTHBEARER)
    return tuple(found)


def begin(mechanism: str, initial: bytes | None, bindings: Mapping[str, bytes]) -> Mechanism:
    """A dialogue by a mechanism that is offered; `initial` is what came with the command."""
    match mechanism:
        case "PLAIN":
            return plain(initial)
        case "LOGIN":
            return login(initial)
        case "SCRAM-SHA-256":
            return scram(initial, bindings, plus=False)
        case "SCRAM-SHA-256-PLUS":
            return scram(initial, bindings, plus=True)
        case "OAUTHBEARER":
            return oauthbearer(initial)
        case _:
            raise KeyError(mechanism)
