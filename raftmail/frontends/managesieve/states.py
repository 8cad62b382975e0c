"""The states of a session, and which commands are taken in each (RFC 5804 section 2).

| state | commands | what follows |
|---|---|---|
| `NOBODY` | CAPABILITY, NOOP, LOGOUT; STARTTLS, AUTHENTICATE | log-in: `USER` |
| `SECURING` | none: the next bytes are the handshake | its end: `NOBODY` |
| `USER` | all but STARTTLS and AUTHENTICATE | UNAUTHENTICATE: `NOBODY` |
| `ENDED` | none | |
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from raftmail.frontends.managesieve.commands import SieveVerb


class SieveState(Enum):
    """Where a session is; the value is how a refusal names it."""

    NOBODY = "before you have logged in"
    SECURING = "before TLS has begun"
    USER = "after you have logged in"
    ENDED = "after the end"


_ANY: Final = frozenset((SieveVerb.CAPABILITY, SieveVerb.NOOP, SieveVerb.LOGOUT))
_BEFORE_LOGIN: Final = frozenset((SieveVerb.STARTTLS, SieveVerb.AUTHENTICATE))

TAKEN_IN: Final[dict[SieveState, frozenset[SieveVerb]]] = {
    SieveState.NOBODY: _ANY | _BEFORE_LOGIN,
    SieveState.SECURING: frozenset(),
    SieveState.USER: frozenset(SieveVerb) - _BEFORE_LOGIN,
    SieveState.ENDED: frozenset(),
}
