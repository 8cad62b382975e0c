"""What a node says of a request that it could not bring to an end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from raftmail.cluster import calls as c
from raftmail.cluster.calls import CallKind, FrameKind
from raftmail.cluster.router import Router
from raftmail.mail.codec import encode_query
from raftmail.mail.queries import GetMailbox
from raftmail.mail.service import Failure

SHARD = 1


class View:
    revision = 1
    nodes: Sequence[str] = ("a", "b", "c")
    shards: Sequence[int] = (0, 1)

    def members(self, shard: int) -> Sequence[str]:
        return self.nodes

    def shard_of(self, user: str) -> int:
        return SHARD

    def quota_of(self, user: str) -> int:
        return 0

    def delivered_to(self, address: str) -> Sequence[str]:
        return (address,)

    def catch_all(self, address: str) -> str:
        return ""


class Links:
    """Notes what is sent."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, int]] = []
        self.answered: list[tuple[str, int, str]] = []

    def send(self, node: str, shard: int, kind: str, parts: Sequence[bytes]) -> bool:
        if kind == FrameKind.ANSWERS:
            answers = c.decode_answers(parts[0])
            self.answered += [(node, number, status) for number, status, _ in answers]
        else:
            self.sent += [(node, call.number) for call in c.decode_calls(parts[0])]
        return True

    def is_up(self, node: str) -> bool:
        return True

    def wake(self, shard: int) -> None:
        return

    def submitted(self, shard: int) -> None:
        return


class Asked:
    """A request at node a, which has no replica of its own."""

    def __init__(self) -> None:
        self.links = Links()
        self.router = Router("a", {}, View(), self.links, lambda: 0.0)
        self.outcomes: list[Any] = []

    def ask(self, kind: CallKind = CallKind.SUBMIT) -> None:
        data: tuple[Any, ...] = (b"request", ()) if kind is CallKind.SUBMIT else ()
        self.router.start(kind, SHARD, 10.0, data, self.outcomes.append)
        self.router.flush()

    def answer(self, status: str, value: Any) -> None:
        """From the node that was asked last."""
        node, number = self.links.sent[-1]
        payload = c.encode([[number, status, value]])
        self.router.receive(node, FrameKind.ANSWERS, payload)

    def lose(self) -> None:
        """The link over which it was asked last, so that the call is sent again."""
        before = len(self.links.sent)
        self.router.disconnected(self.links.sent[-1][0])
        self.router.flush()
        assert len(self.links.sent) > before


def _failed(*, full: bool = False, final: bool = False) -> list[Any]:
    return ["no", False, full, final]


def test_an_answer_to_a_call_of_the_process_before_is_given_to_no_call_of_this_one() -> None:
    """A master that was paused takes what a node sent before it was killed, and answers over the link to the process that came after."""
    before, asked = Asked(), Asked()
    for one in (before, asked):
        one.ask(CallKind.BARRIER)
    node, number = before.links.sent[-1]
    asked.router.receive(node, FrameKind.ANSWERS, c.encode([[number, "ok", 5]]))
    assert asked.outcomes == []
    asked.answer("ok", 7)
    assert asked.outcomes == [7]


@pytest.mark.parametrize("why", ["full", "final"])
def test_a_refusal_of_the_only_attempt_had_no_effect(why: str) -> None:
    asked = Asked()
    asked.ask()
    asked.answer("failed", _failed(**{why: True}))
    assert asked.outcomes == [Failure("no", unknown=False, **{why: True})]


@pytest.mark.parametrize("why", ["full", "final"])
def test_a_refusal_tells_nothing_of_an_attempt_before_it_that_had_no_answer(why: str) -> None:
    asked = Asked()
    asked.ask()
    asked.lose()  # what was sent may be in a log
    asked.answer("failed", _failed(**{why: True}))
    assert asked.outcomes == [Failure("no", unknown=True, **{why: True})]


def test_a_call_that_changes_nothing_leaves_nothing_open() -> None:
    asked = Asked()
    asked.ask(CallKind.BARRIER)
    asked.lose()
    asked.answer("failed", _failed(final=True))
    assert asked.outcomes == [Failure("no", unknown=False, final=True)]


class Nothing(View):
    """Of a node that has not heard of the cluster (again)."""

    revision = 0

    def members(self, shard: int) -> Sequence[str]:
        return ()

    def shard_of(self, user: str) -> int:
        raise KeyError(user)


def test_a_node_that_does_not_know_the_cluster_sends_readers_on() -> None:
    async def run() -> None:
        links = Links()
        router = Router("a", {}, Nothing(), links, lambda: 0.0)
        query = encode_query(GetMailbox("ann@example.org", "INBOX"))
        router.receive(
            "b", FrameKind.CALLS, c.encode([[7, CallKind.QUERY, SHARD, 1000, "", [query]]])
        )
        await asyncio.sleep(0)
        router.flush()
        assert links.answered == [("b", 7, "moved")]

    asyncio.run(run())
