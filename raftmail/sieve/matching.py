"""How values are compared: match types (RFC 5228 section 2.7.1, RFC 5231), comparators (RFC 4790).

Everything is linear in the length of the value, but for pieces of a pattern that have `?` in them.
Such a piece costs its length for each octet, and is paid for before it is tried.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from functools import lru_cache
from typing import Final, NamedTuple

CAPTURES_MAX: Final = 100
"""Values of match variables that are kept; `${0}` is one of them."""

_DIGITS = re.compile(rb"[0-9]*").match
_DIGITS_MAX = 400
_PIECES = re.compile(rb"\\(.)|(\*+)|(\?)|([^\\*?]++)|(\\)", re.DOTALL).finditer


class MatchKind(Enum):
    IS = "is"
    CONTAINS = "contains"
    MATCHES = "matches"
    COUNT = "count"
    VALUE = "value"


class Comparator(Enum):
    OCTET = "i;octet"
    CASEMAP = "i;ascii-casemap"
    NUMERIC = "i;ascii-numeric"


RELATIONS: Final[Mapping[bytes, Callable[[object, object], bool]]] = {
    b"gt": lambda a, b: a > b,  # type: ignore[operator]
    b"ge": lambda a, b: a >= b,  # type: ignore[operator]
    b"lt": lambda a, b: a < b,  # type: ignore[operator]
    b"le": lambda a, b: a <= b,  # type: ignore[operator]
    b"eq": lambda a, b: a == b,
    b"ne": lambda a, b: a != b,
}
"""RFC 5231 section 4."""


class KeyFound(NamedTuple):
    """That a key fits, and what the wildcards of `:matches` stand for, the whole value first."""

    captures: tuple[bytes, ...] | None = None


class _Piece(NamedTuple):
    """What stands between two `*`: either octets, or an expression where it has `?`. `spans` are
    the places of the `?`."""

    octets: bytes
    wild: re.Pattern[bytes] | None
    length: int
    spans: tuple[int, ...]


class ValueMatcher(NamedTuple):
    kind: MatchKind
    comparator: Comparator
    relation: bytes = b""

    def find(
        self, values: Iterable[bytes], keys: Sequence[bytes], pay: Callable[[int], None]
    ) -> KeyFound | None:
        """The first value that a key fits; None if there is none. `pay` is told of the work before
        it is done, and may raise."""
        if self.kind is MatchKind.COUNT:
            return self._count(values, keys)
        try_one = {
            MatchKind.IS: self._is,
            MatchKind.VALUE: self._value,
            MatchKind.CONTAINS: self._contains,
            MatchKind.MATCHES: self._matches,
        }[self.kind]
        prepared = [self._prepared(key) for key in keys]
        for value in values:
            pay(len(value) * (1 + len(keys)) + 16 * len(keys))
            mapped = self._prepared(value)
            for key in prepared:
                found = try_one(value, mapped, key, pay)
                if found is not None:
                    return found
        return None

    def _count(self, values: Iterable[bytes], keys: Sequence[bytes]) -> KeyFound | None:
        number = self._ordered(self._prepared(b"%d" % sum(1 for _ in values)))
        compare = RELATIONS[self.relation]
        if any(compare(number, self._ordered(self._prepared(key))) for key in keys):
            return KeyFound()
        return None

    def _prepared(self, text: bytes) -> bytes:
        return text.upper() if self.comparator is Comparator.CASEMAP else text

    def _ordered(self, mapped: bytes) -> object:
        return _numeric(mapped) if self.comparator is Comparator.NUMERIC else mapped

    def _is(
        self, value: bytes, mapped: bytes, key: bytes, pay: Callable[[int], None]
    ) -> KeyFound | None:
        return KeyFound() if self._ordered(mapped) == self._ordered(key) else None

    def _value(
        self, value: bytes, mapped: bytes, key: bytes, pay: Callable[[int], None]
    ) -> KeyFound | None:
        found = RELATIONS[self.relation](self._ordered(mapped), self._ordered(key))
        return KeyFound() if found else None

    def _contains(
        self, value: bytes, mapped: bytes, key: bytes, pay: Callable[[int], None]
    ) -> KeyFound | None:
        return KeyFound() if key in mapped else None

    def _matches(
        self, value: bytes, mapped: bytes, key: bytes, pay: Callable[[int], None]
    ) -> KeyFound | None:
        spans = _glob(mapped, _pieces(key), pay)
        if spans is None:
            return None
        kept = spans[: CAPTURES_MAX - 1]
        return KeyFound((value, *(value[start:end] for start, end in kept)))


def _numeric(text: bytes) -> tuple[int, int]:
    """RFC 4790 section 9.1: the digits that it begins with; without any it is above all numbers.
    The order is that of the digits without zeros before them, so that no number is too long."""
    found = _DIGITS(text)
    digits = b"" if found is None else found[0]
    if not digits:
        return (1, 0)
    return (0, int(digits[:_DIGITS_MAX]))


@lru_cache(maxsize=256)
def _pieces(pattern: bytes) -> tuple[_Piece, ...]:
    """The pieces of a pattern between its `*`; two that follow one another have none between."""
    pieces: list[_Piece] = []
    octets = bytearray()
    wild: list[int] = []
    for found in _PIECES(pattern):
        if found[2]:
            for _ in found[2]:
                pieces.append(_piece(bytes(octets), wild))
                octets, wild = bytearray(), []
        elif found[3]:
            wild.append(len(octets))
            octets += b"?"
        else:
            octets += found[1] or found[4] or found[5]
    pieces.append(_piece(bytes(octets), wild))
    return tuple(pieces)


def _piece(octets: bytes, wild: Sequence[int]) -> _Piece:
    if not wild:
        return _Piece(octets, None, len(octets), ())
    expression = bytearray()
    last = 0
    for at in wild:
        expression += re.escape(octets[last:at]) + b"."
        last = at + 1
    expression += re.escape(octets[last:])
    compiled = re.compile(bytes(expression), re.DOTALL)
    return _Piece(octets, compiled, len(octets), tuple(wild))


def _glob(
    value: bytes, pieces: Sequence[_Piece], pay: Callable[[int], None]
) -> list[tuple[int, int]] | None:
    """What the wildcards stand for, in the order of the pattern; None if it does not fit.

    Every `*` is as short as it can be (RFC 5229 section 3.2). So each piece is the first that is
    found behind the one before it, and nothing is ever tried again. The last one stands at the end.
    """
    first, last = pieces[0], pieces[-1]
    if not _stands_at(first, value, 0) or (len(pieces) == 1 and len(value) != first.length):
        return None
    spans = [(at, at + 1) for at in first.spans]
    if len(pieces) == 1:
        return spans
    end = len(value) - last.length
    at = first.length
    if end < at or not _stands_at(last, value, end):
        return None
    for piece in pieces[1:-1]:
        found = _find(piece, value, at, end, pay)
        if found < 0:
            return None
        spans.append((at, found))
        spans += [(found + one, found + one + 1) for one in piece.spans]
        at = found + piece.length
    spans.append((at, end))
    spans += [(end + one, end + one + 1) for one in last.spans]
    return spans


def _stands_at(piece: _Piece, value: bytes, at: int) -> bool:
    if piece.wild is None:
        return value.startswith(piece.octets, at)
    return piece.wild.match(value, at) is not None


def _find(piece: _Piece, value: bytes, at: int, end: int, pay: Callable[[int], None]) -> int:
    if piece.wild is None:
        return value.find(piece.octets, at, end)
    pay((end - at) * piece.length)
    found = piece.wild.search(value, at, end)
    return -1 if found is None else found.start()
