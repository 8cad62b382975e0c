"""What a POP3 session may cost (P7)."""

from __future__ import annotations

from dataclasses import dataclass

from raftmail.net.limits import KIB, ConnectionLimits


@dataclass(frozen=True, slots=True)
class Pop3Limits(ConnectionLimits):
    """Beside those of every connection. A session that is silent for `idle_s` is closed, and
    nothing is deleted; RFC 1939 section 3 asks for 10 minutes at least."""

    login_s: float = 60.0
    """Who has not said who they are within this is closed."""
    idle_s: float = 10 * 60.0
    deadline_s: float = 60.0
    """A command that waits for the cluster (an election, a slow disk) is answered -ERR [SYS/TEMP]
    after this."""
    failed_logins_max: int = 3
    """Wrong passwords on one connection; the next ends it."""
    bad_commands_max: int = 50
    """Commands of one connection that make no sense; one more ends it."""
    line_bytes_max: int = 1 * KIB
    """A longer line ends the connection. RFC 2449 section 4 lets commands have 255."""
    login_line_bytes_max: int = 17 * KIB
    """The same before the log-in, where answers of SASL are longer (RFC 5034 section 4)."""
    unread_bytes_max: int = 64 * KIB
    """Of commands that came while one was under way; more is not read yet."""
    messages_max: int = 1_000_000
    """A maildrop has the oldest so many. The others are in it when those are gone."""
