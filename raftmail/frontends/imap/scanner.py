"""Reads the pieces that commands are made of (RFC 9051 section 9), from left to right.

Every method takes what it is named after or raises `ParseError`, which says what was expected and
what stands there instead."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Sequence
from typing import NoReturn, TypeVar

from raftmail.frontends.imap.commands import InternalDate
from raftmail.frontends.imap.dialect import Dialect
from raftmail.frontends.imap.mailbox_names import decode_name, decode_pattern
from raftmail.frontends.imap.partial_range import PartialRange
from raftmail.frontends.imap.request_reader import Literal
from raftmail.frontends.imap.sequence import SequenceSet
from raftmail.mail.flags import FLAGS_MAX, KEYWORD_BYTES_MAX, parse_flags
from raftmail.mail.uidset import STAR, TEXT_CHARS_MAX, UID_MAX, UidSet

DEPTH_MAX = 200
"""Parentheses, NOT and OR inside each other. Readers of what is parsed may recurse so deep."""

NUMBER_MAX = 2**32 - 1
NUMBER63_MAX = 2**63 - 1

_SHOWN_CHARS = 30
_EPOCH_DAY = datetime.date(1970, 1, 1).toordinal()
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")

_ATOM = re.compile(rb'[^\x00-\x20(){%*"\\\]\x7f-\xff]+')
_ASTRING = re.compile(rb'[^\x00-\x20(){%*"\\\x7f-\xff]+')
_PATTERN = re.compile(rb'[^\x00-\x20(){"\\\x7f-\xff]+')
_QUOTED = re.compile(rb'"((?:[^"\\]|\\["\\])*+)"')
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)
_NAME = re.compile(rb"[A-Za-z0-9.]+")
_DIGITS = re.compile(rb"[0-9]+")
_SET = re.compile(rb"[0-9*:,]+")
_PARTIAL = re.compile(rb"(-?)([1-9][0-9]{0,9}):(-?)([1-9][0-9]{0,9})(?![0-9])")
_FLAG = re.compile(rb'\\?[^\x00-\x20(){%*"\\\]\x7f-\xff]+')
_DATE = re.compile(rb"([0-9]{1,2})-([A-Za-z]{3})-([0-9]{4})")
_TIME = re.compile(
    rb'"( ?[0-9]|[0-9]{2})-([A-Za-z]{3})-([0-9]{4})'
    rb' ([0-9]{2}):([0-9]{2}):([0-9]{2}) ([+-])([0-9]{2})([0-9]{2})"'
)
_LARGEST = str(STAR).encode()

T = TypeVar("T")


class ParseError(ValueError):
    """A request that is no command. The text is fit for people: one line of ASCII. It is answered
    BAD, or NO with `no`; `code` is what stands in brackets, "" for none. With `forgets_saved` the
    result that was saved last is empty from here on."""

    def __init__(self, text: str, code: str = "", *, no: bool = False) -> None:
        super().__init__(text)
        self.code = code
        self.no = no
        self.forgets_saved = False


def uid_required(what: str) -> ParseError:
    """Of what has no place after ENABLE UIDONLY (RFC 9586 section 3.2)."""
    return ParseError(f"there are no {what} after ENABLE UIDONLY", "UIDREQUIRED")


class Scanner:
    """Stands before some byte of a request's text, or before one of its literals."""

    __slots__ = ("_at", "_depth", "_index", "_literal", "_parts", "_text", "dialect", "secret")

    def __init__(self, parts: Sequence[bytes | Literal], dialect: Dialect) -> None:
        self.dialect = dialect
        self.secret = False
        """What stands here is not repeated in errors: it may be a password."""
        self._parts = parts
        self._depth = 0
        self._index = -1
        self._text = b""
        self._at = 0
        self._literal: Literal | None = None
        self._next()

    def _next(self) -> None:
        """Go to the next part; at the end there is empty text."""
        self._index += 1
        self._text = b""
        self._at = 0
        part = self._parts[self._index] if self._index < len(self._parts) else b""
        if isinstance(part, Literal):
            self._literal = part
        else:
            self._literal = None
            self._text = part
            if not part and self._index + 1 < len(self._parts):
                self._next()

    def _move(self, at: int) -> None:
        self._at = at
        if at == len(self._text) and self._index + 1 < len(self._parts):
            self._next()

    def _match(self, pattern: re.Pattern[bytes]) -> re.Match[bytes] | None:
        found = pattern.match(self._text, self._at)
        if found is not None:
            self._move(found.end())
        return found

    # What stands here

    @property
    def at_end(self) -> bool:
        return self._at == len(self._text) and self._literal is None

    def stands(self, character: bytes) -> bool:
        """Whether this character is next."""
        return self._text.startswith(character, self._at)

    def follows(self, octets: bytes) -> bool:
        """Whether these octets are next, in any case."""
        return self._text[self._at : self._at + len(octets)].upper() == octets

    @property
    def stands_digit(self) -> bool:
        return self._text[self._at : self._at + 1].isdigit()

    def fail(self, expected: str) -> NoReturn:
        """Raise the error that `expected` does not stand here."""
        raise ParseError(f"{expected} is expected, not {self._shown()}")

    def _shown(self) -> str:
        if self._literal is not None:
            return f"a literal of {len(self._literal.octets)} bytes"
        if self.at_end:
            return "the end of the command"
        if self.secret:
            return "what stands there"
        rest = self._text[self._at : self._at + _SHOWN_CHARS + 1].decode("latin-1")
        cut = rest if len(rest) <= _SHOWN_CHARS else rest[:_SHOWN_CHARS] + "..."
        return "`" + "".join(one if " " <= one <= "~" else f"<{ord(one):02x}>" for one in cut) + "`"

    def last_text(self) -> bytes | None:
        """All that is left, which is taken; None, and nothing is taken, when a literal is in it."""
        if self._literal is not None or self._index + 1 < len(self._parts):
            return None
        text = self._text[self._at :]
        self._at = len(self._text)
        return text

    # Marks and lists

    def skip(self, character: bytes) -> bool:
        """Take this character if it is next."""
        if not self.stands(character):
            return False
        self._move(self._at + 1)
        return True

    def expect(self, character: bytes, expected: str) -> None:
        if not self.skip(character):
            self.fail(expected)

    def space(self, before: str = "an argument") -> None:
        """One space, before something."""
        if not self.skip(b" "):
            self.fail(f"a space and {before}")

    def end(self) -> None:
        """The end of the command."""
        if not self.at_end:
            self.fail("the end of the command")

    def deeper(self) -> None:
        """Something that nests begins. `shallower` when it ends."""
        self._depth += 1
        if self._depth > DEPTH_MAX:
            raise ParseError(f"more than {DEPTH_MAX} levels are inside each other")

    def shallower(self) -> None:
        self._depth -= 1

    def items(self, what: str, read: Callable[[], T], *, empty: bool = False) -> list[T]:
        """A list in parentheses, of `what`, each read by `read`."""
        self.expect(b"(", f"( and {what}")
        self.deeper()
        found: list[T] = []
        if not (empty and self.stands(b")")):
            found.append(read())
            while self.skip(b" "):
                found.append(read())
        self.expect(b")", "a space or )")
        self.shallower()
        return found

    # Words and strings

    def atom(self, expected: str) -> bytes:
        found = self._match(_ATOM)
        if found is None:
            self.fail(expected)
        return found[0]

    def word(self, expected: str) -> str:
        """An atom in capitals: the name of something."""
        return self.atom(expected).decode("ascii").upper()

    def peek_word(self) -> str:
        """The atom that is next, in capitals; "" if none is. It is not taken."""
        found = _ATOM.match(self._text, self._at)
        return "" if found is None else found[0].decode("ascii").upper()

    def peek_name(self) -> str:
        """Letters, digits and points that are next, in capitals; "" if none are. What FETCH asks
        for is named so, and `[` may touch it. It is not taken."""
        found = _NAME.match(self._text, self._at)
        return "" if found is None else found[0].decode("ascii").upper()

    def take(self, peeked: str) -> None:
        """Take what `peek_word` or `peek_name` gave."""
        self._move(self._at + len(peeked))

    def skip_word(self, word: str) -> bool:
        """Take this word if it is next, in any case."""
        if self.peek_word() != word:
            return False
        self.take(word)
        return True

    def one_of(self, table: dict[str, T], what: str) -> T:
        """A word of the table, for what stands there."""
        word = self.peek_word()
        value = table.get(word)
        if value is None:
            self.fail(f"{what} ({', '.join(table)})")
        self.take(word)
        return value

    def literal(self, expected: str) -> Literal:
        literal = self._literal
        if literal is None:
            self.fail(expected)
        self._next()
        return literal

    def _string(self) -> bytes | None:
        """A string if one is next."""
        literal = self._literal
        if literal is not None:
            if literal.binary:
                self.fail("a string")
            if b"\0" in literal.octets:
                raise ParseError("a string has no NUL in it")
            self._next()
            return literal.octets
        found = self._match(_QUOTED)
        if found is not None:
            if self.dialect.utf8 and not found[1].isascii():
                utf8_text(found[1], "a string in quotes")  # RFC 9755 section 3
            return _ESCAPED.sub(rb"\1", found[1]) if b"\\" in found[1] else found[1]
        if self.stands(b'"'):
            self.fail('a string that ends in " and has \\ before " and \\ only')
        return None

    def string(self, expected: str) -> bytes:
        """In quotes, or a literal."""
        string = self._string()
        if string is None:
            self.fail(expected)
        return string

    def nstring(self, expected: str) -> bytes | None:
        """A string, or NIL, which gives None."""
        string = self._string()
        if string is None and not self.skip_word("NIL"):
            self.fail(f"{expected}, or NIL,")
        return string

    def nstring8(self, expected: str) -> bytes | None:
        """A string, which may be a literal8, or NIL (RFC 5464 section 5)."""
        literal = self._literal
        if literal is not None and literal.binary:
            self._next()
            return literal.octets
        return self.nstring(expected)

    def astring(self, expected: str) -> bytes:
        """A string, or an atom that may have `]` in it."""
        string = self._string()
        if string is not None:
            return string
        found = self._match(_ASTRING)
        if found is None:
            self.fail(expected)
        return found[0]

    def text(self, expected: str) -> str:
        """An astring in UTF-8."""
        return utf8_text(self.astring(expected), expected)

    # Names

    def mailbox(self) -> str:
        """A mailbox name, decoded by the dialect. One that is written wrong is refused with NO
        [CANNOT]: its syntax is that of a string, and there can be no such mailbox."""
        octets = self.astring("a mailbox name")
        try:
            return decode_name(octets, utf8=self.dialect.utf8)
        except ValueError as error:
            raise ParseError(str(error), "CANNOT", no=True) from None

    def pattern(self) -> str:
        """A pattern of LIST, decoded by the dialect."""
        octets = self._string()
        if octets is None:
            found = self._match(_PATTERN)
            if found is None:
                self.fail("a mailbox name or pattern")
            octets = found[0]
        try:
            return decode_pattern(octets, utf8=self.dialect.utf8)
        except ValueError as error:
            raise ParseError(str(error), "CANNOT", no=True) from None

    # Numbers and sets

    def number(self, expected: str, *, least: int = 0, most: int = NUMBER_MAX) -> int:
        """Digits. Zeros may lead where 0 is taken, as the grammar has it."""
        found = _DIGITS.match(self._text, self._at)
        digits = b"" if found is None else found[0]
        if least == 0 and digits:
            digits = digits.lstrip(b"0") or b"0"
        value = int(digits) if 0 < len(digits) <= 19 and (least == 0 or digits[0] > 0x30) else -1
        if found is None or not least <= value <= most:
            self.fail(f"{expected} from {least} to {most}")
        self._move(found.end())
        return value

    def modseq(self, *, least: int = 0) -> int:
        """A mod-sequence, which has 63 bits (RFC 7162 section 7). 0 is taken where the grammar
        begins at 1: it stands for all that changed since ever."""
        return self.number("a mod-sequence", least=least, most=NUMBER63_MAX)

    def sequence_set(self) -> SequenceSet:
        """A set of sequence numbers or UIDs, or `$` (RFC 5182)."""
        if self.skip(b"$"):
            return SequenceSet(UidSet(), saved=True)
        return SequenceSet(self._set("a set of numbers such as 1:3,7:*"))

    def uid_set(self) -> UidSet:
        """A set of UIDs without `*`, and not `$`."""
        found = _SET.match(self._text, self._at)
        if found is not None and b"*" in found[0]:
            self.fail("a set of numbers without *")
        return self._set("a set of numbers such as 1:3,7")

    def partial_range(self) -> PartialRange:
        """`1:100`, or `-1:-100` (RFC 9394 section 4)."""
        found = _PARTIAL.match(self._text, self._at)
        if found is None or bool(found[1]) != bool(found[3]):
            self.fail("a range such as 1:100 or -1:-100")
        start, stop = int(found[2]), int(found[4])
        if max(start, stop) > NUMBER_MAX:
            self.fail(f"a range of numbers up to {NUMBER_MAX}")
        self._move(found.end())
        return PartialRange(start, stop, bool(found[1]))

    def _set(self, expected: str) -> UidSet:
        found = _SET.match(self._text, self._at)
        if found is None:
            self.fail(expected)
        if len(found[0]) > TEXT_CHARS_MAX:
            raise ParseError(f"a set of numbers has at most {TEXT_CHARS_MAX} characters")
        text = found[0].decode("ascii")
        try:
            numbers = _with_largest(text) if _LARGEST in found[0] else UidSet.parse(text)
        except ValueError:
            self.fail(expected)
        self._move(found.end())
        return numbers

    # Flags

    def flags(self) -> tuple[str, ...]:
        """Flags in parentheses, which may be none."""
        return _checked(self.items("flags", self.flag, empty=True))

    def bare_flags(self) -> tuple[str, ...]:
        """Flags in parentheses, or one or more without."""
        if self.stands(b"("):
            return self.flags()
        flags = [self.flag()]
        while self.skip(b" "):
            flags.append(self.flag())
        return _checked(flags)

    def flag(self) -> str:
        """A flag by its form, such as `\\Seen` or `$Junk`."""
        found = self._match(_FLAG)
        if found is None:
            self.fail("a flag")
        return found[0].decode("ascii")

    # Dates

    def date(self) -> int:
        """A day such as `1-Feb-2026`, in quotes or not, as its proleptic ordinal."""
        expected = "a date such as 1-Feb-2026"
        start = self._at + 1 if self.stands(b'"') else self._at
        found = _DATE.match(self._text, start)
        if found is None:
            self.fail(expected)
        if start != self._at and not self._text.startswith(b'"', found.end()):
            self.fail(f"{expected} in quotes")
        day = _day(*found.groups())
        if day is None:
            self.fail("a date that there is")
        self._move(found.end() + (start - self._at))
        return day

    def date_time(self) -> InternalDate:
        """A time such as `" 1-Feb-2026 01:02:03 +0100"`. A day of one digit need not have a space
        before it, for telephones send it so. A second may be 60."""
        found = _TIME.match(self._text, self._at)
        if found is None:
            self.fail('a date-time such as " 1-Feb-2026 01:02:03 +0100"')
        day = _day(found[1].strip(), found[2], found[3])
        hour, minute, second = (int(found[at]) for at in (4, 5, 6))
        zone_hour, zone_minute = int(found[8]), int(found[9])
        if day is None or hour > 23 or minute > 59 or second > 60:
            self.fail("a date-time that there is")
        if zone_hour > 23 or zone_minute > 59:
            self.fail("a date-time with a zone that there is")
        zone = zone_hour * 60 + zone_minute
        if found[7] == b"-":
            zone = -zone
        seconds = (day - _EPOCH_DAY) * 86400 + hour * 3600 + (minute - zone) * 60 + second
        self._move(found.end())
        return InternalDate(seconds * 1_000_000, zone)


