"""Calls find their handlers, and what they take and give is what the table says."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_type_hints

import pytest

from raftmail.admin.admin_calls import AdminCalls, NotUnderstood
from raftmail.admin.api.calls import (
    BY_CLASS,
    GetReplicaHere,
    GetStatus,
    HoldHere,
    ListRecords,
    ListShards,
)
from raftmail.mail.failures import Unavailable
from raftmail.node.admin import Admin


def _put_together() -> AdminCalls:
    """All handlers of a node, over nothing."""
    anything: Any = SimpleNamespace()
    router: Any = SimpleNamespace(clock=lambda: 0.0, node="n1")
    config: Any = SimpleNamespace(
        data=Path("/nowhere"),
        verify=SimpleNamespace(period_s=0),
        cluster=SimpleNamespace(id="c"),
    )
    table: Any = SimpleNamespace(opened={}, mend_journal=None, force_alone=None)
    admin = Admin.of(config, router, anything, table, lambda _: True, lambda: 0.0, dict, anything)
    return admin.calls


def test_every_call_has_one_handler_that_takes_and_gives_what_the_table_says() -> None:
    handlers = _put_together().handlers
    assert handlers.keys() == BY_CLASS.keys()
    for call, handler in handlers.items():
        hints = get_type_hints(handler)
        assert hints["call"] is call, handler
        assert hints["return"] == BY_CLASS[call].answer, handler


class Nodes:
    """Of a router: what other nodes answer."""

    def __init__(self, answers: Mapping[str, Any]) -> None:
        self.answers = answers
        self.asked: list[tuple[str, str, Mapping[str, str]]] = []
        self.node = "n1"

    def clock(self) -> float:
        return 5.0

    async def ask(self, node: str, what: str, arguments: Mapping[str, str], wait_s: float) -> Any:
        self.asked.append((node, what, arguments))
        return self.answers[node]


def _dispatcher(answers: Mapping[str, Any]) -> tuple[AdminCalls, Nodes]:
    router: Any = Nodes(answers)
    return AdminCalls(router), router


def test_another_node_is_asked_by_name_and_its_answer_is_typed() -> None:
    calls, nodes = _dispatcher({"n2": {"hold_s": 600.0}})
    assert asyncio.run(calls.ask("n2", HoldHere(3), 1.0)).hold_s == 600.0
    assert nodes.asked == [("n2", "hold-here", {"shard": "3"})]


def test_an_answer_that_is_none_of_this_release_is_no_answer_and_names_node_call_and_field(
    caplog: pytest.LogCaptureFixture,
) -> None:
    calls, _ = _dispatcher({"n2": {"hold_s": "long"}})
    for _ in range(2):
        with pytest.raises(NotUnderstood, match=r"n2 answers to hold-here .* hold_s: a number"):
            asyncio.run(calls.ask("n2", HoldHere(3), 1.0))
    assert len(caplog.records) == 1, "it is logged once"
    assert issubclass(NotUnderstood, Unavailable)


def test_a_client_may_not_make_calls_that_are_for_nodes_and_is_told_which_there_are() -> None:
    calls = _put_together()
    with pytest.raises(ValueError, match="recover-here is for nodes alone"):
        asyncio.run(calls.answer_operator("recover-here", {}, 1.0))
    with pytest.raises(ValueError, match="no administrative call 'frob'; there are status, ") as e:
        asyncio.run(calls.answer_operator("frob", {}, 1.0))
    assert "observe-here" not in str(e.value)


def test_a_node_that_has_nothing_of_a_shard_says_so_in_an_empty_object() -> None:
    calls, _ = _dispatcher({"n2": {}})
    assert asyncio.run(calls.ask("n2", GetReplicaHere(1), 1.0)).replica is None


def test_two_handlers_for_one_call_are_a_fault() -> None:
    async def answer(call: Any, deadline: float) -> None:
        return None

    calls, _ = _dispatcher({})
    calls.add({GetStatus: answer, ListShards: answer})
    with pytest.raises(AssertionError):
        calls.add({ListRecords: answer, GetStatus: answer})
