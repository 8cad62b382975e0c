"""What tests of whole IMAP sessions share: a server over the service's twin, and a client that
sends lines and reads whole responses."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Self

from raftmail.frontends.imap.context import ImapContext
from raftmail.frontends.imap.limits import ImapLimits
from raftmail.frontends.imap.server import ImapServer
from raftmail.mail.budget import Budget
from raftmail.service.credentials import make_credentials
from tests.frontends.imap.strict_parser import StrictParser
from tests.frontends.imap.strict_response import StrictResponse
from tests.frontends.twin_service import TwinService

USER = "anna@example.org"
PASSWORD = "secret-password"
NOW_S = 1_700_000_000.0
PATIENCE_S = 30.0
_LITERAL = re.compile(rb"\{([0-9]+)\}\r\n\Z")
_HASHED = make_credentials(PASSWORD.encode(), b"salt of the tests")
_OF_NUMBERS = re.compile(rb"(?:FETCH|STORE|SEARCH|SORT|THREAD) ", re.IGNORECASE)
_SHIFTS = re.compile(rb"\* (?:[0-9]+ EXPUNGE|VANISHED [0-9])")


class ImapClient:
    """Speaks IMAP as a test says it. All that the server says is read by the strict parser."""

    def __init__(self, port: int, budget: Budget | None = None) -> None:
        self.port = port
        self.budget = budget or Budget(0)
        """The server's."""
        self._count = 0
        self.greeting = b""
        self.parser = StrictParser()
        self.heard: list[StrictResponse] = []
        """Since the last `do`."""
        self.shifts_at_any_time = False
        """NOTIFY was asked to tell what is gone between commands: one that was said already may
        come later (RFC 5465 section 6.1)."""

    async def connect(self) -> Self:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.greeting = await self.response()
        return self

    async def log_in(self) -> Self:
        await self.connect()
        await self.ok(f"LOGIN {USER} {PASSWORD}")
        return self

    async def response(self) -> bytes:
        """One response with its literals; b"" at the end of the stream."""
        whole = line = await self.reader.readline()
        while found := _LITERAL.search(line):
            whole += await self.reader.readexactly(int(found[1]))
            line = await self.reader.readline()
            whole += line
        if whole:
            self.heard.append(self.parser.take(whole))
        return whole

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self, tag: bytes) -> tuple[list[bytes], bytes]:
        """The untagged responses up to a tagged one, and that one without its tag."""
        said: list[bytes] = []
        while line := await self.response():
            if line.startswith(tag + b" "):
                return said, line[len(tag) + 1 : -2]
            said.append(line[:-2])
        raise AssertionError(f"the connection ended: {said}")

    async def do(self, command: str | bytes, *literals: bytes) -> tuple[list[bytes], bytes]:
        """A command; `{}` in it stands for a literal, sent without waiting."""
        self._count += 1
        self.heard.clear()
        tag = b"t%d" % self._count
        data = command.encode() if isinstance(command, str) else command
        for one in literals:
            data = data.replace(b"{}", b"{%d+}\r\n%b" % (len(one), one), 1)
        self.send(tag + b" " + data + b"\r\n")
        said, answer = await self.answer(tag)
        if _OF_NUMBERS.match(data) and not self.shifts_at_any_time:
            shifts = [line for line in said if _SHIFTS.match(line)]
            assert not shifts, f"numbers shift inside {data[:80]!r}: {shifts}"
        return said, answer

    async def ok(self, command: str | bytes, *literals: bytes) -> list[bytes]:
        """As `do`, of a command that must be answered OK."""
        said, answer = await self.do(command, *literals)
        assert answer.startswith(b"OK"), answer
        return said

    async def close(self) -> None:
        self.writer.close()


Talk = Callable[[ImapClient, TwinService], Awaitable[None]]


def run(
    talk: Talk,
    limits: ImapLimits | None = None,
    *,
    patience_s: float = PATIENCE_S,
    service: TwinService | None = None,
) -> None:
    """Have a client talk to a server. What the server says is closed with it."""

    async def main(service: TwinService) -> None:
        service.users[USER] = _HASHED
        context = ImapContext(
            service,
            lambda: NOW_S,
            Budget(1 << 26),
            asyncio.Semaphore(4),
            limits or ImapLimits(),
        )
        server = ImapServer(context)
        _, port = await server.listen_tcp("127.0.0.1", 0)
        client = ImapClient(port, context.budget)
        try:
            async with asyncio.timeout(patience_s):
                await talk(client, service)
        finally:
            await client.close()
            await server.stop(1.0)
        assert not server.connections
        assert not context.budget.used_bytes

    asyncio.run(main(service or TwinService()))


def message(subject: str, text: str = "hello") -> bytes:
    """A small message."""
    return (
        f"From: Bob <bob@example.org>\r\nTo: {USER}\r\nSubject: {subject}\r\n"
        f"Date: Tue, 14 Nov 2023 22:13:20 +0000\r\n\r\n{text}\r\n"
    ).encode()


async def saved(client: ImapClient, octets: bytes, mailbox: str = "INBOX") -> None:
    """Save a message."""
    await client.ok(f"APPEND {mailbox} {{}}", octets)


async def filled(client: ImapClient, count: int) -> None:
    """Log in, save some messages in INBOX, and select it."""
    await client.log_in()
    for number in range(1, count + 1):
        await client.ok("APPEND INBOX {}", message(f"number {number}"))
    await client.ok("SELECT INBOX")


def known(service: TwinService) -> None:
    """Make the client of the tests a user."""
    service.users[USER] = _HASHED
