"""What the kernel was asked to put on stable storage, by the calls of this process, whoever makes
them.

Nothing is simulated: the calls are made, and noted on their way. A file is unsynced from a write to
it until an fsync or fdatasync of it that began after the write. A folder is so from a change of its
names until an fsync of it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Inode = tuple[int, int]


def _inode(stat: os.stat_result) -> Inode:
    return stat.st_dev, stat.st_ino


class Kernel:
    """Notes from when it is made until the end of the test."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.unsynced_files: dict[Inode, str] = {}
        self.unsynced_folders: dict[Inode, str] = {}
        self.calls: list[str] = []
        """Names of the calls that were made, in their order."""
        self._real: dict[str, Callable[..., Any]] = {}
        watched: dict[str, Callable[..., None]] = {
            "pwrite": self._wrote,
            "ftruncate": self._wrote,
            "posix_fallocate": self._wrote,
            "replace": lambda source, target: self._named(source, target),
            "unlink": self._named,
        }
        for name, note in watched.items():
            monkeypatch.setattr(os, name, self._noting(name, note))
        for name in ("fsync", "fdatasync"):
            monkeypatch.setattr(os, name, self._syncing(name))
        monkeypatch.setattr(os, "open", self._opening())

    @property
    def unsynced(self) -> list[str]:
        """What a loss of power could take, by name."""
        return sorted([*self.unsynced_files.values(), *self.unsynced_folders.values()])

    def _noting(self, name: str, note: Callable[..., None]) -> Callable[..., Any]:
        real = getattr(os, name)

        def call(*args: Any) -> Any:
            self.calls.append(name)
            try:
                return real(*args)
            finally:
                note(*args)

        return call

    def _syncing(self, name: str) -> Callable[[int], None]:
        real = getattr(os, name)

        def call(fd: int) -> None:
            self.calls.append(name)
            inode = _inode(os.fstat(fd))
            real(fd)
            self.unsynced_files.pop(inode, None)
            if name == "fsync":
                self.unsynced_folders.pop(inode, None)

        return call

    def _opening(self) -> Callable[..., int]:
        real = os.open

        def call(path: Any, flags: int, *args: Any, **more: Any) -> int:
            new = bool(flags & os.O_CREAT) and not os.path.exists(path)
            fd = real(path, flags, *args, **more)
            if new:
                self._named(path)
            return fd

        return call

    def _wrote(self, fd: int, *_: Any) -> None:
        self.unsynced_files[_inode(os.fstat(fd))] = Path(os.readlink(f"/proc/self/fd/{fd}")).name

    def _named(self, *paths: Any) -> None:
        for path in paths:
            folder = Path(path).parent
            self.unsynced_folders[_inode(os.stat(folder))] = f"{folder.name}/"
