"""What a server says that it can do: complete things only (RFC 9051 section 6.1.1)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

_ALWAYS: Final = (
    b"IMAP4rev1",
    b"IMAP4rev2",
    b"LITERAL+",
    b"SASL-IR",
    b"ID",
    b"ENABLE",
)
_BEFORE_LOGIN: Final = _ALWAYS
_AFTER_LOGIN: Final = (
    *_ALWAYS,
    b"ACL",
    b"RIGHTS=kxte",
    b"LIST-MYRIGHTS",
    b"IDLE",
    b"METADATA",
    b"LIST-METADATA",
    b"NAMESPACE",
    b"NOTIFY",
    b"UNSELECT",
    b"UIDPLUS",
    b"MOVE",
    b"MULTIAPPEND",
    b"BINARY",
    b"CONDSTORE",
    b"QRESYNC",
    b"ESEARCH",
    b"SEARCHRES",
    b"WITHIN",
    b"SORT",
    b"SORT=DISPLAY",
    b"THREAD=ORDEREDSUBJECT",
    b"THREAD=REFERENCES",
    b"LIST-EXTENDED",
    b"LIST-STATUS",
    b"SPECIAL-USE",
    b"CREATE-SPECIAL-USE",
    b"CHILDREN",
    b"COMPRESS=DEFLATE",
    b"STATUS=SIZE",
    b"OBJECTID",
    b"SAVEDATE",
    b"PREVIEW",
    b"UTF8=ACCEPT",
    b"CATENATE",
    b"REPLACE",
    b"PARTIAL",
    b"UIDONLY",
    b"INPROGRESS",
    b"QUOTA",
    b"QUOTA=RES-STORAGE",
    b"QUOTA=RES-MESSAGE",
)


def capabilities(
    *, known: bool, mechanisms: Iterable[str], may_start_tls: bool, append_limit: int
) -> bytes:
    """The capabilities, in one line. Without a mechanism to log in by, TLS has to begin first: no
    password goes over a network in the clear (RFC 9051 section 6.2.3)."""
    if known:
        return b" ".join((*_AFTER_LOGIN, b"APPENDLIMIT=%d" % append_limit))
    words = list(_BEFORE_LOGIN)
    if may_start_tls:
        words.append(b"STARTTLS")
    words += [b"AUTH=" + name.encode() for name in mechanisms] or [b"LOGINDISABLED"]
    return b" ".join(words)
