"""Two servers with the same mailbox, asked the same questions: what they answer differently.

An answer is taken to pieces before it is compared. So a finding says which piece of what message
differs, and an argued difference explains no more than it has to.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tests.peers.imap_talk import BrokenResponse, ImapTalk, Told, Value, numbers, threads

PARTS_ASKED_MAX: Final = 8
"""Of one message."""

_FLAGS: Final = {
    2: b"\\Seen",
    3: b"\\Flagged",
    5: b"$Label",
    7: b"\\Deleted",
    11: b"\\Answered",
    13: b"\\Draft",
}
_ENVELOPE: Final = (
    "date", "subject", "from", "sender", "reply-to", "to", "cc", "bcc", "in-reply-to", "message-id",
)  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """One piece of one answer about one message that differs."""

    kind: str
    """What was asked for: `ENVELOPE`, `BODYSTRUCTURE`, `BODY`, `BINARY`, `SEARCH`, `SORT`, ..."""
    name: str
    """The message's."""
    message: bytes
    item: str
    """The piece: a field of the envelope, a part and a field of it, a section, a search."""
    ours: Value
    theirs: Value

    def __str__(self) -> str:
        return (
            f"{self.kind} of `{self.name}`: {self.item}\n"
            f"  ours:   {_short(self.ours)}\n  theirs: {_short(self.theirs)}"
        )


def _short(value: Value) -> str:
    shown = repr(value)
    return shown if len(shown) < 600 else f"{shown[:400]} ... {shown[-180:]}"


MISSING: Final = "(nothing)"
DIED: Final = "(the process died)"
Pieces = Mapping[str, Value]


