"""What of the grammar a client has changed by ENABLE."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Dialect:
    """`utf8`: names are UTF-8, after ENABLE IMAP4rev2 or UTF8=ACCEPT; else modified UTF-7.
    `utf8_accept`: ENABLE UTF8=ACCEPT was given, so that SEARCH has no CHARSET (RFC 9755).
    `uid_only`: ENABLE UIDONLY was given, so that nothing is named by sequence number (RFC 9586)."""

    utf8: bool = False
    utf8_accept: bool = False
    uid_only: bool = False
