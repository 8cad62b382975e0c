"""An LMTP load generator that costs little CPU, to be run as a process of its own.

Closed loop: every connection delivers one message after the other, each to one recipient chosen
at random, and waits for the reply before it begins the next. Latency runs from the moment MAIL is
sent to the reply after the final dot (RFC 2033 section 4.2). Where the server offers PIPELINING
(RFC 2920), MAIL, RCPT and DATA go out in one write.

No two messages are equal: each has its own Message-ID. A lost connection is counted and opened
again, so that a run across a failure shows the gap it caused.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import re
import secrets
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from email.utils import formatdate
from functools import partial
from typing import cast

from bench.closed_loop import (
    DRAIN_S,
    RETRY_S,
    LoadResult,
    LoadTally,
    keep_connected,
    observe,
    run_and_print,
    run_generator,
)
from bench.runtime import BenchError

REPLY_BYTES_MAX = 65_536
MESSAGE_BYTES_MIN = 512

_PROSE = (
    "the quarterly report about storage and delivery was sent to everybody on Monday because "
    "several people asked for numbers that nobody could find in time please read it before our "
    "meeting and write back when something is missing or wrong thank you for all your help"
)
_WORDS = _PROSE.split()


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """One run. ``address`` is ``host:port`` or ``unix:PATH``, or several of them with commas
    between, to which the connections are dealt in turn; times are in seconds.

    What is acknowledged during ``warmup_s`` is delivered but not measured: the first message to a
    recipient makes its mailbox, and is not what a store does all day.
    """

    address: str
    recipients: tuple[str, ...]
    connections: int = 32
    seconds: float = 10.0
    warmup_s: float = 1.0
    message_bytes: int = 4096
    pipelining: bool = True


@dataclass(frozen=True, slots=True)
class _Template:
    """Everything of a delivery to one recipient but the message's number, ready to be sent."""

    commands: tuple[bytes, bytes, bytes]
    before_number: bytes
    after_number: bytes


def _templates(plan: LoadPlan) -> list[_Template]:
    rng = random.Random(4)
    run = secrets.token_hex(6)
    made: list[_Template] = []
    for recipient in plan.recipients:
        before = (
            "Return-Path: <sender@example.net>\r\n"
            "From: Ada Sender <sender@example.net>\r\n"
            f"To: <{recipient}>\r\n"
            "Subject: Quarterly numbers, second draft\r\n"
            f"Date: {formatdate()}\r\n"
            f"Message-ID: <{run}."
        )
        after = (
            "@mail.example.net>\r\n"
            "MIME-Version: 1.0\r\n"
            "Content-Type: text/plain; charset=us-ascii\r\n"
            "\r\n"
        )
        text_bytes = plan.message_bytes - len(before) - 16 - len(after)
        made.append(
            _Template(
                commands=(
                    b"MAIL FROM:<sender@example.net>\r\n",
                    b"RCPT TO:<%s>\r\n" % recipient.encode("ascii"),
                    b"DATA\r\n",
                ),
                before_number=before.encode("ascii"),
                after_number=after.encode("ascii") + _text(rng, text_bytes) + b".\r\n",
            )
        )
    return made


def _text(rng: random.Random, text_bytes: int) -> bytes:
    """Words in lines of at most 78 bytes; exactly ``text_bytes`` long, no line starting with '.'"""
    lines: list[str] = []
    left = text_bytes
    while left > 0:
        line = " ".join(rng.choices(_WORDS, k=10))[:70]
        if left < len(line) + 10:
            line = ("x" if left < 3 else line + " thanks").ljust(left, "x")[: max(0, left - 2)]
        lines.append(line + "\r\n")
        left -= len(line) + 2
    return "".join(lines).encode("ascii")


@dataclass(slots=True)
class _LmtpTally(LoadTally):
    """Also the number of the last message sent, and whether commands were pipelined."""

    number: int = 0
    pipelined: bool = False


# What a server that is well answers with, in one piece: read at once. Anything else goes line by
# line.
_GO_AHEAD = re.compile(rb"250 [^\n]*\n250 [^\n]*\n354 [^\n]*\n").fullmatch
_DELIVERED = re.compile(rb"250 [^\n]*\n").fullmatch