class Comparison:
    """Asks both servers. The messages are in INBOX in the order given, which is selected."""

    def __init__(
        self,
        ours: ImapTalk,
        open_theirs: Callable[[], ImapTalk],
        messages: Sequence[tuple[str, bytes]],
    ) -> None:
        self.ours, self.theirs, self.messages = ours, open_theirs(), messages
        self._open_theirs = open_theirs
        self.found: list[Finding] = []
        self._paths: dict[int, list[str]] = {}
        for talk in (self.ours, self.theirs):
            for number, (_, message) in enumerate(messages, 1):
                talk.ok(b"APPEND INBOX (%b) %b {}" % (_flags(number), _received(number)), message)
            talk.ok(b"SELECT INBOX")

    def everything(self) -> list[Finding]:
        self.summaries()
        self.sections()
        self.binaries()
        self.searches()
        self.orders()
        self.threads()
        return self.found

    def _compare(self, kind: str, number: int, ours: Pieces, theirs: Pieces) -> None:
        name, message = self.messages[number - 1]
        for item in [*ours, *(one for one in theirs if one not in ours)]:
            mine, other = ours.get(item, MISSING), theirs.get(item, MISSING)
            if mine != other:
                self.found.append(Finding(kind, name, message, item, mine, other))

    # -- FETCH ----------

    def summaries(self) -> None:
        """What a list of messages shows."""
        command = b"FETCH 1:* (UID FLAGS INTERNALDATE RFC822.SIZE ENVELOPE BODY BODYSTRUCTURE)"
        ours, theirs = self.ours.fetch(command), self.theirs.fetch(command)
        for number in range(1, len(self.messages) + 1):
            mine, other = ours[number], theirs[number]
            self._paths[number] = _paths(mine[b"BODYSTRUCTURE"], other[b"BODYSTRUCTURE"])
            self._compare("ENVELOPE", number, _envelope(mine), _envelope(other))
            self._compare("BODYSTRUCTURE", number, _structure(mine), _structure(other))
            for one, whole in ((mine, "ours"), (other, "theirs")):
                short = _without_extensions(flat(one[b"BODYSTRUCTURE"]))
                assert flat(one[b"BODY"]) == short, (whole, self.messages[number - 1][0])
            names = (b"UID", b"INTERNALDATE", b"RFC822.SIZE")
            plain = [{name.decode(): one[name] for name in names} for one in (mine, other)]
            for row in plain:  # a day of one digit stands behind a space or a zero
                row["INTERNALDATE"] = row["INTERNALDATE"].strip().rjust(26, b"0")
            flags = [{"FLAGS": sorted(set(one[b"FLAGS"]) - {b"\\Recent"})} for one in (mine, other)]
            self._compare("FETCH", number, plain[0] | flags[0], plain[1] | flags[1])

    def sections(self) -> None:
        """BODY[...] of the whole, of its header, of all parts, and pieces of them."""
        for number, (_, message) in enumerate(self.messages, 1):
            asked = list(_sections(self._paths[number], len(message)))
            for start in range(0, len(asked), 40):
                items = b" ".join(b"BODY.PEEK" + one.encode() for one in asked[start : start + 40])
                command = b"FETCH %d (%b)" % (number, items)
                pieces = [_bodies(talk.fetch(command)[number]) for talk in (self.ours, self.theirs)]
                self._compare("BODY", number, *pieces)

    def binaries(self) -> None:
        """BINARY[...] and BINARY.SIZE[...] of all parts."""
        for number in range(1, len(self.messages) + 1):
            for path in self._paths[number]:
                for item in (f"BINARY.PEEK[{path}]", f"BINARY.PEEK[{path}]<2.5>"):
                    self._one_by_one("BINARY", number, item)
                self._one_by_one("BINARY.SIZE", number, f"BINARY.SIZE[{path}]")

    def _one_by_one(self, kind: str, number: int, item: str) -> None:
        command = b"FETCH %d %b" % (number, item.encode())
        ours = {item: _only(self.ours.ask(command))}
        try:
            theirs = {item: _only(self.theirs.ask(command))}
        except (BrokenResponse, OSError):
            theirs = {item: DIED}
            self.theirs = self._open_theirs()
            self.theirs.ok(b"SELECT INBOX")
        self._compare(kind, number, ours, theirs)

    # -- SEARCH, SORT, THREAD ----------

    def searches(self) -> None:
        for shown, command, literals in SEARCHES:
            mine, other = (
                set(numbers(talk.ok(b"SEARCH " + command, *literals), b"SEARCH"))
                for talk in (self.ours, self.theirs)
            )
            for number in sorted(mine ^ other):
                pieces = ({shown: number in one} for one in (mine, other))
                self._compare("SEARCH", number, *pieces)

    def orders(self) -> None:
        for criteria in SORTS:
            command = b"SORT (%b) UTF-8 ALL" % criteria
            mine, other = (numbers(talk.ok(command), b"SORT") for talk in (self.ours, self.theirs))
            assert sorted(mine) == sorted(other)
            for number in out_of_order(mine, other):
                pieces = ({criteria.decode(): self._between(one, number)} for one in (mine, other))
                self._compare("SORT", number, *pieces)

    def _between(self, order: Sequence[int], number: int) -> str:
        at = order.index(number)
        around = [
            self.messages[one - 1][0]
            for one in (*order[max(0, at - 1) : at], *order[at + 1 : at + 2])
        ]
        return f"at {at} between {around}"

    def threads(self) -> None:
        for algorithm in (b"ORDEREDSUBJECT", b"REFERENCES"):
            mine, other = (
                _threads(threads(talk.ok(b"THREAD %b UTF-8 ALL" % algorithm)))
                for talk in (self.ours, self.theirs)
            )
            for number in range(1, len(self.messages) + 1):
                pieces = ({algorithm.decode(): self._named(one[number])} for one in (mine, other))
                self._compare("THREAD", number, *pieces)

    def _named(self, thread: bytes) -> str:
        """A thread with the names of its messages."""
        return re.sub(
            "[0-9]+", lambda found: f"<{self.messages[int(found[0]) - 1][0]}>", thread.decode()
        )


def _flags(number: int) -> bytes:
    return b" ".join(flag for every, flag in _FLAGS.items() if number % every == 0)


