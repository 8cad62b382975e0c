"""The ManageSieve server: its sessions ask the service."""

from __future__ import annotations

from raftmail.frontends.managesieve.context import ManageSieveContext
from raftmail.frontends.managesieve.limits import ManageSieveLimits
from raftmail.frontends.managesieve.session import ManageSieveSession
from raftmail.net.gate import Descriptors, Guests
from raftmail.net.program_server import ProgramServer

_FULL = b'BYE (TRYLATER) "too many connections: try again later"\r\n'


class ManageSieveServer(ProgramServer[ManageSieveLimits]):
    """Serves ManageSieve; STARTTLS is offered where the context has TLS."""

    def __init__(
        self,
        context: ManageSieveContext,
        *,
        implicit_tls: bool = False,
        descriptors: Descriptors | None = None,
        guests: Guests | None = None,
    ) -> None:
        """`implicit_tls` and `guests` are as of `ProgramServer`."""
        super().__init__(
            context,
            lambda connection: ManageSieveSession(context, connection, secure=implicit_tls),
            full=_FULL,
            implicit_tls=implicit_tls,
            descriptors=descriptors,
            guests=guests,
        )
