"""Watching what takes long: it goes on without whoever looks, and can be looked at again."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from raftmail.admin.api.calls import Call
from raftmail.admin.api.members import MemberDetails, Operations, ShardDetails
from raftmail_cli.errors import TryLater
from raftmail_cli.output import Format, make_console
from raftmail_cli.settings import Settings

R = TypeVar("R")
W = TypeVar("W", MemberDetails, ShardDetails, Operations)
"""What tells what it waits for."""

POLL_S = 0.5
_STUCK_S = 10.0
_PATIENCE_S = 60.0
"""For so long no node may answer before watching ends; what is watched goes on."""


def watch(
    settings: Settings,
    call: Call[W],
    left_of: Callable[[W], int],
    title: str,
) -> W:
    """Make a call again and again until nothing is left, showing how much is. Returns the last
    answer. Ctrl-C ends the watching alone.

    Raises `CliError`, among them `TryLater` when no node answers for a minute."""
    console = make_console(stderr=True)
    if settings.output is Format.JSON or not console.is_terminal:
        return _poll(settings, call, left_of, _Lines(console, title).tell)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[left]} left {task.fields[waits]}"),
    )
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as progress:
        task = progress.add_task(title, total=None, left="?", waits="")

        def show(left: int, waits: str) -> None:
            total = max(progress.tasks[0].total or 0, left)
            progress.update(task, total=total, completed=total - left, left=left, waits=waits)

        return _poll(settings, call, left_of, show)


@dataclass(slots=True)
class _Lines:
    """A line whenever less is left; and, while nothing changes, now and then what is waited for."""

    console: Console
    title: str
    _left: int = -1
    _said: float = 0.0

    def tell(self, left: int, waits: str) -> None:
        now = time.monotonic()
        if left != self._left or (waits and now > self._said + _STUCK_S):
            stuck = waits if left == self._left else ""
            self._left, self._said = left, now
            self.console.print(f"{self.title}: {left} left {stuck}".rstrip())


def _waits(waits: Sequence[str]) -> str:
    """What is waited for, in a few words."""
    more = f" and {len(waits) - 1} more" if len(waits) > 1 else ""
    return f"(waits for {waits[0]}{more})" if waits else ""


def _poll(
    settings: Settings,
    call: Call[W],
    left_of: Callable[[W], int],
    told: Callable[[int, str], None],
) -> W:
    give_up = time.monotonic() + _PATIENCE_S
    while True:
        try:
            with settings.connect() as session:
                while True:
                    answer = session.admin(call)
                    give_up = time.monotonic() + _PATIENCE_S
                    left = left_of(answer)
                    told(left, _waits(answer.waits_for))
                    if not left:
                        return answer
                    time.sleep(POLL_S)
        except TryLater:
            if time.monotonic() > give_up:
                raise
            time.sleep(POLL_S)


def admin(settings: Settings, call: Call[R]) -> R:
    """One administrative call. Raises `CliError`."""
    with settings.connect() as session:
        return session.admin(call)
