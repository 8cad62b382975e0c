"""Reads that belong together: whichever replicas answer them, none sees less than one before it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, cast

from raftmail.cluster.read_path import Calling, ReadPath
from raftmail.cluster.rpc import CallKind
from raftmail.mail.codec import encode_answer
from raftmail.mail.queries import GetUsage, ReadPoint, Usage
from raftmail.shard.status import Capability

SHARD = 1
QUERY = GetUsage("anna@example.org")


@dataclass
class OwnReplica:
    """It has applied so many entries, and says so in its answers."""

    applied_index: int = 5
    shard: int = SHARD
    waited: list[int] = field(default_factory=list)
    goes_back: list[int] = field(default_factory=list)
    """After each time that it was waited for, before anybody reads, to where."""

    @property
    def commit_index(self) -> int:
        return self.applied_index + 9

    def may(self, capability: Capability) -> bool:
        return True

    def when_applied(self, index: int, done: Callable[[bool], None]) -> None:
        self.waited.append(index)
        self.applied_index = max(self.applied_index, index)
        done(True)
        if self.goes_back:
            self.applied_index = self.goes_back.pop()

    def query(self, query: object) -> Usage:
        return Usage(self.applied_index, 0)


class Node:
    """`barrier` is what the master says; another node answers with it, too."""

    node = "a"

    def __init__(self) -> None:
        self.replica = OwnReplica()
        self.replicas = {SHARD: self.replica}
        self.barrier = 5
        self.barriers = 0

    def clock(self) -> float:
        return 0.0

    def shard_of(self, user: str) -> int:
        return SHARD

    def leader_of(self, shard: int) -> str:
        return "b"

    def own(self, shard: int) -> OwnReplica:
        return self.replica

    def start(
        self, kind: CallKind, shard: int, deadline_s: float, data: Any, done: Callable[[int], None]
    ) -> None:
        assert kind is CallKind.BARRIER
        self.barriers += 1
        done(self.barrier)

    async def call(
        self, kind: CallKind, shard: int, deadline_s: float, data: Any, *, target: str = ""
    ) -> bytes:
        assert kind is CallKind.QUERY and target == "b"
        return encode_answer(Usage(self.barrier, 0))


def reading(talk: Callable[[Node, ReadPath], Coroutine[Any, Any, None]]) -> None:
    node = Node()
    asyncio.run(talk(node, ReadPath(cast(Calling, node))))


async def seen(reads: ReadPath, point: ReadPoint) -> int:
    """How many entries the read saw."""
    answer = await reads.answer(QUERY, 10.0, point)
    assert isinstance(answer, Usage)
    return answer.messages


def test_reads_that_belong_together_wait_for_one_barrier() -> None:
    async def talk(node: Node, reads: ReadPath) -> None:
        point = ReadPoint()
        assert [await seen(reads, point) for _ in range(3)] == [5, 5, 5]
        assert node.barriers == 1

    reading(talk)


def test_after_another_node_has_answered_the_own_replica_catches_up_with_it() -> None:
    async def talk(node: Node, reads: ReadPath) -> None:
        point = ReadPoint()
        assert await seen(reads, point) == 5
        node.barrier = 9
        del node.replicas[SHARD]
        assert await seen(reads, point) == 9
        node.replicas[SHARD] = node.replica
        assert await seen(reads, point) == 9
        assert node.replica.waited == [9]

    reading(talk)


def test_a_replica_that_goes_back_while_a_read_is_about_to_go_on_is_waited_for_again() -> None:
    async def talk(node: Node, reads: ReadPath) -> None:
        node.replica.goes_back = [2]
        node.barrier = 9
        assert await seen(reads, ReadPoint()) == 9
        assert node.replica.waited == [9, 9]

    reading(talk)


def test_a_replica_that_goes_back_is_waited_for_where_it_was_read_before() -> None:
    async def talk(node: Node, reads: ReadPath) -> None:
        point = ReadPoint()
        node.replica.applied_index = 8
        assert await seen(reads, point) == 8
        node.replica.applied_index = 6
        assert await seen(reads, point) == 8

    reading(talk)
