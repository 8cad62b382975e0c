"""Ordered tables with transactions: what the index needs of LMDB, and LMDB behind it.

One write transaction is open at all times: reads in this process see what was written since the
last commit. Other processes may read what was committed (`LmdbReader`). `tests/simulation/kv.py`
has a twin in memory whose power can be cut.

LMDB is opened with `metasync=False`: a commit syncs the data, and its meta page goes to the disk
with the next sync. So a commit without `sync` is durable after the next commit, and power loss
costs whole commits, never consistency.
"""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import lmdb

from raftmail.storage.disk import DiskError, DiskFull, SyncFailed

KEY_BYTES_MAX = 511
PAGE_ROWS = 1000
MAP_BYTES_INITIAL = 16 << 30
"""Virtual, not on the disk: the file grows as it is written."""

ROOM_BYTES_MIN = 16 << 20
"""With less space than this, a commit that fails is taken to have failed for want of it."""

READERS_MAX = 512

Row = tuple[bytes, bytes]


class MapFull(DiskError):
    """The map was too small for one transaction. `KvEngine.abort` doubles it (when there is no
    snapshot); what the abort loses is applied again from the journal."""


class TableDamaged(DiskError):
    """The engine's own structures are broken. The file has to be replaced from another replica."""


class Table(Protocol):
    """Keys (1 to `KEY_BYTES_MAX` bytes) in the order of their bytes, each with a value."""

    def get(self, key: bytes) -> bytes | None: ...

    def put(self, key: bytes, value: bytes) -> None:
        """Set or replace. Raises `MapFull`, `DiskError`."""

    def put_new(self, key: bytes, value: bytes) -> bool:
        """`put` unless the key is there; whether it was not."""

    def put_many(self, rows: Sequence[Row]) -> None:
        """`put` many rows; fastest when they are sorted."""

    def delete(self, key: bytes) -> bool:
        """Whether it was there."""

    def page(self, start: bytes, end: bytes | None, limit: int = PAGE_ROWS) -> list[Row]:
        """At most `limit` rows from `start` on, up to but not with `end`."""

    def last(self, start: bytes, end: bytes | None) -> Row | None:
        """The last row from `start` on, before `end`."""

    def around(self, key: bytes) -> tuple[Row | None, Row | None]:
        """The last row before `key` and the first from it on, by a search of the whole tree."""

    def count(self) -> int:
        """The number of rows."""


class Tables(Protocol):
    """Tables by name, to be read: a view of them all at one point, or an engine."""

    def table(self, name: str) -> Table: ...


class Snapshot(Tables, Protocol):
    """What was committed when it was taken. Holds back the reuse of space, so close it soon."""

    def close(self) -> None: ...


class KvEngine(Tables, Protocol):
    """Tables and the one open write transaction. Table objects stay good across commits."""

    @property
    def broken(self) -> str:
        """Why the open transaction can only be aborted: a change of it failed, whoever made it; ""
        while it can go on."""

    def commit(self, sync: bool = True) -> None:
        """End the transaction and begin the next. With `sync` it is durable on return, else after
        the commit that follows. Raises `DiskFull` (the transaction is lost, the engine is as after
        `abort`), `SyncFailed`."""

    def abort(self) -> None:
        """Forget everything since the last commit."""

    def sync(self) -> None:
        """Make the last commit durable. Raises `SyncFailed`."""

    def snapshot(self) -> Snapshot: ...

    def close(self) -> None:
        """Abort and close. Closing twice is harmless."""


def scan(
    table: Table, start: bytes = b"", end: bytes | None = None, rows: int = PAGE_ROWS
) -> Iterator[Row]:
    """All rows from `start` on before `end`, in pages, so that the table may be changed
    meanwhile."""
    while True:
        page = table.page(start, end, rows)
        yield from page
        if len(page) < rows:
            return
        start = page[-1][0] + b"\0"


def after_prefix(prefix: bytes) -> bytes | None:
    """The end of the range of keys that begin with `prefix`."""
    stripped = prefix.rstrip(b"\xff")
    return stripped[:-1] + bytes((stripped[-1] + 1,)) if stripped else None


