"""The tables of mailboxes, of their names, of subscriptions, of who shares with whom and of users.

A name is filed under `user NUL name`; where that is longer than a key can be, under its beginning
and a hash of the whole. Mailboxes are cached as objects, changed there, and written when the
transaction is flushed.
"""

from __future__ import annotations

from functools import partial
from hashlib import blake2b

from raftmail.storage.kv import KEY_BYTES_MAX, KvEngine, Table, after_prefix, scan
from raftmail.storage.records import (
    NUMBER,
    IndexDamaged,
    MailboxRecord,
    seal,
    seal_packed,
    unseal,
    unseal_packed,
)
from raftmail.storage.rotten_keys import RottenKeys

CACHED_MAX = 100_000
"""Mailboxes kept as objects from one transaction to the next."""

_HASHED_FROM = KEY_BYTES_MAX - 16


def name_key(user: str, name: str) -> bytes:
    """Where a name of a user is filed."""
    key = b"%b\0%b" % (user.encode(), name.encode())
    if len(key) > _HASHED_FROM:
        key = key[:_HASHED_FROM] + blake2b(key, digest_size=16).digest()
    return key


def user_range(user: str) -> tuple[bytes, bytes | None]:
    """The range of keys that names of a user are filed under."""
    prefix = user.encode() + b"\0"
    return prefix, after_prefix(prefix)


class Mailboxes:
    """Mailboxes by number and by name."""

    def __init__(self, engine: KvEngine) -> None:
        self._records = engine.table("mailboxes")
        self._names = engine.table("names")
        self._rotten = RottenKeys("names", self._names, partial(unseal, "names"))
        self._cache: dict[int, MailboxRecord] = {}
        self._dirty: dict[int, MailboxRecord] = {}
        self._touched: dict[int, MailboxRecord] | None = None
        self._relisted: set[str] = set()

    def note_changes(self) -> None:
        """From now on keep what changes, for `take_changes`."""
        if self._touched is None:
            self._touched = {}
            for mailbox in self._dirty.values():
                mailbox.dirty = False

    def note_nothing(self) -> None:
        """Keep no changes any more."""
        self._touched = None
        self._relisted.clear()

    def take_changes(self) -> tuple[list[MailboxRecord], set[str]]:
        """What changed since the last call: mailboxes, and users whose list of mailboxes or of
        subscriptions did."""
        touched, relisted = self._touched, self._relisted
        if not touched and not relisted:
            return [], set()
        found = list((touched or {}).values())
        for mailbox in found:
            mailbox.dirty = False  # the next change is noted again; it is written all the same
        self._touched, self._relisted = {}, set()
        return found, relisted

    def relisted(self, user: str) -> None:
        """A user's list of mailboxes or subscriptions changes."""
        if self._touched is not None:
            self._relisted.add(user)

    def get(self, number: int) -> MailboxRecord | None:
        """Raises `IndexDamaged`."""
        mailbox = self._cache.get(number)
        if mailbox is not None:
            return mailbox
        if not 0 < number < 2**64:
            return None
        key = NUMBER.pack(number)
        record = self._records.get(key)
        if record is None:
            return None
        mailbox = self._cache[number] = read_mailbox(key, record)
        return mailbox

    def named(self, user: str, name: str) -> MailboxRecord | None:
        """By name, which is in its normal form. Raises `IndexDamaged`."""
        key = name_key(user, name)
        record = self._names.get(key)
        if record is None:
            self._rotten.check_missing(key)
            return None
        return self._listed(key, record)

    def of(self, user: str) -> list[MailboxRecord]:
        """All of a user, ordered by name. Raises `IndexDamaged`."""
        start, end = user_range(user)
        rows = list(scan(self._names, start, end))
        found = [self._listed(key, record) for key, record in rows]
        self._rotten.check_range(start, end, rows)
        found.sort(key=lambda mailbox: mailbox.name)
        return found

    def after(self, number: int, limit: int) -> list[MailboxRecord]:
        """Those of all users with higher numbers, ascending, at most `limit`. They are for looking
        at alone: none is cached, and one that was made since the last `flush` is left out. Raises
        `IndexDamaged`."""
        rows = self._records.page(NUMBER.pack(number + 1), None, limit)
        cached = self._cache.get
        return [cached(NUMBER.unpack(key)[0]) or read_mailbox(key, value) for key, value in rows]

    def count(self, user: str, most: int) -> int:
        """How many a user has, counted up to `most`."""
        return len(self._names.page(*user_range(user), most))

    def add(self, mailbox: MailboxRecord) -> None:
        """File a new mailbox."""
        self._cache[mailbox.number] = mailbox
        self.relisted(mailbox.user)
        self._file(mailbox)

    def remove(self, mailbox: MailboxRecord) -> None:
        """Forget a mailbox whose messages are gone."""
        self._names.delete(name_key(mailbox.user, mailbox.name))
        self._records.delete(NUMBER.pack(mailbox.number))
        self._cache.pop(mailbox.number, None)
        self._dirty.pop(mailbox.number, None)
        if self._touched is not None:
            self._touched.pop(mailbox.number, None)
            self._relisted.add(mailbox.user)

    def rename(self, mailbox: MailboxRecord, name: str) -> None:
        self.relisted(mailbox.user)
        self._names.delete(name_key(mailbox.user, mailbox.name))
        mailbox.name = name
        self._file(mailbox)

    def touch(self, mailbox: MailboxRecord) -> None:
        """Have a changed mailbox written."""
        if not mailbox.dirty:
            mailbox.dirty = True
            self._dirty[mailbox.number] = mailbox
            if self._touched is not None:
                self._touched[mailbox.number] = mailbox

    def flush(self) -> None:
        """Write what changed into the open transaction."""
        for number, mailbox in sorted(self._dirty.items()):
            key = NUMBER.pack(number)
            self._records.put(key, seal_packed(key, mailbox.packed()))
            mailbox.dirty = False
        self._dirty.clear()

    def trim(self) -> bool:
        """Empty the cache if it has grown too large; whether it did, so that who holds mailboxes
        lets go of them. Only after `flush`."""
        if len(self._cache) <= CACHED_MAX:
            return False
        self._cache.clear()
        return True

    def _file(self, mailbox: MailboxRecord) -> None:
        key = name_key(mailbox.user, mailbox.name)
        self._names.put(key, seal(key, NUMBER.pack(mailbox.number)))
        self.touch(mailbox)

    def _listed(self, key: bytes, record: bytes) -> MailboxRecord:
        value = unseal("names", key, record)
        mailbox = self.get(NUMBER.unpack(value)[0]) if len(value) == NUMBER.size else None
        if mailbox is None:
            raise IndexDamaged("names", key, "there is no such mailbox")
        return mailbox


