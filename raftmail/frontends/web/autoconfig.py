"""Mozilla's autoconfiguration: a document of clientConfig 1.1, which Thunderbird, Evolution, KMail,
K-9 and others read (https://wiki.mozilla.org/Thunderbird:Autoconfiguration:ConfigFileFormat)."""

from __future__ import annotations

from typing import Final
from xml.etree import ElementTree as Xml

from raftmail.mail.client_setup import ClientSetup, MailProtocol, MailServer, Securing

_SOCKETS: Final = {Securing.IMPLICIT: "SSL", Securing.STARTTLS: "STARTTLS"}
_KINDS: Final = {
    MailProtocol.IMAP: "imap",
    MailProtocol.POP3: "pop3",
    MailProtocol.SUBMISSION: "smtp",
}


def autoconfig(setup: ClientSetup, domain: str, address: str) -> bytes:
    """The document for a domain. With an `address` it has the user's name; with "" the program
    puts in the address that it was given."""
    root = Xml.Element("clientConfig", version="1.1")
    provider = Xml.SubElement(root, "emailProvider", id=domain)
    _text(provider, "domain", domain)
    name = setup.name or domain
    _text(provider, "displayName", name)
    _text(provider, "displayShortName", name)
    user = address or "%EMAILADDRESS%"
    for server in setup.incoming:
        _server(provider, "incomingServer", server, user)
    for server in setup.outgoing:
        _server(provider, "outgoingServer", server, user)
    return _whole(root)


def _server(provider: Xml.Element, tag: str, server: MailServer, user: str) -> None:
    element = Xml.SubElement(provider, tag, type=_KINDS[server.protocol])
    _text(element, "hostname", server.host)
    _text(element, "port", str(server.port))
    _text(element, "socketType", _SOCKETS[server.securing])
    _text(element, "username", user)
    # The word for a password that only TLS protects, which is what PLAIN and LOGIN send.
    _text(element, "authentication", "password-cleartext")


def _text(parent: Xml.Element, tag: str, text: str) -> None:
    Xml.SubElement(parent, tag).text = text


def _whole(root: Xml.Element) -> bytes:
    Xml.indent(root)
    whole: bytes = Xml.tostring(root, encoding="utf-8", xml_declaration=True)
    return whole + b"\n"