def _explained(e: lmdb.Error, path: str) -> DiskError:
    if isinstance(e, lmdb.MapFullError):
        return MapFull(f"{path}: the map is full; abort, which grows it, and apply again")
    code = e.args[0] if e.args else ""
    text = f"{path}: {code}"
    if isinstance(e, lmdb.DiskError) or _os_error(e) in _FULL:
        return DiskFull(text)
    if isinstance(e, _DAMAGE):
        return TableDamaged(text)
    return DiskError(text)


_DAMAGE = (
    lmdb.CorruptedError,
    lmdb.PageNotFoundError,
    lmdb.InvalidError,
    lmdb.VersionMismatchError,
    lmdb.IncompatibleError,
    lmdb.PanicError,
    lmdb.CursorFullError,
    lmdb.PageFullError,
    lmdb.BadDbiError,
)
"""What LMDB says when its pages are not what it wrote."""


def _os_error(e: lmdb.Error) -> int | None:
    """The errno inside an LMDB error, if it is the operating system's."""
    text = str(e)
    for code in _STRERROR:
        if errno.errorcode[code] in text or _STRERROR[code] in text:
            return code
    return None


_STRERROR = {
    errno.ENOSPC: "No space left on device",
    errno.EDQUOT: "Disk quota exceeded",
    errno.EIO: "Input/output error",
    errno.EMFILE: "Too many open files",
    errno.ENFILE: "Too many open files in system",
}
_FULL = _STRERROR.keys() - {errno.EIO}


class _LmdbTable:
    """One named database. A cursor is kept, since the next key is mostly on the page of the last
    one."""

    __slots__ = ("_cursor", "_db", "_file", "_txn")

    def __init__(self, db: Any, file: _LmdbFile) -> None:
        self._db = db
        self._file = file

    def bind(self, txn: lmdb.Transaction) -> None:
        self._txn = txn
        self._cursor = txn.cursor(self._db)

    def get(self, key: bytes) -> bytes | None:
        try:
            return self._cursor.get(key)  # type: ignore[return-value]
        except lmdb.Error as e:
            raise self._file.explained(e) from e

    def put(self, key: bytes, value: bytes) -> None:
        try:
            self._cursor.put(key, value)
        except lmdb.Error as e:
            raise self._file.write_failed(e) from e

    def put_new(self, key: bytes, value: bytes) -> bool:
        try:
            return bool(self._cursor.put(key, value, overwrite=False))
        except lmdb.Error as e:
            raise self._file.write_failed(e) from e

    def put_many(self, rows: Sequence[Row]) -> None:
        try:
            self._cursor.putmulti(rows)
        except lmdb.Error as e:
            raise self._file.write_failed(e) from e

    def delete(self, key: bytes) -> bool:
        cursor = self._cursor
        try:
            return cursor.set_key(key) and cursor.delete()
        except lmdb.Error as e:
            raise self._file.write_failed(e) from e

    def page(self, start: bytes, end: bytes | None, limit: int = PAGE_ROWS) -> list[Row]:
        cursor = self._cursor
        try:
            if not (cursor.set_range(start) if start else cursor.first()):
                return []
            rows: list[Row] = list(islice(cursor.iternext(), limit))  # type: ignore[arg-type]
        except lmdb.Error as e:
            raise self._file.explained(e) from e
        if end is not None and rows and rows[-1][0] >= end:
            low, high = 0, len(rows)
            while low < high:
                middle = (low + high) // 2
                if rows[middle][0] < end:
                    low = middle + 1
                else:
                    high = middle
            del rows[low:]
        return rows

    def last(self, start: bytes, end: bytes | None) -> Row | None:
        cursor = self._cursor
        try:
            if end is not None and cursor.set_range(end):
                found = cursor.prev()
            else:
                found = cursor.last()
            if not found:
                return None
            row: Row = cursor.item()  # type: ignore[assignment]
        except lmdb.Error as e:
            raise self._file.explained(e) from e
        return row if row[0] >= start else None

    def around(self, key: bytes) -> tuple[Row | None, Row | None]:
        """A cursor that stands somewhere would search the page it is on."""
        before: Row | None = None
        here: Row | None = None
        try:
            cursor = self._txn.cursor(self._db)
            if cursor.set_range(key):
                here = cursor.item()  # type: ignore[assignment]
                found = cursor.prev()
            else:
                found = cursor.last()
            if found:
                before = cursor.item()  # type: ignore[assignment]
        except lmdb.Error as e:
            raise self._file.explained(e) from e
        return before, here

    def count(self) -> int:
        try:
            return int(self._txn.stat(self._db)["entries"])
        except lmdb.Error as e:
            raise self._file.explained(e) from e


