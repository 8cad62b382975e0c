"""Writing what a source sent into the index, table by table, under the mark of a half resync.

Works on the tables, not on the index's objects: nothing else may change the index meanwhile. What
the tables of changes and blobrefs have follows from the messages, and is written with them. A body
that is not in the store is noted as missing in the same transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import error as StructError
from zlib import crc32

from raftmail.mail.flags import SEEN
from raftmail.mail.packing import Raw
from raftmail.resync.missing import Missing
from raftmail.resync.source import BodySource
from raftmail.resync.state import Suspects
from raftmail.storage.index import Index
from raftmail.storage.kv import Row
from raftmail.storage.mailboxes import name_key, read_mailbox
from raftmail.storage.records import (
    BLOBREF,
    CHANGE_KEY,
    CRC,
    DIGEST_MASK,
    FIXED,
    MESSAGE_BODY,
    MESSAGE_KEY,
    NUMBER,
    IndexDamaged,
    MailboxRecord,
    message_digest,
    seal,
    seal_packed,
    unpack_message,
    unseal,
)


class Writer:
    """`rows` and `bytes` count what was written since the last commit. `recount`: the table of
    blobrefs cannot be trusted to follow from what is written, and has to be compared."""

    def __init__(self, index: Index, bodies: BodySource, missing: Missing) -> None:
        self.index = index
        self.missing = missing
        self.rows = 0
        self.bytes = 0
        self.recount = False
        engine = index.engine
        self.mailboxes = engine.table("mailboxes")
        self.names = engine.table("names")
        self.messages = engine.table("messages")
        self.summaries = engine.table("summaries")
        self.changes = engine.table("changes")
        self.expunges = engine.table("expunges")
        self.blobrefs = engine.table("blobrefs")
        self._bodies = bodies
        self._refs: dict[bytes, list[int]] = {}
        self._gained: list[tuple[bytes, int, int]] = []

    def wrote(self, rows: int, size_bytes: int) -> None:
        self.rows += rows
        self.bytes += size_bytes

    def distrust_counts(self) -> None:
        """Have the table of blobrefs compared before the resync ends, also if it is broken off."""
        if not self.recount:
            self.recount = True
            suspects = Suspects.read(self.index)
            suspects.counts = True
            suspects.write(self.index)

    def commit(self, *, sync: bool) -> None:
        """Commit what was written, and the mark with it. Raises `DiskError`."""
        self.settle()
        self.index.engine.commit(sync)
        self.rows = self.bytes = 0

    # -- mailboxes ------------------------------------------------------------------------------

    def own_mailbox(self, number: int) -> tuple[MailboxRecord | None, bool]:
        """A mailbox as it is here, and whether its record is damaged."""
        key = NUMBER.pack(number)
        record = self.mailboxes.get(key)
        if record is None:
            return None, False
        try:
            return read_mailbox(key, record), False
        except IndexDamaged:
            return None, True

    def put_mailbox(self, mailbox: MailboxRecord) -> None:
        """File a mailbox in the state that has been reached."""
        key = NUMBER.pack(mailbox.number)
        self.mailboxes.put(key, seal_packed(key, mailbox.packed()))
        self.wrote(1, 200)

    def finish_mailbox(self, old: MailboxRecord | None, new: MailboxRecord, record: bytes) -> None:
        """File a mailbox as the source has it, and its name."""
        self.mailboxes.put(NUMBER.pack(new.number), record)
        if old is not None and (old.user, old.name) != (new.user, new.name):
            self.drop_name(old)
        self.put_name(new)
        self.wrote(2, 2 * len(record))

    def put_name(self, mailbox: MailboxRecord) -> None:
        key = name_key(mailbox.user, mailbox.name)
        self.names.put(key, seal(key, NUMBER.pack(mailbox.number)))

    def drop_name(self, mailbox: MailboxRecord) -> None:
        """Unless it is another's by now."""
        key = name_key(mailbox.user, mailbox.name)
        record = self.names.get(key)
        if record is None:
            return
        try:
            if unseal("names", key, record) != NUMBER.pack(mailbox.number):
                return
        except IndexDamaged:
            pass
        self.names.delete(key)

    # -- messages -------------------------------------------------------------------------------

    def needs_summary(self, key: bytes, fixed: bytes) -> bool:
        """Whether the summary of a message with these fields is not here. Raises `IndexDamaged`."""
        own = self.messages.get(key)
        if own is None or self.summaries.get(key) is None:
            return True
        return bool(unpack_message(key, own)[5] != fixed)

    def put_messages(
        self, mailbox: MailboxRecord, messages: Sequence[tuple[bytes, Raw, bytes | None]]
    ) -> None:
        """Write messages: the `MESSAGE_BODY`, its fields, and the summary if it is not here. Keeps
        the mailbox's counters. Raises `IndexDamaged` for an own record."""
        number = mailbox.number
        get = self.messages.get
        rows: list[Row] = []
        summaries: list[Row] = []
        changes: list[Row] = []
        pack_change, pack_crc = CHANGE_KEY.pack, CRC.pack
        sum_ = mailbox.digest
        for body, fields, summary in messages:
            uid, modseq, system, _, _, fixed = fields
            key = MESSAGE_KEY.pack(number, uid)
            own = get(key)
            received_us, size_bytes, _, blob, _ = FIXED.unpack(fixed)
            if own is not None:
                old = unpack_message(key, own)
                sum_ -= int.from_bytes(old[6], "little")
                if old[1] != modseq:
                    self.changes.delete(pack_change(number, old[1], uid))
                mailbox.unseen -= not old[2] & SEEN
                if old[5] != fixed:
                    _, old_bytes, _, old_blob, _ = FIXED.unpack(old[5])
                    mailbox.size_bytes += size_bytes - old_bytes
                    self._refer(old_blob, old_bytes, -1)
                    self._gain(blob, size_bytes, received_us)
            else:
                mailbox.messages += 1
                mailbox.size_bytes += size_bytes
                self._gain(blob, size_bytes, received_us)
            mailbox.unseen += not system & SEEN
            digest = message_digest(body)
            sum_ += int.from_bytes(digest, "little")
            sealed = body + digest
            rows.append((key, sealed + pack_crc(crc32(sealed, number & 0xFFFFFFFF))))
            if summary is not None:
                summaries.append((key, summary + pack_crc(crc32(summary, crc32(key)))))
                self.bytes += len(summary)
            change = pack_change(number, modseq, uid)
            changes.append((change, pack_crc(crc32(change))))
        mailbox.digest = sum_ & DIGEST_MASK
        gained, self._gained = self._gained, []
        self.missing.add_many(gained)
        rows.sort()
        self.messages.put_many(rows)
        summaries.sort()
        self.summaries.put_many(summaries)
        changes.sort()
        self.changes.put_many(changes)
        self.wrote(2 * len(rows) + len(summaries), 200 * len(rows))

    def remove_message(self, mailbox: MailboxRecord, key: bytes, record: bytes) -> None:
        """Raises `IndexDamaged`."""
        fields = unpack_message(key, record)
        self.messages.delete(key)
        self.summaries.delete(key)
        self.changes.delete(CHANGE_KEY.pack(mailbox.number, fields[1], fields[0]))
        _, size_bytes, _, blob, _ = FIXED.unpack(fields[5])
        mailbox.messages -= 1
        mailbox.size_bytes -= size_bytes
        mailbox.unseen -= not fields[2] & SEEN
        mailbox.digest = mailbox.digest - int.from_bytes(fields[6], "little") & DIGEST_MASK
        self._refer(blob, size_bytes, -1)
        self.wrote(3, 400)

    def drop_message(self, key: bytes) -> None:
        """Take away a message whose record or summary is damaged, to be fetched again."""
        self.messages.delete(key)
        self.summaries.delete(key)
        self.distrust_counts()
        self.wrote(2, 400)

    # -- bodies ---------------------------------------------------------------------------------

    def _gain(self, blob: bytes, size_bytes: int, received_us: int) -> None:
        self._refer(blob, size_bytes, 1)
        if not self._bodies.has(blob):
            self._gained.append((blob, size_bytes, received_us))

    def _refer(self, blob: bytes, size_bytes: int, change: int) -> None:
        ref = self._refs.get(blob)
        if ref is None:
            self._refs[blob] = [size_bytes, change]
        else:
            ref[1] += change

    def settle(self) -> None:
        """Write how many messages have each body."""
        refs, self._refs = sorted(self._refs.items()), {}
        for blob, (size_bytes, change) in refs:
            if not change:
                continue
            count = change
            record = self.blobrefs.get(blob)
            if record is not None:
                try:
                    before, size_bytes = BLOBREF.unpack(unseal("blobrefs", blob, record))
                    count += before
                except (IndexDamaged, StructError):
                    self.distrust_counts()
            if count > 0:
                self.blobrefs.put(blob, seal(blob, BLOBREF.pack(count, size_bytes)))
            else:
                if count < 0:
                    self.distrust_counts()
                self.blobrefs.delete(blob)
            self.wrote(1, 100)

    def put_blobref(self, blob: bytes, record: bytes) -> None:
        """A row of blobrefs as the source has it. Raises `IndexDamaged`."""
        value = unseal("blobrefs", blob, record)
        if len(value) != BLOBREF.size or len(blob) != 32:
            raise IndexDamaged("blobrefs", blob, "it has the wrong length")
        self.blobrefs.put(blob, record)
        if not self._bodies.has(blob):
            self.missing.add(blob, BLOBREF.unpack(value)[1], 0)
        self.wrote(1, 100)


def fields_of(body: bytes) -> Raw:
    """The fields of a `MESSAGE_BODY`."""
    return MESSAGE_BODY.unpack(body)
