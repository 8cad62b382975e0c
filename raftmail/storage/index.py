"""The index of one shard replica: everything about its mail but the bodies, in one LMDB
environment.

Tables (all records carry checksums):

| table | key | record |
|---|---|---|
| meta | name | format; identity; membership, and its index; state: applied index and |
|   |   | term, next mailbox number, last UIDVALIDITY |
| mailboxes | number | counters, digest, keyword table (`records.MailboxRecord`) |
| names | user NUL name | mailbox number |
| subscriptions | user NUL name | the name |
| acls | number | identifiers and their rights (see `storage/acl_table.py`) |
| sharers | user NUL owner | the owner, who may share mailboxes with the user |
| seen | see `storage/seen_table.py` | what guests have seen |
| annotations | see `storage/annotation_table.py` | a value of METADATA |
| scripts | see `storage/script_table.py` | delivery rules |
| users | address | what is kept of the passwords (`mail.app_passwords`) |
| config | see `storage/config_table.py` | the cluster's configuration |
| messages | mailbox number, UID | hot record of fixed size (`records.MESSAGE`) |
| summaries | mailbox number, UID | the encoded summary |
| dates | mailbox number, UID | see `storage/dates.py` |
| changes | mailbox number, modseq, UID | (nothing) |
| expunges | mailbox number, modseq | the UIDs that vanished in that step |
| blobrefs | sha256 | number of messages that have this body, its size |
| clients | client id | floor and results (P3) |
| deliveries, delivered | see `storage/delivered.py` | what was delivered, and where it went (P9) |
| places, local | | this replica's own; not replicated, in no digest |

A write transaction is open at all times; `commit` ends it. What is cached as objects is written by
`flush`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from raftmail.storage import annotation_table, dates, script_table
from raftmail.storage.acl_table import AclTable
from raftmail.storage.annotation_table import Annotations
from raftmail.storage.clients import Clients
from raftmail.storage.column_pool import ColumnPool
from raftmail.storage.config_table import ConfigTable
from raftmail.storage.delivered import Delivered, digested_rows
from raftmail.storage.disk import DiskError, LaterRelease
from raftmail.storage.known_columns import KnownColumns
from raftmail.storage.known_uids import KnownUids
from raftmail.storage.kv import KvEngine, Row, TableDamaged, Tables, scan
from raftmail.storage.mailboxes import Mailboxes, UserNames, Users
from raftmail.storage.messages import Messages
from raftmail.storage.records import (
    LOCAL,
    IndexDamaged,
    MailboxRecord,
    seal,
    seal_packed,
    unseal,
    unseal_packed,
)
from raftmail.storage.script_table import ScriptTable
from raftmail.storage.seen_table import SeenTable

__all__ = ["LOCAL", "REPLICATED", "TABLES", "Index", "IndexDamaged", "IndexFailed", "IndexIdentity"]

FORMAT = 1
REPLICATED = (
    "mailboxes",
    "names",
    "subscriptions",
    "acls",
    "sharers",
    "seen",
    "annotations",
    "scripts",
    "users",
    "config",
    "messages",
    "summaries",
    "dates",
    "changes",
    "expunges",
    "blobrefs",
    "clients",
    "deliveries",
    "delivered",
)
"""Equal, row for row, on all replicas that have applied and flushed the same."""

TABLES = LOCAL + REPLICATED

_DIGESTED = ("mailboxes", "subscriptions", "users", "config", "clients", "acls", "sharers", "seen")


def digested(tables: Tables) -> Iterator[Row]:
    """The rows that a shard's digest covers, in this order."""
    for name in _DIGESTED:
        yield from scan(tables.table(name))
    yield from digested_rows(tables)
    yield from dates.digested_rows(tables)
    yield from annotation_table.digested_rows(tables)
    yield from script_table.digested_rows(tables)


MEMBERSHIP = b"membership"


def membership_in(tables: Tables) -> tuple[int, bytes] | None:
    """What `Index.membership` is, of a view. Raises `IndexDamaged`."""
    record = tables.table("meta").get(MEMBERSHIP)
    if record is None:
        return None
    found = unseal_packed("meta", MEMBERSHIP, record)
    if type(found) is not tuple or tuple(map(type, found)) != (int, bytes):
        raise IndexDamaged("meta", MEMBERSHIP, "it is not an index and bytes")
    return found[0], found[1]


