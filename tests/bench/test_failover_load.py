"""Clients that survive their node, and the gaps that are read from what they wrote down."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.failover_load import FailoverLedger, LmtpFailoverClient, StoreClient, longest_gap_s

times = st.lists(st.integers(0, 100), max_size=20).map(lambda ints: sorted(map(float, ints)))


@pytest.mark.parametrize(
    ("acknowledged", "gap"),
    [
        ([1.0, 4.0, 6.0, 9.0, 11.0, 30.0], 3.0),
        ([4.0, 6.0, 9.0, 30.0], 21.0),  # it ended after it
        ([1.0, 12.0], 11.0),  # the gap lies around the whole stretch
        ([4.0, 9.0, 9.5, 14.0], 5.0),  # it began before it
        ([], 5.0),  # nobody was ever acknowledged
        ([6.0], 4.0),
    ],
)
def test_the_gap_is_the_longest_that_has_a_part_in_the_stretch(
    acknowledged: list[float], gap: float
) -> None:
    assert longest_gap_s(acknowledged, 5.0, 10.0) == gap


@given(times, st.integers(0, 100), st.integers(0, 100))
def test_the_gap_is_that_of_looking_at_every_pair(
    acknowledged: list[float], a: int, b: int
) -> None:
    from_s, to_s = float(min(a, b)), float(max(a, b))
    found = longest_gap_s(acknowledged, from_s, to_s)
    before = [at for at in acknowledged if at <= from_s]
    after = [at for at in acknowledged if at > to_s]
    moments = sorted(
        {
            before[-1] if before else from_s,
            *(at for at in acknowledged if from_s < at <= to_s),
            after[0] if after else to_s,
        }
    )
    pairs = pairwise(moments)
    assert found == max((late - early for early, late in pairs), default=0.0)


def test_a_ledger_keeps_clients_and_kinds_apart() -> None:
    ledger = FailoverLedger()
    ledger.join("STORE").extend([1.0, 3.0])
    ledger.join("LMTP").append(2.0)
    assert ledger.times() == [1.0, 2.0, 3.0]
    assert ledger.times("LMTP") == [2.0]
    assert ledger.count("STORE") == 2
    assert ledger.all_since(1.5)
    assert not ledger.all_since(2.5)


def test_a_stall_counts_where_it_touches_a_stretch() -> None:
    ledger = FailoverLedger(stalls_s=[(4.0, 5.0)])
    assert ledger.stalled(4.5, 9.0)
    assert ledger.stalled(1.0, 4.5)
    assert not ledger.stalled(5.0, 9.0)


class Cluster:
    """Two scripted nodes; ``answer`` gives what stands for a line, or None to hang up."""

    def __init__(self, greeting: bytes, answer: Callable[[int, bytes], bytes | None]) -> None:
        self.greeting = greeting
        self.answer = answer
        self.lines: list[tuple[int, bytes]] = []

    async def serve(
        self, node: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        writer.write(self.greeting)
        while line := await reader.readline():
            self.lines.append((node, line.rstrip()))
            reply = self.answer(node, line.rstrip())
            if reply is None:
                break
            writer.write(reply)
        writer.close()

    async def run(
        self, make: Callable[[list[str], FailoverLedger], StoreClient | LmtpFailoverClient]
    ) -> FailoverLedger:
        ledger = FailoverLedger()
        servers = []
        for node in range(2):

            async def serve(
                reader: asyncio.StreamReader, writer: asyncio.StreamWriter, node: int = node
            ) -> None:
                await self.serve(node, reader, writer)

            servers.append(await asyncio.start_server(serve, "127.0.0.1", 0))
        addresses = [f"127.0.0.1:{server.sockets[0].getsockname()[1]}" for server in servers]
        client = asyncio.create_task(make(addresses, ledger).run())
        while not ledger.acknowledged_at_s or len(ledger.acknowledged_at_s[0]) < 3:
            await asyncio.sleep(0.01)
            if client.done():
                break
        ledger.stopping = True
        await client
        for server in servers:
            server.close()
        return ledger


def test_a_store_without_an_answer_is_repeated_on_the_next_node_with_its_number() -> None:
    def answer(node: int, line: bytes) -> bytes | None:
        if line.startswith(b"s "):
            return b"s OK changed=1\r\n" if node == 1 else None
        return b"* INFO\r\n" + line.split()[0] + b" OK\r\n"

    cluster = Cluster(b"* HELLO\r\n", answer)
    ledger = asyncio.run(
        cluster.run(lambda nodes, ledger: StoreClient(nodes, 0, ledger, user="a@example.org"))
    )
    stores = [(node, line.split(b"seq=")[1]) for node, line in cluster.lines if b"seq=" in line]
    assert stores[:4] == [(0, b"1"), (1, b"1"), (1, b"2 floor=1"), (1, b"3 floor=2")]
    clients = {line for _, line in cluster.lines if b"HELLO" in line}
    assert len(clients) == 1
    assert ledger.failures == {"STORE: connection lost": 1}


def test_a_store_that_is_put_off_is_repeated_where_it_was() -> None:
    put_off = [b's RETRY "no master" outcome=unknown\r\n']

    def answer(node: int, line: bytes) -> bytes | None:
        if line.startswith(b"s "):
            return put_off.pop() if put_off else b"s OK\r\n"
        return line.split()[0] + b" OK\r\n"

    cluster = Cluster(b"* HELLO\r\n", answer)
    asyncio.run(
        cluster.run(lambda nodes, ledger: StoreClient(nodes, 0, ledger, user="a@example.org"))
    )
    stores = [(node, line.split(b"seq=")[1]) for node, line in cluster.lines if b"seq=" in line]
    assert stores[:3] == [(0, b"1"), (0, b"1"), (0, b"2 floor=1")]


def test_a_delivery_that_is_put_off_or_lost_is_tried_again() -> None:
    replies: list[bytes | None] = [None, b"451 4.3.0 later\r\n"]

    def answer(node: int, line: bytes) -> bytes | None:
        if line == b".":
            return replies.pop() if replies else b"250 2.0.0 done\r\n"
        if line.startswith(b"DATA"):
            return b"354 go on\r\n"
        if line.startswith(b"LHLO"):
            return b"250-here\r\n250 PIPELINING\r\n"
        return b"250 ok\r\n" if line[:4] in (b"MAIL", b"RCPT", b"RSET") else b""

    cluster = Cluster(b"220 ready\r\n", answer)
    ledger = asyncio.run(
        cluster.run(
            lambda nodes, ledger: LmtpFailoverClient(nodes, 0, ledger, recipient="a@example.org")
        )
    )
    ends = [node for node, line in cluster.lines if line == b"."]
    assert ends[:5] == [0, 0, 1, 1, 1]
    assert ledger.failures == {"LMTP: 451 4.3.0 later": 1, "LMTP: connection lost": 1}
