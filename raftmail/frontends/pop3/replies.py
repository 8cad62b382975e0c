"""What is said to a client: +OK and -ERR, with their extended codes (RFC 2449 section 8)."""

from __future__ import annotations

import re
from enum import Enum
from typing import Final

TEXT_BYTES_MAX: Final = 400
"""A reply's line has at most 512 bytes (RFC 1939 section 3)."""

_NO_TEXT: Final = re.compile(rb"[^ -~]+")


class ReplyCode(Enum):
    """Why something was refused, for programs."""

    AUTH = b"[AUTH]"
    """User or password is wrong (RFC 3206 section 4)."""
    IN_USE = b"[IN-USE]"
    """The user has as many sessions as may be (RFC 2449 section 8.1.2)."""
    SYS_TEMP = b"[SYS/TEMP]"
    """The node cannot do it now; nothing is wrong with what was asked (RFC 3206 section 5)."""


def ok(text: str) -> bytes:
    """A positive reply."""
    return b"+OK " + _text(text)


def err(text: str, code: ReplyCode | None = None) -> bytes:
    """A negative reply."""
    return (b"-ERR " if code is None else b"-ERR %b " % code.value) + _text(text)


def capabilities(*, mechanisms: tuple[str, ...], may_start_tls: bool) -> bytes:
    """The reply to CAPA (RFC 2449 section 5): complete things only. Who may not log in has to
    begin TLS, so that no password goes over a network in the clear (RFC 2595 section 2.1)."""
    lines = [
        "TOP",
        "UIDL",
        "RESP-CODES",
        "AUTH-RESP-CODE",
        "PIPELINING",
        "EXPIRE NEVER",
        "UTF8 USER",
        "IMPLEMENTATION raftmail",
    ]
    if mechanisms:
        lines += ["USER", f"SASL {' '.join(mechanisms)}"]
    if may_start_tls:
        lines.append("STLS")
    return "\r\n".join(("+OK this is what there is", *lines, ".", "")).encode()


def _text(text: str) -> bytes:
    return _NO_TEXT.sub(b"?", text.encode()[:TEXT_BYTES_MAX]) + b"\r\n"
