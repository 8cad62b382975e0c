"""The only door to the file system.

Everything below `node/` that keeps files (journal, blob segments) goes through a `Disk`. So the
simulator can put in its place one that cuts the power, tears writes, fills up or lies. LMDB is the
one exception: it maps its own file, and has a twin of its own (see `raftmail.storage.kv`).

Invariants of every implementation:

1. `File.write` either writes all bytes or raises; after an error the bytes of that call are
   undefined.
2. Nothing is durable before `File.sync` returned (contents) or `Disk.sync_folder` returned (names).
3. `File.sync` may run in another thread than the writes, and covers every write that returned
   before it began.
4. A failed sync is final (`SyncFailed`): the kernel may have dropped the dirty pages, so the
   process has to stop.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from raftmail.storage.spares import LACKING, SPARES

_UNREADABLE = (errno.EIO, errno.EUCLEAN, errno.EBADMSG, errno.ENODATA, errno.EREMOTEIO)
"""What reading a bad sector, or one whose checksum does not fit, is answered with by file systems
and drivers."""

SECTOR_BYTES = 512
"""What a disk loses at least when it cannot read a part."""


class DiskError(Exception):
    """The disk refused an operation; the text names the file and the reason."""


class DiskFull(DiskError):
    """No space (ENOSPC, EDQUOT), or no descriptor to be had (EMFILE, ENFILE): writes must be
    refused until there is again."""


class LaterRelease(DiskError):
    """Files that a later release wrote. They are whole: nothing of them is repaired, fetched again
    or set aside."""


class ReadFailed(DiskError):
    """What is stored there cannot be read (EIO): it is treated as damage of the records that it was
    part of."""


class SyncFailed(DiskError):
    """fdatasync or fsync failed: what was written since the last sync may be gone. Stop the
    process.
    """


class File(Protocol):
    """An open file of positioned reads and writes. Offsets and lengths are bytes, 64 bits."""

    def read(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes from `offset`; shorter only at the end of the file. Raises
        `ReadFailed`."""

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Write all of `data` at `offset`, extending the file. Raises `DiskFull` or `DiskError`."""

    def truncate(self, size: int) -> None:
        """Cut or extend (with zeros) to `size` bytes."""

    def allocate(self, size: int) -> None:
        """Have space for `size` bytes in all, so that writing them cannot fail for want of it on
        file systems that write in place.

        A shorter file is extended with zeros. Raises `DiskFull`.
        """

    def sync(self) -> None:
        """Put the contents on stable storage (fdatasync). Raises `SyncFailed`."""

    def size(self) -> int:
        """The file's length in bytes."""

    def close(self) -> None:
        """Close without syncing. Closing twice is harmless."""


class Disk(Protocol):
    """A folder of files, addressed by relative paths with `/` between the parts."""

    def open(self, path: str, *, create: bool = False) -> File:
        """Open for reading and writing; with `create`, a missing file is made (its name is durable
        only after `sync_folder`). Raises FileNotFoundError when it is missing and not to be
        made, and `ReadFailed` when the disk or its permissions do not let it be opened.
        """

    def exists(self, path: str) -> bool: ...

    def listdir(self, path: str) -> list[str]:
        """Sorted names in the folder `path` ("" is the root); a missing folder is empty."""

    def mkdir(self, path: str) -> None:
        """Make a folder and its parents; an existing one is fine."""

    def remove(self, path: str) -> None: ...

    def rename(self, source: str, target: str) -> None:
        """Atomically give `source` the name `target`, replacing what was there."""

    def sync_folder(self, path: str) -> None:
        """Make creations, removals and renames in the folder durable. Raises `SyncFailed`."""

    def free_bytes(self) -> int:
        """Space left for this process on the file system."""


