"""A random POP3 client among the random IMAP clients: what it is told is what there was when it
logged in, and only QUIT deletes."""

from __future__ import annotations

import asyncio
import random
from typing import Final

from raftmail.frontends.pop3.context import Pop3Context
from raftmail.frontends.pop3.limits import Pop3Limits
from raftmail.frontends.pop3.server import Pop3Server
from raftmail.mail.budget import Budget
from raftmail.mail.queries import FetchMessages, GetMailbox, MailboxInfo, MessageInfo, MessagePage
from raftmail.mail.uidset import STAR, UidSet
from tests.frontends.imap.imap_kit import PASSWORD, PATIENCE_S, USER
from tests.frontends.imap.machine_service import MachineService
from tests.fuzzing import altered

_COMMANDS: Final = (
    "STAT", "LIST", "UIDL", "NOOP", "RSET", "CAPA", "LIST {}", "UIDL {}", "RETR {}", "RETR {}",
    "TOP {} 0", "TOP {} 2", "TOP {} 9999999999", "DELE {}", "DELE {}", "LIST 0", "RETR x", "TOP {}",
    "USER x", "STLS", "UTF8", "AUTH PLAIN", "XYZ", "", "RETR  {} ", "list {}", "TOP {} -1",
)  # fmt: skip
_MANY: Final = ("LIST", "UIDL", "CAPA")
_WITH_TEXT: Final = ("RETR", "TOP")


class FuzzedPop3:
    """One server beside the others, and one client at a time."""

    def __init__(self, rng: random.Random, service: MachineService) -> None:
        self._rng, self._service = rng, service
        self.budget = Budget(1 << 26)
        limits = Pop3Limits(bad_commands_max=1_000_000, deadline_s=5.0)
        self._server = Pop3Server(Pop3Context(service, self.budget, limits, None))
        self._port = 0

    async def begin(self) -> None:
        _, self._port = await self._server.listen_tcp("127.0.0.1", 0)

    async def stop(self) -> None:
        await self._server.stop(1.0)
        assert not self.budget.used_bytes, "memory is held for nobody"

    async def visit(self) -> None:
        """A whole session. Nothing else changes the mail meanwhile."""
        self._service.failures.clear()
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port, limit=1 << 22)
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self._talk(reader, writer)
        finally:
            writer.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        rng = self._rng
        assert (await reader.readline()).startswith(b"+OK ")
        there = self._inbox()
        marked: set[int] = set()
        for line in (f"USER {USER}", f"PASS {PASSWORD}"):
            answer = await self._ask(reader, writer, line.encode())
            assert answer.startswith(b"+OK"), answer
        for _ in range(rng.randint(1, 12)):
            command = rng.choice(_COMMANDS).format(rng.randint(1, len(there) + 2))
            await self._one(reader, writer, command, there, marked)
        if rng.random() < 0.3:
            await self._garbage(reader, writer)
            marked.clear()  # the connection ends without QUIT
        elif rng.random() < 0.7:
            answer = await self._ask(reader, writer, b"QUIT")
            assert answer.startswith(b"+OK"), answer
        else:
            marked.clear()
        uids = [one.uid for number, one in enumerate(there, 1) if number not in marked]
        assert [one.uid for one in self._inbox()] == uids, "what was not marked is gone"

    async def _ask(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, line: bytes
    ) -> bytes:
        writer.write(line + b"\r\n")
        return await reader.readline()

    async def _one(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        command: str,
        there: list[MessageInfo],
        marked: set[int],
    ) -> None:
        """One command, and what its answer has to be."""
        answer = await self._ask(reader, writer, command.encode())
        word, *rest = command.upper().split() or [""]
        assert answer.startswith((b"+OK", b"-ERR")) and answer.endswith(b"\r\n"), answer
        if not answer.startswith(b"+OK"):
            return
        left = [number for number in range(1, len(there) + 1) if number not in marked]
        if word in _MANY and not rest:
            lines = (await self._text(reader)).splitlines()
            if word != "CAPA":
                assert [int(line.split()[0]) for line in lines] == left, command
        elif word in _WITH_TEXT:
            number = int(rest[0])
            assert number in left, f"{command!r} of a message that is marked"
            text, whole = await self._text(reader), self._body(there[number - 1])
            end = b"" if whole.endswith(b"\r\n") else b"\r\n"
            if word == "RETR" or rest[1] == "9999999999":
                assert text == whole + end, command
            else:
                assert (whole + end).startswith(text.removesuffix(b"\r\n")), command
        elif word == "DELE":
            marked.add(int(rest[0]))
        elif word == "RSET":
            marked.clear()
        elif word == "STAT":
            octets = sum(there[number - 1].size_bytes for number in left)
            assert answer == b"+OK %d %d\r\n" % (len(left), octets), answer

    async def _text(self, reader: asyncio.StreamReader) -> bytes:
        """An answer of many lines, as a client that knows lines by LF reads it."""
        found = []
        while (line := await reader.readline()) != b".\r\n":
            assert line, "the connection ended in the middle"
            found.append(line.removeprefix(b"."))
        return b"".join(found)

    async def _garbage(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Bytes that only look like commands; then the client is gone without QUIT."""
        rng = self._rng
        for _ in range(rng.randint(1, 5)):
            line = rng.choice(_COMMANDS).format(1).encode() + b"\r\n"
            data = (
                altered(line, rng.randrange(1 << 30)) if rng.random() < 0.7 else rng.randbytes(50)
            )
            writer.write(data.replace(b"QUIT", b"quit"[:3]))
        writer.write_eof()
        try:
            await reader.read(1 << 16)
        except ConnectionResetError:
            pass

    def _inbox(self) -> list[MessageInfo]:
        query = self._service.machine.query
        info = query(GetMailbox(USER, "INBOX"))
        if not isinstance(info, MailboxInfo):
            return []
        page = query(FetchMessages(USER, info.number, UidSet.from_ranges([(1, STAR)])))
        assert isinstance(page, MessagePage) and not page.more
        return list(page.messages)

    def _body(self, message: MessageInfo) -> bytes:
        return self._service.bodies[message.blob]