class IndexFailed(DiskError):
    """An error came while the index was being changed: nothing can be committed until
    `Index.abort`."""


class IndexOfLaterRelease(IndexFailed, LaterRelease):
    """The index is in a format that a later release brought."""


@dataclass(frozen=True, slots=True)
class IndexIdentity:
    """Whose index it is, so that a folder in the wrong place is noticed."""

    cluster: str
    shard: int
    replica: str


class Index:
    """The schema over an engine. Implements `storage.blobs.PlaceTable`.

    `applied_index` and `applied_term` are of the last entry applied to the open transaction;
    `durable_index` is the applied index that is certainly on the disk. `membership` are the index
    and the bytes of the newest membership that was applied; None in an index without one."""

    def __init__(self, engine: KvEngine, identity: IndexIdentity | None = None) -> None:
        """Open, and make it `identity`'s when it is new. Raises `IndexDamaged`, `IndexFailed` for
        another format or identity."""
        self.engine = engine
        self._meta = engine.table("meta")
        self._places = engine.table("places")
        self._local = engine.table("local")
        self._failed = ""
        self.identity = identity
        self._column_pool = ColumnPool()
        self._open()
        # What a process committed last before it was killed may be on the disk in part. A log that
        # is trimmed by it must not outlive it.
        engine.sync()
        self.durable_index = self.committed_index = self.applied_index

    def _open(self) -> None:
        engine = self.engine
        self.mailboxes = Mailboxes(engine)
        self.subscriptions = UserNames(engine, "subscriptions")
        self.sharers = UserNames(engine, "sharers")
        self.acls = AclTable(engine)
        self.seen = SeenTable(engine)
        self.annotations = Annotations(engine)
        self.scripts = ScriptTable(engine)
        self.users = Users(engine)
        self.config = ConfigTable(engine.table("config"))
        self.messages = Messages(engine)
        self.known_uids = KnownUids(self.messages)
        self.known_columns = KnownColumns(self.messages, self._column_pool)
        self.clients = Clients(engine.table("clients"))
        self.delivered = Delivered(engine)
        self.applied_index = self.applied_term = 0
        self.next_mailbox = 1
        self.last_uidvalidity = 0
        self._check_format()
        record = self._meta.get(b"state")
        if record is not None:
            try:
                (
                    self.applied_index,
                    self.applied_term,
                    self.next_mailbox,
                    self.last_uidvalidity,
                ) = unseal_packed("meta", b"state", record)
            except (ValueError, TypeError) as e:
                raise IndexDamaged("meta", b"state", str(e)) from None
        self.membership = membership_in(engine)

    def share(self, pool: ColumnPool) -> None:
        """Keep columns of messages where the other replicas of the process do."""
        self._column_pool = pool
        self.messages.kept.clear()
        self.known_columns = KnownColumns(self.messages, pool)

    def put_membership(self, index: int, encoded: bytes) -> None:
        """Keep the membership that is in force from `index` on, in the open transaction."""
        self.membership = (index, encoded)
        self._meta.put(MEMBERSHIP, seal_packed(MEMBERSHIP, self.membership))

    def _check_format(self) -> None:
        record = self._meta.get(b"format")
        if record is None:
            self._meta.put(b"format", seal_packed(b"format", FORMAT))
        else:
            found = unseal_packed("meta", b"format", record)
            if found != FORMAT:
                raise IndexOfLaterRelease(
                    f"the index has format {found}; this release reads {FORMAT}: start the "
                    f"release that wrote it"
                )
        record = self._meta.get(b"identity")
        if record is not None:
            try:
                found = IndexIdentity(*unseal_packed("meta", b"identity", record))
            except TypeError as e:
                raise IndexDamaged("meta", b"identity", str(e)) from None
            if self.identity is None:
                self.identity = found
            elif found != self.identity:
                raise IndexFailed(f"this is the index of {found}, not of {self.identity}")
        elif self.identity is not None:
            mine = (self.identity.cluster, self.identity.shard, self.identity.replica)
            self._meta.put(b"identity", seal_packed(b"identity", mine))

    # Transactions

    @property
    def failed(self) -> str:
        """Why nothing can be applied or committed before an `abort`: what is held back may be lost
        since an apply failed, or any other change of the open transaction; "" while all is well."""
        return self._failed or self.engine.broken

    def fail(self, why: str) -> None:
        """An apply did not come to its end."""
        self._failed = why

    def flush(self) -> None:
        """Write what is held as objects into the open transaction. Raises `IndexFailed` after a
        failed apply."""
        if self.failed:
            raise IndexFailed(f"nothing can be committed before an abort: {self.failed}")
        self.messages.settle()
        self.mailboxes.flush()
        self.clients.flush()
        self.delivered.flush()
        self.messages.dates.flush()
        state = (
            self.applied_index,
            self.applied_term,
            self.next_mailbox,
            self.last_uidvalidity,
        )
        self._meta.put(b"state", seal_packed(b"state", state))

    def commit(self, sync: bool = True) -> None:
        """End the transaction and begin the next. Without `sync`, what is committed is durable
        after the next commit. Raises `DiskFull` and other `DiskError`, after which only `abort`
        helps."""
        try:
            self.flush()
            self.engine.commit(sync)
        except DiskError as e:
            self._failed = self.failed or str(e)
            raise
        self.durable_index = self.applied_index if sync else self.committed_index
        self.committed_index = self.applied_index

    def abort(self) -> None:
        """Go back to the last commit. Raises `TableDamaged` when what is read at every opening was
        damaged since the last one."""
        self.engine.abort()
        self._failed = ""
        try:
            self._open()
        except IndexDamaged as e:
            raise TableDamaged(str(e)) from e

    def close(self) -> None:
        """Close without committing."""
        self.engine.close()

    # What is derived

    def new_mailbox(
        self, user: str, name: str, guid: bytes, uidvalidity_seed: int, special_use: str
    ) -> MailboxRecord:
        """Make a mailbox under a name that is free. Its UIDVALIDITY is the seed, or the next that
        this shard has not used."""
        uidvalidity = max(uidvalidity_seed, self.last_uidvalidity + 1)
        mailbox = MailboxRecord(self.next_mailbox, user, name, guid, uidvalidity, special_use)
        self.last_uidvalidity = uidvalidity
        self.next_mailbox += 1
        self.mailboxes.add(mailbox)
        return mailbox

    def digest(self) -> bytes:
        """16 bytes, equal on replicas with the same applied index.

        They differ when anything replicated does:

        - the records of mailboxes, each with the digest of its messages;
        - subscriptions, users, configuration, clients, who may do what with mailboxes, who
          shares with whom, and what guests have seen;
        - what was delivered, dates of messages, annotations and scripts, by digests that are kept
          up to date;
        - the counters.

        Cost is that of the mailboxes and clients, not of the messages.
        """
        self.flush()
        total = blake2b(digest_size=16)
        total.update(
            b"%d %d %d" % (self.applied_index, self.next_mailbox, self.last_uidvalidity),
        )
        for key, record in digested(self.engine):
            total.update(b"%d %d " % (len(key), len(record)))
            total.update(key)
            total.update(record)
        return total.digest()

    def references(self, digest: bytes) -> int:
        """How many messages have a body."""
        return self.messages.references(digest)

    # PlaceTable

    def get_place(self, digest: bytes) -> bytes | None:
        """Where the blob store has a body. Raises `IndexDamaged`."""
        record = self._places.get(digest)
        return None if record is None else unseal("places", digest, record)

    def places_from(self, digest: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """Bodies and their places, from a digest on. Raises `IndexDamaged`."""
        rows = self._places.page(digest, None, limit)
        return [(found, unseal("places", found, record)) for found, record in rows]

    def put_places(self, places: Sequence[tuple[bytes, bytes]]) -> None:
        rows = [(digest, seal(digest, place)) for digest, place in places]
        rows.sort()
        self._places.put_many(rows)

    def delete_place(self, digest: bytes) -> None:
        self._places.delete(digest)

    def get_local(self, key: bytes) -> bytes | None:
        """A value of this replica's own. Raises `IndexDamaged`."""
        record = self._local.get(key)
        return None if record is None else unseal("local", key, record)

    def put_local(self, key: bytes, value: bytes) -> None:
        self._local.put(key, seal(key, value))

    def commit_durable(self) -> None:
        """`commit`, durable on return."""
        self.commit(sync=True)
