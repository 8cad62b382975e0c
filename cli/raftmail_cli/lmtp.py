"""A small LMTP client (RFC 2033) that knows what it does not know: whether a message whose reply
was lost has been delivered."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, replace
from typing import Self

from raftmail_cli.errors import CliError

_LINE_BYTES_MAX = 64 * 1024
_DOT = re.compile(rb"(?:^|(?<=\r\n))\.")


class DemoLmtpLost(CliError):
    """The connection broke, or took too long. With `unknown`, the message may have been delivered:
    all of it had been sent, but no reply came."""

    def __init__(self, text: str, *, unknown: bool) -> None:
        super().__init__(text)
        self.unknown = unknown


@dataclass(frozen=True, slots=True)
class DemoLmtpReply:
    """One reply, its lines joined."""

    code: int
    text: str
    after_data: bool = False
    """It is about a message that was sent whole, not about an address."""

    @property
    def is_positive(self) -> bool:
        return 200 <= self.code < 300

    @property
    def is_transient(self) -> bool:
        """Whether the same may succeed later."""
        return 400 <= self.code < 500


class DemoLmtpClient:
    """One connection. After `DemoLmtpLost` it is of no more use."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, host: str, port: int, timeout_s: float) -> Self:
        """Connect and introduce oneself. Raises `DemoLmtpLost`."""
        try:
            async with asyncio.timeout(timeout_s):
                streams = await asyncio.open_connection(host, port, limit=_LINE_BYTES_MAX)
                self = cls(*streams)
                greeting = await self._reply()
                if greeting.is_positive:
                    greeting = await self._command(b"LHLO localhost")
        except (OSError, EOFError, ValueError) as error:
            raise DemoLmtpLost(f"{host}:{port}: {_why(error)}", unknown=False) from None
        if not greeting.is_positive:
            self.close()
            raise DemoLmtpLost(f"{host}:{port}: {greeting.code} {greeting.text}", unknown=False)
        return self

    async def deliver(
        self, sender: str, recipient: str, body: bytes, timeout_s: float
    ) -> DemoLmtpReply:
        """Hand over one message, which ends in CRLF; the reply that decides. Raises
        `DemoLmtpLost`."""
        sent = False
        try:
            async with asyncio.timeout(timeout_s):
                for command in (f"MAIL FROM:<{sender}>", f"RCPT TO:<{recipient}>"):
                    reply = await self._command(command.encode())
                    if not reply.is_positive:
                        await self._command(b"RSET")
                        return reply
                reply = await self._command(b"DATA")
                if reply.code != 354:
                    return reply
                self._writer.write(_DOT.sub(b"..", body))
                await self._writer.drain()
                sent = True
                self._writer.write(b".\r\n")
                return replace(await self._reply(), after_data=True)
        except (OSError, EOFError, ValueError) as error:
            self.close()
            raise DemoLmtpLost(_why(error), unknown=sent) from None

    def close(self) -> None:
        self._writer.transport.abort()

    async def _command(self, line: bytes) -> DemoLmtpReply:
        self._writer.write(line + b"\r\n")
        await self._writer.drain()
        return await self._reply()

    async def _reply(self) -> DemoLmtpReply:
        texts = []
        while True:
            line = await self._reader.readline()
            if not line.endswith(b"\n"):
                raise EOFError
            if len(line) < 4 or not line[:3].isdigit():
                raise ValueError(f"a reply that is none: {line[:80]!r}")
            texts.append(line[4:].decode("utf-8", "replace").strip())
            if line[3:4] != b"-":
                return DemoLmtpReply(int(line[:3]), " ".join(texts))


def _why(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "no reply in time"
    if isinstance(error, EOFError):
        return "the connection was closed"
    return str(error) or type(error).__name__
