"""What is known of a message that comes in, and what is said of it to each recipient."""

import re
from dataclasses import dataclass, field
from typing import Final, Self

from raftmail.mail.smtp_address import Address
from raftmail.mail.trace_fields import Trace

TEXT_BYTES_MAX: Final = 400
"""Octets in the text of a reply: the whole line stays under the 512 of RFC 5321 4.5.3.1.5."""

_ENHANCED: Final = re.compile(r"[245]\.[0-9]{1,3}\.[0-9]{1,3}")
_TEXT: Final = re.compile(r"[\x20-\x7e]+")


@dataclass(frozen=True, slots=True)
class Verdict:
    """One reply about one recipient: code (RFC 5321), enhanced status code (RFC 3463) and text.

    The code is 250, or any of 400–599. The text is one line of printable ASCII of at most
    TEXT_BYTES_MAX octets; mind that names of users need not be ASCII. Raises ValueError when it
    could not be sent as it is.
    """

    code: int
    enhanced: str
    text: str
    line: bytes = field(init=False, repr=False, compare=False)
    """The reply as it is sent, made once: most verdicts are used many times."""

    def __post_init__(self) -> None:
        if self.code != 250 and not 400 <= self.code <= 599:
            raise ValueError(f"a verdict is 250 or 400 to 599, not {self.code}")
        if _ENHANCED.fullmatch(self.enhanced) is None or self.enhanced[0] != str(self.code)[0]:
            raise ValueError(f"enhanced status {self.enhanced!r} does not go with {self.code}")
        if _TEXT.fullmatch(self.text) is None or len(self.text) > TEXT_BYTES_MAX:
            raise ValueError(
                f"a reply's text is one line of 1 to {TEXT_BYTES_MAX} printable ASCII characters,"
                f" not {self.text[:80]!r}"
            )
        object.__setattr__(self, "line", f"{self.code} {self.enhanced} {self.text}\r\n".encode())

    @property
    def is_positive(self) -> bool:
        """Whether the recipient is accepted, or has the message."""
        return self.code == 250

    @property
    def is_permanent(self) -> bool:
        """Whether it would be the same at the next try."""
        return self.code >= 500

    @classmethod
    def accepted(cls, text: str = "Recipient ok") -> Self:
        """`resolve` knows the user and will take mail for it."""
        return cls(250, "2.1.5", text)

    @classmethod
    def delivered(cls, text: str = "Delivered") -> Self:
        """`deliver` has put the message where the loss of any minority of nodes cannot reach it."""
        return cls(250, "2.0.0", text)

    @classmethod
    def unknown_user(cls, text: str = "No such user here") -> Self:
        """The sender gets the message back."""
        return cls(550, "5.1.1", text)

    @classmethod
    def try_later(cls, text: str = "Temporary failure, try again later") -> Self:
        """The client keeps the message and comes again: no master, no majority, a timeout."""
        return cls(451, "4.3.0", text)

    @classmethod
    def storage_full(cls, text: str = "Not enough storage, try again later") -> Self:
        """The disk is nearly full (RFC 3463 X.3.1); the client comes again."""
        return cls(452, "4.3.1", text)


@dataclass(frozen=True, slots=True)
class Recipient:
    """An accepted recipient, with the verdict that accepted it.

    A service that looked something up in `resolve` and wants it again in `deliver` can return a
    subclass of Verdict that carries it.
    """

    address: Address
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Envelope:
    """What is known of a message beside its bytes.

    `sender` is None for the null path `<>` (bounces: never answer those). `utf8` says that the
    client declared SMTPUTF8, `tls` that the message came over TLS. `transaction_id` names the
    transaction in Received and in logs, and differs for every message of a server.
    `received_unix_s` is the wall clock when the last byte had arrived.
    """

    sender: Address | None
    lhlo_name: str
    peer: str
    tls: bool
    utf8: bool
    transaction_id: str
    received_unix_s: float
    trace: Trace
