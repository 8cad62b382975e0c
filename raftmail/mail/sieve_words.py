"""Bytes to the words of commands (RFC 5804 section 4): atoms, numbers, quoted strings, literals.

A literal `{5}` is taken for `{5+}`: nobody answers it before its octets come.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

WORDS_MAX: Final = 8
"""No command has more."""
QUOTED_BYTES_MAX: Final = 1024
"""RFC 5804 section 4; those of SASL are longer (`SieveReader.string_bytes_max`)."""

_LITERAL: Final = re.compile(rb"\{([0-9]{1,10})\+?\}\r?\n")
_LITERAL_BYTES_MAX: Final = 16
_ATOM: Final = re.compile(rb'[^\x00-\x20"(){}\\\x7f-\xff]+')
_QUOTED: Final = re.compile(rb'"((?:[^"\\\r\n\x00]|\\["\\])*)"')
_ESCAPED: Final = re.compile(rb'\\(["\\])')


class SieveWordsWrong(Exception):
    """A line is no command; the text says what is wrong, and repeats nothing of it."""


class SieveWordsEndless(Exception):
    """What comes cannot be understood any more."""


@dataclass(frozen=True, slots=True)
class SieveWord:
    """`data` is what a string means, or an atom or number as it stands. A string with `missing`
    octets was too long, and was read past."""

    is_string: bool
    data: bytes = field(repr=False)
    missing: int = 0


class SieveReader:
    """Takes bytes as they come, gives commands as lists of words.

    Invariant: what it holds is at most a command that is not whole, and what came behind it."""

    def __init__(
        self, command_bytes_max: int, string_bytes_max: int, skipped_bytes_max: int
    ) -> None:
        self.string_bytes_max = string_bytes_max
        self._command_bytes_max = command_bytes_max
        self._skipped_bytes_max = skipped_bytes_max
        self._data = bytearray()
        self._at = 0
        self._words: list[SieveWord] = []
        self._strings_bytes = 0
        """Of the strings in `_words`."""
        self._line_bytes = 0
        self._skip = 0
        """Octets of a literal that is too long, and still to come."""
        self._wrong = ""
        """Why the line that is being read is no command: the rest of it is passed over."""

    @property
    def unread_bytes(self) -> int:
        """What is held."""
        return len(self._data) - self._at + self._strings_bytes

    def feed(self, data: bytes) -> None:
        """Add what was received."""
        if self._skip:
            skipped = min(self._skip, len(data))
            self._skip -= skipped
            data = data[skipped:]
        if self._at:
            del self._data[: self._at]
            self._at = 0
        self._data += data

    def clear(self) -> None:
        """Forget what was not taken."""
        self._data.clear()
        self._at = self._skip = 0
        self._begin()

    def take(self) -> list[SieveWord] | None:
        """The words of the next command; None until it is whole. Raises `SieveWordsWrong` for one
        that is none, and `SieveWordsEndless`."""
        data = self._data
        while not self._skip:
            begun = self._at
            if self._wrong:
                return self._pass_over()
            while self._at < len(data) and data[self._at] == 0x20:
                self._at += 1
            if self._at == len(data):
                self._count(begun)
                return None
            end = (
                1
                if data[self._at] == 0x0A
                else 2
                if data[self._at : self._at + 2] == b"\r\n"
                else 0
            )
            if end:
                self._at += end
                words = self._words
                self._begin()
                return words
            is_literal = data[self._at] == 0x7B
            word = self._word()
            if word is None:
                self._check_waiting()
                return None
            self._count(self._at - _LITERAL_BYTES_MAX if is_literal else begun)
            self._words.append(word)
            if word.is_string:
                self._strings_bytes += len(word.data)
            if len(self._words) > WORDS_MAX:
                self._wrong = f"a command has at most {WORDS_MAX} words"
        return None

    # -- inside ------------------------------------------------------------------------------

    def _begin(self) -> None:
        self._words = []
        self._strings_bytes = self._line_bytes = 0
        self._wrong = ""

    def _count(self, begun: int) -> None:
        """What is no string's counts, so that blanks and words end some time."""
        self._line_bytes += min(max(self._at - begun, 0), QUOTED_BYTES_MAX)
        if self._line_bytes > self._command_bytes_max:
            raise SieveWordsEndless(f"a command has at most {self._command_bytes_max} bytes")

    def _check_waiting(self) -> None:
        most = self.string_bytes_max + self._command_bytes_max
        if len(self._data) - self._at > most:
            raise SieveWordsEndless(f"a string has at most {self.string_bytes_max} bytes")

    def _pass_over(self) -> list[SieveWord] | None:
        """To the end of a line that is no command."""
        end = self._data.find(b"\n", self._at)
        begun = self._at
        self._at = len(self._data) if end < 0 else end + 1
        wrong = self._wrong
        if end < 0:
            self._count(begun)
            return None
        self._begin()
        raise SieveWordsWrong(wrong)

    def _word(self) -> SieveWord | None:
        """The word that begins here; None until it is whole."""
        first = self._data[self._at]
        if first == 0x22:
            return self._quoted()
        if first == 0x7B:
            return self._literal()
        found = _ATOM.match(self._data, self._at)
        if found is None:
            if self._data[self._at :] == b"\r":
                return None  # of an end of line
            self._wrong = "a word is an atom, a number or a string"
            return SieveWord(False, b"")
        if found.end() == len(self._data):
            return None  # it may go on
        self._at = found.end()
        return SieveWord(False, found[0])

    def _quoted(self) -> SieveWord | None:
        found = _QUOTED.match(self._data, self._at)
        if found is None:
            if self._data.find(b"\n", self._at) < 0 and self._data.find(b"\0", self._at) < 0:
                return None
            self._wrong = "a quoted string ends on its line, and has \\ before \\ and quotes alone"
            return SieveWord(True, b"")
        self._at = found.end()
        most = max(QUOTED_BYTES_MAX, self.string_bytes_max)
        if len(found[1]) > most:
            return SieveWord(True, b"", len(found[1]))
        return SieveWord(True, _ESCAPED.sub(rb"\1", found[1]))

    def _literal(self) -> SieveWord | None:
        found = _LITERAL.match(self._data, self._at)
        if found is None:
            head = self._data[self._at : self._at + _LITERAL_BYTES_MAX]
            if len(head) < _LITERAL_BYTES_MAX and b"\n" not in head:
                return None
            self._wrong = "a literal begins with its length, as {5+}"
            return SieveWord(True, b"")
        size = int(found[1])
        if size > max(self._skipped_bytes_max, self.string_bytes_max):
            raise SieveWordsEndless(f"a string of {size} bytes is too long")
        begins = found.end()
        if size > self.string_bytes_max:
            here = min(size, len(self._data) - begins)
            self._at = begins + here
            self._skip = size - here
            return SieveWord(True, b"", size)
        if len(self._data) - begins < size:
            return None
        self._at = begins + size
        return SieveWord(True, bytes(self._data[begins : self._at]))
