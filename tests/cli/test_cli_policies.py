"""`rule`, `domain` and `alias` ask what they say, and show what came of it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cli.cluster_twin import Twin
from tests.cli.test_cli_cluster import run

POOL: dict[str, Any] = {
    "name": "example.org",
    "shards": [9, 10],
    "replicas": 5,
    "zones": ["eu"],
    "labels": [],
    "nodes": [],
    "master": "zone:eu",
}


def test_a_rule_is_set_with_what_was_given_and_nothing_else() -> None:
    twin = Twin({"rule-set": {"domain": "example.org", "state": "pinning", "pool": POOL}})
    result = run(twin, "rule", "set", "example.org", "--zones", "eu", "--replicas", "5")
    assert result.stdout == "New users of example.org go to the pool example.org (zone eu).\n"
    asked = {"domain": "example.org", "zones": "eu", "replicas": "5"}
    assert twin.asked == [("rule-set", asked)]


def test_rules_and_pools_are_shown() -> None:
    waits = "n3 (silent for 7 s; not waited for in 593 s, or when it is removed)"
    rules = [
        {"domain": "example.org", "pool": "example.org", "state": "active", "waits_for": ""},
        {"domain": "x.org", "pool": "example.org", "state": "spreading", "waits_for": waits},
    ]
    result = run(Twin({"rules": {"rules": rules, "pools": [POOL]}}), "rule", "list")
    assert "zone eu" in result.stdout and "active" in result.stdout
    assert waits in result.stdout


@pytest.mark.parametrize(
    ("arguments", "what", "asked", "answer", "told"),
    [
        (
            ("alias", "set", "a@x", "b@x", "c@x"), "alias-set", {"address": "a@x", "to": "b@x,c@x"},
            {"address": "a@x", "to": ["b@x", "c@x"]}, "Mail for a@x goes to b@x, c@x.\n",
        ),
        (("alias", "remove", "a@x", "--yes"), "alias-remove", {"address": "a@x"},
            {"address": "a@x"}, "a@x is no alias any more.\n"),
        (
            ("domain", "set", "x", "--catch-all", "a@x"), "domain-set",
            {"name": "x", "catch_all": "a@x"},
            {"name": "x", "catch_all": "a@x", "quota_bytes": 0},
            "x: a@x gets what nobody has; quota of each user: none.\n",
        ),
        (
            ("domain", "set", "x", "--quota", "2G"), "domain-set",
            {"name": "x", "quota": "2000000000"},
            {"name": "x", "catch_all": "", "quota_bytes": 2_000_000_000},
            "x: no catch-all; quota of each user: 2.0 GB.\n",
        ),
        (("domain", "remove", "x", "--yes"), "domain-remove", {"name": "x"},
            {"name": "x"}, "x is forgotten.\n"),
        (("rule", "remove", "x", "--yes"), "rule-remove", {"domain": "x"},
            {"domain": "x", "state": "", "pool": None}, "New users of x go to the main pool.\n"),
        (
            ("rule", "place", "a@x", "7"), "place", {"address": "a@x", "shard": "7"},
            {"address": "a@x", "shard": 7}, "The mail of a@x is in shard 7.\n",
        ),
    ],
)  # fmt: skip
def test_what_is_asked_is_done_and_told(
    arguments: tuple[str, ...], what: str, asked: dict[str, str], answer: Any, told: str
) -> None:
    twin = Twin({what: answer})
    result = run(twin, *arguments)
    assert (result.stdout, twin.asked) == (told, [(what, asked)])


def _user(address: str, used: int | None, quota: int, *, own: bool = False) -> dict[str, Any]:
    return {
        "address": address, "shard": 2, "quota_bytes": quota, "own_quota": own, "used_bytes": used,
        "messages": None if used is None else 3,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        ("2G", "2000000000"), ("1.5gib", "1610612736"), ("500 kB", "500000"), ("700", "700"),
        ("NONE", "none"), ("default", "default"),
    ],
)  # fmt: skip
def test_a_quota_is_given_as_people_write_it(given: str, asked: str) -> None:
    twin = Twin({"quota-set": _user("a@x", 1_500_000_000, 2_000_000_000, own=True)})
    result = run(twin, "user", "quota", "a@x", given)
    assert twin.asked == [("quota-set", {"address": "a@x", "bytes": asked})]
    assert "1.5 GB" in result.stdout and "75 %" in result.stdout and "the user" in result.stdout


def test_an_app_password_is_shown_once_listed_by_name_and_taken_away() -> None:
    twin = Twin(
        {
            "app-password-add": {"address": "a@x", "name": "phone", "password": "aaaaa-bbbbb"},
            "app-passwords": {
                "address": "a@x",
                "app_passwords": [{"name": "phone", "made_s": 1_700_000_000}],
            },
            "app-password-remove": {"address": "a@x", "name": "phone"},
        }
    )
    made = run(twin, "user", "app-password", "add", "a@x", "--name", "phone")
    assert made.stdout == "aaaaa-bbbbb\n"
    listed = run(twin, "user", "app-password", "list", "a@x").stdout
    assert "phone" in listed and "2023-11-14" in listed and "aaaaa" not in listed
    gone = run(twin, "user", "app-password", "remove", "a@x", "--name", "phone").stdout
    assert gone == "Removed the password of phone of a@x.\n"
    named = {"address": "a@x", "name": "phone"}
    assert twin.asked == [
        ("app-password-add", named),
        ("app-passwords", {"address": "a@x"}),
        ("app-password-remove", named),
    ]
    assert run(twin, "user", "app-password", "add", "a@x").exit_code == 2


@pytest.mark.parametrize("given", ["", "much", "-5", "0", "2X", "1e9", "none at all"])
def test_a_size_that_is_none_is_refused(given: str) -> None:
    twin = Twin({})
    result = run(twin, "user", "quota", "a@x", "--", given)
    assert result.exit_code == 2
    assert "size" in result.stderr or "no room" in result.stderr
    assert twin.asked == []


def test_what_users_have_is_shown_with_their_quotas() -> None:
    twin = Twin(
        {
            "users": {"users": [_user("a@x", 500, 1000), _user("b@x", None, 0)], "after": ""},
            "domains": {"domains": [{"name": "x", "catch_all": "", "quota_bytes": 1000}]},
        }
    )
    listed = run(twin, "user", "list", "--usage").stdout
    assert "500 B" in listed and "50 %" in listed and "the domain" in listed and "?" in listed
    shown = run(twin, "domain", "show", "x").stdout
    assert "x: 2 users, 3 messages, 500 B." in shown
    assert "Without 1 user whose shard does not answer: b@x" in shown
