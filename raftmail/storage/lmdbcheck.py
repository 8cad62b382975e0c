"""Whether an LMDB file can be used at all, found out without LMDB.

LMDB trusts its pages. One that was cut off ends the process with SIGBUS, one that is not what it
should be with a failed assertion: nothing that could be caught. So after a process ended without
saying so, the trees are walked here first, from their roots, page by page: every page says which it
is, is of the kind that it should be, and lies in the file. Records have checksums of their own, and
are not looked at.

Format: LMDB 0.9 on 64 bits. A page begins with `number u64 | pad u16 | flags u16 | lower u16 |
upper u16` (of an overflow page, the last four bytes count the pages), then offsets of its nodes. A
node is `low u16 | high u16 | flags u16 | key length u16 | key | data`.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path
from struct import Struct
from typing import Final

FILE: Final = "data.mdb"

_PAGE: Final = Struct("<QHHHH")
_NODE: Final = Struct("<HHHH")
_META_HEAD: Final = Struct("<II16x")
_DB: Final = Struct("<IHHQQQQQ")
_META_TAIL: Final = Struct("<QQ")
_PGNO: Final = Struct("<Q")
_MAGIC: Final = 0xBEEFC0DE
_BRANCH, _LEAF, _OVERFLOW, _META = 1, 2, 4, 8
_KINDS: Final = _BRANCH | _LEAF | _OVERFLOW | _META
_BIG, _SUB = 1, 2
_NONE: Final = (1 << 64) - 1
_DEPTH_MAX: Final = 64


class _Damaged(Exception):
    """What is wrong, in words."""


def check_pages(folder: Path) -> str:
    """What is wrong with the pages of an environment that nobody has open for writing; "": nothing.

    Reads every page of the trees once. Raises OSError when there is no file to read."""
    with open(folder / FILE, "rb") as file:
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


class _Walk:
    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self._size = len(data)

    def run(self) -> None:
        self._page_bytes, roots = self._newest_meta()
        for root in roots:
            for database in self._tree(root, 0):
                for _ in self._tree(database, 0):
                    raise _Damaged("a table has tables of its own")

    def _newest_meta(self) -> tuple[int, list[int]]:
        """Page size, and the roots of the free list and of the table of tables, of the last commit."""
        found: list[tuple[int, int, list[int]]] = []
        page_bytes = mmap.PAGESIZE
        for number in (0, 1):
            at = number * page_bytes + _PAGE.size
            if at + _META_HEAD.size + 2 * _DB.size + _META_TAIL.size > self._size:
                continue
            magic, version = _META_HEAD.unpack_from(self._data, at)
            if magic != _MAGIC or version not in (1, 999):
                continue
            at += _META_HEAD.size
            free = _DB.unpack_from(self._data, at)
            tables = _DB.unpack_from(self._data, at + _DB.size)
            transaction = _META_TAIL.unpack_from(self._data, at + 2 * _DB.size)[1]
            if not number:
                page_bytes = free[0]
                if page_bytes < 512 or page_bytes > 1 << 16:
                    raise _Damaged("its first page cannot be verified")
            found.append((transaction, page_bytes, [free[7], tables[7]]))
        if len(found) < 2:
            raise _Damaged("its first pages are not those of a database")
        _, page_bytes, roots = max(found)
        return page_bytes, [root for root in roots if root != _NONE]

    def _page(self, number: int) -> tuple[int, int, int, int]:
        """Offset, flags, lower and upper of a page. Raises `_Damaged`."""
        at = number * self._page_bytes
        if at + self._page_bytes > self._size:
            raise _Damaged(f"page {number} is cut off: the file has {self._size} bytes")
        told, _, flags, lower, upper = _PAGE.unpack_from(self._data, at)
        if told != number:
            raise _Damaged(f"page {number} was overwritten: it says that it is page {told}")
        return at, flags & _KINDS, lower, upper

    def _tree(self, root: int, depth: int) -> Iterator[int]:
        """Walk a tree; the roots of the tables that its leaves name."""
        if depth > _DEPTH_MAX:
            raise _Damaged(f"the tree is endless at page {root}")
        at, kind, lower, upper = self._page(root)
        if kind not in (_BRANCH, _LEAF) or not _PAGE.size <= lower <= upper <= self._page_bytes:
            raise _Damaged(f"page {root} was overwritten: it is no page of a tree")
        count = (lower - _PAGE.size) // 2
        data = self._data
        for node in memoryview(data[at + _PAGE.size : at + _PAGE.size + 2 * count]).cast("H"):
            if not lower <= node <= self._page_bytes - _NODE.size:
                raise _Damaged(f"page {root} was overwritten: a record lies outside")
            low, high, flags, key_bytes = _NODE.unpack_from(data, at + node)
            if kind == _BRANCH:
                yield from self._tree(low | high << 16 | flags << 32, depth + 1)
                continue
            end = node + _NODE.size + key_bytes
            if flags & _BIG:
                self._overflow(root, at + end, end, low | high << 16)
            elif end + (low | high << 16) > self._page_bytes:
                raise _Damaged(f"page {root} was overwritten: a record is longer than the page")
            elif flags & _SUB:
                child = _DB.unpack_from(data, at + end)[7]
                if child != _NONE:
                    yield child

    def _overflow(self, page: int, at: int, end: int, length: int) -> None:
        """The pages of a record that is too long for one."""
        if end + _PGNO.size > self._page_bytes:
            raise _Damaged(f"page {page} was overwritten: a record lies outside")
        first = _PGNO.unpack_from(self._data, at)[0]
        _, kind, low, high = self._page(first)
        count = low | high << 16
        if kind != _OVERFLOW or count * self._page_bytes < _PAGE.size + length:
            raise _Damaged(f"page {first} was overwritten: it is no part of a long record")
        if (first + count) * self._page_bytes > self._size:
            raise _Damaged(f"page {first} is cut off: the file has {self._size} bytes")
