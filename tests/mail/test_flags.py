"""Flags and keywords as RFC 9051 section 2.3.2 has them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftmail.mail.flags import (
    FLAGS_MAX,
    KEYWORD_BYTES_MAX,
    SYSTEM,
    format_flags,
    keyword_mask,
    parse_flags,
)


def test_system_flags_are_known_in_any_case() -> None:
    assert parse_flags(["\\SEEN", "\\deleted", "\\Seen"]) == (9, ())


def test_a_keyword_keeps_its_first_spelling_and_comes_once() -> None:
    assert parse_flags(["$Forwarded", "$FORWARDED", "Work"]) == (0, ("$Forwarded", "Work"))


@pytest.mark.parametrize(
    "flag",
    ["\\Recent", "\\Foo", "", "a b", "a(b", "a)b", "a{b", "a%b", "a*b", 'a"b', "a]b", "ä", "\x7f"],
)
def test_what_is_no_atom_is_refused_by_name(flag: str) -> None:
    with pytest.raises(ValueError, match="neither"):
        parse_flags([flag])


def test_length_and_number_of_flags_are_bounded() -> None:
    parse_flags(["k" * KEYWORD_BYTES_MAX])
    with pytest.raises(ValueError, match="longer"):
        parse_flags(["k" * (KEYWORD_BYTES_MAX + 1)])
    with pytest.raises(ValueError, match="more than"):
        parse_flags(f"k{i}" for i in range(FLAGS_MAX + 1))


@given(st.sets(st.sampled_from([*SYSTEM, "alpha", "Beta", "gamma"])))
def test_flags_survive_the_form_of_a_record(flags: set[str]) -> None:
    system, keywords = parse_flags(sorted(flags))
    table = ["x", "beta"]
    bits = {"x": 0, "beta": 1}
    mask, missing = keyword_mask(keywords, bits, add=True)
    table += missing
    shown = format_flags(system, mask, table)
    assert {flag.lower() for flag in shown} == {flag.lower() for flag in flags}
    assert keyword_mask(keywords, bits, add=False)[0] == mask & 3
