"""Noticing that somebody was at a running node's files: removed, cut short, changed, or added some.

Names and lengths are looked at every `LOOK_S`, one shard at a time. What is in the files of the log
is read here, too, a segment each time. What is in the others the scrub reads, and it begins a round
at once when something was found. A log that is not as it was written is mended.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from raftmail.node.index_folder import INDEX
from raftmail.node.replicas import Opened
from raftmail.storage.lmdbcheck import FILE
from raftmail.storage.spares import SPARES

logger = logging.getLogger(__name__)

LOOK_S = 5.0
READ_S = 30.0
"""How often a segment of a log is read, all shards taking turns."""

FILES = {
    "journal": re.compile(r"[0-9a-f]{16}\.log"),
    "blobs": re.compile(r"[0-9a-f]{16}\.seg"),
    "index": re.compile(r"(data|lock)\.mdb"),
}
"""The names of all files in the folders of a replica."""


@dataclass(slots=True, repr=False)
class FileWatch:
    """`found` tells by shard what is wrong now, in words; `mend` is told of a log that is not as it
    was written."""

    shards: Path
    opened: Mapping[int, Opened]
    mend: Callable[[int, str], None]
    found: dict[int, list[str]] = field(default_factory=dict)
    _due: dict[int, float] = field(default_factory=dict)
    _read_at: float = 0.0
    _read_shard: int = -1

    def tick(self, now: float) -> None:
        """Look at the shard whose time has come, if there is one."""
        for shard, opened in self.opened.items():
            if now >= self._due.setdefault(shard, now + LOOK_S):
                self._due[shard] = now + LOOK_S
                self._look(shard, opened, self._read_log(now, shard))
                return

    def _read_log(self, now: float, shard: int) -> str:
        """What was done to the next segment of a shard's log, if it is the shard's turn; "":
        nothing."""
        following = min((n for n in self.opened if n > self._read_shard), default=min(self.opened))
        if now < self._read_at or shard != following:
            return ""
        self._read_at, self._read_shard = now + READ_S, shard
        return self.opened[shard].replica.check_log()

    def _look(self, shard: int, opened: Opened, changed: str) -> None:
        wrong = look(self.shards / str(shard), opened)
        logs = [text for text in wrong if text.startswith(tuple(opened.replica.log_file_lengths()))]
        if changed and not logs:
            wrong.append(changed)
            logs.append(changed)
        before = self.found.get(shard, [])
        if wrong != before:
            self.found[shard] = wrong
            for text in wrong:
                if text not in before:
                    logger.error("shard %d: somebody was at its files: %s", shard, text)
            if wrong:
                opened.replica.scrub_again()
        if logs:
            self.mend(shard, logs[0])
            self._due[shard] = 0.0  # what is told is to be true again soon


def look(root: Path, opened: Opened) -> list[str]:
    """What is wrong with the files of an open replica."""
    wrong = []
    expected = opened.replica.file_lengths()
    expected[f"{INDEX}/{FILE}"] = 1
    for name, length in sorted(expected.items()):
        try:
            size = (root / name).stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            wrong.append(f"{name} was removed")
            continue
        except OSError:
            continue  # it cannot be looked at just now, which tells nothing of it
        if size < length:
            wrong.append(f"{name} was cut short: of {length} bytes, {size} are left")
    for folder, pattern in FILES.items():
        try:
            names = SPARES.opening(partial(os.listdir, root / folder))
        except OSError:
            continue  # its files were removed, or it cannot be looked at just now
        for name in sorted(names):
            if pattern.fullmatch(name) is None:
                wrong.append(f"{folder}/{name} was added: this node did not make it")
    return wrong
