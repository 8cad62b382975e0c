"""What all sessions of the proxy share."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field

from raftmail.net.limits import KIB, ConnectionLimits
from raftmail.proxy.dialler import Dialler
from raftmail.proxy.whereabouts import Whereabouts


@dataclass(frozen=True, slots=True)
class ProxyLimits(ConnectionLimits):
    """Beside those of every connection."""

    login_s: float = 60.0
    """Who has not said who they are within this is closed."""
    patience_s: float = 10.0
    """So long nodes are tried for a log-in; then it is told that it cannot be done now."""
    answer_s: float = 30.0
    """A node that has not answered a log-in within this is left. Nodes answer wrong ones late."""
    move_s: float = 10.0
    """So long nodes are tried for a session whose node is gone; then the client hears BYE."""
    failed_logins_max: int = 3
    """Wrong passwords on one connection; the next ends it."""
    unread_bytes_max: int = 64 * KIB
    """Of what came while a log-in is under way; more is not read yet."""


@dataclass(slots=True, repr=False)
class ProxyContext:
    """`tls` is what clients start TLS with, `mechanisms` what they log in by. With `keeps_log_ins`,
    what a client has shown is kept in memory while its session lives."""

    dialler: Dialler
    whereabouts: Whereabouts
    limits: ProxyLimits
    mechanisms: tuple[str, ...]
    keeps_log_ins: bool = True
    tls: ssl.SSLContext | None = field(default=None)
