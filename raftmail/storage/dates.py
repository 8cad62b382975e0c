"""The table of dates: of messages whose record does not say it all, in which zone they were
received, and when they were saved.

A message without a row was received in UTC, and was saved when it was received. So what is
delivered has no row. Rows, all sealed:

| key | record |
|---|---|
| mailbox number, UID | `_ROW` |
| 0 | how many rows there are, and the sum of their digests |
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from struct import Struct
from typing import NamedTuple

from raftmail.storage.kv import KvEngine, Row, Table, Tables, scan
from raftmail.storage.records import (
    DIGEST_MASK,
    MESSAGE_KEY,
    NUMBER,
    IndexDamaged,
    seal,
    seal_packed,
    unseal,
    unseal_packed,
)
from raftmail.storage.rotten_keys import RottenKeys

TABLE = "dates"
STATE = NUMBER.pack(0)
_VERSION = 1
_ROW = Struct("<Bhq")
"""Version, minutes that the zone is ahead of UTC, microseconds since 1970."""


class MessageDates(NamedTuple):
    """`zone_minutes` is what the zone that a message was received in is ahead of UTC. `saved_us`
    is when it came into its mailbox, in microseconds since 1970."""

    zone_minutes: int
    saved_us: int


def dates_to_keep(received_us: int, zone_minutes: int, saved_us: int | None) -> MessageDates | None:
    """The row of a message that was saved so (None: when it was received); None where it needs
    none."""
    if saved_us is None:
        saved_us = received_us
    if not zone_minutes and saved_us == received_us:
        return None
    return MessageDates(zone_minutes, saved_us)


class Dates:
    """Dates by message key. What is counted is written by `flush`."""

    def __init__(self, engine: KvEngine) -> None:
        """Raises `IndexDamaged`."""
        self._rows = engine.table(TABLE)
        self._rotten = RottenKeys(TABLE, self._rows, check_row)
        self._count, self._digest = read_state(self._rows)
        self._dirty = False

    def __len__(self) -> int:
        return self._count

    def get(self, key: bytes) -> MessageDates | None:
        """Raises `IndexDamaged`."""
        if not self._count:
            return None
        record = self._rows.get(key)
        if record is None:
            self._rotten.check_missing(key)
            return None
        return read_dates(key, record)

    def of(self, messages: Sequence[Row]) -> dict[bytes, MessageDates]:
        """Those of some messages of one mailbox, ascending, by key. Raises `IndexDamaged`."""
        if not self._count or not messages:
            return {}
        first, last = messages[0][0], messages[-1][0]
        span = MESSAGE_KEY.unpack(last)[1] - MESSAGE_KEY.unpack(first)[1] + 1
        if span > 2 * len(messages):
            found = ((key, self.get(key)) for key, _ in messages)
            return {key: dates for key, dates in found if dates is not None}
        rows = self._rows.page(first, last + b"\0", span)
        self._rotten.check_range(first, last + b"\0", rows)
        return {key: read_dates(key, record) for key, record in rows}

    def put(self, key: bytes, dates: MessageDates) -> None:
        """Of a message that has none yet."""
        value = _ROW.pack(_VERSION, *dates)
        self._rows.put(key, seal(key, value))
        self._note(1, row_digest(key, value))

    def remove(self, key: bytes) -> None:
        """The message is gone. A row whose key rotted stays, and is found by scrub. Raises
        `IndexDamaged`."""
        record = self._rows.get(key) if self._count else None
        if record is not None:
            self._rows.delete(key)
            self._note(-1, -row_digest(key, unseal(TABLE, key, record)))

    def _note(self, rows: int, digest: int) -> None:
        self._count += rows
        self._digest = self._digest + digest & DIGEST_MASK
        self._dirty = True

    def flush(self) -> None:
        """Write the count and the digest into the open transaction."""
        if self._dirty:
            value = (self._count, self._digest.to_bytes(16, "little"))
            self._rows.put(STATE, seal_packed(STATE, value))
            self._dirty = False


def read_dates(key: bytes, record: bytes) -> MessageDates:
    """A row. Raises `IndexDamaged`."""
    value = unseal(TABLE, key, record)
    if len(key) != MESSAGE_KEY.size or len(value) != _ROW.size or value[0] != _VERSION:
        raise IndexDamaged(TABLE, key, "it has no dates of a message")
    return MessageDates(*_ROW.unpack(value)[1:])


def row_digest(key: bytes, value: bytes) -> int:
    """The part of a row in the table's digest, which is the sum of them modulo 2^128."""
    return int.from_bytes(blake2b(key + value, digest_size=16).digest(), "little")


def read_state(table: Table) -> tuple[int, int]:
    """Number of rows, and the sum of their digests. Raises `IndexDamaged`."""
    record = table.get(STATE)
    return (0, 0) if record is None else _read_state(record)


def _read_state(record: bytes) -> tuple[int, int]:
    raw = unseal_packed(TABLE, STATE, record)
    try:
        count, digest = raw
        if type(count) is int and count >= 0:
            return count, int.from_bytes(digest, "little")
    except (TypeError, ValueError):
        pass
    raise IndexDamaged(TABLE, STATE, "it is not a count and a digest")


def digested_rows(tables: Tables) -> list[Row]:
    """What a shard's digest covers of all this: one row, which has the digest of the others."""
    record = tables.table(TABLE).get(STATE)
    return [] if record is None else [(STATE, record)]


def check_row(key: bytes, record: bytes) -> None:
    """Whether a row is well-formed in itself. Raises `IndexDamaged`."""
    if key == STATE:
        _read_state(record)
    else:
        read_dates(key, record)


def check(tables: Tables) -> Iterator[IndexDamaged]:
    """fsck: what is wrong with the table. Raises nothing."""
    rows, messages = tables.table(TABLE), tables.table("messages")
    state = (0, 0)
    count = digest = 0
    found = False
    for key, record in scan(rows):
        try:
            check_row(key, record)
            if key == STATE:
                state = _read_state(record)
                continue
            count += 1
            digest += row_digest(key, unseal(TABLE, key, record))
            if messages.get(key) is None:
                raise IndexDamaged(TABLE, key, "there is no such message")
        except IndexDamaged as e:
            found = True
            yield e
    if not found and state != (count, digest & DIGEST_MASK):
        yield IndexDamaged(
            TABLE, STATE, f"it tells of {state[0]} rows, but there are {count}, or others"
        )
