"""The tables of messages: the hot records, their summaries and dates, what changed since, what
vanished since, and how many messages have each body.

Nothing here costs more in a large mailbox than in a small one, but for `absent`. That is asked only
for what the expunge log no longer has.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any
from zlib import crc32

from raftmail.mail.flags import SEEN
from raftmail.mail.packing import Raw
from raftmail.mail.uidset import UidSet
from raftmail.storage.dates import Dates, MessageDates
from raftmail.storage.kv import PAGE_ROWS, KvEngine, Row, scan
from raftmail.storage.records import (
    BLOBREF,
    CHANGE_KEY,
    CRC,
    DIGEST_MASK,
    EXPUNGE_KEY,
    FIXED,
    MESSAGE,
    MESSAGE_BODY,
    MESSAGE_KEY,
    RESIDUE,
    IndexDamaged,
    MailboxRecord,
    message_digest,
    seal,
    seal_packed,
    uids_of,
    unpack_message,
    unseal,
    unseal_packed,
)
from raftmail.storage.rotten_keys import RottenKeys

EXPUNGE_ROWS_MAX = 1024
"""Rows of the expunge log of one mailbox; when there are more, the older half becomes one."""

EXPUNGE_RANGES_MAX = 4096
"""Ranges of the row that older ones became; with more it is forgotten."""


UNSETTLED_ROWS_MAX = 16_384
UNSETTLED_BYTES_MAX = 8 << 20
"""Summaries held back; with as many, or with so many rows, `Messages.settle` comes by itself."""

# The fields of a message that is not yet settled.
MODSEQ, SYSTEM, KEYWORDS, FIXED_FIELDS, MAILBOX, UID, OLD_MODSEQ, OLD_DIGEST = range(8)
_NO_DIGEST = bytes(16)
_LOW = 0xFFFFFFFFFFFFFFFF

UNREFERENCED_MAX = 100_000

SPARSE = 4
"""Of a set with a message among so many UIDs, or more, all records are read, and those that are
not wanted passed over."""

BLOCK_UIDS = 1000
"""UIDs whose messages are kept in columns together, see `known_columns`."""


class Messages:
    """Messages by mailbox and UID. Changes counters of the `MailboxRecord` it is given, whose owner
    has to have it written (`Mailboxes.touch`).

    Changes are held back in `unsettled` (by message key, lists of the fields named above) and
    written together by `settle`: a message that changes ten times is then written once, in the
    order of the keys. The mailboxes' digests are right only when all is settled. Everything here
    that reads settles first, if it has to."""

    def __init__(self, engine: KvEngine) -> None:
        self.records = engine.table("messages")
        self._rotten = RottenKeys("messages", self.records, unpack_message)
        self.unsettled: dict[bytes, list[Any]] = {}
        self._summaries = engine.table("summaries")
        self.dates = Dates(engine)
        self._changes = engine.table("changes")
        self._expunges = engine.table("expunges")
        self._blobrefs = engine.table("blobrefs")
        self._new_summaries: dict[bytes, bytes] = {}
        self._new_bytes = 0
        self._new_refs: dict[bytes, list[int]] = {}
        self.kept: dict[int, set[int]] = {}
        """By mailbox, the blocks of columns that are as the tables are: whatever changes a message
        takes its block out."""
        self.unreferenced: list[bytes] = []
        """Bodies that lost their last message, for whoever gives back their space (and clears
        this)."""

    def open(self, mailbox: MailboxRecord, key: bytes, record: bytes) -> list[Any]:
        """The fields of a message that is going to be changed; put them into `unsettled` when they
        are. Raises `IndexDamaged`."""
        if len(record) != MESSAGE.size:
            raise IndexDamaged("messages", key, "it has the wrong length")
        uid, modseq, system, low, high, fixed, digest, checksum = MESSAGE.unpack(record)
        number = mailbox.number
        if (
            crc32(record[:-4], number & 0xFFFFFFFF) != checksum
            or MESSAGE_KEY.pack(number, uid) != key
        ):
            raise IndexDamaged("messages", key)
        keywords = low | high << 64 if high else low
        return [modseq, system, keywords, fixed, mailbox, uid, modseq, digest]

    def settle(self) -> None:
        """Write what is held back into the tables, and bring the mailboxes' digests up to date.
        Raises `IndexDamaged`."""
        if self.unsettled:
            self._settle_messages()
        if self._new_summaries:
            self._summaries.put_many(sorted(self._new_summaries.items()))
            self._new_summaries.clear()
            self._new_bytes = 0
        if self._new_refs:
            refs = sorted(self._new_refs.items())
            self._new_refs.clear()
            for blob, (size_bytes, change) in refs:
                self._count(blob, size_bytes, change)

    def _settle_messages(self) -> None:
        rows: list[Row] = []
        before: list[bytes] = []
        after: list[bytes] = []
        pack_body, pack_change, pack_crc = MESSAGE_BODY.pack, CHANGE_KEY.pack, CRC.pack
        number_of, digest_of = int.from_bytes, message_digest
        kept_of = self.kept.get
        for key, entry in self.unsettled.items():
            modseq, system, keywords, fixed, mailbox, uid, old_modseq, old_digest = entry
            number = mailbox.number
            body = pack_body(uid, modseq, system, keywords & _LOW, keywords >> 64, fixed)
            digest = digest_of(body)
            body += digest
            rows.append((key, body + pack_crc(crc32(body, number & 0xFFFFFFFF))))
            mailbox.digest = (
                mailbox.digest + number_of(digest, "little") - number_of(old_digest, "little")
                & DIGEST_MASK
            )
            if old_modseq != modseq:
                after.append(pack_change(number, modseq, uid))
                if old_modseq:
                    before.append(pack_change(number, old_modseq, uid))
            kept = kept_of(number)
            if kept:
                kept.discard((uid - 1) // BLOCK_UIDS)
        self.unsettled.clear()
        rows.sort()
        before.sort()
        after.sort()
        self.records.put_many(rows)
        delete = self._changes.delete
        for change in before:
            delete(change)
        self._changes.put_many([(change, pack_crc(crc32(change))) for change in after])

    # Reading

    def pages(self, mailbox: MailboxRecord, uids: UidSet) -> Iterator[list[Row]]:
        """The records that `uids` has, ascending, some at a time; they may be changed or removed
        meanwhile. `*` must be resolved. Raises `IndexDamaged` where one may be missing because its
        key rotted."""
        self.settle()
        number = mailbox.number
        page = self.records.page
        key_of = MESSAGE_KEY.pack
        singles: list[Row] = []
        for low, high in uids.ranges():
            if low == high:
                key = key_of(number, low)
                record = self.records.get(key)
                if record is not None:
                    singles.append((key, record))
                    if len(singles) == PAGE_ROWS:
                        yield singles
                        singles = []
                elif low < mailbox.uidnext:
                    self._rotten.check_missing(key)
                continue
            if singles:
                yield singles
                singles = []
            end = key_of(number, high + 1)
            start = key_of(number, low)
            while True:
                rows = page(start, end)
                if len(rows) < PAGE_ROWS:
                    self._rotten.check_range(start, end, rows)
                else:
                    self._rotten.check_start(start, end, rows)
                if rows:
                    yield rows
                if len(rows) < PAGE_ROWS:
                    break
                start = rows[-1][0] + b"\0"
        if singles:
            yield singles

    def rows(self, mailbox: MailboxRecord, uids: UidSet, limit: int) -> list[Row]:
        """The first records that `uids` has, ascending, at most so many. `*` must be resolved.
        Raises `IndexDamaged` as `pages` does."""
        found: list[Row] = []
        if uids.last - uids.first > SPARSE * len(uids):
            for rows in self.pages(mailbox, uids):
                found += rows
                if len(found) >= limit:
                    break
            return found[:limit]
        self.settle()
        number, last = mailbox.number, uids.last
        key_of, uid_at = MESSAGE_KEY.pack, MESSAGE_KEY.unpack
        first = uids.first
        while first and len(found) < limit:
            start = key_of(number, first)
            end = key_of(number, last + 1)
            rows = self.records.page(start, end, limit)
            if len(rows) < limit:
                self._rotten.check_range(start, end, rows)
            else:
                self._rotten.check_start(start, end, rows)
            if not rows:
                break
            read = uid_at(rows[-1][0])[1]
            wanted = uids.part(first, read)
            if wanted.range_count() > 1 or len(wanted) != read - first + 1:
                rows = [row for row in rows if uid_at(row[0])[1] in wanted]
            found += rows
            first = uids.part(read + 1, last).first
        return found[:limit]

    def last_uid(self, mailbox: MailboxRecord) -> int:
        """The highest UID of a message there is; 0 in an empty mailbox."""
        self.settle()
        number = mailbox.number
        row = self.records.last(MESSAGE_KEY.pack(number, 0), MESSAGE_KEY.pack(number + 1, 0))
        return MESSAGE_KEY.unpack(row[0])[1] if row else 0

    def resolve(self, mailbox: MailboxRecord, uids: UidSet) -> UidSet:
        """`uids` with the last message's UID for `*`, and without what lies above every UID given
        so far."""
        if uids.last < mailbox.uidnext:
            return uids
        last = self.last_uid(mailbox)
        return uids.resolve(last) & UidSet.from_ranges([(1, last)]) if last else UidSet()

    def message(self, mailbox: MailboxRecord, uid: int) -> Raw | None:
        """The fields of a message's record (`records.MESSAGE`). Raises `IndexDamaged`."""
        if not 0 < uid < mailbox.uidnext:
            return None
        self.settle()
        key = MESSAGE_KEY.pack(mailbox.number, uid)
        record = self.records.get(key)
        if record is None:
            self._rotten.check_missing(key)
            return None
        return unpack_message(key, record)

    def summary(self, key: bytes) -> bytes:
        """The summary of the message with this key. Raises `IndexDamaged`."""
        record = self._new_summaries.get(key) or self._summaries.get(key)
        if record is None:
            raise IndexDamaged("summaries", key, "it is missing")
        return unseal("summaries", key, record)

    def summaries(self, mailbox: MailboxRecord, uids: Sequence[int]) -> list[bytes]:
        """The summaries of messages with these UIDs, which ascend, and of which there are some.
        Raises `IndexDamaged`."""
        number, count = mailbox.number, len(uids)
        key_of = MESSAGE_KEY.pack
        first, end = key_of(number, uids[0]), key_of(number, uids[-1] + 1)
        rows = [] if self._new_summaries else self._summaries.page(first, end, count)
        keys = [key for key, _ in rows]
        if len(rows) < count or uids_of(keys) != tuple(uids):
            return [self.summary(key_of(number, uid)) for uid in uids]
        checked = [crc32(record, crc32(key)) for key, record in rows]
        if checked.count(RESIDUE) < count:
            return [unseal("summaries", key, record) for key, record in rows]
        return [record[:-4] for _, record in rows]

    def changed_since(self, mailbox: MailboxRecord, modseq: int, most: int) -> list[int] | None:
        """UIDs of messages with a higher modseq, ascending; None when there are more than
        `most`."""
        self.settle()
        start = CHANGE_KEY.pack(mailbox.number, min(modseq + 1, 2**64 - 1), 0)
        rows = self._changes.page(start, CHANGE_KEY.pack(mailbox.number + 1, 0, 0), most + 1)
        if len(rows) > most:
            return None
        for key, record in rows:
            if record != CRC.pack(crc32(key)):
                raise IndexDamaged("changes", key)
        return sorted(CHANGE_KEY.unpack(key)[2] for key, _ in rows)

    def vanished_since(self, mailbox: MailboxRecord, modseq: int) -> UidSet:
        """UIDs that were expunged after `modseq`.

        Where the log does not reach back, it is every UID given so far without a message, which RFC
        7162 section 3.2.5.1 allows. Raises `IndexDamaged`.
        """
        if modseq < mailbox.expunge_floor:
            return self.absent(mailbox)
        ranges: list[tuple[int, int]] = []
        for key, record in self._expunge_rows(mailbox, modseq + 1):
            ranges.extend(read_uids(key, record).ranges())
        return UidSet.from_ranges(ranges)

    def absent(self, mailbox: MailboxRecord) -> UidSet:
        """Every UID below `uidnext` that has no message. Its cost is that of reading the
        mailbox."""
        self.settle()
        ranges: list[tuple[int, int]] = []
        following = 1
        start = MESSAGE_KEY.pack(mailbox.number, 0)
        for key, _ in scan(self.records, start, MESSAGE_KEY.pack(mailbox.number + 1, 0)):
            uid = MESSAGE_KEY.unpack(key)[1]
            if uid > following:
                ranges.append((following, uid - 1))
            following = uid + 1
        if following < mailbox.uidnext:
            ranges.append((following, mailbox.uidnext - 1))
        return UidSet.from_ranges(ranges)

    # Writing

    def add(
        self,
        mailbox: MailboxRecord,
        modseq: int,
        system: int,
        keywords: int,
        fixed: bytes,
        summary: bytes,
        dates: MessageDates | None = None,
    ) -> int:
        """Give a message the next UID, which is returned. Its body's count (`refer`) is the
        caller's."""
        uid = mailbox.uidnext
        key = MESSAGE_KEY.pack(mailbox.number, uid)
        self.unsettled[key] = [modseq, system, keywords, fixed, mailbox, uid, 0, _NO_DIGEST]
        self._new_summaries[key] = summary + CRC.pack(crc32(summary, crc32(key)))
        self._new_bytes += len(summary)
        if dates is not None:
            self.dates.put(key, dates)
        mailbox.uidnext = uid + 1
        mailbox.messages += 1
        mailbox.size_bytes += FIXED.unpack(fixed)[1]
        if not system & SEEN:
            mailbox.unseen += 1
        if self._new_bytes > UNSETTLED_BYTES_MAX or len(self.unsettled) > UNSETTLED_ROWS_MAX:
            self.settle()
        return uid

    def remove(self, mailbox: MailboxRecord, key: bytes, fields: Raw) -> None:
        """Take a message out. Its body's count (`refer`) and the expunge log (`log_expunge`) are
        the caller's."""
        kept = self.kept.get(mailbox.number)
        if kept:
            kept.discard((fields[0] - 1) // BLOCK_UIDS)
        self.records.delete(key)
        self._summaries.delete(key)
        self.dates.remove(key)
        self._changes.delete(CHANGE_KEY.pack(mailbox.number, fields[1], fields[0]))
        mailbox.messages -= 1
        mailbox.size_bytes -= FIXED.unpack(fields[5])[1]
        mailbox.digest = mailbox.digest - int.from_bytes(fields[6], "little") & DIGEST_MASK
        if not fields[2] & SEEN:
            mailbox.unseen -= 1

    def refer(self, blob: bytes, size_bytes: int, change: int) -> None:
        """Count `change` more (or fewer) messages that have a body."""
        ref = self._new_refs.get(blob)
        if ref is None:
            self._new_refs[blob] = [size_bytes, change]
        else:
            ref[1] += change

    def _count(self, blob: bytes, size_bytes: int, change: int) -> None:
        if change > 0 and self._blobrefs.put_new(
            blob, seal(blob, BLOBREF.pack(change, size_bytes))
        ):
            return  # as nearly all bodies: nobody had it
        record = self._blobrefs.get(blob)
        count = change
        if record is not None:
            value = unseal("blobrefs", blob, record)
            if len(value) != BLOBREF.size:
                raise IndexDamaged("blobrefs", blob, "it has the wrong length")
            before, size_bytes = BLOBREF.unpack(value)
            count += before
        if count < 0:
            raise IndexDamaged("blobrefs", blob, "it counts fewer messages than there are")
        if count:
            self._blobrefs.put(blob, seal(blob, BLOBREF.pack(count, size_bytes)))
        else:
            if record is not None:
                self._blobrefs.delete(blob)
            if len(self.unreferenced) < UNREFERENCED_MAX:
                self.unreferenced.append(blob)

    def references(self, blob: bytes) -> int:
        """How many messages have a body. Raises `IndexDamaged`."""
        self.settle()
        record = self._blobrefs.get(blob)
        if record is None:
            return 0
        return int(BLOBREF.unpack(unseal("blobrefs", blob, record))[0])

    def log_expunge(self, mailbox: MailboxRecord, modseq: int, uids: UidSet) -> None:
        """Note what was removed in the step to `modseq`."""
        key = EXPUNGE_KEY.pack(mailbox.number, modseq)
        self._expunges.put(key, seal_packed(key, uids.to_wire()))
        mailbox.expunge_rows += 1
        if mailbox.expunge_rows > EXPUNGE_ROWS_MAX:
            self._merge_expunges(mailbox)

    def drop_mailbox(self, mailbox: MailboxRecord) -> None:
        """Remove all messages of a mailbox and its expunge log."""
        for rows in self.pages(mailbox, UidSet.from_ranges([(1, mailbox.uidnext)])):
            for key, record in rows:
                fields = unpack_message(key, record)
                self.remove(mailbox, key, fields)
                fixed = FIXED.unpack(fields[5])
                self.refer(fixed[3], fixed[1], -1)
            self.settle()
        for key, _ in self._expunge_rows(mailbox, 0):
            self._expunges.delete(key)

    def _expunge_rows(self, mailbox: MailboxRecord, modseq: int) -> Iterator[Row]:
        start = EXPUNGE_KEY.pack(mailbox.number, min(modseq, 2**64 - 1))
        return scan(self._expunges, start, EXPUNGE_KEY.pack(mailbox.number + 1, 0))

    def _merge_expunges(self, mailbox: MailboxRecord) -> None:
        """Make one row of the older half: asked for a modseq inside it, the log tells of more than
        vanished since, which does no harm. A row of too many ranges is forgotten, and the floor
        set above it."""
        number = mailbox.number
        end = EXPUNGE_KEY.pack(number + 1, 0)
        rows = self._expunges.page(EXPUNGE_KEY.pack(number, 0), end, EXPUNGE_ROWS_MAX // 2)
        ranges: list[tuple[int, int]] = []
        for key, record in rows:
            ranges.extend(read_uids(key, record).ranges())
            self._expunges.delete(key)
        merged = UidSet.from_ranges(ranges)
        key = rows[-1][0]
        mailbox.expunge_rows -= len(rows)
        if merged.range_count() > EXPUNGE_RANGES_MAX:
            mailbox.expunge_floor = EXPUNGE_KEY.unpack(key)[1]
        else:
            self._expunges.put(key, seal_packed(key, merged.to_wire()))
            mailbox.expunge_rows += 1


def read_uids(key: bytes, record: bytes) -> UidSet:
    """A row of the expunge log. Raises `IndexDamaged`."""
    try:
        return UidSet.from_wire(unseal_packed("expunges", key, record))
    except ValueError as e:
        raise IndexDamaged("expunges", key, str(e)) from None
