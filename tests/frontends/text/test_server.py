"""The listener with real sockets: greeting, compression, half-closed connections, limits, TLS."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import zlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from raftmail.frontends.text.context import TextContext
from raftmail.frontends.text.limits import TextLimits
from raftmail.frontends.text.server import TextListener
from raftmail.frontends.text.session import TextSession
from raftmail.net import tls
from raftmail.net.connection import Connection
from tests.frontends.twin_service import TwinService
from tests.net.certificates import Certificates


@contextlib.asynccontextmanager
async def serving(
    twin: TwinService | None = None,
    limits: TextLimits | None = None,
    *,
    trust: bool = True,
    context: ssl.SSLContext | None = None,
) -> AsyncIterator[tuple[TextListener, int]]:
    front = TextContext(
        twin or TwinService("secret"), "n1", "test", lambda: 1000.0, limits or TextLimits()
    )
    listener = TextListener(front, trust_loopback=trust, tls=context)
    _, port = await listener.listen("127.0.0.1", 0)
    try:
        yield listener, port
    finally:
        await listener.close()


@contextlib.asynccontextmanager
async def dialled(
    port: int, context: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


def only_connection(listener: TextListener) -> Connection:
    (connection,) = listener.listener.connections
    return connection


async def until(condition: Callable[[], object]) -> None:
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it did not come to that")


def test_the_greeting_says_who_serves_and_within_which_limits() -> None:
    async def run() -> None:
        async with serving(trust=False) as (_, port), dialled(port) as (reader, _writer):
            greeting = await reader.readline()
            assert greeting.startswith(
                b"* HELLO raftmail version=1 node=n1 cluster=test authenticated=no"
                b" line_bytes_max=16384 literal_bytes_max="
            )
            assert greeting.endswith(b" capabilities=COMPRESS-DEFLATE,MSAVE,PEER\r\n")

    asyncio.run(run())


def test_answers_come_before_the_end_when_the_client_has_closed_its_half() -> None:
    async def run() -> None:
        twin = TwinService()
        async with serving(twin) as (_, port), dialled(port) as (reader, writer):
            writer.write(b"a CREATE ann x\nb MAILBOXES ann\nc NOOP\n")
            writer.write_eof()
            lines = (await asyncio.wait_for(reader.read(), 5)).splitlines()
            assert {line.split()[0] for line in lines} == {b"*", b"a", b"b", b"c"}

    asyncio.run(run())


def test_after_compress_both_directions_are_deflate() -> None:
    async def run() -> None:
        async with serving() as (_, port), dialled(port) as (reader, writer):
            await reader.readline()
            writer.write(b"a COMPRESS DEFLATE\r\n")
            assert await reader.readline() == b"a OK\r\n"
            deflate, inflate = zlib.compressobj(wbits=-15), zlib.decompressobj(-15)
            many = b"".join(b"t%d NOOP\r\n" % i for i in range(30_000))
            writer.write(deflate.compress(many) + deflate.flush(zlib.Z_SYNC_FLUSH))
            answers = b""
            async with asyncio.timeout(10):
                while answers.count(b"\n") < 30_000:
                    answers += inflate.decompress(await reader.read(65536))
            assert answers == b"".join(b"t%d OK\r\n" % i for i in range(30_000))

    asyncio.run(run())


def test_what_is_not_deflate_after_compress_ends_it() -> None:
    async def run() -> None:
        async with serving() as (_, port), dialled(port) as (reader, writer):
            await reader.readline()
            writer.write(b"a COMPRESS DEFLATE\r\n")
            await reader.readline()
            writer.write(b"b NOOP\r\n" + b"\xff" * 100)
            data = await asyncio.wait_for(reader.read(), 5)
            assert zlib.decompressobj(-15).decompress(data) == b'* BYE "that is not DEFLATE"\r\n'

    asyncio.run(run())


def test_a_compressed_flood_is_inflated_no_further_than_its_commands_are_answered() -> None:
    async def run() -> None:
        twin = TwinService()
        twin.hold = True
        limits = TextLimits(outstanding_commands_max=10)
        async with serving(twin, limits) as (listener, port), dialled(port) as (reader, writer):
            await reader.readline()
            writer.write(b"a COMPRESS DEFLATE\r\n")
            await reader.readline()
            deflate = zlib.compressobj(wbits=-15)
            flood = b"t SUBSCRIBE ann x\r\n" * 200_000
            writer.write(deflate.compress(flood) + deflate.flush(zlib.Z_SYNC_FLUSH))
            await until(lambda: len(twin.held) == 10)
            session = only_connection(listener).session
            assert isinstance(session, TextSession)
            assert session.blocked
            assert len(session._items) < 65536 // 10
            twin.release()
            await until(lambda: len(twin.held) == 10)

    asyncio.run(run())


def test_connections_over_the_limit_are_told_and_closed() -> None:
    async def run() -> None:
        async with serving(limits=TextLimits(connections_max=1)) as (listener, port):
            async with dialled(port) as (reader, _):
                await reader.readline()
                async with dialled(port) as (second, _):
                    data = await asyncio.wait_for(second.read(), 5)
                    assert data == b'* BYE "1 connections already"\r\n'
            await until(lambda: listener.connections == 0)
            async with dialled(port) as (reader, _):
                assert (await reader.readline()).startswith(b"* HELLO")

    asyncio.run(run())


@pytest.mark.parametrize(
    ("sent", "trust", "said"),
    [
        (b"", False, b"no authentication within 10 s"),
        (b"a NOO", True, b"half a request, and nothing more for 60 s"),
        (b"a SAVE 1 {10}\r\nabc", True, b"half a request, and nothing more for 60 s"),
        (b"a NOOP\r\n", True, b"no request for 1800 s"),
    ],
)
def test_who_is_silent_for_too_long_is_told_and_closed(
    sent: bytes, trust: bool, said: bytes
) -> None:
    async def run() -> None:
        async with serving(trust=trust) as (listener, port), dialled(port) as (reader, writer):
            await reader.readline()
            connection = only_connection(listener)
            before = connection.heard_at = connection.heard_at - (1.0 if sent else 0.0)
            writer.write(sent)
            if sent:
                await until(lambda: connection.heard_at != before)
            limit_s = {b"no a": 10.0, b"half": 60.0, b"no r": 1800.0}[said[:4]]
            connection.check(connection.heard_at + limit_s - 0.5)
            assert not connection._closing
            connection.check(connection.heard_at + limit_s + 0.5)
            assert said in await asyncio.wait_for(reader.read(), 5)

    asyncio.run(run())


def test_an_outstanding_command_keeps_a_silent_connection_open() -> None:
    async def run() -> None:
        twin = TwinService()
        twin.hold = True
        async with serving(twin) as (listener, port), dialled(port) as (reader, writer):
            await reader.readline()
            writer.write(b"a CREATE ann x\r\n")
            await until(lambda: twin.held)
            connection = only_connection(listener)
            connection.check(connection.heard_at + 10_000)
            twin.release()
            assert (await asyncio.wait_for(reader.readline(), 5)).startswith(b"a OK")

    asyncio.run(run())


def test_a_slow_reader_stops_being_read_and_is_cut_off() -> None:
    async def run() -> None:
        twin = TwinService()
        limits = TextLimits(output_bytes_max=64 * 1024)
        async with serving(twin, limits) as (listener, port), dialled(port) as (reader, writer):
            await reader.readline()
            writer.write(b"a CREATE ann x\r\nb MAILBOX 1 ann x\r\n")
            body = b"x" * 1_000_000
            writer.write(b"c SAVE 1 {%d}\r\n%b\r\n" % (len(body), body))
            await until(lambda: twin.bodies)
            writer.write(b"".join(b"f%d FETCH 1 1\r\n" % i for i in range(200)))
            connection = only_connection(listener)
            await until(lambda: connection.congested)
            assert connection.session.blocked
            front = listener.front
            assert front.budget.used_bytes <= 4 * len(body)
            connection.check(connection._congested_at + 29)
            assert not connection._transport.is_closing()
            connection.check(connection._congested_at + 31)
            await until(lambda: listener.connections == 0)
            await until(lambda: front.budget.used_bytes == 0)

    asyncio.run(run())


def test_a_service_that_raises_costs_the_connection_and_nothing_else() -> None:
    class Broken(TwinService):
        def submit(self, *args: object) -> None:
            raise RuntimeError("a bug")

    async def run() -> None:
        async with serving(Broken()) as (listener, port):
            async with dialled(port) as (reader, writer):
                writer.write(b"a CREATE ann x\r\n")
                with contextlib.suppress(ConnectionError):
                    await asyncio.wait_for(reader.read(), 5)
            async with dialled(port) as (reader, _):
                assert (await reader.readline()).startswith(b"* HELLO")
            await until(lambda: listener.connections == 0)

    asyncio.run(run())


def test_an_outcome_after_the_client_has_gone_is_dropped() -> None:
    async def run() -> None:
        twin = TwinService()
        twin.hold = True
        async with serving(twin) as (listener, port):
            async with dialled(port) as (_, writer):
                writer.write(b"a CREATE ann x\r\nb CREATE ann y\r\n")
                await until(lambda: len(twin.held) == 2)
            await asyncio.sleep(0.02)
            twin.release()
            await until(lambda: listener.connections == 0)

    asyncio.run(run())


def test_closing_the_listener_says_goodbye() -> None:
    async def run() -> None:
        async with serving() as (listener, port), dialled(port) as (reader, _):
            await reader.readline()
            await listener.close()
            assert await asyncio.wait_for(reader.read(), 5) == b'* BYE "the node stops"\r\n'

    asyncio.run(run())


def test_peers_are_refused_where_none_are_taken() -> None:
    async def run() -> None:
        async with serving(trust=False) as (_, port), dialled(port) as (reader, writer):
            await reader.readline()
            writer.write(b"p1 PEER HELLO\r\n")
            data = await asyncio.wait_for(reader.read(), 5)
            assert data == b'p1 NO CANNOT "no peers are taken here"\r\n'

    asyncio.run(run())


def test_clients_speak_over_tls_with_the_cluster_authority_and_no_other(tmp_path: Path) -> None:
    mine, other = Certificates(tmp_path / "a", "test"), Certificates(tmp_path / "b", "test")

    async def run() -> None:
        context = tls.server_context(mine.files("n1"))
        async with serving(context=context) as (_, port):
            good = tls.client_context(mine.ca)
            async with dialled(port, good) as (reader, writer):
                assert (await reader.readline()).startswith(b"* HELLO raftmail")
                writer.write(b"a NOOP\r\n")
                assert await reader.readline() == b"a OK\r\n"
            with pytest.raises(ssl.SSLError) as caught:
                async with dialled(port, tls.client_context(other.ca)):
                    pass
            assert "not of this cluster" in tls.explain(caught.value)

    asyncio.run(run())


def test_every_outcome_of_a_submit_is_one_answer_however_late() -> None:
    async def run() -> None:
        twin = TwinService()
        twin.hold = True
        async with serving(twin) as (_, port), dialled(port) as (reader, writer):
            await reader.readline()
            writer.write(b"".join(b"t%d CREATE ann x%d\r\n" % (i, i) for i in range(50)))
            await until(lambda: len(twin.held) == 50)
            twin.held.reverse()
            twin.release()
            tags = [(await reader.readline()).split()[0] for _ in range(50)]
            assert tags == [b"t%d" % i for i in reversed(range(50))]

    asyncio.run(run())
