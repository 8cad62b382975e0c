"""TLS of one connection, over a transport of the event loop.

The event loop has TLS of its own, which suits few and busy connections. It takes 256 KiB to read
into for each, keeps buffers as long as the longest write, and encrypts all that is written at once.
Here all connections read into one buffer, and a long write is encrypted in pieces, one in each turn
of the loop. So an idle connection takes little, and a busy one leaves room for others.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from enum import Enum
from typing import Any, Final, cast

from raftmail.net.errors import contained, tell
from raftmail.net.limits import KIB

_log = logging.getLogger(__name__)

RECORD_BYTES: Final = 16 * KIB
"""What a record carries at most (RFC 8446 section 5.1). OpenSSL's buffers of a connection grow to
what is put into them at once, and stay so: that is one record."""

TURN_BYTES_MAX: Final = 4 * RECORD_BYTES
"""What is encrypted for one connection in one turn of the loop, but for the rest of a record."""

_HIGH_BYTES: Final = 64 * KIB


class TlsState(Enum):
    """How far a connection is."""

    HANDSHAKE = "keys are being agreed on"
    OPEN = "both sides may speak"
    CLOSING = "what was written is sent, then goodbye is said"
    CLOSED = "goodbye was said: the other side is to say so too, or to go"


class SecuredTransport(asyncio.BufferedProtocol, asyncio.Transport):
    """The server's side of TLS: to the event loop a protocol, and to a protocol its transport.

    Invariants:
    1. What is written leaves in order, and is encrypted once the transport below has room.
    2. While the protocol has paused reading, it is given nothing.
    3. The protocol hears `connection_lost` once if the handshake was done, and otherwise never.
    """

    __slots__ = (
        "_backlog",
        "_backlog_bytes",
        "_full",
        "_going_on",
        "_high",
        "_incoming",
        "_loop",
        "_low",
        "_lower",
        "_outgoing",
        "_paused",
        "_protocol",
        "_secured",
        "_state",
        "_stopped",
        "_tells",
        "_tls",
    )

    def __init__(
        self, context: ssl.SSLContext, protocol: asyncio.BufferedProtocol, *, tells: bool
    ) -> None:
        """`protocol` gets what comes. With `tells` it is told when the connection is made.
        Otherwise it had the transport in the clear before (STARTTLS)."""
        self._loop = asyncio.get_running_loop()
        self._protocol = protocol
        self._tells = tells
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._secured: asyncio.Future[None] | None = self._loop.create_future()
        self._state = TlsState.HANDSHAKE
        self._backlog: list[bytes | memoryview] = []
        self._backlog_bytes = 0
        self._high = _HIGH_BYTES
        self._low = _HIGH_BYTES // 4
        self._stopped = False  # the protocol was told to write no more
        self._full = False  # the transport below has enough for now
        self._paused = False
        self._going_on = False

    async def handshake(self, timeout_s: float) -> None:
        """Wait until it is done. Raises OSError (such as ssl.SSLError) and TimeoutError, after
        which the connection is gone."""
        assert self._secured is not None
        try:
            async with asyncio.timeout(timeout_s):
                await self._secured
        except BaseException:
            self._secured = None
            self.abort()
            raise
        self._secured = None

    # -- the calls of the loop ---------------------------------------------------------------

    @contained
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclass of asyncio.Transport, but have all it has.
        self._lower = cast(asyncio.Transport, transport)
        self._limit_lower()

    def get_buffer(self, sizehint: int) -> memoryview:
        # What came is copied before anything is read into the same place.
        return memoryview(self._protocol.get_buffer(sizehint))[:RECORD_BYTES]

    @contained
    def buffer_updated(self, nbytes: int) -> None:
        self._incoming.write(memoryview(self._protocol.get_buffer(-1))[:nbytes])
        self._take()

    @contained
    def eof_received(self) -> bool:
        self._fail(ConnectionResetError("the other side closed the connection"))
        return False

    @contained
    def connection_lost(self, exc: Exception | None) -> None:
        made = self._state is not TlsState.HANDSHAKE
        self._state = TlsState.CLOSED
        self._drop()
        if made:
            self._protocol.connection_lost(exc)
        else:
            self._fail(exc or ConnectionResetError("the connection ended"))

    @contained
    def pause_writing(self) -> None:
        self._full = True

    @contained
    def resume_writing(self) -> None:
        self._full = False
        if self._backlog:
            self._go_on_soon()
        else:
            self._control()

    def failed(self, error: Exception) -> None:
        """See `errors.Contained`."""
        tell(_log, "TLS of a connection failed, which is closed", error)
        self._fail(error)
        self.abort()

    # -- the protocol's calls ----------------------------------------------------------------

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "ssl_object":
            return self._tls
        return self._lower.get_extra_info(name, default)

    def is_closing(self) -> bool:
        return self._state in (TlsState.CLOSING, TlsState.CLOSED) or self._lower.is_closing()

    def pause_reading(self) -> None:
        self._paused = True
        if not self.is_closing():
            self._lower.pause_reading()

    def resume_reading(self) -> None:
        self._paused = False
        if not self.is_closing():
            if self._is_unread:
                self._go_on_soon()
            self._lower.resume_reading()

    def get_write_buffer_size(self) -> int:
        return self._backlog_bytes + self._lower.get_write_buffer_size()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = _HIGH_BYTES if high is None else high
        self._low = self._high // 4 if low is None else low
        self._limit_lower()

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        if self._state is not TlsState.OPEN or not data:
            return
        self._backlog.append(data if isinstance(data, bytes) else bytes(data))
        self._backlog_bytes += len(data)
        if not (self._full or self._going_on):
            self._encrypt()
        self._control()

    def close(self) -> None:
        if self._state is TlsState.HANDSHAKE:
            self.abort()
        elif self._state is TlsState.OPEN:
            self._state = TlsState.CLOSING
            if not self._backlog:
                self._say_goodbye()

    def abort(self) -> None:
        if self._state is not TlsState.HANDSHAKE:
            self._state = TlsState.CLOSED
        self._drop()
        if hasattr(self, "_lower"):
            self._lower.abort()

    # -- inside ------------------------------------------------------------------------------

    @property
    def _is_unread(self) -> bool:
        return bool(self._incoming.pending or self._tls.pending())

    def _limit_lower(self) -> None:
        # Once it is not full, it has no more than what the protocol goes on at.
        self._lower.set_write_buffer_limits(high=min(_HIGH_BYTES, self._low))

    def _go_on_soon(self) -> None:
        if not self._going_on:
            self._going_on = True
            self._loop.call_soon(self._go_on)

    @contained
    def _go_on(self) -> None:
        """Take what came before, and encrypt a piece of what was written."""
        self._going_on = False
        if self._state is TlsState.OPEN and self._is_unread:
            self._read()
        if self._backlog and not self._full:
            self._encrypt()
        self._control()

    def _take(self) -> None:
        if self._state is TlsState.HANDSHAKE:
            self._shake_hands()
        elif self._state is TlsState.OPEN:
            self._read()
        elif self._state is TlsState.CLOSING:
            self._discard()
        elif self._discard():
            self._lower.close()

    def _shake_hands(self) -> None:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._send()
            return
        except ssl.SSLError as e:
            self._send()  # says to the other side what is wrong
            self._lower.close()
            self._fail(e)
            return
        self._state = TlsState.OPEN
        self._send()
        if self._tells:
            self._protocol.connection_made(self)
        if self._secured is not None and not self._secured.done():
            self._secured.set_result(None)
        if self._is_unread:
            self._go_on_soon()  # then whoever waits for the handshake knows

    def _read(self) -> None:
        protocol, tls = self._protocol, self._tls
        try:
            while self._is_unread and self._state is TlsState.OPEN and not self._paused:
                view = memoryview(protocol.get_buffer(-1))
                count = cast(int, tls.read(len(view), view))
                if not count:
                    protocol.eof_received()
                    self.close()
                    return
                protocol.buffer_updated(count)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as e:
            _log.info("a connection ended: %s", e)
            self._send()
            self.abort()
            return
        if self._outgoing.pending:
            self._send()

    def _discard(self) -> bool:
        """Read past what came; whether the other side has said goodbye, or is not understood."""
        try:
            while self._tls.read(RECORD_BYTES):
                pass
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLError:
            return True
        return True

    def _encrypt(self) -> None:
        """Hand a piece of what was written to the transport below."""
        backlog, tls, outgoing = self._backlog, self._tls, self._outgoing
        pieces: list[bytes] = []
        room_bytes = TURN_BYTES_MAX
        at = 0
        try:
            while at < len(backlog) and room_bytes > 0:
                data = backlog[at]
                whole = len(data) <= RECORD_BYTES
                count = tls.write(data if whole else memoryview(data)[:RECORD_BYTES])
                room_bytes -= count
                self._backlog_bytes -= count
                if count < len(data):
                    backlog[at] = memoryview(data)[count:]
                else:
                    at += 1
                if outgoing.pending >= RECORD_BYTES:
                    pieces.append(outgoing.read())
        except ssl.SSLWantReadError:
            pass  # it goes on when more has come
        del backlog[:at]
        pieces.append(outgoing.read())
        if not self._lower.is_closing():
            self._lower.write(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        if not backlog:
            if self._state is TlsState.CLOSING:
                self._say_goodbye()
        elif not self._full and room_bytes <= 0:
            self._go_on_soon()

    def _control(self) -> None:
        """Have the protocol write no more, or go on."""
        if self._state is not TlsState.OPEN:
            return
        size_bytes = self.get_write_buffer_size()
        if not self._stopped and size_bytes > self._high:
            self._stopped = True
            self._protocol.pause_writing()
        elif self._stopped and size_bytes <= self._low:
            self._stopped = False
            self._protocol.resume_writing()

    def _send(self) -> None:
        data = self._outgoing.read()
        if data and not self._lower.is_closing():
            self._lower.write(data)

    def _say_goodbye(self) -> None:
        """Whoever closes first would lose what it has sent, if the other side sends meanwhile. So
        that one is waited for: how long is for the protocol to say, by `abort`."""
        self._state = TlsState.CLOSED
        ended = self._discard()
        try:
            self._tls.unwrap()
        except ssl.SSLError:
            pass  # it has yet to say goodbye, or what it said is not understood
        self._send()
        if ended:
            self._lower.close()
        elif not self._lower.is_closing():
            self._lower.resume_reading()

    def _drop(self) -> None:
        self._backlog.clear()
        self._backlog_bytes = 0

    def _fail(self, error: Exception) -> None:
        if self._secured is not None and not self._secured.done():
            self._secured.set_exception(error)
