"""The LMTP server: a listener whose sessions hand mail to the service."""

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass, replace

from raftmail.frontends.lmtp import replies
from raftmail.frontends.lmtp.config import ServerConfig
from raftmail.frontends.lmtp.driver import LmtpContext, LmtpDriver
from raftmail.mail.budget import Budget
from raftmail.net.budget import ReadBudget
from raftmail.net.gate import Descriptors
from raftmail.net.listener import SWEEP_S, Listener
from raftmail.service.service import DeliveryService


@dataclass(frozen=True, slots=True)
class ServerStats:
    """What a server does now, and has done since it began.

    Now: `connections`, of which `connections_waiting` are not read from for want of memory;
    `buffered_bytes` of what clients sent; `unsent_bytes` of replies that clients do not take.
    Since: the rest; `messages` counts those that the service gave verdicts on.
    """

    connections: int
    connections_waiting: int
    buffered_bytes: int
    unsent_bytes: int
    connections_refused: int
    messages: int
    service_failures: int


class LmtpServer:
    """Takes mail by LMTP and hands it to the service.

    To be made and used on the event loop. Time limits are checked at most a second late, and at
    most a quarter of the shortest limit.
    """

    def __init__(
        self,
        service: DeliveryService,
        config: ServerConfig,
        *,
        wall_clock: Callable[[], float],
        tls: ssl.SSLContext | None = None,
        descriptors: Descriptors | None = None,
    ) -> None:
        """With `tls`, STARTTLS is offered, whatever `config.session.starttls` says. `wall_clock`
        gives seconds since 1970, for Received and the arrival date of messages. `descriptors` are
        the process's."""
        session_config = replace(config.session, starttls=tls is not None)
        self._shared = shared = LmtpContext(service, config, session_config, tls, wall_clock)
        self._budget = ReadBudget(Budget(config.buffered_bytes_max), config.read_bytes_max)
        self._listener = Listener(
            lambda connection: LmtpDriver(shared, connection),
            config,
            full=replies.TOO_MANY_CONNECTIONS,
            descriptors=descriptors,
            budget=self._budget,
            sweep_s=min(
                SWEEP_S,
                session_config.idle_timeout_s / 4,
                session_config.transaction_timeout_s / 4,
                config.service_timeout_s / 4,
                config.close_s / 4,
            ),
        )
        self.listen_tcp = self._listener.listen_tcp
        self.listen_unix = self._listener.listen_unix

    def take_over(self, config: ServerConfig, tls: ssl.SSLContext | None) -> None:
        """Use these limits and this context for connections that come from now on."""
        shared = self._shared
        shared.session_config = replace(config.session, starttls=tls is not None)
        shared.tls = tls
        self._listener.take_over(config, None)

    async def stop(self, grace_s: float) -> None:
        """Stop. Idle clients get 421 at once, the others when their transaction is through. After
        `grace_s` those that are left get it, too, and their calls to the service are cancelled.
        """
        await self._listener.stop(grace_s)
        abandoned = self._shared.abandoned
        if abandoned:
            await asyncio.wait(list(abandoned), timeout=self._shared.config.close_s)

    def stats(self) -> ServerStats:
        """A snapshot for metrics."""
        shared, listener = self._shared, self._listener
        return ServerStats(
            connections=listener.served,
            connections_waiting=self._budget.waiting_count,
            buffered_bytes=self._budget.held_bytes,
            unsent_bytes=listener.unsent_bytes,
            connections_refused=listener.refused + listener.gate.turned_away,
            messages=shared.messages,
            service_failures=shared.service_failures,
        )
