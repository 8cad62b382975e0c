"""Reaching a node: within a bounded time, over TLS that is verified, for a client that is named."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from raftmail.mail.endpoint import dialled
from raftmail.net.proxy_protocol import header_for
from raftmail.net.tls import Authority, TlsError, explain
from raftmail.proxy.node_connection import NodeConnection, NodeLost
from raftmail.proxy.nodes import NodeMemory, NodeTable

_log = logging.getLogger("raftmail.proxy")

ROUND_S: Final = 0.3
"""Between two rounds of tries, when no node could be used."""

_GREETINGS: Final = {"imaps": b"* OK", "pop3s": b"+OK", "lmtp": b"220"}


@dataclass(frozen=True, slots=True)
class NodeTrust:
    """How nodes are known to be of the cluster. For mail programs they may show a certificate of
    another authority, which has to be for `name` then."""

    authority: Authority
    programs: ssl.SSLContext | None = None
    name: str = ""

    @staticmethod
    def read(ca: Path, programs_ca: str, name: str) -> NodeTrust:
        """`programs_ca` is a file, "system", or "" for the cluster's own. Raises `TlsError`."""
        authority = Authority.read(ca)
        if not programs_ca:
            return NodeTrust(authority)
        try:
            context = ssl.create_default_context(
                cafile=None if programs_ca == "system" else programs_ca
            )
        except (OSError, ssl.SSLError) as error:
            raise TlsError(f"{programs_ca}: no certificates of authorities ({error})") from None
        return NodeTrust(authority, context, name)

    async def secure(self, connection: NodeConnection, protocol: str, timeout_s: float) -> None:
        """Begin TLS and look who it is. Raises OSError, TimeoutError, `TlsError`, `NodeLost`."""
        if protocol != "lmtp" and self.programs is not None:
            await connection.secure(self.programs, self.name, timeout_s)
            return
        await connection.secure(self.authority.context, None, timeout_s)
        self.authority.check(cast("Mapping[str, Any] | None", connection.certificate))


@dataclass(slots=True, repr=False)
class Dialler:
    """`connect_s` bounds all from the first packet to the greeting. Without `tells_clients`, nodes
    are not told for whom it speaks."""

    table: NodeTable
    trust: NodeTrust
    connect_s: float = 1.0
    tells_clients: bool = True
    host: str = "localhost"

    async def rounds(
        self, protocol: str, first: Sequence[str], patience_s: float
    ) -> AsyncIterator[NodeMemory]:
        """Nodes to try, one after the other, again and again until `patience_s` is over."""
        loop = asyncio.get_running_loop()
        end = loop.time() + patience_s
        while True:
            for memory in self.table.order(protocol, first, loop.time()):
                yield memory
            if loop.time() + ROUND_S >= end:
                return
            await asyncio.sleep(ROUND_S)

    async def dial(self, memory: NodeMemory, protocol: str, client: str) -> NodeConnection:
        """A connection on which the node has greeted. `client` is whom it is for, by IP address;
        "" is the proxy itself. Raises `NodeLost`."""
        loop = asyncio.get_running_loop()
        connection = NodeConnection(memory)
        name = memory.node.name
        try:
            async with asyncio.timeout(self.connect_s):
                host, port = dialled(memory.node.addresses[protocol])
                await loop.create_connection(lambda: connection, host, port)
                await self._greet(connection, protocol, client)
        except (OSError, TimeoutError, TlsError, NodeLost) as error:
            connection.abort()
            why = explain(error)
            memory.failed_at = loop.time()
            if memory.said != why:
                _log.warning("node %s (%s) is passed over: %s", name, protocol, why)
            memory.said = why
            raise NodeLost(f"node {name}: {why}") from None
        except BaseException:
            connection.abort()
            raise
        if memory.said:
            _log.info("node %s is there again", name)
        memory.said = ""
        memory.failed_at = float("-inf")
        return connection

    async def _greet(self, connection: NodeConnection, protocol: str, client: str) -> None:
        if self.tells_clients:
            connection.write(header_for(client))
        if protocol == "managesieve":
            await self._begin_managesieve(connection)
            return
        if protocol != "lmtp":
            await self.trust.secure(connection, protocol, self.connect_s)
        greeting = await connection.line()
        if not greeting.startswith(_GREETINGS[protocol]):
            raise NodeLost(f"it does not let anyone in: {greeting[:100].decode('latin-1')}")
        if protocol == "lmtp":
            await self._introduce(connection)

    async def _introduce(self, connection: NodeConnection) -> None:
        """LHLO, STARTTLS, and LHLO once more (RFC 3207 section 4.2)."""
        hello = b"LHLO %b\r\n" % self.host.encode()
        await self._expect(connection, hello, b"250")
        await self._expect(connection, b"STARTTLS\r\n", b"220")
        await self.trust.secure(connection, "lmtp", self.connect_s)
        await self._expect(connection, hello, b"250")

    async def _begin_managesieve(self, connection: NodeConnection) -> None:
        """The greeting, STARTTLS, and the greeting once more (RFC 5804 section 2.2)."""
        await self._pass_greeting(connection)
        connection.write(b"STARTTLS\r\n")
        line = await connection.line()
        if not line.startswith(b"OK"):
            raise NodeLost(f"it begins no TLS: {line[:100].decode('latin-1')}")
        await self.trust.secure(connection, "managesieve", self.connect_s)
        await self._pass_greeting(connection)

    @staticmethod
    async def _pass_greeting(connection: NodeConnection) -> None:
        """Capabilities up to OK."""
        while not (line := await connection.line()).startswith(b"OK"):
            if not line.startswith(b'"'):
                raise NodeLost(f"it does not let anyone in: {line[:100].decode('latin-1')}")

    @staticmethod
    async def _expect(connection: NodeConnection, command: bytes, code: bytes) -> None:
        connection.write(command)
        while True:
            line = await connection.line()
            if not line.startswith(code):
                raise NodeLost(f"it says to {command.strip().decode()}: {line.decode('latin-1')}")
            if line[3:4] != b"-":
                return
