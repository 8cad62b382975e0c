"""A node's data folder: whose it is, that one process uses it, and that what it once held is still there (D7, G12).

Layout: `node.json` (identity), `lock`, `shards/N/{journal,index,blobs}`. Beside the configuration
stands `joined.json`, a copy of the identity that is not on the data disk: a node that once held
replicas and finds none has lost its disk, and must not vote under its old id.
"""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import dataclass
from pathlib import Path

from raftmail.node.config import Config
from raftmail.storage.disk import RealDisk

FORMAT = 1


class FolderError(Exception):
    """The data folder cannot be used by this node; the text says why and what to do."""


@dataclass(slots=True)
class DataFolder:
    """The folder, locked for this process. `is_new` says that no replica was ever started from it."""

    config: Config
    is_new: bool
    _lock_fd: int

    @classmethod
    def claim(cls, config: Config) -> DataFolder:
        """Lock the folder and check that it is this node's. Raises `FolderError`."""
        data = config.data
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        fd = os.open(data / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            owner = os.pread(fd, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(fd)
            raise FolderError(
                f"{data}: in use by another process (pid {owner}); stop it first"
            ) from None
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        try:
            is_new = _check_identity(config)
        except BaseException:
            os.close(fd)
            raise
        return cls(config, is_new, fd)

    def mark_started(self) -> None:
        """Note, durably and in both places, that replicas of this node exist now."""
        if self.is_new:
            identity = _identity(self.config)
            for folder, name in (
                (self.config.data, "node.json"),
                (self.config.folder, "joined.json"),
            ):
                _write(folder, name, identity)
            self.is_new = False

    def shard_disk(self, shard: int) -> RealDisk:
        return RealDisk(self.config.data / "shards" / str(shard))

    def release(self) -> None:
        os.close(self._lock_fd)


def _identity(config: Config) -> dict[str, str | int]:
    return {"format": FORMAT, "cluster": config.cluster.id, "node": config.node.name}


def _check_identity(config: Config) -> bool:
    wanted = _identity(config)
    path = config.data / "node.json"
    joined = config.folder / "joined.json"
    if path.exists():
        try:
            found = json.loads(path.read_text())
        except (OSError, ValueError) as e:
            raise FolderError(
                f"{path}: damaged ({e}); restore it from {joined}, if the rest of the folder is this node's"
            ) from None
        if found != wanted:
            raise FolderError(
                f"{config.data}: belongs to node {found.get('node')!r} of cluster {found.get('cluster')!r} (format "
                f"{found.get('format')!r}), but {config.path} is of node {config.node.name!r} of cluster {config.cluster.id!r}"
            )
        return False
    if joined.exists():
        raise FolderError(
            f"{config.data}: this node has held replicas (see {joined}), but they are gone. If the disk is only not mounted, mount "
            "it. If it is lost, this node must not take part under its old identity: replace it by a new node"
        )
    if (config.data / "shards").exists():
        raise FolderError(
            f"{config.data}: holds replicas, but no {path.name} tells whose they are; move it away"
        )
    return True


def _write(folder: Path, name: str, value: dict[str, str | int]) -> None:
    temporary = folder / f".{name}.new"
    with open(temporary, "w", encoding="utf-8") as f:
        json.dump(value, f, indent=2)
        f.write("\n")
        f.flush()
        os.fsync(f.fileno())
    os.replace(temporary, folder / name)
    RealDisk(folder).sync_folder("")
