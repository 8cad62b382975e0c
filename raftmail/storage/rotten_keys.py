"""What a key that rotted hides in a table.

A key that rotted lies where its own belongs, but compares as another one, so a search does not
find its row. A search that passes it may turn the wrong way, and miss good rows on the other side.
Either way the search ends beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from raftmail.storage.kv import Row, Table
from raftmail.storage.records import IndexDamaged


class RottenKeys:
    """Tells rows that are not there from rows that one table hides."""

    def __init__(self, name: str, table: Table, check: Callable[[bytes, bytes], object]) -> None:
        """`check` raises `IndexDamaged` for a row whose key and record do not fit."""
        self._name = name
        self._table = table
        self._check = check

    def check_missing(self, key: bytes) -> None:
        """After a search that did not find `key`. Raises `IndexDamaged` where it may be hidden."""
        self._look(key, key + b"\0", None)

    def check_range(self, start: bytes, end: bytes | None, rows: Sequence[Row]) -> None:
        """After a search from `start` up to but not with `end` that found all of `rows`. Raises
        `IndexDamaged` where others may be hidden at either end; what is between is checked by who
        reads it."""
        self.check_start(start, end, rows)
        if rows:
            self._look(rows[-1][0] + b"\0", end, None)

    def check_start(self, start: bytes, end: bytes | None, rows: Sequence[Row]) -> None:
        """As `check_range`, of the first of the range's rows: the rest is yet to be searched."""
        self._look(start, end, rows[0][0] if rows else None)

    def _look(self, start: bytes, end: bytes | None, found: bytes | None) -> None:
        """A cursor that stands on a page may search that page alone, so one search can find what
        another did not."""
        before, here = self._table.around(start)
        if before is not None:
            self._check(*before)
        if here is None:
            return
        key, record = here
        self._check(key, record)
        if key != found and (end is None or key < end):
            raise IndexDamaged(self._name, key, "the keys beside it are not in order")
