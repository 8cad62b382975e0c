"""A load of puts on etcd over its JSON gateway (``POST /v3/kv/put``), in a process of its own.

Closed loop over keep-alive connections. Requests are made once, before the run, and sent as they
are: a request costs the generator one write and one look for the end of the answer. Keys have 20
bytes and values 64, so that the figure is about consensus and not about moving data.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

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

KEYS = 10_000
ANSWER_BYTES_MAX = 65_536


@dataclass(frozen=True, slots=True)
class PutPlan:
    """One run against the nodes at ``addresses`` (``host:port``), connections dealt in turn."""

    addresses: tuple[str, ...]
    connections: int = 128
    seconds: float = 6.0
    warmup_s: float = 1.0


def _requests() -> list[bytes]:
    rng = random.Random(3)
    made: list[bytes] = []
    for number in range(KEYS):
        key = base64.b64encode(b"%020d" % number)
        value = base64.b64encode(rng.randbytes(64))
        body = b'{"key":"%b","value":"%b"}' % (key, value)
        head = (
            b"POST /v3/kv/put HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        )
        made.append(head % len(body) + body)
    return made


class _Connection(asyncio.Protocol):
    """One put after the other until the tally says stop."""

    def __init__(
        self, requests: Sequence[bytes], tally: LoadTally, ended: Callable[[], None]
    ) -> None:
        self._requests = requests
        self._tally = tally
        self._ended = ended
        self._answer = b""
        self._leaving = False
        self._begun_s = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do not derive from asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        self._begin()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._leaving:
            self._tally.failures["lost"] += 1
        self._ended()

    def data_received(self, data: bytes) -> None:
        answer = self._answer + data if self._answer else data
        head_end = answer.find(b"\r\n\r\n")
        if head_end < 0:
            self._answer = answer
            if len(answer) > ANSWER_BYTES_MAX:
                self._abandon()
            return
        at = answer.find(b"Content-Length: ")
        if not 0 <= at < head_end:
            self._abandon()
            return
        body_bytes = int(answer[at + 16 : answer.index(b"\r\n", at)])
        if len(answer) < head_end + 4 + body_bytes:
            self._answer = answer
            return
        self._answer = b""
        status = answer[9:12]
        if status == b"200":
            self._tally.acknowledged(self._begun_s)
        else:
            self._tally.failures[status.decode("ascii", "replace")] += 1
        self._begin()

    def _begin(self) -> None:
        if self._tally.stopping:
            self._leave()
            self._transport.close()
            return
        self._begun_s = time.perf_counter()
        self._transport.write(self._requests[int(random.random() * KEYS)])

    def _abandon(self) -> None:
        self._tally.failures["protocol"] += 1
        self._leave()
        self._transport.abort()

    def _leave(self) -> None:
        self._leaving = True


async def drive(plan: PutPlan) -> LoadResult:
    """Run a plan in this process; :func:`run_puts` is what a benchmark wants."""
    if not plan.addresses or plan.connections < 1 or plan.seconds <= 0:
        raise BenchError("addresses, connections and seconds must not be empty or zero")
    requests = _requests()
    tally = LoadTally()
    loop = asyncio.get_running_loop()

    async def connect(address: str, ended: Callable[[], None]) -> None:
        host, _, port = address.rpartition(":")
        await loop.create_connection(partial(_Connection, requests, tally, ended), host, int(port))

    connections = (
        keep_connected(partial(connect, plan.addresses[turn % len(plan.addresses)]), tally)
        for turn in range(plan.connections)
    )
    return await observe(connections, tally, plan.warmup_s, plan.seconds)


def run_puts(plan: PutPlan) -> LoadResult:
    """Run a plan in a process of its own; BenchError with the generator's words when it fails."""
    arguments = ["--connections", str(plan.connections), "--seconds", str(plan.seconds)]
    arguments += ["--warmup", str(plan.warmup_s), "-o", "json"]
    for address in plan.addresses:
        arguments += ["--address", address]
    timeout_s = plan.warmup_s + plan.seconds + DRAIN_S + 30
    return run_generator("bench.peers.etcd_load", arguments, timeout_s)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; exit status 1 when no put was acknowledged."""
    parser = argparse.ArgumentParser(prog="bench.peers.etcd_load", description="etcd put load")
    parser.add_argument("--address", action="append", required=True, help="host:port")
    parser.add_argument("--connections", type=int, default=128)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--warmup", type=float, default=1.0, help="seconds before measuring")
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text")
    given = parser.parse_args(arguments)
    plan = PutPlan(tuple(given.address), given.connections, given.seconds, given.warmup)
    return run_and_print(lambda: drive(plan), "etcd_load", given.output == "json")


if __name__ == "__main__":
    sys.exit(main())
