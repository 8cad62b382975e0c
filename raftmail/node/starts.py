"""The starts of a data folder: counted in it and beside the configuration, so that an older folder,
or a copy, is known as one.

`start.json` in the data folder has the folder's name, the number of starts and the tokens of the
last ones. `started.json` beside the configuration has the same, off the data disk. The folder's may
be ahead by a crash, and never behind: one that is behind was put back. `start.seal.json` has what
no copy has: inode and time of change (ctime) of `start.json`. The replicas of a folder whose seal
does not fit ask more of the others (`consensus.proof`). They do so until each of them is known to
have lost nothing.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raftmail.node.config import Config
from raftmail.node.files import set_space_aside, write_json
from raftmail.peering.starts import PAST_MAX, Known, Start

FILE = "start.json"
SEAL = "start.seal.json"
PEERS = "peers.json"
OLDER = "older.json"


class OlderFolder(Exception):
    """The data folder is an older one than the node used last; the text says by what that is known,
    and what to do."""


def begin_start(config: Config, *, new: bool) -> tuple[Start, bool]:
    """Count a start of a data folder, durably; `new`: it holds nothing yet. Returns it, and whether
    the folder looks like a copy. Raises `OlderFolder`, OSError."""
    data = config.data
    inside, outside = _read_start(data / FILE), _read_start(_outside(config))
    why = _read(data / OLDER).get("why", "")
    if not why and not new and outside is not None:
        why = _behind(inside, outside)
    if why:
        raise OlderFolder(
            f"{data}: is an older data folder than this node had last: {why}. Put the newest one "
            f"in its place; or, if that is lost, have "
            f"the others fill this node anew: `raftmail node --replace {config.folder}`, which "
            f"keeps this folder aside"
        )
    is_copy = inside is not None and _is_copy(data)
    token = secrets.token_hex(4)
    if inside is None:
        start = Start(secrets.token_hex(8), 1, (token,))
    else:
        tokens = (*inside.tokens, token)[-PAST_MAX:]
        start = Start(inside.folder, inside.number + 1, tokens)
    write_json(data, FILE, {"start": str(start)})
    _seal(data, is_copy=is_copy)
    place = _outside(config)
    write_json(place.parent, place.name, {"start": str(start)})
    for folder in (data, place.parent):
        set_space_aside(folder)
    return start, is_copy


def _behind(inside: Start | None, outside: Start) -> str:
    """Why a folder is behind what is known off its disk of the last start; "": it is not."""
    if inside is None:
        return f"it was never started, and start {outside.number} is noted beside the configuration"
    if inside.folder != outside.folder:
        return "another data folder was used since, as is noted beside the configuration"
    if inside.descends_from(outside):
        return ""
    return (
        f"it knows of {inside.number} starts, and start {outside.number} is noted beside the "
        f"configuration"
    )


def settle(data: Path) -> None:
    """The folder is known to have lost nothing, copy or not."""
    _seal(data, is_copy=False)


def note_older(data: Path, why: str) -> None:
    """Others know that the folder is an older one: it is not used again."""
    write_json(data, OLDER, {"why": why})


def set_older_aside(config: Config) -> bool:
    """Move a data folder that is known to be an older one to a name of its own; False: it is not
    known to be one."""
    data = config.data
    inside, outside = _read_start(data / FILE), _read_start(_outside(config))
    has_node = (data / "node.json").exists()
    if not has_node or not (
        (data / OLDER).exists() or (outside is not None and _behind(inside, outside))
    ):
        return False
    fd = os.open(data / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False  # a process uses it: what follows says that there is data
    finally:
        os.close(fd)
    number = 1
    while (aside := data.with_name(f"{data.name}.older-{number}")).exists():
        number += 1
    os.rename(data, aside)
    return True


def read_peers(data: Path) -> dict[str, Known]:
    """The last starts of the peers; those that cannot be read are forgotten: whoever calls next is
    believed."""
    known = {}
    for node, one in _read(data / PEERS).items():
        try:
            start = Start.parse(one["start"])
            known[str(node)] = Known(start, str(one["address"]), tuple(map(str, one["retired"])))
        except (ValueError, KeyError, TypeError):
            continue
    return known


def write_peers(data: Path, known: Mapping[str, Known]) -> None:
    """Durable when it returns."""
    value = {
        node: {"start": str(one.start), "address": one.address, "retired": list(one.retired)}
        for node, one in known.items()
    }
    write_json(data, PEERS, value)


def _outside(config: Config) -> Path:
    name = "started.json" if config.worker == 1 else f"started.{config.worker}.json"
    return config.folder / name


def _read(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if type(value) is dict else {}


def _read_start(path: Path) -> Start | None:
    try:
        return Start.parse(str(_read(path)["start"]))
    except (KeyError, ValueError):
        return None


def _seal(data: Path, *, is_copy: bool) -> None:
    stat = os.stat(data / FILE)
    value = {"inode": stat.st_ino, "ctime_ns": stat.st_ctime_ns, "is_copy": is_copy}
    write_json(data, SEAL, value)


def _is_copy(data: Path) -> bool:
    seal = _read(data / SEAL)
    stat = os.stat(data / FILE)
    fits = (seal.get("inode"), seal.get("ctime_ns")) == (stat.st_ino, stat.st_ctime_ns)
    return not fits or bool(seal.get("is_copy"))
