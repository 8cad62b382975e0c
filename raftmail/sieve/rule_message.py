"""A message as scripts see it: header fields as UTF-8, addresses, and texts of its body."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from raftmail.mail.charsets import decode_text
from raftmail.mail.encoded_words import decode_words
from raftmail.mail.headers import HEADER_BYTES_MAX, each_field, header_end, read_fields, unfold
from raftmail.mail.markup import without_markup
from raftmail.mail.mime import transfer_encoding, type_and_charset
from raftmail.mail.summary import Part, decode_parts, summarise
from raftmail.mail.transfer import UnknownEncodingError, decode_transfer
from raftmail.sieve.rule_addresses import MailAddress, field_addresses

_FOLD = re.compile(rb"\r?\n\t").sub

Pay = Callable[[int], None]
"""Told of work in octets before it is done; raises RuleError when that is too much."""


class RuleMessage:
    """One message. What is read of it is kept, so that many rules cost little more than one."""

    def __init__(self, data: bytes, parts: bytes | None = None) -> None:
        """`parts` are those of the message's summary, if somebody has it; they are read when a
        script asks for the body."""
        self._data = data
        self._parts = parts
        self._header_bytes = header_end(data, 0, len(data))
        self._fields: dict[bytes, list[bytes]] = {}
        self._values: dict[bytes, tuple[bytes, ...]] = {}
        for name, value in each_field(data[: min(self._header_bytes, HEADER_BYTES_MAX)]):
            self._fields.setdefault(name.lower(), []).append(value)

    @property
    def size(self) -> int:
        """RFC 5228 section 5.9."""
        return len(self._data)

    def has(self, name: bytes) -> bool:
        return name.lower() in self._fields

    def raw_values(self, name: bytes) -> Sequence[bytes]:
        """The fields of a name in their order, folded and encoded as they came."""
        return self._fields.get(name.lower(), ())

    def values(self, name: bytes, pay: Pay) -> Sequence[bytes]:
        """The fields of a name in their order: on one line, decoded, in UTF-8, without space at the
        ends (RFC 5228 section 2.7.2 and 5.7). Where a line was folded a tab is a blank: many
        senders fold with a tab what had a blank."""
        key = name.lower()
        found = self._values.get(key)
        if found is None:
            raw = self._fields.get(key, ())
            pay(4 * sum(len(one) for one in raw))
            found = tuple(_one_line(one) for one in raw)
            self._values[key] = found
        return found

    def addresses(self, name: bytes, index: int, pay: Pay) -> list[MailAddress]:
        """The addresses in the fields of a name. `index` selects one field, from 1, or from the end
        where it is negative; 0 takes all."""
        raw = indexed(self._fields.get(name.lower(), ()), index)
        pay(8 * sum(len(one) for one in raw))
        return [address for one in raw for address in field_addresses(one)]

    @property
    def _has_body(self) -> bool:
        return self._data.endswith((b"\n\n", b"\n\r\n"), 0, self._header_bytes)

    def raw_body(self, bytes_max: int) -> Iterator[bytes]:
        """What stands behind the empty line; nothing where there is no such line (RFC 5173)."""
        if self._has_body:
            yield self._data[self._header_bytes : self._header_bytes + bytes_max]

    def texts(self, types: Sequence[bytes] | None, bytes_max: int, pay: Pay) -> Iterator[bytes]:
        """Parts, undone of their encoding. `types` are as `:content` has them (RFC 5173 section
        5.2): "" is all, `text` a type, `text/html` one with its subtype. None: what people read, in
        UTF-8 and without markup (section 5.3)."""
        room = bytes_max if self._has_body else 0
        for part, kind in self._leaves():
            wanted = kind.startswith(b"text/") if types is None else _is_of(kind, types)
            if not wanted or room <= 0:
                continue
            octets = self._data[part.body_offset : part.body_offset + min(part.body_bytes, room)]
            room -= len(octets)
            pay(8 * len(octets))
            fields = self._part_fields(part)
            try:
                text = decode_transfer(
                    octets, transfer_encoding(fields.get(b"content-transfer-encoding"))
                )
            except UnknownEncodingError:
                text = octets
            if kind.startswith(b"text/"):
                _, charset = type_and_charset(fields.get(b"content-type"))
                shown = decode_text(text, charset)
                if types is None and kind == b"text/html":
                    shown = without_markup(shown)
                text = shown.encode("utf-8", "replace")
            yield text

    def _leaves(self) -> Iterator[tuple[Part, bytes]]:
        """Parts that have none inside, and their types in lower case."""
        if self._parts is None:
            self._parts = summarise(self._data).parts
        parts = decode_parts(self._parts)
        for index, part in enumerate(parts):
            inside = parts[index + 1].path if index + 1 < len(parts) else ()
            if inside[: len(part.path)] != part.path:
                yield part, _type_of(self._part_fields(part).get(b"content-type"))

    def _part_fields(self, part: Part) -> dict[bytes, bytes]:
        end = part.header_offset + min(part.header_bytes, HEADER_BYTES_MAX)
        return read_fields(self._data[part.header_offset : end])[0]


def _one_line(raw: bytes) -> bytes:
    text = decode_words(unfold(_FOLD(b"\n ", raw)))
    return text.encode("utf-8", "replace").strip(b" \t\r\n")


def indexed(values: Sequence[bytes], index: int) -> Sequence[bytes]:
    """RFC 5260 section 6: the one at `index` from 1, or from the end if negative; 0 is all."""
    if index == 0:
        return values
    at = index - 1 if index > 0 else len(values) + index
    return values[at : at + 1] if at >= 0 else ()


def _type_of(raw: bytes | None) -> bytes:
    if raw is None:
        return b"text/plain"
    kind = unfold(raw).partition(b";")[0].strip().lower()
    return kind if b"/" in kind else b"text/plain"


def _is_of(kind: bytes, types: Sequence[bytes]) -> bool:
    for one in types:
        wanted = one.lower()
        if not wanted or kind == wanted or kind.startswith(wanted + b"/"):
            return True
    return False
