"""A load of STORE commands over the text protocol, as a process of its own.

Closed loop: each connection keeps `pipeline` commands outstanding. Every command sets or takes away a flag of one message, so that each one
changes something, gets a modseq of its own, and is written to the journals of a majority before it is answered.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

from bench.closed_loop import LoadResult, Tally, keep_connected, observe, run_and_print, run_generator

SETUP_S = 30.0


@dataclass(frozen=True, slots=True)
class StorePlan:
    """One run against a node's client address `host:port` (loopback, in the clear).

    The mailbox of `user` is filled to `messages` messages first."""

    address: str
    user: str
    mailbox: str = "INBOX"
    connections: int = 1
    pipeline: int = 128
    messages: int = 1000
    seconds: float = 10.0
    warmup_s: float = 1.0


class _Connection(asyncio.Protocol):
    """Introduces the mailbox, then stores. Answers come in any order; only their number counts, and that each says OK."""

    def __init__(self, plan: StorePlan, tally: Tally, number: int, ended: Callable[[], None]) -> None:
        self._plan = plan
        self._tally = tally
        self._ended = ended
        self._rest = b""
        self._ready = False
        self._begun: deque[float] = deque()
        span = plan.messages // plan.connections
        first = 1 + number * span
        lines = []
        for sign in (b"+", b"-"):
            for uid in range(first, first + span):
                lines.append(b"s STORE 1 %d %bFLAGS \\Flagged\r\n" % (uid, sign))
        self._lines = lines
        self._at = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        plan = self._plan
        self._transport.write(f"m MAILBOX 1 {plan.user} {plan.mailbox}\r\n".encode())

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        end = data.rfind(b"\n") + 1
        self._rest = data[end:]
        lines = data[:end].split(b"\r\n")
        lines.pop()
        if not self._ready:
            for line in lines:
                if line.startswith(b"m OK"):
                    self._ready = True
                    self._send(self._plan.pipeline)
                elif line.startswith(b"m "):
                    self._tally.failures[line.decode()[:60]] += 1
                    self._transport.close()
            return
        tally = self._tally
        begun = self._begun
        now = time.perf_counter()
        for line in lines:
            if line.startswith(b"s OK"):
                tally.latencies_s.append(now - begun.popleft())
                tally.acknowledged_at_s.append(now)
            else:
                begun.popleft()
                tally.failures[line.decode()[2:20]] += 1
        if not tally.stopping:
            self._send(len(lines))
        elif not begun:
            self._transport.close()

    def _send(self, count: int) -> None:
        lines = self._lines
        part = lines[self._at : self._at + count]
        self._at += count
        if len(part) < count:
            self._at = count - len(part)
            part += lines[: self._at]
        self._begun.extend([time.perf_counter()] * len(part))
        self._transport.write(b"".join(part))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._begun:
            self._tally.failures["lost"] += len(self._begun)
        self._ended()


async def _fill(plan: StorePlan) -> None:
    """Save small messages until the mailbox has enough."""
    host, _, port = plan.address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"m MAILBOX 1 {plan.user} {plan.mailbox}\r\n".encode())
    have = 0
    while True:
        line = await asyncio.wait_for(reader.readline(), SETUP_S)
        if line.startswith(b"m "):
            for word in line.split():
                if word.startswith(b"messages="):
                    have = int(word[9:])
            break
    missing = max(0, plan.messages - have)
    sent = 0
    while sent < missing:
        batch = min(200, missing - sent)
        for i in range(batch):
            body = b"Subject: %d\r\n\r\nmessage %d\r\n" % (have + sent + i, have + sent + i)
            writer.write(b"f SAVE 1 {%d}\r\n%b\r\n" % (len(body), body))
        for _ in range(batch):
            line = await asyncio.wait_for(reader.readline(), SETUP_S)
            if not line.startswith(b"f OK"):
                raise SystemExit(f"the mailbox could not be filled: {line!r}")
        sent += batch
    writer.close()


async def drive(plan: StorePlan) -> LoadResult:
    """Run the load in this process."""
    await _fill(plan)
    host, _, port = plan.address.rpartition(":")
    loop = asyncio.get_running_loop()
    tally = Tally()

    async def connect(number: int, ended: Callable[[], None]) -> None:
        await loop.create_connection(
            lambda: _Connection(plan, tally, number, ended), host, int(port)
        )

    connections = [keep_connected(partial(connect, n), tally) for n in range(plan.connections)]
    return await observe(connections, tally, plan.warmup_s, plan.seconds)


def run_load(plan: StorePlan) -> LoadResult:
    """Run the load in a process of its own."""
    arguments = [
        "--address", plan.address, "--user", plan.user, "--mailbox", plan.mailbox, "--connections", str(plan.connections),
        "--pipeline", str(plan.pipeline), "--messages", str(plan.messages), "--seconds", str(plan.seconds),
        "--warmup", str(plan.warmup_s), "-o", "json",
    ]  # fmt: skip
    return run_generator("bench.store_load", arguments, plan.seconds + plan.warmup_s + 120)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="bench.store_load", description=__doc__)
    parser.add_argument("--address", required=True)
    parser.add_argument("--user", required=True)
    parser.add_argument("--mailbox", default="INBOX")
    parser.add_argument("--connections", type=int, default=1)
    parser.add_argument("--pipeline", type=int, default=128)
    parser.add_argument("--messages", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--warmup", type=float, default=1.0)
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text")
    given = parser.parse_args(arguments)
    plan = StorePlan(
        given.address, given.user, given.mailbox, given.connections, given.pipeline, given.messages, given.seconds, given.warmup
    )  # fmt: skip
    return run_and_print(partial(drive, plan), "bench.store_load", given.output == "json")


if __name__ == "__main__":
    sys.exit(main())
