"""Mail addresses as they stand in MAIL and RCPT (RFC 5321 section 4.1.2, RFC 6531 section 3.3).

Which account an address is of, `mail.addresses` decides: here as everywhere else. What follows the
first detail separator in the local part (`alice+lists`) is shown as the detail. It keeps its letter
case, as it often names a mailbox.
"""

import re
import unicodedata
from dataclasses import dataclass
from typing import Final

from raftmail.mail.addresses import local_form

LOCAL_PART_BYTES_MAX: Final = 256
"""Octets in a local part. RFC 5321 section 4.5.3.1.1 asks for 64; senders of bulk mail use more."""

DOMAIN_BYTES_MAX: Final = 255
"""Octets in a domain (RFC 5321 section 4.5.3.1.2)."""

# U+0080–U+009F are control characters; U+2028 and U+2029 break lines in what shows the address.
_ATOM = '[^\\x00-\\x20\\x7f-\\x9f\\u2028\\u2029()<>\\[\\]:;@\\\\,."]+'
_DOT_STRING = rf"{_ATOM}(?:\.{_ATOM})*"
_QUOTED = '"(?:[^\\x00-\\x1f\\x7f-\\x9f\\u2028\\u2029"\\\\]|\\\\[\\x20-\\x7e])*"'
_LABEL = "(?!-)[0-9A-Za-z_\\u00a0-\\u2027\\u202a-\\U0010ffff-]+(?<!-)"
_DOMAIN = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[(?:[Ii][Pp][Vv]6:)?[0-9A-Fa-f:.]+\])"
_ROUTE = rf"@{_DOMAIN}(?:,@{_DOMAIN})*:"
_PATH: Final = re.compile(rf"<(?:{_ROUTE})?({_DOT_STRING}|{_QUOTED})(?:@({_DOMAIN}))?>")
_UNQUOTED: Final = re.compile(_DOT_STRING)
_ESCAPE: Final = re.compile(r"\\(.)", re.DOTALL)
_NEEDS_ESCAPE: Final = re.compile(r'(["\\])')


class AddressError(ValueError):
    """The text is not an address; the sender of it must correct it."""


@dataclass(frozen=True, slots=True)
class Address:
    """One address, parsed.

    `local` is the local part as sent, without quotes. `domain` is folded for comparison, and empty
    when none was given (`<postmaster>`, and the bare user names that some delivery agents send).
    `user` is the local part folded for comparison and without its detail. `detail` is what followed
    the separator, as sent, and empty when there was none. `separator` is "" where there are no
    details.
    """

    local: str
    domain: str
    user: str
    detail: str
    separator: str = ""

    @property
    def key(self) -> str:
        """What to look the account up by: `user@domain`, or `user` where there is no domain."""
        return f"{self.user}@{self.domain}" if self.domain else self.user

    def __str__(self) -> str:
        """The address for headers and logs, with its local part quoted where that is needed."""
        local = self.local
        if _UNQUOTED.fullmatch(local) is None:
            local = '"' + _NEEDS_ESCAPE.sub(r"\\\1", local) + '"'
        return f"{local}@{self.domain}" if self.domain else local


def fold_user(text: str) -> str:
    """The form in which local parts are compared."""
    return local_form(text)


def fold_domain(text: str) -> str:
    """The form in which domains are compared. Use it where domains are configured, too."""
    return text.lower() if text.isascii() else _nfc(text.lower())


def make_address(local: str, domain: str, detail_separator: str = "+") -> Address:
    """The address made of an unquoted local part and a domain, which may be empty.

    A local part that begins with the separator has no detail. Raises AddressError when a part is
    longer than its limit or the local part is empty.
    """
    if not local:
        raise AddressError("the local part of the address is empty")
    is_ascii = local.isascii() and domain.isascii()
    if (len(local) if is_ascii else len(local.encode())) > LOCAL_PART_BYTES_MAX:
        raise AddressError(f"the local part is longer than {LOCAL_PART_BYTES_MAX} bytes")
    if (len(domain) if is_ascii else len(domain.encode())) > DOMAIN_BYTES_MAX:
        raise AddressError(f"the domain is longer than {DOMAIN_BYTES_MAX} bytes")
    user, detail = local, ""
    if detail_separator:
        before, found, after = local.partition(detail_separator)
        if found and before:
            user, detail = before, after
    if is_ascii:
        return Address(local, domain.lower(), user.lower(), detail, detail_separator)
    return Address(local, fold_domain(domain), fold_user(user), detail, detail_separator)


def parse_path(text: str, detail_separator: str = "+") -> tuple[Address | None, int]:
    """Read the path that `text` begins with; also the index at which it ends.

    The null path `<>` is None. A source route (`<@relay.example:user@host>`) is read and ignored,
    as RFC 5321 appendix C asks. Raises AddressError where there is no path.
    """
    if text.startswith("<>"):
        return None, 2
    match = _PATH.match(text)
    if match is None:
        raise AddressError("expected <user@domain>")
    local, domain = match.groups()
    if local[0] == '"':
        local = _ESCAPE.sub(r"\1", local[1:-1])
    return make_address(local, domain or "", detail_separator), match.end()


def _nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text)
