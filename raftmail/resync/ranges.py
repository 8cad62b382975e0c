"""Digests over ranges of rows, by which two replicas find what differs in a table.

A range is `[start, end)`; `end` b"" is the end of the table.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from struct import Struct

from raftmail.storage.kv import PAGE_ROWS, Row, Table

Range = tuple[bytes, bytes]
"""`[start, end)`."""

Piece = tuple[int, bytes, bytes]
"""The number of the range that it is of, its end, its digest. It begins where the one before it
ended, or with its range."""

DIGEST_BYTES = 16
_LENGTHS = Struct(">HI")


def rows_in(table: Table, start: bytes, end: bytes, hint: int = PAGE_ROWS) -> Iterator[Row]:
    """The rows of a range; about `hint` are expected. The table must not change meanwhile."""
    hint = max(2, min(hint, PAGE_ROWS))
    while True:
        page = table.page(start, end or None, hint)
        yield from page
        if len(page) < hint:
            return
        start = page[-1][0] + b"\0"
        hint = PAGE_ROWS


class RangeDigest:
    """The digest of rows in their order."""

    __slots__ = ("_hash", "rows")

    def __init__(self) -> None:
        self._hash = blake2b(digest_size=DIGEST_BYTES)
        self.rows = 0

    def add(self, row: Row) -> None:
        key, record = row
        self._hash.update(_LENGTHS.pack(len(key), len(record)) + key + record)
        self.rows += 1

    def digest(self) -> bytes:
        return self._hash.digest()


def digest_of(table: Table, start: bytes, end: bytes) -> bytes:
    """The digest of a range."""
    total = RangeDigest()
    for row in rows_in(table, start, end):
        total.add(row)
    return total.digest()


def cut(
    table: Table, ranges: Sequence[Range], piece_rows: int, rows_max: int
) -> tuple[list[Piece], int, bytes]:
    """Cut ranges into pieces of `piece_rows` rows, looking at about `rows_max` rows.

    Also how many ranges were cut wholly, and, of the next, where to go on (b"": not begun)."""
    pieces: list[Piece] = []
    budget = rows_max
    for number, (start, end) in enumerate(ranges):
        if budget <= 0:
            return pieces, number, b""
        total = RangeDigest()
        hint = min(PAGE_ROWS, budget + 1, piece_rows * 16)
        for row in rows_in(table, start, end, hint):
            if total.rows == piece_rows:
                pieces.append((number, row[0], total.digest()))
                total = RangeDigest()
                if budget <= 0:
                    return pieces, number, row[0]
            total.add(row)
            budget -= 1
        pieces.append((number, end, total.digest()))
        budget -= 1
    return pieces, len(ranges), b""


def differing(
    table: Table, start: bytes, pieces: Sequence[tuple[bytes, bytes]], hint: int
) -> tuple[list[Range], list[Range], int]:
    """Of the pieces that follow each other from `start` (end and digest of each): those that are
    not the same in `table` and have rows there, those that have none, and how many rows were
    looked at."""
    unlike: list[Range] = []
    absent: list[Range] = []
    looked = 0
    last = pieces[-1][0]
    rows = rows_in(table, start, last, hint)
    row = next(rows, None)
    for end, digest in pieces:
        total = RangeDigest()
        while row is not None and (not end or row[0] < end):
            total.add(row)
            row = next(rows, None)
        if total.digest() != digest:
            (unlike if total.rows else absent).append((start, end))
        looked += total.rows
        start = end
    return unlike, absent, looked


def joined(ranges: Sequence[Range]) -> list[Range]:
    """Ranges in their order, those that touch made one."""
    found: list[Range] = []
    for start, end in sorted(ranges):
        if found and found[-1][1] == start and start:
            found[-1] = (found[-1][0], end)
        else:
            found.append((start, end))
    return found


def number_range(prefix: bytes) -> Range:
    """The range of keys that begin with the 8 bytes of a mailbox number."""
    following = int.from_bytes(prefix, "big") + 1
    return prefix, following.to_bytes(8, "big") if following < 1 << 64 else b""
