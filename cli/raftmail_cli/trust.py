"""Whether what a file says may be believed: who could have written it.

A `cluster.json` decides to whom the token goes and what programs `raftmail` signals. One that
somebody else put into a folder where a command happens to be run must have no effect.
"""

from __future__ import annotations

import os
import pwd
import stat
from pathlib import Path

from raftmail_cli.errors import CliError

FILE_BYTES_MAX = 1 << 20
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def check_place(path: Path) -> None:
    """Whether nobody but the user and root can write a file or put another in its place: the file,
    each symbolic link on the way to it, and the folders that they are in. A path that does not
    exist is fine. Raises `CliError`."""
    seen: set[Path] = set()
    while path not in seen and len(seen) < 40:
        seen.add(path)
        _check(path.parent, "the folder ", link=False)
        try:
            is_link = stat.S_ISLNK(os.lstat(path).st_mode)
        except OSError:
            return
        if not is_link:
            _check(path, "", link=False)
            return
        _check(path, "the symbolic link ", link=True)
        path = path.parent / os.readlink(path)
    raise CliError(f"{path}: is a symbolic link that leads nowhere")


def read_file(path: Path) -> bytes:
    """What is in a file of which `check_place` holds, and which is still the one that was checked.
    Raises `CliError`, OSError."""
    check_place(path)
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        found = os.fstat(file.fileno())
        if stat.S_ISDIR(found.st_mode):
            raise IsADirectoryError(21, "Is a directory", str(path))
        if not stat.S_ISREG(found.st_mode):
            raise CliError(f"{path}: is no file")
        _judge(path, found, "", link=False)
        data = file.read(FILE_BYTES_MAX + 1)
    if len(data) > FILE_BYTES_MAX:
        raise CliError(
            f"{path}: is larger than {FILE_BYTES_MAX >> 20} MiB, and so is not what it should be"
        )
    return data


def _check(path: Path, what: str, *, link: bool) -> None:
    try:
        found = os.lstat(path) if link else os.stat(path)
    except OSError:
        return  # whoever opens it says so
    _judge(path, found, what, link=link)


def _judge(path: Path, found: os.stat_result, what: str, *, link: bool) -> None:
    me = os.geteuid()
    if found.st_uid not in (me, 0):
        raise CliError(
            f"{what}{path} belongs to {_name(found.st_uid)}, and you are {_name(me)}: what it "
            f"says is not believed. If it is yours to "
            f"use, copy it with what it names to a folder of your own, or give --cluster "
            f"HOST:PORT with --ca and --token-file"
        )
    if not link and found.st_mode & _OTHERS_WRITE:
        raise CliError(
            f"{what}{path} can be written by others (mode {stat.S_IMODE(found.st_mode):04o}): "
            f"what it says is not believed. See that "
            f"nobody has changed it, then: chmod go-w {path}"
        )


def _name(uid: int) -> str:
    try:
        return f"{pwd.getpwuid(uid).pw_name} (uid {uid})"
    except KeyError:
        return f"uid {uid}"
