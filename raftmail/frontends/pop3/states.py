"""The states of a session, and which commands are taken in each (RFC 1939 section 3).

| state | commands | what follows |
|---|---|---|
| `AUTHORIZATION` | CAPA, QUIT; STLS, UTF8, USER, PASS, AUTH | log-in: `TRANSACTION` |
| `SECURING` | none: the next bytes are the handshake | its end: `AUTHORIZATION` |
| `TRANSACTION` | CAPA, QUIT; those about messages | QUIT: `UPDATE` |
| `UPDATE` | none: what was marked is deleted | the cluster's answer: `ENDED` |
| `ENDED` | none | |
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from raftmail.frontends.pop3.commands import Pop3Verb


class Pop3State(Enum):
    """Where a session is; the value is how a refusal names it."""

    AUTHORIZATION = "before you have logged in"
    SECURING = "before TLS has begun"
    TRANSACTION = "after you have logged in"
    UPDATE = "after QUIT"
    ENDED = "after the end"


_ANY: Final = frozenset((Pop3Verb.CAPA, Pop3Verb.QUIT))
_BEFORE_LOGIN: Final = frozenset(
    (Pop3Verb.STLS, Pop3Verb.UTF8, Pop3Verb.USER, Pop3Verb.PASS, Pop3Verb.AUTH)
)
_OF_MESSAGES: Final = frozenset(
    (
        Pop3Verb.STAT,
        Pop3Verb.LIST,
        Pop3Verb.RETR,
        Pop3Verb.DELE,
        Pop3Verb.NOOP,
        Pop3Verb.RSET,
        Pop3Verb.TOP,
        Pop3Verb.UIDL,
    )
)

TAKEN_IN: Final[dict[Pop3State, frozenset[Pop3Verb]]] = {
    Pop3State.AUTHORIZATION: _ANY | _BEFORE_LOGIN,
    Pop3State.SECURING: frozenset(),
    Pop3State.TRANSACTION: _ANY | _OF_MESSAGES,
    Pop3State.UPDATE: frozenset(),
    Pop3State.ENDED: frozenset(),
}
