"""Framing of the text protocol, both directions, without I/O.

A line is words between white space: atoms, quoted strings, `key=value`, and literals: a line that
ends in `{n}` goes on after the next n bytes. docs/protocol.md has the grammar.

Lines of atoms only, which nearly all are, come out of `LineReader` as what `bytes.split` gives, a
whole chunk in one pass. Nobody has looked for `key=value` in them yet (`Line.of` does). All others
come out as a `Line`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from raftmail.net.limits import ReaderLimits


class ProtocolViolation(Exception):
    """The stream cannot be understood any further: answer with the text and close."""


class LineError(ValueError):
    """One line breaks the grammar; the stream goes on after it."""


@dataclass(slots=True)
class Line:
    """A line taken apart: what stands by position, tag first, and what has a name."""

    words: list[bytes] = field(default_factory=list)
    named: dict[bytes, bytes] = field(default_factory=dict)
    literal_bytes: int = 0

    @staticmethod
    def of(atoms: list[bytes]) -> Line:
        """Of a line of atoms. Raises `LineError` when a name stands twice."""
        line = Line()
        for atom in atoms:
            line.add(atom)
        return line

    def add(self, atom: bytes) -> None:
        """Put an atom where it belongs. Raises `LineError` when its name is taken."""
        if b"=" in atom and (match := _NAMED.match(atom)) is not None:
            self.put(match[1], atom[match.end() :])
        else:
            self.words.append(atom)

    def put(self, name: bytes | None, value: bytes) -> None:
        """Add a value, by name or by position. Raises `LineError` when the name is taken."""
        if name is None:
            self.words.append(value)
        elif name in self.named:
            raise LineError(f"{name.decode()}= stands twice")
        else:
            self.named[name] = value


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that was read to its end and is not to be executed. `busy` means that there was no
    room for it."""

    tag: bytes
    text: str
    busy: bool = False
    literal_bytes: int = 0
    """Of the literals that were admitted."""
    start: bytes = field(default=b"", compare=False)
    """What it began with."""


Item: TypeAlias = list[bytes] | Line | BadLine
"""A list is a line of atoms, never empty."""

Admit: TypeAlias = Callable[[int, bool], str | None]
"""Asked before a literal of so many bytes is kept; the flag is True for the first of a request.
Gives "" for yes, a text for why not, None for not yet, which it should say to the first only:
what waits with half a request held may wait for ever."""

_NAMED = re.compile(rb"([a-z][a-z0-9_-]*)=")
_LITERAL = re.compile(rb"(?:([a-z][a-z0-9_-]*)=)?\{([0-9]{1,10})\}")
_LITERAL_AT_END = re.compile(rb"\{[0-9]+\}\s*\Z")
_TOKEN = re.compile(
    rb"""\s*+(?:(?:([a-z][a-z0-9_-]*)=)?"((?:[^"\\]|\\["\\])*+)"|([^\s"]++))(?=\s|\Z)"""
)
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)
_TAG = re.compile(rb"[!-~]{1,64}")
_ATOM = re.compile(rb"""[^\x00-\x20"{}=\x7f]+""")
_UNQUOTABLE = re.compile(rb"[\r\n\x00]")
_SPECIAL = re.compile(rb'(["\\])')

_START_BYTES = 200
"""Of a line that is not understood, what is kept."""

QUOTED_BYTES_MAX = 1000
"""Longer values are written as literals, so that lines stay far below their limit."""


def quote(value: bytes) -> bytes:
    """A value as an atom if it can be one, else quoted, else as a literal."""
    if len(value) > QUOTED_BYTES_MAX or _UNQUOTABLE.search(value) is not None:
        return b"{%d}\r\n%b" % (len(value), value)
    if _ATOM.fullmatch(value) is not None:
        return value
    return b'"' + _SPECIAL.sub(rb"\\\1", value) + b'"'


def quote_text(text: str) -> bytes:
    """A text for people, always on one line and in quotes."""
    flat = " ".join(text.split())[:QUOTED_BYTES_MAX]
    return b'"' + _SPECIAL.sub(rb"\\\1", flat.encode("utf-8", "replace")) + b'"'


