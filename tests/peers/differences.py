"""What raftmail answers otherwise than Dovecot, and means to. docs/architecture/imap-differences.md
argues each under the same title.

An entry explains a finding when its function says so. It is as narrow as it can be: it looks at
the message, at what was asked, and at both answers.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from raftmail.frontends.imap.dates import read_date
from raftmail.mail.summary import decode_parts, summarise
from tests.peers.compare import DIED, MISSING, Finding, flat
from tests.peers.imap_talk import Value, Values

SOUP: Final = "soup: "
"""Names of messages out of `token_soup` begin so."""

_TYPE = re.compile(rb"^content-type[ \t]*:(.*)$", re.IGNORECASE | re.MULTILINE)
_READABLE = re.compile(
    rb"[ \t]*[!#$%&'*+.0-9A-Z^_`a-z{|}~-]+/[!#$%&'*+.0-9A-Z^_`a-z{|}~-]+\s*([;(]|$)"
)
_FIELD = re.compile(rb"^[!-9;-~]+[ \t]*:.*(?:\r?\n[ \t].*)*", re.MULTILINE)
_DATE = re.compile(rb"^date[ \t]*:(.*)$", re.IGNORECASE | re.MULTILINE)
_SPACE = re.compile(rb"\s+")


@dataclass(frozen=True)
class Difference:
    """One that is argued."""

    title: str
    kinds: tuple[str, ...]
    explains: Callable[[Finding], bool]


@lru_cache(maxsize=1000)
def _our_types(message: bytes) -> tuple[bytes, ...]:
    pieces = flat(Values(summarise(message).bodystructure).value())
    return tuple(value for item, value in pieces.items() if item.endswith(" type"))


def _types(message: bytes) -> list[bytes]:
    return [found.strip().lower() for found in _TYPE.findall(message)]


def _placeholders(finding: Finding) -> bool:
    shown = repr(finding.theirs)
    return any(word in shown for word in ("MISSING_", "SYNTAX_ERROR", "INVALID_ROUTE"))


_RUBBISH: Final = ("comments", "semicolon", "two ats")
_COLON_IN_HOST: Final = re.compile(rb"[^\[]*:")


def _rubbish(finding: Finding) -> bool:
    if finding.name.removeprefix("address: ") in _RUBBISH or _comment_is_name(finding):
        return True
    addresses = finding.ours if isinstance(finding.ours, list) else []
    return any(
        _COLON_IN_HOST.match(one[3])
        for one in addresses
        if isinstance(one, list) and len(one) == 4 and isinstance(one[3], bytes)
    )


def _comment_is_name(finding: Finding) -> bool:
    """The same addresses, some with a comment before or in them for a name."""
    ours, theirs = finding.ours, finding.theirs
    if not (isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs)):
        return False
    return all(
        mine == other
        or (isinstance(mine, list) and isinstance(other, list) and other == [None, *mine[1:]])
        for mine, other in zip(ours, theirs, strict=True)
    )


def _squeezed(value: Value) -> Value:
    if isinstance(value, bytes):
        return _SPACE.sub(b" ", value).strip()
    return [_squeezed(one) for one in value] if isinstance(value, list) else value


def _spaces(finding: Finding) -> bool:
    same: bool = _squeezed(finding.ours) == _squeezed(finding.theirs)
    return same


def _repeated(finding: Finding) -> bool:
    name = re.escape(finding.item.encode())
    return len(re.findall(rb"^%b[ \t]*:" % name, finding.message, re.IGNORECASE | re.MULTILINE)) > 1


def _charset(finding: Finding) -> bool:
    if not finding.item.endswith(" parameters") or finding.theirs == MISSING:
        return False
    same: bool = finding.theirs == [*(finding.ours or []), (b"charset", b"us-ascii")]
    return same


def _pieces(finding: Finding) -> bool:
    return finding.item.endswith(" parameters") and "*" in repr(finding.ours)


def _parameters(finding: Finding) -> bool:
    if finding.item.endswith((" parameters", " disposition")) and b";;" in finding.message:
        return True
    return finding.item.endswith(" parameters") and finding.name in (
        "type: no parameter name",
        "parts: signed",
    )


def _unreadable(finding: Finding) -> bool:
    return any(_READABLE.match(one) is None for one in _types(finding.message))


def _disposition(finding: Finding) -> bool:
    return finding.item.endswith(" disposition") and finding.ours is None and not finding.theirs[0]


def _encoding(finding: Finding) -> bool:
    named = isinstance(finding.ours, bytes)
    return finding.item.endswith(" encoding") and named and finding.theirs == b"7bit"


def _cut_encoding(finding: Finding) -> bool:
    """Octets that are no token end the name of an encoding, or are passed over."""
    return finding.item.endswith(" encoding") and not finding.message.isascii()


def _broken_encoding(finding: Finding) -> bool:
    return finding.theirs in ("NO [PARSE]", "NO [UNKNOWN-CTE]", DIED)


def _with_parts(finding: Finding) -> bool:
    """Of a part that has parts, or the size of a part inside."""
    path = finding.item.partition("[")[2].partition("]")[0]
    if finding.kind == "BINARY.SIZE" and isinstance(finding.theirs, int) and "." in path:
        return True
    paths = [".".join(map(str, one.path)) for one in decode_parts(summarise(finding.message).parts)]
    return path in paths and any(one.startswith(path + ".") for one in paths)


def _no_parts(finding: Finding) -> bool:
    multiparts = [one for one in _types(finding.message) if one.startswith(b"multipart")]
    ours = _our_types(finding.message)
    if finding.name.startswith(SOUP):
        return len(multiparts) > sum(one.startswith(b"multipart") for one in ours)
    return bool(multiparts) and set(ours) == {b"text/plain"}


def _encoded_message(finding: Finding) -> bool:
    of_messages = (b"message/rfc822", b"message/global", b"multipart/digest")
    return any(
        one.startswith(of_messages) for one in _types(finding.message)
    ) and b"application/octet-stream" in _our_types(finding.message)


def _utf8_message(finding: Finding) -> bool:
    return any(one.startswith(b"message/global") for one in _types(finding.message))


def _boundary(finding: Finding) -> bool:
    return finding.name in ("parts: boundary that begins another", "odd: same boundary inside")


def _line_end(finding: Finding) -> bool:
    ours, theirs = finding.ours, finding.theirs
    if finding.item.endswith(" size") or finding.kind == "BINARY.SIZE":
        return isinstance(theirs, int) and isinstance(ours, int) and theirs - ours == 2
    if finding.item.endswith(" lines"):
        return isinstance(theirs, int) and isinstance(ours, int) and theirs - ours == 1
    return (
        isinstance(ours, bytes)
        and isinstance(theirs, bytes)
        and theirs.startswith(ours)
        and theirs[len(ours) :] in (b"\r", b"\r\n")
    )


def _not_there(finding: Finding) -> bool:
    """Dovecot also takes any type of message for one that has a part."""
    status = b"message/delivery-status" in _types_named(finding.message)
    return finding.ours is None and (finding.theirs == b"" or status)


def _types_named(message: bytes) -> set[bytes]:
    return {one.partition(b";")[0].strip() for one in _types(message)}


def _no_fields(finding: Finding) -> bool:
    if "HEADER.FIELDS" not in finding.item or not isinstance(finding.ours, bytes):
        return False
    fields = [_FIELD.findall(one) for one in (finding.ours, finding.theirs)]
    return [one.strip() for one in fields[0]] == [one.strip() for one in fields[1]]


def _no_date(finding: Finding) -> bool:
    """There is none, it cannot be read (here, or there), or it is before 1970."""
    found = _DATE.search(finding.message)
    sent = None if found is None else read_date(found[1].strip())
    if not finding.item.startswith("SENT"):
        return False
    read_here_alone = finding.name.startswith(SOUP) and finding.theirs is True
    return sent is None or sent.utc_s < 0 or read_here_alone


def _case(finding: Finding) -> bool:
    return "GRÜSSE" in finding.item and finding.ours is True


def _address_keys(finding: Finding) -> bool:
    key, _, needle = finding.item.partition(" ")
    odd = any(one in needle for one in ("<", '"', "\\", "=?"))
    plain = finding.name.startswith(("address: ", "damaged: ", "odd: ", SOUP))
    return key in ("FROM", "TO", "CC", "BCC") and (odd or plain)


def _undecoded(finding: Finding) -> bool:
    return finding.ours is True and not finding.name.startswith("made: ")


def _folded_space(finding: Finding) -> bool:
    return "one two three" in finding.item and finding.ours is False


def _lines_searched(finding: Finding) -> bool:
    return finding.ours is False and finding.name.startswith(("damaged: ", SOUP))


def _odd_order(finding: Finding) -> bool:
    return finding.name.startswith(("address: ", "field: ", "odd: ", "damaged: ", SOUP))


def _odd_thread(finding: Finding) -> bool:
    named = re.findall("<(.*?)>", f"{finding.ours} {finding.theirs}")
    return not all(one.startswith("made: ") for one in named)


_HEADS: Final = ("ENVELOPE", "BODYSTRUCTURE")
_ALL: Final = ("ENVELOPE", "BODYSTRUCTURE", "BODY", "BINARY", "BINARY.SIZE")

DIFFERENCES: Final = (
    Difference("Addresses that are none", _HEADS, _placeholders),
    Difference("Rubbish beside addresses", _HEADS, _rubbish),
    Difference("Space inside strings", _HEADS, _spaces),
    Difference("Fields that are there twice", ("ENVELOPE",), _repeated),
    Difference("A charset that nobody named", ("BODYSTRUCTURE",), _charset),
    Difference("Parameters in pieces", ("BODYSTRUCTURE",), _pieces),
    Difference("Parameters that are broken", ("BODYSTRUCTURE",), _parameters),
    Difference("Types that cannot be read", _ALL, _unreadable),
    Difference("Dispositions that are none", ("BODYSTRUCTURE",), _disposition),
    Difference("An encoding without a type", ("BODYSTRUCTURE",), _encoding),
    Difference("An encoding that is no token", ("BODYSTRUCTURE",), _cut_encoding),
    Difference("Bodies that are wrongly encoded", ("BINARY", "BINARY.SIZE"), _broken_encoding),
    Difference("BINARY of what has parts", ("BINARY", "BINARY.SIZE"), _with_parts),
    Difference("Multiparts without parts", _ALL, _no_parts),
    Difference("Messages that are encoded", (*_ALL, "SEARCH"), _encoded_message),
    Difference("Messages in UTF-8 inside others", (*_ALL, "SEARCH"), _utf8_message),
    Difference("Boundaries that begin alike", _ALL, _boundary),
    Difference("The line end before a boundary", _ALL, _line_end),
    Difference("Sections that are not there", ("BODY", "BINARY"), _not_there),
    Difference("Lines that are no fields", ("BODY",), _no_fields),
    Difference("Messages without a date", ("SEARCH",), _no_date),
    Difference("Letters whose case has two letters", ("SEARCH",), _case),
    Difference("What FROM, TO and CC look into", ("SEARCH",), _address_keys),
    Difference("Text that cannot be decoded", ("SEARCH",), _undecoded),
    Difference("A tab where a space is searched", ("SEARCH",), _folded_space),
    Difference("Searches in lines that are no fields", ("SEARCH",), _lines_searched),
    Difference("Orders of odd values", ("SORT",), _odd_order),
    Difference("Threads with odd members", ("THREAD",), _odd_thread),
)


def explanation(finding: Finding) -> Difference | None:
    """The entry that explains a finding."""
    for one in DIFFERENCES:
        if finding.kind in one.kinds and one.explains(finding):
            return one
    return None
