"""The table of calls, and the JSON of every answer: as it was before there were types, to the
byte."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from raftmail.admin.api import between_nodes, members, policies, status, verification
from raftmail.admin.api.arguments import BadArgument, read_arguments, write_arguments
from raftmail.admin.api.calls import (
    BY_CLASS,
    BY_NAME,
    CALLS,
    Asker,
    ChangeHere,
    Effect,
    GetStatus,
    JoinMember,
    ReplaceDisk,
    SetDomain,
    SetQuota,
    SetRule,
    StartResync,
)
from raftmail.admin.api.codec import decode, encode
from raftmail.admin.api.status import ClusterStatus

RECORDED: dict[str, Any] = json.loads((Path(__file__).parent / "recorded.json").read_text())
"""Calls and answers of a cluster of the release before, and by its code what a healthy one does
not show."""


@pytest.mark.parametrize("name", RECORDED)
def test_an_answer_of_the_release_before_is_read_and_written_to_the_same_bytes(name: str) -> None:
    one = RECORDED[name]
    kind = BY_NAME[one["call"]]
    value = decode(kind.answer, one["answer"])
    assert json.dumps(encode(value)) == json.dumps(one["answer"])
    call = read_arguments(kind.call, kind.name, one["arguments"])
    assert write_arguments(call) == one["arguments"]


def test_a_recorded_status_says_in_types_what_it_says_in_json() -> None:
    found = decode(ClusterStatus, RECORDED["a status of a cluster in trouble"]["answer"])
    lost, resyncing = found.shards[1].replicas[1:]
    assert (lost.state, lost.opened, lost.is_reachable) == ("disk went back", None, True)
    assert lost.why == "its log ends before what it has acknowledged"
    assert resyncing.opened is not None and resyncing.opened.resync is not None
    assert resyncing.opened.resync.error == "it broke off"
    down = decode(ClusterStatus, RECORDED["a status with a node down"]["answer"])
    assert [(node.name, node.report is None) for node in down.nodes if not node.up] == [
        ("n3", True)
    ]
    assert not down.shards[1].replicas[2].is_reachable and not down.is_ready


def test_every_call_of_operators_is_recorded_or_shares_its_answer_with_one_that_is() -> None:
    answers = {BY_NAME[one["call"]].answer for one in RECORDED.values()}
    left = [one.name for one in CALLS if one.asker is Asker.OPERATOR and one.answer not in answers]
    assert left == ["rebalance-stop"]  # which answers an empty object


def test_names_and_classes_are_each_in_the_table_once() -> None:
    assert len(BY_NAME) == len(BY_CLASS) == len(CALLS)
    assert {one.call.__name__ for one in CALLS} == {
        found.__name__
        for _, found in inspect.getmembers(inspect.getmodule(GetStatus), inspect.isclass)
        if found.__module__ == GetStatus.__module__ and hasattr(found, "__orig_bases__")
        if dataclasses.is_dataclass(found)
    }


def test_who_may_give_something_up_for_ever_is_in_the_table() -> None:
    destroying = {one.name for one in CALLS if one.effect is Effect.DESTROYS}
    assert destroying == {"remove", "replace", "record-repair", "recover", "recover-here"}


@pytest.mark.parametrize("module", [between_nodes, members, policies, status, verification])
def test_every_field_of_an_answer_is_documented(module: ModuleType) -> None:
    tree = ast.parse(inspect.getsource(module))
    silent = []
    for kind in ast.walk(tree):
        if not isinstance(kind, ast.ClassDef):
            continue
        for one, following in zip(kind.body, [*kind.body[1:], None], strict=True):
            if isinstance(one, ast.AnnAssign) and not (
                isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
            ):
                silent.append(f"{kind.name}: {ast.unparse(one.target)}")
    assert not silent


# -- arguments -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "texts", "said"),
    [
        ("drain", {}, "drain: name: must be given: 1 to 32 of a-z"),
        ("drain", {"name": "N 1"}, "drain: name: 'N 1' is not 1 to 32 of a-z"),
        ("drain", {"name": "n1", "nmae": "x"},
         "drain: there is no argument 'nmae'; it takes name, by"),
        ("status", {"x": "1"}, "status: there is no argument 'x'; it takes none"),
        ("shard", {"shard": "x"}, "shard: shard: 'x' is not a whole number"),
        ("shard", {"shard": "-1"}, "shard: shard: '-1' is not a whole number"),
        ("shard", {"shard": "9" * 19}, "shard: shard: '9999"),
        ("shard", {"shard": "\u0663"}, "is not a whole number"),
        ("remove", {"name": "n1", "force": "maybe"}, "remove: force: 'maybe' is not yes or no"),
        ("replace", {"name": "n1", "only": "1"}, "replace: only: '1' is not SHARD:REPLICA"),
        ("withdraw", {"id": "g" * 32}, "withdraw: id: 'ggg"),
        ("domain-set", {"name": "x", "quota": "0"},
         "domain-set: quota: '0' is not a number of bytes"),
        ("quota-set", {"address": "x", "bytes": "default1"}, "from 1 on, none or default"),
        ("quota-set", {"address": "x", "bytes": str(2**63)}, "quota-set: bytes:"),
        ("change-here", {"shard": "1", "id": "1", "action": "x"}, "add, promote or remove"),
    ],
)  # fmt: skip
def test_a_bad_argument_is_named_with_its_call_and_what_is_allowed(
    name: str, texts: dict[str, str], said: str
) -> None:
    with pytest.raises(BadArgument) as error:
        read_arguments(BY_NAME[name].call, name, texts)
    assert said in str(error.value)
    assert len(str(error.value)) < 300


@pytest.mark.parametrize(
    ("call", "texts"),
    [
        (SetDomain("x", catch_all=""), {"name": "x", "catch_all": ""}),
        (SetDomain("x", quota_bytes=0), {"name": "x", "quota": "none"}),
        (SetDomain("x"), {"name": "x"}),
        (SetQuota("a@x", None), {"address": "a@x", "bytes": "default"}),
        (SetQuota("a@x", 0), {"address": "a@x", "bytes": "none"}),
        (SetQuota("a@x", 2**63 - 1), {"address": "a@x", "bytes": str(2**63 - 1)}),
        (StartResync("n1", 3, full=True), {"node": "n1", "shard": "3", "full": "1"}),
        (ReplaceDisk("n1", only={1: 2, 3: 4}), {"name": "n1", "only": "1:2,3:4"}),
        (ChangeHere(1, 2, "add", (1, 2), (), "n3"),
         {"shard": "1", "id": "2", "action": "add", "voters": "1,2", "node": "n3"}),
        (SetRule("x", zones=("a", "b"), shards=2), {"domain": "x", "zones": "a,b", "shards": "2"}),
        (JoinMember("a" * 32, "n4", "h:1", again=True),
         {"id": "a" * 32, "name": "n4", "peer": "h:1", "again": "yes"}),
    ],
)  # fmt: skip
def test_arguments_are_written_and_read_back(call: Any, texts: dict[str, str]) -> None:
    assert write_arguments(call) == texts
    assert read_arguments(type(call), "x", texts) == call


def test_an_empty_argument_is_one_that_is_not_given() -> None:
    texts = {"node": "n1", "shard": "", "full": "", "user": "", "mailbox": ""}
    assert read_arguments(StartResync, "resync-start", texts) == StartResync("n1")


def test_an_argument_of_a_later_release_is_ignored_between_nodes() -> None:
    kind = BY_NAME["hold-here"]
    assert read_arguments(kind.call, kind.name, {"shard": "1", "new": "x"}, strict=False)
