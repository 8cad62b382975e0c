"""The states of an LMTP connection, and what leads from one to the next."""

from collections.abc import Mapping
from enum import IntEnum
from typing import Final


class State(IntEnum):
    """Where a connection is."""

    GREETED = 0
    """The client has not said LHLO, or not since TLS began."""
    READY = 1
    """Between transactions."""
    SENDER = 2
    """MAIL was accepted, no recipient yet."""
    RECIPIENTS = 3
    """At least one recipient was accepted."""
    TEXT = 4
    """354 was sent; everything up to CRLF.CRLF is the message."""
    CHUNKS = 5
    """A first BDAT was accepted, BDAT LAST not yet."""
    DELIVERING = 6
    """The message is with the backend."""
    SECURING = 7
    """220 was sent to STARTTLS; the next bytes are the handshake."""
    CLOSED = 8
    """Nothing more is read."""


TRANSITIONS: Final[Mapping[State, Mapping[str, State]]] = {
    State.GREETED: {
        "LHLO": State.READY,
        "RSET": State.GREETED,
    },
    State.READY: {
        "LHLO": State.READY,
        "RSET": State.READY,
        "STARTTLS": State.SECURING,
        "MAIL": State.SENDER,
    },
    State.SENDER: {
        "LHLO": State.READY,
        "RSET": State.READY,
        "RCPT": State.RECIPIENTS,
    },
    State.RECIPIENTS: {
        "LHLO": State.READY,
        "RSET": State.READY,
        "RCPT": State.RECIPIENTS,
        "DATA": State.TEXT,
        "BDAT": State.CHUNKS,
        "BDAT LAST": State.DELIVERING,
    },
    State.TEXT: {
        "end of text": State.DELIVERING,
    },
    State.CHUNKS: {
        "LHLO": State.READY,
        "RSET": State.READY,
        "BDAT": State.CHUNKS,
        "BDAT LAST": State.DELIVERING,
    },
    State.DELIVERING: {
        "verdicts": State.READY,
    },
    State.SECURING: {
        "handshake": State.GREETED,
    },
    State.CLOSED: {},
}
"""The state after each command that is accepted, and after what is not a command."""
