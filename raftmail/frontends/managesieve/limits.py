"""What a ManageSieve session may cost (P7)."""

from __future__ import annotations

from dataclasses import dataclass

from raftmail.net.limits import KIB, ConnectionLimits


@dataclass(frozen=True, slots=True)
class ManageSieveLimits(ConnectionLimits):
    """Beside those of every connection. A session that is silent for `idle_s` is closed; RFC 5804
    section 1.2 asks for 30 minutes at least."""

    login_s: float = 60.0
    """Who has not said who they are within this is closed."""
    idle_s: float = 31 * 60.0
    deadline_s: float = 60.0
    """A command that waits for the cluster (an election, a slow disk) is answered NO (TRYLATER)
    after this."""
    failed_logins_max: int = 3
    """Wrong passwords on one connection; the next ends it."""
    bad_commands_max: int = 50
    """Commands of one connection that make no sense; one more ends it."""
    command_bytes_max: int = 8 * KIB
    """Of a command without its literals; more ends the connection."""
    login_string_bytes_max: int = 17 * KIB
    """A string before the log-in: an answer of SASL."""
    skipped_bytes_max: int = 4096 * KIB
    """A string that is too long, and no longer than this, is read past and refused. A longer one
    ends the connection."""
    unread_bytes_max: int = 64 * KIB
    """Of commands that came while one was under way; more is not read yet."""
