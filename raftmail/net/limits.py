"""What a connection may cost (P7). Each limit names its unit; what happens when it is reached
stands beside it."""

from __future__ import annotations

from dataclasses import dataclass, fields

from raftmail.mail.networks import Network

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True, slots=True)
class ReaderLimits:
    """What `lines.LineReader` takes from the other side.

    A line longer than `line_bytes_max` ends the connection. A literal longer than
    `literal_bytes_max`, or one that takes its request over `request_bytes_max`, is read past
    without being kept, and its request is answered BAD. One longer than `discard_bytes_max` ends
    the connection. A request of more than `words_max` words ends it too.
    """

    line_bytes_max: int = 16 * KIB
    literal_bytes_max: int = 50 * MIB + 64 * KIB
    request_bytes_max: int = 64 * MIB
    discard_bytes_max: int = 1024 * MIB
    words_max: int = 16_384


BEFORE_AUTH = ReaderLimits(
    line_bytes_max=KIB,
    literal_bytes_max=4 * KIB,
    request_bytes_max=8 * KIB,
    discard_bytes_max=0,
    words_max=64,
)
"""For those who have not said who they are."""


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Of a listener and each of its connections; a front end adds its own below this.

    Raises ValueError for a number that is not above 0."""

    connections_max: int = 2048
    """Connections that are served; further ones are told so and closed."""
    address_connections_max: int = 1024
    """The same from one address."""
    strangers_max: int = 256
    """Connections that have not said what only a client says, handshakes of TLS among them.

    At the limit the oldest one of the busiest address is closed.
    """
    read_bytes_max: int = 64 * KIB
    """Taken from a connection by one read."""
    output_bytes_max: int = 1 * MIB
    """Answers that the other side has not read: above it, reading pauses."""
    handshake_s: float = 10.0
    """TLS takes no longer, or the connection is closed."""
    slow_reader_s: float = 30.0
    """A connection whose output stays above `output_bytes_max` for so long is closed."""
    close_s: float = 30.0
    """A connection that is closing and whose output is not taken within this is cut off."""
    proxy_networks: tuple[Network, ...] = ()
    """Connections from there begin with a header of the PROXY protocol, within `handshake_s`, or
    are closed. From elsewhere none is believed."""

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            if type(value) in (int, float) and not value > 0:
                raise ValueError(f"{one.name} must be above 0, not {value}")
