"""Headers of the PROXY protocol: what is read, what is refused, and who is believed."""

from __future__ import annotations

import asyncio
import ipaddress
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from raftmail.net.connection import Connection
from raftmail.net.limits import ConnectionLimits
from raftmail.net.listener import Listener
from raftmail.net.proxy_protocol import (
    SIGNATURE,
    NoProxyHeader,
    ProxyHeaderReader,
    header_for,
)
from raftmail.net.session import Bye, Session

V4 = b"PROXY TCP4 192.0.2.7 198.51.100.1 40000 143\r\n"
V6 = b"PROXY TCP6 2001:db8::7 2001:db8::1 40000 993\r\n"
LOCALLY = (ipaddress.ip_network("127.0.0.0/8"),)


def _read(data: bytes, piece_bytes: int = 1 << 20) -> tuple[str, int]:
    """The client that a header names, and how much of the data was taken."""
    reader, at = ProxyHeaderReader(), 0
    while at < len(data):
        taken = data[at : at + min(piece_bytes, reader.wanted_bytes)]
        at += len(taken)
        header = reader.feed(taken)
        if header is not None:
            return header.client, at
    raise AssertionError("the header did not end")


@pytest.mark.parametrize("piece_bytes", [1, 2, 5, 1 << 20])
@pytest.mark.parametrize(
    ("header", "client"),
    [
        (V4, "192.0.2.7"),
        (V6, "2001:db8::7"),
        (b"PROXY UNKNOWN\r\n", ""),
        (b"PROXY UNKNOWN ffff:f::1 ffff::1 65535 65535\r\n", ""),
        (header_for("192.0.2.7", "198.51.100.1"), "192.0.2.7"),
        (header_for("2001:db8::7", "198.51.100.1"), "2001:db8::7"),
        (header_for(""), ""),
        (SIGNATURE + struct.pack("!BBH", 0x21, 0x31, 216) + bytes(216), ""),
        (SIGNATURE + struct.pack("!BBH", 0x21, 0x11, 20) + bytes([192, 0, 2, 7]) + bytes(16),
         "192.0.2.7"),
    ],
)  # fmt: skip
def test_a_header_is_read_however_it_is_cut_and_nothing_behind_it(
    header: bytes, client: str, piece_bytes: int
) -> None:
    assert _read(header + b"a LOGIN x y\r\n", piece_bytes) == (client, len(header))


@pytest.mark.parametrize(
    "data",
    [
        b"a LOGIN anna secret\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 40000 99999\r\n",
        b"PROXY TCP4 2001:db8::7 2001:db8::1 1 2\r\n",
        b"PROXY TCP4 192.0.2.256 198.51.100.1 1 2\r\n",
        b"PROXY TCP9 192.0.2.7 198.51.100.1 1 2\r\n",
        b"PROXY TCP4 192.0.2.7\n198.51.100.1 1 2\r\n",
        b"PROXY TCP4 " + b"1" * 200,
        SIGNATURE + struct.pack("!BBH", 0x31, 0x11, 12) + bytes(12),
        SIGNATURE + struct.pack("!BBH", 0x21, 0x11, 4) + bytes(4),
        SIGNATURE + struct.pack("!BBH", 0x21, 0x11, 65535) + bytes(12),
    ],
)
def test_what_is_no_header_is_refused_within_a_bound(data: bytes) -> None:
    with pytest.raises(NoProxyHeader):
        _read(data)


class _Whom(Session):
    """Says at once for whom it takes the other side, and whether on this machine."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def start(self) -> None:
        text = f"{self._connection.address} {self._connection.is_loopback}\r\n"
        self._connection.write(text.encode())

    def receive(self, data: bytes) -> None:
        self._connection.write(data)

    def bye(self, why: Bye, text: str) -> None:
        self._connection.write(f"bye {text}\r\n".encode())
        self._connection.hang_up()


@asynccontextmanager
async def _listening(limits: ConnectionLimits) -> AsyncIterator[int]:
    listener = Listener(_Whom, limits)
    _, port = await listener.listen_tcp("127.0.0.1", 0)
    try:
        yield port
    finally:
        await listener.stop(0)


async def _said(port: int, data: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    writer.write_eof()
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


def test_a_configured_proxy_says_for_whom_it_speaks_and_what_follows_is_the_clients() -> None:
    async def check() -> None:
        async with _listening(ConnectionLimits(proxy_networks=LOCALLY)) as port:
            assert await _said(port, V4 + b"x") == b"192.0.2.7 False\r\nx"
            assert await _said(port, header_for("192.0.2.8")) == b"192.0.2.8 False\r\n"
            assert await _said(port, header_for("")) == b"127.0.0.1 True\r\n"

    asyncio.run(check())


def test_a_proxy_that_sends_no_header_is_closed_in_time() -> None:
    async def check() -> None:
        limits = ConnectionLimits(proxy_networks=LOCALLY, handshake_s=0.1)
        async with _listening(limits) as port:
            assert await _said(port, b"a LOGIN anna secret\r\n") == b""
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            assert await reader.read() == b"", "it said nothing at all"
            writer.close()

    asyncio.run(check())


def test_a_header_from_a_stranger_is_not_believed() -> None:
    async def check() -> None:
        elsewhere = (ipaddress.ip_network("192.0.2.0/24"),)
        for networks in ((), elsewhere):
            async with _listening(ConnectionLimits(proxy_networks=networks)) as port:
                assert await _said(port, V4) == b"127.0.0.1 True\r\n" + V4

    asyncio.run(check())


def test_connections_of_a_proxy_are_counted_at_their_clients_addresses() -> None:
    async def check() -> None:
        limits = ConnectionLimits(proxy_networks=LOCALLY, address_connections_max=1)
        async with _listening(limits) as port:
            open_ = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
            said = []
            for (reader, writer), client in zip(
                open_, ("192.0.2.7", "192.0.2.8", "192.0.2.7"), strict=True
            ):
                writer.write(header_for(client))
                said.append(await reader.readline())
            assert said[:2] == [b"192.0.2.7 False\r\n", b"192.0.2.8 False\r\n"]
            assert said[2].startswith(b"bye 1 connections from this address")
            for _, writer in open_:
                writer.close()

    asyncio.run(check())