class LineReader:
    """Takes bytes as they come, gives lines.

    Invariants:
    1. What it holds is at most one chunk that was not yet taken, one line, and the literals of
       one request, within `limits`.
    2. How the bytes were cut into chunks makes no difference to the lines.
    3. It raises nothing but `ProtocolViolation`, and is of no use after that."""

    def __init__(self, limits: ReaderLimits, admit: Admit | None = None) -> None:
        self.limits = limits
        self.waiting = False
        """A literal was told "not yet": nothing more comes until `take` or `take_one` is called
        again and it is admitted."""
        self._admit = admit
        self._data = b""
        self._at = 0
        self._line: Line | None = None  # of a request that is not complete
        self._start = b""
        self._request_bytes = 0
        self._bad: BadLine | None = None
        self._want = -1  # bytes of a literal that are missing; -1 outside literals
        self._name: bytes | None = None
        self._body: bytearray | None = (
            None  # the beginning of a literal that came in several chunks
        )
        self._discard = False
        self._error: ProtocolViolation | None = None
        self._unasked = False  # `admit` has yet to be asked about the literal

    def feed(self, data: bytes) -> None:
        """Add what was received. `take` afterwards."""
        if self._at < len(self._data):
            self._data = self._data[self._at :] + data
        else:
            self._data = data
        self._at = 0

    @property
    def is_empty(self) -> bool:
        """There is nothing that `take` would give or raise before more is fed."""
        return self._at == len(self._data) and self._error is None and not self.waiting

    @property
    def wanted_bytes(self) -> int:
        """How much of a literal is missing; 0 outside literals."""
        return max(self._want, 0)

    @property
    def unread_bytes(self) -> int:
        """Received and not yet part of a line."""
        return len(self._data) - self._at

    @property
    def inside_request(self) -> bool:
        """A request has begun and is not complete."""
        return self._line is not None or self._at < len(self._data)

    def rest(self) -> bytes:
        """What follows the lines taken so far, for whoever reads the stream from here on."""
        data = self._data[self._at :]
        self._data = b""
        self._at = 0
        return data

    def take(self) -> list[Item]:
        """Complete lines, as many as there are. An empty list means that more must be fed; an
        error may stand behind a full one."""
        if self._error is not None:
            raise self._error
        data = self._data
        at = self._at
        if self._line is None and data.find(b"{", at) < 0 and data.find(b'"', at) < 0:
            end = data.rfind(b"\n") + 1
            if end <= at:
                if len(data) - at > self.limits.line_bytes_max:
                    raise self._too_long()
                return []
            lines = (data[at:end] if at or end < len(data) else data).split(b"\n")
            limit = self.limits.line_bytes_max
            if end - at <= limit or max(map(len, lines)) <= limit:
                self._at = end
                return [words for line in lines if (words := line.split())]
        items: list[Item] = []
        try:
            while (item := self.take_one()) is not None:
                items.append(item)
        except ProtocolViolation as error:
            if not items:
                raise
            self._error = error
        return items

    def take_one(self) -> Item | None:
        """The next line, or None until more is fed. What follows the line is left as it is, and
        may be read by other rules."""
        if self._error is not None:
            raise self._error
        while True:
            if self._want >= 0 and not self._take_literal():
                return None
            data = self._data
            at = self._at
            end = data.find(b"\n", at)
            if (len(data) if end < 0 else end) - at > self.limits.line_bytes_max:
                raise self._too_long()
            if end < 0:
                return None
            self._at = end + 1
            text = data[at:end]
            if self._line is None and b"{" not in text and b'"' not in text:
                if words := text.split():
                    return words
                continue
            if self._segment(text):
                continue
            line = self._line
            bad = self._bad
            self._line = self._bad = None
            self._request_bytes = 0
            if bad is not None:
                assert line is not None
                return BadLine(bad.tag, bad.text, bad.busy, line.literal_bytes, self._start)
            if line is not None and line.words:
                return line

    def _too_long(self) -> ProtocolViolation:
        return ProtocolViolation(f"a line is longer than {self.limits.line_bytes_max} bytes")

    def _segment(self, text: bytes) -> bool:
        """Add a piece of text to the request; True when a literal follows."""
        line = self._line
        if line is None:
            line = self._line = Line()
            self._start = text[:_START_BYTES]
        self._request_bytes += len(text)
        literal: re.Match[bytes] | None = None
        try:
            if b'"' in text:
                literal = self._scan(line, text)
            else:
                atoms = text.split()
                if atoms and atoms[-1].endswith(b"}"):
                    literal = _LITERAL.fullmatch(atoms[-1])
                    if literal is not None:
                        atoms.pop()
                for atom in atoms:
                    line.add(atom)
        except LineError as error:
            if _LITERAL_AT_END.search(text) is not None:
                raise ProtocolViolation(f"{error}, in a line that a literal follows") from None
            self._spoil(str(error))
        if len(line.words) + len(line.named) > self.limits.words_max:
            raise ProtocolViolation(f"a request has more than {self.limits.words_max} words")
        if literal is None:
            return False
        self._begin_literal(literal[1], int(literal[2]))
        return True

    @staticmethod
    def _scan(line: Line, text: bytes) -> re.Match[bytes] | None:
        at = 0
        end = len(text.rstrip())
        while at < end:
            token = _TOKEN.match(text, at, end)
            if token is None:
                raise LineError(f"byte {at}: a quoted string does not end, or something touches it")
            at = token.end()
            name, quoted, atom = token.groups()
            if quoted is not None:
                line.put(name, _ESCAPED.sub(rb"\1", quoted) if b"\\" in quoted else quoted)
            elif at == end and (literal := _LITERAL.fullmatch(atom)) is not None:
                return literal
            else:
                line.add(atom)
        return None

    def _spoil(self, text: str, *, busy: bool = False) -> None:
        if self._bad is None:
            words = self._line.words if self._line is not None else []
            tag = words[0] if words and _TAG.fullmatch(words[0]) else b"*"
            self._bad = BadLine(tag, text, busy)

    def _begin_literal(self, name: bytes | None, count: int) -> None:
        limits = self.limits
        self._request_bytes += count
        self._want = count
        self._name = name
        self._discard = True
        if count > limits.literal_bytes_max:
            if count > limits.discard_bytes_max:
                raise ProtocolViolation(
                    f"a literal of {count} bytes; at most {limits.literal_bytes_max} are taken here"
                )
            self._spoil(
                f"a literal of {count} bytes is over the limit of {limits.literal_bytes_max}"
            )
        elif self._request_bytes > limits.request_bytes_max:
            if self._request_bytes > limits.request_bytes_max + limits.discard_bytes_max:
                raise ProtocolViolation(f"a request of more than {limits.request_bytes_max} bytes")
            self._spoil(f"a request is over the limit of {limits.request_bytes_max} bytes")
        elif self._bad is None:
            self._discard = False
            self._unasked = self._admit is not None

    def _admitted(self) -> bool:
        """Ask whether the literal may be kept; False to come back later."""
        assert self._admit is not None and self._line is not None
        answer = self._admit(self._want, self._line.literal_bytes == 0)
        self.waiting = answer is None
        if answer is None:
            return False
        self._unasked = False
        if answer:
            self._discard = True
            self._spoil(answer, busy=True)
        return True

    def _take_literal(self) -> bool:
        """Go on with a literal; True at its end."""
        if self._unasked and not self._admitted():
            return False
        data = self._data
        at = self._at
        want = self._want
        have = len(data) - at
        whole = have >= want
        end = at + want if whole else len(data)
        self._at = end
        if not self._discard:
            body = self._body
            if whole and body is None:
                self._keep(data[at:end])
            else:
                if body is None:
                    body = self._body = bytearray()
                body += memoryview(data)[at:end]
                if whole:
                    self._body = None
                    self._keep(bytes(body))
        self._want = -1 if whole else want - have
        return whole

    def _keep(self, body: bytes) -> None:
        line = self._line
        assert line is not None
        line.literal_bytes += len(body)
        try:
            line.put(self._name, body)
        except LineError as error:
            self._spoil(str(error))
