"""The table of what guests have seen, in mailboxes where each has a \\Seen of the own.

| key | record |
|---|---|
| number | nothing: each guest of the mailbox has the own |
| number, guest | the UIDs that the guest has seen; some may be gone |

All rows are sealed. A mailbox without its row has no others.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Final

from raftmail.mail.names import check_user_name
from raftmail.mail.uidset import UID_MAX, UidSet
from raftmail.storage.kv import KvEngine, Tables, after_prefix, scan
from raftmail.storage.records import NUMBER, IndexDamaged, seal, seal_packed, unseal, unseal_packed
from raftmail.storage.rotten_keys import RottenKeys

TABLE: Final = "seen"
SEEN_RANGES_MAX: Final = 10_000
"""Ranges of UIDs that are kept of one guest in one mailbox, some 6 bytes each."""


class SeenTable:
    """By number of the mailbox, and guest."""

    def __init__(self, engine: KvEngine) -> None:
        self._table = engine.table(TABLE)
        self._rotten = RottenKeys(TABLE, self._table, partial(unseal, TABLE))

    def is_own(self, number: int) -> bool:
        """Whether each guest of a mailbox has the own. Raises `IndexDamaged`."""
        key = NUMBER.pack(number)
        record = self._table.get(key)
        if record is None:
            self._rotten.check_missing(key)
            return False
        check_row(key, record)
        return True

    def of(self, number: int, guest: str) -> UidSet:
        """What a guest has seen. Raises `IndexDamaged`."""
        key = NUMBER.pack(number) + guest.encode()
        record = self._table.get(key)
        if record is None:
            self._rotten.check_missing(key)
            return UidSet()
        return _read_uids(key, record)

    def put(self, number: int, guest: str, uids: UidSet) -> None:
        """What a guest has seen from now on."""
        key = NUMBER.pack(number) + guest.encode()
        if uids:
            self._table.put(key, seal_packed(key, uids.to_wire()))
        else:
            self._table.delete(key)

    def set_own(self, number: int, own: bool) -> None:
        """From now on each guest has the own, or none has, and what they have seen is forgotten."""
        key = NUMBER.pack(number)
        if own:
            self._table.put(key, seal(key, b""))
            return
        for one, _ in list(scan(self._table, key, after_prefix(key))):
            self._table.delete(one)


def _read_uids(key: bytes, record: bytes) -> UidSet:
    raw = unseal_packed(TABLE, key, record)
    try:
        check_user_name(key[NUMBER.size :].decode())
        uids = UidSet.from_wire(raw)
    except ValueError as e:
        raise IndexDamaged(TABLE, key, str(e)) from None
    if not uids or uids.last > UID_MAX:
        raise IndexDamaged(TABLE, key, "it is no set of UIDs")
    return uids


def check_row(key: bytes, record: bytes) -> None:
    """Whether a row is well-formed in itself. Raises `IndexDamaged`."""
    if len(key) > NUMBER.size:
        _read_uids(key, record)
    elif len(key) < NUMBER.size or unseal(TABLE, key, record):
        raise IndexDamaged(TABLE, key, "it is of no mailbox")


def check_owner(tables: Tables, key: bytes) -> None:
    """Whether there is the mailbox that a row is of, and its guests have the own. Raises
    `IndexDamaged`."""
    number = key[: NUMBER.size]
    if tables.table("mailboxes").get(number) is None:
        raise IndexDamaged(TABLE, key, "there is no such mailbox")
    if tables.table(TABLE).get(number) is None:
        raise IndexDamaged(TABLE, key, "guests have not the own there")


def check(tables: Tables) -> Iterator[IndexDamaged]:
    """fsck: what is wrong with the table. Raises nothing."""
    for key, record in scan(tables.table(TABLE)):
        try:
            check_row(key, record)
            check_owner(tables, key)
        except IndexDamaged as e:
            yield e
