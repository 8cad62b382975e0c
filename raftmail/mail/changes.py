"""What a session is told when mail of its user changes, and how nodes tell each other.

Changes are hints, not data: whoever hears one reads behind a barrier (P5) what is new after the
modseq that it has. So a change may be told twice, or be told for something that was seen already.
What may have been missed is told as `Missed`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from raftmail.mail.packing import CodecError, Raw

CHANGES_PER_FRAME_MAX = 4096


@dataclass(frozen=True, slots=True)
class MailboxChanged:
    """Messages of a mailbox were added, changed or expunged, up to `modseq`."""

    user: str
    mailbox: int
    uidvalidity: int
    uidnext: int
    modseq: int
    messages: int


@dataclass(frozen=True, slots=True)
class MailboxesChanged:
    """A mailbox was made, renamed or removed, or a subscription changed."""

    user: str


@dataclass(frozen=True, slots=True)
class Missed:
    """Changes may have been missed: compare everything. So after a resync, a lost link, or when
    another replica is watched from here on."""

    user: str


Change: TypeAlias = MailboxChanged | MailboxesChanged | Missed

_MAILBOX, _MAILBOXES, _MISSED = 1, 2, 3


def change_to_wire(change: Change) -> Raw:
    """For msgpack."""
    if isinstance(change, MailboxChanged):
        return (
            _MAILBOX,
            change.user,
            change.mailbox,
            change.uidvalidity,
            change.uidnext,
            change.modseq,
            change.messages,
        )
    return (_MAILBOXES if isinstance(change, MailboxesChanged) else _MISSED, change.user)


def change_from_wire(raw: object) -> Change:
    """Raises `CodecError`."""
    if isinstance(raw, list | tuple) and len(raw) >= 2 and type(raw[1]) is str:
        kind, user, *numbers = raw
        if kind == _MAILBOX and len(numbers) == 5 and all(type(n) is int for n in numbers):
            return MailboxChanged(user, *numbers)
        if kind == _MAILBOXES and not numbers:
            return MailboxesChanged(user)
        if kind == _MISSED and not numbers:
            return Missed(user)
    raise CodecError("a change of the wrong shape")
