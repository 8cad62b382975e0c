"""The table of the cluster's configuration: versioned records, and what changed since a revision.

Only the root shard has any. One counter, the revision, is raised by every change; each record has
the revision that wrote it. A key that was taken away stays as a record without a value, so that who
asks what changed is told. There are at most `TOMBSTONES_MAX` of these. When there are more, the
oldest are forgotten, and the floor rises to the revision of the last one forgotten: who was last
told of a revision below the floor has to be told everything.

Rows, all sealed:

| key | record |
|---|---|
| `k` and the record's key | revision, ordinal, value or None |
| `r`, revision, ordinal within it | the record's key |
| `s` | revision, floor, number of records without a value |
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from struct import Struct

from raftmail.mail.packing import CodecError, unpack
from raftmail.storage.kv import Table, after_prefix, scan
from raftmail.storage.records import IndexDamaged, seal_packed, unseal, unseal_packed

TOMBSTONES_MAX = 1000

Record = tuple[str, int, bytes | None]
"""Key, revision, value; None when it was taken away."""

_STATE = b"s"
_BY_KEY = b"k"
_BY_REVISION = b"r"
_ORDER = Struct(">cQH")


class ConfigTable:
    """Reads and writes the rows; keeps nothing in memory, for a resync writes them too."""

    def __init__(self, table: Table, tombstones_max: int = TOMBSTONES_MAX) -> None:
        self._table = table
        self._tombstones_max = tombstones_max

    @property
    def revision(self) -> int:
        """0: nothing was ever written. Raises `IndexDamaged`."""
        return self._state()[0]

    @property
    def floor(self) -> int:
        """All that was taken away after this revision is still known. Raises `IndexDamaged`."""
        return self._state()[1]

    def get(self, key: str) -> tuple[int, bytes | None]:
        """Revision and value; (0, None) when there is none. Raises `IndexDamaged`."""
        found = self._record(key)
        return (0, None) if found is None or found[2] is None else (found[0], found[2])

    def put(self, puts: Sequence[tuple[str, bytes | None]]) -> int:
        """Write records, each key once; the revision that they have. Raises `IndexDamaged`."""
        revision, floor, tombstones = self._state()
        revision += 1
        for ordinal, (key, value) in enumerate(puts):
            at = _BY_KEY + key.encode()
            before = self._record(key)
            if before is not None:
                tombstones -= before[2] is None
                self._table.delete(_ORDER.pack(_BY_REVISION, before[0], before[1]))
            tombstones += value is None
            self._table.put(at, seal_packed(at, (revision, ordinal, value)))
            order = _ORDER.pack(_BY_REVISION, revision, ordinal)
            self._table.put(order, seal_packed(order, key))
        if tombstones > self._tombstones_max:
            floor, tombstones = self._forget(floor, tombstones)
        self._table.put(_STATE, seal_packed(_STATE, (revision, floor, tombstones)))
        return revision

    def since(self, revision: int) -> Iterator[Record]:
        """What was written after a revision and is not written over, in the order of revisions.
        Raises `IndexDamaged`."""
        start = _ORDER.pack(_BY_REVISION, revision + 1, 0)
        for order, row in scan(self._table, start, after_prefix(_BY_REVISION)):
            key = unseal_packed("config", order, row)
            record = self._record(key)
            if record is None:
                raise IndexDamaged("config", order, "it leads to no record")
            yield key, record[0], record[2]

    def _state(self) -> tuple[int, int, int]:
        row = self._table.get(_STATE)
        if row is None:
            return 0, 0, 0
        check_row(_STATE, row)
        revision, floor, tombstones = unseal_packed("config", _STATE, row)
        return revision, floor, tombstones

    def _record(self, key: str) -> tuple[int, int, bytes | None] | None:
        at = _BY_KEY + key.encode()
        row = self._table.get(at)
        if row is None:
            return None
        check_row(at, row)
        revision, ordinal, value = unseal_packed("config", at, row)
        return revision, ordinal, value

    def _forget(self, floor: int, tombstones: int) -> tuple[int, int]:
        """Drop the oldest records without a value, whole revisions of them, until half are left."""
        for order, row in scan(self._table, _BY_REVISION, after_prefix(_BY_REVISION)):
            revision = _ORDER.unpack(order)[1]
            if tombstones * 2 <= self._tombstones_max and revision != floor:
                break
            key = unseal_packed("config", order, row)
            record = self._record(key)
            if record is not None and record[2] is None:
                self._table.delete(order)
                self._table.delete(_BY_KEY + key.encode())
                tombstones -= 1
                floor = revision
        return floor, tombstones


def check_row(key: bytes, row: bytes) -> None:
    """Whether a row is well-formed in itself. Raises `IndexDamaged`."""
    try:
        raw = unpack(unseal("config", key, row))
    except CodecError as e:
        raise IndexDamaged("config", key, str(e)) from None
    if key[:1] == _BY_KEY and len(key) > 1:
        good = (
            type(raw) is tuple
            and len(raw) == 3
            and type(raw[0]) is int
            and type(raw[1]) is int
            and type(raw[2]) in (bytes, type(None))
        )
    elif key[:1] == _BY_REVISION and len(key) == _ORDER.size:
        good = type(raw) is str
    else:
        good = (
            key == _STATE
            and type(raw) is tuple
            and len(raw) == 3
            and all(type(number) is int for number in raw)
        )
    if not good:
        raise IndexDamaged("config", key, "it is none of the configuration's rows")


def check(table: Table) -> list[IndexDamaged]:
    """fsck: what is wrong with the table. Raises nothing."""
    found: list[IndexDamaged] = []
    records: dict[str, tuple[int, int]] = {}
    orders: dict[str, tuple[int, int]] = {}
    state = (0, 0, 0)
    tombstones = highest = 0
    for key, row in scan(table):
        try:
            check_row(key, row)
        except IndexDamaged as e:
            found.append(e)
            continue
        raw = unseal_packed("config", key, row)
        if key == _STATE:
            state = raw
        elif key[:1] == _BY_KEY:
            records[key[1:].decode("utf-8", "replace")] = raw[0], raw[1]
            tombstones += raw[2] is None
            highest = max(highest, raw[0])
        elif raw in orders:
            found.append(IndexDamaged("config", key, f"the record {raw!r} has two revisions"))
        else:
            orders[raw] = _ORDER.unpack(key)[1:]
    for name in sorted(records.keys() | orders.keys()):
        if records.get(name) != orders.get(name):
            found.append(
                IndexDamaged(
                    "config",
                    _BY_KEY + name.encode(),
                    f"the record {name!r} has revision and place {records.get(name)}, and is filed "
                    f"under {orders.get(name)}",
                )
            )
    if highest > state[0] or state[1] > state[0] or tombstones != state[2]:
        found.append(
            IndexDamaged(
                "config",
                _STATE,
                f"it tells of revision {state[0]}, floor {state[1]} and {state[2]} records that "
                f"were taken away, but there are {tombstones}, and revision {highest}",
            )
        )
    return found
