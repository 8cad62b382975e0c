"""What the index records for the blob store: places of bodies, and which segments are sealed."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable, Sequence
from typing import Final, Protocol

CHECKPOINT: Final = b"blobs/checkpoint"
"""Key of the position up to which the segments have been entered into the place table."""
POSITION: Final = struct.Struct("<QQ")

_CHUNK: Final = 256
_RECLAIMED: Final = (1 << 64) - 1


class PlaceTable(Protocol):
    """Where the store keeps the places of bodies and a little of its own: tables of the index.

    What is put is seen at once, and durable with the index's transaction.
    """

    def get_place(self, digest: bytes) -> bytes | None: ...
    def places_from(self, digest: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """Bodies and their places, from a digest on, in the order of digests."""

    def put_places(self, places: Sequence[tuple[bytes, bytes]]) -> None: ...
    def delete_place(self, digest: bytes) -> None: ...
    def get_local(self, key: bytes) -> bytes | None: ...
    def put_local(self, key: bytes, value: bytes) -> None: ...

    def commit_durable(self) -> None:
        """Commit the index's transaction, on stable storage."""


def _key(chunk: int) -> bytes:
    return b"blobs/sealed/%d" % chunk


def _chunk(get_local: Callable[[bytes], bytes | None], chunk: int) -> array[int]:
    found = get_local(_key(chunk))
    lengths = array("Q", found or bytes(8 * _CHUNK))
    if len(lengths) != _CHUNK:
        raise ValueError(f"{_key(chunk).decode()} has {len(found or b'')} bytes")
    return lengths


def load_sealed(
    get_local: Callable[[bytes], bytes | None], sequence_max: int
) -> tuple[dict[int, int], set[int]]:
    """The lengths of sealed segments, and the segments that were emptied, up to `sequence_max`."""
    sealed: dict[int, int] = {}
    reclaimed: set[int] = set()
    for chunk in range(sequence_max // _CHUNK + 1):
        for at, length in enumerate(_chunk(get_local, chunk)):
            if length == _RECLAIMED:
                reclaimed.add(chunk * _CHUNK + at)
            elif length:
                sealed[chunk * _CHUNK + at] = length
    return sealed, reclaimed


def record_sealed(table: PlaceTable, sequence: int, length: int | None) -> None:
    """Note that a segment is sealed with this length, or (None) emptied and to be removed."""
    lengths = _chunk(table.get_local, sequence // _CHUNK)
    lengths[sequence % _CHUNK] = _RECLAIMED if length is None else length
    table.put_local(_key(sequence // _CHUNK), lengths.tobytes())
