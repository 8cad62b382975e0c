"""What values of a configuration file may be: checks that say what is allowed."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from raftmail.mail.endpoint import split_address
from raftmail.mail.networks import parse_networks

Check = Callable[[Any], str | None]
"""Says what is allowed, or None when the value is fine."""

TOML_KINDS: Final[Mapping[str, tuple[type, str]]] = {
    "str": (str, "a text in quotes"),
    "int": (int, "a whole number"),
    "bool": (bool, "true or false"),
}
"""By the annotation of a field: what stands in the file, and how that is called."""


def read_toml(path: Path) -> dict[str, Any]:
    """What a file says. Raises OSError, and ValueError for all that is no TOML."""
    text = path.read_text(encoding="utf-8")
    if text.startswith("\ufeff"):
        raise ValueError("it begins with a byte order mark: save it as UTF-8 without one")
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError("it goes too deep") from None


def in_range(low: int, high: int) -> Check:
    """A number from `low` to `high`."""
    return lambda v: None if low <= v <= high else f"a whole number from {low} to {high}"


def told(parse: Callable[[str], object], value: str) -> str | None:
    """An address that `parse` takes; it raises ValueError for others."""
    try:
        parse(value)
    except ValueError as e:
        return f'an address "host:port" with a port from 1 to 65535: {e}'
    return None


def is_address(value: str) -> str | None:
    """Where a program listens."""
    return told(split_address, value)


def is_address_or_none(value: str) -> str | None:
    """The same, or "" for nowhere."""
    return None if not value else is_address(value)


def are_networks(value: str) -> str | None:
    """Addresses and networks; "" is none."""
    try:
        parse_networks(value)
    except ValueError as e:
        return f"addresses and networks like 10.0.0.0/8, with commas between them: {e}"
    return None
