"""The IMAP server: its sessions ask the service."""

from __future__ import annotations

from raftmail.frontends.imap.context import ImapContext
from raftmail.frontends.imap.limits import ImapLimits
from raftmail.frontends.imap.session import ImapSession
from raftmail.net.gate import Descriptors, Guests
from raftmail.net.program_server import ProgramServer

_FULL = b"* BYE [UNAVAILABLE] too many connections: try again later\r\n"


class ImapServer(ProgramServer[ImapLimits]):
    """Serves IMAP; STARTTLS is offered where the context has TLS."""

    def __init__(
        self,
        context: ImapContext,
        *,
        implicit_tls: bool = False,
        descriptors: Descriptors | None = None,
        guests: Guests | None = None,
    ) -> None:
        """`implicit_tls` and `guests` are as of `ProgramServer`."""
        super().__init__(
            context,
            lambda connection: ImapSession(context, connection, secure=implicit_tls),
            full=_FULL,
            implicit_tls=implicit_tls,
            descriptors=descriptors,
            guests=guests,
        )
