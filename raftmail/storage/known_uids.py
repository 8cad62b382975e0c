"""Which UIDs of a mailbox have a message, without reading its messages.

All that was ever given, less what the expunge log says has gone, is what there is. So it takes the
time of the log, which is bounded. Where the log has been cut, messages are read once, some with
each question. What was found is kept, and brought up to date by what went since.

Nothing here is replicated. It follows from the tables, and is forgotten with the transaction.
"""

from __future__ import annotations

from typing import Final
from zlib import crc32

from raftmail.mail.flags import SEEN
from raftmail.mail.uidset import UidSet, UidSetBuilder
from raftmail.storage.kv import Row
from raftmail.storage.messages import Messages
from raftmail.storage.records import MESSAGE_KEY, RESIDUE, MailboxRecord, unpack_message

KNOWN_MAILBOXES_MAX: Final = 10_000
KNOWN_RANGES_MAX: Final = 20_000
"""Ranges of all sets that are kept, some 80 bytes each: a part of what a replica may take of
memory. Beyond them those go that were not asked for longest."""

READ_ROWS: Final = 20_000
"""Messages that are read for one question."""

UNSEEN_ROWS: Final = 4_000
"""Messages at either end of a mailbox among which the first unseen is looked for."""

UNSEEN_PAGE_ROWS: Final = 250

_SYSTEM_AT: Final = 12
"""Where a record of a message has its system flags (`records.MESSAGE_BODY`)."""


class _Known:
    """The UIDs of one mailbox up to `last`, as they were at `modseq`; `read` from its messages, or
    else told by the log. All messages above `last` came later when it is `whole`."""

    __slots__ = ("last", "modseq", "read", "uids", "uidvalidity", "whole")

    def __init__(self, mailbox: MailboxRecord, *, read: bool) -> None:
        self.uidvalidity = mailbox.uidvalidity
        self.read = read
        self.whole = not read
        self.uids = UidSet()
        self.last = 0
        self.modseq = mailbox.highestmodseq if read else 0


class KnownUids:
    """The UIDs of the mailboxes that were asked for. Invariant: what is kept of a mailbox is right
    for the modseq that is kept with it."""

    def __init__(self, messages: Messages) -> None:
        self._messages = messages
        self._known: dict[int, _Known] = {}
        self._ranges = 0

    def uids(self, mailbox: MailboxRecord) -> UidSet | None:
        """All UIDs of messages. None: a part of the mailbox was read, so ask again. Raises
        `IndexDamaged`."""
        self._messages.settle()
        known = self._take(mailbox)
        if known is None:
            known = _Known(mailbox, read=mailbox.expunge_floor > 0)
        self._bring_up(mailbox, known)
        if known.whole and not known.read and len(known.uids) != mailbox.messages:
            known = _Known(mailbox, read=True)  # the log is damaged: believe the messages
        if not known.whole:
            self._read_on(mailbox, known)
        if not known.whole or len(known.uids) == mailbox.messages:
            self._keep(mailbox.number, known)
        return known.uids if known.whole else None

    def first_unseen(self, mailbox: MailboxRecord, uids: UidSet) -> int:
        """The UID of the first message without \\Seen; 0: there is none, or it is far from both
        ends. `uids` are all of them. Raises `IndexDamaged`."""
        if not mailbox.unseen or not uids:
            return 0
        number, last = mailbox.number, uids.last
        end = MESSAGE_KEY.pack(number, last + 1)
        page = self._messages.records.page
        start, left = MESSAGE_KEY.pack(number, 0), UNSEEN_ROWS
        while left:
            rows = page(start, end, min(UNSEEN_PAGE_ROWS, left))
            found = _unseen(number, rows, 0)
            if found:
                return found[0]
            if not rows:
                return 0
            start, left = rows[-1][0] + b"\0", left - len(rows)
        begin = MESSAGE_KEY.pack(number, _from_end(uids, UNSEEN_ROWS))
        found = _unseen(number, page(begin, end, UNSEEN_ROWS), mailbox.unseen)
        return found[0] if len(found) == mailbox.unseen else 0

    def _take(self, mailbox: MailboxRecord) -> _Known | None:
        """What is kept of a mailbox, if it can be brought up to date."""
        known = self._known.pop(mailbox.number, None)
        if known is None:
            return None
        self._ranges -= known.uids.range_count()
        if (
            known.uidvalidity != mailbox.uidvalidity
            or not mailbox.expunge_floor <= known.modseq <= mailbox.highestmodseq
            or known.last >= mailbox.uidnext
        ):
            return None
        return known

    def _bring_up(self, mailbox: MailboxRecord, known: _Known) -> None:
        uids = known.uids
        if known.whole and known.last < mailbox.uidnext - 1:
            uids = uids | UidSet.from_ranges([(known.last + 1, mailbox.uidnext - 1)])
            known.last = mailbox.uidnext - 1
        if known.modseq < mailbox.highestmodseq:
            gone = self._messages.vanished_since(mailbox, known.modseq)
            if gone:
                uids = uids - gone
            known.modseq = mailbox.highestmodseq
        known.uids = uids

    def _read_on(self, mailbox: MailboxRecord, known: _Known) -> None:
        number = mailbox.number
        start = MESSAGE_KEY.pack(number, known.last + 1)
        end = MESSAGE_KEY.pack(number + 1, 0)
        rows = self._messages.records.page(start, end, READ_ROWS)
        built = UidSetBuilder()
        for _, uid in MESSAGE_KEY.iter_unpack(b"".join([key for key, _ in rows])):
            built.add(uid)
        known.uids = known.uids | built.build()
        if len(rows) < READ_ROWS:
            known.whole = True
            known.last = mailbox.uidnext - 1
        else:
            known.last = known.uids.last

    def _keep(self, number: int, known: _Known) -> None:
        self._known[number] = known
        self._ranges += known.uids.range_count()
        while self._ranges > KNOWN_RANGES_MAX or len(self._known) > KNOWN_MAILBOXES_MAX:
            oldest = next(iter(self._known))
            if oldest == number and not known.whole:
                break  # else it would never become whole
            self._ranges -= self._known.pop(oldest).uids.range_count()


def _unseen(number: int, rows: list[Row], most: int) -> list[int]:
    """UIDs of the first messages without \\Seen, at most so many."""
    seed = number & 0xFFFFFFFF
    found: list[int] = []
    for key, record in rows:
        if len(record) <= _SYSTEM_AT or crc32(record, seed) != RESIDUE:
            unpack_message(key, record)  # which says what is wrong with it
        if not record[_SYSTEM_AT] & SEEN:
            found.append(unpack_message(key, record)[0])
            if len(found) > most:
                break
    return found


def _from_end(uids: UidSet, count: int) -> int:
    """A UID with at most so many from it on."""
    bounds = uids.bounds
    for at in range(len(bounds) - 2, -1, -2):
        low, high = bounds[at], bounds[at + 1]
        if high - low + 1 >= count:
            return high - count + 1
        count -= high - low + 1
    return uids.first
