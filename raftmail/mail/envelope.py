"""ENVELOPE (RFC 3501 and RFC 9051, section 7.5.2), and the address lists in it.

Nearly every address field is a list of `name <local@host>` or `local@host`; one expression reads
those. Whatever it does not know (groups, comments, routes, quoted local parts, rubbish) goes to a
slower reader, which finds some address in any bytes whatever.

Limits: each string is cut after `STRING_BYTES_MAX` bytes, each member of an address after
`ADDRESS_STRING_BYTES_MAX`. An address list ends, after a whole address, where its room ends.
"""

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Final

from raftmail.mail.headers import comment_end, nstring, string, unfold

STRING_BYTES_MAX: Final = 2048
"""Bytes of Date, Subject, In-Reply-To or Message-ID shown in an envelope."""
ADDRESS_STRING_BYTES_MAX: Final = 512
"""Bytes of a display name, route, local part or host shown in an envelope."""
SENDERS_BYTES_MAX: Final = 3 * 1024
"""Rendered bytes of From, of Sender and of Reply-To; room for one address at its longest."""
_SHORT_BYTES: Final = 160
"""Values up to this length never come near `SENDERS_BYTES_MAX` when they are rendered, ..."""
_SHORT_KEPT: Final = 4096
"""... and so many of them are kept as they were rendered."""
ENVELOPE_BYTES_MAX: Final = 3 * SENDERS_BYTES_MAX + 4 * STRING_BYTES_MAX + 256
"""Bytes that no envelope exceeds, beside the room that it is given for To, Cc and Bcc."""


_SIMPLE_ADDRESS = re.compile(
    rb"""[ \t\r\n]*+
    (?:
        (?: "([\t !#-\[\]-~]*)" | ([-\w!#$%&'*+/=?^`{|}~.][-\w!#$%&'*+/=?^`{|}~. \t]*+) )?
        [ \t\r\n]*+ < ([-\w!#$%&'*+/=?^`{|}~.]++) @ ([-\w.]++) >
      | ([-\w!#$%&'*+/=?^`{|}~.]++) @ ([-\w.]++)
    )
    [ \t\r\n]*+ (?: , | \Z )""",
    re.VERBOSE | re.ASCII,
).match

_GROUP_END = b"(NIL NIL NIL NIL)"


def envelope(fields: Mapping[bytes, bytes], recipients_bytes_max: int) -> bytes:
    """The finished ENVELOPE list for the raw fields of one header (see `read_fields`).

    To, Cc and Bcc take `recipients_bytes_max` at most, in that order. Sender and Reply-To fall
    back to From, as the RFC asks. An address without a host gets an empty one, since NIL would
    mean a group.
    """
    get = fields.get
    from_ = _field(get(b"from"), SENDERS_BYTES_MAX)
    sender = _field(get(b"sender"), SENDERS_BYTES_MAX)
    reply_to = _field(get(b"reply-to"), SENDERS_BYTES_MAX)
    room = recipients_bytes_max
    to = _field(get(b"to"), room)
    room -= len(to)
    cc = _field(get(b"cc"), room)
    room -= len(cc)
    bcc = _field(get(b"bcc"), room)
    return b"(%b %b %b %b %b %b %b %b %b %b)" % (
        nstring(get(b"date"), STRING_BYTES_MAX),
        nstring(get(b"subject"), STRING_BYTES_MAX),
        from_,
        from_ if sender == b"NIL" else sender,
        from_ if reply_to == b"NIL" else reply_to,
        to,
        cc,
        bcc,
        nstring(get(b"in-reply-to"), STRING_BYTES_MAX),
        nstring(get(b"message-id"), STRING_BYTES_MAX),
    )


def _field(value: bytes | None, bytes_max: int) -> bytes:
    if value is None:
        return b"NIL"
    if len(value) <= _SHORT_BYTES and bytes_max >= SENDERS_BYTES_MAX:
        return _short(value)
    return addresses(value, bytes_max)


@lru_cache(maxsize=_SHORT_KEPT)
def _short(value: bytes) -> bytes:
    """Of a value that is far from any limit. A mail store sees the same addresses again and
    again."""
    return addresses(value, SENDERS_BYTES_MAX)


def addresses(value: bytes, bytes_max: int) -> bytes:
    """An address field's raw value as IMAP addresses in parentheses, or NIL if there are none.

    The result is at most `bytes_max` long, or NIL if not even one address has room.
    """
    rendered: list[bytes] = []
    room = bytes_max - 2
    position = 0
    length = len(value)
    while position < length:
        match = _SIMPLE_ADDRESS(value, position)
        if match is None or match.end() - position > ADDRESS_STRING_BYTES_MAX:
            return _any_addresses(unfold(value), bytes_max)
        quoted, phrase, mailbox, host, bare_mailbox, bare_host = match.groups()
        if bare_mailbox is not None:
            address = b'(NIL NIL "%b" "%b")' % (bare_mailbox, bare_host)
        elif name := quoted or phrase:
            address = b'("%b" NIL "%b" "%b")' % (name.strip(), mailbox, host)
        else:
            address = b'(NIL NIL "%b" "%b")' % (mailbox, host)
        room -= len(address)
        if room < 0:
            break
        rendered.append(address)
        position = match.end()
    return b"(%b)" % b"".join(rendered) if rendered else b"NIL"


# The slow reader. Tokens are (kind, text): a special character is its own kind.

_Token = tuple[str, bytes]
_SPACE, _TEXT, _COMMENT, _END = "space", "text", "comment", "end"