def read_mailbox(key: bytes, record: bytes) -> MailboxRecord:
    """A mailbox from its record. Raises `IndexDamaged`."""
    try:
        return MailboxRecord.unpacked(unseal_packed("mailboxes", key, record))
    except (ValueError, TypeError, AttributeError) as e:
        raise IndexDamaged("mailboxes", key, str(e)) from None


class UserNames:
    """Names that users have: those that they subscribed to, or of users who share with them."""

    def __init__(self, engine: KvEngine, table: str) -> None:
        self._name = table
        self._table = engine.table(table)
        self._rotten = RottenKeys(table, self._table, partial(unseal, table))

    def has(self, user: str, name: str) -> bool:
        return self._table.get(name_key(user, name)) is not None

    def put(self, user: str, name: str) -> None:
        key = name_key(user, name)
        self._table.put(key, seal(key, name.encode()))

    def delete(self, user: str, name: str) -> bool:
        return self._table.delete(name_key(user, name))

    def of(self, user: str) -> list[str]:
        """All of a user, ordered. Raises `IndexDamaged`."""
        start, end = user_range(user)
        rows = list(scan(self._table, start, end))
        self._rotten.check_range(start, end, rows)
        return sorted(read_text(self._name, key, record) for key, record in rows)

    def count(self, user: str, most: int) -> int:
        return len(self._table.page(*user_range(user), most))


class Users:
    """Addresses and password hashes; only the root shard has any."""

    def __init__(self, engine: KvEngine) -> None:
        self._table: Table = engine.table("users")
        self._rotten = RottenKeys("users", self._table, partial(unseal, "users"))

    def get(self, address: str) -> str | None:
        """The password hash. Raises `IndexDamaged`."""
        key = address.encode()
        record = self._table.get(key)
        if record is None:
            self._rotten.check_missing(key)
            return None
        return read_text("users", key, record)

    def put(self, address: str, password_hash: str) -> None:
        key = address.encode()
        self._table.put(key, seal(key, password_hash.encode()))

    def delete(self, address: str) -> bool:
        return self._table.delete(address.encode())

    def after(self, address: str, limit: int) -> list[str]:
        """Addresses above `address`, ordered, at most `limit`."""
        start = address.encode() + b"\0" if address else b""
        return [key.decode() for key, _ in self._table.page(start, None, limit)]


def read_text(table: str, key: bytes, record: bytes) -> str:
    """A sealed record that is text. Raises `IndexDamaged`."""
    try:
        return unseal(table, key, record).decode()
    except UnicodeDecodeError as e:
        raise IndexDamaged(table, key, str(e)) from None
