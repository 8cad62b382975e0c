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
    rules = [{"domain": "example.org", "pool": "example.org", "state": "active"}]
    result = run(Twin({"rules": {"rules": rules, "pools": [POOL]}}), "rule", "list")
    assert "zone eu" in result.stdout and "active" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "what", "asked", "answer", "told"),
    [
        (
            ("alias", "set", "a@x", "b@x", "c@x"), "alias-set", {"address": "a@x", "to": "b@x,c@x"},
            {"address": "a@x", "to": ["b@x", "c@x"]}, "Mail for a@x goes to b@x, c@x.\n",
        ),
        (("alias", "remove", "a@x"), "alias-remove", {"address": "a@x"}, {}, "a@x is no alias any more.\n"),
        (
            ("domain", "set", "x", "--catch-all", "a@x"), "domain-set", {"name": "x", "catch_all": "a@x"},
            {}, "x: a@x gets what nobody has.\n",
        ),
        (("domain", "remove", "x"), "domain-remove", {"name": "x"}, {}, "x is forgotten.\n"),
        (("rule", "remove", "x"), "rule-remove", {"domain": "x"}, {}, "New users of x go to the main pool.\n"),
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
