"""The client's side of LMTP (RFC 2033) as far as the load needs it, and honest about what it does
not know."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from raftmail.mail.endpoint import split_address

CONNECT_S = 3.0
_LINE_BYTES_MAX = 64 << 10
_DOT = re.compile(rb"(?:^|(?<=\r\n))\.")


class LmtpLost(Exception):
    """No reply came; with `sent` the whole message had gone out."""

    def __init__(self, text: str, *, sent: bool) -> None:
        super().__init__(text)
        self.sent = sent


class MtaReply(NamedTuple):
    """What decided about one recipient; a code of 0 when no reply came. With `sent` the whole
    message had gone out before."""

    code: int
    text: str
    sent: bool


class MtaConnection:
    """One connection, one message at a time. After `LmtpLost` it is closed."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, address: str) -> MtaConnection:
        """Connect and say LHLO. Raises `LmtpLost`."""
        self: MtaConnection | None = None
        try:
            async with asyncio.timeout(CONNECT_S):
                streams = await asyncio.open_connection(
                    *split_address(address), limit=_LINE_BYTES_MAX
                )
                self = cls(*streams)
                code, text = await self._reply()
                if code == 220:
                    code, text = await self._command(b"LHLO localhost")
            if code != 250:
                raise ConnectionError(f"{code} {text}")
        except (OSError, EOFError, ValueError) as error:
            if self is not None:
                self.close()
            raise LmtpLost(f"{address}: {error or type(error).__name__}", sent=False) from None
        return self

    async def deliver(
        self, sender: str, recipient: str, body: bytes, timeout_s: float
    ) -> tuple[int, str, bool]:
        """Hand over a message that ends in CRLF: the code and text that decide, and whether it went
        out. Raises `LmtpLost`."""
        (reply,) = await self.deliver_all(sender, (recipient,), body, timeout_s)
        if not reply.code:
            raise LmtpLost(reply.text, sent=reply.sent)
        return reply

    async def deliver_all(
        self, sender: str, recipients: Sequence[str], body: bytes, timeout_s: float
    ) -> list[MtaReply]:
        """Hand over a message that ends in CRLF to many in one transaction: a reply for each. After
        one without a code the connection is closed."""
        replies = [MtaReply(0, "", False)] * len(recipients)
        taken: list[int] = []
        sent = False
        try:
            async with asyncio.timeout(timeout_s):
                code, text = await self._command(f"MAIL FROM:<{sender}>".encode())
                if code != 250:
                    await self._command(b"RSET")
                    return [MtaReply(code, text, False)] * len(recipients)
                for at, recipient in enumerate(recipients):
                    code, text = await self._command(f"RCPT TO:<{recipient}>".encode())
                    if code == 250:
                        taken.append(at)
                    else:
                        replies[at] = MtaReply(code, text, False)
                code, text = await self._command(b"DATA" if taken else b"RSET")
                if code != 354:
                    for at in taken:
                        replies[at] = MtaReply(code, text, False)
                    return replies
                self._writer.write(_DOT.sub(b"..", body))
                sent = True
                self._writer.write(b".\r\n")
                await self._writer.drain()
                while taken:
                    code, text = await self._reply()
                    replies[taken.pop(0)] = MtaReply(code, text, True)
        except (OSError, EOFError, ValueError) as error:
            self.close()
            for at, reply in enumerate(replies):
                if not reply.code:
                    why = str(error) or type(error).__name__
                    replies[at] = MtaReply(0, why, sent and at in taken)
        except BaseException:
            self.close()
            raise
        return replies

    def close(self) -> None:
        self._writer.transport.abort()

    async def _command(self, line: bytes) -> tuple[int, str]:
        self._writer.write(line + b"\r\n")
        await self._writer.drain()
        return await self._reply()

    async def _reply(self) -> tuple[int, str]:
        texts = []
        while True:
            line = await self._reader.readline()
            if not line.endswith(b"\n"):
                raise EOFError("the connection was closed")
            if len(line) < 4 or not line[:3].isdigit():
                raise ValueError(f"a reply that is none: {line[:80]!r}")
            texts.append(line[4:].decode("utf-8", "replace").strip())
            if line[3:4] != b"-":
                return int(line[:3]), " ".join(texts)


@dataclass(slots=True)
class MtaConnections:
    """Connections that wait for their next message, by address."""

    idle_max: int = 8
    _idle: dict[str, list[MtaConnection]] = field(default_factory=dict)

    async def deliver(
        self, address: str, sender: str, recipient: str, body: bytes, timeout_s: float
    ) -> tuple[int, str, bool]:
        """As `MtaConnection.deliver`, over one that is there or a new one."""
        idle = self._idle.setdefault(address, [])
        connection = idle.pop() if idle else await MtaConnection.open(address)
        answer = await connection.deliver(sender, recipient, body, timeout_s)
        if answer[0] != 421 and len(idle) < self.idle_max:
            idle.append(connection)
        else:
            connection.close()
        return answer

    def close(self) -> None:
        for idle in self._idle.values():
            for connection in idle:
                connection.close()
        self._idle.clear()
