"""Where clients come in: addresses, the gate, the connections that are open, and an orderly end."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
import stat
from collections.abc import Callable
from contextlib import suppress

from raftmail.net.budget import ReadBudget
from raftmail.net.connection import Connection
from raftmail.net.door import Door, Pass, listening_sockets
from raftmail.net.gate import Descriptors, Gate, GateLimits, Guests
from raftmail.net.limits import ConnectionLimits
from raftmail.net.session import Session

_log = logging.getLogger(__name__)

SWEEP_S = 1.0
"""How often it is looked whether a connection has taken too long."""


class Listener:
    """Accepts clients on any number of addresses, and puts a session on each connection.

    To be made and used on the event loop. Invariant: its connections are bounded by the gate.
    """

    def __init__(
        self,
        make_session: Callable[[Connection], Session],
        limits: ConnectionLimits,
        *,
        tls: ssl.SSLContext | None = None,
        full: bytes = b"",
        descriptors: Descriptors | None = None,
        guests: Guests | None = None,
        budget: ReadBudget | None = None,
        sweep_s: float = SWEEP_S,
        loop_tls: bool = False,
    ) -> None:
        """With `tls` every connection begins with a handshake; for a handshake in the middle a
        session calls `Connection.start_tls`. `loop_tls` is as of `Door`, and for connections that
        are left to another protocol (`Connection.detach`). `full` is what those hear, where there
        is no TLS, who are turned away for want of descriptors. `guests` are those of all listeners
        that share their limits of connections. `budget` bounds what all sessions
        hold together."""
        self.make_session = make_session
        self.limits = limits
        self.tls = tls
        """Of connections that come from now on."""
        self.budget = budget
        self.gate = Gate(
            _gate_limits(limits), descriptors or Descriptors(), guests if guests else Guests()
        )
        self.read_view = memoryview(bytearray(limits.read_bytes_max))
        self.connections: set[Connection] = set()
        self.stopping = False
        self.refused = 0
        """Connections that were told that there are too many, or that the listener stops."""
        self._full = full
        self._sweep_s = sweep_s
        self._loop_tls = loop_tls
        self._loop = asyncio.get_running_loop()
        self._doors: list[Door] = []
        self._socket_files: list[tuple[str, int]] = []
        self._to_flush: list[Connection] = []
        self._sweeper: asyncio.TimerHandle | None = None
        self._none_left = asyncio.Event()
        self._none_left.set()

    async def listen_tcp(self, host: str, port: int, *, shared: bool = False) -> tuple[str, int]:
        """Accept on a TCP port, any free one for 0; returns address and port. With `shared`, other
        processes that say so too may listen there as well, and each gets some of the connections.

        Raises OSError where the port cannot be had.
        """
        sockets = await listening_sockets(host, port, shared=shared)
        for sock in sockets:
            self._listen_on(sock)
        return self._doors[-len(sockets)].address

    async def listen_unix(self, path: str, mode: int = 0o660) -> None:
        """Accept on a unix socket with these permissions.

        A socket that a server left behind is replaced; one that is listened on, or a file that is
        no socket, is not: OSError.
        """
        with suppress(FileNotFoundError):
            if not stat.S_ISSOCK(os.lstat(path).st_mode):
                raise FileExistsError(
                    f"{path} exists and is not a socket; remove it or use another"
                )
            if _is_listened_on(path):
                raise OSError(f"another server listens on {path}; stop it or use another path")
            os.unlink(path)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listening.bind(path)
            # Nobody can connect before listen(), so nobody sees the permissions of the umask.
            os.chmod(path, mode)
            self._socket_files.append((path, os.lstat(path).st_ino))
            self._listen_on(listening)
        except BaseException:
            listening.close()
            raise

    def take_over(self, limits: ConnectionLimits, tls: ssl.SSLContext | None) -> None:
        """Use these limits and this context for connections that come from now on."""
        self.limits = limits
        self.tls = tls
        self.gate.limits = _gate_limits(limits)

    async def stop(self, grace_s: float) -> None:
        """Accept no more, and have every session close when nothing of it is under way.

        After `grace_s` those that are left are cut off, and waited for a moment more. With 0
        nobody is waited for: who does not take its goodbye is left to the end of the process."""
        self.stopping = True
        for door in self._doors:
            door.close()
        self._doors.clear()
        for path, inode in self._socket_files:
            with suppress(FileNotFoundError):
                if os.lstat(path).st_ino == inode:
                    os.unlink(path)
        self._socket_files.clear()
        now = self._loop.time()
        for connection in list(self.connections):
            connection.drain(now)
        if grace_s and not await _happens(self._none_left, grace_s):
            _log.warning("%d connections did not end in %s s", len(self.connections), grace_s)
            for connection in list(self.connections):
                connection.cut()
            await _happens(self._none_left, self.limits.close_s)
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        await asyncio.sleep(0)

    @property
    def unsent_bytes(self) -> int:
        """What the clients do not take of what was written for them."""
        return sum(connection.unsent_bytes for connection in self.connections)

    @property
    def served(self) -> int:
        """Connections that were admitted and are not through."""
        return sum(connection.admitted for connection in self.connections)

    # -- the connections' calls --------------------------------------------------------------

    def keep(self, connection: Connection) -> None:
        """It is open from now on."""
        self.connections.add(connection)
        self._none_left.clear()

    def forget(self, connection: Connection) -> None:
        """It has ended, or is a client's no longer."""
        self.connections.discard(connection)
        if not self.connections:
            self._none_left.set()

    def flush_soon(self, connection: Connection) -> None:
        """Have a connection flushed at the end of this turn, with the others that ask for it."""
        if not self._to_flush:
            self._loop.call_soon(self._flush_all)
        self._to_flush.append(connection)

    # -- inside ------------------------------------------------------------------------------

    def _flush_all(self) -> None:
        waiting, self._to_flush = self._to_flush, []
        for connection in waiting:
            connection.flush()

    def _listen_on(self, sock: socket.socket) -> None:
        self._doors.append(
            Door(
                sock,
                self.gate,
                self._make_connection,
                tls=lambda: self.tls,
                loop_tls=self._loop_tls,
                handshake_s=self.limits.handshake_s,
                full=b"" if self.tls else self._full,
                proxies=lambda: self.limits.proxy_networks,
            )
        )
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(self._sweep_s, self._sweep)

    def _make_connection(self, entry: Pass) -> Connection:
        return Connection(self, entry)

    def _sweep(self) -> None:
        # One timer for all: to set one for each command would cost more than the command.
        self._sweeper = self._loop.call_later(self._sweep_s, self._sweep)
        now = self._loop.time()
        for connection in list(self.connections):
            connection.check(now)


def _gate_limits(limits: ConnectionLimits) -> GateLimits:
    return GateLimits(limits.connections_max, limits.address_connections_max, limits.strangers_max)


def _is_listened_on(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except BlockingIOError:
            return True  # its backlog is full
        except OSError:
            return False
    return True


async def _happens(event: asyncio.Event, timeout_s: float) -> bool:
    try:
        await asyncio.wait_for(event.wait(), timeout_s)
    except TimeoutError:
        return False
    return True
