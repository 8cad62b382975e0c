"""What of a message TEXT and BODY search (RFC 9051 section 6.4.4): decoded, folded, in chunks.

A match lies within one chunk: one header field, or one text part.

- Header: every field of the message, of its parts and of messages inside it, as `Name: value` with
  folds undone.
- Body: each part whose type is text or message and that has no parts of its own, with its transfer
  encoding and charset undone. Other attachments are not searched, nor is HTML taken apart. Long
  parts are searched in pieces. These overlap, so that what is looked for is found wherever it
  stands if it has no more than 7,000 characters.

Dovecot does the same without a full-text index. It differs in this. A match there may cross from
one field to the next. A part in an unknown charset or transfer encoding is searched here as it is.
Of a message with more parts than its summary has, all octets are searched here as well.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate

from raftmail.frontends.imap.header_text import decode_field, fold
from raftmail.frontends.imap.sections import part_fields
from raftmail.mail.charsets import text_pieces
from raftmail.mail.headers import each_field
from raftmail.mail.mime import transfer_encoding, type_and_charset
from raftmail.mail.summary import Part, Summary, decode_parts
from raftmail.mail.transfer import UnknownEncodingError, decode_transfer

_SEARCHED = frozenset((b"text", b"message", b"multipart"))
"""Types of parts without parts. A multipart is shown as text if no parts were found in it."""

_PIECE_BYTES = 256 * 1024
_OVERLAP_CHARS = 64 * 1024
_KEPT_CHARS_MAX = 512 * 1024
_CHUNK_CHARS = 64
"""What a chunk costs beside its characters."""

_PLAIN = re.compile(r"[^\s\\]+").fullmatch

_ENCODED = re.compile(
    rb"""content-transfer-encoding(?!:[ \t]*(?:7bit|8bit|binary)[ \t]*\r?\n)
    | charset(?!="?(?:us-ascii|utf-8|iso-8859-[0-9]{1,2}|windows-125[0-9])[\s;">])""",
    re.VERBOSE,
).search
"""Of a message in small letters: what tells that the characters of a part may be others than its
octets. The charsets that are named here have ASCII in them."""


_SIGNS = (b"=?", b"\\", b"*")
"""What tells that a header may mean more than its octets say."""


class _Chunks:
    """Chunks, kept for the next needle if they are not too many."""

    __slots__ = ("_kept", "_make")

    def __init__(self, make: Callable[[], Iterator[str]]) -> None:
        self._make = make
        self._kept: list[str] | None = None

    def have(self, needle: str) -> bool:
        if self._kept is not None:
            return any(needle in chunk for chunk in self._kept)
        kept: list[str] = []
        room = _KEPT_CHARS_MAX
        for chunk in self._make():
            if needle in chunk:
                return True
            room -= len(chunk) + _CHUNK_CHARS
            if room >= 0:
                kept.append(chunk)
        if room >= 0:
            self._kept = kept
        return False


class SearchableText:
    """The text of one message, for all the keys that look into it. Needles are folded."""

    def __init__(self, summary: Summary, body: bytes) -> None:
        """What is asked of it raises SummaryError for a summary that is damaged."""
        self._summary = summary
        self._body = body
        self._parts_made: tuple[Part, ...] | None = None
        self._plain: bytes | None = None
        self._headers = _Chunks(self._header_chunks)
        self._texts = _Chunks(self._text_chunks)

    def header_has(self, needle: str) -> bool:
        """Whether the needle is in any header; the empty one always is."""
        if not needle:
            return True
        if is_plain(needle):
            octets = needle.encode()
            if plainly_without(self._body, octets):
                return False
            if all(plainly_without(self._body[a:b], octets) for a, b in self._header_spans()):
                return False
        return self._headers.have(needle)

    def body_has(self, needle: str) -> bool:
        """Whether the needle is in the body; the empty one always is."""
        if not needle:
            return True
        if needle.isascii() and self._is_plainly_without(needle.encode()):
            return False
        return self._texts.have(needle)

    def _is_plainly_without(self, needle: bytes) -> bool:
        """Whether it is clear at a glance that no text has the needle: nothing is encoded, and it
        is nowhere in the message."""
        if self._plain is None:
            lowered = self._body.lower() if self._body.isascii() else b""
            self._plain = b"" if _ENCODED(lowered) is not None else lowered
        return bool(self._plain) and needle not in self._plain

    @property
    def _parts(self) -> tuple[Part, ...]:
        if self._parts_made is None:
            self._parts_made = decode_parts(self._summary.parts)
        return self._parts_made

    def field_has(self, name: bytes, needle: str) -> bool:
        """Whether a field of the message's own header, named in lower case, has the needle."""
        return fields_have(self._body[: self._summary.header_bytes], name, needle)

    def _header_spans(self) -> list[tuple[int, int]]:
        """The header of the message, of its parts and of messages inside it, each once."""
        spans = {0: self._summary.header_bytes}
        for part in self._parts:
            spans.setdefault(part.header_offset, part.body_offset)
            if part.message_header_bytes is not None:
                spans[part.body_offset] = part.body_offset + part.message_header_bytes
        return list(spans.items())

    def _header_chunks(self) -> Iterator[str]:
        for start, end in self._header_spans():
            for name, value in each_field(self._body[start:end]):
                text = decode_field(name, value)
                yield fold(f"{name.decode('ascii')}: {text}")

    def _text_chunks(self) -> Iterator[str]:
        parts = self._parts
        for index, part in enumerate(parts):
            inside = parts[index + 1].path if index + 1 < len(parts) else ()
            if inside[: len(part.path)] != part.path:
                yield from self._text_of(part)
        if not self._summary.structure_complete:
            yield from _folded(self._body[self._summary.header_bytes :], b"")

    def _text_of(self, part: Part) -> Iterator[str]:
        fields = part_fields(self._body, part)
        kind, charset = type_and_charset(fields.get(b"content-type"))
        if kind not in _SEARCHED:
            return
        octets = self._body[part.body_offset : part.body_offset + part.body_bytes]
        encoding = transfer_encoding(fields.get(b"content-transfer-encoding"))
        try:
            octets = decode_transfer(octets, encoding)
        except UnknownEncodingError:
            pass
        yield from _folded(octets, charset)


