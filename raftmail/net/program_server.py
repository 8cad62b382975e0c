"""What the servers of mail programs share: a port in the clear whose sessions may start TLS, or one
that begins with TLS (RFC 8314 section 3)."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from raftmail.net.connection import Connection
from raftmail.net.gate import Descriptors, Guests
from raftmail.net.limits import ConnectionLimits
from raftmail.net.listener import Listener
from raftmail.net.session import Session

L = TypeVar("L", bound=ConnectionLimits)


class ProgramContext(Protocol[L]):
    """What the sessions of one server share, as far as the server is concerned. `tls` is what they
    start TLS with."""

    limits: L
    tls: ssl.SSLContext | None


class ProgramServer(Generic[L]):
    """Accepts mail programs on any number of addresses."""

    def __init__(
        self,
        context: ProgramContext[L],
        make_session: Callable[[Connection], Session],
        *,
        full: bytes,
        implicit_tls: bool,
        descriptors: Descriptors | None,
        guests: Guests | None,
    ) -> None:
        """`implicit_tls` has connections begin with the handshake; the context must have TLS then.
        `full`, `descriptors` and `guests` are as of `Listener`."""
        self._context = context
        self._implicit_tls = implicit_tls
        self._listener = Listener(
            make_session,
            context.limits,
            tls=context.tls if implicit_tls else None,
            full=full,
            descriptors=descriptors,
            guests=guests,
        )
        self.listen_tcp = self._listener.listen_tcp
        self.stop = self._listener.stop

    @property
    def connections(self) -> int:
        """Mail programs that are connected now."""
        return self._listener.served

    def take_over(self, limits: L, tls: ssl.SSLContext | None) -> None:
        """Use these limits and this context for connections that come from now on."""
        self._context.limits = limits
        self._context.tls = tls
        self._listener.take_over(limits, tls if self._implicit_tls else None)