def _received(number: int) -> bytes:
    day, hour = divmod(number * 5, 24)
    month, day = divmod(day, 28)
    name = (b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun")[month]
    return b'"%2d-%b-2026 %02d:30:00 +0000"' % (day + 1, name, hour)


# -- answers in pieces ----------


def _envelope(items: Mapping[bytes, Value]) -> Pieces:
    value = items[b"ENVELOPE"]
    assert len(value) == len(_ENVELOPE), value
    return dict(zip(_ENVELOPE, value, strict=True))


def _structure(items: Mapping[bytes, Value]) -> Pieces:
    return flat(items[b"BODYSTRUCTURE"])


_EXTENSIONS: Final = ("md5", "disposition", "language", "location")


def flat(value: Value, path: str = "top") -> dict[str, Value]:
    """A BODYSTRUCTURE, or a BODY, as fields of parts. What has no case is in small letters."""
    out: dict[str, Value] = {}
    if isinstance(value[0], list):
        children = 0
        while isinstance(value[children], list):
            out |= flat(value[children], f"{path}.{children + 1}")
            children += 1
        rest = value[children:]
        out[f"{path} type"] = b"multipart/" + rest[0].lower()
        if len(rest) > 1:
            out[f"{path} parameters"] = _parameters(rest[1])
            names = _EXTENSIONS[1:]
            out |= _extensions(path, rest[2:], names)
        return out
    kind = b"%b/%b" % (value[0].lower(), value[1].lower())
    out[f"{path} type"] = kind
    out[f"{path} parameters"] = _parameters(value[2])
    for name, one in zip(("id", "description", "encoding", "size"), value[3:7], strict=True):
        out[f"{path} {name}"] = one.lower() if name == "encoding" else one
    rest = value[7:]
    if kind in (b"message/rfc822", b"message/global") and rest and isinstance(rest[0], list):
        out |= {f"{path} {k}": v for k, v in zip(_ENVELOPE, rest[0], strict=True)}
        out |= flat(rest[1], f"{path}.message")
        rest = rest[3:]
        out[f"{path} lines"] = value[9]
    elif kind.startswith(b"text/"):
        out[f"{path} lines"] = rest[0]
        rest = rest[1:]
    if rest:
        out |= _extensions(path, rest, _EXTENSIONS)
    return out


def _extensions(path: str, rest: Sequence[Value], names: Sequence[str]) -> dict[str, Value]:
    out: dict[str, Value] = {}
    for name, one in zip(names, rest, strict=True):
        if name == "disposition" and one is not None:
            one = [one[0].lower(), _parameters(one[1])]
        if name == "language" and isinstance(one, bytes):
            one = [one]
        out[f"{path} {name}"] = one
    return out


def _without_extensions(pieces: Mapping[str, Value]) -> Pieces:
    out = {}
    for item, value in pieces.items():
        path, _, field = item.rpartition(" ")
        multipart = pieces[f"{path} type"].startswith(b"multipart/")
        if field not in _EXTENSIONS and not (multipart and field == "parameters"):
            out[item] = value
    return out


def _parameters(value: Value) -> Value:
    if value is None:
        return None
    pairs = zip(value[::2], value[1::2], strict=True)
    return [(name.lower(), one) for name, one in pairs]


def _paths(*structures: Value) -> list[str]:
    """The numbers of the parts that either server shows, and one that none has."""
    found = dict.fromkeys(path for one in structures for path in _numbered(one, ""))
    return [*list(found)[:PARTS_ASKED_MAX], "9"]


def _numbered(value: Value, above: str) -> Iterator[str]:
    """`above` ends in a dot, or is empty."""
    if not isinstance(value[0], list):
        yield from _inside(value, f"{above}1")
        return
    for number, child in enumerate(value, 1):
        if not isinstance(child, list):
            return
        yield from _inside(child, f"{above}{number}")


def _inside(value: Value, path: str) -> Iterator[str]:
    yield path
    if isinstance(value[0], list):
        yield from _numbered(value, path + ".")
    elif value[0].lower() == b"message" and len(value) > 8 and isinstance(value[8], list):
        yield from _numbered(value[8], path + ".")


def _sections(paths: Sequence[str], octets: int) -> Iterator[str]:
    fields = "HEADER.FIELDS (SUBJECT FROM X-ODD)"
    for section in ("", "HEADER", "TEXT", fields, "HEADER.FIELDS.NOT (DATE TO SUBJECT)"):
        yield f"[{section}]"
    # An answer names where a piece begins and not how long it is, so each begins elsewhere.
    pieces = {0: 7, 3: 20, max(octets - 2, 0): 10, octets: 5, octets + 9: 5}
    for start, count in pieces.items():
        yield f"[]<{start}.{count}>"
    for section in ("HEADER", "TEXT", "1", fields):
        yield f"[{section}]<2.9>"
    for path in paths:
        for section in ("", ".MIME", ".HEADER", ".TEXT", ".HEADER.FIELDS (SUBJECT)"):
            yield f"[{path}{section}]"


def _bodies(items: Mapping[bytes, Value]) -> Pieces:
    return {
        name.decode().replace('"', ""): value
        for name, value in items.items()
        if name.startswith(b"BODY[")
    }


_CODE: Final = re.compile(rb"(OK|NO|BAD)(?: \[([A-Z-]+))?")


def _only(told: Told) -> Value:
    """What a FETCH of one item gives, or how it is refused."""
    if not told.ok:
        found = _CODE.match(told.status)
        assert found is not None, told.status
        return found[0].decode() + ("]" if found[2] else "")
    for _, items in told.fetches():
        for name, value in items.items():
            if name.startswith(b"BINARY"):
                return value
    return MISSING


def out_of_order(one: Sequence[int], other: Sequence[int]) -> list[int]:
    """The fewest numbers without which both orders are the same."""
    place = {number: at for at, number in enumerate(other)}
    ends: list[int] = []
    last: list[int] = []
    before: dict[int, int | None] = {}
    for number in one:
        at = bisect_left(ends, place[number])
        before[number] = last[at - 1] if at else None
        ends[at:] = [place[number], *ends[at + 1 :]]
        last[at:] = [number, *last[at + 1 :]]
    kept: set[int] = set()
    step = last[-1] if last else None
    while step is not None:
        kept.add(step)
        step = before[step]
    return [number for number in one if number not in kept]


def _threads(told: bytes) -> dict[int, bytes]:
    """Each message's whole thread."""
    found: dict[int, bytes] = {}
    depth = start = 0
    for at, octet in enumerate(told):
        depth += (octet == 0x28) - (octet == 0x29)
        if octet == 0x29 and depth == 0:
            thread = told[start : at + 1]
            found |= {int(number): thread for number in re.findall(rb"[0-9]+", thread)}
            start = at + 1
    return found


# -- what is searched for ----------


def _utf8(*needles: str) -> Callable[[str], tuple[str, bytes, tuple[bytes, ...]]]:
    def made(keys: str) -> tuple[str, bytes, tuple[bytes, ...]]:
        shown = keys
        for needle in needles:
            shown = shown.replace("{}", repr(needle), 1)
        return shown, b"CHARSET UTF-8 " + keys.encode(), tuple(one.encode() for one in needles)

    return made


_PLAIN_SEARCHES: Final = [
    "ALL", "SEEN", "UNSEEN", "FLAGGED NOT SEEN", "OR SEEN FLAGGED", "NOT (OR SEEN FLAGGED)",
    "KEYWORD $Label", "UNKEYWORD $label", "KEYWORD Nobody", "DELETED", "UNDELETED ANSWERED",
    "DRAFT", "UNDRAFT 1:20", "1:10,20,30:*", "UID 5:15", "UID 100:*", "NOT UID 1:200",
    "LARGER 300", "SMALLER 300", "LARGER 300 SMALLER 600", "LARGER 10000",
    "BEFORE 3-Feb-2026", "ON 3-Feb-2026", "SINCE 3-Feb-2026", "SINCE 1-Jan-2026 BEFORE 2-Jan-2026",
    "SENTBEFORE 3-Feb-2026", "SENTON 3-Feb-2026", "SENTSINCE 3-Feb-2026", "SENTSINCE 1-Jan-2021",
    "SENTBEFORE 1-Jan-1990", "SENTSINCE 1-Jan-2090",
]  # fmt: skip

_NEEDLES: Final = [
    "hello", "HELLO", "world", "x.org", "x.example", "user1", "anna", "Anna Berg", "inner", "two",
    "two words", "long", "b@x.org", "Grüße", "GRÜSSE", "grüße", "ü", "日本", "naïve", "привет",
    "alpha", "gamma delta", "fwd", "list", "reply", "begin 644", "undisclosed", "<a@x.org>",
    "zzz-not-there", "Jürgen", "Zoë", "Smith", "=?utf-8", "boundary", "multipart", "attachment",
    "first", "innermost", "\\", '"', "one two three",
]  # fmt: skip

_KEYS: Final = ["SUBJECT", "FROM", "TO", "CC", "BCC", "BODY", "TEXT"]

SEARCHES: Final[list[tuple[str, bytes, tuple[bytes, ...]]]] = [
    *((keys, keys.encode(), ()) for keys in _PLAIN_SEARCHES),
    *(_utf8(needle)(f"{key} {{}}") for key in _KEYS for needle in _NEEDLES),
    *(_utf8("")(f"{key} {{}}") for key in _KEYS),
    *(
        _utf8(needle)(f"HEADER {field} {{}}")
        for field, needle in (
            ("Message-ID", "x.example"), ("X-Odd", ""), ("X-Odd", "2"), ("Content-Type", "utf-8"),
            ("Content-Type", ""), ("References", "7@x.org"), ("In-Reply-To", ""), ("Subject", ""),
            ("Date", "Feb"), ("From", "Jürgen"), ("Nowhere", ""), ("Received", "from a"),
            ("List-Id", "list.x.org"), ("Content-Disposition", "a b"), ("MIME-Version", "1.0"),
        )
    ),
    _utf8("hello", "world")("OR SUBJECT {} BODY {}"),
    _utf8("hello", "world")("TEXT {} NOT BODY {} UNSEEN"),
]  # fmt: skip

SORTS: Final = (
    b"ARRIVAL", b"REVERSE ARRIVAL", b"DATE", b"REVERSE DATE", b"SUBJECT", b"FROM", b"TO", b"CC",
    b"SIZE", b"REVERSE SIZE", b"SUBJECT REVERSE DATE", b"FROM SUBJECT", b"DISPLAYFROM",
    b"DISPLAYTO",
)  # fmt: skip
