"""Strings of a script: octets, with variables to be put in (RFC 5229) where it has some.

`${hex: …}` and `${unicode: …}` are done when a script is compiled (RFC 5228 section 2.4.2.4), and
before variables (RFC 5229 section 3).
"""

from __future__ import annotations

import re
from typing import NamedTuple

_ENCODED = re.compile(
    rb"\$\{(?:(hex):((?:[ \t\r\n]*[0-9a-f]{1,2}(?=[ \t\r\n}]))+)"
    rb"|(unicode):((?:[ \t\r\n]*[0-9a-f]{1,40}(?=[ \t\r\n}]))+))[ \t\r\n]*\}",
    re.IGNORECASE,
)
_VARIABLE = re.compile(rb"\$\{((?:[a-z_][a-z0-9_]*\.)*(?:[a-z_][a-z0-9_]*|[0-9]{1,20}))\}", re.I)
_NAME = re.compile(rb"[a-z_][a-z0-9_]*", re.I)
_GLOBAL = "global."


class VariableName(NamedTuple):
    """`number` is that of a match variable, -1 for others. Names are in lower case."""

    name: str
    number: int = -1
    is_global: bool = False


class RuleText(NamedTuple):
    """The pieces of a string in their order."""

    pieces: tuple[bytes | VariableName, ...]

    @property
    def constant(self) -> bytes | None:
        """What it always is; None where that depends on variables."""
        if not self.pieces:
            return b""
        if len(self.pieces) == 1 and isinstance(self.pieces[0], bytes):
            return self.pieces[0]
        return None


def decode_characters(text: bytes) -> bytes:
    """A string with its encoded characters decoded; what is no such code stays as it is. Raises
    ValueError for a number that no character of Unicode has."""
    return _ENCODED.sub(_decoded, text) if b"${" in text else text


def _decoded(found: re.Match[bytes]) -> bytes:
    if found[1]:
        return bytes(int(one, 16) for one in found[2].split())
    out = bytearray()
    for one in found[4].split():
        number = int(one, 16)
        if number > 0x10FFFF or 0xD800 <= number <= 0xDFFF:
            raise ValueError(f"no character of Unicode has the number {one.decode().upper()}")
        out += chr(number).encode()
    return bytes(out)


def with_variables(text: bytes) -> RuleText:
    """A string with the variables that it names. What looks like one and is none stays as it is.
    Raises ValueError for a namespace that nobody has."""
    pieces: list[bytes | VariableName] = []
    at = 0
    for found in _VARIABLE.finditer(text):
        if found.start() > at:
            pieces.append(text[at : found.start()])
        pieces.append(_variable(found[1].decode()))
        at = found.end()
    if at < len(text):
        pieces.append(text[at:])
    return RuleText(tuple(pieces))


def _variable(written: str) -> VariableName:
    if written.isdigit():
        return VariableName(written, min(int(written), 10**6))
    return variable_name(written)


def variable_name(written: str) -> VariableName:
    """The variable that a script names. Raises ValueError for what is no name."""
    name = written.lower()
    if name.startswith(_GLOBAL):
        name = name.removeprefix(_GLOBAL)
        if _NAME.fullmatch(name.encode()):
            return VariableName(name, -1, True)
    if not name.isascii() or not _NAME.fullmatch(name.encode()):
        raise ValueError(
            f"{written[:60]!a} names no variable: letters, digits and _ are, after global. or alone"
        )
    return VariableName(name)
