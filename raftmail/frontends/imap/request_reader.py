"""Cuts what a client sends into requests (RFC 9051 section 2.2.1), without I/O.

A request is a line; one that ends in `{n}` goes on after the next n bytes. `{n+}` (RFC 7888) does
so without being asked for; `~{n}` is the same with any bytes (RFC 9051 section 4.3.1).

Choices:

1. A line ends in CR LF, or in LF alone, as Dovecot has it. CR elsewhere is refused, NUL too. Empty
   lines between requests are skipped.
2. `{n}` is a literal where a string can begin: after a space or `(`, and not inside quotes. `{n+}`
   that touches other text is read past, so that its bytes are never taken for a request.
3. Literals are given as they came. Whether NUL may stand in one is for its command to say.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TypeAlias

from raftmail.net.limits import KIB, MIB
from raftmail.net.lines import Admit, ProtocolViolation


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """What a client may send.

    1. What is longer than its limit is not kept: a line, a literal, a request. Neither is a request
       with more than `literals_max` literals. It is read past, up to `discard_bytes_max` more bytes
       for each line and literal, and refused.
    2. A client that goes beyond that too ends its connection, before the bytes are read."""

    line_bytes_max: int = 64 * KIB
    literal_bytes_max: int = 50 * MIB + 64 * KIB
    """Of APPEND and REPLACE, where a literal is a message."""
    string_bytes_max: int = 64 * KIB
    """Of all other commands."""
    request_bytes_max: int = 64 * MIB
    discard_bytes_max: int = 1024 * MIB
    literals_max: int = 2000


BEFORE_LOGIN = RequestLimits(
    line_bytes_max=8 * KIB,
    literal_bytes_max=4 * KIB,
    string_bytes_max=4 * KIB,
    request_bytes_max=16 * KIB,
    discard_bytes_max=0,
    literals_max=8,
)
"""For those who have not said who they are. Tokens of OAUTHBEARER are a few KiB; 4 KiB is what
LITERAL- allows (RFC 7888 section 5)."""


@dataclass(frozen=True, slots=True)
class Literal:
    octets: bytes = field(repr=False)
    binary: bool = False
    """It came as literal8."""


@dataclass(frozen=True, slots=True)
class ImapRequest:
    """A whole request. `parts` are what follows the tag and its space: text and literals by turns,
    text first. Text has no CR, LF or NUL, and is not empty but for the first."""

    tag: bytes
    parts: tuple[bytes | Literal, ...] = field(repr=False)
    literal_bytes: int = 0
    """Of literals that were admitted."""

    @property
    def first_line(self) -> bytes:
        """As it came, up to its end or its first literal."""
        first = self.parts[0]
        return b"%b %b" % (self.tag, first if isinstance(first, bytes) else b"")

    @property
    def changes_reading(self) -> bool:
        """It may change how the stream is read on, as AUTHENTICATE, COMPRESS, IDLE, LOGIN and
        STARTTLS do."""
        first = self.parts[0]
        return isinstance(first, bytes) and _READS_ON.match(first) is not None


@dataclass(frozen=True, slots=True)
class ContinuationNeeded:
    """The client waits for `+` before it sends a literal."""


@dataclass(frozen=True, slots=True)
class BadRequest:
    """A request that was read to its end and is not to be executed: answer it with its tag (`*`
    when it has none), BAD or with `no` NO, `code` in brackets unless it is empty, and the text."""

    tag: bytes
    text: str
    code: str = ""
    no: bool = False
    literal_bytes: int = 0
    """Of literals that were admitted."""


Event: TypeAlias = ImapRequest | ContinuationNeeded | BadRequest

# tag of RFC 9051 section 9: printable ASCII without ( ) { % * " \ +
_TAG = re.compile(rb"([!#$&',\-./0-9:;<=>?@A-Z\[\]^_`a-z|}~]{1,255})(?: |\Z)")
_LITERAL = re.compile(rb"(?:(.)|\A)\{([0-9]+)(\+?)\}\Z", re.DOTALL)
_QUOTED = re.compile(rb'"(?:[^"\\]|\\.)*+"', re.DOTALL)
_READS_ON = re.compile(rb"(?:AUTHENTICATE|COMPRESS|IDLE|LOGIN|STARTTLS)(?: |\Z)", re.IGNORECASE)

_APPEND = re.compile(rb"APPEND |(?:UID )?REPLACE ", re.IGNORECASE)

_SIZE_DIGITS_MAX = 19
_TAIL_BYTES = 40
"""Of a line that is not kept, what is looked at for a literal."""


class RequestReader:
    """Takes bytes as they come, gives requests.

    Invariants:
    1. What it holds is at most one chunk that was not yet taken, one line, and the literals of
       one request, within `limits`.
    2. How the bytes were cut into chunks makes no difference to the events.
    3. It raises nothing but `ProtocolViolation`, and is of no use after that."""

    def __init__(self, limits: RequestLimits, admit: Admit | None = None) -> None:
        self.limits = limits
        """May be changed between requests."""
        self.waiting = False
        """A literal was told "not yet": nothing more comes until `take` or `take_one` is called
        again and it is admitted."""
        self._admit = admit
        self._data = b""
        self._at = 0
        self._searched = 0  # no line ends between _at and here
        self._skipped = 0  # bytes of a line that is too long, as far as it was dropped
        self._tail = b""  # its end
        self._error: ProtocolViolation | None = None
        # Of the request that has begun:
        self._tag: bytes | None = None
        self._parts: list[bytes | Literal] = []
        self._request_bytes = 0
        self._literals = 0
        self._literal_bytes = 0
        self._bad: BadRequest | None = None
        # Of the literal that has begun:
        self._want = -1  # bytes that are missing; -1 outside literals
        self._binary = self._discard = False
        self._unasked = False  # `admit` has yet to be asked
        self._sync = False  # the client has yet to be told to go on
        self._body = bytearray()

    def feed(self, data: bytes) -> None:
        """Add what was received. `take` afterwards."""
        if self._at < len(self._data):
            self._searched -= self._at
            self._data = self._data[self._at :] + data
        else:
            self._searched = 0
            self._data = data
        self._at = 0

    @property
    def wanted_bytes(self) -> int:
        """How much of a literal is missing; 0 outside literals."""
        return max(self._want, 0)

    @property
    def unread_bytes(self) -> int:
        """Received and not yet part of an event."""
        return len(self._data) - self._at

    @property
    def inside_request(self) -> bool:
        """A request has begun and is not complete."""
        return self._tag is not None or self._skipped > 0 or self._at < len(self._data)

    def rest(self) -> bytes:
        """What follows the events taken so far, for whoever reads the stream from here on."""
        data = self._data[self._at :]
        self._data = b""
        self._at = self._searched = 0
        return data

    def take(self) -> list[Event]:
        """Events, as many as there are up to a request that may change how the stream is read on
        (`ImapRequest.changes_reading`). Call it again after that one. An empty list means that more
        must be fed; a violation may stand behind a full one."""
        events: list[Event] = []
        try:
            while (event := self.take_one()) is not None:
                events.append(event)
                if isinstance(event, ImapRequest) and event.changes_reading:
                    break
        except ProtocolViolation as error:
            if not events:
                raise
            self._error = error
        return events

    def take_one(self) -> Event | None:
        """The next event, or None until more is fed. What follows it is left as it is, and may be
        read by other rules."""
        if self._error is not None:
            raise self._error
        while True:
            if self._want >= 0:
                if self._unasked and not self._admitted():
                    return None
                if self._sync:
                    self._sync = False
                    if self._discard:
                        self._want = -1
                        return self._end()
                    return ContinuationNeeded()
                if not self._take_literal():
                    return None
            line = self._next_line()
            if line is None:
                return None
            if self._tag is None and not line:
                continue
            if (event := self._take_text(line)) is not None:
                return event

    def take_line(self) -> bytes | None:
        """A line by itself, without its end: an answer to AUTHENTICATE's challenge, or DONE. None
        until more is fed. Between requests only."""
        if self._error is not None:
            raise self._error
        end = self._find_end()
        if (len(self._data) if end < 0 else end) - self._at > self.limits.line_bytes_max:
            raise self._too_long()
        if end < 0:
            return None
        line = self._data[self._at : end]
        self._at = self._searched = end + 1
        return line[:-1] if line.endswith(b"\r") else line

    def _too_long(self) -> ProtocolViolation:
        return ProtocolViolation(f"a line is longer than {self.limits.line_bytes_max} bytes")

    def _find_end(self) -> int:
        end = self._data.find(b"\n", max(self._at, self._searched))
        self._searched = len(self._data) if end < 0 else end
        return end

    def _next_line(self) -> bytes | None:
        """The next line, of which only the end is left when it is too long."""
        end = self._find_end()
        data = self._data
        at = self._at
        stop = len(data) if end < 0 else end
        limit = self.limits.line_bytes_max
        if self._skipped or stop - at > limit:
            if not self._skipped:
                self._begin(data[at : at + limit])
                self._spoil(f"a line is longer than {limit} bytes")
            self._skipped += stop - at
            if self._skipped > limit + self.limits.discard_bytes_max:
                raise self._too_long()
            self._tail = (self._tail + data[max(at, stop - _TAIL_BYTES) : stop])[-_TAIL_BYTES:]
            self._at = stop
        if end < 0:
            return None
        self._at = self._searched = end + 1
        if not self._skipped:
            line = data[at:end]
            return line[:-1] if line.endswith(b"\r") else line
        line = self._tail.removesuffix(b"\r")
        self._skipped = 0
        self._tail = b""
        return line

    def _begin(self, line: bytes) -> bytes:
        """Take the tag off the first line of a request; give what follows."""
        if self._tag is not None:
            return line
        tag = _TAG.match(line)
        if tag is not None:
            self._tag = tag[1]
            return line[tag.end() :]
        self._tag = b"*"
        self._spoil("a request begins with a tag and a space")
        return line

    def _take_text(self, line: bytes) -> Event | None:
        """Add a line to the request; give the event when it ends there."""
        first = not self._parts
        text = self._begin(line) if first and self._bad is None else line
        self._request_bytes += len(line)
        if b"\0" in text or b"\r" in text:
            self._spoil("NUL, or CR without LF, stands in a line")
        literal = _LITERAL.search(text) if text.endswith(b"}") else None
        if literal is not None and b'"' in text and b'"' in _QUOTED.sub(b"", text):
            self._spoil("a string in quotes does not end on its line")
            literal = None
        if literal is None:
            self._add_text(text, first)
            return self._end()
        start = literal.start(2) - 1
        binary = literal[1] == b"~"
        if binary:
            start -= 1
        before = text[start - 1 : start] if start else b""
        if before not in (b" ", b"("):
            self._spoil("a literal stands after a space or ( only")
        self._add_text(text[:start], first)
        digits = literal[2].lstrip(b"0") or b"0"
        count = int(digits) if len(digits) <= _SIZE_DIGITS_MAX else 10**_SIZE_DIGITS_MAX
        self._begin_literal(count, not literal[3], binary)
        return None

    def _add_text(self, text: bytes, first: bool) -> None:
        if self._request_bytes > self.limits.request_bytes_max:
            self._spoil(f"a request has at most {self.limits.request_bytes_max} bytes", "TOOBIG")
        if self._bad is None and (text or first):
            self._parts.append(text)

    def _end(self) -> Event:
        """The request is complete; the next may begin."""
        assert self._tag is not None
        bad = self._bad
        event: Event
        if bad is not None:
            event = BadRequest(bad.tag, bad.text, bad.code, bad.no, self._literal_bytes)
        else:
            event = ImapRequest(self._tag, tuple(self._parts), self._literal_bytes)
        self._tag = self._bad = None
        self._parts = []
        self._request_bytes = self._literals = self._literal_bytes = 0
        return event

    def _spoil(self, text: str, code: str = "", *, no: bool = False) -> None:
        if self._bad is None:
            assert self._tag is not None
            self._bad = BadRequest(self._tag, text, code, no)

    def _begin_literal(self, count: int, sync: bool, binary: bool) -> None:
        limits = self.limits
        self._request_bytes += count
        self._literals += 1
        over = self._over(count)
        if over:
            if not sync and (
                count > limits.discard_bytes_max
                or self._request_bytes > limits.request_bytes_max + limits.discard_bytes_max
            ):
                raise ProtocolViolation(over)
            self._spoil(over, "TOOBIG", no=True)
        self._want = count
        self._sync = sync
        self._binary = binary
        self._discard = self._bad is not None
        self._unasked = self._admit is not None and not self._discard

    def _over(self, count: int) -> str:
        """Which limit a literal of so many bytes is over; "": none."""
        limits = self.limits
        first = self._parts[0] if self._parts else b""
        message = isinstance(first, bytes) and _APPEND.match(first) is not None
        limit = limits.literal_bytes_max if message else limits.string_bytes_max
        if count > limit:
            return f"a literal of {count} bytes; at most {limit} are taken here"
        if self._request_bytes > limits.request_bytes_max:
            return f"a request has at most {limits.request_bytes_max} bytes"
        if self._literals > limits.literals_max:
            return f"a request has at most {limits.literals_max} literals"
        return ""

    def _admitted(self) -> bool:
        """Ask whether the literal may be kept; False to come back later."""
        assert self._admit is not None
        answer = self._admit(self._want, self._literal_bytes == 0)
        self.waiting = answer is None
        if answer is None:
            return False
        self._unasked = False
        if answer:
            self._discard = True
            self._spoil(answer, "UNAVAILABLE", no=True)
        return True

    def _take_literal(self) -> bool:
        """Go on with a literal; True at its end."""
        data = self._data
        at = self._at
        want = self._want
        end = min(at + want, len(data))
        self._at = self._searched = end
        whole = end - at == want
        self._want = -1 if whole else want - (end - at)
        if self._discard:
            return whole
        if whole and not self._body:
            self._keep(data[at:end])
            return True
        self._body += memoryview(data)[at:end]
        if whole:
            octets = bytes(self._body)
            self._body = bytearray()
            self._keep(octets)
        return whole

    def _keep(self, octets: bytes) -> None:
        self._literal_bytes += len(octets)
        self._parts.append(Literal(octets, self._binary))
