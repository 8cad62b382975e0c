"""Limits of a connection and of a server, with their defaults."""

import math
from dataclasses import dataclass, field

from raftmail.net.limits import KIB, MIB, ConnectionLimits


@dataclass(frozen=True, slots=True)
class LmtpConfig:
    """Limits of one connection, and how it names itself.

    `host` is this server's name in the greeting and in Received. A command line counts with its
    CRLF: over `command_line_bytes_max` it gets 500, over `line_drop_bytes_max` the connection
    is closed. `bad_commands_max` bad commands are answered since the last delivery, the next
    one is the last; before the first LHLO it is `first_bad_commands_max`. `idle_commands_max`
    commands that bring no message nearer (NOOP, RSET, VRFY, HELP, LHLO again) are answered
    since the last delivery. `refused_recipients_max` recipients are refused for good on one
    connection. Over each of these the connection is closed with 421. Over `message_bytes_max` a
    message is read to its end without being kept, and refused with 552. Replies wait in the
    session up to `reply_bytes_max` (and one command's replies more) before it reads on. After
    `turn_commands_max` command lines in one go the session lets others have a turn. An empty
    `detail_separator` means that addresses have no detail.
    Raises ValueError.
    """

    host: str = "localhost"
    detail_separator: str = "+"
    starttls: bool = False
    command_line_bytes_max: int = 4096
    line_drop_bytes_max: int = 65536
    recipients_max: int = 1000
    message_bytes_max: int = 50 * 1024 * 1024
    bad_commands_max: int = 20
    first_bad_commands_max: int = 2
    idle_commands_max: int = 200
    refused_recipients_max: int = 200
    reply_bytes_max: int = 65536
    turn_commands_max: int = 500
    idle_timeout_s: float = 300.0
    transaction_timeout_s: float = 600.0

    def __post_init__(self) -> None:
        for name in (
            "recipients_max",
            "message_bytes_max",
            "bad_commands_max",
            "first_bad_commands_max",
            "idle_commands_max",
            "refused_recipients_max",
            "reply_bytes_max",
            "idle_timeout_s",
            "transaction_timeout_s",
        ):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, not {getattr(self, name)}")
        if self.command_line_bytes_max < 512:
            raise ValueError("command_line_bytes_max must be at least 512 (RFC 5321 4.5.3.1.4)")
        if self.line_drop_bytes_max < self.command_line_bytes_max:
            raise ValueError("line_drop_bytes_max must not be below command_line_bytes_max")
        if (
            not self.host
            or not self.host.isascii()
            or not self.host.isprintable()
            or (" " in self.host)
        ):
            raise ValueError(f"host must be a name in ASCII without spaces, not {self.host!r}")


@dataclass(frozen=True, slots=True)
class ServerConfig(ConnectionLimits):
    """Limits of a server, beside those of each connection in `session`.

    Who is one too many gets 421; connections that have not said LHLO are the strangers. A
    connection is not read from while more than `unread_bytes_max` wait for the service to answer.
    By the rule of `ReadBudget`, it is not read either while all of them hold more than
    `buffered_bytes_max`. A call of the service that takes longer than `service_timeout_s` is
    cancelled and answered 451. `handshake_s` is for STARTTLS. Slow readers have no limit here
    beside the time that a transaction may take. Raises ValueError.
    """

    session: LmtpConfig = field(default_factory=LmtpConfig)
    connections_max: int = 1000
    address_connections_max: int = 1000
    output_bytes_max: int = 64 * KIB
    unread_bytes_max: int = 64 * KIB
    buffered_bytes_max: int = 256 * MIB
    service_timeout_s: float = 60.0
    handshake_s: float = 30.0
    slow_reader_s: float = math.inf
    close_s: float = 5.0
