"""Whether an LMDB file can be used at all, found out without LMDB.

LMDB trusts its pages. One that was cut off ends the process with SIGBUS, one that is not what it
should be with a failed assertion: nothing that could be caught. So after a process ended without
saying so, the trees are walked here first, from their roots, page by page. Every page says which it
is, is of the kind that it should be, and lies in the file. It belongs to one tree only, and has its
keys in order. No page that is listed as free belongs to a tree: LMDB would write over it. Records
have checksums of their own, and are not looked at.

A sector that cannot be read would end the process in the same way, so all is read once with calls
that say so.

Format: LMDB 0.9 on 64 bits. A page begins with `number u64 | pad u16 | flags u16 | lower u16 |
upper u16` (of an overflow page, the last four bytes count the pages), then offsets of its nodes. A
node is `low u16 | high u16 | flags u16 | key length u16 | key | data`.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from pathlib import Path
from struct import Struct
from typing import Final

FILE: Final = "data.mdb"

_PAGE: Final = Struct("<QHHHH")
_NODE: Final = Struct("<HHHH")
_META_HEAD: Final = Struct("<II8xQ")
_DB: Final = Struct("<IHHQQQQQ")
_META_TAIL: Final = Struct("<QQ")
_PGNO: Final = Struct("<Q")
_MAGIC: Final = 0xBEEFC0DE
_BRANCH, _LEAF, _OVERFLOW, _META = 1, 2, 4, 8
_KINDS: Final = _BRANCH | _LEAF | _OVERFLOW | _META
_BIG, _SUB = 1, 2
_NONE: Final = (1 << 64) - 1
_DEPTH_MAX: Final = 64
_READ_BYTES: Final = 1 << 20
_METAS: Final = 2
"""The first pages, which belong to no tree."""


class _Damaged(Exception):
    """What is wrong, in words."""


def check_pages(folder: Path) -> str:
    """What is wrong with the pages of an environment that nobody has open for writing; "": nothing.

    Reads every page of the trees once. Raises OSError when there is no file to read, or some of it
    cannot be read."""
    with open(folder / FILE, "rb") as file:
        _read_all(file.fileno())
        try:
            view = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError:
            return f"{folder / FILE}: it is empty"
        with view:
            try:
                _Walk(view).run()
            except _Damaged as e:
                return f"{folder / FILE}: {e}"
    return ""


def _read_all(file: int) -> None:
    """Raises OSError where a page that is mapped would raise SIGBUS."""
    buffer = bytearray(_READ_BYTES)
    at = 0
    while read := os.preadv(file, [buffer], at):
        at += read


class _Walk:
    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self._size = len(data)

    def run(self) -> None:
        free, tables = self._newest_meta()
        self._used = bytearray(self._size // self._page_bytes + 1)
        for number in range(_METAS):
            self._used[number] = 1
        free_lists: list[tuple[int, int]] = []
        if free != _NONE:
            for _ in self._tree(free, 0, free_lists):
                raise _Damaged("the list of free pages has tables")
        if tables != _NONE:
            for database in self._tree(tables, 0):
                for _ in self._tree(database, 0):
                    raise _Damaged("a table has tables of its own")
        for at, length in free_lists:
            self._free_list(at, length)

    def _newest_meta(self) -> tuple[int, int]:
        """The roots of the free list and of the table of tables, of the last commit."""
        found: list[tuple[int, int, int, int, int, int]] = []
        page_bytes = mmap.PAGESIZE
        for number in range(_METAS):
            at = number * page_bytes + _PAGE.size
            if at + _META_HEAD.size + 2 * _DB.size + _META_TAIL.size > self._size:
                continue
            magic, version, map_bytes = _META_HEAD.unpack_from(self._data, at)
            if magic != _MAGIC or version not in (1, 999):
                continue
            at += _META_HEAD.size
            free = _DB.unpack_from(self._data, at)
            tables = _DB.unpack_from(self._data, at + _DB.size)
            last, transaction = _META_TAIL.unpack_from(self._data, at + 2 * _DB.size)
            if not number:
                page_bytes = free[0]
                if page_bytes < 512 or page_bytes > 1 << 16:
                    raise _Damaged("its first page cannot be verified")
            found.append((transaction, page_bytes, free[7], tables[7], last, map_bytes))
        if len(found) < _METAS:
            raise _Damaged("its first pages are not those of a database")
        self._transaction, self._page_bytes, free_root, tables_root, self._last, size = max(found)
        if not _METAS <= self._last + 1 <= size // self._page_bytes:
            raise _Damaged(f"its last page would be {self._last}")
        return free_root, tables_root

    def _use(self, number: int, count: int = 1) -> None:
        """Some pages belong to a tree. Raises `_Damaged` when one belongs to another already."""
        if number + count - 1 > self._last:
            raise _Damaged(f"page {number + count - 1} was overwritten: it lies behind the last")
        if any(self._used[number : number + count]):
            raise _Damaged(f"page {number} is named twice")
        self._used[number : number + count] = b"\1" * count

    def _free_list(self, at: int, length: int) -> None:
        """One record of the list of free pages: how many, and their numbers, descending."""
        count = _PGNO.unpack_from(self._data, at)[0] if length >= _PGNO.size else _NONE
        if (count + 1) * _PGNO.size > length:
            raise _Damaged("the list of free pages was overwritten: it has no such length")
        at += _PGNO.size
        before = self._last + 1
        for number in memoryview(self._data[at : at + count * _PGNO.size]).cast("Q"):
            if not _METAS <= number < before:
                raise _Damaged(f"the list of free pages was overwritten: it names page {number}")
            if number < len(self._used) and self._used[number]:
                raise _Damaged(f"page {number} is listed as free, and is not")
            before = number

    def _page(self, number: int) -> tuple[int, int, int, int]:
        """Offset, flags, lower and upper of a page. Raises `_Damaged`."""
        at = number * self._page_bytes
        if at + self._page_bytes > self._size:
            raise _Damaged(f"page {number} is cut off: the file has {self._size} bytes")
        told, _, flags, lower, upper = _PAGE.unpack_from(self._data, at)
        if told != number:
            raise _Damaged(f"page {number} was overwritten: it says that it is page {told}")
        return at, flags & _KINDS, lower, upper

    def _tree(
        self, root: int, depth: int, free: list[tuple[int, int]] | None = None
    ) -> Iterator[int]:
        """Walk a tree; the roots of the tables that its leaves name. Where its records lie is noted
        in `free`, for that of the free pages, whose keys are numbers of transactions."""
        if depth > _DEPTH_MAX:
            raise _Damaged(f"the tree is endless at page {root}")
        at, kind, lower, upper = self._page(root)
        if kind not in (_BRANCH, _LEAF) or not _PAGE.size <= lower <= upper <= self._page_bytes:
            raise _Damaged(f"page {root} was overwritten: it is no page of a tree")
        self._use(root)
        count = (lower - _PAGE.size) // 2
        data = self._data
        before: bytes | None = None
        for node in memoryview(data[at + _PAGE.size : at + _PAGE.size + 2 * count]).cast("H"):
            if not lower <= node <= self._page_bytes - _NODE.size:
                raise _Damaged(f"page {root} was overwritten: a record lies outside")
            low, high, flags, key_bytes = _NODE.unpack_from(data, at + node)
            end = node + _NODE.size + key_bytes
            if end > self._page_bytes:
                raise _Damaged(f"page {root} was overwritten: a record is longer than the page")
            key = data[at + node + _NODE.size : at + end]
            if free is not None and (key or kind == _LEAF):
                key = self._transaction_of(root, key)
            if before is not None and key <= before:
                raise _Damaged(f"page {root} was overwritten: its keys are out of order")
            if kind == _BRANCH:
                # The first of a branch is not compared with anything.
                before = key if before is not None else b""
                yield from self._tree(low | high << 16 | flags << 32, depth + 1, free)
                continue
            before = key
            where = at + end
            if flags & _BIG:
                where = self._overflow(root, at + end, end, low | high << 16)
            elif end + (low | high << 16) > self._page_bytes:
                raise _Damaged(f"page {root} was overwritten: a record is longer than the page")
            elif flags & _SUB:
                child = _DB.unpack_from(data, at + end)[7]
                if child != _NONE:
                    yield child
            if free is not None:
                free.append((where, low | high << 16))

    def _transaction_of(self, page: int, key: bytes) -> bytes:
        """A key of the free list, in the order of bytes. Raises `_Damaged`."""
        number = int.from_bytes(key, "little")
        if len(key) != _PGNO.size or not 0 < number <= self._transaction:
            raise _Damaged(f"page {page} was overwritten: {number} is no transaction")
        return number.to_bytes(_PGNO.size, "big")

    def _overflow(self, page: int, at: int, end: int, length: int) -> int:
        """The pages of a record that is too long for one; where it begins."""
        if end + _PGNO.size > self._page_bytes:
            raise _Damaged(f"page {page} was overwritten: a record lies outside")
        first = _PGNO.unpack_from(self._data, at)[0]
        _, kind, low, high = self._page(first)
        count = low | high << 16
        if kind != _OVERFLOW or count * self._page_bytes < _PAGE.size + length:
            raise _Damaged(f"page {first} was overwritten: it is no part of a long record")
        if (first + count) * self._page_bytes > self._size:
            raise _Damaged(f"page {first} is cut off: the file has {self._size} bytes")
        self._use(first, count)
        return int(first) * self._page_bytes + _PAGE.size
