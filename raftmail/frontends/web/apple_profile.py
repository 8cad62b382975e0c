"""A configuration profile, which sets up a mail account on iPhones, iPads and Macs ("Configuration
Profile Reference", payload com.apple.mail.managed)."""

from __future__ import annotations

import plistlib
from typing import Any, Final
from uuid import NAMESPACE_URL, uuid5

from raftmail.mail.client_setup import ClientSetup, MailProtocol, MailServer

KIND: Final = "application/x-apple-aspen-config"
_PASSWORD: Final = "EmailAuthPassword"


def apple_profile(setup: ClientSetup, domain: str, address: str) -> bytes | None:
    """The profile of a user, without a password: the device asks for it. None where a site has no
    server for reading, or none for sending, for such an account needs both."""
    incoming = setup.first(MailProtocol.IMAP) or setup.first(MailProtocol.POP3)
    outgoing = setup.first(MailProtocol.SUBMISSION)
    if incoming is None or outgoing is None:
        return None
    name = setup.name or domain
    reads = incoming.protocol is MailProtocol.IMAP
    account: dict[str, Any] = {
        "EmailAccountDescription": name,
        "EmailAccountType": "EmailTypeIMAP" if reads else "EmailTypePOP",
        "EmailAddress": address,
        "OutgoingPasswordSameAsIncomingPassword": True,
        "PayloadDisplayName": name,
        **_server("IncomingMailServer", incoming, address),
        **_server("OutgoingMailServer", outgoing, address),
        **_payload("com.apple.mail.managed", domain, f"mail/{address}"),
    }
    return plistlib.dumps(
        {
            "PayloadContent": [account],
            "PayloadDisplayName": f"{name}: {address}",
            "PayloadRemovalDisallowed": False,
            **_payload("Configuration", domain, f"profile/{address}"),
        }
    )


def _server(prefix: str, server: MailServer, address: str) -> dict[str, Any]:
    return {
        f"{prefix}Authentication": _PASSWORD,
        f"{prefix}HostName": server.host,
        f"{prefix}PortNumber": server.port,
        # With STARTTLS as well: the port tells the device which of the two it is.
        f"{prefix}UseSSL": True,
        f"{prefix}Username": address,
    }


def _payload(kind: str, domain: str, what: str) -> dict[str, Any]:
    """Its identity: the same whenever it is fetched, so that a new one replaces the old."""
    backwards = ".".join(reversed(domain.split(".")))
    return {
        "PayloadIdentifier": f"{backwards}.raftmail.{what.partition('/')[0]}",
        "PayloadType": kind,
        "PayloadUUID": str(uuid5(NAMESPACE_URL, f"raftmail:{what}")).upper(),
        "PayloadVersion": 1,
    }
