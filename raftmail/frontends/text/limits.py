"""What a client of the text protocol may cost (P7), beside what every connection may."""

from __future__ import annotations

from dataclasses import dataclass, field

from raftmail.net.limits import BEFORE_AUTH, KIB, MIB, ConnectionLimits, ReaderLimits


@dataclass(frozen=True, slots=True)
class TextLimits(ConnectionLimits):
    """Of a listener and its client connections. `handshake_s` is for TLS and authentication
    together; connections before AUTH are the strangers, and those that become peers leave all of
    these limits."""

    reader: ReaderLimits = field(default_factory=ReaderLimits)
    before_auth: ReaderLimits = BEFORE_AUTH

    read_bytes_max: int = 256 * KIB
    outstanding_commands_max: int = 4096
    """Commands of a connection without an answer; reading pauses until there are fewer."""
    connection_buffered_bytes_max: int = 64 * MIB
    """Literals of a connection whose commands have no answer yet; the next request that brings
    one waits unread."""
    total_buffered_bytes_max: int = 512 * MIB
    """The same over all connections; the command is answered RETRY without effect."""
    mailbox_numbers_max: int = 4096
    """Mailbox numbers of a session, in each direction. The client's next is answered NO LIMIT;
    the server uses its oldest again."""

    idle_s: float = 1800.0
    """A connection without a complete request for so long, and nothing outstanding, is closed."""
    stalled_request_s: float = 60.0
    """A request that has begun and of which nothing more comes for so long closes the
    connection."""

    bad_lines_max: int = 20
    """Requests answered BAD before the connection is closed."""
    first_bad_lines_max: int = 3
    """The same before the first request that is understood."""
    blank_bytes_max: int = 64 * KIB
    """Of lines with nothing in them, without a request in between; then the connection is
    closed."""
    refused_before_auth_max: int = 10
    """Requests answered NO because of what is to come first; then the connection is closed."""
    failed_auths_max: int = 3

    deadline_default_s: float = 10.0
    deadline_max_s: float = 120.0
