"""What a protocol without I/O asks to be done before a client is logged in."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class SayToClient:
    """Send this."""

    data: bytes


@dataclass(frozen=True, slots=True)
class BeginTls:
    """Send this, then do the server's side of a handshake."""

    data: bytes


@dataclass(frozen=True, slots=True)
class EndWithClient:
    """Send this, then close."""

    data: bytes


@dataclass(frozen=True, slots=True)
class LogInShown:
    """What a client has shown, as the first message of a SASL mechanism (RFC 4422). `user` is whom
    it names, "" where that cannot be read."""

    mechanism: str
    message: bytes = field(repr=False)
    user: str

    @property
    def may_be_repeated(self) -> bool:
        """Whether the same message logs in at another node, too."""
        return not self.mechanism.startswith("SCRAM")


@dataclass(frozen=True, slots=True)
class LogInWanted:
    """Log in at a node. `tag` is IMAP's. `utf8` is POP3's UTF8, said before."""

    shown: LogInShown
    tag: bytes = b""
    utf8: bool = False


FrontStep = SayToClient | BeginTls | EndWithClient | LogInWanted
