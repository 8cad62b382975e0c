"""A connection to a node: lines while a log-in is led, then bytes as they come."""

from __future__ import annotations

import asyncio
import logging
import ssl
from typing import Final, Protocol, cast

from raftmail.net.errors import contained, tell
from raftmail.proxy.nodes import NodeMemory

_log = logging.getLogger("raftmail.proxy")

LINE_BYTES_MAX: Final = 64 * 1024
"""Of a line that a node sends before bytes are copied."""
UNSENT_BYTES_MAX: Final = 1024 * 1024
"""What a node has not taken: above it, its client is not read from."""
READ_BYTES_MAX: Final = 256 * 1024


class NodeLost(Exception):
    """A node cannot be used, or not any more; the text says why."""


class NodeTaker(Protocol):
    """Who takes what a node sends, once bytes are copied."""

    def node_sent(self, data: bytes) -> None:
        """These bytes came."""

    def node_writable(self) -> None:
        """The node takes bytes again."""

    def node_lost(self) -> None:
        """The connection is gone."""


class NodeConnection(asyncio.BufferedProtocol):
    """Invariant: what is not taken is at most one line and one read; then nothing is read."""

    _buffer: Final = memoryview(bytearray(READ_BYTES_MAX))
    """For all connections: what came is copied before anything else can be read."""

    def __init__(self, memory: NodeMemory) -> None:
        self.memory = memory
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._taker: NodeTaker | None = None
        self._unread = bytearray()
        self._wake: asyncio.Future[None] | None = None
        self._paused = False
        self.lost = False
        self.congested = False
        """The node has left `UNSENT_BYTES_MAX` unread."""

    # -- the loop's calls --------------------------------------------------------------------

    @contained
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=UNSENT_BYTES_MAX)
        self.memory.connections.add(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    @contained
    def buffer_updated(self, nbytes: int) -> None:
        data = bytes(self._buffer[:nbytes])
        self.memory.heard_at = self._loop.time()
        if self._taker is not None:
            self._taker.node_sent(data)
            return
        self._unread += data
        if len(self._unread) > LINE_BYTES_MAX:
            self.pause_reading()
        self._awake()

    @contained
    def eof_received(self) -> bool:
        return False

    @contained
    def connection_lost(self, exc: Exception | None) -> None:
        if self.lost:
            return
        self.lost = True
        self.memory.connections.discard(self)
        self._awake()
        if self._taker is not None:
            self._taker.node_lost()

    @contained
    def pause_writing(self) -> None:
        self.congested = True

    @contained
    def resume_writing(self) -> None:
        self.congested = False
        if self._taker is not None:
            self._taker.node_writable()

    def failed(self, error: Exception) -> None:
        """See `errors.Contained`."""
        tell(_log, "a connection to a node failed and is closed", error)
        self.abort()

    # -- while lines are spoken --------------------------------------------------------------

    async def line(self) -> bytes:
        """The next line, without its end. Raises `NodeLost`."""
        while True:
            end = self._unread.find(b"\n")
            if end >= 0:
                line = bytes(self._unread[:end]).removesuffix(b"\r")
                del self._unread[: end + 1]
                self.resume_reading()
                return line
            if self.lost:
                raise NodeLost("it closed the connection")
            if len(self._unread) > LINE_BYTES_MAX:
                raise NodeLost("it sends a line without an end")
            self._wake = self._loop.create_future()
            await self._wake

    def write(self, data: bytes) -> None:
        """Send."""
        if self._transport is not None and not self.lost:
            self._transport.write(data)

    async def secure(self, context: ssl.SSLContext, name: str | None, timeout_s: float) -> None:
        """Do the client's side of a TLS handshake. Raises OSError, TimeoutError, `NodeLost`."""
        plain = self._transport
        if plain is None or self.lost or self._unread:
            raise NodeLost("it said something before TLS had begun")
        secured = await self._loop.start_tls(
            plain, self, context, server_hostname=name, ssl_handshake_timeout=timeout_s
        )
        if secured is None:
            raise NodeLost("it closed the connection in the TLS handshake")
        self._transport = secured
        secured.set_write_buffer_limits(high=UNSENT_BYTES_MAX)

    @property
    def certificate(self) -> object:
        """What the node has shown, as `ssl.SSLSocket.getpeercert` gives it."""
        return None if self._transport is None else self._transport.get_extra_info("peercert")

    # -- while bytes are copied --------------------------------------------------------------

    def copy_to(self, taker: NodeTaker) -> None:
        """Hand over all that comes from here on, and what is there at once."""
        self._taker = taker
        held, self._unread = bytes(self._unread), bytearray()
        if held:
            taker.node_sent(held)
        if self.lost:
            taker.node_lost()

    def let_go(self) -> None:
        """Tell nobody any more, and close."""
        self._taker = None
        if self._transport is not None:
            self._transport.close()

    def pause_reading(self) -> None:
        """Nothing more can be taken just now."""
        if not self._paused and self._transport is not None and not self.lost:
            self._paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Take more. Harmless where it was not paused."""
        if self._paused and self._transport is not None and not self.lost:
            self._paused = False
            self._transport.resume_reading()

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    def _awake(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)
