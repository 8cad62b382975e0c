"""Accepting connections, a few in each turn of the loop, and no more than the gate lets in.

The loop's own servers accept whatever waits, until the process may open nothing more. Then they
close what they listen on, or wake up again and again. Here the process stops to accept before that,
and whoever is turned away is told.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress

from raftmail.mail.networks import Network, is_among
from raftmail.net.errors import contained, describe, start_task, tell
from raftmail.net.gate import LOCAL, Gate
from raftmail.net.proxy_protocol import NoProxyHeader, read_header
from raftmail.net.secured import SecuredTransport

_log = logging.getLogger(__name__)

BACKLOG = 1024
ACCEPTS_PER_TURN = 16
PAUSE_S = 0.1
"""Between two tries while nothing can be accepted."""


class _Visitor:
    """An accepted connection, from the first moment on. `transport` is set once its protocol has
    it. `client` is for whom a proxy speaks on it, "" without one."""

    __slots__ = ("client", "socket", "task", "transport")

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.client = ""
        self.transport: asyncio.Transport | None = None
        self.task: asyncio.Task[None] | None = None

    def make_way(self) -> None:
        """See `gate.Stranger`."""
        if self.transport is not None:
            self.transport.abort()
        elif self.task is not None:
            self.task.cancel()


class Pass:
    """What lets a protocol tell the gate how it gets on."""

    __slots__ = ("_gate", "_visitor")

    def __init__(self, gate: Gate, visitor: _Visitor) -> None:
        self._gate = gate
        self._visitor = visitor

    @property
    def client(self) -> str:
        """The IP address for which a proxy speaks; "" without one."""
        return self._visitor.client

    def hold(self, transport: asyncio.Transport) -> None:
        """The connection has this transport now, by which it can be made to leave."""
        self._visitor.transport = transport

    def admit(self) -> str:
        """See `Gate.admit`."""
        return self._gate.admit(self._visitor)

    def know(self) -> None:
        """See `Gate.know`."""
        self._gate.know(self._visitor)

    def dismiss(self) -> None:
        """See `Gate.dismiss`."""
        self._gate.dismiss(self._visitor)

    def leave(self) -> None:
        """See `Gate.leave`."""
        self._gate.leave(self._visitor)


class Door:
    """One address that is listened on. `make` makes the protocol of a connection, whose
    `connection_lost` calls `Pass.leave`."""

    def __init__(
        self,
        sock: socket.socket,
        gate: Gate,
        make: Callable[[Pass], asyncio.BufferedProtocol],
        *,
        tls: Callable[[], ssl.SSLContext | None] = lambda: None,
        loop_tls: bool = False,
        handshake_s: float = 10.0,
        full: bytes = b"",
        proxies: Callable[[], Sequence[Network]] = tuple,
    ) -> None:
        """`sock` listens. `tls` gives the context for the next connection; `handshake_s` is how
        long its handshake may take. With `loop_tls` the event loop does it, which is for few
        connections that move much. `full` is what those hear who are turned away, where there is
        no TLS. Who connects from `proxies` says first for whom, within `handshake_s`."""
        self._loop = asyncio.get_running_loop()
        self._socket = sock
        self._gate = gate
        self._make = make
        self._tls = tls
        self._loop_tls = loop_tls
        self._handshake_s = handshake_s
        self._full = full
        self._proxies = proxies
        self._visitors: set[_Visitor] = set()
        self._paused: asyncio.TimerHandle | None = None
        self._said = False
        self._closed = False
        sock.setblocking(False)
        sock.listen(BACKLOG)
        self._loop.add_reader(sock.fileno(), self._accept)

    @property
    def address(self) -> tuple[str, int]:
        """What it listens on: host and port."""
        name = self._socket.getsockname()
        return (str(name[0]), int(name[1])) if isinstance(name, tuple) else (str(name), 0)

    def close(self) -> None:
        """Accept no more; connections whose handshake is under way end. Those that are made
        stay."""
        if self._closed:
            return
        self._closed = True
        if self._paused is not None:
            self._paused.cancel()
        else:
            self._loop.remove_reader(self._socket.fileno())
        self._socket.close()
        for visitor in list(self._visitors):
            if visitor.task is not None:
                visitor.task.cancel()

    def failed(self, error: Exception) -> None:
        """See `errors.Contained`: nothing can be accepted just now."""
        if not self._said:
            self._said = True
            _log.warning("no connection can be accepted just now: %s", describe(error))
        self._pause()

    @contained
    def _accept(self) -> None:
        for _ in range(ACCEPTS_PER_TURN):
            try:
                sock, name = self._socket.accept()
            except (BlockingIOError, InterruptedError):
                break
            except ConnectionError:
                continue
            self._let_in(sock, name)
        self._said = False

    def _let_in(self, sock: socket.socket, name: object) -> None:
        visitor = _Visitor(sock)
        sock.setblocking(False)
        address = str(name[0]) if isinstance(name, tuple) else LOCAL
        if not self._gate.enter(visitor, address):
            with suppress(OSError):
                if self._full:
                    sock.send(self._full)
            sock.close()
            return
        if sock.family != socket.AF_UNIX:
            with suppress(OSError):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._visitors.add(visitor)
        is_proxy = is_among(address, self._proxies())
        visitor.task = start_task(self._loop, self._open(visitor, is_proxy), self._not_opened)

    async def _open(self, visitor: _Visitor, is_proxy: bool) -> None:
        gate = self._gate
        made: asyncio.Transport | None = None
        try:
            if is_proxy:
                await self._hear_proxy(visitor)
            visitor.transport = made = await self._connect(visitor)
        except (
            OSError,
            TimeoutError,
            asyncio.CancelledError,
        ) as error:  # ssl.SSLError is an OSError
            level = logging.WARNING if isinstance(error, NoProxyHeader) else logging.DEBUG
            _log.log(level, "a connection ended before it was made: %s", describe(error))
        finally:
            self._visitors.discard(visitor)
            visitor.task = None
            if made is None:
                gate.leave(visitor)  # the socket is the transport's, which closes it

    async def _hear_proxy(self, visitor: _Visitor) -> None:
        """Raises OSError, TimeoutError; the socket is closed then."""
        try:
            header = await read_header(visitor.socket, self._handshake_s)
        except BaseException:
            visitor.socket.close()
            raise
        if header.client:
            visitor.client = header.client
            self._gate.speaks_for(visitor, header.client)

    async def _connect(self, visitor: _Visitor) -> asyncio.Transport:
        tls, accept = self._tls(), self._loop.connect_accepted_socket
        entry = Pass(self._gate, visitor)
        made: asyncio.Transport
        if tls is None or self._loop_tls:
            made, _ = await accept(
                lambda: self._make(entry),
                visitor.socket,
                ssl=tls,
                ssl_handshake_timeout=self._handshake_s if tls is not None else None,
            )
            return made
        secured = SecuredTransport(tls, self._make(entry), tells=True)
        await accept(lambda: secured, visitor.socket)
        await secured.handshake(self._handshake_s)
        return secured

    def _not_opened(self, error: Exception) -> None:
        tell(_log, "a connection could not be taken", error)

    def _pause(self) -> None:
        if self._closed or self._paused is not None:
            return
        self._loop.remove_reader(self._socket.fileno())
        self._paused = self._loop.call_later(PAUSE_S, self._resume)

    @contained
    def _resume(self) -> None:
        self._paused = None
        if not self._closed:
            self._loop.add_reader(self._socket.fileno(), self._accept)


async def listening_sockets(host: str, port: int, *, shared: bool = False) -> list[socket.socket]:
    """Sockets that are bound to an address, one for each that the host has. With `shared`, other
    processes that say so too may listen there as well. Raises OSError."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    sockets: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in dict.fromkeys(found):
            sock = socket.socket(family, kind, protocol)
            sockets.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if shared:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind(address)
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    if not sockets:
        raise OSError(f"{host}: has no address")
    return sockets
