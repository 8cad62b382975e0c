"""What tests of whole ManageSieve sessions share: a server over the service's twin, and a client
that sends lines and reads whole answers."""

from __future__ import annotations

import asyncio
import base64
import re
import ssl
from collections.abc import Awaitable, Callable
from typing import Self

from raftmail.frontends.managesieve.context import ManageSieveContext
from raftmail.frontends.managesieve.limits import ManageSieveLimits
from raftmail.frontends.managesieve.server import ManageSieveServer
from raftmail.mail.budget import Budget
from raftmail.service.credentials import make_credentials
from tests.frontends.twin_service import TwinService

USER = "anna@example.org"
PASSWORD = "secret password"
PATIENCE_S = 120.0
_HASHED = make_credentials(PASSWORD.encode(), b"salt of the tests")
_ENDS = re.compile(rb"(OK|NO|BYE)\b")
_LITERAL = re.compile(rb"\{(\d+)\}\r\n\Z")


def plain(user: str = USER, password: str = PASSWORD) -> str:
    return base64.b64encode(f"\0{user}\0{password}".encode()).decode()


class SieveClient:
    """Speaks ManageSieve as a test says it."""

    def __init__(self, port: int, server: ManageSieveServer, budget: Budget) -> None:
        self.port = port
        self.server = server
        self.budget = budget
        """The server's."""
        self.greeting: list[bytes] = []

    async def connect(self) -> Self:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.greeting = await self.answer()
        return self

    async def log_in(self) -> Self:
        await self.connect()
        await self.ok(f'AUTHENTICATE "PLAIN" "{plain()}"')
        return self

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def line(self) -> bytes:
        """One line with its literals, without its end; b"" at the end of the stream."""
        found = b""
        while True:
            found += await self.reader.readline()
            literal = _LITERAL.search(found)
            if literal is None:
                return found.removesuffix(b"\r\n")
            found += await self.reader.readexactly(int(literal[1]))

    async def answer(self) -> list[bytes]:
        """The lines up to OK, NO or BYE."""
        lines = [await self.line()]
        while not _ENDS.match(lines[-1]):
            assert lines[-1], "the connection ended in the middle"
            lines.append(await self.line())
        return lines

    async def do(self, command: str | bytes) -> list[bytes]:
        data = command.encode() if isinstance(command, str) else command
        self.send(data + b"\r\n")
        return await self.answer()

    async def ok(self, command: str | bytes) -> list[bytes]:
        """The lines before the OK, and what stands behind it."""
        lines = await self.do(command)
        assert lines[-1].startswith(b"OK"), lines
        return [*lines[:-1], lines[-1][3:]]

    async def no(self, command: str | bytes) -> bytes:
        """What stands behind NO."""
        (line,) = await self.do(command)
        assert line.startswith(b"NO "), line
        return line[3:]

    async def put(self, name: str, script: bytes) -> list[bytes]:
        return await self.do(b'PUTSCRIPT "%b" {%d+}\r\n%b' % (name.encode(), len(script), script))

    async def ended(self) -> bytes:
        """What still comes until the server closes the connection."""
        try:
            return await self.reader.read()
        except ConnectionResetError:
            return b""

    async def start_tls(self, context: ssl.SSLContext) -> None:
        await self.writer.start_tls(context, server_hostname="localhost")
        self.greeting = await self.answer()

    async def close(self) -> None:
        self.writer.close()


SieveTalk = Callable[[SieveClient, TwinService], Awaitable[None]]


def run_sieve(
    talk: SieveTalk,
    limits: ManageSieveLimits | None = None,
    *,
    tls: ssl.SSLContext | None = None,
    budget_bytes: int = 1 << 26,
) -> None:
    """Have a client talk to a server. What the server holds is given back with it."""

    async def main() -> None:
        service = TwinService()
        service.users[USER] = _HASHED
        budget = Budget(budget_bytes)
        context = ManageSieveContext(service, budget, limits or ManageSieveLimits(), tls)
        server = ManageSieveServer(context)
        _, port = await server.listen_tcp("127.0.0.1", 0)
        client = SieveClient(port, server, budget)
        try:
            async with asyncio.timeout(PATIENCE_S):
                await talk(client, service)
        finally:
            if hasattr(client, "writer"):
                await client.close()
            await server.stop(1.0)
        assert not server.connections
        assert not budget.used_bytes

    asyncio.run(main())
