"""The listener of the text protocol: clients, and peers until their connections become links."""

from __future__ import annotations

import ssl

from raftmail.frontends.text.context import TextContext
from raftmail.frontends.text.session import PeerAcceptor, TextSession
from raftmail.net.connection import Connection
from raftmail.net.gate import Descriptors
from raftmail.net.listener import Listener

_FULL = b'* BYE "too many connections: try again later"\r\n'


class TextListener:
    """Accepts clients, and peers for `peers`, on any number of addresses."""

    def __init__(
        self,
        front: TextContext,
        *,
        peers: PeerAcceptor | None = None,
        tls: ssl.SSLContext | None = None,
        trust_loopback: bool = False,
        descriptors: Descriptors | None = None,
    ) -> None:
        """`tls` is `tls.server_context`, or None for a listener in the clear. With
        `trust_loopback`, which is for trials without a token, connections from this machine need
        no AUTH. `descriptors` are the process's."""
        self.front = front
        self.peers = peers
        self._trust_loopback = trust_loopback
        self.listener = Listener(
            self._make_session,
            front.limits,
            tls=tls,
            full=_FULL,
            descriptors=descriptors,
            loop_tls=True,
        )
        self.listen = self.listener.listen_tcp

    async def close(self) -> None:
        """Stop accepting, tell all clients goodbye, and close. Links of peers stay as they are."""
        await self.listener.stop(0.0)

    @property
    def connections(self) -> int:
        """Clients that are connected now."""
        return self.listener.served

    def take_over(self, tls: ssl.SSLContext) -> None:
        """Use another context, and the limits that the front end has now, for connections that
        come from now on."""
        self.listener.take_over(self.front.limits, tls)

    def _make_session(self, connection: Connection) -> TextSession:
        trusted = self._trust_loopback and connection.is_loopback
        return TextSession(self.front, connection, trusted=trusted, peers=self.peers)
