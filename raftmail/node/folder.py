"""A node's data folder: whose it is, that one process uses it, and that what it once held is still
there (D7, G12).

Here are `node.json` (identity), `replicas.json` (which replicas were made here), `lock` and
`shards/N`; docs/architecture/node.md lists every file with its format and who writes it. Beside the
configuration stands `joined.json` (of worker K `joined.K.json`), a copy of the identity that is not
on the data disk: a node that once held replicas and finds none has lost its disk, and must not vote
under its old ids.

A replica that is in `replicas.json` is opened, never made again: what it voted and acknowledged is
in its journal. One that is not there was never started, or is given up; what a crash left of it is
cleared away.
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import shutil
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from raftmail.node.config import Config
from raftmail.node.files import write_json as write_json
from raftmail.node.lost_disks import LostDisk, move_aside, read_lost, write_lost
from raftmail.node.starts import OlderFolder, begin_start
from raftmail.peering.starts import Start
from raftmail.storage.disk import RealDisk

logger = logging.getLogger(__name__)

FORMAT = 1
REPLICAS_FILE = "replicas.json"
REPLACING_FILE = "replacing.json"
"""There while the cluster has yet to give a node new replica ids for those of a disk that was
lost."""
_GONE = ".gone"


class FolderError(Exception):
    """The data folder cannot be used by this node; the text says why and what to do."""


@dataclass(slots=True, repr=False)
class DataFolder:
    """The folder, locked for this process. `is_new` says that no replica was ever started from it,
    `is_founding` that its node may be one with which the cluster begins. `made` has the id of each
    shard's replica that was made here.
    """

    config: Config
    is_new: bool
    is_founding: bool
    _lock_fd: int
    start: Start
    made: dict[int, int] = field(default_factory=dict)
    is_copy: bool = False
    """Whether the folder looks like a copy of the one that was used last (see `starts`)."""
    lost: dict[int, LostDisk] = field(default_factory=dict)
    """What was set aside, by shard, until another is made in its place (see `lost_disks`)."""

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
            is_founding = is_new or not (data / REPLICAS_FILE).exists()
            made = {} if is_new else _read_made(config)
            lost = _read_lost(data)
            for shard in lost.keys() & made.keys():
                if made[shard] == lost[shard].replica:
                    del made[shard]
            shutil.rmtree(data / _GONE, ignore_errors=True)
            start, is_copy = _begin_start(config, is_new=is_new)
        except BaseException:
            os.close(fd)
            raise
        return cls(config, is_new, is_founding, fd, start, made, is_copy, lost)

    def note_made(self, replicas: Mapping[int, int]) -> None:
        """Note, durably, that these replicas (shard to id) exist, and that this node takes part
        now. Before any of them is started."""
        made = {**self.made, **replicas}
        if self.is_new:
            mark_joined(self.config, made)
            self.is_new = False
        else:
            _write_made(self.config.data, made)
        self.made = made
        if self.lost.keys() & replicas.keys():
            lost = {s: one for s, one in self.lost.items() if s not in replicas}
            write_lost(self.config.data, lost)
            self.lost = lost

    def set_aside(self, shard: int, replica: int, why: str) -> None:
        """A replica has lost its disk: it is never opened again."""
        lost = self.lost | {shard: LostDisk(replica, why)}
        write_lost(self.config.data, lost)
        self.lost = lost
        self.forget(shard)
        try:
            move_aside(self.config.data, shard, replica)
        except OSError as e:
            logger.warning("%s; what the replica kept is removed when another is made", e)

    def forget(self, shard: int) -> None:
        """Give up a shard's replica: it is gone for good when this returns. What it had is removed
        by `clear`."""
        made = {s: replica for s, replica in self.made.items() if s != shard}
        if made != self.made:
            _write_made(self.config.data, made)
            self.made = made

    def clear(self, shard: int) -> None:
        """Remove what is in the folder of a shard whose replica was given up, or made and never
        started. May take a while."""
        assert shard not in self.made
        folder = self.config.data / "shards" / str(shard)
        if folder.exists():
            gone = self.config.data / _GONE / str(shard)
            try:
                gone.parent.mkdir(exist_ok=True)
                shutil.rmtree(gone, ignore_errors=True)
                os.rename(folder, gone)
            except OSError as e:
                if e.errno != errno.ENOSPC:
                    raise
                gone = folder  # on a full disk there is no space for a folder, either
            shutil.rmtree(gone, ignore_errors=True)

    def shard_disk(self, shard: int) -> RealDisk:
        return RealDisk(self.config.data / "shards" / str(shard))

    def release(self) -> None:
        os.close(self._lock_fd)


def mark_joined(config: Config, made: Mapping[int, int]) -> None:
    """Make a data folder this node's, and note beside the configuration that it was. What was made
    comes first: a folder with an identity and without its replicas is one that lost them."""
    config.data.mkdir(parents=True, exist_ok=True, mode=0o700)
    _write_made(config.data, made)
    joined = joined_file(config)
    for folder, name in ((config.data, "node.json"), (joined.parent, joined.name)):
        write_json(folder, name, _identity(config))


def joined_file(config: Config) -> Path:
    """Where it stands, off the data disk, that this worker of the node has held replicas."""
    return config.folder / ("joined.json" if config.worker == 1 else f"joined.{config.worker}.json")


def _identity(config: Config) -> dict[str, str | int]:
    return {"format": FORMAT, "cluster": config.cluster.id, "node": config.node.name}


def _check_identity(config: Config) -> bool:
    wanted = _identity(config)
    path = config.data / "node.json"
    joined = joined_file(config)
    if path.exists():
        try:
            found = read_json(path)
            if type(found) is not dict:
                raise ValueError("it is no JSON object")
        except (OSError, ValueError) as e:
            raise FolderError(
                f"{path}: damaged ({e}); restore it from {joined}, if the rest of the folder is "
                f"this node's"
            ) from None
        if found | {"format": FORMAT} == wanted and found != wanted:
            raise FolderError(
                f"{path}: has format {found.get('format')!r}; this release reads {FORMAT}: start "
                f"the release that wrote it"
            )
        if found != wanted:
            raise FolderError(
                f"{config.data}: belongs to node {found.get('node')!r} of cluster "
                f"{found.get('cluster')!r} (format "
                f"{found.get('format')!r}), but {config.path} is of node {config.node.name!r} of "
                f"cluster {config.cluster.id!r}"
            )
        return False
    if joined.exists():
        raise FolderError(
            f"{config.data}: this node has held replicas (see {joined}), but they are gone. If "
            f"the disk is only not mounted, mount "
            f"it. If it is lost, run `raftmail node --replace {config.folder}`: the node then "
            f"gets new replicas from the others"
        )
    if (config.data / "shards").exists() and not (config.data / REPLICAS_FILE).exists():
        raise FolderError(
            f"{config.data}: holds replicas, but no {path.name} tells whose they are; move it away"
        )
    return True


def _read_made(config: Config) -> dict[int, int]:
    path = config.data / REPLICAS_FILE
    if not path.exists():
        # The first version kept no such file: its replicas have the number of the node's name in
        # order.
        shards = (config.data / "shards").glob("*")
        return {int(s.name): config.replica_id for s in shards if s.name.isdecimal()}
    try:
        value = read_json(path)
        replicas = value["replicas"]
        if value["crc32"] != _crc(replicas):
            raise ValueError("its checksum is wrong")
        return {int(shard): int(replica) for shard, replica in replicas.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
        raise FolderError(
            f"{path}: cannot be read ({e}). It tells which replicas this node has. Restore it; or "
            f"give the node up as one whose disk "
            f"is lost: move {config.data} away, and run `raftmail node --replace {config.folder}`"
        ) from None


def _begin_start(config: Config, *, is_new: bool) -> tuple[Start, bool]:
    try:
        return begin_start(config, new=is_new or (config.data / REPLACING_FILE).exists())
    except OlderFolder as e:
        raise FolderError(str(e)) from None


def _read_lost(data: Path) -> dict[int, LostDisk]:
    try:
        return read_lost(data)
    except ValueError as e:
        raise FolderError(str(e)) from None


def holds_none(data: Path) -> bool:
    """Whether a node takes part from this folder and has no replica: it was given none yet, or none
    any more. False also when that cannot be told."""
    try:
        value = read_json(data / REPLICAS_FILE)
        return bool(value["replicas"] == {} and value["crc32"] == _crc({}))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _write_made(data: Path, made: Mapping[int, int]) -> None:
    replicas = {str(shard): made[shard] for shard in sorted(made)}
    value = {"format": FORMAT, "replicas": replicas, "crc32": _crc(replicas)}
    write_json(data, REPLICAS_FILE, value)


def _crc(replicas: Any) -> int:
    return zlib.crc32(json.dumps(replicas, sort_keys=True).encode())


def read_json(path: Path) -> Any:
    """What a file says. Raises OSError, and ValueError for all that is no JSON, however deep it
    goes."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError("it goes too deep") from None
