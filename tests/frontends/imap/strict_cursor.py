"""Bytes of a response, taken token by token as the formal syntax says (RFC 9051 section 9, RFC 3501
section 9). What it does not allow is a `GrammarViolation`."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise
from typing import Final, NoReturn, TypeVar

Taken = TypeVar("Taken")

NUMBER_MAX: Final = (1 << 32) - 1
NUMBER64_MAX: Final = (1 << 63) - 1

_NUMBER: Final = re.compile(rb"0|[1-9][0-9]*")
_ATOM: Final = re.compile(rb"[!#$&'+,\-./0-9:;<=>?@A-Z\[^_`a-z|}~]+")
_ASTRING_ATOM: Final = re.compile(rb"[!#$&'+,\-./0-9:;<=>?@A-Z\[\]^_`a-z|}~]+")
_WORD: Final = re.compile(rb"[A-Z0-9.\-]+", re.IGNORECASE)
_QUOTED: Final = re.compile(rb'"((?:[^"\\\r\n\x00\x80-\xff]|\\["\\])*)"')
_QUOTED_UTF8: Final = re.compile(rb'"((?:[^"\\\r\n\x00]|\\["\\])*)"')
_LITERAL: Final = re.compile(rb"\{(0|[1-9][0-9]*)\}\r\n")
_LITERAL8: Final = re.compile(rb"~\{(0|[1-9][0-9]*)\}\r\n")
_RANGE: Final = re.compile(rb"([1-9][0-9]*)(?::([1-9][0-9]*))?")
_FLAG: Final = re.compile(rb"\\?[!#$&'+,\-./0-9:;<=>?@A-Z\[^_`a-z|}~]+")
_OBJECT_ID: Final = re.compile(rb"[A-Za-z0-9_\-]{1,255}")
_MONTHS: Final = rb"Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec"
_DATE_TIME: Final = re.compile(
    rb'"(?: [1-9]|[0-3][0-9])-(?:' + _MONTHS + rb")-[0-9]{4} "
    rb'[0-2][0-9]:[0-5][0-9]:[0-6][0-9] [+-][0-9]{4}"'
)


class GrammarViolation(AssertionError):
    """The server said what the grammar does not have."""

    def __init__(self, what: str, data: bytes, at: int) -> None:
        super().__init__(
            f"{what} at byte {at}: {data[max(at - 60, 0) : at]!r} >>> {data[at:][:60]!r}"
        )


class StrictCursor:
    """A place in the bytes. Each method takes what it is named for and returns its value."""

    def __init__(self, data: bytes, *, utf8: bool) -> None:
        """`utf8`: quoted strings may hold UTF-8 (after ENABLE IMAP4rev2 or UTF8=ACCEPT)."""
        self.data = data
        self.at = 0
        self.utf8 = utf8

    def fail(self, what: str) -> NoReturn:
        raise GrammarViolation(what, self.data, self.at)

    # -- tokens ----------

    def next_is(self, token: bytes) -> bool:
        """Whether this comes next; letters in any case."""
        found = self.data[self.at : self.at + len(token)]
        return found.upper() == token.upper()

    def skip(self, token: bytes) -> bool:
        """Take this if it comes next."""
        if not self.next_is(token):
            return False
        self.at += len(token)
        return True

    def expect(self, token: bytes) -> None:
        if not self.skip(token):
            self.fail(f"{token!r} is missing")

    def space(self) -> None:
        self.expect(b" ")

    def end(self) -> None:
        """The CRLF that ends the response, and nothing behind it."""
        self.expect(b"\r\n")
        if self.at != len(self.data):
            self.fail("something follows the end of the response")

    def match(self, pattern: re.Pattern[bytes], what: str) -> re.Match[bytes]:
        found = pattern.match(self.data, self.at)
        if found is None:
            self.fail(f"{what} is missing")
        self.at = found.end()
        return found

    def word(self) -> str:
        """A name that the grammar knows, in capitals."""
        return self.match(_WORD, "a name")[0].decode().upper()

    def nil(self) -> bool:
        """Take NIL if it comes next."""
        return self.skip(b"NIL")

    # -- numbers ----------

    def _bounded(self, least: int, most: int, what: str) -> int:
        began = self.at
        value = int(self.match(_NUMBER, what)[0])
        if not least <= value <= most:
            self.at = began
            self.fail(f"{what} has to be in {least}..{most}")
        if self.data[self.at : self.at + 1].isdigit():
            self.fail("a number begins with 0")
        return value

    def number(self) -> int:
        return self._bounded(0, NUMBER_MAX, "number")

    def nz_number(self) -> int:
        return self._bounded(1, NUMBER_MAX, "nz-number")

    def number64(self) -> int:
        return self._bounded(0, NUMBER64_MAX, "number64")

    def modseq(self) -> int:
        """mod-sequence-value (RFC 7162 section 7): never 0."""
        return self._bounded(1, NUMBER64_MAX, "mod-sequence-value")

    def number_ranges(self) -> list[tuple[int, int]]:
        """A sequence-set or uid-set without `*`, in its order, and no number twice."""
        found: list[tuple[int, int]] = []
        while True:
            pair = self.match(_RANGE, "a range of numbers")
            low, high = sorted((int(pair[1]), int(pair[2] or pair[1])))
            if high > NUMBER_MAX:
                self.fail("a number is too large")
            found.append((low, high))
            if not self.skip(b","):
                break
        ordered = sorted(found)
        for one, other in pairwise(ordered):
            if other[0] <= one[1]:
                self.fail(f"{other[0]} is twice in a set")
        return found

    # -- strings ----------

    def literal(self) -> bytes:
        """A literal. `{0}` is legal, but never sent: some clients hang on it."""
        return self._literal(_LITERAL, nul=False)

    def literal8(self) -> bytes:
        """RFC 9051 section 4.3.1: any octets."""
        return self._literal(_LITERAL8, nul=True)

    def _literal(self, form: re.Pattern[bytes], *, nul: bool) -> bytes:
        size = int(self.match(form, "a literal")[1])
        if not size:
            self.fail("a literal of no octets")
        value = self.data[self.at : self.at + size]
        if len(value) < size:
            self.fail(f"a literal has {len(value)} octets, not {size}")
        if not nul and b"\x00" in value:
            self.fail("NUL in a literal")
        self.at += size
        return value

    def quoted(self) -> bytes:
        found = self.match(_QUOTED_UTF8 if self.utf8 else _QUOTED, "a quoted string")[1]
        try:
            found.decode()
        except UnicodeDecodeError:
            self.fail("a quoted string before this is no UTF-8")
        return re.sub(rb'\\(["\\])', rb"\1", found)

    def string(self) -> bytes:
        return self.quoted() if self.next_is(b'"') else self.literal()

    def nstring(self) -> bytes | None:
        return None if self.nil() else self.string()

    def atom(self) -> bytes:
        return self.match(_ATOM, "an atom")[0]

    def astring(self) -> bytes:
        if self.next_is(b'"') or self.next_is(b"{"):
            return self.string()
        return self.match(_ASTRING_ATOM, "an astring")[0]

    def mailbox(self) -> bytes:
        """A mailbox name. Without UTF-8 it is modified UTF-7, so it has no 8 bits at all."""
        name = self.astring()
        if self.utf8:
            name.decode()
        elif not name.isascii():
            self.fail("a mailbox name is no modified UTF-7")
        return name

    # -- what several responses have ----------

    def date_time(self) -> bytes:
        return self.match(_DATE_TIME, "a date-time")[0]

    def flag(self, *extra: bytes) -> bytes:
        """One flag, or one of those that are allowed here alone, such as `\\*`."""
        for one in extra:
            if self.next_is(one + b" ") or self.next_is(one + b")"):
                self.at += len(one)
                return one
        return self.match(_FLAG, "a flag")[0]

    def object_id(self) -> bytes:
        """RFC 8474 section 7."""
        return self.match(_OBJECT_ID, "an objectid")[0]

    def listed(self, one: Callable[[], Taken], *, empty: bool = False) -> list[Taken]:
        """A parenthesised list whose members are parted by one space; `empty`: it may be so."""
        self.expect(b"(")
        found: list[Taken] = []
        if empty and self.skip(b")"):
            return found
        found.append(one())
        while self.skip(b" "):
            found.append(one())
        self.expect(b")")
        return found

    def joined(self, one: Callable[[], Taken], *, empty: bool = False) -> list[Taken]:
        """A parenthesised list whose members stand beside one another without a space."""
        self.expect(b"(")
        found: list[Taken] = []
        while not self.skip(b")"):
            found.append(one())
        if not found and not empty:
            self.fail("a list before this is empty: it has to be NIL")
        return found
