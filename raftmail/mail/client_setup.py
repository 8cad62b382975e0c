"""What a mail program has to be told to reach a site's mail: servers, and how they are secured.

One table for everything that tells it: autoconfig, autodiscover, profiles, DNS records.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from raftmail.mail.endpoint import split_address


class Securing(Enum):
    """How a connection comes to be secured (RFC 8314)."""

    IMPLICIT = "implicit TLS"
    """It begins with the handshake."""
    STARTTLS = "STARTTLS"
    """It begins in the clear, and a command begins the handshake."""


class MailProtocol(Enum):
    """What is spoken there."""

    IMAP = "imap"
    POP3 = "pop3"
    SUBMISSION = "smtp"
    MANAGESIEVE = "managesieve"


@dataclass(frozen=True, slots=True)
class MailServer:
    """One place where mail programs come in. `host` is a name, or an IP address."""

    protocol: MailProtocol
    securing: Securing
    host: str
    port: int


KEYS: Final = {
    "imaps": (MailProtocol.IMAP, Securing.IMPLICIT),
    "imap": (MailProtocol.IMAP, Securing.STARTTLS),
    "pop3s": (MailProtocol.POP3, Securing.IMPLICIT),
    "pop3": (MailProtocol.POP3, Securing.STARTTLS),
    "submissions": (MailProtocol.SUBMISSION, Securing.IMPLICIT),
    "submission": (MailProtocol.SUBMISSION, Securing.STARTTLS),
    "managesieve": (MailProtocol.MANAGESIEVE, Securing.STARTTLS),
}
"""The names under which operators give addresses, the preferred ones first: IMAP before POP3, and
implicit TLS before STARTTLS (RFC 8314 section 3.3)."""


@dataclass(frozen=True, slots=True)
class ClientSetup:
    """What a site tells: its `name`, as people know it, and its servers in the order of `KEYS`."""

    name: str
    servers: tuple[MailServer, ...]

    @classmethod
    def of(cls, name: str, addresses: dict[str, str]) -> ClientSetup:
        """Of addresses `host:port` by the names of `KEYS`; "" is not served. Raises ValueError,
        which names the key."""
        servers = []
        for key, (protocol, securing) in KEYS.items():
            if not addresses.get(key):
                continue
            try:
                host, port = split_address(addresses[key])
            except ValueError as e:
                raise ValueError(f"{key}: {e}") from None
            servers.append(MailServer(protocol, securing, host, port))
        return cls(name, tuple(servers))

    @property
    def incoming(self) -> tuple[MailServer, ...]:
        """Where mail is read."""
        wanted = (MailProtocol.IMAP, MailProtocol.POP3)
        return tuple(server for server in self.servers if server.protocol in wanted)

    @property
    def outgoing(self) -> tuple[MailServer, ...]:
        """Where mail is handed in."""
        return tuple(s for s in self.servers if s.protocol is MailProtocol.SUBMISSION)

    def first(self, protocol: MailProtocol) -> MailServer | None:
        """The preferred server of a protocol."""
        return next((server for server in self.servers if server.protocol is protocol), None)