def read_what_can_be(file: File, offset: int, length: int) -> bytes:
    """As `File.read`; sectors that cannot be read are zeros, which no record is."""
    try:
        return file.read(offset, length)
    except ReadFailed:
        pass
    end = min(offset + length, file.size())
    parts = []
    while offset < end:
        step = min(SECTOR_BYTES - offset % SECTOR_BYTES, end - offset)
        try:
            parts.append(file.read(offset, step))
        except ReadFailed:
            parts.append(bytes(step))
        offset += step
    return b"".join(parts)


def _explained(path: str, e: OSError) -> DiskError:
    full = e.errno in (errno.ENOSPC, errno.EDQUOT) or e.errno in LACKING
    kind = DiskFull if full else DiskError
    return kind(f"{path}: {e.strerror or e}")


@contextmanager
def _named(path: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as e:
        raise _explained(path, e) from e


class RealFile:
    """A `File` on the operating system."""

    __slots__ = ("_fd", "path")

    def __init__(self, fd: int, path: str) -> None:
        self._fd = fd
        self.path = path

    def read(self, offset: int, length: int) -> bytes:
        try:
            data = os.pread(self._fd, length, offset)
            if len(data) == length or not data:
                return data
            parts = [data]
            got = len(data)
            while got < length:
                data = os.pread(self._fd, length - got, offset + got)
                if not data:
                    break
                parts.append(data)
                got += len(data)
            return b"".join(parts)
        except OSError as e:
            if e.errno not in _UNREADABLE:
                raise _explained(self.path, e) from e
            what = f"{length} bytes at offset {offset} cannot be read: {e.strerror or e}"
            raise ReadFailed(f"{self.path}: {what}") from e

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        try:
            done = os.pwrite(self._fd, data, offset)
            if done != len(data):
                view = memoryview(data)
                while done < len(view):
                    done += os.pwrite(self._fd, view[done:], offset + done)
        except OSError as e:
            raise _explained(self.path, e) from e

    def truncate(self, size: int) -> None:
        with _named(self.path):
            os.ftruncate(self._fd, size)

    def allocate(self, size: int) -> None:
        with _named(self.path):
            os.posix_fallocate(self._fd, 0, size)

    def sync(self) -> None:
        try:
            os.fdatasync(self._fd)
        except OSError as e:
            raise SyncFailed(f"{self.path}: fdatasync failed: {e.strerror}") from e

    def size(self) -> int:
        return os.fstat(self._fd).st_size

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class RealDisk:
    """A `Disk` under one folder of the operating system."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)

    def open(self, path: str, *, create: bool = False) -> RealFile:
        full = str(self.root / path)
        try:
            flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0)
            return RealFile(SPARES.opening(lambda: os.open(full, flags, 0o600)), full)
        except FileNotFoundError:
            raise
        except OSError as e:
            if e.errno in (*_UNREADABLE, errno.EACCES, errno.EPERM):
                raise ReadFailed(f"{full}: cannot be opened: {e.strerror or e}") from e
            raise _explained(full, e) from e

    def exists(self, path: str) -> bool:
        return (self.root / path).exists()

    def listdir(self, path: str) -> list[str]:
        try:
            return sorted(SPARES.opening(lambda: os.listdir(self.root / path)))
        except FileNotFoundError:
            return []

    def mkdir(self, path: str) -> None:
        with _named(str(self.root / path)):
            (self.root / path).mkdir(parents=True, exist_ok=True, mode=0o700)

    def remove(self, path: str) -> None:
        with _named(str(self.root / path)):
            os.unlink(self.root / path)

    def rename(self, source: str, target: str) -> None:
        with _named(str(self.root / source)):
            os.replace(self.root / source, self.root / target)

    def sync_folder(self, path: str) -> None:
        full = str(self.root / path)
        try:
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
            fd = SPARES.opening(lambda: os.open(full, flags))
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
        except OSError as e:
            if e.errno in LACKING:
                raise _explained(full, e) from e  # nothing was synced, and nothing has failed
            raise SyncFailed(f"{full}: fsync of the folder failed: {e.strerror}") from e

    def free_bytes(self) -> int:
        stat = os.statvfs(self.root)
        return stat.f_bavail * stat.f_frsize
