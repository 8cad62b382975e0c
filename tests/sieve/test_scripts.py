"""What scripts ask and do, by cases that Pigeonhole answers in the same way."""

from __future__ import annotations

from dataclasses import replace

import pytest

from raftmail.sieve.compiler import compile_script
from raftmail.sieve.rule_addresses import split_address
from raftmail.sieve.rule_errors import ScriptError
from raftmail.sieve.rule_outcome import FileInto
from tests.sieve.corpus import (
    ASSIGNED,
    CAPTURED,
    MESSAGES,
    REFUSED,
    REFUSED_HERE,
    REQUIRE,
    TAKEN,
    TESTS,
)
from tests.sieve.runs import AROUND, outcome_of

_AROUND = replace(AROUND, recipient=split_address(b"me+box@example.org"))


@pytest.mark.parametrize(("name", "test", "holds"), TESTS)
def test_a_test_holds_or_not(name: str, test: str, holds: bool) -> None:
    script = f'{REQUIRE}if {test} {{ keep :flags "yes"; }} else {{ keep :flags "no"; }}'
    actions = outcome_of(script, MESSAGES[name], around=_AROUND)
    assert actions == (FileInto("INBOX", ("yes" if holds else "no",)),)


@pytest.mark.parametrize(("modifiers", "string", "value"), ASSIGNED)
def test_a_variable_has_what_it_was_set_to(modifiers: str, string: str, value: str) -> None:
    quoted = value.replace("\\", "\\\\")
    script = (
        f'{REQUIRE}set {modifiers} "v" {string}; '
        f'if not string :comparator "i;octet" "${{v}}" "{quoted}" {{ discard; }}'
    )
    assert outcome_of(script), value


@pytest.mark.parametrize(("value", "pattern", "captures"), CAPTURED)
def test_wildcards_stand_for_as_little_as_they_can(
    value: str, pattern: str, captures: list[str]
) -> None:
    tests = ", ".join(
        f'string :comparator "i;octet" "${{{number}}}" "{one}"'
        for number, one in enumerate(captures)
    )
    script = (
        f'{REQUIRE}if string :matches "{value}" "{pattern}" '
        f"{{ if not allof ({tests}) {{ discard; }} }} else {{ discard; }}"
    )
    assert outcome_of(script)


@pytest.mark.parametrize(("script", "place"), REFUSED + REFUSED_HERE)
def test_a_script_that_is_wrong_is_refused_with_the_place(
    script: str, place: tuple[int, int]
) -> None:
    with pytest.raises(ScriptError) as caught:
        compile_script(script.encode(), name="main")
    assert (caught.value.line, caught.value.column) == place, str(caught.value)


@pytest.mark.parametrize("script", TAKEN)
def test_a_script_that_is_right_is_taken(script: str) -> None:
    compile_script(script.encode())
