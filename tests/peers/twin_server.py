"""raftmail's IMAP over the service's twin, for clients that block: they run in a thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tests.frontends.imap.imap_kit import ImapClient, run
from tests.frontends.twin_service import TwinService

PATIENCE_S = 300.0
"""The end of what hangs; nothing should take as long."""


def serve(talk: Callable[[int], None], *, patience_s: float = PATIENCE_S) -> None:
    """Have `talk` use a server at a port of 127.0.0.1, where `USER` is the only user."""

    async def beside(client: ImapClient, service: TwinService) -> None:
        await client.connect()
        await asyncio.to_thread(talk, client.port)

    run(beside, patience_s=patience_s)
