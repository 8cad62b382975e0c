"""The example of docs/architecture/frontends.md is a front end: real sockets, the service's
twin."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from raftmail.net.limits import ConnectionLimits
from raftmail.service.passwords import hash_password
from tests.frontends import who_am_i
from tests.frontends.twin_service import TwinService
from tests.repository.source_tree import ROOT

Client = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def run(client: Client, limits: ConnectionLimits | None = None) -> None:
    """Have a client talk to the example."""

    async def main() -> None:
        service = TwinService()
        service.users["anna"] = hash_password(b"secret")
        listener = who_am_i.listener(service, limits or ConnectionLimits())
        _, port = await listener.listen_tcp("127.0.0.1", 0)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            async with asyncio.timeout(30):
                await client(reader, writer)
        finally:
            await listener.stop(1.0)
            writer.transport.abort()
        assert not listener.connections

    asyncio.run(main())


def test_the_document_shows_the_example_as_it_is() -> None:
    code = Path(who_am_i.__file__).read_text(encoding="utf-8")
    assert f"```python\n{code}```" in (ROOT / "docs/architecture/frontends.md").read_text(
        encoding="utf-8"
    )


def test_a_user_who_has_shown_it_is_answered_by_name_and_told_of_the_stop() -> None:
    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"USER anna secret\r\none\r\ntwo\r\n")
        said = [await reader.readline() for _ in range(4)]
        assert said == [b"hello\r\n", b"welcome\r\n", b"anna: one\r\n", b"anna: two\r\n"]

    run(client)


def test_who_has_another_password_is_told_and_closed() -> None:
    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"USER anna wrong\r\none\r\n")
        assert (await reader.read()).splitlines()[1:] == [b"bye: that is not you"]

    run(client)


def test_an_endless_line_ends_the_connection() -> None:
    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"x" * 10_000)
        assert (await reader.read()).endswith(b"bye: that line is too long\r\n")

    run(client)
