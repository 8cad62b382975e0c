"""Names: of mailboxes (RFC 9051 section 5.1), their LIST patterns and special uses, and of
users."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

SEPARATOR = "/"
INBOX = "INBOX"
NAME_BYTES_MAX = 1000
PART_BYTES_MAX = 255
DEPTH_MAX = 50
USER_BYTES_MAX = 320
PATTERN_CHARS_MAX = NAME_BYTES_MAX

SPECIAL_USES = frozenset(
    ("\\All", "\\Archive", "\\Drafts", "\\Flagged", "\\Important", "\\Junk", "\\Sent", "\\Trash")
)
"""Attributes that a mailbox can be created with (RFC 6154 section 2, RFC 8457)."""


def mailbox_name(name: str) -> str:
    """The one spelling of a mailbox name: NFC, with INBOX in capitals where it is the first part.

    Raises ValueError for a name that no mailbox can have: over the limits above, with an empty
    part, a control character, `*` or `%`, or what UTF-8 cannot write."""
    if name.isascii():
        if len(name) > NAME_BYTES_MAX:
            raise ValueError(f"a mailbox name may have {NAME_BYTES_MAX} bytes, not {len(name)}")
    else:
        if len(name) > NAME_BYTES_MAX:
            raise ValueError(f"a mailbox name may have {NAME_BYTES_MAX} bytes")
        name = unicodedata.normalize("NFC", name)
        if _utf8_length(name, "mailbox name") > NAME_BYTES_MAX:
            raise ValueError(f"a mailbox name may have {NAME_BYTES_MAX} bytes")
    if not name:
        raise ValueError("a mailbox name is not empty")
    for character in name:
        if character in "*%":
            raise ValueError(f"a mailbox name has no {character!r}")
        if unicodedata.category(character) in ("Cc", "Zl", "Zp"):
            raise ValueError(f"a mailbox name has no control characters ({character!r})")
    parts = name.split(SEPARATOR)
    if len(parts) > DEPTH_MAX:
        raise ValueError(f"a mailbox name may have {DEPTH_MAX} parts, not {len(parts)}")
    for part in parts:
        if not part:
            raise ValueError("a mailbox name has no empty part: no / at either end and no //")
        if len(part.encode()) > PART_BYTES_MAX:
            raise ValueError(f"a part of a mailbox name may have {PART_BYTES_MAX} bytes")
    if parts[0] != INBOX and parts[0].upper() == INBOX:
        return SEPARATOR.join((INBOX, *parts[1:]))
    return name


def parents(name: str) -> list[str]:
    """The names above `name`, the highest first."""
    parts = name.split(SEPARATOR)
    return [SEPARATOR.join(parts[:count]) for count in range(1, len(parts))]


def user_address(address: str) -> str:
    """The one spelling of a user: NFC, lower case; `local` or `local@domain`.

    Raises ValueError when it is empty, longer than `USER_BYTES_MAX`, or has spaces or control
    characters."""
    if len(address) > USER_BYTES_MAX:
        raise ValueError(f"a user address may have {USER_BYTES_MAX} bytes")
    if not address.isascii():
        address = unicodedata.normalize("NFC", unicodedata.normalize("NFC", address).lower())
        if _utf8_length(address, "user address") > USER_BYTES_MAX:
            raise ValueError(f"a user address may have {USER_BYTES_MAX} bytes")
    else:
        address = address.lower()
    if not address:
        raise ValueError("a user address is not empty")
    for character in address:
        if character.isspace() or unicodedata.category(character) in ("Cc", "Zl", "Zp"):
            raise ValueError(f"a user address has no spaces or control characters ({character!r})")
    local, at, domain = address.rpartition("@")
    if at and not (local and domain):
        raise ValueError(f"{address!r}: something stands on both sides of the @ of a user address")
    return address


class Pattern:
    """A LIST pattern (RFC 9051 section 6.3.9): `*` is anything, `%` anything without `/`; INBOX is
    found in any case.

    Matching steps through a set of states held as bits, so that its cost is the name's length,
    whatever the pattern."""

    __slots__ = ("_any", "_end", "_literals", "_part", "_wild")

    def __init__(self, pattern: str) -> None:
        """Raises ValueError for a pattern that is too long."""
        if len(pattern) > PATTERN_CHARS_MAX:
            raise ValueError(f"a LIST pattern may have {PATTERN_CHARS_MAX} characters")
        pattern = unicodedata.normalize("NFC", pattern)
        first, slash, rest = pattern.partition(SEPARATOR)
        if first.upper() == INBOX:
            pattern = INBOX + slash + rest
        self._any = self._part = 0
        self._literals: dict[str, int] = {}
        at = 0
        for piece in re.findall(r"[*%]+|[^*%]", pattern, re.DOTALL):
            if piece[0] not in "*%":
                self._literals[piece] = self._literals.get(piece, 0) | 1 << at
            elif "*" in piece:
                self._any |= 1 << at
            else:
                self._part |= 1 << at
            at += 1
        self._wild = self._any | self._part
        self._end = 1 << at

    def matches(self, name: str) -> bool:
        wild, literals = self._wild, self._literals
        states = 1 | (1 & wild) << 1
        for character in name:
            stay = self._any if character == SEPARATOR else wild
            states = (states & literals.get(character, 0)) << 1 | (states & stay)
            states |= (states & wild) << 1
            if not states:
                return False
        return bool(states & self._end)


def matches(pattern: str, name: str) -> bool:
    """Whether a LIST pattern matches a mailbox name. Raises ValueError for a pattern that is too
    long."""
    return _compiled(pattern).matches(name)


_compiled = lru_cache(maxsize=256)(Pattern)


def _utf8_length(text: str, what: str) -> int:
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        raise ValueError(f"a {what} is text that UTF-8 can write") from None
