"""ManageSieve through the proxy. A session is never moved: when its node is lost it is closed, and
what was answered OK is kept (RFC 5804 section 1.2)."""

from __future__ import annotations

from raftmail.net.connection import Connection
from raftmail.proxy.context import ProxyContext
from raftmail.proxy.managesieve_front import ManageSieveFront
from raftmail.proxy.node_log_in import managesieve_log_in
from raftmail.proxy.program_session import ProgramSession, ProgramState
from raftmail.proxy.steps import LogInWanted


class ProxiedManageSieve(ProgramSession):
    """One client."""

    protocol = "managesieve"

    def __init__(self, context: ProxyContext, connection: Connection, *, secure: bool) -> None:
        front = ManageSieveFront(
            context.mechanisms,
            may_start_tls=context.tls is not None and not secure,
            trusted=secure or connection.is_loopback,
        )
        super().__init__(context, connection, front, managesieve_log_in)

    def secured(self) -> None:
        """See `Session`. The capabilities are told again (RFC 5804 section 2.2)."""
        super().secured()
        self._connection.write(self._front.greeting())

    def _unavailable(self, wanted: LogInWanted) -> bytes:
        """RFC 5804 section 1.3."""
        return b'NO (TRYLATER) "no node can log anybody in just now: try again"\r\n'

    def _goodbye(self, text: str) -> bytes:
        return b'BYE (TRYLATER) "%b"\r\n' % text.encode()

    @property
    def _may_speak(self) -> bool:
        # After the log-in, a word of this side could stand in the middle of a node's answer.
        return self._state in (ProgramState.FRONT, ProgramState.LOG_IN)
