"""What the tests of the LMTP server share: a store, a raw connection, a server to talk to."""

import asyncio
import os
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from raftmail.frontends.lmtp.config import LmtpConfig, ServerConfig
from raftmail.frontends.lmtp.server import LmtpServer
from raftmail.mail.smtp_address import Address
from raftmail.service.verdicts import Envelope, Recipient, Verdict

PATIENCE_S = 30.0
Client = Callable[[LmtpServer, int, "Store"], Awaitable[None]]


@dataclass
class Store:
    """A backend in memory, whose users do what their names say."""

    messages: list[tuple[Envelope, bytes, str]] = field(default_factory=list)
    soon: bool = False
    """Take what is for one recipient without a task."""
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    entered: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled: int = 0
    waiting: list[Callable[[], None]] = field(default_factory=list)
    """What `deliver_soon` was given for `gated`, to be called by the test."""

    def resolve_now(self, address: Address) -> Verdict | None:
        return None

    async def resolve(self, address: Address) -> Verdict:
        if address.user == "unknown":
            return Verdict.unknown_user()
        if address.user == "breaks-resolve":
            raise RuntimeError("resolve breaks")
        if address.user == "hangs-resolve":
            await self._hang()
        if address.user == "none-resolve":
            return None  # type: ignore[return-value]
        await asyncio.sleep(0)
        return Verdict.accepted()

    def deliver_soon(
        self,
        envelope: Envelope,
        body: bytes,
        recipients: Sequence[Recipient],
        done: Callable[[Sequence[Verdict]], None],
    ) -> bool:
        if not self.soon or len(recipients) > 1:
            return False
        user = recipients[0].address.user
        if user == "breaks":
            raise RuntimeError("deliver_soon breaks")

        def deliver() -> None:
            self.messages.append((envelope, body, str(recipients[0].address)))
            done([Verdict.delivered("Stored soon")])

        if user == "at-once":
            deliver()
        elif user == "gated":
            self.waiting.append(deliver)
        elif user != "hangs":
            asyncio.get_running_loop().call_soon(deliver)
        return True

    async def deliver(
        self, envelope: Envelope, body: bytes, recipients: Sequence[Recipient]
    ) -> Sequence[Verdict]:
        users = [recipient.address.user for recipient in recipients]
        self.entered.set()
        if "breaks" in users:
            raise RuntimeError("deliver breaks")
        if "hangs" in users:
            await self._hang()
        if "short" in users:
            return []
        if "cancels" in users:
            lost = asyncio.get_running_loop().create_future()
            lost.cancel()
            await lost
        if "gated" in users:
            await self.gate.wait()
        for recipient in recipients:
            self.messages.append((envelope, body, str(recipient.address)))
        return [
            Verdict(452, "4.2.2", "Mailbox is full")
            if user == "full"
            else Verdict.delivered("Stored for " + user.encode("ascii", "replace").decode())
            for user in users
        ]

    async def _hang(self) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


def run(
    client: Client,
    *,
    tls: ssl.SSLContext | None = None,
    session: dict[str, Any] | None = None,
    soon: bool = False,
    **limits: Any,
) -> Store:
    """Run a client against a server on a free port; afterwards the server must hold nothing."""

    async def main() -> Store:
        store = Store(soon=soon)
        config = ServerConfig(session=LmtpConfig(host="mx.example", **(session or {})), **limits)
        server = LmtpServer(store, config, wall_clock=lambda: 1_700_000_000.0, tls=tls)
        _, port = await server.listen_tcp("127.0.0.1", 0)
        try:
            await asyncio.wait_for(client(server, port, store), PATIENCE_S)
        finally:
            await server.stop(grace_s=0.05)
            for wire in Wire.opened:
                wire.writer.transport.abort()
            Wire.opened.clear()
            await asyncio.sleep(0.001)  # the loop closes aborted sockets in its next turns
        stats = server.stats()
        assert (stats.connections, stats.buffered_bytes, stats.connections_waiting) == (0, 0, 0)
        return store

    return asyncio.run(main())


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 (there is no event in the server to wait for)
        await asyncio.sleep(0.005)


def exists(path: str) -> bool:
    return os.path.exists(path)


class Wire:
    """A client that sends what it is told and reads replies. `run` closes it."""

    opened: ClassVar[list["Wire"]] = []

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.opened.append(self)
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, port: int) -> "Wire":
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    @classmethod
    async def ready(cls, port: int) -> "Wire":
        wire = await cls.open(port)
        assert (await wire.reply()).startswith("220 ")
        await wire.ask("LHLO client.example")
        return wire

    def send(self, *lines: str) -> None:
        self.writer.write("".join(line + "\r\n" for line in lines).encode())

    async def reply(self) -> str:
        """The last line of the next reply; empty at the end of the connection."""
        while True:
            line = (await self.reader.readline()).decode()
            if line[3:4] != "-":
                return line

    async def ask(self, line: str) -> str:
        self.send(line)
        return await self.reply()

    async def rest(self) -> bytes:
        try:
            return await self.reader.read()
        except ConnectionResetError:
            return b""

    async def send_message(self, user: str, text: str = "hi") -> list[str]:
        self.send("MAIL FROM:<a@example.org>", f"RCPT TO:<{user}@example.com>", "DATA")
        replies = [await self.reply() for _ in range(3)]
        if not replies[-1].startswith("354"):
            return replies
        self.send(text, ".")
        return [*replies, await self.reply()]

    def close(self) -> None:
        self.writer.close()
