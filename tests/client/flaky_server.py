"""A node that misbehaves on demand, between a client and a twin."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from raftmail.frontends.text.context import TextContext
from raftmail.frontends.text.limits import TextLimits
from raftmail.frontends.text.server import TextListener
from tests.frontends.twin_service import TwinService

TOKEN = 32 * "5e"


class Node:
    """A listener on a twin, which can be stopped and started on the same port."""

    def __init__(
        self, twin: TwinService, name: str = "n1", limits: TextLimits | None = None
    ) -> None:
        self.twin = twin
        self.port = 0
        twin.token = TOKEN
        self.front = TextContext(twin, name, "test", lambda: 1000.0, limits or TextLimits())
        self.trust = True
        self._listener: TextListener | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def start(self) -> None:
        self._listener = TextListener(self.front, trust_loopback=self.trust)
        _, self.port = await self._listener.listen("127.0.0.1", self.port)

    async def stop(self) -> None:
        if self._listener is not None:
            listener, self._listener = self._listener, None
            await listener.close()

    @property
    def connections(self) -> int:
        return self._listener.connections if self._listener is not None else 0

    def cut(self) -> None:
        """End all connections at once, without a word."""
        assert self._listener is not None
        for connection in list(self._listener.listener.connections):
            connection._transport.abort()


def drop_after_executing(node: Node, times: int) -> None:
    """Let the node execute and then drop the connection instead of answering, so many times. For
    connections made afterwards."""
    submit = node.twin.submit
    left = times

    def dropping(
        shard: int, request: bytes, blobs: object, deadline_s: float, done: object
    ) -> None:
        nonlocal left
        if left:
            left -= 1
            submit(shard, request, blobs, deadline_s, lambda outcome: None)  # type: ignore[arg-type]
            node.cut()
        else:
            submit(shard, request, blobs, deadline_s, done)  # type: ignore[arg-type]

    node.twin.submit = dropping  # type: ignore[method-assign]


def run_with(
    count: int, body: Callable[..., Awaitable[None]], twin: TwinService | None = None
) -> None:
    """Run a test with so many nodes on one twin."""

    async def run() -> None:
        shared = twin or TwinService()
        nodes = [Node(shared, f"n{i + 1}") for i in range(count)]
        for node in nodes:
            await node.start()
        try:
            async with asyncio.timeout(30):
                await body(*nodes)
        finally:
            for node in nodes:
                await node.stop()

    asyncio.run(run())
