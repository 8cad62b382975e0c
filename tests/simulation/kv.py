"""The twin of the LMDB engine: sorted tables in memory, whose power can be cut and whose disk can
be full.

Durability as `raftmail.storage.kv` promises it: a commit with sync is durable. One without is so
after the commit that follows. `power_loss` takes away what is not (or, by luck, the last commit
stays all the same).
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence

from raftmail.storage.disk import DiskError
from raftmail.storage.kv import KEY_BYTES_MAX, PAGE_ROWS, Row

_Undo = list[tuple["MemoryTable", bytes, bytes | None]]


class MemoryTable:
    """A dict and its sorted keys."""

    def __init__(self, name: str, engine: MemoryEngine | None) -> None:
        self.name = name
        self.rows: dict[bytes, bytes] = {}
        self.keys: list[bytes] = []
        self._engine = engine

    def get(self, key: bytes) -> bytes | None:
        return self.rows.get(key)

    def put(self, key: bytes, value: bytes) -> None:
        if self._engine is None or not 0 < len(key) <= KEY_BYTES_MAX:
            raise DiskError(f"table {self.name}: cannot put a key of {len(key)} bytes here")
        self._engine.note(self, key, self.rows.get(key))
        self.set(key, bytes(value))

    def put_new(self, key: bytes, value: bytes) -> bool:
        if key in self.rows:
            return False
        self.put(key, value)
        return True

    def put_many(self, rows: Sequence[Row]) -> None:
        for key, value in rows:
            self.put(key, value)

    def delete(self, key: bytes) -> bool:
        if key not in self.rows:
            return False
        if self._engine is None:
            raise DiskError(f"table {self.name}: cannot delete here")
        self._engine.note(self, key, self.rows[key])
        self.set(key, None)
        return True

    def page(self, start: bytes, end: bytes | None, limit: int = PAGE_ROWS) -> list[Row]:
        low, high = self._range(start, end)
        return [(key, self.rows[key]) for key in self.keys[low : min(high, low + limit)]]

    def last(self, start: bytes, end: bytes | None) -> Row | None:
        low, high = self._range(start, end)
        if low >= high:
            return None
        key = self.keys[high - 1]
        return key, self.rows[key]

    def around(self, key: bytes) -> tuple[Row | None, Row | None]:
        here = self.page(key, None, 1)
        return self.last(b"", key), here[0] if here else None

    def count(self) -> int:
        return len(self.rows)

    def set(self, key: bytes, value: bytes | None) -> None:
        """Change the row without noting it."""
        if value is None:
            if self.rows.pop(key, None) is not None:
                del self.keys[bisect_left(self.keys, key)]
        else:
            if key not in self.rows:
                insort(self.keys, key)
            self.rows[key] = value

    def _range(self, start: bytes, end: bytes | None) -> tuple[int, int]:
        low = bisect_left(self.keys, start)
        return low, len(self.keys) if end is None else max(low, bisect_left(self.keys, end))


class MemorySnapshot:
    """A copy of all tables."""

    def __init__(self, tables: dict[str, MemoryTable]) -> None:
        self._tables: dict[str, MemoryTable] = {}
        for name, table in tables.items():
            copied = self._tables[name] = MemoryTable(name, None)
            copied.rows = dict(table.rows)
            copied.keys = list(table.keys)

    def table(self, name: str) -> MemoryTable:
        return self._tables[name]

    def close(self) -> None:
        self._tables.clear()


class MemoryEngine:
    """An `Engine` in memory. `fail_put` and `fail_commit` are raised once, by the next put or
    commit."""

    def __init__(self, names: Sequence[str]) -> None:
        self._tables = {name: MemoryTable(name, self) for name in names}
        self._undo: _Undo = []
        self._volatile: list[_Undo] = []
        self.fail_put: DiskError | None = None
        self.fail_commit: DiskError | None = None
        self.broken = ""
        self.operations = 0

    def note(self, table: MemoryTable, key: bytes, before: bytes | None) -> None:
        self.operations += 1
        if self.broken:
            raise DiskError(f"the transaction has to be aborted: {self.broken}")
        if self.fail_put is not None:
            error, self.fail_put = self.fail_put, None
            self.broken = str(error)
            raise error
        self._undo.append((table, key, before))

    def table(self, name: str) -> MemoryTable:
        return self._tables[name]

    def commit(self, sync: bool = True) -> None:
        if self.broken:
            raise DiskError(f"the transaction has to be aborted: {self.broken}")
        if self.fail_commit is not None:
            error, self.fail_commit = self.fail_commit, None
            self.abort()
            raise error
        self._volatile = [] if sync else [self._undo]
        self._undo = []

    def abort(self) -> None:
        _roll_back(self._undo)
        self._undo = []
        self.broken = ""

    def sync(self) -> None:
        self._volatile = []

    def snapshot(self) -> MemorySnapshot:
        """Of the last commit."""
        undo, redo = self._undo, [(t, k, t.rows.get(k)) for t, k, _ in self._undo]
        _roll_back(undo)
        taken = MemorySnapshot(self._tables)
        for table, key, value in redo:
            table.set(key, value)
        return taken

    def power_loss(self, *, lucky: bool = False) -> None:
        """What is not durable is gone; with `lucky`, the last commit is found all the same."""
        self.abort()
        if not lucky:
            for undo in reversed(self._volatile):
                _roll_back(undo)
        self._volatile = []

    def close(self) -> None:
        self.abort()


def _roll_back(undo: _Undo) -> None:
    for table, key, before in reversed(undo):
        table.set(key, before)
