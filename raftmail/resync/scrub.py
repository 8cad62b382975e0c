"""Reading everything, slowly and for ever, so that rot is found while there are good copies.

Of the index every record is read against its checksum, and what belongs together is compared. Of
the blob store every body that a message has is read against its sha256. A damaged or missing body
goes among the missing ones, to be fetched from a peer. A damaged record is handed to `suspect`,
which has it compared and fetched by a resync. Works on the open transaction, a page at a time; the
place it has come to, and how long that took, survive a restart.

That everything is read within the period is the promise, and the rate what it should cost: where
that does not suffice, rows are read as they are due by an even schedule, however many bytes it
takes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from struct import error as StructError
from zlib import crc32

from raftmail.mail.packing import CodecError
from raftmail.resync.missing import AWAITED_US, Missing
from raftmail.resync.pace import Schedule, TokenBucket
from raftmail.resync.source import BodySource
from raftmail.resync.state import read_local, write_local
from raftmail.storage import acl_table, annotation_table, dates, delivered, script_table, seen_table
from raftmail.storage.blobformat import unpack_place
from raftmail.storage.blobs import BlobDamaged, BlobMissing
from raftmail.storage.config_table import check_row
from raftmail.storage.index import REPLICATED, Index
from raftmail.storage.mailboxes import name_key, read_mailbox, read_text
from raftmail.storage.messages import read_uids
from raftmail.storage.records import (
    BLOBREF,
    CHANGE_KEY,
    CRC,
    DIGEST_MASK,
    FIXED,
    MESSAGE_BODY,
    MESSAGE_KEY,
    NUMBER,
    ClientRecord,
    IndexDamaged,
    message_digest,
    unpack_message,
    unseal,
    unseal_packed,
)

_AT = b"scrub/at"
_ROW_COST_BYTES = 64
_ROW_BYTES = 200
"""What a row of the index has, about: for an estimate of what there is to read."""

_TABLES = 14
_NEVER = 1e18


@dataclass(frozen=True, slots=True)
class ScrubLimits:
    """`rate_bytes_s` of records and bodies together, unless that is too little to read everything
    within `period_s`; 0 is no scrub at all. A round begins every `period_s`."""

    rate_bytes_s: int = 4 << 20
    burst_bytes: int = 1 << 20
    step_bytes: int = 256 << 10
    page_rows: int = 128
    period_s: float = 7 * 86_400.0
    findings_max: int = 1000


@dataclass(frozen=True, slots=True)
class Finding:
    """Something damaged. Of a body, `table` is "body" and `key` its hash; of a message, user,
    mailbox and UID are told where they are known."""

    table: str
    key: bytes
    text: str
    user: str = ""
    mailbox: str = ""
    uid: int = 0


@dataclass(slots=True)
class _Sum:
    """What the messages of the mailbox that is being read add up to. `whole`: it was read from its
    beginning, and all was good."""

    number: int
    highestmodseq: int
    whole: bool
    digest: int = 0
    count: int = 0


class Scrub:
    """One for the life of a replica. `findings` has the latest. `rounds` counts whole rounds since
    the start, and `round_s` tells what the last took. `dirty` tells that the open transaction has
    something of it.
    """

    def __init__(
        self,
        index: Index,
        bodies: BodySource,
        missing: Missing,
        suspect: Callable[[IndexDamaged], bool],
        limits: ScrubLimits | None = None,
    ) -> None:
        self.limits = limits = limits or ScrubLimits()
        self.findings: deque[Finding] = deque(maxlen=limits.findings_max)
        self.rounds = 0
        self.dirty = False
        self.read_bytes = 0
        self._index = index
        self._bodies = bodies
        self._missing = missing
        self._suspect = suspect
        self._bucket = TokenBucket(limits.rate_bytes_s, limits.burst_bytes)
        self.round_s = 0.0
        self.behind_at = _NEVER
        """From when on the round is behind its schedule, and goes on whatever the rate says."""
        self._schedule: Schedule | None = None
        self._warning = ""
        self._next_round = 0.0
        self._round_bytes = self._began_at_bytes = 0
        self._sum: _Sum | None = None
        self._table, self._key, self._took_s, self._done = self._read_place()
        # An engine's tables stay what they are.
        self._tables = {name: index.engine.table(name) for name in (*REPLICATED, "places", "local")}
        checks: tuple[tuple[str, Callable[[bytes, bytes], int]], ...] = (
            ("mailboxes", self._mailbox),
            ("names", self._name),
            ("messages", self._message),
            ("changes", self._change),
            ("expunges", self._expunge),
            ("subscriptions", self._text),
            ("acls", self._acl),
            ("sharers", self._text),
            ("seen", self._seen),
            ("annotations", self._annotation),
            ("scripts", self._script),
            ("users", self._text),
            ("clients", self._client),
            ("blobrefs", self._body),
            ("config", self._config),
            ("deliveries", self._delivery),
            ("delivered", self._delivered),
            ("dates", self._date),
            ("places", self._place),
            ("local", self._local),
        )
        self._checks = tuple((name, self._tables[name], check) for name, check in checks)

    def step(self, now: float) -> None:
        """Read what the rate allows or the schedule demands, about `step_bytes` at most."""
        limits = self.limits
        if limits.rate_bytes_s <= 0 or now < self._next_round:
            return
        schedule = self._schedule or self._begin(now)
        if not self._bucket.ready(now) and now < self.behind_at:
            return
        self._index.messages.settle()
        self._index.delivered.settle()
        left = limits.step_bytes
        while left > 0 and self._schedule and (self._bucket.ready(now) or now >= self.behind_at):
            cost = self._read_page(now, schedule)
            self._bucket.take(cost)
            left -= cost
        done = schedule.done if self._schedule else 0
        took_ms = int(1000 * (now - schedule.began)) if self._schedule else 0
        write_local(self._index, _AT, (self._table, self._key, took_ms, done))
        self.dirty = True

    def _begin(self, now: float) -> Schedule:
        """Begin a round, or go on with the one that was under way when the process ended."""
        limits = self.limits
        self._bucket = TokenBucket(limits.rate_bytes_s, limits.burst_bytes)
        began = now - min(self._took_s, limits.period_s)
        self._schedule = schedule = Schedule(limits.period_s, began, self._rows(), self._done)
        self.behind_at = schedule.due_at()
        self._began_at_bytes = self.read_bytes
        needed = self.needed_bytes_s
        if limits.rate_bytes_s < needed:
            self._warning = (
                f"scrub.rate_bytes_s = {limits.rate_bytes_s} is too low to read all within "
                f"scrub.period_s = {limits.period_s:g}: "
                f"{needed} are needed, and taken"
            )
        return schedule

    def take_warning(self) -> str:
        """Once in a round that needs more than the rate: what would be needed."""
        warning, self._warning = self._warning, ""
        return warning

    def _rows(self) -> int:
        return sum([table.count() for _, table, _ in self._checks])

    @property
    def needed_bytes_s(self) -> int:
        """What must be read in a second, on average, for a round to take no longer than the period:
        by what the last one read, or about, by what is stored."""
        stored = self._bodies.total_bytes + _ROW_BYTES * self._rows()
        return int((self._round_bytes or stored) / self.limits.period_s) + 1

    def _read_page(self, now: float, schedule: Schedule) -> int:
        """Read a page; what it cost."""
        name, table, check = self._checks[self._table]
        limit = 1 if name == "blobrefs" else self.limits.page_rows
        start = self._key + b"\0" if self._key else b""
        page = table.page(start, None, limit)
        cost = 0
        for key, record in page:
            try:
                cost += check(key, record)
                continue
            except IndexDamaged as e:
                self._tell(e)
                if e.is_local:
                    raise  # it is made again at once, by an opening
            except (ValueError, TypeError, CodecError, StructError) as e:
                self._tell(IndexDamaged(name, key, str(e)))
            cost += len(key) + len(record)
        self.read_bytes += cost
        schedule.done += len(page)
        self.behind_at = schedule.due_at()
        if len(page) == limit:
            self._key = page[-1][0]
        else:
            self._end_sum()
            self._key = b""
            self._table += 1
            schedule.rows = self._rows()
            if self._table == len(self._checks):
                self._end_round(now, schedule)
        return cost + _ROW_COST_BYTES

    def _end_round(self, now: float, schedule: Schedule) -> None:
        whole = not self._took_s and not self._done
        self._round_bytes = self.read_bytes - self._began_at_bytes if whole else 0
        self._table = self._done = 0
        self._took_s = 0.0
        self.rounds += 1
        self.round_s = now - schedule.began
        self._next_round = schedule.began + self.limits.period_s
        self._schedule = None
        self.behind_at = _NEVER

    def is_due(self, now: float) -> bool:
        """Whether a round is under way, or is to begin."""
        return self.limits.rate_bytes_s > 0 and now >= self._next_round

    def again(self) -> None:
        """Have a round begin now, however long it is to the next."""
        self._next_round = 0.0

    def is_late(self, now: float) -> bool:
        """A round takes longer than the period: the disk or the load does not let it."""
        return self._schedule is not None and now > self._schedule.began + self.limits.period_s

    def progress(self) -> str:
        """The table that is being read."""
        return self._checks[self._table][0]

    def _read_place(self) -> tuple[int, bytes, float, int]:
        """Table and key, seconds since the round began, and the rows so far."""
        try:
            table, key, took_ms, done = read_local(self._index, _AT)
            if 0 <= table < _TABLES and type(key) is bytes and took_ms >= 0 and done >= 0:
                return table, key, took_ms / 1000, int(done)
        except (IndexDamaged, TypeError, ValueError):
            pass
        return 0, b"", 0.0, 0

    def _tell(self, damage: IndexDamaged) -> None:
        if self._sum is not None:
            self._sum.whole = False
        user = mailbox = ""
        uid = 0
        key = damage.key
        if damage.table in ("messages", "summaries", "changes", "expunges", "mailboxes"):
            if len(key) >= NUMBER.size:
                user, mailbox = self._whose(NUMBER.unpack_from(key)[0])
            if damage.table in ("messages", "summaries") and len(key) == MESSAGE_KEY.size:
                uid = MESSAGE_KEY.unpack(key)[1]
            elif damage.table == "changes" and len(key) == CHANGE_KEY.size:
                uid = CHANGE_KEY.unpack(key)[2]
        self.findings.append(Finding(damage.table, key, str(damage), user, mailbox, uid))
        self._suspect(damage)

    def _whose(self, number: int) -> tuple[str, str]:
        try:
            mailbox = self._index.mailboxes.get(number)
        except IndexDamaged:
            return "", ""
        return (mailbox.user, mailbox.name) if mailbox is not None else ("", "")

    # -- checks of single records; each gives the bytes it read ------------------------------------

    def _mailbox(self, key: bytes, record: bytes) -> int:
        mailbox = read_mailbox(key, record)
        if NUMBER.pack(mailbox.number) != key:
            raise IndexDamaged("mailboxes", key, "it is another mailbox's")
        if self._tables["names"].get(self._filed(mailbox.number, key)) is None:
            raise IndexDamaged("names", key, f"mailbox {mailbox.number} has no name there")
        return len(record)

    def _filed(self, number: int, key: bytes) -> bytes:
        """Where the name is, which may have changed since the record was written."""
        mailbox = self._index.mailboxes.get(number)
        if mailbox is None:
            raise IndexDamaged("mailboxes", key, "it is gone")
        return name_key(mailbox.user, mailbox.name)

    def _name(self, key: bytes, record: bytes) -> int:
        (number,) = NUMBER.unpack(unseal("names", key, record))
        mailbox = self._index.mailboxes.get(number)
        if mailbox is None or name_key(mailbox.user, mailbox.name) != key:
            raise IndexDamaged("names", key, f"it leads to mailbox {number}, which is another")
        return len(record)

    def _message(self, key: bytes, record: bytes) -> int:
        number, uid = MESSAGE_KEY.unpack(key)
        fields = unpack_message(key, record)
        if message_digest(record[: MESSAGE_BODY.size]) != fields[6]:
            raise IndexDamaged("messages", key, "its digest is not of its fields")
        sum_ = self._sum
        if sum_ is None or sum_.number != number:
            self._end_sum()
            sum_ = self._begin_sum(number, key)
        sum_.digest += int.from_bytes(fields[6], "little")
        sum_.count += 1
        _, _, _, blob, summary_crc = FIXED.unpack(fields[5])
        tables = self._tables
        sealed = tables["summaries"].get(key)
        if sealed is None:
            raise IndexDamaged("summaries", key, "it is missing")
        if crc32(unseal("summaries", key, sealed)) != summary_crc:
            raise IndexDamaged("summaries", key, "it is another message's")
        change = CHANGE_KEY.pack(number, fields[1], uid)
        if tables["changes"].get(change) is None:
            raise IndexDamaged("changes", change, "it is missing")
        if tables["blobrefs"].get(blob) is None:
            raise IndexDamaged("blobrefs", blob, "it is missing")
        return len(record) + len(sealed)

    def _begin_sum(self, number: int, key: bytes) -> _Sum:
        mailbox = self._index.mailboxes.get(number)
        if mailbox is None:
            raise IndexDamaged("messages", key, f"there is no mailbox {number}")
        first = self._tables["messages"].page(NUMBER.pack(number), None, 1)
        self._sum = _Sum(number, mailbox.highestmodseq, first[0][0] == key)
        return self._sum

    def _end_sum(self) -> None:
        sum_, self._sum = self._sum, None
        if sum_ is None or not sum_.whole:
            return
        mailbox = self._index.mailboxes.get(sum_.number)
        if mailbox is None or mailbox.highestmodseq != sum_.highestmodseq:
            return
        if (sum_.digest & DIGEST_MASK, sum_.count) != (mailbox.digest, mailbox.messages):
            self._tell(
                IndexDamaged(
                    "mailboxes",
                    NUMBER.pack(sum_.number),
                    "its messages do not add up to what it has",
                )
            )

    def _place(self, key: bytes, record: bytes) -> int:
        unpack_place(unseal("places", key, record))
        return len(record)

    def _local(self, key: bytes, record: bytes) -> int:
        unseal("local", key, record)
        return len(record)

    def _change(self, key: bytes, record: bytes) -> int:
        number, modseq, uid = CHANGE_KEY.unpack(key)
        if record != CRC.pack(crc32(key)):
            raise IndexDamaged("changes", key)
        message_key = MESSAGE_KEY.pack(number, uid)
        message = self._tables["messages"].get(message_key)
        if message is None or unpack_message(message_key, message)[1] != modseq:
            raise IndexDamaged("changes", key, "no message has changed in this step")
        return len(key) + 113

    def _expunge(self, key: bytes, record: bytes) -> int:
        read_uids(key, record)
        return len(record)

    def _text(self, key: bytes, record: bytes) -> int:
        read_text(self._checks[self._table][0], key, record)
        return len(record)

    def _config(self, key: bytes, record: bytes) -> int:
        check_row(key, record)
        return len(record)

    def _client(self, key: bytes, record: bytes) -> int:
        ClientRecord.unpacked(unseal_packed("clients", key, record))
        return len(record)

    def _delivery(self, key: bytes, record: bytes) -> int:
        delivered.check_row(key, record)
        return len(record)

    def _delivered(self, key: bytes, record: bytes) -> int:
        delivery = NUMBER.pack(delivered.read_number(key, record))
        if self._tables["deliveries"].get(delivery) is None:
            raise IndexDamaged("delivered", key, "it leads to no delivery")
        return len(record)

    def _date(self, key: bytes, record: bytes) -> int:
        dates.check_row(key, record)
        if key != dates.STATE and self._tables["messages"].get(key) is None:
            raise IndexDamaged(dates.TABLE, key, "there is no such message")
        return len(record)

    def _acl(self, key: bytes, record: bytes) -> int:
        acl_table.check_row(key, record)
        acl_table.check_owner(self._index.engine, key)
        return len(record)

    def _seen(self, key: bytes, record: bytes) -> int:
        seen_table.check_row(key, record)
        seen_table.check_owner(self._index.engine, key)
        return len(record)

    def _annotation(self, key: bytes, record: bytes) -> int:
        annotation_table.check_row(key, record)
        annotation_table.check_owner(self._index.engine, key)
        return len(record)

    def _script(self, key: bytes, record: bytes) -> int:
        script_table.check_row(key, record)
        return len(record)

    def _body(self, key: bytes, record: bytes) -> int:
        _, size = BLOBREF.unpack(unseal("blobrefs", key, record))
        try:
            return len(self._bodies.get(key))
        except (BlobMissing, BlobDamaged) as e:
            if self._missing.add(key, size, AWAITED_US):
                self.findings.append(Finding("body", key, str(e)))
            return int(size)
