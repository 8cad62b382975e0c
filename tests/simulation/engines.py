"""The index's engine of a simulated node: LMDB's twin in memory, or LMDB itself, on a disk whose
power goes.

Both do the same at the same moments, and draw the same chances: a seed is the same run on either,
to the byte.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from raftmail.storage.disk import DiskError, DiskFull
from raftmail.storage.kv import KvEngine, LmdbEngine, LmdbReader, Row, Snapshot, Table, Tables, scan
from tests.simulation.disk import PLENTY_BYTES, PowerCut, SimDisk
from tests.simulation.kv import MemoryEngine

MAP_BYTES = 64 << 20


class SimEngine(KvEngine, Protocol):
    """An engine whose commits count as operations of the node's disk, at which the power may go.
    `fail_put` is raised once, by the next put; then the engine is `broken`."""

    fail_put: DiskError | None

    def killed(self) -> None:
        """The process was killed: what was committed stays."""

    def power_loss(self, *, lucky: bool) -> None:
        """What is not durable is gone; with `lucky`, the last commit is found all the same."""

    def stable(self) -> Stable:
        """What would be left if the power went now, at worst."""


class MemorySimEngine(MemoryEngine):
    """The twin."""

    def __init__(self, names: Sequence[str], disk: SimDisk) -> None:
        super().__init__(names)
        self._disk = disk

    def commit(self, sync: bool = True) -> None:
        self.fail_commit = _no_space(self._disk)
        if not self._disk.count():
            super().commit(sync)
            return
        if self._disk.random.random() < 0.5:
            super().commit(sync)
        raise PowerCut

    def killed(self) -> None:
        self.abort()

    def stable(self) -> Stable:
        overlay: dict[str, dict[bytes, bytes | None]] = {name: {} for name in self._tables}
        for undo in (self._undo, *reversed(self._volatile)):
            for table, key, before in reversed(undo):
                overlay[table.name][key] = before
        return Stable(self, overlay)


class _NotedTable:
    """A table of LMDB whose changes are told to the engine first."""

    def __init__(self, engine: LmdbSimEngine, name: str) -> None:
        self._engine = engine
        self.name = name

    @property
    def _table(self) -> Table:
        return self._engine.inner.table(self.name)

    def get(self, key: bytes) -> bytes | None:
        return self._table.get(key)

    def put(self, key: bytes, value: bytes) -> None:
        self._engine.note()
        self._table.put(key, value)

    def put_new(self, key: bytes, value: bytes) -> bool:
        self._engine.note()
        return self._table.put_new(key, value)

    def put_many(self, rows: Sequence[Row]) -> None:
        for key, value in rows:
            self.put(key, value)

    def delete(self, key: bytes) -> bool:
        if self._table.get(key) is None:
            return False
        self._engine.note()
        return self._table.delete(key)

    def page(self, start: bytes, end: bytes | None, limit: int = 1000) -> list[Row]:
        return self._table.page(start, end, limit)

    def last(self, start: bytes, end: bytes | None) -> Row | None:
        return self._table.last(start, end)

    def around(self, key: bytes) -> tuple[Row | None, Row | None]:
        return self._table.around(key)

    def count(self) -> int:
        return self._table.count()


class LmdbSimEngine:
    """LMDB in a folder of its own. A loss of power puts back the file as it was at the last durable
    commit."""

    def __init__(self, names: Sequence[str], disk: SimDisk) -> None:
        self._names = tuple(names)
        self._disk = disk
        self._folder = Path(tempfile.mkdtemp(prefix="raftmail-simulated-", dir=_memory()))
        self._tables = {name: _NotedTable(self, name) for name in names}
        self.inner = self._open()
        self.fail_put: DiskError | None = None
        self._last = self._durable = self._content()

    def _open(self) -> LmdbEngine:
        return LmdbEngine(self._folder, self._names, map_bytes=MAP_BYTES)

    def _content(self) -> bytes:
        return (self._folder / "data.mdb").read_bytes()

    def note(self) -> None:
        if self.broken:
            raise DiskError(f"the transaction has to be aborted: {self.broken}")
        if self.fail_put is not None:
            error, self.fail_put = self.fail_put, None
            self.inner.broken = str(error)
            raise error

    @property
    def broken(self) -> str:
        return self.inner.broken

    def table(self, name: str) -> _NotedTable:
        return self._tables[name]

    def commit(self, sync: bool = True) -> None:
        full = _no_space(self._disk)
        cut = self._disk.count()
        if not cut or self._disk.random.random() < 0.5:
            if self.broken:
                raise DiskError(f"the transaction has to be aborted: {self.broken}")
            if full is not None:
                self.abort()
                raise full
            self.inner.commit(sync)
            before, self._last = self._last, self._content()
            self._durable = self._last if sync else before
        if cut:
            raise PowerCut

    def abort(self) -> None:
        self.inner.abort()

    def sync(self) -> None:
        self.inner.sync()
        self._durable = self._last

    def snapshot(self) -> Snapshot:
        return self.inner.snapshot()

    def killed(self) -> None:
        self._reopen(self._last)

    def power_loss(self, *, lucky: bool) -> None:
        self._durable = self._last if lucky else self._durable
        self._last = self._durable
        self._reopen(self._last)

    def _reopen(self, content: bytes) -> None:
        self.inner.close()
        (self._folder / "data.mdb").write_bytes(content)
        (self._folder / "lock.mdb").unlink()
        self.inner = self._open()

    def stable(self) -> Stable:
        with tempfile.TemporaryDirectory(prefix="raftmail-simulated-", dir=_memory()) as folder:
            (Path(folder) / "data.mdb").write_bytes(self._durable)
            reader = LmdbReader(Path(folder), self._names)
            snapshot = reader.snapshot()
            overlay = {name: dict(scan(snapshot.table(name))) for name in self._names}
            snapshot.close()
            reader.close()
        return Stable(MemoryEngine(self._names), {n: {**rows} for n, rows in overlay.items()})

    def close(self) -> None:
        self.inner.close()
        shutil.rmtree(self._folder, ignore_errors=True)


class _StableTable:
    """Rows over those of a table that is not to be changed."""

    def __init__(self, under: Table, rows: dict[bytes, bytes | None]) -> None:
        self._under = under
        self._rows = rows

    def get(self, key: bytes) -> bytes | None:
        return self._rows[key] if key in self._rows else self._under.get(key)

    def put(self, key: bytes, value: bytes) -> None:
        self._rows[key] = value

    def put_new(self, key: bytes, value: bytes) -> bool:
        if self.get(key) is not None:
            return False
        self._rows[key] = value
        return True

    def put_many(self, rows: Sequence[Row]) -> None:
        self._rows.update(rows)

    def delete(self, key: bytes) -> bool:
        found = self.get(key) is not None
        self._rows[key] = None
        return found

    def page(self, start: bytes, end: bytes | None, limit: int = 1000) -> list[Row]:
        rows = {**dict(scan(self._under, start, end)), **self._rows}
        inside = (k for k in sorted(rows) if k >= start and (end is None or k < end))
        return [(k, v) for k in inside if (v := rows[k]) is not None][:limit]

    def last(self, start: bytes, end: bytes | None) -> Row | None:
        rows = self.page(start, end, 1 << 60)
        return rows[-1] if rows else None

    def around(self, key: bytes) -> tuple[Row | None, Row | None]:
        here = self.page(key, None, 1)
        return self.last(b"", key), here[0] if here else None

    def count(self) -> int:
        return len(self.page(b"", None, 1 << 60))


class Stable:
    """An engine to look with: what is put into it stays in it."""

    broken = ""

    def __init__(self, under: Tables, overlay: dict[str, dict[bytes, bytes | None]]) -> None:
        self._tables = {name: _StableTable(under.table(name), o) for name, o in overlay.items()}

    def table(self, name: str) -> _StableTable:
        return self._tables[name]

    def commit(self, sync: bool = True) -> None: ...

    def abort(self) -> None: ...

    def sync(self) -> None: ...

    def snapshot(self) -> Snapshot:
        raise AssertionError("nobody takes a snapshot of what is only looked at")

    def close(self) -> None: ...


def _no_space(disk: SimDisk) -> DiskFull | None:
    if disk.capacity_bytes < PLENTY_BYTES and disk.random.random() < 0.3:
        return DiskFull("no space for the simulated index")
    return None


def _memory() -> str | None:
    """A folder in memory, where there is one."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None
