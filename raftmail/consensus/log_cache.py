"""The parts of the log that the journal keeps in memory."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, overload

Entry = tuple[bytes, int, int]
"""(command, index, term), the order of PySyncObj."""

ENTRY_OVERHEAD_BYTES: Final = 160
"""What a cached entry costs beside its command: the bytes object, the tuple and two numbers."""


@dataclass(slots=True)
class Hidden:
    """A suffix that was cut, but may come back unchanged before anything is written about it."""

    places: array[int]
    lengths: array[int]
    terms: array[int]
    cached: list[Entry]
    """The last entries of the suffix, as far as they were cached."""
    next: int = 0
    """The first that has not come back."""


class LogView(Sequence[Entry]):
    """A long slice of the log, read from the disk as far as someone looks at it.

    The engine slices the whole rest of the log and takes the first few entries of it.
    """

    __slots__ = ("_entry", "_range")

    def __init__(self, entry: Callable[[int], Entry], indices: range) -> None:
        self._entry = entry
        self._range = indices

    def __len__(self) -> int:
        return len(self._range)

    @overload
    def __getitem__(self, item: int) -> Entry: ...
    @overload
    def __getitem__(self, item: slice) -> list[Entry]: ...
    def __getitem__(self, item: int | slice) -> Entry | list[Entry]:
        if isinstance(item, slice):
            return [self._entry(i) for i in self._range[item]]
        return self._entry(self._range[item])

    def __iter__(self) -> Iterator[Entry]:
        return map(self._entry, self._range)


@dataclass(slots=True, repr=False)
class LogCache:
    """The newest entries; `entries[0]` has the index `first`."""

    entries: list[Entry] = field(default_factory=list)
    first: int = 1
    bytes_held: int = 0

    def drop(self, count: int) -> None:
        """Forget the oldest `count` entries."""
        for command, _, _ in self.entries[:count]:
            self.bytes_held -= len(command) + ENTRY_OVERHEAD_BYTES
        del self.entries[:count]
        self.first += count
