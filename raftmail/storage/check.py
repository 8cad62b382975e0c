"""fsck of an index by itself: every record is read, and everything that is counted is counted
again.

Needs memory for one hash and two numbers a body; reads, never repairs: what is found wrong is to
be fetched again from another replica.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from zlib import crc32

from raftmail.mail.flags import KEYWORDS_MAX, SEEN
from raftmail.mail.uidset import UidSet
from raftmail.storage import (
    acl_table,
    annotation_table,
    config_table,
    dates,
    delivered,
    script_table,
    seen_table,
)
from raftmail.storage.index import Index
from raftmail.storage.kv import Row, Tables, scan
from raftmail.storage.mailboxes import name_key, read_mailbox, read_text
from raftmail.storage.messages import read_uids
from raftmail.storage.records import (
    BLOBREF,
    CHANGE_KEY,
    CRC,
    DIGEST_MASK,
    EXPUNGE_KEY,
    FIXED,
    MESSAGE_BODY,
    MESSAGE_KEY,
    NUMBER,
    ClientRecord,
    IndexDamaged,
    MailboxRecord,
    message_digest,
    unpack_message,
    unseal,
    unseal_packed,
)

PROBLEMS_MAX = 1000
"""Problems that are told; when there are so many, checking ends."""


@dataclass(frozen=True, slots=True)
class IndexProblem:
    """Something wrong: the table and key it was found at, and what it is in plain words."""

    table: str
    key: bytes
    text: str

    def __str__(self) -> str:
        return f"{self.table}: {self.text}"


def check(source: Index | Tables) -> list[IndexProblem]:
    """What is wrong with an index: an open one, or a view of one that another process is
    writing."""
    if isinstance(source, Index):
        source.flush()
        source = source.engine
    checker = _Checker(source)
    try:
        checker.run()
    except _Enough:
        pass
    return checker.problems


class _Enough(Exception):
    """There are as many problems as are told."""


class _Tally:
    """What a mailbox's messages add up to."""

    __slots__ = ("digest", "messages", "size_bytes", "uid", "unseen")

    def __init__(self) -> None:
        self.messages = self.unseen = self.size_bytes = self.digest = self.uid = 0


