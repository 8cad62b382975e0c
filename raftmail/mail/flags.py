"""Flags and keywords: how they are named (RFC 9051 section 2.3.2) and how a message record holds
them.

A record has one byte of system flags and a mask of 128 bits over its mailbox's keyword table. The
table gives each keyword a bit when it is first used, keeps that first spelling, and does not tell
upper from lower case.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from raftmail.mail.names import quoted

SEEN = 1
ANSWERED = 2
FLAGGED = 4
DELETED = 8
DRAFT = 16

SYSTEM = {
    "\\Seen": SEEN,
    "\\Answered": ANSWERED,
    "\\Flagged": FLAGGED,
    "\\Deleted": DELETED,
    "\\Draft": DRAFT,
}
ALL_FLAGS = sum(SYSTEM.values())
_SYSTEM_LOWER = {name.lower(): bit for name, bit in SYSTEM.items()}
_SYSTEM_NAMES = tuple(
    tuple(name for name, bit in SYSTEM.items() if mask & bit) for mask in range(32)
)

KEYWORD_BYTES_MAX = 64
KEYWORDS_MAX = 120
"""Keywords that one mailbox can have, ever: bits are not given back."""

FLAGS_MAX = KEYWORDS_MAX + len(SYSTEM)
"""Flags that one command or message can name."""

# atom-char of RFC 9051 section 9: printable ASCII without ( ) { % * " \ ] and space.
_KEYWORD = re.compile(r"[!#$&'+,\-./0-9:;<=>?@A-Z\[^_`a-z|}~]+", re.ASCII)


def parse_flags(flags: Iterable[str]) -> tuple[int, tuple[str, ...]]:
    """Split flags into the mask of system flags and the keywords, each once, first spelling kept.

    Raises ValueError naming the flag that RFC 9051 does not allow (`\\Recent` among them) or that
    is too long."""
    system = 0
    keywords: dict[str, str] = {}
    for count, flag in enumerate(flags, 1):
        if count > FLAGS_MAX:
            raise ValueError(f"more than {FLAGS_MAX} flags")
        lower = flag.lower()
        bit = _SYSTEM_LOWER.get(lower) if flag.isascii() else None
        if bit is not None:
            system |= bit
        elif _KEYWORD.fullmatch(flag) is None:
            raise ValueError(
                f"{quoted(flag)} is neither a system flag that can be set nor a keyword"
            )
        elif len(flag) > KEYWORD_BYTES_MAX:
            raise ValueError(f"keyword {quoted(flag)} is longer than {KEYWORD_BYTES_MAX} bytes")
        else:
            keywords.setdefault(lower, flag)
    return system, tuple(keywords.values())


def format_flags(system: int, mask: int, table: Sequence[str]) -> tuple[str, ...]:
    """The flags of a record: system flags in the order of the RFC, then keywords in the order of
    the table."""
    names = _SYSTEM_NAMES[system & 31]
    if mask:
        names += tuple(name for bit, name in enumerate(table) if mask >> bit & 1)
    return names


def keyword_mask(
    keywords: Sequence[str], bits: dict[str, int], *, add: bool
) -> tuple[int, tuple[str, ...]]:
    """The mask of `keywords` under the table `bits` (lower-case name to bit), and those the table
    lacks. With `add` their future bits are in the mask already; nothing is changed."""
    mask = 0
    missing: list[str] = []
    for keyword in keywords:
        bit = bits.get(keyword.lower())
        if bit is not None:
            mask |= 1 << bit
        elif add:
            mask |= 1 << (len(bits) + len(missing))
            missing.append(keyword)
    return mask, tuple(missing)