class _NoTable:
    """A table that an environment lacks: empty, and to be read only."""

    def get(self, key: bytes) -> bytes | None:
        return None

    def put(self, key: bytes, value: bytes) -> None:
        raise DiskError("a table of a snapshot cannot be written")

    def put_new(self, key: bytes, value: bytes) -> bool:
        raise DiskError("a table of a snapshot cannot be written")

    def put_many(self, rows: Sequence[Row]) -> None:
        raise DiskError("a table of a snapshot cannot be written")

    def delete(self, key: bytes) -> bool:
        return False

    def page(self, start: bytes, end: bytes | None, limit: int = PAGE_ROWS) -> list[Row]:
        return []

    def last(self, start: bytes, end: bytes | None) -> Row | None:
        return None

    def around(self, key: bytes) -> tuple[Row | None, Row | None]:
        return None, None

    def count(self) -> int:
        return 0


class _LmdbSnapshot:
    """A read transaction."""

    def __init__(self, engine: _LmdbFile, txn: lmdb.Transaction) -> None:
        self._engine = engine
        self._txn: lmdb.Transaction | None = txn
        self._tables: dict[str, _LmdbTable] = {}

    def table(self, name: str) -> Table:
        table = self._tables.get(name)
        if table is None:
            if self._txn is None:
                raise DiskError("the snapshot is closed")
            if self._engine.dbs[name] is None:
                return _NoTable()
            table = _LmdbTable(self._engine.dbs[name], self._engine)
            try:
                table.bind(self._txn)
            except lmdb.Error as e:
                raise self._engine.explained(e) from e
            self._tables[name] = table
        return table

    def close(self) -> None:
        if self._txn is not None:
            self._tables.clear()
            self._txn.abort()
            self._txn = None
            self._engine.snapshots -= 1


class _LmdbFile:
    """What an engine and a reader share: an open environment with its named databases."""

    env: lmdb.Environment
    path: str

    def __init__(self) -> None:
        self.dbs: dict[str, Any] = {}
        self.snapshots = 0
        self.full = False
        self.broken = ""

    def write_failed(self, e: lmdb.Error) -> DiskError:
        """The error to raise for one of LMDB's that came while the open transaction was changed."""
        explained = self.explained(e)
        self.broken = str(explained)
        return explained

    def explained(self, e: lmdb.Error) -> DiskError:
        """The error to raise for one of LMDB's."""
        explained = _explained(e, self.path)
        if isinstance(e, lmdb.BadTxnError) and not self.broken:
            # Nothing that was written failed: it came upon a page that it cannot use.
            return TableDamaged(str(explained))
        if isinstance(explained, MapFull):
            self.full = True
        elif _os_error(e) == errno.EIO and not self._has_room():
            # LMDB calls a write that was cut short for want of space an I/O error.
            return DiskFull(f"{explained}; there is no space left")
        return explained

    def _has_room(self) -> bool:
        """Whether the file can grow by `ROOM_BYTES_MIN`."""
        stat = os.statvfs(self.path)
        most = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
        size = os.path.getsize(os.path.join(self.path, "data.mdb"))
        return stat.f_bavail * stat.f_frsize >= ROOM_BYTES_MIN and (
            most == resource.RLIM_INFINITY or most - size >= ROOM_BYTES_MIN
        )

    def snapshot(self) -> _LmdbSnapshot:
        try:
            txn = self.env.begin(write=False)
        except lmdb.Error as e:
            raise self.explained(e) from e
        self.snapshots += 1
        return _LmdbSnapshot(self, txn)


