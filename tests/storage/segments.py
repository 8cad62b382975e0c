"""What is wrong with the segments of a blob store that nobody has open: read without the store."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from raftmail.storage.blobformat import (
    HEADER_BYTES,
    SEGMENT_HEADER_BYTES,
    BlobHeader,
    decode_header,
    is_segment_header,
    list_segments,
    read_body,
    segment_name,
    unpack_place,
    walk,
)
from raftmail.storage.disk import Disk, File, read_what_can_be
from raftmail.storage.place_table import CHECKPOINT, POSITION, load_sealed


@dataclass(frozen=True, slots=True)
class BlobProblem:
    """Something wrong with the segments, in plain words."""

    file: str
    offset: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}, offset {self.offset}: {self.text}"


def check_segments(
    disk: Disk,
    folder: str,
    places: Iterable[tuple[bytes, bytes]],
    local: Callable[[bytes], bytes | None] | None = None,
    *,
    deep: bool = False,
) -> list[BlobProblem]:
    """What is wrong with a store that nobody has open: files, records, and places that lead
    nowhere.

    `places` are the rows (digest, place) of the place table, `local` reads the store's own values
    (`PlaceTable.get_local`). Without it, missing and foreign files are not noticed. With `deep`,
    every body is read and its sha256 verified. Changes nothing; keeps one row a place in memory.
    """
    check = _Check(disk, folder, deep)
    checkpoint = (0, 0)
    sealed: dict[int, int] = {}
    if local is not None:
        found = local(CHECKPOINT)
        checkpoint = POSITION.unpack(found) if found is not None else (0, 0)
        highest = max([checkpoint[0], *list_segments(disk, folder)])
        sealed, _ = load_sealed(local, highest)
        check.files(sealed, checkpoint)
    for sequence in list_segments(disk, folder):
        known = sealed.get(sequence, checkpoint[1] if sequence == checkpoint[0] else 0)
        check.segment(sequence, known)
    check.placed(places)
    return check.problems


def stored_digests(disk: Disk, folder: str) -> Iterator[bytes]:
    """The digests of all records that have a good header, entered or not; some more than once."""
    for sequence in list_segments(disk, folder):
        file = disk.open(segment_name(folder, sequence))
        try:
            for item in walk(file, sequence, SEGMENT_HEADER_BYTES, file.size()):
                if isinstance(item, BlobHeader):
                    yield item.digest
        finally:
            file.close()


class _Check:
    def __init__(self, disk: Disk, folder: str, deep: bool) -> None:
        self.problems: list[BlobProblem] = []
        self._disk = disk
        self._folder = folder
        self._deep = deep

    def _tell(self, sequence: int, offset: int, text: str) -> None:
        self.problems.append(BlobProblem(segment_name(self._folder, sequence), offset, text))

    def files(self, sealed: dict[int, int], checkpoint: tuple[int, int]) -> None:
        """The files that are there against those that should be."""
        present = set(list_segments(self._disk, self._folder))
        for sequence in sorted(sealed.keys() - present):
            self._tell(sequence, 0, "the file is missing; all bodies in it are lost here")
        if checkpoint[1] and checkpoint[0] not in present:
            self._tell(checkpoint[0], 0, "the file is missing; all bodies in it are lost here")
        for sequence in sorted(present - sealed.keys()):
            if sequence < checkpoint[0]:
                self._tell(sequence, 0, "the index knows nothing of this file")

    def segment(self, sequence: int, known_bytes: int) -> None:
        """One file: its header, its length, its records. `known_bytes` of it were durable."""
        file = self._disk.open(segment_name(self._folder, sequence))
        try:
            size = file.size()
            if size < known_bytes:
                self._tell(sequence, size, f"of {known_bytes} bytes, {size} are left")
            if known_bytes and not is_segment_header(
                read_what_can_be(file, 0, SEGMENT_HEADER_BYTES), sequence
            ):
                self._tell(sequence, 0, "the header of the file was changed")
            for item in walk(file, sequence, SEGMENT_HEADER_BYTES, size):
                if isinstance(item, BlobHeader):
                    if self._deep:
                        self._body(file, item)
                elif item[0] < known_bytes:
                    # What is torn behind the durable part belongs to no one.
                    count = min(item[1], known_bytes) - item[0]
                    self._tell(sequence, item[0], f"{count} bytes are not records any more")
        finally:
            file.close()

    def _body(self, file: File, header: BlobHeader) -> None:
        if read_body(file, header) is None:
            place = header.place
            self._tell(place.sequence, place.offset, f"the body {header.digest.hex()} was changed")

    def placed(self, places: Iterable[tuple[bytes, bytes]]) -> None:
        """Whether every place in the index leads to the record it is of."""
        file: File | None = None
        opened = -1
        rows = []
        for digest, packed in places:
            try:
                rows.append((unpack_place(packed), digest))
            except ValueError as e:
                self.problems.append(BlobProblem("places", 0, f"the body {digest.hex()}: {e}"))
        try:
            for place, digest in sorted(rows):
                if place.sequence != opened:
                    if file is not None:
                        file.close()
                    file, opened = None, place.sequence
                    name = segment_name(self._folder, place.sequence)
                    if self._disk.exists(name):
                        file = self._disk.open(name)
                header = None
                if file is not None:
                    data = read_what_can_be(file, place.offset, HEADER_BYTES)
                    header = decode_header(data, place.sequence, place.offset)
                if header is None or header.digest != digest or header.place != place:
                    self._tell(
                        place.sequence,
                        place.offset,
                        f"the index has the body {digest.hex()} here, and it is not",
                    )
        finally:
            if file is not None:
                file.close()
