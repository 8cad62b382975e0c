"""The POP3 server: its sessions ask the service."""

from __future__ import annotations

from raftmail.frontends.pop3.context import Pop3Context
from raftmail.frontends.pop3.limits import Pop3Limits
from raftmail.frontends.pop3.session import Pop3Session
from raftmail.net.gate import Descriptors, Guests
from raftmail.net.program_server import ProgramServer

_FULL = b"-ERR [SYS/TEMP] too many connections: try again later\r\n"


class Pop3Server(ProgramServer[Pop3Limits]):
    """Serves POP3; STLS is offered where the context has TLS."""

    def __init__(
        self,
        context: Pop3Context,
        *,
        implicit_tls: bool = False,
        descriptors: Descriptors | None = None,
        guests: Guests | None = None,
    ) -> None:
        """`implicit_tls` and `guests` are as of `ProgramServer`."""
        super().__init__(
            context,
            lambda connection: Pop3Session(context, connection, secure=implicit_tls),
            full=_FULL,
            implicit_tls=implicit_tls,
            descriptors=descriptors,
            guests=guests,
        )
