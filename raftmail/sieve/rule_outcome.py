"""What a script wants done with a message. Whoever delivers it carries that out."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FileInto:
    """Save it in a mailbox (RFC 5228 section 4.1 and 4.3; `keep` is that for INBOX)."""

    mailbox: str
    flags: tuple[str, ...] = ()
    create: bool = False
    """Make the mailbox if there is none (RFC 5490 section 3.2)."""
    special_use: str = ""
    """The mailbox with this use comes before the one of that name (RFC 8579 section 4)."""


@dataclass(frozen=True, slots=True)
class Redirect:
    """Send it on, with the envelope's sender (RFC 5228 section 4.2)."""

    address: str


@dataclass(frozen=True, slots=True)
class Rejection:
    """Refuse it (RFC 5429). `in_protocol`: by the protocol's reply and in no other way."""

    reason: str
    in_protocol: bool


@dataclass(frozen=True, slots=True)
class VacationReply:
    """Answer whoever sent it (RFC 5230). `key` is what the one answer within `seconds` is known by.

    `sender` is what `:from` has, "" if nothing; `subject` is "" for that of the message after
    `Auto: `. A `reason` that `is_mime` begins with header fields of its own."""

    to: str
    sender: str
    subject: str
    reason: str
    is_mime: bool
    key: bytes
    seconds: int


@dataclass(frozen=True, slots=True)
class SeenOnce:
    """Remember that a message with this key was seen (RFC 7352), for so long."""

    key: bytes
    seconds: int


Action = FileInto | Redirect | Rejection | VacationReply | SeenOnce


@dataclass(frozen=True, slots=True)
class RuleOutcome:
    """The actions of a run in their order; without any the message is thrown away."""

    actions: tuple[Action, ...]
    steps: int
    work_octets: int
