"""A long message for another node is read once, and waits for its link."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from raftmail.cluster.rpc import LONG_BYTES_MIN
from raftmail.cluster.rpc_server import Routing, RpcServer
from raftmail.mail.budget import Budget
from raftmail.mail.queries import FetchBody, Query

QUERY = FetchBody("a", "INBOX", 1)


class Asked:
    """A router whose link to who asks is full until `room` is set; `reads` counts the reads."""

    node = "n1"

    def __init__(self) -> None:
        self.links = self
        self.room = False
        self.reads = 0
        self.sent = 0
        self.server = RpcServer(cast(Routing, self), Budget(10 * LONG_BYTES_MIN))

    def clock(self) -> float:
        return asyncio.get_running_loop().time()

    def is_up(self, _node: str) -> bool:
        return True

    def has_room(self, _node: str, _size: int, *, long: bool) -> bool:
        return self.room

    def wake(self, _shard: int) -> None:
        self.server.flush()

    def send(self, _node: str, _shard: int, _kind: str, parts: Any) -> bool:
        self.sent += sum(map(len, parts))
        return True

    async def query(self, _query: Query, *, deadline_s: float) -> bytes:
        self.reads += 1
        return bytes(2 * LONG_BYTES_MIN)

    async def ask(self, deadline_s: float) -> None:
        await self.server._serve_body("n2", 7, QUERY, deadline_s)


def test_an_answer_waits_for_room_and_whoever_asks_again_is_not_read_for_again() -> None:
    asked = Asked()

    async def ask_thrice() -> None:
        first = asyncio.ensure_future(asked.ask(30.0))
        await asyncio.sleep(0.01)
        await asked.ask(30.0)
        await asked.ask(30.0)
        assert asked.reads == 1 and not asked.sent
        assert asked.server.budget.used_bytes >= 2 * LONG_BYTES_MIN, "it is counted meanwhile"
        asked.room = True
        await first

    asyncio.run(ask_thrice())
    assert asked.reads == 1 and asked.sent > 2 * LONG_BYTES_MIN
    assert not asked.server.budget.used_bytes and not asked.server._bodies


@pytest.mark.parametrize("bytes_max", [10 * LONG_BYTES_MIN, LONG_BYTES_MIN])
def test_an_answer_for_which_no_room_comes_or_no_memory_is_left_is_told_as_failed(
    bytes_max: int,
) -> None:
    asked = Asked()
    asked.server.budget.bytes_max = bytes_max
    asyncio.run(asked.ask(0.1))
    assert 0 < asked.sent < 1000 and not asked.server._bodies
