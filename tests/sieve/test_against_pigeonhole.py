"""Scripts do here what they do in Pigeonhole.

Many tests are put into one script, which tells by flags which of them hold.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

import pytest

from raftmail.sieve.compiler import compile_script
from raftmail.sieve.rule_addresses import split_address
from raftmail.sieve.rule_errors import RuleError, ScriptError
from raftmail.sieve.rule_outcome import FileInto, Redirect
from tests.sieve.corpus import ASSIGNED, CAPTURED, MESSAGES, REFUSED, REQUIRE, TAKEN, TESTS
from tests.sieve.generated_scripts import many_tests, script_of
from tests.sieve.pigeonhole import SIEVE_TEST, Pigeonhole, pigeonhole
from tests.sieve.runs import AROUND, outcome_of

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(SIEVE_TEST is None, reason="Debian's dovecot-sieve is not installed"),
]

_AROUND = replace(AROUND, recipient=split_address(b"me+box@example.org"))


@pytest.fixture(scope="module")
def other() -> Iterator[Pigeonhole]:
    with pigeonhole() as one:
        yield one


def _all_in_one(tests: list[str]) -> str:
    lines = [f'if {test} {{ addflag "t{at}"; }}' for at, test in enumerate(tests)]
    return REQUIRE + "\n".join([*lines, "keep;", ""])


def _holding(script: str, message: bytes) -> frozenset[str]:
    actions = outcome_of(script, message, around=_AROUND)
    assert len(actions) == 1
    assert isinstance(actions[0], FileInto)
    return frozenset(one.lower() for one in actions[0].flags)


def _differences(tests: list[str], ours: frozenset[str], theirs: frozenset[str]) -> list[str]:
    return [
        f"{'here' if f't{at}' in ours else 'there'} alone: {test}"
        for at, test in enumerate(tests)
        if (f"t{at}" in ours) != (f"t{at}" in theirs)
    ]


@pytest.mark.parametrize("name", MESSAGES)
def test_the_same_tests_hold_of_every_message(other: Pigeonhole, name: str) -> None:
    tests = [test for _, test, _ in TESTS if "mailboxexists" not in test]
    for at in range(0, len(tests), 60):
        some = tests[at : at + 60]
        script = _all_in_one(some)
        told = other.run(script, MESSAGES[name])
        assert not told.refused, told.text
        ours = _holding(script, MESSAGES[name])
        assert not _differences(some, ours, told.stored[0][1])


@pytest.mark.parametrize("seed", range(40))
def test_the_same_generated_tests_hold(other: Pigeonhole, seed: int) -> None:
    rng = random.Random(seed)
    tests = many_tests(rng, 60)
    message = rng.choice(list(MESSAGES.values()))
    script = _all_in_one(tests)
    told = other.run(script, message)
    assert not told.refused, told.text
    assert not _differences(tests, _holding(script, message), told.stored[0][1])


def test_variables_and_captures_are_the_same(other: Pigeonhole) -> None:
    lines = []
    for number, (modifiers, string, value) in enumerate(ASSIGNED):
        quoted = value.replace("\\", "\\\\")
        lines.append(
            f'set {modifiers} "v" {string}; if string :comparator "i;octet" "${{v}}" "{quoted}" '
            f'{{ addflag "a{number}"; }}'
        )
    for number, (value, pattern, captures) in enumerate(CAPTURED):
        checks = ", ".join(
            f'string :comparator "i;octet" "${{{at}}}" "{one}"' for at, one in enumerate(captures)
        )
        lines.append(
            f'if string :matches "{value}" "{pattern}" '
            f'{{ if allof ({checks}) {{ addflag "c{number}"; }} }}'
        )
    told = other.run(REQUIRE + "\n".join([*lines, "keep;", ""]), MESSAGES["simple"])
    assert not told.refused, told.text
    wanted = {f"a{at}" for at in range(len(ASSIGNED))} | {f"c{at}" for at in range(len(CAPTURED))}
    assert wanted - told.stored[0][1] == set()


@pytest.mark.parametrize("script", [*(one for one, _ in REFUSED), *TAKEN])
def test_the_same_scripts_are_refused(other: Pigeonhole, script: str) -> None:
    try:
        compile_script(script.encode())
    except ScriptError:
        refused = True
    else:
        refused = False
    told = other.run(script + "\n", MESSAGES["simple"])
    assert refused == told.refused, told.text


@pytest.mark.parametrize("seed", range(150))
def test_generated_scripts_do_the_same(other: Pigeonhole, seed: int) -> None:
    rng = random.Random(1000 + seed)
    script = script_of(rng)
    message = rng.choice(list(MESSAGES.values()))
    told = other.run(script, message)
    try:
        actions = outcome_of(script, message, around=_AROUND)
    except ScriptError as e:
        assert told.refused, f"{script}\n{e}\n{told.text}"
        return
    except RuleError as e:
        assert told.failed, f"{script}\n{e}\n{told.text}"
        return
    assert not told.refused and not told.failed, f"{script}\n{actions}\n{told.text}"
    stored = {
        one.mailbox: frozenset(flag.lower() for flag in one.flags)
        for one in actions
        if isinstance(one, FileInto)
    }
    redirected = {one.address for one in actions if isinstance(one, Redirect)}
    assert (stored, redirected) == (dict(told.stored), set(told.redirected)), (
        f"{script}\n{actions}\n{told.text}"
    )
