"""The table of who may do what with mailboxes (RFC 4314): by the mailbox's number, identifiers with
their rights. A mailbox that is shared with nobody has no row. All rows are sealed."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Final

from raftmail.mail.rights import AclEntry, check_entries
from raftmail.storage.kv import KvEngine, Tables, scan
from raftmail.storage.records import NUMBER, IndexDamaged, seal_packed, unseal, unseal_packed
from raftmail.storage.rotten_keys import RottenKeys

TABLE: Final = "acls"


class AclTable:
    """Entries by number of the mailbox."""

    def __init__(self, engine: KvEngine) -> None:
        self._table = engine.table(TABLE)
        self._rotten = RottenKeys(TABLE, self._table, partial(unseal, TABLE))

    def of(self, number: int) -> tuple[AclEntry, ...]:
        """Of a mailbox, ordered. Raises `IndexDamaged`."""
        key = NUMBER.pack(number)
        record = self._table.get(key)
        if record is None:
            self._rotten.check_missing(key)
            return ()
        return read_entries(key, record)

    def put(self, number: int, entries: tuple[AclEntry, ...]) -> None:
        """Ordered entries in place of those that there are."""
        key = NUMBER.pack(number)
        if entries:
            self._table.put(key, seal_packed(key, entries))
        else:
            self._table.delete(key)


def read_entries(key: bytes, record: bytes) -> tuple[AclEntry, ...]:
    """The entries of a row. Raises `IndexDamaged`."""
    entries = unseal_packed(TABLE, key, record)
    try:
        check_entries("entries", entries)
    except ValueError as e:
        raise IndexDamaged(TABLE, key, str(e)) from None
    if len(key) != NUMBER.size or not entries:
        raise IndexDamaged(TABLE, key, "it is no mailbox's list")
    found: tuple[AclEntry, ...] = entries
    return found


def check_row(key: bytes, record: bytes) -> None:
    """Whether a row is well-formed in itself. Raises `IndexDamaged`."""
    read_entries(key, record)


def check_owner(tables: Tables, key: bytes) -> None:
    """Whether there is the mailbox that a row is of. Raises `IndexDamaged`."""
    if tables.table("mailboxes").get(key) is None:
        raise IndexDamaged(TABLE, key, "there is no such mailbox")


def check(tables: Tables) -> Iterator[IndexDamaged]:
    """fsck: what is wrong with the table. Raises nothing."""
    for key, record in scan(tables.table(TABLE)):
        try:
            check_row(key, record)
            check_owner(tables, key)
        except IndexDamaged as e:
            yield e
