"""Replicas of a running node whose disk went back in time, or whose log is an older one: they are
set aside, and the cluster gives others.

Which they were stands in `lost.json` of the data folder before anything of them is moved. So none
is ever opened again under its old id. What they held is kept in `lost/SHARD.REPLICA`, for an
operator who wants to look at it; nothing reads it.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from raftmail.node.files import write_json
from raftmail.storage.disk import RealDisk

FILE = "lost.json"
FOLDER = "lost"


@dataclass(frozen=True, slots=True)
class LostDisk:
    """A replica that was set aside: its id, and why."""

    replica: int
    why: str


def read_lost(data: Path) -> dict[int, LostDisk]:
    """What was set aside, by shard. Raises ValueError when the file cannot be read: a replica might
    be opened that must not be."""
    path = data / FILE
    if not path.exists():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        return {int(s): LostDisk(int(one["replica"]), str(one["why"])) for s, one in value.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
        raise ValueError(
            f"{path}: cannot be read ({e}); restore it, or replace the node's disk"
        ) from None


def write_lost(data: Path, lost: Mapping[int, LostDisk]) -> None:
    """Note, durably, what was set aside."""
    value = {str(s): {"replica": lost[s].replica, "why": lost[s].why} for s in sorted(lost)}
    write_json(data, FILE, value)


def move_aside(data: Path, shard: int, replica: int) -> None:
    """Move what a replica kept; one that was there under the same name goes."""
    folder = data / "shards" / str(shard)
    if folder.exists():
        aside = data / FOLDER / f"{shard}.{replica}"
        aside.parent.mkdir(exist_ok=True, mode=0o700)
        shutil.rmtree(aside, ignore_errors=True)
        os.rename(folder, aside)
        RealDisk(data).sync_folder("shards")