_GREETING, _LHLO, _MAIL, _RCPT, _DATA, _DOT, _RSET, _QUIT = range(8)


class _Connection(asyncio.Protocol):
    """One LMTP client connection, in a loop until the tally says stop."""

    def __init__(
        self,
        templates: Sequence[_Template],
        pipelining: bool,
        tally: _LmtpTally,
        ended: Callable[[], None],
    ) -> None:
        self._templates = templates
        self._pipelining = pipelining
        self._tally = tally
        self._ended = ended
        self._rest = b""
        self._state = _GREETING
        self._refused = False
        self._template = templates[0]
        self._begun_s = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do not derive from asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        self._write = self._transport.write
        self._offered = False

    def connection_lost(self, exc: Exception | None) -> None:
        if self._state != _QUIT:
            self._tally.failures["lost"] += 1
        self._ended()

    def data_received(self, data: bytes) -> None:
        if self._rest:
            data = self._rest + data
        elif self._state == _DOT and _DELIVERED(data):
            self._tally.acknowledged(self._begun_s)
            self._begin()
            return
        elif self._state == _MAIL and self._pipelining and _GO_AHEAD(data):
            self._send_message()
            return
        end = data.rfind(b"\n") + 1
        self._rest = data[end:]
        if len(self._rest) > REPLY_BYTES_MAX:
            self._abandon("protocol")
            return
        for line in data[:end].splitlines():
            if line[3:4] != b"-":
                self._reply(line)
            elif self._state == _LHLO and line[4:].upper() == b"PIPELINING":
                self._offered = True

    def _reply(self, line: bytes) -> None:
        state = self._state
        code = line[:3]
        if state == _DATA and code == b"354" and not self._refused:
            self._send_message()
        elif state == _DOT:
            if code == b"250":
                self._tally.acknowledged(self._begun_s)
                self._begin()
            else:
                self._refuse(code)
                self._start_over()
        elif state in (_MAIL, _RCPT):
            if code != b"250" and not self._refused:
                self._refuse(code)
            if self._refused and not self._pipelining:
                self._start_over()
                return
            self._state = state + 1
            if not self._pipelining:
                self._write(self._template.commands[state + 1 - _MAIL])
        elif state == _DATA:
            # A 354 without a recipient leaves no way on but to hang up (RFC 2033 forbids it).
            if code == b"354":
                self._abandon("protocol")
                return
            if not self._refused:
                self._refuse(code)
            self._start_over()
        elif state == _RSET:
            asyncio.get_running_loop().call_later(RETRY_S, self._begin)
        else:
            self._hello(code, line)

    def _send_message(self) -> None:
        self._state = _DOT
        tally = self._tally
        tally.number = number = tally.number + 1
        template = self._template
        self._write(b"%b%016x%b" % (template.before_number, number, template.after_number))

    def _hello(self, code: bytes, line: bytes) -> None:
        if self._state == _GREETING and code == b"220":
            self._state = _LHLO
            self._write(b"LHLO mail.example.net\r\n")
        elif self._state == _LHLO and code == b"250":
            self._offered = self._offered or line[4:].upper() == b"PIPELINING"
            self._pipelining = self._pipelining and self._offered
            self._tally.pipelined = self._pipelining
            self._begin()
        elif self._state != _QUIT:
            self._abandon(code.decode("ascii", "replace"))

    def _begin(self) -> None:
        if self._transport.is_closing():
            return
        if self._tally.stopping:
            self._state = _QUIT
            self._write(b"QUIT\r\n")
            self._transport.close()
            return
        templates = self._templates
        self._template = template = templates[int(random.random() * len(templates))]
        self._refused = False
        self._state = _MAIL
        self._begun_s = time.perf_counter()
        self._write(b"".join(template.commands) if self._pipelining else template.commands[0])

    def _refuse(self, code: bytes) -> None:
        self._refused = True
        self._tally.failures[code.decode("ascii", "replace")] += 1

    def _start_over(self) -> None:
        self._state = _RSET
        self._write(b"RSET\r\n")

    def _abandon(self, why: str) -> None:
        self._tally.failures[why] += 1
        self._state = _QUIT
        self._transport.abort()


