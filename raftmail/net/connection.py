"""One accepted connection: bytes in and out, back-pressure, time, TLS and compression.

Written once, for whatever is spoken on it: a `Session` gets what came, and writes here.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Coroutine
from typing import Any, Protocol, cast

from raftmail.mail.networks import parse_ip
from raftmail.net.budget import ReadBudget
from raftmail.net.deflate import Deflate, NotDeflate
from raftmail.net.door import Pass
from raftmail.net.errors import contained, describe, start_task, tell
from raftmail.net.limits import ConnectionLimits
from raftmail.net.secured import SecuredTransport
from raftmail.net.session import Bye, Session
from raftmail.net.tls import BoundContext

_log = logging.getLogger(__name__)


class ConnectionOwner(Protocol):
    """The listener, as its connections see it."""

    limits: ConnectionLimits
    budget: ReadBudget | None
    read_view: memoryview
    stopping: bool
    refused: int

    def make_session(self, connection: Connection) -> Session: ...
    def keep(self, connection: Connection) -> None: ...
    def forget(self, connection: Connection) -> None: ...
    def flush_soon(self, connection: Connection) -> None: ...


class Connection(asyncio.BufferedProtocol):
    """The transport of one `Session`.

    Invariants:
    1. While the session is blocked, or the other side does not take its answers, nothing is read:
       what is held is bounded by the session's limits, one read, and one compressed read.
    2. What is written in one turn of the loop leaves in one write.
    3. In one turn of the loop a bounded piece of what came is inflated and handed on.
    4. It is among its listener's until the transport is gone and the session does not linger.
    """

    _transport: asyncio.Transport
    session: Session

    def __init__(self, owner: ConnectionOwner, entry: Pass) -> None:
        self._owner = owner
        self._entry = entry
        self._loop = asyncio.get_running_loop()
        self.admitted = False
        self._known = False
        self._lost = False
        self._closing = False
        self._closing_at = 0.0
        self._eof = False
        self._reading = True
        self._held_bytes = 0
        self._short_since: float | None = None  # when the budget said to stop reading
        self._resuming = False
        self._deflate: Deflate | None = None
        self._inflating = False  # there may be more to inflate than was in this turn
        self._out: list[bytes] = []
        self._flushing = False
        self.congested = False
        """The other side has left `output_bytes_max` unread."""
        self._congested_at = 0.0
        self._writable = asyncio.Event()
        self._writable.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._securing: asyncio.Task[None] | None = None
        self._early = b""
        self.began_at = self.heard_at = self._loop.time()
        """When it was made, and when something came last, by the loop's clock."""

    # -- the loop's calls --------------------------------------------------------------------

    @contained
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's TLS transport is no subclass of asyncio.Transport, but has all it has.
        self._transport = cast(asyncio.Transport, transport)
        self._entry.hold(self._transport)
        self._transport.set_write_buffer_limits(high=self._owner.limits.output_bytes_max)
        self.session = self._owner.make_session(self)
        self._owner.keep(self)
        if self._owner.stopping:
            self._owner.refused += 1
            self.session.bye(Bye.STOPPING, Bye.STOPPING.value)
            return
        why = self._entry.admit()
        if why:
            self._owner.refused += 1
            self.session.bye(Bye.FULL, why)
            return
        self.admitted = True
        self.session.start()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._owner.read_view

    @contained
    def buffer_updated(self, nbytes: int) -> None:
        # One buffer for all connections: copied before anything else can be read.
        data = bytes(self._owner.read_view[:nbytes])
        self.heard_at = self._loop.time()
        if self._securing is not None:
            # Reading was stopped before the handshake, so these bytes came through TLS. The task
            # that started it is told in this turn of the loop or the next; one read is bounded.
            self._early += data
            return
        if self._deflate is not None:
            self._deflate.feed(data)
            self._pump(self._deflate)
        else:
            self.session.receive(data)
        if not self._known and self.session.known:
            self._known = True
            self._entry.know()
        self.settle()

    @contained
    def eof_received(self) -> bool:
        if not self.session.half_close:
            self.hang_up()
            return False
        self._eof = True
        self._flush_soon()
        return self._transport.get_extra_info("ssl_object") is None

    @contained
    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = self._closing = True
        self._entry.leave()
        self._writable.set()
        for task in self._tasks:
            task.cancel()
        self.session.end()
        self.settle()

    @contained
    def pause_writing(self) -> None:
        self.congested = True
        self._congested_at = self._loop.time()
        self._writable.clear()
        self.settle()

    @contained
    def resume_writing(self) -> None:
        self.congested = False
        self._writable.set()
        self.resume_soon()

    def failed(self, error: Exception) -> None:
        """See `errors.Contained`."""
        tell(_log, "a client's connection failed and is closed", error)
        self.abort()

    # -- the session's calls -----------------------------------------------------------------

    @property
    def address(self) -> str:
        """The other side's IP address, its own also behind a proxy; "" on a unix socket."""
        if self._entry.client:
            return self._entry.client
        name = self._transport.get_extra_info("peername")
        return str(name[0]).partition("%")[0] if isinstance(name, tuple) else ""

    @property
    def channel_bindings(self) -> dict[str, bytes]:
        """What a log-in can be bound to, by the names of RFC 5929."""
        secured = self._transport.get_extra_info("ssl_object")
        context = None if secured is None else secured.context
        if isinstance(context, BoundContext) and context.end_point:
            return {"tls-server-end-point": context.end_point}
        return {}

    @property
    def is_loopback(self) -> bool:
        """Whether the other side is on this machine, over TCP, and a proxy between, too."""
        client = self._entry.client
        return is_loopback(self._transport) and (not client or is_loopback_address(client))

    @property
    def lost(self) -> bool:
        """Whether the transport is gone."""
        return self._lost

    @property
    def short(self) -> bool:
        """It is not read from, for want of room: the other side is not to blame for its silence."""
        return self._short_since is not None

    @property
    def unsent_bytes(self) -> int:
        """What the other side has not taken."""
        return 0 if self._lost else self._transport.get_write_buffer_size()

    def write(self, data: bytes) -> None:
        """Send; what is written in one turn of the loop leaves together."""
        self._out.append(data)
        if not self._flushing:
            self._flush_soon()

    def send(self, data: bytes) -> None:
        """Send with what was written before, now."""
        if self._closing:
            return
        if self._out or self._deflate is not None:
            self._out.append(data)
            self._flush()
        else:
            self._transport.write(data)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run as a task, which is cancelled when the connection ends."""
        task = start_task(self._loop, work, self.failed)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def resume_soon(self) -> None:
        """Call `Session.run` in the next turn of the loop."""
        if not self._resuming:
            self._resuming = True
            self._loop.call_soon(self._resume)

    async def drained(self) -> None:
        """Wait until it is not congested."""
        self._flush()
        await self._writable.wait()

    def compress(self) -> None:
        """Compress both directions, from the next byte on."""
        self._flush()
        self._deflate = Deflate()

    def start_tls(self, context: ssl.SSLContext) -> None:
        """Do the server's side of a TLS handshake; then `Session.secured` is called."""
        if self._securing is None:
            self._flush()
            self._transport.pause_reading()
            self._securing = start_task(self._loop, self._secure(context), self.failed)

    def hang_up(self) -> None:
        """Send what was written, and close."""
        if not self._closing:
            self._eof = False  # it is closed now, not when the last answer has gone
            self._flush()
            self._closing = True
            self._closing_at = self._loop.time()
            self._transport.close()

    def abort(self) -> None:
        """Close at once, whatever was written."""
        self._closing = True
        self._closing_at = self._loop.time()
        self._transport.abort()

    def detach(self) -> asyncio.Transport:
        """Leave the transport to another protocol, which has to be set and to resume reading."""
        self._flush()
        self._owner.forget(self)
        self._entry.leave()
        self._closing = True
        # Not read from meanwhile: the loop chooses how to read when it begins.
        self._transport.pause_reading()
        return self._transport

    @contained
    def settle(self) -> None:
        """Account for what the session holds now, and read or do not read accordingly."""
        session = self.session
        if self._lost:
            if not session.lingers:
                self._finish()
            return
        budget = self._owner.budget
        if budget is not None:
            held_bytes = session.held_bytes
            before_bytes = self._held_bytes
            if held_bytes != before_bytes:
                self._held_bytes = held_bytes
                if budget.update(self, before_bytes, held_bytes):
                    self._short_since = self._loop.time()
        wanted = not (
            self.congested or self._inflating or self._short_since is not None or session.blocked
        )
        if wanted is not self._reading and not (self._closing or self._transport.is_closing()):
            self._reading = wanted
            if wanted:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    # -- the listener's and the budget's calls -----------------------------------------------

    @contained
    def check(self, now: float) -> None:
        """Now and then: end what has been silent or slow for too long."""
        limits = self._owner.limits
        if self._closing and not self._lost:
            if now - self._closing_at > limits.close_s:
                self._transport.abort()
        elif self.congested and now - self._congested_at > limits.slow_reader_s:
            self.abort()
        elif self._eof and not self._lost:
            self._flush_soon()
        else:
            self.session.check(now)

    @contained
    def drain(self, now: float) -> None:
        """Close when nothing is under way."""
        if not self._lost:
            self.session.drain(now)

    @contained
    def cut(self) -> None:
        """Close at once, whatever runs."""
        self.session.cut()
        if not self._lost:
            self.abort()
        self.settle()

    @contained
    def flush(self) -> None:
        """Send what was written in this turn of the loop."""
        if self._flushing:
            self._flush()

    @contained
    def resume_reading(self) -> None:
        """See `budget.Reader`: there is room again."""
        if self._short_since is not None:
            self.session.postpone(self._loop.time() - self._short_since)
            self._short_since = None
            self.settle()

    # -- inside ------------------------------------------------------------------------------

    @contained
    def _resume(self) -> None:
        self._resuming = False
        if self._closing:
            return
        self.session.run()
        if self._deflate is not None:
            self._pump(self._deflate)
        self.settle()
        if self._eof:
            self._flush_soon()

    def _pump(self, deflate: Deflate) -> None:
        """Inflate and hand on one piece, unless the session is blocked; the next is for the next
        turn."""
        session = self.session
        self._inflating = False
        if session.blocked or self._closing:
            return
        try:
            piece = deflate.piece()
        except NotDeflate:
            session.bye(Bye.BROKEN, "that is not DEFLATE")
            return
        if piece:
            session.receive(piece)
            self._inflating = True
            if not session.blocked:
                self.resume_soon()

    def _flush_soon(self) -> None:
        self._flushing = True
        self._owner.flush_soon(self)

    def _flush(self) -> None:
        self._flushing = False
        out = self._out
        if self._closing:
            out.clear()
            return
        if out:
            data = out[0] if len(out) == 1 else b"".join(out)
            out.clear()
            if self._deflate is not None:
                data = self._deflate.compress(data)
            self._transport.write(data)
        session = self.session
        if self._eof and not (session.busy or session.blocked or self._inflating):
            self.hang_up()

    async def _secure(self, context: ssl.SSLContext) -> None:
        limits = self._owner.limits
        plain = self._transport
        if self._lost or plain.is_closing():
            self._securing = None
            return
        secured = SecuredTransport(context, self, tells=False)
        plain.set_protocol(secured)
        secured.connection_made(plain)
        plain.resume_reading()
        try:
            await secured.handshake(limits.handshake_s)
        except (OSError, TimeoutError) as error:  # ssl.SSLError is an OSError
            _log.info("a TLS handshake failed: %s", describe(error))
            self._securing = None
            self.connection_lost(None)  # nobody else tells it
            return
        self._securing = None
        self._transport = secured
        self._entry.hold(secured)
        if self._closing:
            secured.abort()  # it was cut in the meantime
            return
        secured.set_write_buffer_limits(high=limits.output_bytes_max)
        self.session.secured()
        early, self._early = self._early, b""
        if early and not self._closing:
            self.session.receive(early)
        self.settle()

    def _finish(self) -> None:
        self._owner.forget(self)
        if self._owner.budget is not None:
            self._owner.budget.forget(self, self._held_bytes)
        self._held_bytes = 0
        self._short_since = None


def is_loopback(transport: asyncio.BaseTransport) -> bool:
    """Whether the other side is on this machine."""
    name = transport.get_extra_info("peername")
    return isinstance(name, tuple) and is_loopback_address(str(name[0]))


def is_loopback_address(address: str) -> bool:
    """Whether an IP address is of the machine itself."""
    ip = parse_ip(address)
    return ip is not None and ip.is_loopback
