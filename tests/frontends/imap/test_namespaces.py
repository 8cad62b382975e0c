"""Names of mailboxes of others, and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftmail.frontends.imap.namespaces import (
    MailboxPlace,
    full_name,
    is_nameable,
    place_of,
    reaches_others,
)
from raftmail.mail.names import matches

ME = "anna@x.org"
_owners = st.sampled_from([ME, "bob@x.org", "b@other.org", "plain", "shared-folders@x.org"])
_names = st.sampled_from(["INBOX", "a", "a/b", "Ä"])


@given(_owners, _names)
def test_a_name_leads_to_the_mailbox_that_it_is_of(owner: str, name: str) -> None:
    assert place_of(full_name(owner, name, ME), ME) == MailboxPlace(owner, name)


@pytest.mark.parametrize(
    "name",
    [
        "Other Users",
        "Other Users/bob@x.org",
        "Other Users/Bob@x.org/a",
        "Other Users/anna@x.org/a",
        "Other Users/shared-folders@x.org/a",
        "Shared Folders",
    ],
)
def test_other_names_in_a_namespace_are_of_no_mailbox(name: str) -> None:
    assert place_of(name, ME).owner == ""


@given(
    st.lists(st.sampled_from(["Other", " ", "Users", "/", "*", "%", "Sh", "a"]), max_size=6),
    _owners.filter(lambda owner: owner != ME),
    _names,
)
def test_a_pattern_that_matches_a_mailbox_of_others_is_known_to(
    pieces: list[str], owner: str, name: str
) -> None:
    pattern = "".join(pieces)
    named = full_name(owner, name, ME)
    above = [named[:at] for at, one in enumerate(named) if one == "/"]
    if any(matches(pattern, one) for one in (named, *above)):
        assert reaches_others(pattern)


def test_an_owner_whose_name_has_a_separator_or_wildcard_cannot_be_named() -> None:
    assert is_nameable("a@x.org")
    assert not any(is_nameable(owner) for owner in ("a/b@x.org", "a%b@x.org", "*@x.org"))
