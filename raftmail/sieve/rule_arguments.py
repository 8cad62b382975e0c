"""What commands and tests take: the form of a line in the table, and arguments that fit it."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

from raftmail.sieve.nodes import Place
from raftmail.sieve.program import RuleAction, RuleTest
from raftmail.sieve.rule_errors import ScriptError
from raftmail.sieve.rule_text import RuleText, VariableName, variable_name


class ArgumentKind(Enum):
    """In the words of messages."""

    NUMBER = "a number"
    STRING = "a string"
    STRINGS = "a string or a list of strings"


class TagRule(NamedTuple):
    """A tagged argument. Of those of one family a command has one at most."""

    name: str
    family: str
    takes: ArgumentKind | None = None
    needs: str = ""
    """The extension that has to be required for it."""


class ArgumentValue(NamedTuple):
    place: Place
    number: int = 0
    texts: tuple[RuleText, ...] = ()


class CheckedArguments:
    """Arguments of the kinds that a rule asks for."""

    def __init__(
        self,
        place: Place,
        script: str,
        name: str,
        tags: dict[str, tuple[str, ArgumentValue]],
        positional: list[ArgumentValue],
        optional: ArgumentValue | None,
        has_globals: bool,
    ) -> None:
        self.place, self.name = place, name
        self.optional = optional
        """What comes first where it is given at all."""
        self._has_globals = has_globals
        self._script = script
        self._tags = tags
        self._positional = positional

    def error(self, place: Place, text: str) -> ScriptError:
        return ScriptError(place.line, place.column, f"{self.name}: {text}", self._script)

    def tag(self, group: str) -> str:
        """Which tag of a group is given, "" if none."""
        found = self._tags.get(group)
        return "" if found is None else found[0]

    def value_of(self, group: str) -> ArgumentValue | None:
        """What the tag of a group has with it."""
        found = self._tags.get(group)
        return None if found is None else found[1]

    def text_of(self, group: str) -> RuleText | None:
        value = self.value_of(group)
        return None if value is None else value.texts[0]

    def texts_of(self, group: str) -> tuple[RuleText, ...] | None:
        value = self.value_of(group)
        return None if value is None else value.texts

    def value(self, at: int) -> ArgumentValue:
        return self._positional[at]

    def texts(self, at: int) -> tuple[RuleText, ...]:
        return self._positional[at].texts

    def text(self, at: int) -> RuleText:
        return self._positional[at].texts[0]

    def constant(self, value: ArgumentValue, what: str) -> str:
        """What has to be known when the script is compiled. Raises ScriptError."""
        constant = value.texts[0].constant
        if constant is None:
            raise self.error(value.place, f"{what} has no variables in it")
        return constant.decode("utf-8", "replace")

    def variable(self, value: ArgumentValue, at: int = 0) -> VariableName:
        """The variable that a string names. Raises ScriptError."""
        constant = value.texts[at].constant
        if constant is None:
            raise self.error(value.place, "the name of a variable has no variables in it")
        try:
            name = variable_name(constant.decode())
        except ValueError as e:
            raise self.error(value.place, str(e)) from None
        if name.is_global and not self._has_globals:
            raise self.error(value.place, 'global. needs require "include"; at the beginning')
        return name

    def check_constants(
        self, value: ArgumentValue | None, check: Callable[[bytes], object]
    ) -> None:
        """Of strings without variables, whether `check` takes them. Raises ScriptError."""
        if value is None:
            return
        for text in value.texts:
            constant = text.constant
            if constant is None:
                continue
            try:
                check(constant)
            except ValueError as e:
                raise self.error(value.place, str(e)) from None


class TestRule(NamedTuple):
    """A line of the table of tests."""

    name: str
    needs: str
    tags: tuple[TagRule, ...]
    takes: tuple[ArgumentKind, ...]
    make: Callable[[CheckedArguments], RuleTest]
    optional_first: ArgumentKind | None = None
    optional_needs: str = ""


class ActionRule(NamedTuple):
    """A line of the table of commands."""

    name: str
    needs: str
    tags: tuple[TagRule, ...]
    takes: tuple[ArgumentKind, ...]
    make: Callable[[CheckedArguments], RuleAction]
    optional_first: ArgumentKind | None = None
    optional_needs: str = ""
