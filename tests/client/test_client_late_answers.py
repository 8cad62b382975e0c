"""Answers that come after the client stopped waiting for them."""

from __future__ import annotations

import asyncio

import pytest

from raftmail.client import Client, TryAgain
from raftmail.mail import queries as q
from raftmail.mail.uidset import UidSet
from tests.client.flaky_server import Node, run_with
from tests.frontends.twin_service import TwinService

ALL = UidSet.parse("1:*")


class _Slow(TwinService):
    """Answers listings of messages when it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.slow = False
        self.let_go = asyncio.Event()

    async def query(
        self, query: q.Query, *, deadline_s: float, point: q.ReadPoint | None = None
    ) -> q.Answer:
        if self.slow and isinstance(query, q.FetchMessages):
            await self.let_go.wait()
        return await super().query(query, deadline_s=deadline_s, point=point)


def test_a_listing_has_no_lines_of_one_that_was_given_up() -> None:
    twin = _Slow()

    async def body(node: Node) -> None:
        async with Client(node.address) as client:
            for name in ("late", "other"):
                await client.create_mailbox("ann", name)
                await client.save("ann", name, f"Subject: {name}\r\n\r\n".encode())
            await client.message_page("ann", "late", ALL)
            twin.slow = True
            with pytest.raises(TryAgain):
                await client.message_page("ann", "late", ALL, timeout_s=0.2)
            twin.let_go.set()
            page = await client.message_page("ann", "other", ALL)
            assert page.mailbox.name == "other"
            assert len(page.messages) == page.mailbox.messages == 1
            assert [mailbox.name for mailbox in await client.mailboxes("ann")] == ["late", "other"]

    run_with(1, body, twin)
