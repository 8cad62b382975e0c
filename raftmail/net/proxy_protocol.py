"""The PROXY protocol, versions 1 and 2: a proxy says before all else for which client it speaks.

The header is believed from configured networks only, and there it has to come first. A server that
greets cannot know whether one is still to come, so it does not guess.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
import struct
from dataclasses import dataclass
from typing import Final

SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
_FIXED_BYTES: Final = 16
_LINE_BYTES_MAX: Final = 107
_REST_BYTES_MAX: Final = 1024
"""Of version 2, behind the fixed part: addresses, and what a proxy tells besides."""

_LINE = re.compile(rb"PROXY (TCP4|TCP6) ([0-9A-Fa-f.:]+) ([0-9A-Fa-f.:]+) ([0-9]+) ([0-9]+)\r\n")
_PORT_MAX: Final = 65_535
_LOCAL, _PROXY = 0x20, 0x21
_TCP4, _TCP6 = 0x11, 0x21
_ADDRESS_BYTES: Final = {_TCP4: 4, _TCP6: 16}


class NoProxyHeader(OSError):
    """What a connection began with is no header of the PROXY protocol."""


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """For whom a proxy speaks; "" when it speaks for itself, or does not tell."""

    client: str


class ProxyHeaderReader:
    """Takes what comes first on a connection. No more than `wanted_bytes` may be read for the next
    `feed`, so that nothing behind the header is taken."""

    def __init__(self) -> None:
        self._data = bytearray()
        self.wanted_bytes = len(SIGNATURE)

    def feed(self, data: bytes) -> ProxyHeader | None:
        """Go on; None until the header is whole. Raises `NoProxyHeader`."""
        held = self._data
        held += data
        self.wanted_bytes -= len(data)
        if not (SIGNATURE.startswith(held[:12]) or b"PROXY ".startswith(held[:6])):
            raise NoProxyHeader("it began without a header of the PROXY protocol")
        if self.wanted_bytes > 0:
            return None
        return self._go_on_v2() if held[:1] == b"\r" else self._go_on_v1()

    def _go_on_v1(self) -> ProxyHeader | None:
        held = self._data
        if held.endswith(b"\r\n"):
            return _read_line(bytes(held))
        if len(held) >= _LINE_BYTES_MAX or b"\n" in held:
            raise NoProxyHeader("the line of its PROXY header does not end as it should")
        self.wanted_bytes = 1 if held.endswith(b"\r") else 2
        return None

    def _go_on_v2(self) -> ProxyHeader | None:
        held = self._data
        if len(held) < _FIXED_BYTES:
            self.wanted_bytes = _FIXED_BYTES - len(held)
            return None
        command, family, rest_bytes = struct.unpack_from("!BBH", held, len(SIGNATURE))
        if command not in (_LOCAL, _PROXY) or rest_bytes > _REST_BYTES_MAX:
            raise NoProxyHeader("its PROXY header is of no version that is known here")
        if len(held) < _FIXED_BYTES + rest_bytes:
            self.wanted_bytes = _FIXED_BYTES + rest_bytes - len(held)
            return None
        size = _ADDRESS_BYTES.get(family)
        if command == _LOCAL or size is None:
            return ProxyHeader("")
        if rest_bytes < 2 * size + 4:
            raise NoProxyHeader("its PROXY header is too short for addresses")
        packed = bytes(held[_FIXED_BYTES : _FIXED_BYTES + size])
        return ProxyHeader(str(ipaddress.ip_address(packed)))


def _read_line(line: bytes) -> ProxyHeader:
    if line.startswith(b"PROXY UNKNOWN"):
        return ProxyHeader("")
    found = _LINE.fullmatch(line)
    if found is None:
        raise NoProxyHeader("its PROXY header is not of version 1")
    try:
        client, server = (ipaddress.ip_address(found[at].decode()) for at in (2, 3))
    except ValueError:
        raise NoProxyHeader("its PROXY header has no IP addresses") from None
    version = 4 if found[1] == b"TCP4" else 6
    if (client.version, server.version) != (version, version):
        raise NoProxyHeader("its PROXY header has addresses of another family than it says")
    if any(int(found[at]) > _PORT_MAX for at in (4, 5)):
        raise NoProxyHeader("its PROXY header has no ports")
    return ProxyHeader(str(client))


def header_for(client: str, server: str = "") -> bytes:
    """A header of version 2 for a client's IP address, and for one at which it was met. "" is the
    proxy itself."""
    try:
        source = ipaddress.ip_address(client)
        target = ipaddress.ip_address(server or ("::" if source.version == 6 else "0.0.0.0"))
    except ValueError:
        return SIGNATURE + struct.pack("!BBH", _LOCAL, 0, 0)
    if source.version != target.version:
        target = ipaddress.ip_address("::" if source.version == 6 else "0.0.0.0")
    addresses = source.packed + target.packed + bytes(4)
    family = _TCP6 if source.version == 6 else _TCP4
    return SIGNATURE + struct.pack("!BBH", _PROXY, family, len(addresses)) + addresses


async def read_header(sock: socket.socket, timeout_s: float) -> ProxyHeader:
    """Take the header off a connection that was accepted. Raises OSError, TimeoutError."""
    loop = asyncio.get_running_loop()
    reader = ProxyHeaderReader()
    async with asyncio.timeout(timeout_s):
        while True:
            data = await loop.sock_recv(sock, reader.wanted_bytes)
            if not data:
                raise NoProxyHeader("it ended before its PROXY header was whole")
            header = reader.feed(data)
            if header is not None:
                return header
