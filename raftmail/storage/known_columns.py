"""Columns of messages, kept in memory: lists of messages and searches ask for the same again.

A mailbox is kept in blocks of `BLOCK_UIDS` UIDs. Every record is checked when its block is read.
`Messages` takes a block out of `Messages.kept` when a message in it comes, changes or goes. Then it
is read anew when it is asked for.

Nothing here is replicated. It follows from the tables, and is forgotten with the transaction.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import Final

from raftmail.mail.flags import format_flags
from raftmail.mail.uidset import UidSet
from raftmail.storage.column_pool import ColumnBlock, ColumnPool
from raftmail.storage.kv import Row
from raftmail.storage.messages import BLOCK_UIDS, SPARSE, Messages
from raftmail.storage.records import MailboxRecord, unpack_columns

KEPT_MAILBOXES_MAX: Final = 10_000
"""Mailboxes of one replica; beyond it those go that were not asked for longest."""

EMPTY: Final = ColumnBlock((), (), (), (), (), ())


class KnownColumns:
    """The columns of the mailboxes of one index. Invariant: a block that `Messages.kept` names is
    what the tables have, if it is in the pool."""

    def __init__(self, messages: Messages, pool: ColumnPool) -> None:
        self._messages = messages
        self._pool = pool
        self._owner = pool.new_owner()

    def page(self, mailbox: MailboxRecord, uids: UidSet, limit: int) -> ColumnBlock:
        """The first messages that `uids` has, ascending, some of them, at most `limit`; none where
        there are none. `*` must be resolved. Raises `IndexDamaged`."""
        self._messages.settle()
        kept = self._kept(mailbox.number)
        first, last = uids.first, uids.last
        while first:
            number = (first - 1) // BLOCK_UIDS
            end = (number + 1) * BLOCK_UIDS
            wanted = uids.part(first, end)
            block = self._block(mailbox, kept, number, len(wanted))
            if block is None:
                rows = self._messages.rows(mailbox, uids.part(first, last), limit)
                return _block_of(mailbox, rows) if rows else EMPTY
            spans = _places(block, wanted, limit)
            if spans:
                return block.part(spans)
            first = uids.part(end + 1, last).first
        return EMPTY

    def _kept(self, mailbox: int) -> set[int]:
        """Which blocks of a mailbox are right."""
        every = self._messages.kept
        kept = every[mailbox] = every.pop(mailbox, set())
        if len(every) > KEPT_MAILBOXES_MAX:
            del every[next(iter(every))]
        return kept

    def _block(
        self, mailbox: MailboxRecord, kept: set[int], number: int, wanted: int
    ) -> ColumnBlock | None:
        """A block of which so many messages are wanted; None where that is not worth reading all
        of it."""
        key = (self._owner, mailbox.number, number)
        found = self._pool.get(key) if number in kept else None
        if found is not None:
            return found
        low = number * BLOCK_UIDS + 1
        high = min(low + BLOCK_UIDS, mailbox.uidnext) - 1
        if wanted * SPARSE < high - low + 1:
            return None
        rows = self._messages.rows(mailbox, UidSet.from_ranges([(low, high)]), BLOCK_UIDS)
        block = _block_of(mailbox, rows).packed() if rows else EMPTY
        self._pool.put(key, block)
        kept.add(number)
        return block


def _places(block: ColumnBlock, uids: UidSet, limit: int) -> list[tuple[int, int]]:
    """From where to where a block has some UIDs, at most so many."""
    spans: list[tuple[int, int]] = []
    for low, high in uids.ranges():
        begin = bisect_left(block.uids, low)
        end = min(bisect_right(block.uids, high, begin), begin + limit)
        if begin < end:
            spans.append((begin, end))
            limit -= end - begin
            if not limit:
                break
    return spans


def _block_of(mailbox: MailboxRecord, rows: list[Row]) -> ColumnBlock:
    """Of records, of which there are some. Raises `IndexDamaged`."""
    uids, modseqs, raw_flags, received_us, sizes = unpack_columns(mailbox.number, rows)
    places = {raw: at for at, raw in enumerate(dict.fromkeys(raw_flags))}
    flags_of = tuple(map(places.__getitem__, raw_flags))
    flags = tuple(
        format_flags(raw[0], int.from_bytes(raw[1:], "little"), mailbox.keywords) for raw in places
    )
    return ColumnBlock(uids, modseqs, sizes, received_us, flags, flags_of)
