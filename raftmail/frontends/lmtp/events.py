"""What a session asks its caller to do."""

from dataclasses import dataclass
from typing import TypeAlias

from raftmail.mail.smtp_address import Address
from raftmail.service.verdicts import Recipient


@dataclass(frozen=True, slots=True)
class RecipientOffered:
    """RCPT: say whether mail for `address` is taken, with `answer_recipient`."""

    address: Address


@dataclass(frozen=True, slots=True)
class MessageReceived:
    """A whole message: say what became of it for each recipient, with `complete`."""

    sender: Address | None
    recipients: tuple[Recipient, ...]
    body: bytes
    utf8: bool
    tls: bool
    lhlo_name: str
    peer: str


@dataclass(frozen=True, slots=True)
class TlsRequested:
    """STARTTLS: send the output, do the handshake, then call `tls_started`."""


@dataclass(frozen=True, slots=True)
class OutputFull:
    """Many replies wait: send the output, and call `output_sent` when more can be taken."""


@dataclass(frozen=True, slots=True)
class TurnOver:
    """Many commands were taken in one go: send the output, let others have a turn, then call
    `next_turn`."""


@dataclass(frozen=True, slots=True)
class Closed:
    """The connection ends: send the output, then close. Nothing follows."""


Event: TypeAlias = (
    RecipientOffered | MessageReceived | TlsRequested | OutputFull | TurnOver | Closed
)
