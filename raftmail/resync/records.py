"""The part of a session that makes the records of a replica those of the source's snapshot."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

from raftmail.mail.packing import CodecError
from raftmail.resync import requests as r
from raftmail.resync.limits import ResyncLimits
from raftmail.resync.missing import Missing
from raftmail.resync.pull import MailboxPull, drop_mailbox
from raftmail.resync.ranges import DIGEST_BYTES, Range
from raftmail.resync.requests import RequestKind
from raftmail.resync.source import SMALL, BodySource, ShardDigest
from raftmail.resync.state import Mark, Suspects
from raftmail.resync.survey import (
    BLOCKED,
    WORKED,
    NotAsAsked,
    Step,
    SurveyRequest,
    Task,
    fetch,
    survey,
)
from raftmail.resync.writer import Writer
from raftmail.storage import acl_table, annotation_table, dates, delivered, script_table, seen_table
from raftmail.storage.config_table import check_row
from raftmail.storage.index import Index
from raftmail.storage.kv import PAGE_ROWS, Row, scan
from raftmail.storage.mailboxes import read_mailbox, read_text
from raftmail.storage.records import (
    NUMBER,
    ClientRecord,
    IndexDamaged,
    MailboxRecord,
    unseal_packed,
)

_QUEUE_MAX = 64
_ALL: Range = (b"", b"")


class DigestDiffers(CodecError):
    """Everything that differed was fetched, and the whole is not the source's."""


class RecordsJob:
    """`queue` are tasks that are to be run as there is room. `committed` is the mark, once a part
    has been committed under it."""

    def __init__(
        self,
        index: Index,
        bodies: BodySource,
        missing: Missing,
        suspects: Suspects,
        limits: ResyncLimits,
    ) -> None:
        self.writer = Writer(index, bodies, missing)
        self.queue: deque[Task] = deque()
        self.committed: Mark | None = None
        self.mailboxes_done = self.mailboxes_total = 0
        self.messages_done = self.messages_total = 0
        self._index = index
        self._suspects = suspects
        self._limits = limits
        self._found: dict[str, list[Range]] = {}

    def survey(self, accepted: r.Accepted) -> list[Task]:
        """Find what differs. Writes nothing."""
        tasks: list[Task] = []
        for name in ("mailboxes", *SMALL):
            found = self._found[name] = []
            tasks.append(survey(self._index.engine.table(name), name, [_ALL], found))
        return tasks

    def begin(self, mark: Mark) -> None:
        """From now on the open transaction is that of a half resync."""
        mark.write(self._index)
        self._suspects.write(self._index)

    def commit_if_large(self, mark: Mark) -> None:
        writer = self.writer
        if writer.rows >= self._limits.commit_rows or writer.bytes >= self._limits.commit_bytes:
            writer.commit(sync=False)
            self.committed = mark

    # -- records --------------------------------------------------------------------------------

    def records(self, accepted: r.Accepted) -> list[Task]:
        """Fetch what differs, small tables first."""
        tasks: list[Task] = []
        for name in SMALL:
            if self._found[name]:
                tasks.append(fetch(name, self._found[name], partial(self._take_rows, name)))
        ranges = self._mailbox_ranges()
        if ranges:
            tasks.append(fetch("mailboxes", ranges, partial(self._take_mailboxes, accepted)))
        return tasks

    def _mailbox_ranges(self) -> list[Range]:
        if self._suspects.everything:
            return [_ALL]
        ranges = list(self._found["mailboxes"])
        for number in sorted(self._suspects.mailboxes):
            key = NUMBER.pack(number)
            if not any(start <= key and (not end or key < end) for start, end in ranges):
                ranges.append((key, key + b"\0"))
        return sorted(ranges)

    def _take_rows(self, name: str, covered: Sequence[Range], rows: Sequence[Row]) -> Step:
        table = self._index.engine.table(name)
        check = _CHECKS[name]
        theirs = dict(rows)
        for key, record in rows:
            try:
                check(key, record)
            except IndexDamaged as e:
                raise NotAsAsked(f"the source's {e}") from None
        for start, end in covered:
            while True:
                page = table.page(start, end or None, PAGE_ROWS)
                for key, _ in page:
                    if key not in theirs:
                        table.delete(key)
                        self.writer.wrote(1, 100)
                if len(page) < PAGE_ROWS:
                    break
                start = page[-1][0] + b"\0"
                yield WORKED
        for key, record in rows:
            if name == "blobrefs":
                self.writer.put_blobref(key, record)
            else:
                table.put(key, record)
                self.writer.wrote(1, len(record))
        yield WORKED

    def _take_mailboxes(
        self, accepted: r.Accepted, covered: Sequence[Range], rows: Sequence[Row]
    ) -> Step:
        theirs = dict(rows)
        table = self.writer.mailboxes
        for start, end in covered:
            while page := table.page(start, end or None, 256):
                for key, record in page:
                    if key not in theirs:
                        self._add(drop_mailbox(self.writer, _own_or_unknown(key, record)))
                        yield from self._wait()
                start = page[-1][0] + b"\0"
                yield WORKED
        suspects = self._suspects
        for key, record in rows:
            target = _mailbox_of(key, record, accepted)
            check = suspects.everything or target.number in suspects.mailboxes
            own = table.get(key)
            if own == record and not check:
                continue
            found, _ = self.writer.own_mailbox(target.number)
            self.messages_total += max(0, target.uidnext - (found.uidnext if found else 1))
            self._add(MailboxPull(self.writer, self, record, target, check=check).run())
            yield from self._wait()
        yield WORKED

    def _add(self, task: Task) -> None:
        self.mailboxes_total += 1
        self.queue.append(self._counted(task))

    def _counted(self, task: Task) -> Task:
        yield from task
        self.mailboxes_done += 1

    def _wait(self) -> Step:
        while len(self.queue) >= _QUEUE_MAX:
            yield BLOCKED

    # -- proof ----------------------------------------------------------------------------------

    def verify(self, accepted: r.Accepted) -> Task:
        """What cannot be told from single mailboxes, then the digest of the whole."""
        writer = self.writer
        writer.settle()
        suspects = self._suspects
        if suspects.counts or suspects.everything or writer.recount:
            found: list[Range] = []
            yield from survey(writer.blobrefs, "blobrefs", [_ALL], found)
            if found:
                yield from fetch("blobrefs", found, partial(self._take_rows, "blobrefs"))
        if suspects.names or suspects.everything:
            yield from self._name_again()
        theirs: bytes = yield SurveyRequest(RequestKind.DIGEST, b"", bytes)
        if len(theirs) != DIGEST_BYTES:
            raise NotAsAsked("a digest of the shard was expected")
        state = (
            accepted.applied_index,
            accepted.applied_term,
            accepted.next_mailbox,
            accepted.last_uidvalidity,
        )
        own = ShardDigest(self._index.engine, state)
        while (mine := own.step(self._limits.step_rows)) is None:
            yield WORKED
        if mine != theirs:
            raise DigestDiffers(
                f"what was received has the digest {mine.hex()}, the source's snapshot of index "
                f"{accepted.applied_index} has {theirs.hex()}"
            )

    def _name_again(self) -> Step:
        """Write the table of names from the mailboxes."""
        writer = self.writer
        while page := writer.names.page(b"", None):
            for key, _ in page:
                writer.names.delete(key)
            yield WORKED
        for key, record in scan(writer.mailboxes):
            writer.put_name(read_mailbox(key, record))
        writer.wrote(2 * writer.names.count(), 0)

    def finish(self) -> None:
        """Commit with the mark and the suspicions taken away. Raises `DiskError`."""
        Suspects().write(self._index)
        Mark.clear(self._index)
        self.writer.commit(sync=True)


