"""The tokens of a script (RFC 5228 section 8.1)."""

from __future__ import annotations

import re
from bisect import bisect_right
from enum import Enum
from typing import Final, NamedTuple

from raftmail.sieve.nodes import Place
from raftmail.sieve.rule_errors import ScriptError

NUMBER_MAX: Final = 2**63 - 1


class TokenKind(Enum):
    """What a token is, in the words of messages."""

    NAME = "a name"
    TAG = "a tag"
    NUMBER = "a number"
    STRING = "a string"
    MARK = "a mark"
    END = "the end of the script"


class RuleToken(NamedTuple):
    kind: TokenKind
    offset: int
    text: bytes
    """Of a name or a tag in lower case, without the colon; of a string what it stands for."""
    number: int = 0


_TOKEN = re.compile(
    rb"""(?P<space>[ \t\r\n]++)
    | (?P<comment>\#[^\n]*+)
    | (?P<bracketed>/\*(?:[^*]++|\*(?!/))*+(?:\*/)?)
    | (?P<multiline>text:[ \t]*+(?:\#[^\n]*+)?\r?\n)
    | (?P<quoted>"(?:[^"\\]++|\\.)*+"?)
    | (?P<tag>:[a-z_][a-z0-9_]*+)
    | (?P<number>[0-9]++[kmg]?(?![a-z0-9_]))
    | (?P<name>[a-z_][a-z0-9_]*+)
    | (?P<mark>[\[\](){},;])""",
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
).match
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL).sub
_LAST_LINE = re.compile(rb"^\.\r?(?:\n|\Z)", re.MULTILINE).search
_LINE_END = re.compile(rb"\r?\n")
_UNITS = {b"k": 1 << 10, b"m": 1 << 20, b"g": 1 << 30}


class Lexer:
    """The tokens of one script, one after the other."""

    def __init__(self, script: bytes, script_name: str = "") -> None:
        """Raises ScriptError for what is no text in UTF-8."""
        self._script = script
        self._script_name = script_name
        self._at = 0
        self._placed = (0, 1)
        """An offset and its column."""
        self._lines = [0, *(found.end() for found in re.finditer(rb"\n", script))]
        try:
            script.decode()
        except UnicodeDecodeError as e:
            raise self.error(e.start, "a script is text in UTF-8, and this octet is none") from None
        if (nul := script.find(b"\0")) >= 0:
            raise self.error(nul, "a script has no NUL in it")

    def place(self, offset: int) -> Place:
        """Places are mostly asked for in their order: then each octet of a line is read once."""
        line = bisect_right(self._lines, offset)
        start, column = self._lines[line - 1], 1
        if start <= self._placed[0] <= offset:
            start, column = self._placed
        column += len(self._script[start:offset].decode("utf-8", "replace"))
        self._placed = (offset, column)
        return Place(line, column)

    def error(self, offset: int, text: str) -> ScriptError:
        place = self.place(offset)
        return ScriptError(place.line, place.column, text, self._script_name)

    def next(self) -> RuleToken:
        """The next token; at the end of the script one of that kind. Raises ScriptError."""
        while True:
            at = self._at
            if at >= len(self._script):
                return RuleToken(TokenKind.END, at, b"")
            found = _TOKEN(self._script, at)
            if found is None:
                raise self._unknown(at)
            self._at = found.end()
            kind = found.lastgroup
            if kind in ("space", "comment"):
                continue
            if kind == "bracketed":
                if not found[0].endswith(b"*/") or len(found[0]) < 4:
                    raise self.error(at, "this comment has no end: close it with */")
                continue
            return self._token(kind or "", at, found[0])

    def _token(self, kind: str, at: int, text: bytes) -> RuleToken:
        if kind == "multiline":
            return RuleToken(TokenKind.STRING, at, self._multiline(at))
        if kind == "quoted":
            if len(text) < 2 or not text.endswith(b'"'):
                raise self.error(at, 'this string has no end: close it with "')
            return RuleToken(TokenKind.STRING, at, _ESCAPED(rb"\1", text[1:-1]))
        if kind == "tag":
            return RuleToken(TokenKind.TAG, at, text[1:].lower())
        if kind == "number":
            return RuleToken(TokenKind.NUMBER, at, text, self._number(at, text))
        if kind == "name":
            return RuleToken(TokenKind.NAME, at, text.lower())
        return RuleToken(TokenKind.MARK, at, text)

    def _multiline(self, at: int) -> bytes:
        """Up to the line that is one dot. Lines end in CRLF, whatever the script has."""
        found = _LAST_LINE(self._script, self._at)
        if found is None:
            raise self.error(at, "this text: has no end: close it with a line that is one dot")
        text = self._script[self._at : found.start()]
        self._at = found.end()
        lines = _LINE_END.split(text)
        return b"\r\n".join([one[1:] if one.startswith(b".") else one for one in lines])

    def _number(self, at: int, text: bytes) -> int:
        unit = _UNITS.get(text[-1:].lower(), 1)
        digits = text if unit == 1 else text[:-1]
        number = int(digits) * unit if len(digits.lstrip(b"0")) < 20 else NUMBER_MAX + 1
        if number > NUMBER_MAX:
            raise self.error(at, f"this number is too large: {NUMBER_MAX} is the largest")
        return number

    def _unknown(self, at: int) -> ScriptError:
        character = self._script[at : at + 4].decode("utf-8", "ignore")[:1]
        if character.isascii() and character.isdigit():
            return self.error(at, "a number ends in a digit, or in K, M or G")
        return self.error(at, f"nothing begins with U+{ord(character):04X} outside of a string")
