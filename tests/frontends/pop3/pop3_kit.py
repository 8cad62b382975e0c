"""What tests of whole POP3 sessions share: a server over the service's twin, and a client that
sends lines and reads whole answers."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import Self

from raftmail.frontends.pop3.context import Pop3Context
from raftmail.frontends.pop3.limits import Pop3Limits
from raftmail.frontends.pop3.server import Pop3Server
from raftmail.mail import commands as c
from raftmail.mail.budget import Budget
from raftmail.mail.names import INBOX
from raftmail.mail.summary import encode_summary, summarise
from raftmail.service.credentials import make_credentials
from tests.frontends.twin_service import Box, TwinService

USER = "anna@example.org"
PASSWORD = "secret password"
PATIENCE_S = 120.0
_HASHED = make_credentials(PASSWORD.encode(), b"salt of the tests")


class Pop3Client:
    """Speaks POP3 as a test says it."""

    def __init__(self, port: int, server: Pop3Server, budget: Budget) -> None:
        self.port = port
        self.server = server
        self.budget = budget
        """The server's."""
        self.greeting = b""

    async def connect(self) -> Self:
        self.reader, self.writer = await asyncio.open_connection(
            "127.0.0.1", self.port, limit=1 << 22
        )
        self.greeting = await self.line()
        return self

    async def log_in(self) -> Self:
        await self.connect()
        await self.ok(f"USER {USER}")
        await self.ok(f"PASS {PASSWORD}")
        return self

    async def line(self) -> bytes:
        """One line without its end; b"" at the end of the stream."""
        return (await self.reader.readline()).removesuffix(b"\r\n")

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def do(self, command: str | bytes) -> bytes:
        """The first line of the answer to a command."""
        data = command.encode() if isinstance(command, str) else command
        self.send(data + b"\r\n")
        return await self.line()

    async def ok(self, command: str | bytes) -> bytes:
        """What stands behind +OK."""
        answer = await self.do(command)
        assert answer.startswith(b"+OK "), answer
        return answer[4:]

    async def err(self, command: str | bytes) -> bytes:
        """What stands behind -ERR."""
        answer = await self.do(command)
        assert answer.startswith(b"-ERR "), answer
        return answer[5:]

    async def rest(self) -> bytes:
        """The lines of an answer up to its end, as a client that knows lines by LF reads them: with
        the dots taken off."""
        found = []
        while (line := await self.reader.readline()) != b".\r\n":
            assert line, "the connection ended in the middle"
            found.append(line.removeprefix(b"."))
        return b"".join(found)

    async def many(self, command: str | bytes) -> list[bytes]:
        """The lines of an answer."""
        await self.ok(command)
        return (await self.rest()).splitlines()

    async def message(self, command: str) -> bytes:
        """What RETR or TOP gives."""
        await self.ok(command)
        return await self.rest()

    async def ended(self) -> bytes:
        """What still comes until the server closes the connection. Who sends more than is read may
        see a reset instead."""
        try:
            return await self.reader.read()
        except ConnectionResetError:
            return b""

    async def start_tls(self, context: ssl.SSLContext) -> None:
        await self.writer.start_tls(context, server_hostname="localhost")

    async def close(self) -> None:
        self.writer.close()


Talk3 = Callable[[Pop3Client, TwinService], Awaitable[None]]


def run3(
    talk: Talk3,
    limits: Pop3Limits | None = None,
    *,
    tls: ssl.SSLContext | None = None,
    implicit_tls: bool = False,
    budget_bytes: int = 1 << 26,
) -> None:
    """Have a client talk to a server. What the server holds is given back with it."""

    async def main() -> None:
        service = TwinService()
        service.users[USER] = _HASHED
        context = Pop3Context(service, Budget(budget_bytes), limits or Pop3Limits(), tls)
        server = Pop3Server(context, implicit_tls=implicit_tls)
        _, port = await server.listen_tcp("127.0.0.1", 0)
        client = Pop3Client(port, server, context.budget)
        try:
            async with asyncio.timeout(PATIENCE_S):
                await talk(client, service)
        finally:
            if hasattr(client, "writer"):
                await client.close()
            await server.stop(1.0)
        assert not server.connections
        assert not context.budget.used_bytes

    asyncio.run(main())


def deliver(service: TwinService, *messages: bytes) -> Box:
    """Put messages into the INBOX."""
    for message in messages:
        digest = sha256(message).digest()
        service.bodies[digest] = message
        new = c.NewMessage(
            (c.Target(USER, INBOX),),
            digest,
            len(message),
            digest[:16],
            1_700_000_000_000_000,
            (),
            encode_summary(summarise(message)),
        )
        service._execute(c.Save(USER, (new,), 7))
    box = service.find(USER, INBOX)
    assert box is not None
    return box


def small(subject: str, text: str = "hello") -> bytes:
    """A small message."""
    return f"From: bob@example.org\r\nSubject: {subject}\r\n\r\n{text}\r\n".encode()
