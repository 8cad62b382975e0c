"""The columns of messages that all replicas of a process keep in memory (P7)."""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Final

COLUMNS_BYTES_MAX: Final = 32 << 20
"""Of all replicas of a process: some 1.2 million messages. Beyond it those go that were not asked
for longest."""

_BLOCK_BYTES: Final = 2048
"""What a block takes beside its messages."""

_MESSAGE_BYTES: Final = 26
_KIND_BYTES: Final = 256


@dataclass(frozen=True, slots=True)
class ColumnBlock:
    """Messages of one mailbox in columns, ascending by UID, as `mail.queries.MessageColumns` has
    them."""

    uids: Sequence[int]
    modseqs: Sequence[int]
    sizes: Sequence[int]
    received_us: Sequence[int]
    flags: tuple[tuple[str, ...], ...]
    flags_of: Sequence[int]

    def packed(self) -> ColumnBlock:
        """The same in little memory."""
        return ColumnBlock(
            array("I", self.uids),
            array("Q", self.modseqs),
            array("I", self.sizes),
            array("q", self.received_us),
            self.flags,
            array("H", self.flags_of),
        )

    def part(self, spans: Sequence[tuple[int, int]]) -> ColumnBlock:
        """The messages from place to place."""
        if len(spans) == 1 and spans[0] == (0, len(self.uids)):
            return self
        numbers = (self.uids, self.modseqs, self.sizes, self.received_us, self.flags_of)
        uids, modseqs, sizes, received_us, flags_of = (
            _joined([column[low:high] for low, high in spans]) for column in numbers
        )
        used = sorted(set(flags_of))
        if len(used) == len(self.flags):
            return ColumnBlock(uids, modseqs, sizes, received_us, self.flags, flags_of)
        places = {kind: at for at, kind in enumerate(used)}
        flags = tuple(self.flags[kind] for kind in used)
        flags_of = list(map(places.__getitem__, flags_of))
        return ColumnBlock(uids, modseqs, sizes, received_us, flags, flags_of)

    @property
    def held_bytes(self) -> int:
        """What it is counted as when it is packed."""
        return _BLOCK_BYTES + _MESSAGE_BYTES * len(self.uids) + _KIND_BYTES * len(self.flags)


def _joined(parts: Sequence[Sequence[int]]) -> Sequence[int]:
    return parts[0] if len(parts) == 1 else [one for part in parts for one in part]


class ColumnPool:
    """Blocks of columns by their keys: the owner, the mailbox, and the place in it. Invariant:
    `used_bytes` is the sum of what they hold, and at most `bytes_max`."""

    def __init__(self, bytes_max: int = COLUMNS_BYTES_MAX) -> None:
        self.bytes_max = bytes_max
        self.used_bytes = 0
        self._blocks: OrderedDict[tuple[int, int, int], ColumnBlock] = OrderedDict()
        self._owners = count(1)

    def new_owner(self) -> int:
        """A number that no other has had."""
        return next(self._owners)

    def get(self, key: tuple[int, int, int]) -> ColumnBlock | None:
        block = self._blocks.get(key)
        if block is not None:
            self._blocks.move_to_end(key)
        return block

    def put(self, key: tuple[int, int, int], block: ColumnBlock) -> None:
        """Keep a packed block, as long as there is room for it."""
        self.drop(key)
        self._blocks[key] = block
        self.used_bytes += block.held_bytes
        while self.used_bytes > self.bytes_max:
            _, oldest = self._blocks.popitem(last=False)
            self.used_bytes -= oldest.held_bytes

    def drop(self, key: tuple[int, int, int]) -> None:
        """Harmless for one that is not there."""
        block = self._blocks.pop(key, None)
        if block is not None:
            self.used_bytes -= block.held_bytes
