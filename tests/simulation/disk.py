"""A disk in memory that cuts the power, tears writes, fills up, rots and fails to sync.

The fault model:

- **Power loss.** What a file holds afterwards is what its last finished sync covered, and some of
  the writes since then. For each sector of 512 bytes by itself, it is those up to some random one:
  all, none, or anything between. The file's length is that after some random one of them. Some
  losses keep a plain prefix of the writes instead, the last of them torn at any byte.
- **Names.** Creations, removals and renames that `sync_folder` did not cover are kept up to a
  random one, or each by the toss of a coin. A rename is kept whole or not at all. A folder whose
  own name was lost takes everything in it along.
- **Where the power is cut.** At the n-th operation that changes or syncs something; of a write,
  some of it may still arrive; of a sync as well.
- **Full disk.** A write that needs more than `capacity_bytes` writes a random part of itself, then
  raises `DiskFull`. Overwriting needs no space.
- **Rot.** `flip_bit` changes one bit at rest.
- **Failed sync.** The n-th sync raises `SyncFailed`, and what it was to cover may be lost silently.

Not modelled: writes that go to another place, disks that lie about a sync, slow disks.

Everything random comes from the seed.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Final

from raftmail.storage.disk import DiskFull, ReadFailed, SyncFailed

SECTOR_BYTES: Final = 512
PLENTY_BYTES: Final = 1 << 40
"""A disk of this capacity is taken never to fill up."""


class PowerCut(BaseException):
    """The power is gone. Not an Exception, so that nothing on the way takes it for an error."""


@dataclass(slots=True)
class _Write:
    offset: int
    data: bytes


@dataclass(slots=True)
class _Truncate:
    size: int


_Change = _Write | _Truncate


@dataclass(slots=True, eq=False)
class _Inode:
    data: bytearray = field(default_factory=bytearray)
    stable: bytes = b""
    pending: list[_Change] = field(default_factory=list)
    unreadable: set[int] = field(default_factory=set)
    """Sectors that cannot be read until they are written again."""


_Name = tuple[str, "_Inode | str | None"]
"""A path and what it names: a file, "folder", or nothing any more."""


def _apply(data: bytearray, change: _Change) -> None:
    if isinstance(change, _Truncate):
        if change.size < len(data):
            del data[change.size :]
        else:
            data.extend(bytes(change.size - len(data)))
        return
    end = change.offset + len(change.data)
    if end > len(data):
        data.extend(bytes(end - len(data)))
    data[change.offset : end] = change.data


def _parent(path: str) -> str:
    return path.rpartition("/")[0]


class SimFile:
    """A `File` of a `SimDisk`. It dies with the power."""

    def __init__(self, disk: SimDisk, inode: _Inode, path: str) -> None:
        self._disk = disk
        self._inode = inode
        self._life = disk.life
        self._closed = False
        self.path = path

    def _check(self) -> None:
        disk = self._disk
        if disk.off or self._life != disk.life:
            raise PowerCut
        if self._closed:
            raise AssertionError(f"{self.path} is used after it was closed")

    def read(self, offset: int, length: int) -> bytes:
        self._check()
        if bad := self._inode.unreadable:
            end = min(offset + length, len(self._inode.data))
            if any(s in bad for s in range(offset // SECTOR_BYTES, -(-end // SECTOR_BYTES))):
                raise ReadFailed(f"{self.path}: a sector of the simulated disk cannot be read")
        return bytes(self._inode.data[offset : offset + length])

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        self._check()
        disk, inode = self._disk, self._inode
        whole = part = bytes(data)
        last = disk.count()
        space = disk.free_bytes() + len(inode.data) - offset
        if len(whole) > space:
            part = whole[: disk.random.randint(0, max(space, 0))]
        if last:
            part = part[: disk.random.randint(0, len(part))]
        if part:
            change = _Write(offset, part)
            _apply(inode.data, change)
            inode.pending.append(change)
            if inode.unreadable:
                end = offset + len(part)
                inode.unreadable -= set(range(offset // SECTOR_BYTES, -(-end // SECTOR_BYTES)))
        if last:
            raise PowerCut
        if len(whole) > space:
            raise DiskFull(f"{self.path}: no space left on the simulated disk")

    def truncate(self, size: int) -> None:
        self._check()
        if not self._disk.count() or self._disk.random.random() < 0.5:
            _apply(self._inode.data, _Truncate(size))
            self._inode.pending.append(_Truncate(size))
        self._disk.check_power()

    def allocate(self, size: int) -> None:
        self._check()
        if size <= len(self._inode.data):
            return
        if size - len(self._inode.data) > self._disk.free_bytes():
            raise DiskFull(f"{self.path}: no space left on the simulated disk")
        self.truncate(size)

    def sync(self) -> None:
        self._check()
        disk = self._disk
        disk.count()
        disk.check_power()
        disk.syncs += 1
        if disk.syncs == disk.fail_sync_at:
            self._inode.stable = disk.outcome(self._inode)
            self._inode.pending = []
            raise SyncFailed(f"{self.path}: the simulated disk failed to sync")
        self._inode.stable = bytes(self._inode.data)
        self._inode.pending = []

    def size(self) -> int:
        self._check()
        return len(self._inode.data)

    def close(self) -> None:
        self._closed = True


class SimDisk:
    """A `Disk` in memory. `cut_at`, `fail_sync_at` and `capacity_bytes` may be set at any time.

    After a `PowerCut` every use raises it again, until `restart`.
    """

    def __init__(self, seed: int = 0, *, capacity_bytes: int = PLENTY_BYTES) -> None:
        self.random = random.Random(seed)
        self.capacity_bytes = capacity_bytes
        self.operations = 0
        """Operations so far that changed or synced something."""
        self.cut_at: int | None = None
        """The power is cut at the operation of this number, counted from 1."""
        self.syncs = 0
        self.fail_sync_at: int | None = None
        self.life = 0
        """How often the power has come back."""
        self.off = False
        """Without power."""
        self._names: dict[str, _Inode | str] = {"": "folder"}
        self._stable_names: dict[str, _Inode | str] = {"": "folder"}
        self._pending_names: dict[str, list[tuple[_Name, ...]]] = {}

    # ---------------------------------------------------------------- power

    def count(self) -> bool:
        """Count an operation; True: the power goes during this one."""
        self.check_power()
        self.operations += 1
        if self.operations == self.cut_at:
            self.off = True
        return self.off

    def check_power(self) -> None:
        if self.off:
            raise PowerCut

    def power_off(self) -> None:
        """Cut the power between two operations."""
        self.off = True

    def restart(self) -> None:
        """Lose what the power loss takes, and switch on again."""
        for inode in self._inodes():
            inode.stable = self.outcome(inode)
            inode.data = bytearray(inode.stable)
            inode.pending = []
        names = dict(self._stable_names)
        for changes in self._pending_names.values():
            keep = self.random.randint(0, len(changes))
            by_coin = self.random.random() < 0.3
            for i, change in enumerate(changes):
                if self.random.random() < 0.5 if by_coin else i < keep:
                    for path, what in change:
                        _set_name(names, path, what)
        for path in sorted(names):
            if path and names.get(_parent(path)) != "folder":
                del names[path]
        self._names = names
        self._stable_names = dict(names)
        self._pending_names = {}
        self.cut_at = None
        self.off = False
        self.life += 1

    def _inodes(self) -> list[_Inode]:
        found: dict[int, _Inode] = {}
        for names in (self._names, self._stable_names):
            found.update({id(i): i for i in names.values() if isinstance(i, _Inode)})
        for changes in self._pending_names.values():
            for change in changes:
                found.update({id(i): i for _, i in change if isinstance(i, _Inode)})
        return list(found.values())

    def outcome(self, inode: _Inode) -> bytes:
        """What a power loss would leave of a file."""
        pending = inode.pending
        data = bytearray(inode.stable)
        mode = self.random.randrange(4)
        if not pending or mode == 0:
            return bytes(data)
        if mode == 1:
            return bytes(inode.data)
        if mode == 2:
            kept = self.random.randrange(len(pending))
            for change in pending[:kept]:
                _apply(data, change)
            last = pending[kept]
            if isinstance(last, _Write):
                torn = last.data[: self.random.randint(0, len(last.data))]
                _apply(data, _Write(last.offset, torn))
            return bytes(data)
        lengths = [len(data)]
        sectors: set[int] = set()
        for change in pending:
            _apply(data, change)
            lengths.append(len(data))
            if isinstance(change, _Write):
                end = change.offset + len(change.data)
                sectors.update(range(change.offset // SECTOR_BYTES, -(-end // SECTOR_BYTES)))
        data = bytearray(inode.stable)
        size = self.random.choice(lengths)
        _apply(data, _Truncate(size))
        odds = self.random.choice((0.1, 0.5, 0.9))
        for sector in sorted(sectors):
            upto = (
                len(pending) if self.random.random() < odds else self.random.randrange(len(pending))
            )
            self._rewrite_sector(data, sector * SECTOR_BYTES, pending[:upto])
        return bytes(data)

    @staticmethod
    def _rewrite_sector(data: bytearray, start: int, changes: list[_Change]) -> None:
        end = min(start + SECTOR_BYTES, len(data))
        for change in changes:
            if isinstance(change, _Truncate):
                first = max(start, change.size)
                if first < end:
                    data[first:end] = bytes(end - first)
                continue
            first = max(start, change.offset)
            last = min(end, change.offset + len(change.data))
            if first < last:
                data[first:last] = change.data[first - change.offset : last - change.offset]

    # ---------------------------------------------------------------- rot

    def flip_bit(self, path: str, bit: int) -> None:
        """Change one bit of a file at rest."""
        inode = self._file(path)
        inode.data[bit // 8] ^= 1 << bit % 8
        stable = bytearray(inode.stable)
        if bit // 8 < len(stable):
            stable[bit // 8] ^= 1 << bit % 8
        inode.stable = bytes(stable)

    def make_unreadable(self, path: str, offset: int) -> None:
        """Have the sector at an offset of a file answer reads with an error."""
        self._file(path).unreadable.add(offset // SECTOR_BYTES)

    def content(self, path: str) -> bytes:
        """The whole of a file, as read now."""
        return bytes(self._file(path).data)

    def put(self, path: str, data: bytes) -> None:
        """Have a file with this content, durably."""
        inode = _Inode(bytearray(data), data)
        self._names[path] = self._stable_names[path] = inode

    # ---------------------------------------------------------------- the interface Disk

    def _file(self, path: str) -> _Inode:
        inode = self._names.get(path)
        if not isinstance(inode, _Inode):
            raise FileNotFoundError(path)
        return inode

    def _change_names(self, *names: _Name) -> None:
        # A change of names counts where it takes away or adds the last of them.
        if self.count() and self.random.random() < 0.5:
            self.check_power()
        for path, what in names:
            _set_name(self._names, path, what)
        self._pending_names.setdefault(_parent(names[-1][0]), []).append(names)
        self.check_power()

    def open(self, path: str, *, create: bool = False) -> SimFile:
        self.check_power()
        if path not in self._names:
            if not create:
                raise FileNotFoundError(path)
            if self._names.get(_parent(path)) != "folder":
                raise FileNotFoundError(f"the folder of {path}")
            self._change_names((path, _Inode()))
        return SimFile(self, self._file(path), path)

    def exists(self, path: str) -> bool:
        self.check_power()
        return path in self._names

    def listdir(self, path: str) -> list[str]:
        self.check_power()
        skip = len(path) + 1 if path else 0
        inside = (p for p in self._names if p and p.startswith(path))
        return sorted(p[skip:] for p in inside if p.rfind("/") + 1 == skip)

    def mkdir(self, path: str) -> None:
        parts = path.split("/")
        for n in range(1, len(parts) + 1):
            part = "/".join(parts[:n])
            if part not in self._names:
                self._change_names((part, "folder"))

    def remove(self, path: str) -> None:
        self._file(path)
        self._change_names((path, None))

    def rename(self, source: str, target: str) -> None:
        inode = self._file(source)
        self._change_names((source, None), (target, inode))

    def sync_folder(self, path: str) -> None:
        self.count()
        self.check_power()
        self.syncs += 1
        if self.syncs == self.fail_sync_at:
            raise SyncFailed(f"{path}: the simulated disk failed to sync the folder")
        for change in self._pending_names.pop(path, []):
            for name, what in change:
                _set_name(self._stable_names, name, what)

    def used_bytes(self) -> int:
        return sum(len(i.data) for i in self._names.values() if isinstance(i, _Inode))

    def free_bytes(self) -> int:
        if self.capacity_bytes >= PLENTY_BYTES:
            # counting what nobody runs out of would take a good part of a simulation
            return PLENTY_BYTES
        return max(self.capacity_bytes - self.used_bytes(), 0)


def _set_name(names: dict[str, _Inode | str], path: str, what: _Inode | str | None) -> None:
    if what is None:
        names.pop(path, None)
    else:
        names[path] = what
