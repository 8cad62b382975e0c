"""The disk of a simulated node, and what is surely on it."""

from __future__ import annotations

from collections import Counter

from tests.simulation.disk import SimDisk


class NodeDisk(SimDisk):
    """Counts what is reached, and tells what is surely there."""

    def __init__(self, seed: int, reached: Counter[str]) -> None:
        super().__init__(seed)
        self.reached = reached

    def remove(self, path: str) -> None:
        super().remove(path)
        self.reached["segments of bodies given back"] += path.startswith("blobs/")

    def has_stable(self, folder: str, part: bytes) -> bool:
        """Whether these bytes are in what was synced of some file of a folder; the newest is looked at first."""
        names = self._stable_names
        for path in reversed(names):
            if path.startswith(folder):
                inode = names[path]
                if not isinstance(inode, str) and part in inode.stable:
                    return True
        return False

    def stable_files(self) -> dict[str, bytes | None]:
        """What would be left if the power went now and nothing unsynced were kept; None for a folder."""
        return {
            path: None if isinstance(what, str) else what.stable
            for path, what in self._stable_names.items()
        }


def stable_copy(disk: NodeDisk) -> SimDisk:
    """The disk as a loss of power would leave it at worst: what was synced, and nothing else."""
    copy = SimDisk()
    names = disk.stable_files()
    for path, content in names.items():
        if content is None:
            if path:
                copy.mkdir(path)
        else:
            copy.put(path, content)
    return copy
