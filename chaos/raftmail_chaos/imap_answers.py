"""What an IMAP server says, as far as the load asks for it (RFC 9051 section 7, RFC 7162).

Anything else, and anything that is written otherwise than the grammar has it, is a
`BadImapAnswer`: a client that overlooks what it cannot read would find nothing wrong.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from raftmail.mail.uidset import UidSet

_LITERAL_AT_END: Final = re.compile(rb"\{([0-9]+)\}\r\n\Z")
_STATUS: Final = re.compile(
    rb"(OK|NO|BAD|BYE) (?:\[([A-Z0-9-]+)(?: ([^\]\r\n]+))?\] )?([^\[\r\n][^\r\n]*)\r\n"
)
_TAGGED: Final = re.compile(rb"([a-z0-9]+) (?=OK |NO |BAD )")
_COUNTED: Final = re.compile(rb"\* ([0-9]+) (EXISTS|RECENT|EXPUNGE)\r\n")
_FETCH: Final = re.compile(rb"\* ([1-9][0-9]*) FETCH \(")
_VANISHED: Final = re.compile(rb"\* VANISHED (\(EARLIER\) )?([0-9:,]+)\r\n")
_WORDS: Final = re.compile(rb"\* (CAPABILITY|ENABLED|FLAGS)((?: [^\r\n]+)?)\r\n")
_STATUS_OF: Final = re.compile(rb"\* STATUS ([A-Za-z]+) \(([A-Z0-9 ]+)\)\r\n")
_ITEM: Final = re.compile(
    rb"UID (?P<uid>[1-9][0-9]*)"
    rb"|FLAGS \((?P<flags>[^()\r\n]*)\)"
    rb"|MODSEQ \((?P<modseq>[1-9][0-9]*)\)"
    rb"|EMAILID \(M(?P<guid>[0-9a-f]{32})\)"
    rb"|RFC822\.SIZE (?P<size>[0-9]+)"
    rb'|INTERNALDATE "(?P<date>[^"\r\n]+)"'
    rb"|BODY\[\] \{(?P<body>[0-9]+)\}\r\n"
)
_DATE: Final = "%d-%b-%Y %H:%M:%S %z"


class BadImapAnswer(ValueError):
    """What the server said is nothing that the grammar has for what was asked."""

    def __init__(self, data: bytes) -> None:
        super().__init__(f"the server says {data[:200]!r}, which cannot be read")


@dataclass(frozen=True, slots=True)
class Fetched:
    """One FETCH response; None, 0 and b"" are what it does not tell. `guid` is the message's, which
    is its EMAILID; `received_us` is INTERNALDATE."""

    number: int
    uid: int = 0
    flags: tuple[str, ...] | None = None
    modseq: int = 0
    guid: bytes = b""
    size_bytes: int = -1
    received_us: int = 0
    body: bytes | None = None


@dataclass(frozen=True, slots=True)
class ImapAnswer:
    """One response. `tag` is b"" where there is none, and `kind` is its first word. `code` stands
    in brackets, with its `argument`; `values` are what STATUS tells."""

    kind: str
    tag: bytes = b""
    number: int = 0
    code: str = ""
    argument: bytes = b""
    text: str = ""
    earlier: bool = False
    uids: UidSet = field(default_factory=UidSet)
    fetched: Fetched | None = None
    values: tuple[tuple[str, int], ...] = ()


class ImapSplitter:
    """Cuts what comes into responses, each with its literals."""

    def __init__(self) -> None:
        self._unread = b""
        self._whole = b""
        self._literal_bytes = 0

    def feed(self, data: bytes) -> list[bytes]:
        """The responses that are whole now."""
        self._unread += data
        found: list[bytes] = []
        while True:
            if self._literal_bytes:
                if len(self._unread) < self._literal_bytes:
                    return found
                self._whole += self._unread[: self._literal_bytes]
                self._unread = self._unread[self._literal_bytes :]
                self._literal_bytes = 0
            line, end, rest = self._unread.partition(b"\r\n")
            if not end:
                return found
            self._whole += line + end
            self._unread = rest
            literal = _LITERAL_AT_END.search(self._whole)
            if literal is not None:
                self._literal_bytes = int(literal[1])
            if not self._literal_bytes:
                found.append(self._whole)
                self._whole = b""


def read_answer(data: bytes) -> ImapAnswer:
    """One whole response. Raises `BadImapAnswer`."""
    if data.startswith(b"+ ") and data.endswith(b"\r\n"):
        return ImapAnswer("+")
    if not data.startswith(b"* "):
        tag = _TAGGED.match(data)
        if tag is None:
            raise BadImapAnswer(data)
        return _status(data, tag.end(), tag[1])
    if counted := _COUNTED.fullmatch(data):
        return ImapAnswer(counted[2].decode(), number=int(counted[1]))
    if fetch := _FETCH.match(data):
        return ImapAnswer("FETCH", fetched=_fetched(data, fetch.end(), int(fetch[1])))
    if vanished := _VANISHED.fullmatch(data):
        return ImapAnswer(
            "VANISHED", earlier=vanished[1] is not None, uids=_uids(data, vanished[2])
        )
    if words := _WORDS.fullmatch(data):
        return ImapAnswer(words[1].decode(), argument=words[2].strip())
    if status := _STATUS_OF.fullmatch(data):
        return ImapAnswer("STATUS", argument=status[1], values=_values(data, status[2]))
    return _status(data, 2, b"")


def uids_of(text: bytes) -> UidSet:
    """A set of UIDs. Raises ValueError."""
    return UidSet.parse(text.decode("ascii"))


def _status(data: bytes, at: int, tag: bytes) -> ImapAnswer:
    found = _STATUS.fullmatch(data, at)
    if found is None:
        raise BadImapAnswer(data)
    kind, code, argument, text = found.groups(b"")
    return ImapAnswer(
        kind.decode(),
        tag,
        code=code.decode(),
        argument=argument,
        text=text.decode("ascii", "replace"),
    )


def _uids(data: bytes, text: bytes) -> UidSet:
    try:
        return uids_of(text)
    except ValueError:
        raise BadImapAnswer(data) from None


def _values(data: bytes, text: bytes) -> tuple[tuple[str, int], ...]:
    words = text.decode().split(" ")
    if len(words) % 2 or not all(word.isdecimal() for word in words[1::2]):
        raise BadImapAnswer(data)
    return tuple(zip(words[::2], map(int, words[1::2]), strict=True))


def _fetched(data: bytes, at: int, number: int) -> Fetched:
    values: dict[str, bytes] = {}
    while True:
        item = _ITEM.match(data, at)
        if item is None or item.lastgroup is None or item.lastgroup in values:
            raise BadImapAnswer(data)
        at = item.end()
        values[item.lastgroup] = item[item.lastgroup]
        if item.lastgroup == "body":
            size = int(item["body"])
            values["body"] = data[at : at + size]
            at += size
        if data[at:] == b")\r\n":
            return _as_fetched(data, number, values)
        if data[at : at + 1] != b" ":
            raise BadImapAnswer(data)
        at += 1


def _as_fetched(data: bytes, number: int, values: dict[str, bytes]) -> Fetched:
    flags = values.get("flags")
    try:
        return Fetched(
            number,
            int(values.get("uid", b"0")),
            None if flags is None else tuple(flags.decode("ascii").split()),
            int(values.get("modseq", b"0")),
            bytes.fromhex(values.get("guid", b"").decode()),
            int(values.get("size", b"-1")),
            _microseconds(values["date"].decode()) if "date" in values else 0,
            values.get("body"),
        )
    except ValueError:
        raise BadImapAnswer(data) from None


def _microseconds(date: str) -> int:
    """A date-time, of days with one digit as well (RFC 9051 section 9, date-day-fixed)."""
    return int(datetime.strptime(date.strip(), _DATE).timestamp()) * 1_000_000


def imap_date(seconds: int) -> str:
    """The reverse, of whole seconds, in UTC."""
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment.strftime(_DATE)
