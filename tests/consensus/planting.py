"""Taking guards out, so that the tests of the guards are themselves proved.

A fault is planted by editing the source text of one function and putting the edited function in its
place. A fault whose text is no longer there raises: whoever moves a guard takes its fault along.
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest


class NotThere(Exception):
    """The text that the fault replaces is not in the function: it was changed, and the fault must
    follow."""


@dataclass(frozen=True, slots=True)
class Edit:
    """In the function or property `name` of `owner` (a class or a module), replace `old` by `new`,
    once."""

    owner: Any
    name: str
    old: str
    new: str

    def apply(self) -> Callable[[], None]:
        """Plant it; returns what takes it out again. Raises `NotThere`."""
        before: Any = inspect.getattr_static(self.owner, self.name)
        function: Any = before.fget if isinstance(before, property) else before
        source = getattr(function, "planted_source", None) or textwrap.dedent(
            inspect.getsource(function)
        )
        if source.count(self.old) != 1:
            raise NotThere(
                f"{self.owner.__name__}.{self.name} has {source.count(self.old)} times: "
                f"{self.old!r}"
            )
        made: dict[str, Any] = {}
        edited = source.replace(self.old, self.new)
        exec(compile(edited, f"<planted {self.name}>", "exec"), function.__globals__, made)
        after = made[self.name]
        (after.fget if isinstance(before, property) else after).planted_source = edited
        # A property's source carries its decorator along.
        setattr(self.owner, self.name, after)
        return partial(setattr, self.owner, self.name, before)


@dataclass(frozen=True, slots=True)
class Fault:
    """A guard taken out: `does` tells what is wrong then."""

    does: str
    edits: tuple[Edit, ...]


@contextmanager
def planted(fault: Fault) -> Iterator[None]:
    """With the fault in place."""
    undo: list[Callable[[], None]] = []
    try:
        for edit in fault.edits:
            undo.append(edit.apply())
        yield
    finally:
        for take_out in reversed(undo):
            take_out()


@dataclass(frozen=True, slots=True)
class Claim:
    """A test, and the name of a fault that it must find."""

    fault: str
    test: Callable[[], None]


CLAIMS: list[Claim] = []


def fails_with(*faults: str) -> Callable[[Callable[[], None]], Callable[[], None]]:
    """Mark a test without arguments as one that finds each of these faults."""

    def mark(test: Callable[[], None]) -> Callable[[], None]:
        CLAIMS.extend(Claim(fault, test) for fault in faults)
        return test

    return mark


def claims_of(module: str) -> list[Claim]:
    """The claims made in one test module."""
    return [c for c in CLAIMS if c.test.__module__ == module]


def finds(claim: Claim, fault: Fault) -> bool:
    """Whether the test fails while the fault is planted."""
    with planted(fault):
        try:
            claim.test()
        except (Exception, pytest.fail.Exception):  # or what the broken code raised itself
            return True
    return False