class SyncObserver(Protocol):
    """Is told when the engine begins to wait for the disk, and when it has waited."""

    def begin(self) -> int: ...

    def end(self, number: int) -> None: ...


class _Nobody:
    def begin(self) -> int:
        return 0

    def end(self, number: int) -> None: ...


class LmdbEngine(_LmdbFile):
    """An LMDB environment in a folder of its own. Invariants: a write transaction is open until
    `close`; the map grows only between transactions and while there is no snapshot, and always
    early: when less than half of it is free."""

    def __init__(
        self, folder: Path, names: Sequence[str], *, map_bytes: int = MAP_BYTES_INITIAL
    ) -> None:
        """Open, making what is missing. `map_bytes` is the least size of the map. Raises
        `DiskError`."""
        super().__init__()
        self.path = str(folder)
        self.observer: SyncObserver = _Nobody()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._closed = False
        with self._errors():
            self.env = lmdb.open(
                self.path,
                map_size=map_bytes,
                max_dbs=len(names) + 4,
                max_readers=READERS_MAX,
                metasync=False,
                mode=0o600,
            )
        try:
            with self._errors():
                for name in names:
                    self.dbs[name] = self.env.open_db(name.encode())
            self._bound = {name: _LmdbTable(db, self) for name, db in self.dbs.items()}
            self._begin()
        except BaseException:
            self.env.close()
            raise

    def table(self, name: str) -> _LmdbTable:
        return self._bound[name]

    def commit(self, sync: bool = True) -> None:
        number = self.observer.begin()
        try:
            self._commit(sync)
        finally:
            self.observer.end(number)

    def _commit(self, sync: bool) -> None:
        try:
            self._txn.commit()
        except lmdb.Error as e:
            explained = self.explained(e)
            if _os_error(e) == errno.EIO and not isinstance(explained, DiskFull):
                raise SyncFailed(f"{self.path}: {e}") from e
            self._begin()
            raise explained from e
        if sync:
            self.sync()
        self._begin()

    def abort(self) -> None:
        self._txn.abort()
        self._begin()

    def sync(self) -> None:
        try:
            self.env.sync(True)
        except lmdb.Error as e:
            raise SyncFailed(f"{self.path}: {e}") from e

    def used_bytes(self) -> int:
        """Bytes of the file that pages were ever written to."""
        return (int(self.env.info()["last_pgno"]) + 1) * int(self.env.stat()["psize"])

    def map_bytes(self) -> int:
        return int(self.env.info()["map_size"])

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._txn.abort()
            self.env.close()

    def _begin(self) -> None:
        with self._errors():
            size = self.map_bytes()
            if (self.full or self.used_bytes() * 2 > size) and not self.snapshots:
                self.env.set_mapsize(size * 2)
                self.full = False
            self._txn = self.env.begin(write=True)
            self.broken = ""
            for table in self._bound.values():
                table.bind(self._txn)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except lmdb.Error as e:
            raise self.explained(e) from e


class LmdbReader(_LmdbFile):
    """An environment that another process may be writing: only snapshots of what it committed."""

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        """Raises `DiskError` when there is none. A table that it lacks, as a release wrote it that
        did not know the table, is empty."""
        super().__init__()
        self.path = str(folder)
        try:
            self.env = lmdb.open(
                self.path,
                readonly=True,
                create=False,
                max_dbs=len(names) + 4,
                max_readers=READERS_MAX,
                map_size=0,
            )
            for name in names:
                try:
                    self.dbs[name] = self.env.open_db(name.encode(), create=False)
                except lmdb.NotFoundError:
                    self.dbs[name] = None
        except lmdb.Error as e:
            raise self.explained(e) from e

    def close(self) -> None:
        self.env.close()
