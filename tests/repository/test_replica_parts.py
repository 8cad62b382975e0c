"""Outside its room a replica is one object: nobody reaches through it into its parts."""

from __future__ import annotations

import ast
from dataclasses import fields

import pytest

from raftmail.shard.replica import Replica
from tests.repository.source_tree import Module, is_within, make_module, shipped_modules

VALUES = frozenset(
    ["shard", "node", "limits", "cluster", "new_session", "keep_to", "observer", "counters"]
)
"""Fields of a replica that are values, and may be read."""

PARTS = frozenset(one.name for one in fields(Replica)) - VALUES

REPLICAS = frozenset(("replica", "replicas", "own", "root", "led", "leader", "source"))
"""Names that hold replicas: a variable, or the last word of an attribute, a call or a subscript."""

_OF_NOTHING_ELSE = frozenset(("group", "recovery", "marks", "streams", "watchers", "compaction"))
"""Parts whose names nothing outside has, so that no variable's name hides a reach."""


def _name_of(node: ast.expr) -> str:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case ast.Subscript(value=value) | ast.Call(func=value):
            return _name_of(value)
    return ""


def reaches(module: Module) -> list[str]:
    """Places where a part of a replica is touched outside of its room."""
    if is_within(module.name, "raftmail.shard") or not is_within(module.name, "raftmail"):
        return []
    below = ("raftmail.consensus", "raftmail.resync", "raftmail.storage", "raftmail.mail")
    if any(is_within(module.name, room) for room in below):
        return []  # they know of no replica
    return [
        f"{module.where}:{node.lineno}: {ast.unparse(node)}: give Replica a method instead"
        for node in ast.walk(ast.parse(module.text))
        if isinstance(node, ast.Attribute)
        and (
            (node.attr in PARTS and _name_of(node.value) in REPLICAS)
            or node.attr in _OF_NOTHING_ELSE
        )
    ]


def test_nobody_reaches_through_a_replica_into_its_parts() -> None:
    found = [reach for module in shipped_modules() for reach in reaches(module)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "source",
    [
        "replica.group.term",
        "self.router.replicas[1].machine.query(q)",
        "router.own(3).recovery.manager.order()",
        "group = opened.replica.group",
        "[r.group for r in all]",
        "root.requests.waiting",
    ],
)
def test_a_reach_is_found(source: str) -> None:
    assert reaches(make_module("raftmail.node.somewhere", source))
    assert not reaches(make_module("raftmail.shard.somewhere", source))


@pytest.mark.parametrize("source", ["replica.term", "self.waits()", "record.index", "call.blobs"])
def test_what_is_no_reach_is_let_through(source: str) -> None:
    assert not reaches(make_module("raftmail.node.somewhere", source))
