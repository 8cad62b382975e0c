"""The states of an LMTP connection, and what leads from one to the next."""

from collections.abc import Mapping
from enum import IntEnum
from typing import Final


class LmtpState(IntEnum):
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
    """The message is with the service."""
    SECURING = 7
    """220 was sent to STARTTLS; the next bytes are the handshake."""
    CLOSED = 8
    """Nothing more is read."""


TRANSITIONS: Final[Mapping[LmtpState, Mapping[str, LmtpState]]] = {
    LmtpState.GREETED: {
        "LHLO": LmtpState.READY,
        "RSET": LmtpState.GREETED,
    },
    LmtpState.READY: {
        "LHLO": LmtpState.READY,
        "RSET": LmtpState.READY,
        "STARTTLS": LmtpState.SECURING,
        "MAIL": LmtpState.SENDER,
    },
    LmtpState.SENDER: {
        "LHLO": LmtpState.READY,
        "RSET": LmtpState.READY,
        "RCPT": LmtpState.RECIPIENTS,
    },
    LmtpState.RECIPIENTS: {
        "LHLO": LmtpState.READY,
        "RSET": LmtpState.READY,
        "RCPT": LmtpState.RECIPIENTS,
        "DATA": LmtpState.TEXT,
        "BDAT": LmtpState.CHUNKS,
        "BDAT LAST": LmtpState.DELIVERING,
    },
    LmtpState.TEXT: {
        "end of text": LmtpState.DELIVERING,
    },
    LmtpState.CHUNKS: {
        "LHLO": LmtpState.READY,
        "RSET": LmtpState.READY,
        "BDAT": LmtpState.CHUNKS,
        "BDAT LAST": LmtpState.DELIVERING,
    },
    LmtpState.DELIVERING: {
        "verdicts": LmtpState.READY,
    },
    LmtpState.SECURING: {
        "handshake": LmtpState.GREETED,
    },
    LmtpState.CLOSED: {},
}
"""The state after each command that is accepted, and after what is not a command."""
