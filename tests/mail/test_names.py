"""Mailbox names, LIST patterns and user addresses."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftmail.mail.names import mailbox_name, matches, parents


@pytest.mark.parametrize(
    ("given_", "kept"),
    [
        ("inbox", "INBOX"),
        ("iNbOx/Sent", "INBOX/Sent"),
        ("Inboxes", "Inboxes"),
        ("a/inbox", "a/inbox"),
        ("A\u0308rger", "Ärger"),
        ("x y", "x y"),
    ],
)
def test_a_name_has_one_spelling(given_: str, kept: str) -> None:
    assert mailbox_name(given_) == kept
    assert mailbox_name(kept) == kept


@pytest.mark.parametrize(
    "name",
    [
        *("", "/", "a/", "/a", "a//b", "a*", "a%b", "a\0b", "a\nb", "\u2028", "\ud800"),
        *("x" * 256, "/".join("a" * 51), "/".join(["x" * 250] * 4), "ä" * 128),
    ],
)
def test_a_name_that_no_mailbox_can_have_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="mailbox name"):
        mailbox_name(name)


@given(st.text(max_size=30))
def test_normalising_a_name_twice_changes_nothing(name: str) -> None:
    try:
        once = mailbox_name(name)
    except ValueError:
        return
    assert mailbox_name(once) == once


def test_parents_come_from_the_top() -> None:
    assert parents("a/b/c") == ["a", "a/b"]
    assert parents("a") == []


@given(st.text("ab/*%", max_size=8), st.text("ab/", max_size=8))
def test_patterns_match_like_regular_expressions(pattern: str, name: str) -> None:
    expression = "".join(
        {"*": ".*", "%": "[^/]*"}.get(character, re.escape(character)) for character in pattern
    )
    assert matches(pattern, name) == bool(re.fullmatch(expression, name))


def test_inbox_is_matched_in_any_case() -> None:
    assert matches("inbox", "INBOX")
    assert matches("Inbox/%", "INBOX/a")
    assert not matches("inboxes", "INBOXES")


def test_a_pattern_made_to_be_slow_is_not() -> None:
    assert not matches("*a" * 450, "a" * 449 + "b" * 500)


def test_a_pattern_that_is_too_long_is_refused() -> None:
    with pytest.raises(ValueError, match="characters"):
        matches("a" * 1001, "a")
