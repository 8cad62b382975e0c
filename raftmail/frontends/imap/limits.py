"""What an IMAP session may cost (P7)."""

from __future__ import annotations

from dataclasses import dataclass

from raftmail.net.limits import KIB, MIB, ConnectionLimits


@dataclass(frozen=True, slots=True)
class ImapLimits(ConnectionLimits):
    """Beside those of every connection. A session that is silent for `idle_s` is told BYE; RFC 9051
    section 5.4 asks for 30 minutes at least."""

    login_s: float = 60.0
    """Who has not said who they are within this is told BYE."""
    idle_s: float = 31 * 60.0
    request_s: float = 120.0
    """Half a request, and nothing more for so long, ends the session."""
    deadline_s: float = 60.0
    """A command that waits for the cluster (an election, a slow disk) is answered NO
    [UNAVAILABLE] after this."""
    failed_logins_max: int = 3
    """Wrong passwords on one connection; the next ends it."""
    bad_commands_max: int = 50
    """Commands of one connection that make no sense; one more ends it."""
    message_bytes_max: int = 50 * MIB
    """A larger one is refused with TOOBIG, and APPENDLIMIT tells it."""
    unread_bytes_max: int = 64 * KIB
    """Of requests that came while one was under way; more is not read yet."""
