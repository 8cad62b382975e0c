"""POP3 through the proxy. A maildrop is a list of one log-in, so a session is never moved: when its
node is lost it is closed without a word, and nothing of it is deleted (RFC 1939 section 6)."""

from __future__ import annotations

from raftmail.net.connection import Connection
from raftmail.proxy.context import ProxyContext
from raftmail.proxy.node_log_in import pop3_log_in
from raftmail.proxy.pop3_front import Pop3Front
from raftmail.proxy.program_session import ProgramSession, ProgramState
from raftmail.proxy.steps import LogInWanted


class ProxiedPop3(ProgramSession):
    """One client."""

    protocol = "pop3s"

    def __init__(self, context: ProxyContext, connection: Connection, *, secure: bool) -> None:
        front = Pop3Front(
            context.mechanisms,
            may_start_tls=context.tls is not None and not secure,
            trusted=secure or connection.is_loopback,
        )
        super().__init__(context, connection, front, pop3_log_in)

    def _unavailable(self, wanted: LogInWanted) -> bytes:
        """RFC 3206 section 5."""
        return b"-ERR [SYS/TEMP] no node can log anybody in just now: try again\r\n"

    def _goodbye(self, text: str) -> bytes:
        return b"-ERR [SYS/TEMP] %b\r\n" % text.encode()

    @property
    def _may_speak(self) -> bool:
        # After the log-in, a word of this side could be taken for the answer to a command.
        return self._state in (ProgramState.FRONT, ProgramState.LOG_IN)
