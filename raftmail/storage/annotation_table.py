"""The table of annotations (RFC 5464): of mailboxes by their number, and of users under number 0.

| key | record |
|---|---|
| user, NUL | what all of the user's are together: their count, bytes, and sum of digests |
| user, NUL, number, name | the value |

Who has no annotations has no row. All rows are sealed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from hashlib import blake2b
from typing import Final, NamedTuple

from raftmail.mail.annotations import check_annotation, check_annotation_name
from raftmail.storage.kv import KvEngine, Row, Tables, after_prefix, scan
from raftmail.storage.mailboxes import read_mailbox
from raftmail.storage.records import (
    DIGEST_MASK,
    NUMBER,
    IndexDamaged,
    seal,
    seal_packed,
    unseal,
    unseal_packed,
)
from raftmail.storage.rotten_keys import RottenKeys

TABLE: Final = "annotations"


class AnnotationTotals(NamedTuple):
    """What all annotations of a user are together. `digest` is the sum of those of the rows modulo
    2^128."""

    rows: int = 0
    bytes: int = 0
    """Of names and values."""

    digest: int = 0


_NOTHING: Final = AnnotationTotals()


class Annotations:
    """Values by user, number of the mailbox (0: the user's own) and name.

    Invariant: the totals are those of the rows."""

    def __init__(self, engine: KvEngine) -> None:
        self._table = engine.table(TABLE)
        self._rotten = RottenKeys(TABLE, self._table, partial(unseal, TABLE))

    def totals(self, user: str) -> AnnotationTotals:
        """Raises `IndexDamaged`."""
        key = _head(user)
        record = self._table.get(key)
        if record is None:
            self._rotten.check_missing(key)
            return _NOTHING
        return _read_totals(key, record)

    def of(self, user: str, number: int) -> dict[str, bytes]:
        """All of a mailbox, or of number 0, ordered by name. Raises `IndexDamaged`."""
        if self.totals(user) == _NOTHING:
            return {}
        owner = _head(user) + NUMBER.pack(number)
        return {_name(key, owner): unseal(TABLE, key, record) for key, record in self._rows(owner)}

    def of_all(self, user: str) -> list[tuple[int, str, bytes]]:
        """All of a user: number, name and value, ordered. Raises `IndexDamaged`."""
        head = _head(user)
        totals = self.totals(user)
        if totals == _NOTHING:
            return []
        rows = self._rows(head)[1:]
        if len(rows) != totals.rows:
            raise IndexDamaged(TABLE, head, f"there are {len(rows)} rows, and not {totals.rows}")
        start = len(head) + NUMBER.size
        return [
            (_number(key, head), _name(key, key[:start]), unseal(TABLE, key, record))
            for key, record in rows
        ]

    def put(self, user: str, number: int, entries: Sequence[tuple[str, bytes | None]]) -> None:
        """Set values; None takes one away. Each name stands once. Raises `IndexDamaged`."""
        head = _head(user)
        owner = head + NUMBER.pack(number)
        rows, size, digest = self.totals(user)
        before = self.of(user, number)
        for name, value in entries:
            key = owner + name.encode("ascii")
            known = before.get(name)
            if known is not None:
                rows, size = rows - 1, size - len(name) - len(known)
                digest -= _row_digest(key, known)
            if value is not None:
                rows, size = rows + 1, size + len(name) + len(value)
                digest += _row_digest(key, value)
                self._table.put(key, seal(key, value))
            elif known is not None:
                self._table.delete(key)
        if rows:
            self._table.put(head, seal_packed(head, _packed(rows, size, digest)))
        else:
            self._table.delete(head)

    def forget(self, user: str, number: int) -> None:
        """A mailbox is gone. Raises `IndexDamaged`."""
        names = self.of(user, number)
        if names:
            self.put(user, number, [(name, None) for name in names])

    def forget_user(self, user: str) -> None:
        """Take all of a user away."""
        head = _head(user)
        for key, _ in list(scan(self._table, head, after_prefix(head))):
            self._table.delete(key)

    def _rows(self, prefix: bytes) -> list[Row]:
        end = after_prefix(prefix)
        rows = list(scan(self._table, prefix, end))
        self._rotten.check_range(prefix, end, rows)
        return rows


def _head(user: str) -> bytes:
    return user.encode() + b"\0"


def _head_of(key: bytes) -> bytes:
    user, nul, _ = key.partition(b"\0")
    return user + nul


def _name(key: bytes, owner: bytes) -> str:
    return key[len(owner) :].decode("ascii", "replace")


def _number(key: bytes, head: bytes) -> int:
    return int.from_bytes(key[len(head) : len(head) + NUMBER.size], "big")


def _row_digest(key: bytes, value: bytes) -> int:
    return int.from_bytes(blake2b(key + value, digest_size=16).digest(), "little")


def _packed(rows: int, size: int, digest: int) -> tuple[int, int, bytes]:
    return rows, size, (digest & DIGEST_MASK).to_bytes(16, "little")


def _read_totals(key: bytes, record: bytes) -> AnnotationTotals:
    raw = unseal_packed(TABLE, key, record)
    if (
        type(raw) is tuple
        and tuple(map(type, raw)) == (int, int, bytes)
        and raw[0] > 0
        and raw[1] >= 0
        and len(raw[2]) == 16
    ):
        return AnnotationTotals(raw[0], raw[1], int.from_bytes(raw[2], "little"))
    raise IndexDamaged(TABLE, key, "it is not a count, bytes and a digest")


def check_row(key: bytes, record: bytes) -> None:
    """Whether a row is well-formed in itself. Raises `IndexDamaged`."""
    head = _head_of(key)
    if len(head) < 2 or head[-1]:
        raise IndexDamaged(TABLE, key, "it is nobody's")
    if key == head:
        _read_totals(key, record)
        return
    value = unseal(TABLE, key, record)
    try:
        check_annotation_name("name", key[len(head) + NUMBER.size :].decode("latin-1"))
        check_annotation("value", value)
    except ValueError as e:
        raise IndexDamaged(TABLE, key, str(e)) from None


def check_owner(tables: Tables, key: bytes) -> None:
    """Whether there is the mailbox that a row is of. Raises `IndexDamaged`."""
    head = _head_of(key)
    number = _number(key, head)
    if key == head or not number:
        return
    filed = NUMBER.pack(number)
    record = tables.table("mailboxes").get(filed)
    if record is None:
        raise IndexDamaged(TABLE, key, "there is no such mailbox")
    if read_mailbox(filed, record).user.encode() != head[:-1]:
        raise IndexDamaged(TABLE, key, "the mailbox is another user's")


def digested_rows(tables: Tables) -> Iterator[Row]:
    """What a shard's digest covers of all this: the totals of each user, which have the digests of
    the rows."""
    table = tables.table(TABLE)
    start = b""
    while page := table.page(start, None, 1):
        key, record = page[0]
        yield key, record
        end = after_prefix(_head_of(key))
        if end is None or end <= start:
            return  # keys that rotted are not in order
        start = end


def check(tables: Tables) -> Iterator[IndexDamaged]:
    """fsck: what is wrong with the table. Raises nothing."""
    head, told, found = b"", _NOTHING, _NOTHING
    good = True
    for key, record in scan(tables.table(TABLE)):
        if _head_of(key) != head:
            if good and told != found:
                yield _mismatch(head, told, found)
            head, told, found, good = _head_of(key), _NOTHING, _NOTHING, True
        try:
            check_row(key, record)
            if key == head:
                told = _read_totals(key, record)
                continue
            value = unseal(TABLE, key, record)
            size = len(key) - len(head) - NUMBER.size + len(value)
            digest = found.digest + _row_digest(key, value) & DIGEST_MASK
            found = AnnotationTotals(found.rows + 1, found.bytes + size, digest)
            check_owner(tables, key)
        except IndexDamaged as e:
            good = False
            yield e
    if good and told != found:
        yield _mismatch(head, told, found)


def _mismatch(head: bytes, told: AnnotationTotals, found: AnnotationTotals) -> IndexDamaged:
    return IndexDamaged(
        TABLE, head, f"it tells of {told.rows} rows, but there are {found.rows}, or others"
    )
