"""The listener, and the connections of clients until they end or become links of peers.

Protocols, not streams, so that it runs as it is on asyncio's loop and on uvloop's.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import zlib
from collections.abc import Coroutine
from typing import Any, Protocol, cast

from raftmail.frontends.text.context import TextContext
from raftmail.frontends.text.session import TextSession
from raftmail.net.door import Door, Pass, is_loopback, listening_sockets
from raftmail.net.errors import contained, start_task, tell
from raftmail.net.gate import Descriptors, Gate, GateLimits
from raftmail.net.lines import Line, quote_text

_log = logging.getLogger(__name__)

_SWEEP_S = 1.0
_INFLATED_BYTES_MAX = 64 * 1024
"""Inflated for one connection in one turn of the loop."""
_COMPRESSION_LEVEL = 3
_NO_HEADER = -15  # raw DEFLATE (RFC 1951)


class PeerAcceptor(Protocol):
    """Takes over a connection whose other side says that it is a peer; `peering.peers.PeerNet` does."""

    def accept(self, transport: asyncio.Transport, line: Line, rest: bytes) -> None:
        """`line` is PEER HELLO, `rest` what was received after it. Answers, and either makes the
        transport a link or closes it."""


class TextConnection(asyncio.Protocol):
    """One accepted connection: bytes in and out, compression, and back-pressure, of one `TextSession`.

    Invariants:
    1. While the session is blocked nothing is read, so what is held is bounded by the session's
       limits, one chunk, and one compressed chunk.
    2. Answers of one turn of the loop leave in one write.
    3. In one turn of the loop a bounded piece of what came is inflated and looked at."""

    def __init__(self, listener: TextListener, entry: Pass) -> None:
        self._listener = listener
        self._entry = entry
        self._known = False
        self._resuming = False
        self._inflating = False  # there may be more to inflate than was in this turn
        self._front = listener.front
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._session: TextSession
        self._out: list[bytes] = []
        self._flushing = False
        self._reading = True
        self._eof = False
        self._closing = False
        self.congested = False
        self._congested_at = 0.0
        self._writable = asyncio.Event()
        self._writable.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._deflate: zlib._Compress | None = None
        self._inflate: zlib._Decompress | None = None
        self._deflated = b""
        self._began = self._heard = self._loop.time()

    # asyncio.Protocol

    @contained
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's TLS transport is no subclass of asyncio.Transport, but has all it has.
        transport = cast(asyncio.Transport, transport)
        self._transport = transport
        self._entry.hold(transport)
        limits = self._front.limits
        transport.set_write_buffer_limits(high=limits.output_bytes_max)
        trusted = self._listener.trust_loopback and is_loopback(transport)
        self._session = TextSession(self._front, self, trusted=trusted)
        self._listener.keep(self)
        refused = self._entry.admit()
        if refused:
            self._bye(refused)
            return
        self._session.start()

    @contained
    def data_received(self, data: bytes) -> None:
        self._heard = self._loop.time()
        if self._inflate is not None:
            self._deflated += data
            self._pump()
        else:
            self._session.receive(data)
        if not self._known and self._session.authenticated:
            self._known = True
            self._entry.know()
        self._set_reading()

    @contained
    def eof_received(self) -> bool:
        self._eof = True
        self._flush_soon()
        return self._transport.get_extra_info("ssl_object") is None

    @contained
    def connection_lost(self, exc: Exception | None) -> None:
        self._closing = True
        self._session.end()
        self._entry.leave()
        self._listener.forget(self)
        self._writable.set()
        for task in self._tasks:
            task.cancel()

    @contained
    def pause_writing(self) -> None:
        self.congested = True
        self._congested_at = self._loop.time()
        self._writable.clear()
        self._set_reading()

    @contained
    def resume_writing(self) -> None:
        self.congested = False
        self._writable.set()
        self.resume_soon()

    # The session's channel

    def write(self, data: bytes) -> None:
        """See `responses.Channel`."""
        self._out.append(data)
        if not self._flushing:
            self._flush_soon()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """See `responses.Channel`."""
        task = start_task(self._loop, work, self.failed)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def resume_soon(self) -> None:
        """See `responses.Channel`."""
        if not self._resuming:
            self._resuming = True
            self._loop.call_soon(self._resume)

    async def drained(self) -> None:
        """See `responses.Channel`."""
        self._flush()
        await self._writable.wait()

    def compress(self) -> None:
        """See `responses.Channel`."""
        self._flush()
        self._deflate = zlib.compressobj(_COMPRESSION_LEVEL, zlib.DEFLATED, _NO_HEADER)
        self._inflate = zlib.decompressobj(_NO_HEADER)

    def become_peer(self, line: Line, rest: bytes) -> None:
        """See `responses.Channel`."""
        self._flush()
        peers = self._listener.peers
        if peers is None or self._inflate is not None:
            self.write(b'%b NO CANNOT "no peers are taken here"\r\n' % line.words[0][:64])
            self.hang_up()
            return
        self._listener.forget(self)
        self._entry.leave()  # a peer has no limit, and its descriptor is counted with the files
        self._closing = True
        if not self._reading:
            self._transport.resume_reading()
        peers.accept(self._transport, line, rest)

    def hang_up(self) -> None:
        """See `responses.Channel`."""
        if not self._closing:
            self._eof = False  # it is closed now, not when the last answer has gone
            self._flush()
            self._closing = True
            self._congested_at = self._loop.time()
            self._transport.close()

    # Time

    @contained
    def check(self, now: float) -> None:
        """Once a second: end what has been silent or slow for too long."""
        limits = self._front.limits
        session = self._session
        if self._closing or self.congested:
            if now - self._congested_at > limits.slow_reader_s:
                self._transport.abort()
            return
        silent_s = now - self._heard
        if self._eof:
            self._flush_soon()
        elif not session.authenticated:
            if now - self._began > limits.handshake_s:
                self._bye(f"no authentication within {limits.handshake_s:g} s")
        elif session.outstanding:
            pass
        elif session.inside_request and silent_s > limits.stalled_request_s:
            self._bye(f"half a request, and nothing more for {limits.stalled_request_s:g} s")
        elif silent_s > limits.idle_s:
            self._bye(f"no request for {limits.idle_s:g} s")

    def stop(self) -> None:
        """The node stops: say so and close."""
        self._bye("the node stops")

    # Inside

    def _bye(self, text: str) -> None:
        self.write(b"* BYE %b\r\n" % quote_text(text))
        self._session.end()
        self.hang_up()

    def failed(self, error: Exception) -> None:
        """See `doors.errors.Contained`."""
        tell(_log, "a client's connection failed and is closed", error)
        self._transport.abort()
        self._session.end()

    @contained
    def _resume(self) -> None:
        self._resuming = False
        if self._session.ended:
            return
        self._session.run()
        if self._inflate is not None:
            self._pump()
        self._set_reading()
        if self._eof:
            self._flush_soon()

    def _pump(self) -> None:
        """Inflate and take one piece, unless the session is blocked; the next is for the next turn."""
        inflate = self._inflate
        assert inflate is not None
        session = self._session
        self._inflating = False
        if session.blocked or session.ended:
            return
        try:
            piece = inflate.decompress(self._deflated, _INFLATED_BYTES_MAX)
        except zlib.error:
            self._bye("that is not DEFLATE")
            return
        self._deflated = inflate.unconsumed_tail
        if piece:
            session.receive(piece)
            self._inflating = True
            if not session.blocked:
                self.resume_soon()

    def _set_reading(self) -> None:
        if self._closing:
            return
        wanted = not self._session.blocked and not self._inflating
        if wanted != self._reading:
            self._reading = wanted
            if wanted:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    def _flush_soon(self) -> None:
        self._flushing = True
        self._listener.flush_soon(self)

    @contained
    def flush(self) -> None:
        """Send what was written in this turn of the loop."""
        if self._flushing:
            self._flush()

    def _flush(self) -> None:
        self._flushing = False
        out = self._out
        if self._closing:
            out.clear()
            return
        if out:
            data = out[0] if len(out) == 1 else b"".join(out)
            out.clear()
            deflate = self._deflate
            if deflate is not None:
                data = deflate.compress(data) + deflate.flush(zlib.Z_SYNC_FLUSH)
            self._transport.write(data)
        session = self._session
        if self._eof and not (session.outstanding or session.blocked or self._inflating):
            self.hang_up()


class TextListener:
    """Accepts clients, and peers for `peers`, on any number of addresses.

    Invariant: its connections are bounded by the gate, except those that have become links."""

    def __init__(
        self,
        front: TextContext,
        *,
        peers: PeerAcceptor | None = None,
        tls: ssl.SSLContext | None = None,
        trust_loopback: bool = False,
        descriptors: Descriptors | None = None,
    ) -> None:
        """`tls` is `tls.server_context`, or None for a listener in the clear. With `trust_loopback`, which is for trials without
        a token, connections from this machine need no AUTH. `descriptors` are the process's."""
        self.front = front
        self.peers = peers
        self.trust_loopback = trust_loopback
        self.tls = tls
        """Of connections that come from now on."""
        limits = front.limits
        self.gate = Gate(
            GateLimits(
                limits.connections_max, limits.address_connections_max, limits.strangers_max
            ),
            descriptors or Descriptors(),
        )
        self._doors: list[Door] = []
        self._connections: set[TextConnection] = set()
        self._to_flush: list[TextConnection] = []
        self._sweeping: asyncio.TimerHandle | None = None

    async def listen(self, host: str, port: int, *, shared: bool = False) -> tuple[str, int]:
        """Accept on an address; port 0 takes a free one. With `shared`, other processes that say so
        too may listen there as well, and each gets some of the connections. Gives what was bound.
        Raises OSError."""
        loop = asyncio.get_running_loop()
        doors = [
            Door(
                sock,
                self.gate,
                lambda entry: TextConnection(self, entry),
                tls=lambda: self.tls,
                handshake_s=self.front.limits.handshake_s,
                full=b"" if self.tls else b'* BYE "too many connections: try again later"\r\n',
            )
            for sock in await listening_sockets(host, port, shared=shared)
        ]
        self._doors += doors
        if self._sweeping is None:
            self._sweeping = loop.call_later(_SWEEP_S, self._sweep)
        return doors[0].address

    async def close(self) -> None:
        """Stop accepting, tell all clients goodbye, and close. Links of peers stay as they are."""
        if self._sweeping is not None:
            self._sweeping.cancel()
        for door in self._doors:
            door.close()
        for connection in list(self._connections):
            connection.stop()
        await asyncio.sleep(0)

    @property
    def connections(self) -> int:
        """Clients that are connected now."""
        return self.gate.guests

    def take_over(self, tls: ssl.SSLContext) -> None:
        """Use another context, and the limits that the front end has now, for connections that come from now on."""
        limits = self.front.limits
        self.tls = tls
        self.gate.limits = GateLimits(
            limits.connections_max, limits.address_connections_max, limits.strangers_max
        )

    def keep(self, connection: TextConnection) -> None:
        """It is served from now on."""
        self._connections.add(connection)

    def flush_soon(self, connection: TextConnection) -> None:
        """Have a connection flushed at the end of this turn of the loop, with the others that ask for it."""
        if not self._to_flush:
            asyncio.get_running_loop().call_soon(self._flush_all)
        self._to_flush.append(connection)

    def _flush_all(self) -> None:
        waiting, self._to_flush = self._to_flush, []
        for connection in waiting:
            connection.flush()

    def forget(self, connection: TextConnection) -> None:
        """It has ended, or is a client no longer."""
        self._connections.discard(connection)

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for connection in list(self._connections):
            connection.check(now)
        self._sweeping = loop.call_later(_SWEEP_S, self._sweep)