_TOKEN = re.compile(
    rb"""(?P<space>[\x00-\x20\x7f]++)
    | (?P<special>[,;:<>@.])
    | "(?P<quoted>(?:[^"\\]++|\\.)*+)\\?"?
    | (?P<literal>\[[^\]]*+\]?)
    | (?P<comment>\()
    | (?P<text>[^\x00-\x20\x7f,;:<>@."\[(]++)""",
    re.VERBOSE | re.DOTALL,
).match
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)


def _unescape(text: bytes) -> bytes:
    return _ESCAPED.sub(rb"\1", text) if b"\\" in text else text


def _tokens(value: bytes) -> Iterator[_Token]:
    position = 0
    while position < len(value) and (match := _TOKEN(value, position)) is not None:
        position = match.end()
        kind = match.lastgroup
        if kind == "special":
            text = match[0]
            yield text.decode("ascii"), text
        elif kind == "space":
            yield _SPACE, b" "
        elif kind == "comment":
            end = comment_end(value, position)
            end = len(value) if end < 0 else end
            yield _COMMENT, _unescape(value[position:end].removesuffix(b")")).strip()
            position = end
        else:
            yield _TEXT, _unescape(match["quoted"]) if kind == "quoted" else match[0]


def _phrase(tokens: list[_Token]) -> bytes:
    return b"".join([text for _, text in tokens]).strip()


def _joined(tokens: list[_Token]) -> bytes:
    return b"".join([text for kind, text in tokens if kind != _SPACE])


def _last_at(tokens: list[_Token]) -> int:
    """Index of the last @, or -1."""
    return next((i for i in range(len(tokens) - 1, -1, -1) if tokens[i][0] == "@"), -1)


class _List:
    """Rendered addresses. Never more than `bytes_max`, and never a group left open."""

    def __init__(self, bytes_max: int) -> None:
        self.rendered: list[bytes] = []
        self.in_group = False
        self.full = False
        self._room = bytes_max - 2 - len(_GROUP_END)

    def _add(self, rendered: bytes) -> None:
        self._room -= len(rendered)
        if self._room < 0:
            self.full = True
        else:
            self.rendered.append(rendered)

    def add(self, name: bytes, route: bytes, mailbox: bytes, host: bytes) -> None:
        self._add(
            b"(%b %b %b %b)"
            % (
                string(name[:ADDRESS_STRING_BYTES_MAX]) if name else b"NIL",
                string(route[:ADDRESS_STRING_BYTES_MAX]) if route else b"NIL",
                string(mailbox[:ADDRESS_STRING_BYTES_MAX]),
                string(host[:ADDRESS_STRING_BYTES_MAX]),
            )
        )

    def add_angle(self, name: bytes, inside: list[_Token]) -> None:
        """Add `name <inside>`, where `inside` may start with a route (RFC 5322 section 4.4)."""
        route = b""
        if inside and inside[0][0] == "@":
            colon = next((i for i, token in enumerate(inside) if token[0] == ":"), 0)
            route, inside = _joined(inside[:colon]), inside[colon + 1 if colon else 0 :]
        at = _last_at(inside)
        local, host = (inside, []) if at < 0 else (inside[:at], inside[at + 1 :])
        self.add(name, route, _joined(local), _joined(host))

    def add_bare(self, words: list[_Token], comment: bytes) -> None:
        """Add an address that has no angle brackets; words before the local part name it."""
        at = _last_at(words)
        if at < 0:
            if mailbox := _phrase(words):
                self.add(comment, b"", mailbox, b"")
            return
        start = at
        while start and words[start - 1][0] == _SPACE:
            start -= 1
        local_end = start
        while start and (
            words[start - 1][0] != _SPACE or "." in (words[start][0], words[max(start - 2, 0)][0])
        ):
            start -= 1
        host = at + 1
        while host < len(words) and words[host][0] == _SPACE:
            host += 1
        end = host
        while end < len(words) and (
            words[end][0] != _SPACE or any(kind == "." for kind, _ in words[end - 1 : end + 2])
        ):
            end += 1
        name = _phrase(words[:start]) or comment
        self.add(name, b"", _joined(words[start:local_end]), _joined(words[host:end]))

    def start_group(self, name: bytes) -> None:
        self._add(b"(NIL NIL %b NIL)" % string(name[:ADDRESS_STRING_BYTES_MAX]))
        self.in_group = not self.full

    def end_group(self) -> None:
        self.rendered.append(_GROUP_END)
        self._room -= len(_GROUP_END)
        self.in_group = False


def _any_addresses(value: bytes, bytes_max: int) -> bytes:
    out = _List(bytes_max)
    words: list[_Token] = []
    angle: list[_Token] = []
    angled = inside = at_seen = False
    comment = b""
    for kind, text in (*_tokens(value), (_END, b"")):
        if kind == _COMMENT:
            comment = text
        elif inside and kind == ">":
            inside = False
        elif (
            kind == _END
            or (kind == "," and not (inside and angle and angle[0][0] == "@"))
            or (kind == ";" and (out.in_group or not inside))
        ):
            if angled:
                out.add_angle(_phrase(words) or comment, angle)
            else:
                out.add_bare(words, comment)
            if out.full:
                break
            if kind == ";" and out.in_group:
                out.end_group()
            words, angle, comment = [], [], b""
            angled = inside = at_seen = False
        elif inside:
            if kind not in (_SPACE, "<"):
                angle.append((kind, text))
        elif angled:
            pass  # Nothing between ">" and the next comma belongs to the address.
        elif kind == "<":
            angled = inside = True
        elif kind == ":" and not out.in_group and not at_seen:
            out.start_group(_phrase(words))
            words, comment = [], b""
            if out.full:
                break
        else:
            words.append((kind, text))
            at_seen = at_seen or kind == "@"
    if out.in_group:
        out.end_group()
    return b"(%b)" % b"".join(out.rendered) if out.rendered else b"NIL"
