"""What a client says, as values (RFC 1939 section 3)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum
from typing import Final


class Pop3Verb(Enum):
    """The commands; the value is how they are written, in any case."""

    CAPA = "CAPA"
    USER = "USER"
    PASS = "PASS"
    AUTH = "AUTH"
    STLS = "STLS"
    UTF8 = "UTF8"
    QUIT = "QUIT"
    STAT = "STAT"
    LIST = "LIST"
    RETR = "RETR"
    DELE = "DELE"
    NOOP = "NOOP"
    RSET = "RSET"
    TOP = "TOP"
    UIDL = "UIDL"


class Pop3Malformed(Exception):
    """A line is no command; the text says what is wanted, and repeats nothing of it."""


@dataclass(frozen=True, slots=True)
class Pop3Command:
    """`text` is the argument of USER, PASS and AUTH as it was sent; nothing shows it, since it may
    be a password. `number` is a message's, `lines` how many of its body TOP shows."""

    verb: Pop3Verb
    text: bytes = field(default=b"", repr=False)
    number: int | None = None
    lines: int = 0


_VERBS: Final = {verb.value.encode(): verb for verb in Pop3Verb}
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_DIGITS: Final = re.compile(rb"[0-9]{1,10}")

_OF_TEXT: Final = frozenset((Pop3Verb.USER, Pop3Verb.PASS, Pop3Verb.AUTH))
_OF_A_MESSAGE: Final = frozenset((Pop3Verb.RETR, Pop3Verb.DELE))
_OF_ALL_OR_ONE: Final = frozenset((Pop3Verb.LIST, Pop3Verb.UIDL))


def parse_pop3(line: bytes) -> Pop3Command:
    """A command from its line, without the line's end. Raises `Pop3Malformed`.

    What follows PASS is the password to its last byte: blanks may be part of it (RFC 1939 section
    7)."""
    word, _, rest = line.partition(b" ")
    verb = _VERBS.get(word.upper())
    if verb is None:
        raise Pop3Malformed("there is no such command")
    if verb in _OF_TEXT:
        if not rest:
            raise Pop3Malformed(f"{verb.value} has an argument")
        if b"\x00" in rest:
            raise Pop3Malformed(f"the argument of {verb.value} has no NUL")
        return Pop3Command(verb, rest)
    if _CONTROL.search(rest) is not None:
        raise Pop3Malformed("a command has no control characters")
    words = rest.split()
    if verb is Pop3Verb.TOP:
        if len(words) != 2:
            raise Pop3Malformed("TOP has the number of a message and a number of lines")
        return Pop3Command(verb, number=_number(words[0]), lines=_number(words[1]))
    if verb in _OF_A_MESSAGE or (verb in _OF_ALL_OR_ONE and words):
        if len(words) != 1:
            raise Pop3Malformed(f"{verb.value} has the number of one message")
        return Pop3Command(verb, number=_number(words[0]))
    if words:
        raise Pop3Malformed(f"{verb.value} has no argument")
    return Pop3Command(verb)


def _number(word: bytes) -> int:
    if _DIGITS.fullmatch(word) is None:
        raise Pop3Malformed("a number has 1 to 10 digits, and no sign")
    return int(word)
