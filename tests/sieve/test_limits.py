"""Whatever a script is, and whatever mail it meets, it ends, and what is too much is told."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftmail.sieve.compiler import compile_script
from raftmail.sieve.matching import Comparator, MatchKind, ValueMatcher
from raftmail.sieve.rule_errors import RuleError, ScriptError
from raftmail.sieve.rule_limits import RuleLimits
from raftmail.sieve.rule_message import RuleMessage
from raftmail.sieve.rule_outcome import FileInto
from tests.fuzzing import bounded
from tests.sieve.runs import PLAIN, outcome_of

_VARIABLES = 'require ["variables", "include"];'


def _refused(script: str, **others: str) -> str:
    with pytest.raises(ScriptError) as caught:
        compile_script(
            script.encode(),
            name="main",
            others={name: text.encode() for name, text in others.items()},
        )
    return str(caught.value)


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("keep;" * 250_000, "bytes"),
        ("if true {" * 33 + "}" * 33, "levels inside one another"),
        ("if " + "not " * 40 + "true { }", "levels inside one another"),
        ("if " + "anyof(" * 40 + "true" + ")" * 40 + "{ }", "levels inside one another"),
        ("keep;" * 20_001, "steps"),
        ("redirect [" + '"x",' * 1001 + '"x"];', "1000 strings"),
        (f"keep {':x ' * 100};", "64 arguments"),
        ("if size :over 99999999999999999999 { }", "too large"),
        (_VARIABLES + "".join(f'set "v{at}" "${{v{at}}}";' for at in range(300)), "256 variables"),
        (_VARIABLES + 'include "x";' * 33, "32 include"),
        ('require "encoded-character"; redirect "${unicode:d800}";', "no character of Unicode"),
        ("keep; \0", "NUL"),
        ("if (" * 5_000, "levels inside one another"),
    ],
)
def test_a_script_beyond_a_limit_is_refused_with_the_limit(script: str, told: str) -> None:
    assert told in _refused(script)


def test_a_script_that_is_no_utf_8_is_refused() -> None:
    with pytest.raises(ScriptError, match="UTF-8"):
        compile_script(b"keep; # \xff")


def test_scripts_that_include_one_another_in_a_circle_are_refused() -> None:
    include = 'require "include"; include "{}";'
    told = _refused(include.format("a"), a=include.format("b"), b=include.format("a"))
    assert "b: line 1" in told and "includes itself" in told
    assert "includes itself" in _refused(include.format("main"))


def test_scripts_that_include_too_deep_are_refused() -> None:
    include = 'require "include"; include "{}";'
    others = {f"s{at}": include.format(f"s{at + 1}") for at in range(12)}
    assert "deep" in _refused(include.format("s0"), **others)


def test_scripts_that_include_each_other_twice_end_by_their_steps() -> None:
    twice = 'require "include"; include "{0}"; include "{0}";'
    others = {f"s{at}": twice.format(f"s{at + 1}").encode() for at in range(9)}
    others["s9"] = b"keep;" * 100
    with pytest.raises(RuleError, match="steps"):
        outcome_of(twice.format("s0"), others=others)


def test_variables_that_double_are_cut_off() -> None:
    doubled = 'set "a" "${a}${a}";' * 60
    script = (
        f'{_VARIABLES} set "a" "12345678ü"; {doubled} set :length "n" "${{a}}"; '
        'if not string "${n}" "7373" { discard; }'
    )
    assert outcome_of(script), "8192 octets are 819 times 10, which have 9 characters, and 2 more"


def test_a_string_of_many_variables_ends_the_run() -> None:
    script = _VARIABLES + 'set "a" "' + "x" * 9000 + '"; set "b" "' + "${a}" * 40 + '";'
    with pytest.raises(RuleError, match="line 1: a string of"):
        outcome_of(script)


def test_patterns_that_make_others_take_for_ever_take_little() -> None:
    message = b"X: " + b"a" * 60_000 + b"\r\n" + PLAIN
    outcome_of(f'if header :matches "x" "{"*a" * 500}b" {{ discard; }}', message)
    with pytest.raises(RuleError, match="too much work"):
        outcome_of(f'if header :matches "x" "*{"a?" * 5000}b*" {{ discard; }}', message)


def test_a_run_stops_where_it_redirects_or_acts_too_often() -> None:
    five = "".join(f'redirect "a{at}@example.org";' for at in range(5))
    with pytest.raises(RuleError, match="4 addresses"):
        outcome_of(five)
    many = "".join(f'fileinto "m{at}";' for at in range(33))
    with pytest.raises(RuleError, match="32 actions"):
        outcome_of(f'require "fileinto"; {many}')


def test_a_long_body_is_looked_at_up_to_its_limit() -> None:
    message = PLAIN + b"x" * 5000 + b"needle"
    script = 'require "body"; if body :contains "needle" { discard; }'
    assert outcome_of(script, message) == ()
    assert outcome_of(script, message, limits=RuleLimits(body_bytes_max=4000))


def test_a_run_that_compares_much_stops_between_two_steps() -> None:
    script = 'require "body"; ' + 'if body :raw :contains "needle" { discard; }' * 20
    assert outcome_of(script, PLAIN + b"x" * 1_000_000) == (FileInto("INBOX"),)


_PIECES = st.lists(st.sampled_from(["a", "b", "ab", "*", "?", "\\*", "\\?"]), max_size=8)


@bounded
@given(value=st.text("ab*?", max_size=12), pieces=_PIECES)
def test_wildcards_find_what_an_expression_finds(value: str, pieces: list[str]) -> None:
    expression = "".join(
        {"*": "(.*?)", "?": "(.)", "\\*": r"\*", "\\?": r"\?"}.get(one, one) for one in pieces
    )
    wanted = re.fullmatch(expression, value)
    matcher = ValueMatcher(MatchKind.MATCHES, Comparator.OCTET)
    found = matcher.find([value.encode()], ["".join(pieces).encode()], lambda octets: None)
    assert (found is None) == (wanted is None)
    if found is not None and wanted is not None:
        assert found.captures == (value.encode(), *(one.encode() for one in wanted.groups()))


_WORDS = st.sampled_from(
    ["keep", "if", "true", "{", "}", "(", ")", "[", "]", ",", ";", '"x"', ":is", "5K", "not",
     "header", "text:\r\nx\r\n.\r\n", "/* c */", "#c\n", "require", '"', "\\", "$", "anyof"]
)  # fmt: skip


@bounded
@given(words=st.lists(_WORDS, max_size=30))
def test_any_text_is_a_script_or_has_a_place_where_it_is_wrong(words: list[str]) -> None:
    try:
        compile_script(" ".join(words).encode())
    except ScriptError as e:
        assert e.line >= 1 and e.column >= 1


@bounded
@given(data=st.binary(max_size=400))
def test_any_octets_are_a_message_that_rules_can_be_asked_of(data: bytes) -> None:
    script = (
        'require ["body", "date", "envelope"]; if anyof (header :contains "a" "b", '
        'address "from" "c", body :contains "d", date "date" "hour" "1", exists "e") { discard; }'
    )
    outcome_of(script, b"From: x\r\nA: " + data)
    message = RuleMessage(data)
    assert message.size == len(data)
