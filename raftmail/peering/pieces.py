"""Long frames between peers, sent in pieces so that others go in between.

A piece is a frame of the kind PIECE: `number u32 | offset u64 | total u64 | length of the kind u8`,
big-endian, the kind, then bytes of the long frame's payload. `number` names the long frame, from 0
on for each link. Pieces of one long frame come in the order of their offsets.
"""

from __future__ import annotations

import mmap
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from struct import Struct

from raftmail.net.limits import KIB, MIB
from raftmail.net.lines import ProtocolViolation
from raftmail.peering.frames import frame_prefix

PIECE = "PIECE"
PIECE_BYTES = 64 * KIB
"""Of a payload, in one piece."""
BEGUN_BYTES_MAX = 64 * MIB
"""Of long frames of which some has left, and not all: the other side holds as much of them. One
always may have begun."""
_FREE_BYTES_MAX = 4 * PIECE_BYTES
"""Frames up to this length begin whatever else has."""

_HEAD = Struct(">IQQB")
_KIND_BYTES_MAX = 16


@dataclass(slots=True)
class _Long:
    """A frame on its way out. `parts` are what is left of its payload."""

    number: int
    shard: int
    kind: str
    parts: deque[memoryview]
    total: int
    offset: int = 0


class Cutter:
    """Frames that others may overtake, in lines by shard and kind: each line in order, one piece of
    each line in turn.

    Invariants: `waiting_bytes` is what is left of all payloads here. Nothing is copied before it is
    taken. Frames that have begun are together, but for short ones, no longer than
    `BEGUN_BYTES_MAX`, or one."""

    def __init__(self) -> None:
        self.waiting_bytes = 0
        self._begun_bytes = 0
        self._lines: dict[tuple[int, str], deque[_Long]] = {}
        self._count = 0

    def __bool__(self) -> bool:
        return bool(self._lines)

    def add(self, shard: int, kind: str, payload: Sequence[bytes | memoryview], size: int) -> None:
        """Put a frame behind those of its shard and kind; `size` is the length of its payload.
        Raises ValueError for a kind that no frame can have."""
        frame_prefix(shard, kind)
        parts = deque(memoryview(part) for part in payload if len(part))
        long = _Long(self._count, shard, kind, parts, size)
        self._count = (self._count + 1) & 0xFFFFFFFF
        self._lines.setdefault((shard, kind), deque()).append(long)
        self.waiting_bytes += size

    def take(self, *, short: bool = False) -> list[bytes | memoryview] | None:
        """The next piece, as a frame in parts; a payload that is no longer than a piece is a frame
        of its own. With `short`, of frames alone that begin whatever else has. None: there is
        nothing that may go."""
        may_go = self._is_short if short else self._may_go
        key = next((key for key, line in self._lines.items() if may_go(line[0])), None)
        if key is None:
            return None
        line = self._lines.pop(key)
        long = line[0]
        if not long.offset and long.total > _FREE_BYTES_MAX:
            self._begun_bytes += long.total
        data, size = _next_bytes(long.parts)
        if size == long.total:
            head = b"%b%d}\r\n" % (frame_prefix(long.shard, long.kind), size)
        else:
            name = long.kind.encode()
            inner = _HEAD.pack(long.number, long.offset, long.total, len(name)) + name
            head = b"%b%d}\r\n%b" % (frame_prefix(long.shard, PIECE), len(inner) + size, inner)
        long.offset += size
        self.waiting_bytes -= size
        if long.offset == long.total:
            line.popleft()
            if long.total > _FREE_BYTES_MAX:
                self._begun_bytes -= long.total
        if line:
            self._lines[key] = line  # behind the others
        return [head, *data]

    def _is_short(self, long: _Long) -> bool:
        return long.total <= _FREE_BYTES_MAX

    def _may_go(self, long: _Long) -> bool:
        """Whether a frame has begun, or may. Of the first frames of all lines one always does."""
        return (
            long.offset > 0
            or long.total <= _FREE_BYTES_MAX
            or not self._begun_bytes
            or self._begun_bytes + long.total <= BEGUN_BYTES_MAX
        )

    def clear(self) -> None:
        """Forget everything."""
        self._begun_bytes = 0
        self._lines.clear()
        self.waiting_bytes = 0


def _next_bytes(parts: deque[memoryview]) -> tuple[list[memoryview], int]:
    """Up to `PIECE_BYTES` from the front of `parts`, which lose them."""
    taken: list[memoryview] = []
    size = 0
    while parts and size < PIECE_BYTES:
        part = parts.popleft()
        room = PIECE_BYTES - size
        if len(part) > room:
            parts.appendleft(part[room:])
            part = part[:room]
        taken.append(part)
        size += len(part)
    return taken, size


@dataclass(slots=True)
class _Begun:
    """A long frame of which not all has come."""

    shard: int
    kind: str
    total: int
    payload: mmap.mmap
    """Memory of the system's, which nobody has to fill with zeros before."""
    got: int = 0


class Joiner:
    """Puts long frames together again, and trusts nothing.

    Invariant: the payloads that have begun have at most `bytes_max` bytes together."""

    def __init__(self, frame_bytes_max: int, bytes_max: int) -> None:
        self._frame_bytes_max = frame_bytes_max
        self._bytes_max = bytes_max
        self._begun: dict[int, _Begun] = {}
        self._begun_bytes = 0

    def take(self, shard: int, piece: bytes) -> tuple[int, str, memoryview] | None:
        """Take a piece; the frame that it completes, if it does. Its payload is a view of memory
        that nobody else has. Raises `ProtocolViolation`; it is of no use after that."""
        if len(piece) < _HEAD.size:
            raise ProtocolViolation(f"a piece of {len(piece)} bytes")
        number, offset, total, kind_bytes = _HEAD.unpack_from(piece)
        start = _HEAD.size + kind_bytes
        long = self._begun.get(number)
        if long is None:
            long = self._begin(number, shard, piece[_HEAD.size : start], total)
        if (shard, total, offset) != (long.shard, long.total, long.got):
            raise ProtocolViolation(f"a piece that does not follow those before it, at {offset}")
        size = len(piece) - start
        if not 0 < size <= total - offset:
            raise ProtocolViolation(f"a piece of {size} bytes at {offset} of {total}")
        long.payload[offset : offset + size] = memoryview(piece)[start:]
        long.got += size
        if long.got < total:
            return None
        del self._begun[number]
        self._begun_bytes -= total
        return long.shard, long.kind, memoryview(long.payload).toreadonly()

    def _begin(self, number: int, shard: int, kind: bytes, total: int) -> _Begun:
        if not kind.isalpha() or not kind.isupper() or len(kind) > _KIND_BYTES_MAX:
            raise ProtocolViolation(f"a piece of a frame of the kind {kind[:20]!r}")
        if not total:
            raise ProtocolViolation("a piece of a frame of 0 bytes")
        if total > self._frame_bytes_max:
            raise ProtocolViolation(f"a frame of {total} bytes, more than {self._frame_bytes_max}")
        if self._begun_bytes + total > self._bytes_max:
            raise ProtocolViolation(f"frames of more than {self._bytes_max} bytes have begun")
        self._begun_bytes += total
        # The system gives the memory when it is written to, a piece at a time.
        long = self._begun[number] = _Begun(shard, kind.decode(), total, mmap.mmap(-1, total))
        return long
