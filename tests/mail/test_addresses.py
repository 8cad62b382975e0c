"""What is the same address, which accounts can be made, and for whom a recipient stands."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftmail.mail.addresses import (
    account,
    alias_address,
    domain,
    named,
    recipients,
    spellings,
)
from raftmail.mail.new_accounts import check_new


@pytest.mark.parametrize(
    ("given_", "kept"),
    [
        ("Alice@Example.ORG", "alice@example.org"),
        ("ju\u0308rgen@x.org", "jürgen@x.org"),
        ('"anna"@x.org', "anna@x.org"),
        ('"q.x"@x.org', "q.x@x.org"),
        ("straße@x.org", "straße@x.org"),
        ("strasse@x.org", "strasse@x.org"),
        ("γιώργος@x.org", "γιώργος@x.org"),
        ("c++@x.org", "c++@x.org"),
        ("anna+work@x.org", "anna+work@x.org"),
        ("o'neil/x=y@x.org", "o'neil/x=y@x.org"),
        ("a@Bücher.Example", "a@xn--bcher-kva.example"),
        ("a@XN--BCHER-KVA.example", "a@xn--bcher-kva.example"),
        ("a@straße.example", "a@xn--strae-oqa.example"),
        ("a@[127.0.0.1]", "a@[127.0.0.1]"),
    ],
)
def test_an_address_has_one_form(given_: str, kept: str) -> None:
    assert account(given_) == kept
    assert account(kept) == kept
    check_new(kept)
    local, _, at = given_.rpartition("@")
    assert kept in [name for name, _ in recipients(local.strip('"'), at, "+")], "mail comes there"


@pytest.mark.parametrize(
    "address",
    [
        "", "noat", "a@@b.org", "a@b@c.org", "@x.org", "a@", "a b@x.org", '"a b"@x.org',
        '"a@b"@x.org',
        "x@example.org.", "x@.org", "x@a..org", "x@-a.org", "x@a-.org", ".a@x.org", "a.@x.org",
        "a..b@x.org",
        "a\u200bb@x.org", "a\u202eb@x.org", "a\u00adb@x.org", "a\u2066b@x.org", "a\ufeffb@x.org",
        "a\u3164b@x.org",
        "a\ufe0fb@x.org", "\U000e0061b@x.org", "a\ue000b@x.org", "a\u0378b@x.org", "\u0308a@x.org",
        "a\x00b@x.org",
        "a\x7fb@x.org", "a\u2028b@x.org", "a\u00a0b@x.org", "a\ud800b@x.org", "a\r\nb@x.org",
        "x" * 65 + "@x.org", "ä" * 33 + "@x.org", "x@" + "a" * 64 + ".org", "x@" + "a.b" * 90,
        "x@xn--a-\u200b.org", "x@xn--zzzzzzzz--.org", "x@a\u200bb.org", "x@exa mple.org",
        "<x@y.org>", "a,b@x.org",
        "a:b@x.org", "x" * 5000 + "@x.org",
    ],
)  # fmt: skip
def test_an_account_that_no_delivery_reaches_or_nobody_can_see_is_refused(address: str) -> None:
    with pytest.raises(ValueError):
        account(address)


def test_postmaster_alone_may_be_an_alias_without_a_domain() -> None:
    assert alias_address("Postmaster") == "postmaster"
    with pytest.raises(ValueError, match="has no @"):
        alias_address("noat")


@pytest.mark.parametrize(
    "earlier", ["noat", "a@@b.org", "x@example.org.", "a\u200bb@x.org", "ärger@x"]
)
def test_users_of_earlier_releases_can_still_be_named(earlier: str) -> None:
    assert named(earlier) == earlier
    assert "ärger@x.org" in spellings("ÄRGER@x.org")


def _to(local: str, at: str, separator: str = "+") -> list[tuple[str, str]]:
    return list(recipients(local, at, separator))


def test_a_recipient_is_the_whole_address_first_and_then_what_is_before_the_separators() -> None:
    assert _to("Anna+Work", "X.org") == [("anna+work@x.org", ""), ("anna@x.org", "Work")]
    assert _to("c++", "x.org") == [("c++@x.org", ""), ("c+@x.org", ""), ("c@x.org", "+")]
    assert _to("c+++lists", "x.org")[1:3] == [("c++@x.org", "lists"), ("c+@x.org", "+lists")]
    assert _to("+a", "x.org") == [("+a@x.org", "")]
    assert _to("a+b", "x.org", "") == [("a+b@x.org", "")]
    assert len(_to("a" + "+b" * 100, "x.org")) <= 6
    assert _to("postmaster", "") == [("postmaster", "")]


def test_users_of_earlier_releases_get_their_mail() -> None:
    assert ("ärger@x.org", "") in _to("Ärger", "x.org")
    for at in ("bücher.example", "xn--bcher-kva.example"):
        found = [name for name, _ in _to("a", at)]
        assert found[0] == "a@xn--bcher-kva.example"
        assert "a@bücher.example" in found


@given(st.text(max_size=20), st.text("ab.-ä\u200b", max_size=12))
def test_what_is_accepted_is_stable_and_gets_its_mail(local: str, at: str) -> None:
    try:
        made = account(f"{local}@{at}")
    except ValueError:
        return
    assert account(made) == made
    check_new(made)
    to, _, where = made.rpartition("@")
    assert next(iter(recipients(to, where, "+"))) == (made, "")
    assert domain(where) == where
