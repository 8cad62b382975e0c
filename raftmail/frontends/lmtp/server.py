"""The LMTP server: listeners on TCP and unix sockets, time limits, and an orderly end."""

import asyncio
import os
import socket
import ssl
import stat
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

from raftmail.frontends.lmtp import replies
from raftmail.frontends.lmtp.config import ServerConfig
from raftmail.frontends.lmtp.connection import LOG, LmtpConnection, LmtpContext
from raftmail.net.door import Door, listening_sockets
from raftmail.net.gate import Descriptors, Gate, GateLimits
from raftmail.service.service import Delivery

_SWEEP_S_MAX: Final = 1.0


@dataclass(frozen=True, slots=True)
class ServerStats:
    """What a server does now, and has done since it began.

    Now: `connections`, of which `connections_waiting` are not read from for want of memory;
    `buffered_bytes` of what clients sent; `unsent_bytes` of replies that clients do not take.
    Since: the rest; `messages` counts those that the backend gave verdicts on.
    """

    connections: int
    connections_waiting: int
    buffered_bytes: int
    unsent_bytes: int
    connections_refused: int
    messages: int
    backend_failures: int


class LmtpServer:
    """Takes mail by LMTP and hands it to a backend.

    To be made and used on the event loop. Time limits are checked at most a second late, and at
    most a quarter of the shortest limit.
    """

    def __init__(
        self,
        service: Delivery,
        config: ServerConfig,
        *,
        wall_clock: Callable[[], float],
        tls: ssl.SSLContext | None = None,
        descriptors: Descriptors | None = None,
    ) -> None:
        """With `tls`, STARTTLS is offered, whatever `config.session.starttls` says. `wall_clock`
        gives seconds since 1970, for Received and the arrival date of messages. `descriptors` are the process's."""
        session_config = replace(config.session, starttls=tls is not None)
        self._loop = asyncio.get_running_loop()
        self._shared = LmtpContext(service, config, session_config, tls, wall_clock)
        self._gate = Gate(_gate_limits(config), descriptors or Descriptors())
        self._doors: list[Door] = []
        self._socket_files: list[tuple[str, int]] = []
        self._sweeper: asyncio.TimerHandle | None = None
        self._sweep_s = min(
            _SWEEP_S_MAX,
            session_config.idle_timeout_s / 4,
            session_config.transaction_timeout_s / 4,
            config.backend_timeout_s / 4,
            config.close_timeout_s / 4,
        )

    async def listen_tcp(self, host: str, port: int, *, shared: bool = False) -> tuple[str, int]:
        """Take connections on a TCP port, any free one for 0; returns address and port. With
        `shared`, other processes that say so too may listen there as well.

        Raises OSError where the port cannot be had.
        """
        sockets = await listening_sockets(host, port, shared=shared)
        for sock in sockets:
            self._listen_on(sock)
        return self._doors[-len(sockets)].address

    async def listen_unix(self, path: str, mode: int = 0o660) -> None:
        """Take connections on a unix socket with these permissions.

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

    def take_over(self, config: ServerConfig, tls: ssl.SSLContext | None) -> None:
        """Use these limits and this context for connections that come from now on."""
        shared = self._shared
        shared.session_config = replace(config.session, starttls=tls is not None)
        shared.tls = tls
        self._gate.limits = _gate_limits(config)

    async def stop(self, grace_s: float) -> None:
        """Stop. Idle clients get 421 at once, the others when their transaction is through; after
        `grace_s` those that are left get it, too, and their backend calls are cancelled."""
        shared = self._shared
        shared.stopping = True
        for door in self._doors:
            door.close()
        self._doors.clear()
        for path, inode in self._socket_files:
            with suppress(FileNotFoundError):
                if os.lstat(path).st_ino == inode:
                    os.unlink(path)
        self._socket_files.clear()

        now = self._loop.time()
        for connection in list(shared.connections):
            connection.drain(now)
        if not await _happens(shared.no_connections, grace_s):
            LOG.warning("%d connections did not end in %s s", len(shared.connections), grace_s)
            for connection in list(shared.connections):
                connection.cut()
            await _happens(shared.no_connections, shared.config.close_timeout_s)
        if shared.abandoned:
            await asyncio.wait(list(shared.abandoned), timeout=shared.config.close_timeout_s)
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None

    def stats(self) -> ServerStats:
        """A snapshot for metrics."""
        shared = self._shared
        return ServerStats(
            connections=len(shared.connections),
            connections_waiting=shared.budget.waiting_count,
            buffered_bytes=shared.budget.held_bytes,
            unsent_bytes=sum(connection.unsent_bytes for connection in shared.connections),
            connections_refused=shared.connections_refused + self._gate.turned_away,
            messages=shared.messages,
            backend_failures=shared.backend_failures,
        )

    def _listen_on(self, sock: socket.socket) -> None:
        self._doors.append(
            Door(
                sock,
                self._gate,
                lambda entry: LmtpConnection(self._shared, entry),
                full=replies.TOO_MANY_CONNECTIONS,
            )
        )
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(self._sweep_s, self._sweep)

    def _sweep(self) -> None:
        # One timer for all: to set one for each command would cost more than the command.
        self._sweeper = self._loop.call_later(self._sweep_s, self._sweep)
        now = self._loop.time()
        for connection in list(self._shared.connections):
            connection.check_deadlines(now)


def _gate_limits(config: ServerConfig) -> GateLimits:
    return GateLimits(config.connections_max, config.address_connections_max, config.strangers_max)


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
