"""Which accounts may be made: fixed rules, which are asked when the command is applied. `addresses`
brings what people give into this form."""

from __future__ import annotations

import re
from typing import Final

from raftmail.mail.names import check_user_name, quoted, unseen

LOCAL_BYTES_MAX: Final = 64
"""Octets in the local part of an account (RFC 5321 section 4.5.3.1.1)."""

DOMAIN_BYTES_MAX: Final = 253
"""Octets in a domain name (RFC 1035 section 2.3.4, as text)."""

_ATOM = r"[a-z0-9!#$%&'*+/=?^_`{|}~\x80-\U0010ffff-]+"
_LOCAL = re.compile(rf"{_ATOM}(?:\.{_ATOM})*", re.ASCII)
_DOMAIN_LABEL = r"[a-z0-9_\x80-\U0010ffff](?:[a-z0-9_\x80-\U0010ffff-]*[a-z0-9_\x80-\U0010ffff])?"
_DOMAIN = re.compile(rf"{_DOMAIN_LABEL}(?:\.{_DOMAIN_LABEL})*", re.ASCII)
_LITERAL = re.compile(r"\[(?:ipv6:)?[0-9a-f:.]{2,45}\]", re.ASCII)


def check_new(address: str) -> None:
    """Whether an account may be made: by fixed rules. Raises ValueError that says what is wrong."""
    shown = quoted(address)
    if character := unseen(address):
        raise ValueError(
            f"{shown}: an address has no spaces and nothing that cannot be seen ({character})"
        )
    check_user_name(address)
    local, at, domain = address.rpartition("@")
    if not at:
        raise ValueError(f"{shown}: an address is LOCAL@DOMAIN, and this one has no @")
    if len(local.encode()) > LOCAL_BYTES_MAX:
        raise ValueError(
            f"{shown}: {len(local.encode())} bytes before the @; at most {LOCAL_BYTES_MAX} can be "
            f"delivered to"
        )
    if "@" in local:
        raise ValueError(f"{shown}: an address has one @")
    if _LOCAL.fullmatch(local) is None:
        raise ValueError(
            f"{shown}: before the @ are letters, digits, !#$%&'*+-/=?^_`{{|}}~ and single dots "
            f"between them; "
            "what would have to be quoted cannot be delivered to"
        )
    if len(domain.encode()) > DOMAIN_BYTES_MAX:
        raise ValueError(f"{shown}: a domain has at most {DOMAIN_BYTES_MAX} bytes")
    if domain.endswith("."):
        raise ValueError(f"{shown}: its domain ends with a dot; leave it away")
    if _LITERAL.fullmatch(domain) is not None:
        return
    labels = domain.split(".")
    if _DOMAIN.fullmatch(domain) is None or any(len(label.encode()) > 63 for label in labels):
        raise ValueError(
            f"{shown}: {quoted(domain)} is no domain: labels of letters, digits and -, with dots "
            f"between them, each of at most 63 bytes"
        )
