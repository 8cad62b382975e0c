"""A script as it is run: a flat list of steps, with places to jump to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from raftmail.sieve.run_state import RunState


class RuleTest(Protocol):
    """A test that asks the message, the envelope or what is around."""

    def holds(self, run: RunState) -> bool:
        """Raises RuleError, which ends the run."""


class RuleAction(Protocol):
    """A command that does something."""

    def perform(self, run: RunState) -> None:
        """Raises RuleError, which ends the run."""


class Branch(NamedTuple):
    """Goes on at one of two steps."""

    line: int
    test: RuleTest
    if_true: int
    if_false: int


class Jump(NamedTuple):
    line: int
    to: int


class Perform(NamedTuple):
    line: int
    action: RuleAction


class Include(NamedTuple):
    """Runs another script of the program's library, then goes on (RFC 6609 section 3.2)."""

    line: int
    script: str
    once: bool
    optional: bool


class Leave(NamedTuple):
    """Ends this script, or with `all_scripts` the run (`stop`)."""

    line: int
    all_scripts: bool


Step = Branch | Jump | Perform | Include | Leave


@dataclass(frozen=True, slots=True)
class RuleProgram:
    """A script that was compiled. It never changes, and any number of runs may use it."""

    steps: tuple[Step, ...]
    requires: frozenset[str]
    global_names: frozenset[str]
    """Names that stand for global variables here (RFC 6609 section 3.4.1)."""
    library: Mapping[str, RuleProgram]
    """The scripts that are included, here and further down. What is not there was missing."""
