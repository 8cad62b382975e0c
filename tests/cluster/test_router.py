"""What a node says of a request that it could not bring to an end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from raftmail.cluster import rpc as c
from raftmail.cluster.router import Router
from raftmail.cluster.rpc import CallKind, RpcFrameKind
from raftmail.mail.budget import Budget
from raftmail.mail.codec import encode_query
from raftmail.mail.failures import Failure
from raftmail.mail.queries import GetMailbox

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
        self.lengths: list[int] = []
        self.room_bytes = 1 << 40

    def send(self, node: str, shard: int, kind: str, parts: Sequence[c.Part]) -> bool:
        payload = b"".join(parts)
        self.lengths.append(len(payload))
        if kind == RpcFrameKind.ANSWERS:
            answers = c.decode_answers(payload)
            self.answered += [(node, number, status) for number, status, _ in answers]
        elif kind == RpcFrameKind.ANSWER:
            self.answered.append((node, *c.decode_answer(payload)[:2]))
        elif kind == RpcFrameKind.CALL:
            self.sent.append((node, c.decode_call(payload).number))
        else:
            self.sent += [(node, call.number) for call in c.decode_calls(payload)]
        return True

    def has_room(self, node: str, size_bytes: int, *, long: bool) -> bool:
        return size_bytes <= self.room_bytes

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
        self.router.receive(node, RpcFrameKind.ANSWERS, payload)

    def lose(self) -> None:
        """The link over which it was asked last, so that the call is sent again."""
        before = len(self.links.sent)
        self.router.disconnected(self.links.sent[-1][0])
        self.router.flush()
        assert len(self.links.sent) > before


def _failed(*, full: bool = False, final: bool = False) -> list[Any]:
    return ["no", False, full, final]


def test_an_answer_to_a_call_of_the_process_before_is_given_to_no_call_of_this_one() -> None:
    """A master that was paused takes what a node sent before it was killed, and answers over the
    link to the process that came after."""
    before, asked = Asked(), Asked()
    for one in (before, asked):
        one.ask(CallKind.BARRIER)
    node, number = before.links.sent[-1]
    asked.router.receive(node, RpcFrameKind.ANSWERS, c.encode([[number, "ok", 5]]))
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
            "b", RpcFrameKind.CALLS, c.encode([[7, CallKind.QUERY, SHARD, 1000, "", [query]]])
        )
        await asyncio.sleep(0)
        router.flush()
        assert links.answered == [("b", 7, "moved")]

    asyncio.run(run())


MIB = 1 << 20


class Sizes:
    """Requests of some sizes at node a, whose links take `room_bytes` in a turn of the loop."""

    def __init__(self, room_bytes: int = 1 << 40, budget_bytes: int = 1 << 40) -> None:
        self.links = Links()
        self.links.room_bytes = room_bytes
        self.now = 0.0
        self.router = Router(
            "a", {}, View(), self.links, lambda: self.now, budget=Budget(budget_bytes)
        )
        self.outcomes: list[Any] = []

    def ask(self, *body_bytes: int) -> None:
        for size in body_bytes:
            blobs = [(bytes(32), bytes(size))] if size else []
            self.router.start(
                CallKind.SUBMIT, SHARD, 10.0, (b"request", blobs), self.outcomes.append
            )

    def turn(self) -> None:
        self.router.tick()
        self.router.flush()
        self.now += 0.03


@pytest.mark.parametrize(
    "sizes", [[40 * MIB] * 2, [8 * MIB] * 12, [240 << 10] * 300, [60_000] * 99]
)
def test_no_frame_is_longer_than_one_call_or_the_limit(sizes: list[int]) -> None:
    made = Sizes()
    made.ask(*sizes)
    made.turn()
    assert len(made.links.sent) == len(sizes)
    assert max(made.links.lengths) <= max(*sizes, c.FRAME_BYTES_MAX) + 1000


def test_what_a_link_has_no_room_for_waits_and_is_sent_when_there_is_room_in_its_order() -> None:
    made = Sizes(room_bytes=10 * MIB)
    made.router._hints[SHARD] = "b"
    made.ask(*[4 * MIB] * 5, *[1000] * 50)
    counts = []
    for _ in range(3):
        made.turn()
        counts.append(len(made.links.sent))
    assert counts == [52, 54, 55], "short ones do not wait for long ones"
    assert made.outcomes == []


def test_calls_above_the_budget_fail_at_once_and_the_others_give_it_back() -> None:
    made = Sizes(budget_bytes=10 * MIB)
    made.ask(4 * MIB, 4 * MIB, 4 * MIB)
    (failure,) = made.outcomes
    assert isinstance(failure, Failure) and not failure.unknown and not failure.final
    made.now = 20.0
    made.turn()
    assert len(made.outcomes) == 3 and made.router.budget.used_bytes == 0


def test_a_long_call_that_was_refused_is_not_sent_again_at_once() -> None:
    made = Sizes()
    made.ask(4 * MIB)
    made.turn()
    node, number = made.links.sent[0]
    made.router.receive(
        node, RpcFrameKind.ANSWERS, c.encode([[number, "failed", ["busy", False, False, False]]])
    )
    for _ in range(5):
        made.turn()
    assert len(made.links.sent) == 1
    made.now += 1.0
    made.turn()
    assert len(made.links.sent) == 2


def test_a_long_answer_for_which_the_link_has_no_room_is_to_be_asked_for_again() -> None:
    made = Sizes()
    for room_bytes in (2 * MIB, MIB):
        made.links.room_bytes = room_bytes
        made.router.service._reply("b", 7, "ok", bytes(2 * MIB))
        made.router.flush()
    assert made.links.answered == [("b", 7, "ok"), ("b", 7, "failed")]
