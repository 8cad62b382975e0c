"""What an operator is told of an address where no node of the cluster answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from raftmail.client import Client, ClientError, ProtocolError, TryAgain, dispatcher
from raftmail.frontends.text.server import TextListener
from raftmail.mail.failures import Failure
from raftmail.net import tls
from tests.client.flaky_server import TOKEN, Node
from tests.frontends.twin_service import TwinService
from tests.net.certificates import Certificates

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("tls") / "mine", "test")


@asynccontextmanager
async def server(serve: Serve) -> AsyncIterator[str]:
    one = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{one.sockets[0].getsockname()[1]}"
    finally:
        one.close()


async def told(*addresses: str, ca: Path, timeout_s: float = 1.0) -> str:
    async with Client(addresses, ca=ca, token=TOKEN, timeout_s=timeout_s) as client:
        with pytest.raises(ClientError) as failed:
            await client.ping()
    return str(failed.value)


@pytest.mark.parametrize(
    ("greeting", "words"),
    [
        (b"220 mail1 LMTP raftmail\r\n", "an LMTP server answers there"),
        (b"220 mail1 ESMTP Postfix\r\n", "a mail server answers there"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "no node of raftmail answers there ('SSH-2.0-OpenSSH_9.2')"),
        (b"\x00\x1b[31m\xff\r\n", "no node of raftmail answers there"),
    ],
)
def test_another_server_is_told_by_what_it_says(
    mine: Certificates, greeting: bytes, words: str
) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        await reader.read(1)
        writer.close()

    async def run() -> None:
        async with server(serve) as address:
            text = await told(address, ca=mine.ca, timeout_s=3.0)
            assert f"{address}: {words}" in text and "give the address for clients" in text
            assert text.isprintable()

    asyncio.run(run())


def test_a_server_that_says_nothing_is_told(
    mine: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "_CONNECT_S", 0.2)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(1000):
            pass
        writer.close()

    async def run() -> None:
        async with server(serve) as address:
            text = await told(address, ca=mine.ca, timeout_s=2.0)
            assert f"{address}: the connection is taken, and nothing said for 0.2 s" in text

    asyncio.run(run())


def test_a_closed_port_and_a_name_that_nobody_has_are_told(
    mine: Certificates, free_port: int
) -> None:
    async def run() -> None:
        closed = f"127.0.0.1:{free_port}"
        text = await told(closed, "no-such-host.invalid:9001", ca=mine.ca)
        assert f"{closed}: nobody listens there" in text
        assert "no-such-host.invalid:9001: the host's name does not resolve" in text

    asyncio.run(run())


@asynccontextmanager
async def node(files: tls.TlsFiles) -> AsyncIterator[tuple[Node, str]]:
    twin = Node(TwinService())
    listener = TextListener(twin.front, tls=tls.server_context(files))
    _, port = await listener.listen("127.0.0.1", 0)
    try:
        yield twin, f"127.0.0.1:{port}"
    finally:
        await listener.close()


def test_a_foreign_node_ends_the_call_at_once(tmp_path: Path, mine: Certificates) -> None:
    other = Certificates(tmp_path / "other", "test")

    async def run() -> None:
        async with (
            node(other.files("n1")) as (_, address),
            Client(address, ca=mine.ca, token=TOKEN, timeout_s=60.0) as client,
        ):
            with pytest.raises(ProtocolError, match=r"is ca\.pem that of the cluster"):
                await client.ping()

    asyncio.run(run())


def test_an_expired_certificate_is_told(tmp_path: Path) -> None:
    past = datetime.now(UTC) - timedelta(days=365 * 6)
    ca = tls.create_ca("test", past)
    files = tls.TlsFiles(tmp_path / "ca.pem", tmp_path / "n.pem", tmp_path / "n.key")
    files.ca.write_bytes(ca.certificate)
    tls.save(tls.issue(ca, "n1", ["127.0.0.1"], past), files.certificate, files.key)

    async def run() -> None:
        async with node(files) as (_, address):
            text = await told(address, ca=files.ca, timeout_s=10.0)
            assert f"{address}: the other side's certificate has expired" in text

    asyncio.run(run())


def test_what_a_node_says_comes_before_who_could_not_be_reached(
    mine: Certificates, free_port: int
) -> None:
    async def run() -> None:
        async with node(mine.files("n1")) as (twin, address):
            twin.twin.failures += [Failure("shard 1 has no master: n2 does not answer")] * 1000
            addresses = (f"127.0.0.1:{free_port}", address)
            async with Client(addresses, ca=mine.ca, token=TOKEN, timeout_s=1.0) as client:
                with pytest.raises(TryAgain, match=r"^shard 1 has no master: n2 does not answer$"):
                    await client.create_mailbox("ann", "x")

    asyncio.run(run())