async def _connect(
    loop: asyncio.AbstractEventLoop, address: str, make: Callable[[], asyncio.Protocol]
) -> asyncio.BaseTransport:
    if address.startswith("unix:"):
        transport, _ = await loop.create_unix_connection(make, address.removeprefix("unix:"))
        return transport
    host, _, port = address.rpartition(":")
    transport, _ = await loop.create_connection(make, host.strip("[]"), int(port))
    return transport


def _check(plan: LoadPlan) -> None:
    if not plan.recipients:
        raise BenchError("no recipient: name at least one with --recipient")
    if plan.connections < 1 or plan.seconds <= 0 or plan.warmup_s < 0:
        raise BenchError("connections and seconds must be positive, the warm-up not negative")
    needed = MESSAGE_BYTES_MIN + max(map(len, plan.recipients))
    if plan.message_bytes < needed:
        raise BenchError(f"a message of {plan.message_bytes} bytes has no room: {needed} at least")
    for address in plan.address.split(","):
        if not address.startswith("unix:") and not address.rpartition(":")[2].isdigit():
            raise BenchError(f"address {address!r} is neither host:port nor unix:PATH")


async def drive(plan: LoadPlan) -> LoadResult:
    """Run a plan in this process; :func:`run_load` is what a benchmark wants.

    Raises BenchError when the plan makes no sense or nobody listens at the address.
    """
    _check(plan)
    templates = _templates(plan)
    tally = _LmtpTally()
    loop = asyncio.get_running_loop()
    addresses = plan.address.split(",")
    for address in addresses:
        try:
            probe = await _connect(loop, address, asyncio.Protocol)
            probe.close()
        except OSError as error:
            raise BenchError(f"no LMTP server at {address}: {error}") from error

    async def connect(address: str, ended: Callable[[], None]) -> None:
        make = partial(_Connection, templates, plan.pipelining, tally, ended)
        await _connect(loop, address, make)

    connections = (
        keep_connected(partial(connect, addresses[turn % len(addresses)]), tally)
        for turn in range(plan.connections)
    )
    result = await observe(connections, tally, plan.warmup_s, plan.seconds)
    return replace(result, notes={"pipelined": tally.pipelined})


def run_load(plan: LoadPlan) -> LoadResult:
    """Run a plan in a process of its own and wait for its result.

    Raises BenchError with the generator's own words when it fails.
    """
    arguments = ["--address", plan.address, "--connections", str(plan.connections)]
    arguments += ["--seconds", str(plan.seconds), "--warmup", str(plan.warmup_s)]
    arguments += ["--size", str(plan.message_bytes), "-o", "json"]
    arguments += [] if plan.pipelining else ["--no-pipelining"]
    for recipient in plan.recipients:
        arguments += ["--recipient", recipient]
    timeout_s = plan.warmup_s + plan.seconds + DRAIN_S + 30
    return run_generator("bench.lmtp_load", arguments, timeout_s)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; exit status 1 when nothing could be delivered."""
    parser = argparse.ArgumentParser(prog="bench.lmtp_load", description="LMTP load generator")
    parser.add_argument(
        "--address", required=True, help="host:port or unix:PATH, or several: A,B,…"
    )
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--warmup", type=float, default=1.0, help="seconds before measuring")
    parser.add_argument("--size", type=int, default=4096, help="bytes of a message")
    parser.add_argument("--recipient", action="append", required=True)
    parser.add_argument("--no-pipelining", action="store_true")
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text")
    given = parser.parse_args(arguments)
    plan = LoadPlan(
        address=given.address,
        recipients=tuple(given.recipient),
        connections=given.connections,
        seconds=given.seconds,
        warmup_s=given.warmup,
        message_bytes=given.size,
        pipelining=not given.no_pipelining,
    )
    return run_and_print(lambda: drive(plan), "lmtp_load", given.output == "json")


if __name__ == "__main__":
    sys.exit(main())
