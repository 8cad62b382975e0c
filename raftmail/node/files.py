"""Small files of a node's folders, and space that is set aside for them.

A node counts its start in a file. On a disk without any space it could not, and would not start: it
could neither say so in its status nor have anything removed. So a few blocks are set aside while
there is space (`set_space_aside`), and given up where a small file finds none: in its own folder,
or in one of those around it, which are on the same disk.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

from raftmail.storage.disk import RealDisk
from raftmail.storage.spares import SPARES

ASIDE = ".space"
_ASIDE_BYTES = 256 << 10
_DEPTH = 2
"""How far below the folder with the space small files are: `shards/7` in the data folder."""


def write_json(folder: Path, name: str, value: Mapping[str, Any]) -> None:
    """Write a file in one step, durably: whoever reads it finds the old or the new one. Raises
    OSError, which names the file."""
    try:
        try:
            _write(folder, name, value)
        except OSError as e:
            around = _give_up_space(folder) if e.errno == errno.ENOSPC else None
            if around is None:
                raise
            _write(folder, name, value)
            set_space_aside(around)  # the file that was replaced has given back its own
    except OSError as e:
        raise OSError(e.errno, e.strerror, str(folder / name)) from None


def set_space_aside(folder: Path) -> None:
    """Have space for small files in a folder, also when its disk is full. Where there is none, as
    much as there is."""
    with suppress(OSError):
        fd = os.open(folder / ASIDE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(fd, 0, _ASIDE_BYTES)
        finally:
            os.close(fd)


def _give_up_space(folder: Path) -> Path | None:
    """The nearest folder that had any."""
    for around in (folder, *islice(folder.parents, _DEPTH)):
        with suppress(OSError):
            had = os.stat(around / ASIDE).st_blocks > 0
            os.truncate(around / ASIDE, 0)
            if had:
                return around
    return None


def _write(folder: Path, name: str, value: Mapping[str, Any]) -> None:
    temporary = folder / f".{name}.new"
    with SPARES.opening(lambda: open(temporary, "w", encoding="utf-8")) as f:
        json.dump(value, f, indent=2)
        f.write("\n")
        f.flush()
        os.fsync(f.fileno())
    os.replace(temporary, folder / name)
    RealDisk(folder).sync_folder("")
