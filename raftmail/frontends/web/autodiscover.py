"""Microsoft's autodiscovery in its older form, "POX" ([MS-OXDSCLI]), which Outlook and others ask
for servers of IMAP, POP3 and SMTP."""

from __future__ import annotations

import re
from html import unescape
from typing import Final
from xml.etree import ElementTree as Xml

from raftmail.mail.client_setup import ClientSetup, MailProtocol, MailServer, Securing

_ENVELOPE: Final = "http://schemas.microsoft.com/exchange/autodiscover/responseschema/2006"
OUTLOOK: Final = "http://schemas.microsoft.com/exchange/autodiscover/outlook/responseschema/2006a"
"""The only schema of answers that there is here."""

_ADDRESS: Final = re.compile(rb"<EMailAddress>([^<>]{1,1000})</EMailAddress>", re.IGNORECASE)
_SCHEMA: Final = re.compile(
    rb"<AcceptableResponseSchema>([^<>]{1,1000})</AcceptableResponseSchema>", re.IGNORECASE
)
_KINDS: Final = {
    MailProtocol.IMAP: "IMAP",
    MailProtocol.POP3: "POP3",
    MailProtocol.SUBMISSION: "SMTP",
}
_INVALID_REQUEST: Final = "600"
_NO_PROVIDER: Final = "601"


def asked_for(body: bytes) -> tuple[str, str]:
    """The address and the schema that a request names, "" where it does not. The two elements are
    looked for; no parser of XML sees what a stranger sent."""
    found = (_ADDRESS.search(body), _SCHEMA.search(body))
    address, schema = (
        unescape(match[1].decode("utf-8", "replace")).strip() if match else "" for match in found
    )
    return address, schema


def autodiscover(setup: ClientSetup, address: str) -> bytes:
    """The answer for a user."""
    root, response = _begin(OUTLOOK)
    user = Xml.SubElement(response, "User")
    _text(user, "DisplayName", address)
    account = Xml.SubElement(response, "Account")
    _text(account, "AccountType", "email")
    _text(account, "Action", "settings")
    for server in (*setup.incoming, *setup.outgoing):
        _protocol(account, server, address)
    return _whole(root)


def autodiscover_error(*, schema: bool) -> bytes:
    """What a request hears that has no address, or wants a `schema` that there is not."""
    root, response = _begin(_ENVELOPE)
    error = Xml.SubElement(response, "Error", Time="00:00:00.0000000", Id="0")
    _text(error, "ErrorCode", _NO_PROVIDER if schema else _INVALID_REQUEST)
    _text(error, "Message", "Provider is not available" if schema else "Invalid Request")
    Xml.SubElement(error, "DebugData")
    return _whole(root)


def _begin(schema: str) -> tuple[Xml.Element, Xml.Element]:
    root = Xml.Element("Autodiscover", xmlns=_ENVELOPE)
    response = Xml.SubElement(
        root, "Response", *([{"xmlns": schema}] if schema != _ENVELOPE else [])
    )
    return root, response


def _protocol(account: Xml.Element, server: MailServer, address: str) -> None:
    element = Xml.SubElement(account, "Protocol")
    implicit = server.securing is Securing.IMPLICIT
    _text(element, "Type", _KINDS[server.protocol])
    _text(element, "Server", server.host)
    _text(element, "Port", str(server.port))
    _text(element, "DomainRequired", "off")
    _text(element, "LoginName", address)
    _text(element, "SPA", "off")
    _text(element, "SSL", "on")
    _text(element, "Encryption", "SSL" if implicit else "TLS")
    _text(element, "AuthRequired", "on")
    if server.protocol is MailProtocol.SUBMISSION:
        _text(element, "UsePOPAuth", "off")
        _text(element, "SMTPLast", "off")


def _text(parent: Xml.Element, tag: str, text: str) -> None:
    Xml.SubElement(parent, tag).text = text


def _whole(root: Xml.Element) -> bytes:
    whole: bytes = Xml.tostring(root, encoding="utf-8", xml_declaration=True)
    return whole + b"\n"
