"""The bodies that messages refer to and the blob store does not have, on the disk, newest first.

Rows of the index's local table:

- `missing/order/` with the received date counted down and the hash (to the size);
- `missing/body/` with the hash (to the date and size);
- `missing/lost/` with the hash for those that no peer has;
- `missing/total`.

All is written in the index's open transaction, with whatever made a body missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from struct import Struct
from typing import NamedTuple

from raftmail.resync.state import read_local, write_local
from raftmail.storage.index import Index
from raftmail.storage.kv import after_prefix, scan
from raftmail.storage.records import BLOBREF, IndexDamaged, seal, unseal

_ORDER = b"missing/order/"
_BODY = b"missing/body/"
_LOST = b"missing/lost/"
_TOTAL = b"missing/total"
_ORDER_END = after_prefix(_ORDER)
_LOST_END = after_prefix(_LOST)

_RANK = Struct(">Q")
_SIZE = Struct(">I")
_LATEST_US = 2**63 - 1

AWAITED_US = _LATEST_US
"""The date of a body that was there and is not any more: it comes before all mail."""


def body_size(index: Index, digest: bytes) -> int | None:
    """The size of a body that messages refer to; None when none does. Raises `IndexDamaged`."""
    if not index.references(digest):
        return None
    record = index.engine.table("blobrefs").get(digest)
    return None if record is None else int(BLOBREF.unpack(record[:-4])[1])


class MissingBody(NamedTuple):
    rank: bytes
    """Its place in the order."""

    digest: bytes
    size_bytes: int


class Missing:
    """Nothing is held in memory but counts of additions, and of changes of what is lost."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._table = index.engine.table("local")
        self.added = 0
        self.lost_changes = 0

    def total(self) -> tuple[int, int]:
        """How many, and their bytes."""
        found = read_local(self._index, _TOTAL)
        return (found[0], found[1]) if found is not None else (0, 0)

    def lost(self) -> list[bytes]:
        """Those that no peer has, as far as was asked."""
        return [key[len(_LOST) :] for key, _ in scan(self._table, _LOST, _LOST_END)]

    def has(self, digest: bytes) -> bool:
        return self._table.get(_BODY + digest) is not None

    def add(self, digest: bytes, size_bytes: int, received_us: int) -> bool:
        """Note that a body is missing; False when that is known."""
        return self.add_many([(digest, size_bytes, received_us)]) == 1

    def add_many(self, bodies: Iterable[tuple[bytes, int, int]]) -> int:
        """Hash, size and received date of each. How many of them were not known."""
        table = self._table
        count = total = 0
        for digest, size_bytes, received_us in bodies:
            body = _BODY + digest
            if table.get(body) is not None:
                continue
            if table.delete(_LOST + digest):
                self.lost_changes += 1
            rank = _RANK.pack(_LATEST_US - max(-(2**62), min(received_us, _LATEST_US)))
            size = _SIZE.pack(size_bytes)
            key = _ORDER + rank + digest
            table.put(key, seal(key, size))
            table.put(body, seal(body, rank + size))
            count += 1
            total += size_bytes
        if count:
            self._count(count, total)
            self.added += count
        return count

    def remove(self, digest: bytes) -> bool:
        """It is there again, or not needed any more. False: it was not missing."""
        return self.remove_many([digest]) == 1

    def remove_many(self, digests: Iterable[bytes]) -> int:
        """As `remove`. How many of them were missing."""
        table = self._table
        count = total = 0
        for digest in digests:
            value = self._value(digest)
            if value is not None:
                table.delete(_ORDER + value[:8] + digest)
                table.delete(_BODY + digest)
                count += 1
                total += _SIZE.unpack_from(value, 8)[0]
        if count:
            self._count(-count, -total)
        return count

    def lose(self, digest: bytes) -> None:
        """No peer has it."""
        if self.remove(digest):
            key = _LOST + digest
            self._table.put(key, seal(key, b""))
            self.lost_changes += 1

    def forget_lost(self, digest: bytes) -> None:
        self._table.delete(_LOST + digest)
        self.lost_changes += 1

    def size_of(self, digest: bytes) -> int:
        """0 when it is not missing."""
        value = self._value(digest)
        return 0 if value is None else int(_SIZE.unpack_from(value, 8)[0])

    def page(self, after: bytes, limit: int) -> list[MissingBody]:
        """The next behind `after`, a rank with its hash (b"": from the first on)."""
        start = _ORDER + after + b"\0" if after else _ORDER
        found = []
        for key, record in self._table.page(start, _ORDER_END, limit):
            value = unseal("local", key, record)
            if len(value) != _SIZE.size:
                raise IndexDamaged("local", key, "it has the wrong length")
            found.append(MissingBody(key[len(_ORDER) :], key[-32:], _SIZE.unpack(value)[0]))
        return found

    def all(self) -> Iterator[bytes]:
        """Every hash, newest first."""
        for key, _ in scan(self._table, _ORDER, _ORDER_END):
            yield key[-32:]

    def _value(self, digest: bytes) -> bytes | None:
        record = self._table.get(_BODY + digest)
        if record is None:
            return None
        value = unseal("local", _BODY + digest, record)
        if len(value) != _RANK.size + _SIZE.size:
            raise IndexDamaged("local", _BODY + digest, "it has the wrong length")
        return value

    def _count(self, count: int, size_bytes: int) -> None:
        before = self.total()
        write_local(
            self._index, _TOTAL, (max(before[0] + count, 0), max(before[1] + size_bytes, 0))
        )
