"""Clients that survive the nodes they talk to: STORE and LMTP, each over a connection of its own.

A client that loses its connection goes to the next node and repeats what had no answer. A mail
transfer agent or a front end would do so, too. Every acknowledgement is written down with its time.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from bench.access import Access, auth_of, tls_of
from raftmail.mail.endpoint import split_address

CONNECT_S = 1.0
ANSWER_S = 20.0
RETRY_S = 0.02
PAUSE_S = 0.005
"""Between an acknowledgement and the next command of a few clients: the load is steady, and the
machine not full."""

STALL_S = 0.15
_WATCH_S = 0.02
_BODY = b"x" * 70 + b"\r\n"


@dataclass(slots=True)
class FailoverLedger:
    """Times are of `time.monotonic`. Of each client: its kind, and when it was acknowledged."""

    kinds: list[str] = field(default_factory=list)
    acknowledged_at_s: list[list[float]] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)
    stalls_s: list[tuple[float, float]] = field(default_factory=list)
    """From when to when this very process did not run: then nothing was measured."""
    stopping: bool = False

    def join(self, kind: str) -> list[float]:
        """Where a new client writes its acknowledgements."""
        self.kinds.append(kind)
        self.acknowledged_at_s.append([])
        return self.acknowledged_at_s[-1]

    def count(self, kind: str) -> int:
        """Acknowledgements of all clients of a kind."""
        pairs = zip(self.kinds, self.acknowledged_at_s, strict=True)
        return sum(len(times) for of, times in pairs if of == kind)

    def times(self, kind: str = "") -> list[float]:
        """When anybody was acknowledged, or anybody of a kind; ascending."""
        pairs = zip(self.kinds, self.acknowledged_at_s, strict=True)
        return sorted(at for of, times in pairs if kind in ("", of) for at in times)

    def all_since(self, at_s: float) -> bool:
        """Whether every client has been acknowledged since."""
        return all(times and times[-1] > at_s for times in self.acknowledged_at_s)

    def stalled(self, from_s: float, to_s: float) -> bool:
        """Whether this process, and so perhaps the whole machine, stood still in between."""
        return any(begun < to_s and ended > from_s for begun, ended in self.stalls_s)


def longest_gap_s(ascending: Sequence[float], from_s: float, to_s: float) -> float:
    """The longest time between two neighbours that has a part in ``from_s`` to ``to_s``. Where
    nothing stands before or after, the bound itself counts."""
    first = max(0, bisect_right(ascending, from_s) - 1)
    last = bisect_right(ascending, to_s) + 1
    moments = list(ascending[first:last])
    if not moments or moments[0] > from_s:
        moments.insert(0, from_s)
    if moments[-1] < to_s:
        moments.append(to_s)
    return max((after - before for before, after in pairwise(moments)), default=0.0)


class _Refused(Exception):
    """The node answers that the command has to be repeated."""


@dataclass(slots=True)
class FailoverClient:
    """What both kinds share: going from node to node until the ledger says stop."""

    addresses: Sequence[str]
    at: int
    ledger: FailoverLedger
    kind: str = ""
    pause_s: float = PAUSE_S
    access: Access | None = None
    """For the text protocol; None is for a server that speaks in the clear and wants no token."""
    _reader: asyncio.StreamReader = field(init=False)
    _writer: asyncio.StreamWriter = field(init=False)

    async def run(self) -> None:
        acknowledged = self.ledger.join(self.kind)
        failures = self.ledger.failures
        while not self.ledger.stopping:
            try:
                await self._connect()
            except (OSError, TimeoutError):
                self.at += 1
                await asyncio.sleep(RETRY_S)
                continue
            try:
                await self.greet()
                while not self.ledger.stopping:
                    try:
                        await self.deliver()
                    except _Refused as refused:
                        failures[f"{self.kind}: {refused}"] += 1
                        await asyncio.sleep(RETRY_S)
                    else:
                        acknowledged.append(time.monotonic())
                        await asyncio.sleep(self.pause_s)
            except TimeoutError:
                failures[f"{self.kind}: no answer within {ANSWER_S:.0f} s"] += 1
                self.at += 1
            except (OSError, EOFError):
                failures[f"{self.kind}: connection lost"] += 1
                self.at += 1
            finally:
                self._writer.transport.abort()

    async def greet(self) -> None:
        """What a connection begins with. Raises OSError, EOFError, TimeoutError."""
        raise NotImplementedError

    async def deliver(self) -> None:
        """One command, until it is acknowledged. Raises `_Refused`, and as `greet`."""
        raise NotImplementedError

    async def _connect(self) -> None:
        host, port = split_address(self.addresses[self.at % len(self.addresses)])
        async with asyncio.timeout(CONNECT_S):
            self._reader, self._writer = await asyncio.open_connection(
                host, port, ssl=tls_of(self.access)
            )

    async def line(self) -> bytes:
        line = await self._reader.readline()
        if not line.endswith(b"\n"):
            raise EOFError
        return line


@dataclass(slots=True)
class StoreClient(FailoverClient):
    """Sets and takes away a flag of one message, exactly once each time."""

    user: str = ""
    uid: int = 1
    kind: str = "STORE"
    _id: str = field(default_factory=lambda: secrets.token_hex(16))
    _seq: int = 1

    async def greet(self) -> None:
        self._writer.write(
            auth_of(self.access)
            + f"h HELLO 1 client={self._id}\r\nm MAILBOX 1 {self.user} INBOX\r\n".encode()
        )

    async def deliver(self) -> None:
        sign = b"+-"[self._seq & 1 : (self._seq & 1) + 1]
        floor = b" floor=%d" % (self._seq - 1) if self._seq > 1 else b""
        self._writer.write(
            b"s STORE 1 %d %bFLAGS \\Flagged seq=%d%b\r\n" % (self.uid, sign, self._seq, floor)
        )
        async with asyncio.timeout(ANSWER_S):
            while not (line := await self.line()).startswith(b"s "):
                pass
        if not line.startswith(b"s OK"):
            raise _Refused(line[2:80].decode("utf-8", "replace").rstrip())
        self._seq += 1


@dataclass(slots=True)
class LmtpFailoverClient(FailoverClient):
    """Delivers messages of about 4 KB, each its own."""

    recipient: str = ""
    kind: str = "LMTP"
    _number: int = 0
    _id: str = field(default_factory=lambda: secrets.token_hex(8))

    async def greet(self) -> None:
        async with asyncio.timeout(ANSWER_S):
            await self._reply()
            self._writer.write(b"LHLO mail.example.net\r\n")
            await self._reply()

    async def deliver(self) -> None:
        recipient = self.recipient.encode()
        self._number += 1
        self._writer.write(
            b"MAIL FROM:<sender@example.net>\r\nRCPT TO:<%b>\r\nDATA\r\n" % recipient
        )
        async with asyncio.timeout(ANSWER_S):
            replies = [await self._reply() for _ in range(3)]
            if not replies[2].startswith(b"354"):
                await self._start_over(replies[1])
            self._writer.write(
                b"Message-ID: <%d.%b@mail.example.net>\r\n\r\n%b.\r\n"
                % (self._number, self._id.encode(), _BODY * 56)
            )
            reply = await self._reply()
        if not reply.startswith(b"250"):
            raise _Refused(reply.decode("ascii", "replace"))

    async def _start_over(self, reply: bytes) -> None:
        self._writer.write(b"RSET\r\n")
        await self._reply()
        raise _Refused(reply.decode("ascii", "replace"))

    async def _reply(self) -> bytes:
        while (line := await self.line())[3:4] == b"-":
            pass
        return line.rstrip()


async def watch_stalls(ledger: FailoverLedger) -> None:
    """Write down when this process did not run although it wanted to."""
    last_s = time.monotonic()
    while not ledger.stopping:
        await asyncio.sleep(_WATCH_S)
        now_s = time.monotonic()
        if now_s - last_s > STALL_S:
            ledger.stalls_s.append((last_s, now_s))
        last_s = now_s
