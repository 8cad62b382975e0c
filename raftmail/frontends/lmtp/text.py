"""Message text as it comes after DATA: where it ends, and its dots (RFC 5321 section 4.5.2).

Only CRLF ends a line here. LF or CR alone are kept as data, unchanged. The end of the message is
CRLF `.` CRLF and nothing like it. So what one relay takes for data can never be taken for commands
here ("SMTP smuggling"). And what was signed is stored as it was signed.
"""

from typing import Final

_END: Final = b"\r\n.\r\n"
_DOT: Final = b"\r\n."


class MessageText:
    """The bytes of one message as they arrive, up to a limit.

    When `bytes_max` is passed, what was kept is dropped, `is_over` is set and the rest is only
    counted. Pieces are joined as they come, so that a message in many tiny pieces takes no more
    memory than its size and an eighth.
    """

    __slots__ = ("_bytes_max", "_kept", "_whole", "is_over", "size_bytes")

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._kept: bytearray | None = None
        self._whole = b""
        self.size_bytes = 0
        self.is_over = False

    @property
    def held_bytes(self) -> int:
        """Memory in use for this message."""
        return 0 if self.is_over else self.size_bytes

    def add(self, piece: bytes) -> None:
        """Take the next piece."""
        before_bytes = self.size_bytes
        self.size_bytes = before_bytes + len(piece)
        if self.is_over:
            return
        if self.size_bytes > self._bytes_max:
            self.is_over = True
            self._whole = b""
            self._kept = None
        elif not before_bytes:
            # Most messages come in one piece, which then needs no further copy.
            self._whole = piece
        else:
            if self._kept is None:
                self._kept = bytearray(self._whole)
                self._whole = b""
            self._kept += piece

    def take(self) -> bytes:
        """The whole message; the object must not be used afterwards."""
        return self._whole if self._kept is None else bytes(self._kept)


class TextDecoder:
    """Finds the end of the text and removes the dots, chunk by chunk, into a Body.

    Every byte is searched a fixed number of times, however the text is cut. At most four bytes, the
    longest beginning of an end mark that a chunk can end with, wait for the next chunk.
    """

    __slots__ = ("_at_start", "_held", "body")

    def __init__(self, bytes_max: int) -> None:
        self.body = MessageText(bytes_max)
        # The text follows the CRLF of the DATA command: a dot in its first line is after a CRLF,
        # too. Held as if it had come with the text, and taken off the first piece.
        self._held = b"\r\n"
        self._at_start = True

    def feed(self, data: bytes, start: int) -> int:
        """Take `data` from `start` on. Returns the index behind the end mark, -1 without one."""
        text = self._held + data[start:]
        ahead = len(text) - len(data)  # index into `text` minus index into `data`

        dot = text.find(_DOT)
        if dot >= 0:
            end = dot if text.startswith(_END, dot) else text.find(_END, dot)
            if end >= 0:
                # The CRLF before the dot ends the last line: it is part of the text.
                self._emit(text, end + 2, has_dots=dot != end)
                return end + len(_END) - ahead

        keep = _begun_end_mark_bytes(text)
        self._emit(text, len(text) - keep, has_dots=dot >= 0)
        self._held = text[-keep:] if keep else b""
        return -1

    def _emit(self, text: bytes, stop: int, *, has_dots: bool) -> None:
        if not stop:
            return
        begin = 0
        if self._at_start:
            self._at_start = False
            begin = 2
        if has_dots:
            # A dot right after the CRLF that is not the text's: only `replace` over both sees it.
            self.body.add(text[:stop].replace(_DOT, b"\r\n")[begin:])
        else:
            self.body.add(text[begin:stop])


def _begun_end_mark_bytes(text: bytes) -> int:
    for count in (4, 3, 2, 1):
        if text.endswith(_END[:count]):
            return count
    return 0
