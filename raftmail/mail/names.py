"""Names: of mailboxes (RFC 9051 section 5.1), their LIST patterns and special uses, and of users.

What is asked when a command is applied has fixed rules: `stored_name`, `check_user_name`,
`check_text`, `quoted`. What needs Unicode's tables is done before a command is made: `mailbox_name`
here, and `addresses`."""

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

_CAPITALS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_CONTROLS = "\\x00-\\x1f\\x7f-\\x9f\\u2028\\u2029"
_SPACES = "\\x20\\xa0\\u1680\\u2000-\\u200a\\u202f\\u205f\\u3000"
_INVISIBLE = (
    "\\xad\\u034f\\u061c\\u115f\\u1160\\u17b4\\u17b5"
    "\\u180b-\\u180f\\u200b-\\u200f\\u202a-\\u202e\\u2060-\\u206f"
    "\\u2800\\u3164\\ud800-\\uf8ff\\ufdd0-\\ufdef\\ufe00-\\ufe0f\\ufeff\\uffa0\\ufff0-\\uffff"
    "\\U00013430-\\U0001345f\\U0001bca0-\\U0001bca3\\U0001d173-\\U0001d17a\\U000e0000-\\U0010ffff"
)
"""What is not seen, or changes how other text is shown, as of Unicode 16: soft hyphen, joiners,
directions, fillers, variation selectors, tags, private use, surrogates and what is no character.
The table is part of the state machine: it stays as it is."""

_NOT_IN_NAMES = re.compile(f"[*%{_CONTROLS}]")
_NOT_IN_USERS = re.compile(f"[A-Z{_CONTROLS}{_SPACES}]")
_UNSEEN = re.compile(f"[{_CONTROLS}{_SPACES}{_INVISIBLE}]")
_UNSEEN_BUT_SPACE = re.compile(f"[{_CONTROLS}{_SPACES[4:]}{_INVISIBLE}]")

SPECIAL_USES = frozenset(
    ("\\All", "\\Archive", "\\Drafts", "\\Flagged", "\\Important", "\\Junk", "\\Sent", "\\Trash")
)
"""Attributes that a mailbox can be created with (RFC 6154 section 2, RFC 8457)."""


def mailbox_name(name: str) -> str:
    """The one spelling of a mailbox name that somebody gives: NFC, with INBOX in capitals where it
    is the first part.

    For front ends: a command carries the name in this form. Raises ValueError for a name that no
    mailbox can have; see `stored_name`."""
    if len(name) > NAME_BYTES_MAX:
        raise ValueError(f"a mailbox name may have {NAME_BYTES_MAX} bytes, not {len(name)}")
    return stored_name(name if name.isascii() else unicodedata.normalize("NFC", name))


def stored_name(name: str) -> str:
    """A mailbox name as a command carries it, with INBOX in capitals where it is the first part. By
    fixed rules alone, for it is asked when commands are applied.

    Raises ValueError for a name over the limits above, with an empty part, a control character, `*`
    or `%`, or what UTF-8 cannot write."""
    if _utf8_length(name, "mailbox name") > NAME_BYTES_MAX:
        raise ValueError(f"a mailbox name may have {NAME_BYTES_MAX} bytes")
    if not name:
        raise ValueError("a mailbox name is not empty")
    wrong = _NOT_IN_NAMES.search(name)
    if wrong is not None:
        if wrong[0] in "*%":
            raise ValueError(f"a mailbox name has no {wrong[0]}")
        raise ValueError(f"a mailbox name has no control characters ({code_point(wrong[0])})")
    parts = name.split(SEPARATOR)
    if len(parts) > DEPTH_MAX:
        raise ValueError(f"a mailbox name may have {DEPTH_MAX} parts, not {len(parts)}")
    for part in parts:
        if not part:
            raise ValueError("a mailbox name has no empty part: no / at either end and no //")
        if len(part.encode()) > PART_BYTES_MAX:
            raise ValueError(f"a part of a mailbox name may have {PART_BYTES_MAX} bytes")
    if parts[0] != INBOX and is_inbox(parts[0]):
        return SEPARATOR.join((INBOX, *parts[1:]))
    return name


def is_inbox(name: str) -> bool:
    """Whether it is INBOX in any case, of ASCII letters."""
    return name.isascii() and name.upper() == INBOX


def parents(name: str) -> list[str]:
    """The names above `name`, the highest first."""
    parts = name.split(SEPARATOR)
    return [SEPARATOR.join(parts[:count]) for count in range(1, len(parts))]


def check_user_name(address: str) -> None:
    """Whether a command may name such a user: by fixed rules alone, for it is asked when commands
    are applied. Who may be made is another question (`addresses.check_new`): users that are there
    already are named as they are.

    Raises ValueError when it is empty, longer than `USER_BYTES_MAX`, has capitals (A to Z), spaces
    or control characters."""
    if _utf8_length(address, "user address") > USER_BYTES_MAX:
        raise ValueError(f"a user address may have {USER_BYTES_MAX} bytes")
    if not address:
        raise ValueError("a user address is not empty")
    wrong = _NOT_IN_USERS.search(address)
    if wrong is not None:
        if wrong[0] in _CAPITALS:
            raise ValueError(
                f"user address {quoted(address)} is not in its normal form: it has capitals"
            )
        raise ValueError(
            f"a user address has no spaces or control characters ({code_point(wrong[0])})"
        )
    local, at, domain = address.rpartition("@")
    if at and not (local and domain):
        raise ValueError(
            f"{quoted(address)}: something stands on both sides of the @ of a user address"
        )


def is_user_name(address: str) -> bool:
    """Whether a command may name such a user."""
    try:
        check_user_name(address)
    except ValueError:
        return False
    return True


def check_text(text: str) -> None:
    """Whether it is text that can be shown on one line: by fixed rules alone. Raises ValueError."""
    wrong = _UNSEEN.search(text.replace(" ", ""))
    if wrong is not None:
        raise ValueError(f"it has a character that cannot be seen ({code_point(wrong[0])})")


def unseen(text: str) -> str:
    """The first character that cannot be seen, or that changes how others are shown, as `U+200B`;
    "": there is none. Fixed rules."""
    wrong = _UNSEEN.search(text)
    return "" if wrong is None else code_point(wrong[0])


def quoted(text: object) -> str:
    """A name in a result: cut to 100 characters, with what cannot be seen as code points. `repr`
    would do, but depends on Python's tables of Unicode, and results are compared between
    replicas."""
    if not isinstance(text, str):
        return f"{text}"
    shown = text if len(text) <= 100 else text[:97] + "..."
    return "'" + _UNSEEN_BUT_SPACE.sub(lambda found: f"<{code_point(found[0])}>", shown) + "'"


def code_point(character: str) -> str:
    """A character as `U+0041`."""
    return f"U+{ord(character):04X}"


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
        if is_inbox(first):
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
