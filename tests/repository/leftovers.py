"""Processes that tests started and left running.

A process is found by either of two signs. It is a child of this one, or it carries in its
environment the token of this test session. Every program started from a test inherits that. The
second sign finds those whose parent has gone. Linux only: elsewhere nothing is found.
"""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path

TOKEN_NAME = "RAFTMAIL_TEST_SESSION"

_PROC = Path("/proc")
# Started by multiprocessing for itself on first use; it ends with the process that it serves.
_BELONGS_TO_PYTHON = b"multiprocessing.resource_tracker"


@dataclass(frozen=True)
class Leftover:
    """A process that is still there: its id and command line."""

    pid: int
    command: str


def find(token: str) -> list[Leftover]:
    """Children of this process, and all that carry the token, without those that have ended."""
    own = os.getpid()
    found = []
    for entry in _PROC.glob("[0-9]*"):
        try:
            # After the command name, which may hold anything, in brackets: state, parent.
            state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
            command = (entry / "cmdline").read_bytes()
            marked = f"{TOKEN_NAME}={token}".encode() in (entry / "environ").read_bytes().split(
                b"\0"
            )
        except OSError:  # it ended meanwhile, or is another user's
            continue
        pid = int(entry.name)
        if pid == own or state == "Z" or _BELONGS_TO_PYTHON in command:
            continue
        if marked or int(parent) == own:
            text = command.rstrip(b"\0").replace(b"\0", b" ").decode(errors="replace")
            found.append(Leftover(pid, text))
    return sorted(found, key=lambda one: one.pid)


def end(leftovers: list[Leftover]) -> None:
    """Kill them, so that one session's leftovers do not disturb the next."""
    for one in leftovers:
        try:
            os.kill(one.pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
