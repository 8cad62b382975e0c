"""Reads of a node that follows: its word for them goes before the question."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytest

from raftmail.cluster.router import Router
from raftmail.cluster.rpc import CallKind, Part
from raftmail.cluster.view import ClusterView
from raftmail.consensus.messages import Kind
from raftmail.shard.frames import FrameKind
from tests.shard.test_streams import Streaming


class Two:
    """The routers of a shard's master and of a follower, whose frames arrive at once."""

    def __init__(self) -> None:
        self.shard = Streaming()
        self.master = self.shard.leader()
        self.follower = self.shard.followers[0].replica
        saved = self.shard.submit("first", 100)
        self.shard.until(lambda: saved)
        self.sent: list[tuple[str, int]] = []
        self.loses_words = False
        self.routers = {
            replica.node: Router(
                replica.node,
                {1: replica},
                cast(ClusterView, self),
                Ends(self, replica.node),
                lambda: self.shard.now,
            )
            for replica in (self.master, self.follower)
        }

    revision = 0

    def members(self, _shard: int) -> Sequence[str]:
        return list(self.routers)

    def carry(self, source: str, target: str, kind: str, payload: bytes) -> None:
        self.sent.append((kind, payload[1] if kind == FrameKind.RAFT else 0))
        if kind != FrameKind.RAFT:
            self.routers[target].receive(source, kind, payload)
        elif not self.loses_words:
            self.master.receive(self.shard.now, source, kind, payload)

    def ask(self) -> list[Any]:
        answers: list[Any] = []
        asking = self.routers[self.follower.node]
        asking.start(CallKind.BARRIER, 1, 1.0, (), answers.append)
        asking.flush()
        self.routers[self.master.node].flush()
        return answers


class Ends:
    """The links of one node."""

    def __init__(self, two: Two, node: str) -> None:
        self.two, self.node = two, node

    def send(self, node: str, _shard: int, kind: str, parts: Sequence[Part]) -> bool:
        self.two.carry(self.node, node, kind, b"".join(parts))
        return True

    def has_room(self, _node: str, _size_bytes: int, *, long: bool) -> bool:
        return True

    def is_up(self, _node: str) -> bool:
        return True

    def wake(self, _shard: int) -> None: ...

    def submitted(self, _shard: int) -> None: ...


def test_the_master_answers_at_once_who_follows_it() -> None:
    two = Two()
    assert two.ask() == [two.master.commit_index]
    assert two.sent[0] == (FrameKind.RAFT, Kind.ROUND)
    assert [kind for kind, _ in two.sent[1:]] == ["CALLS", "ANSWERS"]


def test_the_word_waits_for_the_question_so_that_both_leave_in_one_write() -> None:
    two = Two()
    asking = two.routers[two.follower.node]
    asking.start(CallKind.BARRIER, 1, 1.0, (), lambda _: None)
    assert two.sent == []
    asking.flush()
    assert [kind for kind, _ in two.sent] == [FrameKind.RAFT, "CALLS"]


@pytest.mark.parametrize("fault", ["word lost", "word of another"])
def test_without_its_word_there_is_a_round(fault: str) -> None:
    two = Two()
    two.loses_words = fault == "word lost"
    if fault == "word of another":
        other = two.shard.followers[1].replica
        two.routers[two.follower.node].replicas = {}
        word = other.vouch((1 << 61) + 5)
        assert word is not None
        two.master.receive(two.shard.now, other.node, word[1], b"".join(word[2]))
    answers = two.ask()
    assert answers == []
    two.shard.turns(0.1)
    two.routers[two.master.node].flush()
    assert answers and answers[0] >= two.master.commit_index
