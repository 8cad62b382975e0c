"""The disk of a simulated node, and what is surely on it."""

from __future__ import annotations

from collections import Counter

from tests.simulation.disk import SimDisk


class NodeDisk(SimDisk):
    """Counts what is reached, and tells what is surely there."""

    def __init__(self, seed: int, reached: Counter[str]) -> None:
        super().__init__(seed)
        self.reached = reached
        self._flipped: list[tuple[str, int]] = []

    def remove(self, path: str) -> None:
        super().remove(path)
        self.reached["segments of bodies given back"] += path.startswith("blobs/")

    def has_stable(self, folder: str, part: bytes) -> bool:
        """Whether these bytes are in what was synced of some file of a folder; the newest is looked
        at first."""
        names = self._stable_names
        for path in reversed(names):
            if path.startswith(folder):
                inode = names[path]
                if not isinstance(inode, str) and part in inode.stable:
                    return True
        return False

    def rot(self, path: str, bit: int) -> None:
        """Have a bit of a journal rot, for ever. `stable_files` goes on telling what it was: a disk
        that had something, and is found to be a bad one only later, counts as one that was lost
        then."""
        self.flip_bit(path, bit)
        self._flipped.append((path, bit))

    @property
    def has_rot(self) -> bool:
        """Whether a file is still there that rotted, or may come back."""
        there = (self._names, self._stable_names)
        self._flipped = [one for one in self._flipped if any(one[0] in names for names in there)]
        return bool(self._flipped)

    def _healed(self, path: str, content: bytes) -> bytes:
        if not self._flipped:
            return content
        healed = bytearray(content)
        for rotten, bit in self._flipped:
            if rotten == path and bit // 8 < len(healed):
                healed[bit // 8] ^= 1 << bit % 8
        return bytes(healed)

    def stable_files(self) -> dict[str, bytes | None]:
        """What would be left if the power went now and nothing unsynced were kept, and nothing had
        rotted; None for a folder."""
        return {
            path: None if isinstance(what, str) else self._healed(path, what.stable)
            for path, what in self._stable_names.items()
        }

    def as_it_was(self) -> SimDisk:
        """The disk as it is, had nothing rotted."""
        return _copy(
            {
                path: None if isinstance(what, str) else self._healed(path, bytes(what.data))
                for path, what in self._names.items()
            }
        )


def stable_copy(disk: NodeDisk) -> SimDisk:
    """The disk as a loss of power would leave it at worst: what was synced, and nothing else."""
    return _copy(disk.stable_files())


def _copy(files: dict[str, bytes | None]) -> SimDisk:
    copy = SimDisk()
    for path, content in files.items():
        if content is None:
            if path:
                copy.mkdir(path)
        else:
            copy.put(path, content)
    return copy
