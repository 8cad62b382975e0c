"""Other clients while something large goes on: each works at a fixed rate, and writes down how long
every answer took."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from random import Random

from bench.access import Access, auth_of, tls_of
from bench.stats import percentile
from raftmail.mail.endpoint import split_address

ANSWER_S = 60.0
_CONNECT_S = 5.0
_RETRY_S = 0.2
_BODY = b"Subject: small\r\n\r\n" + (b"x" * 70 + b"\r\n") * 40


@dataclass(slots=True)
class Timings:
    """When each answer came, by `time.monotonic`, and how long after it was due to be asked for."""

    answers: list[tuple[float, float]] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)
    stopping: bool = False

    def between(self, from_s: float, to_s: float) -> list[float]:
        """Seconds that answers took which came in that time, ascending."""
        return sorted(took for at, took in self.answers if from_s <= at < to_s)

    def p(self, q: float, from_s: float, to_s: float) -> float:
        """A percentile of `between`, in milliseconds; NaN where there were none."""
        return percentile(self.between(from_s, to_s), q) * 1000


@dataclass(slots=True)
class SteadyClient:
    """Asks once in `interval_s`; an answer that comes later than that makes the next one late, and
    that counts too. Each client has a user of its own, with one message."""

    addresses: Sequence[str]
    at: int
    user: str
    interval_s: float
    timings: Timings
    access: Access | None = None
    """For the text protocol; None is for LMTP."""
    _reader: asyncio.StreamReader = field(init=False)
    _writer: asyncio.StreamWriter = field(init=False)
    _numbers: count[int] = field(default_factory=lambda: count(1))
    _id: str = field(default_factory=lambda: secrets.token_hex(16))

    async def run(self) -> None:
        timings = self.timings
        while not timings.stopping:
            try:
                await self._connect()
                due = time.monotonic() + Random(self._id).random() * self.interval_s
                while not timings.stopping:
                    await asyncio.sleep(max(0.0, due - time.monotonic()))
                    async with asyncio.timeout(ANSWER_S):
                        refused = await self.work(next(self._numbers))
                    now = time.monotonic()
                    timings.answers.append((now, now - due))
                    if refused:
                        timings.failures[refused] += 1
                    due = max(due + self.interval_s, now - self.interval_s)
            except (OSError, EOFError, TimeoutError) as error:
                if not timings.stopping:
                    timings.failures[type(error).__name__] += 1
                self.at += 1
                await asyncio.sleep(_RETRY_S)
            finally:
                if hasattr(self, "_writer"):
                    self._writer.transport.abort()

    async def _connect(self) -> None:
        host, port = split_address(self.addresses[self.at % len(self.addresses)])
        async with asyncio.timeout(_CONNECT_S):
            self._reader, self._writer = await asyncio.open_connection(
                host, port, ssl=tls_of(self.access)
            )
        async with asyncio.timeout(ANSWER_S):
            await self.greet()

    async def greet(self) -> None:
        """What a connection begins with. Raises OSError, EOFError."""
        raise NotImplementedError

    async def work(self, number: int) -> str:
        """Ask, and wait for the answer: "", or what it says when it is no good one. Raises as
        `greet`."""
        raise NotImplementedError

    async def line(self) -> bytes:
        line = await self._reader.readline()
        if not line.endswith(b"\n"):
            raise EOFError
        return line.rstrip()


@dataclass(slots=True)
class MailClient(SteadyClient):
    """Delivers small messages by LMTP."""

    async def greet(self) -> None:
        await self._reply()
        self._writer.write(b"LHLO small.example.net\r\n")
        await self._reply()

    async def work(self, number: int) -> str:
        user = self.user.encode()
        self._writer.write(b"MAIL FROM:<s@example.net>\r\nRCPT TO:<%b>\r\nDATA\r\n" % user)
        replies = [await self._reply() for _ in range(3)]
        if not replies[2].startswith(b"354"):
            self._writer.write(b"RSET\r\n")
            await self._reply()
            return replies[1].decode("ascii", "replace")
        self._writer.write(b"Message-ID: <%d.%b@x>\r\n%b.\r\n" % (number, self._id.encode(), _BODY))
        reply = await self._reply()
        return "" if reply.startswith(b"250") else reply.decode("ascii", "replace")[:60]

    async def _reply(self) -> bytes:
        while (line := await self.line())[3:4] == b"-":
            pass
        return line


@dataclass(slots=True)
class TextUser(SteadyClient):
    """STOREs a flag, and FETCHes the message, in turns."""

    async def greet(self) -> None:
        hello = f"h HELLO 1 client={self._id}\r\nm MAILBOX 1 {self.user} INBOX\r\n".encode()
        self._writer.write(auth_of(self.access) + hello)
        while not (await self.line()).startswith(b"m "):
            pass

    async def work(self, number: int) -> str:
        if number % 2:
            sign = b"+-"[number // 2 & 1 : (number // 2 & 1) + 1]
            floor = b" floor=%d" % (number - 2) if number > 1 else b""
            command = b"s STORE 1 1 %bFLAGS \\Flagged seq=%d%b\r\n" % (sign, number, floor)
            self._writer.write(command)
        else:
            self._writer.write(b"s FETCH 1 1\r\n")
        while not (line := await self.line()).startswith(b"s "):
            pass
        if line.endswith(b"}"):
            await self._reader.readexactly(int(line[line.rindex(b"{") + 1 : -1]))
            await self.line()
        return "" if line.startswith(b"s OK") else line[2:62].decode("utf-8", "replace")