def utf8_text(octets: bytes, what: str) -> str:
    """Bytes of a client as text. Raises ParseError, without repeating them."""
    try:
        return octets.decode()
    except UnicodeDecodeError:
        raise ParseError(f"{what} is UTF-8, and what was sent is not") from None


def _with_largest(text: str) -> UidSet:
    """A set in which 4294967295 stands, which a `UidSet` would take for `*`: no message has it."""
    ranges = []
    for part in text.split(","):
        # Each part by itself, so that what is no set is refused as elsewhere.
        UidSet.parse(part)
        bounds = part.split(":")
        stars = bounds.count("*")
        low, high = sorted(STAR if one == "*" else int(one) for one in (bounds[0], bounds[-1]))
        if stars:
            ranges.append((low, STAR))
        elif low <= UID_MAX:
            ranges.append((low, min(high, UID_MAX)))
    return UidSet.from_ranges(ranges)


def _checked(flags: list[str]) -> tuple[str, ...]:
    if len(flags) > FLAGS_MAX:
        raise ParseError(f"at most {FLAGS_MAX} flags are taken at once", "LIMIT", no=True)
    if any(len(flag) > KEYWORD_BYTES_MAX for flag in flags):
        raise ParseError(f"a keyword has at most {KEYWORD_BYTES_MAX} bytes", "LIMIT", no=True)
    try:
        parse_flags(flags)
    except ValueError as error:
        raise ParseError(str(error)) from None
    return tuple(flags)


def _day(day: bytes, month: bytes, year: bytes) -> int | None:
    name = month.decode("ascii").lower()
    try:
        return datetime.date(int(year), _MONTHS.index(name) + 1, int(day)).toordinal()
    except ValueError:
        return None
