"""Which messages have been in a mailbox of some special use for longer than they are kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from raftmail.mail.uidset import UidSet, UidSetBuilder
from raftmail.storage.index import Index
from raftmail.storage.records import FIXED, unpack_message

MAILBOXES_MAX = 50
"""Mailboxes that one look goes through."""

MESSAGES_MAX = 200
"""Messages that one look reads, and finds: what one entry expunges."""


_NONE = UidSet()


@dataclass(frozen=True, slots=True)
class AgedMail:
    """What one look found: messages of one mailbox (0: none).

    `after` is the mailbox after which to go on. It is the one before `mailbox` where something was
    found, so that what is left there is found too. None: nothing comes any more."""

    after: int | None
    user: str = ""
    mailbox: int = 0
    uids: UidSet = _NONE


def find_aged(index: Index, after: int, ages_us: Mapping[str, int], now_us: int) -> AgedMail:
    """Look at some mailboxes whose numbers are above `after`. `ages_us` is for how long messages
    are kept, by special use.

    UIDs ascend as messages are saved (RFC 9051 section 2.3.1.1). So the first one that is young
    ends the mailbox, and what is kept is not read. A date that lies ahead of `now_us` was given by
    a wrong clock: such a message is kept, and ends nothing. Raises `IndexDamaged`."""
    found = index.mailboxes.after(after, MAILBOXES_MAX)
    before = after
    for seen in found:
        age_us = ages_us.get(seen.special_use)
        if age_us is not None and seen.messages:
            uids = _aged_in(index, seen.number, now_us - age_us, now_us)
            if uids:
                return AgedMail(before, seen.user, seen.number, uids)
        before = seen.number
    return AgedMail(before if len(found) == MAILBOXES_MAX else None)


def _aged_in(index: Index, number: int, limit_us: int, now_us: int) -> UidSet:
    """The UIDs of messages that were saved before `limit_us`. Raises `IndexDamaged`."""
    mailbox = index.mailboxes.get(number)
    aged = UidSetBuilder()
    if mailbox is None:
        return aged.build()
    messages = index.messages
    every = messages.resolve(mailbox, UidSet.parse("1:*"))
    rows = messages.rows(mailbox, every, MESSAGES_MAX) if every else []
    dates_of = messages.dates.of(rows)
    for key, record in rows:
        fields = unpack_message(key, record)
        dates = dates_of.get(key)
        saved_us = FIXED.unpack(fields[5])[0] if dates is None else dates.saved_us
        if saved_us > now_us:
            continue
        if saved_us >= limit_us:
            break
        aged.add(fields[0])
    return aged.build()
