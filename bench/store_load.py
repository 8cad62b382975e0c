"""A load of STORE or SAVE commands over the text protocol, as a process of its own.

Closed loop: every connection keeps ``pipeline`` commands outstanding. A STORE sets or takes away a
flag of one message. So each one changes something, gets a modseq of its own, and stands in the
journals of a majority before it is answered. A SAVE brings a new message of some hundred bytes.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import ssl
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

from bench.access import Access, auth_of, tls_of
from bench.closed_loop import (
    DRAIN_S,
    LoadResult,
    LoadTally,
    keep_connected,
    observe,
    run_and_print,
    run_generator,
)
from bench.runtime import BenchError

SETUP_S = 60.0
FILL_COMMANDS = 200


@dataclass(frozen=True, slots=True)
class StorePlan:
    """One run against client addresses ``host:port`` on loopback, to which the
    connections are dealt in turn; times are in seconds.

    The mailbox of each of ``users`` is filled first (`fill`) to ``messages`` messages. STORE
    changes ``touched`` of them, spread evenly over the mailbox, which must have no gaps in its
    UIDs. Users are dealt to the connections; where there are fewer users, connections share a
    mailbox, each with messages of its own."""

    addresses: tuple[str, ...]
    users: tuple[str, ...]
    mailbox: str = "INBOX"
    operation: str = "store"
    connections: int = 1
    pipeline: int = 128
    messages: int = 1000
    touched: int = 1000
    seconds: float = 10.0
    warmup_s: float = 1.0
    access: Access | None = None
    """None is for a server that speaks in the clear and wants no token."""


def _users_of(plan: StorePlan, number: int) -> tuple[str, ...]:
    """Whose mailboxes a connection works in; its numbers for them are 1, 2, and so on."""
    if len(plan.users) > plan.connections:
        return plan.users[number :: plan.connections]
    return (plan.users[number % len(plan.users)],)


def _store_lines(plan: StorePlan, number: int) -> list[bytes]:
    """What a connection sends again and again: its share of the messages, flagged, then not; of its
    mailboxes in turn."""
    step = max(1, plan.messages // plan.touched)
    sharing = -(-plan.connections // len(plan.users))
    share = max(1, min(plan.touched, plan.messages) // sharing)
    first = number // len(plan.users) * share
    uids = [1 + (first + at) * step % plan.messages for at in range(share)]
    mailboxes = range(1, 1 + len(_users_of(plan, number)))
    return [
        b"s STORE %d %d %bFLAGS \\Flagged\r\n" % (mailbox, uid, sign)
        for sign in (b"+", b"-")
        for uid in uids
        for mailbox in mailboxes
    ]


class _Connection(asyncio.Protocol):
    """Introduces its mailboxes, then stores or saves. Answers come in any order: their number
    counts, and that each says OK."""

    def __init__(
        self, plan: StorePlan, tally: LoadTally, number: int, ended: Callable[[], None]
    ) -> None:
        self._plan = plan
        self._tally = tally
        self._ended = ended
        self._rest = b""
        self._users = _users_of(plan, number)
        self._introduced = 0
        self._begun: deque[float] = deque()
        self._lines = _store_lines(plan, number) if plan.operation == "store" else []
        self._at = 0
        self._mark = secrets.token_hex(8).encode()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do not derive from asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        introductions = _introductions(self._users, self._plan.mailbox)
        self._transport.write(auth_of(self._plan.access) + introductions)

    def data_received(self, data: bytes) -> None:
        if self._rest:
            data = self._rest + data
        lines = data.split(b"\r\n")
        self._rest = lines.pop()
        if self._introduced < len(self._users):
            self._introduce(lines)
            return
        tally = self._tally
        begun = self._begun
        now = time.perf_counter()
        for line in lines:
            if line.startswith(b"s OK"):
                # Which command it answers is not looked up: with all of one kind, and answered
                # together, the oldest is as good.
                tally.latencies_s.append(now - begun.popleft())
                tally.acknowledged_at_s.append(now)
            elif line.startswith(b"* "):
                tally.failures[line[:60].decode("utf-8", "replace")] += 1
            else:
                begun.popleft()
                tally.failures[line[2:60].decode("utf-8", "replace")] += 1
        if not tally.stopping:
            self._send(self._plan.pipeline - len(begun))
        elif not begun:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._begun:
            self._tally.failures["lost"] += len(self._begun)
        self._ended()

    def _introduce(self, lines: list[bytes]) -> None:
        for line in lines:
            if line.startswith(b"m OK"):
                self._introduced += 1
                if self._introduced == len(self._users):
                    self._send(self._plan.pipeline)
            elif line.startswith(b"m "):
                self._tally.failures[line[2:60].decode("utf-8", "replace")] += 1
                self._transport.close()

    def _send(self, count: int) -> None:
        if count <= 0:
            return
        at = self._at
        self._at = at + count
        if self._lines:
            size = len(self._lines)
            part = [self._lines[one % size] for one in range(at, at + count)]
        else:
            mailboxes = len(self._users)
            part = [
                _save_command(b"s", 1 + one % mailboxes, b"%b %d" % (self._mark, one))
                for one in range(at, at + count)
            ]
        self._begun.extend([time.perf_counter()] * count)
        self._transport.write(b"".join(part))


def _introductions(users: Sequence[str], mailbox: str) -> bytes:
    return b"".join(
        f"m MAILBOX {number} {user} {mailbox}\r\n".encode() for number, user in enumerate(users, 1)
    )


def _save_command(tag: bytes, mailbox: int, mark: bytes) -> bytes:
    body = (
        b"From: Ada Sender <sender@example.net>\r\nTo: Bob <bob@example.org>\r\n"
        b"Subject: %b\r\nMessage-ID: <%b@mail.example.net>\r\n\r\nA short text.\r\n"
        % (mark, mark.replace(b" ", b"."))
    )
    return b"%b SAVE %d {%d}\r\n%b\r\n" % (tag, mailbox, len(body), body)


async def fill(plan: StorePlan) -> None:
    """Save small messages until every mailbox has enough. Raises BenchError."""
    reader, writer = await _open(plan.addresses[0], tls_of(plan.access))
    try:
        writer.write(auth_of(plan.access))
        for user in plan.users:
            writer.write(f"m MAILBOX 1 {user} {plan.mailbox}\r\n".encode())
            await _fill_one(reader, writer, plan.messages)
    finally:
        writer.close()


async def _fill_one(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, wanted: int
) -> None:
    while not (line := await _line(reader)).startswith(b"m "):
        pass
    have = 0
    for word in line.split():
        if word.startswith(b"messages="):
            have = int(word[9:])
    while have < wanted:
        batch = min(FILL_COMMANDS, wanted - have)
        for at in range(have, have + batch):
            writer.write(_save_command(b"f", 1, b"filled %d" % at))
        for _ in range(batch):
            line = await _line(reader)
            if not line.startswith(b"f OK"):
                raise BenchError(f"the mailbox could not be filled: {line!r}")
        have += batch


async def _open(
    address: str, tls: ssl.SSLContext | None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = address.rpartition(":")
    try:
        return await asyncio.open_connection(host, int(port), ssl=tls)
    except OSError as error:
        raise BenchError(f"nobody listens at {address}: {error}") from error


async def _line(reader: asyncio.StreamReader) -> bytes:
    try:
        line = await asyncio.wait_for(reader.readline(), SETUP_S)
    except TimeoutError:
        raise BenchError(f"no answer within {SETUP_S:.0f} s") from None
    if not line:
        raise BenchError("the node closed the connection")
    return line


async def drive(plan: StorePlan) -> LoadResult:
    """Run a plan in this process; `run_load` is what a benchmark wants. Raises BenchError."""
    if (
        not plan.addresses
        or not plan.users
        or min(plan.connections, plan.pipeline, plan.messages) < 1
    ):
        raise BenchError("addresses, users, connections, pipeline, messages: none may be missing")
    if plan.operation not in ("store", "save"):
        raise BenchError(f"operation {plan.operation!r} is neither store nor save")
    await fill(plan)
    loop = asyncio.get_running_loop()
    tally = LoadTally()
    tls = tls_of(plan.access)

    async def connect(number: int, ended: Callable[[], None]) -> None:
        host, _, port = plan.addresses[number % len(plan.addresses)].rpartition(":")
        make = partial(_Connection, plan, tally, number, ended)
        await loop.create_connection(make, host, int(port), ssl=tls)

    connections = [keep_connected(partial(connect, n), tally) for n in range(plan.connections)]
    return await observe(connections, tally, plan.warmup_s, plan.seconds)


def run_load(plan: StorePlan) -> LoadResult:
    """Run a plan in a process of its own; BenchError with its words when it fails."""
    arguments = ["--mailbox", plan.mailbox, "--operation", plan.operation]
    for user in plan.users:
        arguments += ["--user", user]
    for address in plan.addresses:
        arguments += ["--address", address]
    arguments += ["--connections", str(plan.connections), "--pipeline", str(plan.pipeline)]
    arguments += ["--messages", str(plan.messages), "--touched", str(plan.touched)]
    arguments += ["--seconds", str(plan.seconds), "--warmup", str(plan.warmup_s), "-o", "json"]
    if plan.access is not None:
        arguments += ["--ca", str(plan.access.ca), "--token-file", str(plan.access.token_file)]
    timeout_s = plan.seconds + plan.warmup_s + DRAIN_S + 2 * SETUP_S
    return run_generator("bench.store_load", arguments, timeout_s)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; exit status 1 when nothing was acknowledged."""
    parser = argparse.ArgumentParser(prog="bench.store_load", description="STORE and SAVE load")
    parser.add_argument("--address", action="append", required=True, help="host:port")
    parser.add_argument("--user", action="append", required=True)
    parser.add_argument("--ca", type=Path, help="with --token-file: how to be let in")
    parser.add_argument("--token-file", type=Path)
    parser.add_argument("--mailbox", default="INBOX")
    parser.add_argument("--operation", choices=("store", "save"), default="store")
    parser.add_argument("--connections", type=int, default=1)
    parser.add_argument("--pipeline", type=int, default=128)
    parser.add_argument("--messages", type=int, default=1000)
    parser.add_argument("--touched", type=int, default=1000, help="messages that STORE changes")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--warmup", type=float, default=1.0, help="seconds before measuring")
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text")
    given = parser.parse_args(arguments)
    plan = StorePlan(
        addresses=tuple(given.address),
        users=tuple(given.user),
        mailbox=given.mailbox,
        operation=given.operation,
        connections=given.connections,
        pipeline=given.pipeline,
        messages=given.messages,
        touched=given.touched,
        seconds=given.seconds,
        warmup_s=given.warmup,
        access=Access(given.ca, given.token_file) if given.ca and given.token_file else None,
    )
    return run_and_print(lambda: drive(plan), "store_load", given.output == "json")


if __name__ == "__main__":
    sys.exit(main())
