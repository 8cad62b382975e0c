"""Noticing that somebody was at a running node's files: removed, cut short, or added some.

Only names and lengths are looked at, every `LOOK_S`, one shard at a time; what is in the files the
scrub reads, and it begins a round at once when something was found.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from raftmail.node.kept import INDEX
from raftmail.node.replicas import Opened
from raftmail.storage.lmdbcheck import FILE

logger = logging.getLogger(__name__)

LOOK_S = 30.0

FILES = {
    "journal": re.compile(r"[0-9a-f]{16}\.log"),
    "blobs": re.compile(r"[0-9a-f]{16}\.seg"),
    "index": re.compile(r"(data|lock)\.mdb"),
}
"""The names of all files in the folders of a replica."""


@dataclass(slots=True)
class FileWatch:
    """`found` tells by shard what is wrong now, in words."""

    shards: Path
    opened: Mapping[int, Opened]
    found: dict[int, list[str]] = field(default_factory=dict)
    _due: dict[int, float] = field(default_factory=dict)

    def tick(self, now: float) -> None:
        """Look at the shard whose time has come, if there is one."""
        for shard, opened in self.opened.items():
            if now >= self._due.setdefault(shard, now + LOOK_S):
                self._due[shard] = now + LOOK_S
                self._look(shard, opened)
                return

    def _look(self, shard: int, opened: Opened) -> None:
        wrong = look(self.shards / str(shard), opened)
        before = self.found.get(shard, [])
        if wrong != before:
            self.found[shard] = wrong
            for text in wrong:
                if text not in before:
                    logger.error("shard %d: somebody was at its files: %s", shard, text)
            if wrong:
                opened.replica.recovery.desk.scrub.again()


def look(root: Path, opened: Opened) -> list[str]:
    """What is wrong with the files of an open replica."""
    wrong = []
    expected: dict[str, int] = dict.fromkeys(opened.replica.group.journal.file_names(), 0)
    expected |= opened.replica.blobs.file_lengths()
    expected[f"{INDEX}/{FILE}"] = 1
    for name, length in sorted(expected.items()):
        try:
            size = (root / name).stat().st_size
        except OSError:
            wrong.append(f"{name} was removed")
            continue
        if size < length:
            wrong.append(f"{name} was cut short: of {length} bytes, {size} are left")
    for folder, pattern in FILES.items():
        try:
            names = [path.name for path in (root / folder).iterdir()]
        except OSError:
            continue  # its files were removed
        for name in sorted(names):
            if pattern.fullmatch(name) is None:
                wrong.append(f"{folder}/{name} was added: this node did not make it")
    return wrong
