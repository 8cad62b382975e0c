"""Rights and identifiers (RFC 4314 section 2)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftmail.mail.rights import (
    RIGHTS,
    check_identifier,
    everybody,
    grantee,
    is_everybody,
    read_rights,
    rights_of,
    shown_rights,
)

_some = st.sets(st.sampled_from(RIGHTS)).map("".join)


@given(_some)
def test_what_is_shown_is_read_as_the_same_rights_or_as_all_that_an_old_one_stands_for(
    text: str,
) -> None:
    rights = read_rights(text)
    again = read_rights(shown_rights(rights))
    assert set(rights) <= set(again) <= set(rights) | set("kxte")


def test_the_rights_of_rfc_2086_stand_for_those_of_rfc_4314() -> None:
    assert read_rights("cd") == "kxte" and read_rights("dt") == "te"
    assert shown_rights("lk") == "lkc" and shown_rights("e") == "ed"
    with pytest.raises(ValueError, match="'L' is no right"):
        read_rights("L")


@given(_some, _some, _some, _some)
def test_rights_are_those_given_less_those_taken_away(
    own: str, all_: str, less: str, less_all: str
) -> None:
    entries = [("b", own), ("anyone", all_), ("-b", less), ("-anyone", less_all), ("c", RIGHTS)]
    expected = (set(own) | set(all_)) - set(less) - set(less_all)
    assert set(rights_of("b", "a", entries)) == expected
    assert rights_of("a", "a", entries) == RIGHTS
    assert set(rights_of("b", "a@x", entries)) == set(own) - set(less), "another domain"


def test_who_is_given_rights_has_a_name_to_find_them_under() -> None:
    assert grantee("b@y.org", "a@x.org") == grantee("-b@y.org", "a@x.org") == "b@y.org"
    assert grantee("anyone", "a@x.org") == everybody("c@x.org") == "anyone@x.org"
    assert is_everybody("anyone") and is_everybody("anyone@x.org") and not is_everybody("a@x.org")


@pytest.mark.parametrize("wrong", ["", "-", "A@x", "a b", "$group x", 7])
def test_what_is_no_identifier_is_refused(wrong: object) -> None:
    with pytest.raises(ValueError, match="field"):
        check_identifier("field", wrong)