def _own_or_unknown(key: bytes, record: bytes) -> MailboxRecord:
    try:
        return read_mailbox(key, record)
    except IndexDamaged:
        return MailboxRecord(NUMBER.unpack(key)[0], "", "", bytes(16), 0, "")


def _mailbox_of(key: bytes, record: bytes, accepted: r.Accepted) -> MailboxRecord:
    try:
        mailbox = read_mailbox(key, record)
    except IndexDamaged as e:
        raise NotAsAsked(f"the source's {e}") from None
    if NUMBER.pack(mailbox.number) != key or mailbox.number >= accepted.next_mailbox:
        raise NotAsAsked(f"mailbox {mailbox.number} cannot be")
    return mailbox


def _check_client(key: bytes, record: bytes) -> None:
    try:
        ClientRecord.unpacked(unseal_packed("clients", key, record))
    except (ValueError, TypeError) as e:
        raise IndexDamaged("clients", key, str(e)) from None


def _check_text(table: str, key: bytes, record: bytes) -> None:
    read_text(table, key, record)


def _check_nothing(key: bytes, record: bytes) -> None:
    """`Writer.put_blobref` checks."""


_CHECKS: dict[str, Callable[[bytes, bytes], None]] = {
    "subscriptions": partial(_check_text, "subscriptions"),
    "acls": acl_table.check_row,
    "sharers": partial(_check_text, "sharers"),
    "seen": seen_table.check_row,
    "annotations": annotation_table.check_row,
    "scripts": script_table.check_row,
    "users": partial(_check_text, "users"),
    "config": check_row,
    "clients": _check_client,
    "deliveries": delivered.check_row,
    "delivered": delivered.check_number,
    "dates": dates.check_row,
    "blobrefs": _check_nothing,
}