class _Checker:
    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self.problems: list[IndexProblem] = []
        self._mailboxes: dict[int, MailboxRecord] = {}
        self._bodies: dict[bytes, int] = {}

    def run(self) -> None:
        self._check_mailboxes()
        self._check_names()
        self._check_messages()
        self._check_changes()
        self._check_expunges()
        self._check_blobrefs()
        self._check_clients()
        for problem in config_table.check(self._tables.table("config")):
            self._tell("config", problem.key, str(problem))
        tables = (delivered, dates, annotation_table, script_table, acl_table, seen_table)
        for table_check in (one.check for one in tables):
            for problem in table_check(self._tables):
                self._tell(problem.table, problem.key, str(problem))
        self._check_meta()
        for table in ("subscriptions", "sharers", "users"):
            for key, record in self._rows(table):
                self._decoded(table, key, lambda t=table, k=key, r=record: read_text(t, k, r))
        for table in ("places", "local"):
            for key, record in self._rows(table):
                self._decoded(table, key, lambda t=table, k=key, r=record: unseal(t, k, r))

    def _rows(self, table: str) -> Any:
        return scan(self._tables.table(table))

    def _tell(self, table: str, key: bytes, text: str) -> None:
        self.problems.append(IndexProblem(table, key, text))
        if len(self.problems) >= PROBLEMS_MAX:
            raise _Enough

    def _decoded(self, table: str, key: bytes, read: Any) -> Any:
        """What `read` gives, or None after telling why it does not."""
        try:
            return read()
        except IndexDamaged as e:
            self._tell(e.table, e.key, str(e))
        except Exception as e:
            self._tell(table, key, f"the record {key.hex()} does not decode: {e}")
        return None

    def _check_mailboxes(self) -> None:
        names = self._tables.table("names")
        for key, record in self._rows("mailboxes"):
            mailbox = self._decoded("mailboxes", key, lambda k=key, r=record: read_mailbox(k, r))
            if mailbox is None:
                continue
            if NUMBER.pack(mailbox.number) != key:
                self._tell(
                    "mailboxes", key, f"mailbox {mailbox.number} is filed under another number"
                )
                continue
            self._mailboxes[mailbox.number] = mailbox
            if len(mailbox.keywords) > KEYWORDS_MAX or len(mailbox.bits) != len(mailbox.keywords):
                self._tell("mailboxes", key, f"{_named(mailbox)}: its keyword table is wrong")
            if names.get(name_key(mailbox.user, mailbox.name)) is None:
                self._tell("mailboxes", key, f"{_named(mailbox)} has no row in the table of names")

    def _check_names(self) -> None:
        for key, record in self._rows("names"):
            value = self._decoded("names", key, lambda k=key, r=record: unseal("names", k, r))
            if value is None:
                continue
            number = NUMBER.unpack(value)[0] if len(value) == NUMBER.size else 0
            mailbox = self._mailboxes.get(number)
            if mailbox is None:
                self._tell("names", key, f"a name leads to mailbox {number}, which does not exist")
            elif name_key(mailbox.user, mailbox.name) != key:
                self._tell(
                    "names", key, f"a name leads to {_named(mailbox)}, which has another name"
                )

    def _check_messages(self) -> None:
        summaries = self._tables.table("summaries")
        changes = self._tables.table("changes")
        tallies = {number: _Tally() for number in self._mailboxes}
        count = 0
        for key, record in self._rows("messages"):
            count += 1
            fields = self._decoded("messages", key, lambda k=key, r=record: unpack_message(k, r))
            if fields is None:
                continue
            uid, modseq, system, low, high, fixed, digest, _ = fields
            number = MESSAGE_KEY.unpack(key)[0]
            mailbox = self._mailboxes.get(number)
            if mailbox is None:
                self._tell(
                    "messages", key, f"UID {uid} is in mailbox {number}, which does not exist"
                )
                continue
            where = f"{_named(mailbox)}, UID {uid}"
            body = MESSAGE_BODY.pack(uid, modseq, system, low, high, fixed)
            if message_digest(body) != digest:
                self._tell("messages", key, f"{where}: its digest is not that of its fields")
            _, size_bytes, _, blob, summary_crc = FIXED.unpack(fixed)
            tally = tallies[number]
            tally.messages += 1
            tally.unseen += not system & SEEN
            tally.size_bytes += size_bytes
            tally.digest += int.from_bytes(digest, "little")
            tally.uid = uid
            self._bodies[blob] = self._bodies.get(blob, 0) + 1
            if modseq > mailbox.highestmodseq:
                self._tell(
                    "messages",
                    key,
                    f"{where}: modseq {modseq} is above the mailbox's {mailbox.highestmodseq}",
                )
            if (low | high << 64) >> len(mailbox.keywords):
                self._tell("messages", key, f"{where}: has keywords that the mailbox does not know")
            if changes.get(CHANGE_KEY.pack(number, modseq, uid)) is None:
                self._tell("messages", key, f"{where}: is missing from the table of changes")
            self._check_summary(where, key, summaries.get(key), summary_crc)
        if summaries.count() > count:
            self._tell("summaries", b"", "there are summaries without a message")
        for number, tally in tallies.items():
            self._compare(self._mailboxes[number], tally)

    def _check_summary(self, where: str, key: bytes, record: bytes | None, crc: int) -> None:
        if record is None:
            self._tell("summaries", key, f"{where}: its summary is missing")
            return
        summary = self._decoded("summaries", key, lambda: unseal("summaries", key, record))
        if summary is not None and crc32(summary) != crc:
            self._tell("summaries", key, f"{where}: its summary is another message's")

    def _compare(self, mailbox: MailboxRecord, tally: _Tally) -> None:
        key = NUMBER.pack(mailbox.number)
        for what, told, found in (
            ("messages", mailbox.messages, tally.messages),
            ("unseen messages", mailbox.unseen, tally.unseen),
            ("bytes", mailbox.size_bytes, tally.size_bytes),
        ):
            if told != found:
                self._tell(
                    "mailboxes", key, f"{_named(mailbox)} tells of {told} {what}, but has {found}"
                )
        if mailbox.digest != tally.digest & DIGEST_MASK:
            self._tell(
                "mailboxes", key, f"{_named(mailbox)}: its digest is not that of its messages"
            )
        if tally.uid >= mailbox.uidnext:
            self._tell(
                "mailboxes",
                key,
                f"{_named(mailbox)} would give UID {mailbox.uidnext}, but has UID {tally.uid}",
            )

    def _check_changes(self) -> None:
        records = self._tables.table("messages")
        for key, record in self._rows("changes"):
            if record != CRC.pack(crc32(key)) or len(key) != CHANGE_KEY.size:
                self._tell("changes", key, str(IndexDamaged("changes", key)))
                continue
            number, modseq, uid = CHANGE_KEY.unpack(key)
            message_key = MESSAGE_KEY.pack(number, uid)
            message = records.get(message_key)
            try:
                found = unpack_message(message_key, message)[1] if message is not None else 0
            except IndexDamaged:
                continue
            if found != modseq:
                mailbox = self._mailboxes.get(number)
                where = _named(mailbox) if mailbox is not None else f"mailbox {number}"
                self._tell(
                    "changes",
                    key,
                    f"{where}, UID {uid}: a change with modseq {modseq} is not a message's",
                )

    def _check_expunges(self) -> None:
        rows: dict[int, int] = {}
        records = self._tables.table("messages")
        for key, record in self._rows("expunges"):
            uids = self._decoded("expunges", key, lambda k=key, r=record: read_uids(k, r))
            if uids is None:
                continue
            number, modseq = EXPUNGE_KEY.unpack(key)
            mailbox = self._mailboxes.get(number)
            if mailbox is None:
                self._tell("expunges", key, f"messages left mailbox {number}, which does not exist")
                continue
            rows[number] = rows.get(number, 0) + 1
            if modseq > mailbox.highestmodseq or uids.last >= mailbox.uidnext:
                self._tell(
                    "expunges", key, f"{_named(mailbox)}: what never was is said to have left"
                )
            elif _any_message(records.page, number, uids):
                self._tell(
                    "expunges",
                    key,
                    f"{_named(mailbox)}: a message that is there is said to have left",
                )
        for number, mailbox in self._mailboxes.items():
            if rows.get(number, 0) != mailbox.expunge_rows:
                self._tell(
                    "mailboxes",
                    NUMBER.pack(number),
                    f"{_named(mailbox)} tells of {mailbox.expunge_rows} rows of its expunge log, "
                    f"but has {rows.get(number, 0)}",
                )

    def _check_blobrefs(self) -> None:
        for key, record in self._rows("blobrefs"):
            value = self._decoded("blobrefs", key, lambda k=key, r=record: unseal("blobrefs", k, r))
            found = self._bodies.pop(key, 0)
            if value is None:
                continue
            told = BLOBREF.unpack(value)[0] if len(value) == BLOBREF.size else -1
            if told != found:
                self._tell(
                    "blobrefs",
                    key,
                    f"body {key.hex()} is said to belong to {told} messages, but belongs to "
                    f"{found}",
                )
        for blob, found in self._bodies.items():
            self._tell("blobrefs", blob, f"body {blob.hex()} of {found} messages is not counted")

    def _check_clients(self) -> None:
        for key, record in self._rows("clients"):
            client = self._decoded(
                "clients",
                key,
                lambda k=key, r=record: ClientRecord.unpacked(unseal_packed("clients", k, r)),
            )
            if client is not None and any(seq <= client.floor for seq in client.results):
                self._tell("clients", key, f"client {key.hex()} keeps a result below its floor")

    def _check_meta(self) -> None:
        meta = self._tables.table("meta")
        for key, record in self._rows("meta"):
            self._decoded("meta", key, lambda k=key, r=record: unseal_packed("meta", k, r))
        record = meta.get(b"state")
        state = self._decoded(
            "meta",
            b"state",
            lambda: unseal_packed("meta", b"state", record) if record else (0, 0, 1, 0),
        )
        if state is None or len(state) != 4:
            return
        highest = max(self._mailboxes, default=0)
        if state[2] <= highest:
            self._tell(
                "meta", b"state", f"the next mailbox would be {state[2]}, but there is {highest}"
            )
        highest = max((mailbox.uidvalidity for mailbox in self._mailboxes.values()), default=0)
        if state[3] < highest:
            self._tell(
                "meta", b"state", f"the last UIDVALIDITY is {state[3]}, but a mailbox has {highest}"
            )


def _any_message(page: Any, number: int, uids: UidSet) -> bool:
    for low, high in uids.ranges():
        rows: list[Row] = page(MESSAGE_KEY.pack(number, low), MESSAGE_KEY.pack(number, high + 1), 1)
        if rows:
            return True
    return False


def _named(mailbox: MailboxRecord) -> str:
    return f"mailbox {mailbox.name!r} of {mailbox.user}"
