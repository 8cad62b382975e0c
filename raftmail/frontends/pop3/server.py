"""The POP3 server: a listener whose sessions ask the service."""

from __future__ import annotations

import ssl

from raftmail.frontends.pop3.context import Pop3Context
from raftmail.frontends.pop3.limits import Pop3Limits
from raftmail.frontends.pop3.session import Pop3Session
from raftmail.net.connection import Connection
from raftmail.net.gate import Descriptors
from raftmail.net.listener import Listener

_FULL = b"-ERR [SYS/TEMP] too many connections: try again later\r\n"


class Pop3Server:
    """Accepts mail programs on any number of addresses. They begin in the clear, and STLS is
    offered where the context has TLS; or with TLS (RFC 8314 section 3.1)."""

    def __init__(
        self,
        context: Pop3Context,
        *,
        implicit_tls: bool = False,
        descriptors: Descriptors | None = None,
    ) -> None:
        """`implicit_tls` has connections begin with the handshake; the context must have TLS then.
        `descriptors` are the process's."""
        self._context = context
        self._implicit_tls = implicit_tls
        self._listener = Listener(
            self._make_session,
            context.limits,
            tls=context.tls if implicit_tls else None,
            full=_FULL,
            descriptors=descriptors,
        )
        self.listen_tcp = self._listener.listen_tcp
        self.stop = self._listener.stop

    @property
    def connections(self) -> int:
        """Mail programs that are connected now."""
        return self._listener.gate.guests

    def take_over(self, limits: Pop3Limits, tls: ssl.SSLContext | None) -> None:
        """Use these limits and this context for connections that come from now on."""
        self._context.limits = limits
        self._context.tls = tls
        self._listener.take_over(limits, tls if self._implicit_tls else None)

    def _make_session(self, connection: Connection) -> Pop3Session:
        return Pop3Session(self._context, connection, secure=self._implicit_tls)
