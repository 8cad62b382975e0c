"""A disk for each node: an ext4 file system in a file, mounted in the run's own mount namespace
(`ground`).

Such a disk can really be full, be read-only, and fail at work: then the file system turns itself
read-only and forgets what was not synced, as one does whose disk reports errors. Outside the run's
namespace the mounts are not seen; `bring_home` puts what is on the disks where everybody sees it.
After a run that was killed the files are still there, for `mount -o loop`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from raftmail_chaos import ground
from raftmail_chaos.errors import ChaosError

FOLDER = "disk"
"""Where a disk is mounted, in the node's folder."""

_IMAGE = "disk.img"
_BALLAST = "ballast"
_INODES = 8192
_JOURNAL_MB = 16
_REPAIRED = (0, 1)
"""Exit statuses of e2fsck: nothing was wrong, or it was put right."""
_GONE_S = 10.0


@dataclass(slots=True)
class NodeDisk:
    """One node's disk. What changes how it is mounted needs the node's process to be gone."""

    home: Path
    """The node's folder."""

    @property
    def place(self) -> Path:
        """Where it is mounted."""
        return self.home / FOLDER

    @property
    def image(self) -> Path:
        return self.home / _IMAGE

    def make(self, size_bytes: int) -> None:
        """Make and mount it; only what is written takes space. Raises `ChaosError`."""
        with open(self.image, "wb") as file:
            file.truncate(size_bytes)
        # No share is kept back for root: a full disk is full.
        options = ["-q", "-F", "-m", "0", "-N", str(_INODES), "-J", f"size={_JOURNAL_MB}"]
        ground.run([ground.program("mkfs.ext4"), *options, self.image])
        self.place.mkdir()
        self._mount()

    def _mount(self) -> None:
        options = "loop,errors=remount-ro,noatime"
        ground.run([ground.program("mount"), "-o", options, self.image, self.place])

    async def _unmount(self) -> None:
        """Waits for a process that was killed to let go of it."""
        umount = ground.program("umount")
        tries = int(_GONE_S / 0.1)
        for left in reversed(range(tries)):
            try:
                ground.run([umount, self.place])
            except ChaosError:
                if not left:
                    raise
                await asyncio.sleep(0.1)
            else:
                return

    def sync(self) -> None:
        """Have everything on it survive `fail`."""
        ground.run([ground.program("sync"), "-f", self.place])

    def free_bytes(self) -> int:
        found = os.statvfs(self.place)
        return found.f_bavail * found.f_frsize

    def fill(self) -> None:
        """Take all the space that is left, to the last block. Undone by `clear`."""
        fd = os.open(self.place / _BALLAST, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            at = 0
            step = max(self.free_bytes(), 4096)
            while step >= 4096:
                try:
                    os.posix_fallocate(fd, at, step)
                    at += step
                except OSError:
                    step //= 2
        finally:
            os.close(fd)

    def clear(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            (self.place / _BALLAST).unlink()

    def protect(self) -> None:
        """Make it read-only. Raises `ChaosError` while a process writes to it."""
        ground.run([ground.program("mount"), "-o", "remount,ro", self.place])

    def unprotect(self) -> None:
        ground.run([ground.program("mount"), "-o", "remount,rw", self.place])

    def fail(self) -> None:
        """Let the kernel find an error in it: it turns itself read-only at once, under whoever
        writes."""
        Path("/sys/fs/ext4", self._device(), "trigger_fs_error").write_text("raftmail chaos")

    def _device(self) -> str:
        for line in Path("/proc/self/mounts").read_text().splitlines():
            source, place = line.split()[:2]
            if place == str(self.place):
                return Path(source).name
        raise ChaosError(f"{self.place}: is not mounted")

    async def repair(self) -> None:
        """What an administrator does after `fail`: unmount, e2fsck, mount. Raises `ChaosError`."""
        await self._unmount()
        process = await asyncio.create_subprocess_exec(
            *(ground.program("e2fsck"), "-f", "-y", self.image),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        out, _ = await process.communicate()
        if process.returncode not in _REPAIRED:
            raise ChaosError(
                f"e2fsck {self.image}: {out.decode('utf-8', 'replace').strip()[-300:]}"
            )
        self._mount()


def bring_home(homes: Sequence[Path], *, keep: bool) -> None:
    """Remove the disks of ended nodes; with `keep`, copy what is on them to where they were
    mounted. Raises `ChaosError`, OSError."""
    for home in homes:
        disk = NodeDisk(home)
        if not os.path.ismount(disk.place):
            continue
        copy = home / f"{FOLDER}.copy"
        if keep:
            shutil.copytree(disk.place, copy)
        ground.run([ground.program("umount"), disk.place])
        if keep:
            disk.place.rmdir()
            copy.rename(disk.place)
        disk.image.unlink()
