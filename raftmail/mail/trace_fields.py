"""The header fields that final delivery puts before a message (RFC 5321 section 4.4).

They are kept apart from the body, so that a message for many recipients is not copied for each: a
store can write `prefix(recipient)` and the body one after the other. The prefix for no recipient
is the same for all, for a store that wants to keep one copy under one hash.
"""

import time
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from raftmail.mail.smtp_address import Address

_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = (
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Trace:
    """The trace fields of one message: finished header lines, each ending in CRLF."""

    return_path: bytes
    received: bytes

    def prefix(self, recipient: Address | None) -> bytes:
        """What to put before the body for this recipient; without Delivered-To for None."""
        if recipient is None:
            return self.return_path + self.received
        return b"%bDelivered-To: %b\r\n%b" % (
            self.return_path,
            str(recipient).encode(),
            self.received,
        )


def make_trace(
    sender: Address | None,
    *,
    lhlo_name: str,
    peer: str,
    host: str,
    protocol: str,
    transaction_id: str,
    received_unix_s: float,
) -> Trace:
    """Build the trace of a message.

    `peer` is the client as the server saw it (`[192.0.2.1]`, `[IPv6:2001:db8::1]`, `local`), `host`
    the name of this server. `protocol` comes from `with_keyword`, and `received_unix_s` is seconds
    since 1970 in UTC. Folded where mail readers expect it; a line stays under the 998 octets of RFC
    5322 because every part of it has a limit. Nothing is escaped: the parts were checked where they
    were read.
    """
    return Trace(
        f"Return-Path: <{'' if sender is None else sender}>\r\n".encode(),
        f"Received: from {lhlo_name} ({peer})\r\n"
        f"\tby {host} with {protocol} id {transaction_id};\r\n"
        f"\t{format_date(int(received_unix_s))}\r\n".encode(),
    )


def with_keyword(*, utf8: bool, tls: bool, authenticated: bool = False) -> str:
    """The protocol's name in Received: LMTP, LMTPS, LMTPA, LMTPSA (RFC 3848), or with UTF8 before
    it when the client used SMTPUTF8 (RFC 6531 section 4.3)."""
    return f"{'UTF8' if utf8 else ''}LMTP{'S' if tls else ''}{'A' if authenticated else ''}"


@lru_cache(maxsize=4)
def format_date(unix_s: int) -> str:
    """A date as in RFC 5322 section 3.3, in UTC, whatever the locale. Many messages share it."""
    at = time.gmtime(unix_s)
    return (
        f"{_DAYS[at.tm_wday]}, {at.tm_mday:02d} {_MONTHS[at.tm_mon - 1]} {at.tm_year:04d} "
        f"{at.tm_hour:02d}:{at.tm_min:02d}:{at.tm_sec:02d} +0000"
    )