def _folded(octets: bytes, charset: bytes) -> Iterator[str]:
    """Text in pieces that overlap, each folded."""
    tail = ""
    for piece in text_pieces(octets, charset, _PIECE_BYTES):
        text = tail + piece
        yield fold(text)
        tail = text[-_OVERLAP_CHARS:]


def fields_have(block: bytes, name: bytes, needle: str) -> bool:
    """Whether a field of a header, named in lower case, has the needle, folded; the empty needle is
    in every field."""
    return any(
        not needle or needle in fold(decode_field(name, value))
        for found, value in each_field(block)
        if found.lower() == name
    )


def is_plain(needle: str) -> bool:
    """Whether a folded needle can be looked for with `plainly_without`."""
    return needle.isascii() and _PLAIN(needle) is not None


def plainly_without(block: bytes, needle: bytes) -> bool:
    """Whether it is clear at a glance that no field of a header has the needle: nothing in it is
    encoded, escaped or in pieces, and the needle, which no fold can cut, is not there."""
    return (
        block.isascii()
        and needle not in block.lower()
        and not any(sign in block for sign in _SIGNS)
    )


def not_plainly_without(blocks: Sequence[bytes | None], needle: bytes) -> list[int]:
    """The places of those headers of which `plainly_without` is False, ascending, and of those that
    are None. All are looked at together, which takes a fraction of the time."""
    known = [block or b"" for block in blocks]
    starts = list(accumulate([len(block) + 1 for block in known], initial=0))
    whole = b"\n".join(known)
    found = {at for at, block in enumerate(blocks) if block is None}
    if not whole.isascii():
        found.update(at for at, block in enumerate(known) if not block.isascii())
    for text, sign in ((whole.lower(), needle), *((whole, sign) for sign in _SIGNS)):
        at = text.find(sign)
        while at >= 0:
            place = bisect_right(starts, at) - 1
            found.add(place)
            at = text.find(sign, starts[place + 1])
    return sorted(found)
