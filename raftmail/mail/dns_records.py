"""The DNS records by which mail programs find a domain's servers (RFC 6186, RFC 8314 section 5.1,
RFC 5804 section 1.8)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from raftmail.mail.client_setup import ClientSetup, MailProtocol, Securing

_SERVICES: Final = {
    "_imaps._tcp": (MailProtocol.IMAP, Securing.IMPLICIT, 0),
    "_imap._tcp": (MailProtocol.IMAP, Securing.STARTTLS, 10),
    "_pop3s._tcp": (MailProtocol.POP3, Securing.IMPLICIT, 20),
    "_pop3._tcp": (MailProtocol.POP3, Securing.STARTTLS, 30),
    "_submissions._tcp": (MailProtocol.SUBMISSION, Securing.IMPLICIT, 0),
    "_submission._tcp": (MailProtocol.SUBMISSION, Securing.STARTTLS, 10),
    "_sieve._tcp": (MailProtocol.MANAGESIEVE, Securing.STARTTLS, 0),
}
"""Priorities say what to prefer: RFC 6186 section 3.4 has programs compare those of IMAP with those
of POP3."""

_WEIGHT: Final = 1
_TTL_S: Final = 3600
_NOWHERE: Final = "0 0 0 ."
"""A service that is not there (RFC 6186 section 3.4)."""


@dataclass(frozen=True, slots=True)
class DnsRecord:
    """`name` and what stands in `data` are whole, with the dot at the end."""

    name: str
    kind: str
    data: str

    @property
    def line(self) -> str:
        """As it stands in a zone file (RFC 1035 section 5)."""
        return f"{self.name} {_TTL_S} IN {self.kind} {self.data}"


def dns_records(domain: str, setups: Iterable[ClientSetup], web_host: str = "") -> list[DnsRecord]:
    """The records of a domain whose mail is read at any of the `setups`, which are equal in rank.
    `web_host` serves autoconfig and autodiscover; "" is nobody. Raises ValueError where a server
    is an IP address, which no such record can name."""
    sites = list(setups)
    records = []
    for service, (protocol, securing, priority) in _SERVICES.items():
        found = [
            server
            for setup in sites
            for server in setup.servers
            if (server.protocol, server.securing) == (protocol, securing)
        ]
        data = [f"{priority} {_WEIGHT} {s.port} {_host(s.host)}" for s in found] or [_NOWHERE]
        records += [DnsRecord(f"{service}.{domain}.", "SRV", d) for d in dict.fromkeys(data)]
    if web_host:
        host = _host(web_host)
        records.append(DnsRecord(f"autoconfig.{domain}.", "CNAME", host))
        records.append(DnsRecord(f"_autodiscover._tcp.{domain}.", "SRV", f"0 0 443 {host}"))
    return records


def _host(host: str) -> str:
    if ":" in host or host.replace(".", "").isdigit():
        raise ValueError(f"{host} is an IP address; records name hosts, so give the server's name")
    return host.rstrip(".") + "."
