"""Answers as they are written (RFC 5804 sections 1.2, 1.3 and 4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from raftmail.mail.sieve_words import QUOTED_BYTES_MAX
from raftmail.sieve.compiler import EXTENSIONS
from raftmail.sieve.rule_limits import DEFAULT_RULE_LIMITS

NONEXISTENT: Final = b"NONEXISTENT"
ALREADYEXISTS: Final = b"ALREADYEXISTS"
ACTIVE: Final = b"ACTIVE"
TRYLATER: Final = b"TRYLATER"
QUOTA: Final = b"QUOTA"
TOO_MANY: Final = b"QUOTA/MAXSCRIPTS"
TOO_LARGE: Final = b"QUOTA/MAXSIZE"
ENCRYPT_NEEDED: Final = b"ENCRYPT-NEEDED"


def string(data: bytes) -> bytes:
    """Quoted where that can be, else a literal."""
    if len(data) > QUOTED_BYTES_MAX or any(one in data for one in b"\r\n\0"):
        return b"{%d}\r\n%b" % (len(data), data)
    return b'"%b"' % data.replace(b"\\", b"\\\\").replace(b'"', b'\\"')


def ok(text: str = "", code: bytes = b"") -> bytes:
    return _reply(b"OK", text, code)


def no(text: str, code: bytes = b"") -> bytes:
    return _reply(b"NO", text, code)


def bye(text: str, code: bytes = b"") -> bytes:
    return _reply(b"BYE", text, code)


def capabilities(*, mechanisms: Sequence[str], may_start_tls: bool, user: str) -> bytes:
    """RFC 5804 section 1.7, without the OK at the end. `user` is "" before the log-in."""
    told = [
        ("IMPLEMENTATION", "raftmail"),
        ("SASL", " ".join(mechanisms)),
        ("SIEVE", " ".join(EXTENSIONS)),
        ("MAXREDIRECTS", str(DEFAULT_RULE_LIMITS.redirects_max)),
        ("LANGUAGE", "en"),
    ]
    if user:
        told.append(("OWNER", user))
    lines = [b'"%b" %b\r\n' % (name.encode(), string(value.encode())) for name, value in told]
    lines += [b'"STARTTLS"\r\n'] * may_start_tls
    return b"".join([*lines, b'"UNAUTHENTICATE"\r\n', b'"VERSION" "1.0"\r\n'])


def _reply(kind: bytes, text: str, code: bytes) -> bytes:
    parts = [kind]
    if code:
        parts.append(b"(%b)" % code)
    if text:
        parts.append(string(text.encode("utf-8", "replace")))
    return b" ".join(parts) + b"\r\n"
