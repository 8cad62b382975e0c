"""PREVIEW (RFC 8970): the first words of a message, as one line of plain text.

They are those of its first plain text that is no attachment, else of its first HTML. Looked at are
`PARTS_MAX` parts, and of a part its first `READ_BYTES_MAX` bytes. What a message begins with
further behind has the preview "".
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterator
from typing import Final

from raftmail.frontends.imap.sections import part_fields
from raftmail.mail.charsets import decode_text
from raftmail.mail.markup import without_markup
from raftmail.mail.mime import transfer_encoding, type_and_charset
from raftmail.mail.summary import Part, Summary, decode_parts
from raftmail.mail.transfer import UnknownEncodingError, decode_transfer

PREVIEW_CHARS_MAX: Final = 200
"""RFC 8970 section 3.3."""

LAZY_BYTES_MAX: Final = 64 * 1024
"""For LAZY, no longer message is read."""

PREVIEWS_KEPT_MAX: Final = 4096
"""Of all sessions; some 300 bytes each."""

PARTS_MAX: Final = 20
READ_BYTES_MAX: Final = 16 * 1024

_TYPE = re.compile(rb"\s*text\s*/\s*(plain|html)\b", re.IGNORECASE)
_ATTACHED = re.compile(rb"\s*attachment\b", re.IGNORECASE)


class PreviewCache:
    """Previews by the body's hash; the one that was asked for least recently goes first."""

    def __init__(self) -> None:
        self._kept: OrderedDict[bytes, str] = OrderedDict()

    def get(self, blob: bytes) -> str | None:
        found = self._kept.get(blob)
        if found is not None:
            self._kept.move_to_end(blob)
        return found

    def put(self, blob: bytes, preview: str) -> None:
        self._kept[blob] = preview
        if len(self._kept) > PREVIEWS_KEPT_MAX:
            self._kept.popitem(last=False)


def preview_of(summary: Summary, body: bytes) -> str:
    """The preview of a message; "" when there is none. Raises SummaryError for a summary that is
    damaged."""
    for is_html in (False, True):
        for octets, charset in _texts(summary, body, is_html):
            text = decode_text(octets, charset)
            shown = _one_line(without_markup(text) if is_html else text)
            if shown:
                return shown
    return ""


def _texts(summary: Summary, body: bytes, is_html: bool) -> Iterator[tuple[bytes, bytes]]:
    """Decoded beginnings of parts, and their charsets."""
    parts = decode_parts(summary.parts)
    for part in parts[:PARTS_MAX]:
        fields = part_fields(body, part)
        kind = fields.get(b"content-type")
        found = _TYPE.match(kind) if kind is not None else None
        if kind is not None and found is None and type_and_charset(kind)[0] != b"text":
            continue
        if is_html != (found is not None and found[1].lower() == b"html"):
            continue
        if _ATTACHED.match(fields.get(b"content-disposition", b"")):
            continue
        encoding = transfer_encoding(fields.get(b"content-transfer-encoding"))
        try:
            yield decode_transfer(_beginning(body, part), encoding), type_and_charset(kind)[1]
        except UnknownEncodingError:
            continue


def _beginning(body: bytes, part: Part) -> bytes:
    return body[part.body_offset : part.body_offset + min(part.body_bytes, READ_BYTES_MAX)]


def _one_line(text: str) -> str:
    """Words with one space between, as many as a preview has room for."""
    shown: list[str] = []
    room = PREVIEW_CHARS_MAX
    for word in text.split():
        word = "".join(one for one in word if one.isprintable() and one != "\ufffd")
        if not word:
            continue
        shown.append(word[:room])
        room -= len(word) + 1
        if room <= 0:
            break
    return " ".join(shown)
