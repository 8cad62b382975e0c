"""What commands print: tables for people, JSON for programs.

Text from mail goes to a terminal only with its control characters taken out.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from enum import Enum, StrEnum
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from raftmail.mail.uidset import UidSet

_PIPE_COLUMNS = 240
"""Width of tables that go to no terminal: programs that look for a word must not miss it."""


class Format(StrEnum):
    """`-o`."""

    HUMAN = "human"
    JSON = "json"


class TextConsole(Console):
    """A console that takes a pipe which its reader has closed as every other writer does: rich
    would end the process with 1, which says that something failed."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def make_console(*, stderr: bool = False) -> Console:
    """A console that takes text as it is: no markup, no guessing at what is a number."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else _PIPE_COLUMNS
    return TextConsole(
        file=stream, width=width, markup=False, emoji=False, highlight=False, soft_wrap=False
    )


def show(output: Format, value: Any, render: Callable[[Console], None]) -> None:
    """Print a value as JSON, or have it rendered."""
    if output is Format.JSON:
        sys.stdout.write(json.dumps(to_json(value), indent=2, ensure_ascii=False) + "\n")
    else:
        render(make_console())


def to_json(value: Any) -> Any:
    """Dataclasses become objects, bytes hexadecimal, UID sets arrays of numbers (their text form
    where they end with *)."""
    if isinstance(value, UidSet):
        return value.format() if "*" in value.format() else list(value)
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Enum):
        return value.name
    if dataclasses.is_dataclass(value):
        return {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    return value


def make_table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], *, right: Iterable[str] = ()
) -> Table:
    """A table; columns named in `right` hold numbers. The last column takes what room there is."""
    numbers = set(right)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for at, name in enumerate(columns):
        table.add_column(
            name,
            justify="right" if name in numbers else "left",
            no_wrap=True,
            overflow="ellipsis" if at == len(columns) - 1 else "fold",
        )
    for row in rows:
        table.add_row(*(_cell(item) for item in row))
    return table


def _cell(item: object) -> Text:
    return item if isinstance(item, Text) else Text(printable(str(item)))


def printable(text: str) -> str:
    """The text on one line, without anything that a terminal would obey."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else " " if c in "\t\r\n" else "\ufffd" for c in text)


def printable_lines(texts: Iterable[str]) -> str:
    """Each text on a line of its own."""
    return "".join(f"{printable(text)}\n" for text in texts)


def plural(count: int, one: str, many: str = "") -> str:
    """`1 message`, `1,204 messages`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def size(count: int | None) -> str:
    """Bytes for people: `512 B`, `4.2 kB`, `20.1 MB` (powers of 1000)."""
    if count is None:
        return "-"
    if count < 1000:
        return f"{count} B"
    value = float(count)
    for unit in ("kB", "MB", "GB", "TB"):
        value /= 1000
        if value < 999.95 or unit == "TB":
            break
    return f"{value:.1f} {unit}"


def duration(seconds: float | None) -> str:
    """A time span for people: `42 s`, `3 min`, `5 h`, `12 d`."""
    if seconds is None:
        return "-"
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    if seconds < 172_800:
        return f"{seconds / 3600:.0f} h"
    return f"{seconds / 86_400:.0f} d"


def date(unix_us: int) -> str:
    """Microseconds since 1970 as a date in UTC, or as they are when there is no such year."""
    try:
        return datetime.fromtimestamp(unix_us / 1e6, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    except (OverflowError, ValueError, OSError):
        return f"{unix_us} us"
