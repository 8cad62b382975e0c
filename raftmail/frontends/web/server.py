"""The web server of a node."""

from __future__ import annotations

import ssl

from raftmail.frontends.web.limits import WebLimits
from raftmail.frontends.web.pages import WebPages
from raftmail.frontends.web.session import WebSession
from raftmail.net.gate import Descriptors
from raftmail.net.listener import Listener

_FULL = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class WebServer:
    """Serves the pages on any number of addresses; with `tls` all of them begin with it."""

    def __init__(
        self,
        pages: WebPages,
        limits: WebLimits | None = None,
        *,
        tls: ssl.SSLContext | None = None,
        descriptors: Descriptors | None = None,
    ) -> None:
        self._pages = pages
        self._limits = limits or WebLimits()
        self._listener = Listener(
            lambda connection: WebSession(self._pages.answer, connection, self._limits),
            self._limits,
            tls=tls,
            full=_FULL,
            descriptors=descriptors,
        )
        self.listen_tcp = self._listener.listen_tcp
        self.stop = self._listener.stop

    def take_over(self, pages: WebPages, tls: ssl.SSLContext | None) -> None:
        """Use these pages from now on, and this context for connections that come, if the server
        has TLS at all."""
        self._pages = pages
        self._listener.take_over(self._limits, tls if self._listener.tls is not None else None)
