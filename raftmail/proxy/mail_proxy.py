"""The proxy as a whole: its ports, what they share, start and stop."""

from __future__ import annotations

import asyncio
import logging
import resource
import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from raftmail.client.aio import Client
from raftmail.mail.budget import Budget
from raftmail.mail.endpoint import split_address
from raftmail.mail.networks import parse_networks
from raftmail.net.budget import ReadBudget
from raftmail.net.connection import Connection
from raftmail.net.errors import start_task
from raftmail.net.gate import Descriptors
from raftmail.net.listener import Listener
from raftmail.net.session import Session
from raftmail.net.tls import TlsError, program_context
from raftmail.proxy.config import ProxyConfig, ProxyConfigError
from raftmail.proxy.context import ProxyContext, ProxyLimits
from raftmail.proxy.dialler import Dialler, NodeTrust
from raftmail.proxy.first_message import MECHANISMS, TOKENS
from raftmail.proxy.hang_watch import HangWatch
from raftmail.proxy.imap_session import ProxiedImap
from raftmail.proxy.lmtp_session import HoldLimits, LmtpProxyContext, ProxiedLmtp
from raftmail.proxy.managesieve_session import ProxiedManageSieve
from raftmail.proxy.nodes import NodeTable, ProxiedNode
from raftmail.proxy.pop3_session import ProxiedPop3
from raftmail.proxy.whereabouts import Whereabouts

_log = logging.getLogger("raftmail.proxy")

STOP_GRACE_S = 5.0
_OTHER_FILES = 32


@dataclass(frozen=True, slots=True)
class ProxiedCluster:
    """What has to be known of a cluster: its nodes, and where and how it is asked."""

    nodes: Sequence[ProxiedNode]
    clients: Sequence[str]
    """Where nodes listen for clients, `host:port`."""
    ca: Path
    token: str = field(repr=False)


class MailProxy:
    """To be made and used on the event loop. Raises `ProxyConfigError`."""

    def __init__(self, config: ProxyConfig, cluster: ProxiedCluster) -> None:
        self._config = config
        self._listeners: list[Listener] = []
        self._secured: list[Listener] = []
        """Those whose connections begin with TLS."""
        self._watching: asyncio.Task[None] | None = None
        nodes = config.nodes
        host = socket.gethostname() or "localhost"
        dialler = Dialler(
            NodeTable.of(cluster.nodes),
            _trust(config, cluster),
            nodes.connect_ms / 1000,
            tells_clients=nodes.proxy_protocol,
            host=host if host.isascii() else "localhost",
        )
        self._client = Client(cluster.clients, token=cluster.token, ca=cluster.ca)
        tokens = (TOKENS,) if config.log_in.tokens else ()
        self._context = ProxyContext(
            dialler,
            Whereabouts(self._client),
            _limits(config),
            (*MECHANISMS, *tokens),
            config.log_in.keep,
            _tls(config),
        )
        self._watch = HangWatch(dialler, float(nodes.hang_s))
        # Each client needs a second descriptor, for its node.
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._descriptors = Descriptors(limit=max(soft // 2, 1), reserve=_OTHER_FILES)

    async def start(self) -> None:
        """Listen on every address. Raises `ProxyConfigError`."""
        context, listen = self._context, self._config.listen
        programs: list[tuple[str, bytes, bool, Callable[[bool, Connection], Session]]] = [
            (listen.imap, b"* BYE too many connections\r\n", False, self._imap),
            (listen.imaps, b"", True, self._imap),
            (listen.pop3, b"-ERR [SYS/TEMP] too many connections\r\n", False, self._pop3),
            (listen.pop3s, b"", True, self._pop3),
            (listen.managesieve, b'BYE "too many connections"\r\n', False, self._managesieve),
        ]
        for address, full, secure, make in programs:
            if address:
                listener = Listener(
                    partial(make, secure),
                    context.limits,
                    tls=context.tls if secure else None,
                    full=full,
                    descriptors=self._descriptors,
                )
                await self._listen(listener, address)
                if secure:
                    self._secured.append(listener)
        if listen.lmtp:
            await self._listen(self._lmtp_listener(), listen.lmtp)
        self._watching = start_task(asyncio.get_running_loop(), self._watch.run())

    def renew_certificate(self) -> None:
        """Read the certificate and its key again, for connections from now on. Raises
        `ProxyConfigError`, and then all stays as it is."""
        tls = _tls(self._config)
        self._context.tls = tls
        for listener in self._secured:
            listener.take_over(self._context.limits, tls)

    async def stop(self) -> None:
        """Accept no more, and let what is under way end."""
        await asyncio.gather(*(one.stop(STOP_GRACE_S) for one in self._listeners))
        if self._watching is not None:
            self._watching.cancel()
        await self._client.close()

    def _imap(self, secure: bool, connection: Connection) -> Session:
        return ProxiedImap(self._context, connection, secure=secure)

    def _pop3(self, secure: bool, connection: Connection) -> Session:
        return ProxiedPop3(self._context, connection, secure=secure)

    def _managesieve(self, secure: bool, connection: Connection) -> Session:
        return ProxiedManageSieve(self._context, connection, secure=secure)

    def _lmtp_listener(self) -> Listener:
        context, lmtp = self._context, self._config.lmtp
        hold = HoldLimits(float(lmtp.hold_s), message_bytes_max=lmtp.message_bytes_max)
        shared = LmtpProxyContext(context, hold, context.dialler.host)
        budget = ReadBudget(Budget(lmtp.memory_bytes_max), context.limits.read_bytes_max)
        return Listener(
            lambda connection: ProxiedLmtp(shared, connection),
            context.limits,
            full=b"421 4.3.2 Too many connections, try again later\r\n",
            budget=budget,
            descriptors=self._descriptors,
        )

    async def _listen(self, listener: Listener, address: str) -> None:
        self._listeners.append(listener)
        host, port = split_address(address)
        try:
            await listener.listen_tcp(host, port, shared=self._config.listen.shared)
        except OSError as e:
            why = e.strerror or e
            path = self._config.path
            raise ProxyConfigError(f"{path}: cannot listen on {address}: {why}") from None


def _trust(config: ProxyConfig, cluster: ProxiedCluster) -> NodeTrust:
    own = config.nodes.ca
    try:
        of_programs = own if own in ("", "system") else str(config.file(own))
        return NodeTrust.read(cluster.ca, of_programs, config.nodes.name)
    except TlsError as e:
        raise ProxyConfigError(f"{config.path}: nodes: {e}") from None


def _tls(config: ProxyConfig) -> ssl.SSLContext | None:
    """What clients are shown."""
    if not config.tls.certificate:
        return None
    try:
        return program_context(config.file(config.tls.certificate), config.file(config.tls.key))
    except TlsError as e:
        raise ProxyConfigError(f"{config.path}: tls: {e}") from None


def _limits(config: ProxyConfig) -> ProxyLimits:
    bounds = config.limits
    return ProxyLimits(
        connections_max=bounds.connections_max,
        address_connections_max=bounds.address_connections_max,
        read_bytes_max=256 * 1024,
        patience_s=float(config.log_in.patience_s),
        proxy_networks=parse_networks(config.listen.proxy_networks),
    )
