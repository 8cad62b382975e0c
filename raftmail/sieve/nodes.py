"""The tree of a script as its grammar has it (RFC 5228 section 8.2): what is written, unchecked."""

from __future__ import annotations

from typing import NamedTuple


class Place(NamedTuple):
    """Where something stands in a script, both from 1. Columns are characters."""

    line: int
    column: int


class TagNode(NamedTuple):
    """`:name`, in lower case and without the colon."""

    place: Place
    name: str


class NumberNode(NamedTuple):
    place: Place
    value: int


class StringsNode(NamedTuple):
    """A string, or a list of strings in brackets."""

    place: Place
    values: tuple[bytes, ...]
    is_list: bool


ArgumentNode = TagNode | NumberNode | StringsNode


class TestNode(NamedTuple):
    place: Place
    name: str
    """In lower case."""
    arguments: tuple[ArgumentNode, ...]
    tests: tuple[TestNode, ...]
    in_parentheses: bool
    """Whether the tests stand in a list, as those of `anyof` do."""


class CommandNode(NamedTuple):
    place: Place
    name: str
    """In lower case."""
    arguments: tuple[ArgumentNode, ...]
    tests: tuple[TestNode, ...]
    in_parentheses: bool
    block: tuple[CommandNode, ...] | None
    """None: the command ends with a semicolon."""
