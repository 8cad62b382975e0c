"""A client of any IMAP server, for tests that compare servers. It reads what is answered into
values, by the grammar and nothing beside it (RFC 9051 section 9)."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

from tests.frontends.imap.strict_parser import StrictParser

Value = Any
"""A string is bytes, NIL is None, a number is an int, an atom is an `Atom`, and a list is one."""

PATIENCE_S: Final = 120.0
_LITERAL_AT_END = re.compile(rb"~?\{([0-9]+)\}\r\n\Z")
_LITERAL = re.compile(rb"~?\{([0-9]+)\}\r\n")
_QUOTED = re.compile(rb'"((?:[^"\\\r\n]|\\["\\])*)"')
_ESCAPED = re.compile(rb'\\(["\\])')
_ATOM = re.compile(rb'\\?[^\x00-\x20\x7f-\xff(){%*"\\\]]+|\\\*')
_ITEM = re.compile(rb"[A-Z0-9.]+(?:\[[^\]\r\n]*\](?:<[0-9]+>)?)?")
_DIGITS = re.compile(rb"[0-9]+")
_NESTING_MAX: Final = 250


class Atom(bytes):
    """What is neither string nor number."""


class BrokenResponse(ValueError):
    """A response that the grammar does not allow: where, and what stands there."""


@dataclass(frozen=True)
class Told:
    """The answer to one command: untagged responses with their literals, and the tagged one."""

    untagged: tuple[bytes, ...]
    status: bytes

    @property
    def ok(self) -> bool:
        return self.status.startswith(b"OK")

    def fetches(self) -> Iterator[tuple[int, dict[bytes, Value]]]:
        """What is told of messages."""
        for response in self.untagged:
            if (one := fetched(response)) is not None:
                yield one


class Values:
    """Reads values from a response."""

    def __init__(self, data: bytes, position: int = 0) -> None:
        self.data = data
        self.position = position

    def expect(self, token: bytes) -> None:
        if not self.data.startswith(token, self.position):
            raise self.broken(f"{token!r} is expected")
        self.position += len(token)

    def broken(self, why: str) -> BrokenResponse:
        at = self.position
        return BrokenResponse(f"{why} at {at}: {self.data[max(0, at - 60) : at + 60]!r}")

    def starts_with(self, token: bytes) -> bool:
        return self.data.startswith(token, self.position)

    def matched(self, pattern: re.Pattern[bytes]) -> re.Match[bytes] | None:
        found = pattern.match(self.data, self.position)
        if found is not None:
            self.position = found.end()
        return found

    def value(self, depth: int = 0) -> Value:
        if self.starts_with(b"("):
            return self.list(depth + 1)
        if self.starts_with(b'"'):
            quoted = self.matched(_QUOTED)
            if quoted is None:
                raise self.broken("a quoted string is expected")
            return _ESCAPED.sub(rb"\1", quoted[1])
        if (literal := self.matched(_LITERAL)) is not None:
            end = self.position + int(literal[1])
            octets = self.data[self.position : end]
            if len(octets) != int(literal[1]):
                raise self.broken("a literal is cut off")
            if b"\0" in octets and not literal[0].startswith(b"~"):
                raise self.broken("a literal has a NUL")
            self.position = end
            return octets
        atom = self.matched(_ATOM)
        if atom is None:
            raise self.broken("a value is expected")
        if atom[0].upper() == b"NIL":
            return None
        return int(atom[0]) if _DIGITS.fullmatch(atom[0]) else Atom(atom[0])

    def list(self, depth: int = 1) -> list[Value]:
        """Values with one space between them; between lists there may be none, since addresses and
        parts stand so."""
        if depth > _NESTING_MAX:
            raise self.broken("too many parentheses")
        self.expect(b"(")
        found: list[Value] = []
        while not self.starts_with(b")"):
            if found and not (isinstance(found[-1], list) and self.starts_with(b"(")):
                self.expect(b" ")
            found.append(self.value(depth))
        self.expect(b")")
        return found


def fetched(response: bytes) -> tuple[int, dict[bytes, Value]] | None:
    """The number and the items of `* n FETCH (...)`; None for other responses."""
    found = re.match(rb"\* ([0-9]+) FETCH ", response)
    if found is None:
        return None
    values = Values(response, found.end())
    values.expect(b"(")
    items: dict[bytes, Value] = {}
    while not values.starts_with(b")"):
        if items:
            values.expect(b" ")
        name = values.matched(_ITEM)
        if name is None:
            raise values.broken("the name of an item is expected")
        values.expect(b" ")
        items[name[0]] = values.value()
    values.expect(b")")
    values.expect(b"\r\n")
    if values.position != len(response):
        raise values.broken("the end is expected")
    return int(found[1]), items


def numbers(told: Told, name: bytes) -> list[int]:
    """What `* SEARCH` or `* SORT` has."""
    (line,) = (one for one in told.untagged if one.startswith(b"* " + name))
    return [int(word) for word in line.split()[2:]]


def threads(told: Told) -> bytes:
    """What `* THREAD` has."""
    (line,) = (one for one in told.untagged if one.startswith(b"* THREAD"))
    return line.removeprefix(b"* THREAD").strip()


class ImapTalk:
    """One connection. As a context manager it closes it."""

    def __init__(self, connection: socket.socket, parser: StrictParser | None = None) -> None:
        """`parser` reads all responses besides."""
        connection.settimeout(PATIENCE_S)
        self._parser = parser
        self._connection = connection
        self._file = connection.makefile("rb")
        self._count = 0
        self.greeting = self._response()

    @classmethod
    def log_in(cls, port: int, user: str, password: str) -> Self:
        """With raftmail, all of whose responses the strict parser reads."""
        connection = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
        talk = cls(connection, StrictParser())
        talk.ok(b"LOGIN %b %b" % (user.encode(), password.encode()))
        return talk

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()
        self._connection.close()

    def _response(self) -> bytes:
        whole = line = self._file.readline()
        while (found := _LITERAL_AT_END.search(line)) is not None:
            whole += self._file.read(int(found[1]))
            line = self._file.readline()
            whole += line
        if not whole.endswith(b"\r\n"):
            raise BrokenResponse(f"the connection ended after {whole[-200:]!r}")
        if self._parser is not None:
            self._parser.take(whole)
        return whole

    def ask(self, command: bytes, *literals: bytes) -> Told:
        """A command; `{}` in it stands for a literal, sent without waiting."""
        self._count += 1
        tag = b"t%d" % self._count
        pieces = command.split(b"{}")
        data = pieces[0]
        for piece, literal in zip(pieces[1:], literals, strict=True):
            data += b"{%d+}\r\n%b%b" % (len(literal), literal, piece)
        self._connection.sendall(tag + b" " + data + b"\r\n")
        untagged: list[bytes] = []
        while not (said := self._response()).startswith(tag + b" "):
            untagged.append(said)
        return Told(tuple(untagged), said[len(tag) + 1 : -2])

    def ok(self, command: bytes, *literals: bytes) -> Told:
        """As `ask`, of a command that must be answered OK."""
        told = self.ask(command, *literals)
        assert told.ok, (command, told.status)
        return told

    def fetch(self, command: bytes) -> dict[int, dict[bytes, Value]]:
        """The items of each message that a FETCH answers with; it must be answered OK."""
        found: dict[int, dict[bytes, Value]] = {}
        for number, items in self.ok(command).fetches():
            found.setdefault(number, {}).update(items)
        return found
