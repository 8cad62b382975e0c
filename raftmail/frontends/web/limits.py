"""What a connection of the web may cost (P7)."""

from __future__ import annotations

from dataclasses import dataclass

from raftmail.net.limits import KIB, ConnectionLimits


@dataclass(frozen=True, slots=True)
class WebLimits(ConnectionLimits):
    """Beside those of every connection."""

    connections_max: int = 256
    address_connections_max: int = 64
    head_bytes_max: int = 16 * KIB
    """A longer head of a request is answered 431, and ends the connection."""
    body_bytes_max: int = 64 * KIB
    """A longer body is answered 413, and ends the connection."""
    request_s: float = 15.0
    """A request that is not whole within this, or a connection without one, is closed."""
    requests_max: int = 100
    """Of one connection; the last answer says that it is closed."""
