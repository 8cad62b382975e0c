"""Addresses in header fields and envelopes, and the parts of them that tests compare."""

from __future__ import annotations

import re
from enum import Enum
from typing import Final, NamedTuple

from raftmail.mail.envelope import addresses

FIELD_BYTES_MAX: Final = 64 << 10
"""Of the addresses of a field so many bytes are looked at."""

_MEMBER = re.compile(rb'(NIL)|"((?:[^"\\]++|\\.)*+)"|\{(\d+)\}\r\n|([()])', re.DOTALL)
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL).sub


class AddressPart(Enum):
    """RFC 5228 section 2.7.4; `user` and `detail` are of RFC 5233."""

    ALL = "all"
    LOCALPART = "localpart"
    DOMAIN = "domain"
    USER = "user"
    DETAIL = "detail"


class MailAddress(NamedTuple):
    """Octets without quotes, in the letter case that they came in."""

    local: bytes
    domain: bytes

    @property
    def whole(self) -> bytes:
        return self.local + b"@" + self.domain if self.domain else self.local

    def part(self, part: AddressPart, separator: bytes) -> bytes | None:
        """None: the address has no such part, and no test finds it."""
        if part is AddressPart.ALL:
            return self.whole
        if part is AddressPart.DOMAIN:
            return self.domain
        if part is AddressPart.LOCALPART:
            return self.local
        user, found, detail = (
            self.local.partition(separator) if separator else (self.local, b"", b"")
        )
        if part is AddressPart.USER:
            return user
        return detail if found else None


def split_address(address: bytes) -> MailAddress:
    """An address without angle brackets and quotes; without @ it is all local part."""
    local, at, domain = address.rpartition(b"@")
    return MailAddress(local, domain) if at else MailAddress(address, b"")


def field_addresses(value: bytes) -> list[MailAddress]:
    """The addresses in a field, in order. Groups are looked into; names are passed over."""
    members = _members(addresses(value, FIELD_BYTES_MAX))
    found = []
    for at in range(0, len(members) - 3, 4):
        local, domain = members[at + 2], members[at + 3]
        if local is not None and domain is not None:  # a host that is NIL begins or ends a group
            found.append(MailAddress(local, domain))
    return found


def _members(rendered: bytes) -> list[bytes | None]:
    """The strings of a finished list of addresses (RFC 9051 section 7.5.2): four for each."""
    found: list[bytes | None] = []
    at = 0
    if rendered == b"NIL":
        return found
    while (one := _MEMBER.match(rendered, at)) or at < len(rendered):
        if one is None:
            at += 1  # the blank between two
            continue
        at = one.end()
        if one[1]:
            found.append(None)
        elif one[2] is not None:
            found.append(_ESCAPED(rb"\1", one[2]))
        elif one[3]:
            found.append(rendered[at : at + int(one[3])])
            at += int(one[3])
    return found
