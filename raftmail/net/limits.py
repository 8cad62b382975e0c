"""What a connection may cost (P7). Each limit names its unit; what happens when it is reached
stands beside it."""

from __future__ import annotations

from dataclasses import dataclass

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True, slots=True)
class ReaderLimits:
    """What `lines.LineReader` takes from the other side.

    A line longer than `line_bytes_max` ends the connection. A literal longer than
    `literal_bytes_max`, or one that takes its request over `request_bytes_max`, is read past
    without being kept, and its request is answered BAD; one longer than `discard_bytes_max` ends
    the connection. A request of more than `words_max` words ends it too."""

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
    """Of a listener and its client connections."""

    reader: ReaderLimits = ReaderLimits()
    before_auth: ReaderLimits = BEFORE_AUTH

    connections_max: int = 2048
    """Connections that have not become peers; further ones get `* BYE` and are closed."""
    address_connections_max: int = 1024
    """The same from one address."""
    strangers_max: int = 256
    """Connections before AUTH, handshakes of TLS among them; at the limit the oldest one of the
    busiest address is closed."""
    outstanding_commands_max: int = 4096
    """Commands of a connection without an answer; reading pauses until there are fewer."""
    connection_buffered_bytes_max: int = 64 * MIB
    """Literals of a connection whose commands have no answer yet; the next request that brings
    one waits unread."""
    total_buffered_bytes_max: int = 512 * MIB
    """The same over all connections; the command is answered RETRY without effect."""
    output_bytes_max: int = 1 * MIB
    """Answers that the other side has not read: above it, reading and listing pause."""
    mailbox_numbers_max: int = 4096
    """Mailbox numbers of a session, in each direction. The client's next is answered NO LIMIT;
    the server uses its oldest again."""

    handshake_s: float = 10.0
    """TLS and authentication together take no longer, or the connection is closed."""
    idle_s: float = 1800.0
    """A connection without a complete request for so long, and nothing outstanding, is closed."""
    stalled_request_s: float = 60.0
    """A request that has begun and of which nothing more comes for so long closes the
    connection."""
    slow_reader_s: float = 30.0
    """A connection whose output stays above `output_bytes_max` for so long is closed."""

    bad_lines_max: int = 20
    """Requests answered BAD before the connection is closed."""
    first_bad_lines_max: int = 3
    """The same before the first request that is understood."""
    blank_bytes_max: int = 64 * KIB
    """Of lines with nothing in them, without a request in between; then the connection is closed."""
    refused_before_auth_max: int = 10
    """Requests answered NO because of what is to come first; then the connection is closed."""
    failed_auths_max: int = 3

    deadline_default_s: float = 10.0
    deadline_max_s: float = 120.0
