"""What the configuration says of the mailboxes of new users."""

from __future__ import annotations

import pytest

from raftmail.mail.first_mailboxes import parse_first_mailboxes


def test_a_name_that_is_a_special_use_has_that_unless_it_says_otherwise() -> None:
    assert parse_first_mailboxes(
        "Drafts, Sent,Spam=junk, Mail/Trash=\\Trash, Archive=, Lists,"
    ) == (
        ("Drafts", "\\Drafts"),
        ("Sent", "\\Sent"),
        ("Spam", "\\Junk"),
        ("Mail/Trash", "\\Trash"),
        ("Archive", ""),
        ("Lists", ""),
    )
    assert parse_first_mailboxes("") == ()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("Spam=Spam", "no special use"),
        ("Junk, Spam=Junk", "each special use is for one"),
        ("Lists, Lists", "after itself"),
        ("a/b, a", "after what is below it"),
        ("inbox", "after itself"),
        ("a*", r"no \*"),
        (",".join(f"x{n}" for n in range(33)), "at most 32"),
    ],
)
def test_what_no_user_could_have_is_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_first_mailboxes(text)
