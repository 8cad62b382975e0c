"""What of the grammar a client has changed by ENABLE."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Dialect:
    """`utf8`: names are UTF-8, after ENABLE IMAP4rev2 or UTF8=ACCEPT; else modified UTF-7.
    `utf8_accept`: ENABLE UTF8=ACCEPT was given, so that SEARCH has no CHARSET (RFC 9755)."""

    utf8: bool = False
    utf8_accept: bool = False
