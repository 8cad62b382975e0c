"""One strict parser of all that a server says: the formal syntax of RFC 9051 section 9 and RFC 3501
section 9, with the extensions that are advertised. What they do not have is a `GrammarViolation`.

Each kind of response is one function in `_UNTAGGED` or `_NUMBERED`, and each response code one in
`_CODES`. Each item of FETCH is one in `_FETCH`, and each of STATUS one in `_STATUS`. A new
extension adds its own there.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from typing import Any, Final

from tests.frontends.imap.strict_cursor import GrammarViolation, StrictCursor
from tests.frontends.imap.strict_response import StrictResponse
from tests.frontends.imap.strict_structures import body, envelope

_TAG: Final = re.compile(rb"[!#$&',\-./0-9:;<=>?@A-Z\[\]^_`a-z|}~]+")
_TEXT: Final = re.compile(rb"[\x01-\x09\x0b\x0c\x0e-\x7f]+")
_PARTIAL_RANGE: Final = re.compile(rb"[1-9][0-9]*:[1-9][0-9]*|-[1-9][0-9]*:-[1-9][0-9]*")
_URL_TEXT: Final = re.compile(rb"[\x01-\x09\x0b\x0c\x0e-\x5c\x5e-\x7f]+")
_CAPABILITY: Final = re.compile(rb"[!#$&'+,\-./0-9:;<=>?@A-Z\[^_`a-z|}~]+")
_STATES: Final = ("OK", "NO", "BAD")


class StrictParser:
    """Reads what the server says on one connection, in order: some is allowed only after an
    ENABLED."""

    def __init__(self) -> None:
        self.enabled: set[bytes] = set()
        self._greeted = False
        self._bye = False
        self._ended = False

    @property
    def utf8(self) -> bool:
        """Strings in quotes may be UTF-8 (RFC 9051 section 5.1, RFC 9755 section 3)."""
        return bool(self.enabled & {b"IMAP4REV2", b"UTF8=ACCEPT"})

    @property
    def rev2(self) -> bool:
        return b"IMAP4REV2" in self.enabled

    @property
    def qresync(self) -> bool:
        return b"QRESYNC" in self.enabled

    @property
    def uid_only(self) -> bool:
        """There are no sequence numbers (RFC 9586)."""
        return b"UIDONLY" in self.enabled

    def take(self, data: bytes) -> StrictResponse:
        """One whole response with its literals."""
        cursor = StrictCursor(data, utf8=self.utf8)
        if self._ended:
            cursor.fail("something is said after BYE and the answer to LOGOUT")
        if cursor.skip(b"+"):
            found = _continuation(cursor)
        elif cursor.skip(b"* "):
            found = self._untagged(cursor)
        else:
            tag = cursor.match(_TAG, "a tag")[0]
            cursor.space()
            kind = cursor.word()
            if kind not in _STATES:
                cursor.fail(f"{kind} is no tagged response")
            text, code = _status_text(cursor, self)
            found = StrictResponse(kind, tag, 0, text, code)
        cursor.end()
        if self._bye:
            if not found.tag:
                cursor.fail("something untagged follows BYE")
            self._ended = True
        self._bye = self._bye or found.kind == "BYE"
        if not self._greeted and (found.tag or found.kind not in ("OK", "PREAUTH", "BYE")):
            cursor.fail("that is no greeting")
        if self._greeted and found.kind == "PREAUTH":
            cursor.fail("PREAUTH is a greeting")
        self._greeted = True
        return found

    def _untagged(self, cursor: StrictCursor) -> StrictResponse:
        if cursor.data[cursor.at : cursor.at + 1].isdigit():
            number = cursor.number()
            cursor.space()
            kind = cursor.word()
            if kind not in _NUMBERED:
                cursor.fail(f"{kind} is no response with a number")
            return StrictResponse(kind, b"", number, _NUMBERED[kind](cursor, self, number))
        kind = cursor.word()
        if kind in (*_STATES, "BYE", "PREAUTH"):
            text, code = _status_text(cursor, self)
            return StrictResponse(kind, b"", 0, text, code)
        if kind not in _UNTAGGED:
            cursor.fail(f"{kind} is no untagged response")
        return StrictResponse(kind, b"", 0, _UNTAGGED[kind](cursor, self))


class ResponseSplitter:
    """Cuts a stream of bytes into responses."""

    _LITERAL = re.compile(rb"\{([0-9]+)\}\r\n\Z")

    def __init__(self) -> None:
        self._whole = b""
        """The beginning of a response; all but `_needs` octets of it have come."""
        self._unread = b""
        self._needs = 0

    def feed(self, data: bytes) -> list[bytes]:
        """The responses that are whole now."""
        self._unread += data
        found: list[bytes] = []
        while True:
            if self._needs:
                piece, self._unread = self._unread[: self._needs], self._unread[self._needs :]
                self._whole += piece
                self._needs -= len(piece)
                if self._needs:
                    return found
            line, end, rest = self._unread.partition(b"\n")
            if not end:
                return found
            self._whole += line + end
            self._unread = rest
            literal = self._LITERAL.search(line + end)
            if literal is None:
                found.append(self._whole)
                self._whole = b""
            else:
                self._needs = int(literal[1])

    @property
    def left(self) -> bytes:
        """What has no end yet."""
        return self._whole + self._unread


# -- continuation and status ----------


def _continuation(cursor: StrictCursor) -> StrictResponse:
    """`+ ` and a text or base64 (RFC 9051 section 7.6); the latter may be empty."""
    cursor.space()
    if cursor.next_is(b"\r\n"):
        return StrictResponse("+", value=b"")
    return StrictResponse("+", value=cursor.match(_TEXT, "a text")[0])


def challenge(response: StrictResponse) -> bytes:
    """What a continuation asks of a SASL mechanism."""
    assert response.kind == "+"
    try:
        return base64.b64decode(response.value, validate=True)
    except binascii.Error as e:
        raise GrammarViolation(f"a challenge is no base64: {e}", response.value, 0) from None


def _status_text(
    cursor: StrictCursor, parser: StrictParser
) -> tuple[bytes, tuple[str, Any] | None]:
    """resp-text; its text is never empty (RFC 3501)."""
    cursor.space()
    code = None
    if cursor.skip(b"["):
        name = cursor.word()
        if name not in _CODES:
            cursor.fail(f"{name} is no response code")
        code = (name, _CODES[name](cursor, parser))
        cursor.expect(b"]")
        cursor.space()
    elif cursor.next_is(b"["):
        cursor.fail("a text begins like a code")
    return cursor.match(_TEXT, "a text")[0], code


# -- response codes ----------

_Code = Callable[[StrictCursor, StrictParser], Any]


def _alone(cursor: StrictCursor, parser: StrictParser) -> None:
    if not cursor.next_is(b"]"):
        cursor.fail("this code has no argument")


def _code_badcharset(cursor: StrictCursor, parser: StrictParser) -> list[bytes]:
    if not cursor.skip(b" "):
        return []
    return cursor.listed(lambda: cursor.quoted() if cursor.next_is(b'"') else cursor.atom())


def _code_flags(cursor: StrictCursor, parser: StrictParser) -> list[bytes]:
    cursor.space()
    return cursor.listed(lambda: cursor.flag(b"\\*"), empty=True)


def _code_events(cursor: StrictCursor, parser: StrictParser) -> list[bytes]:
    """RFC 5465 section 8."""
    cursor.space()
    return cursor.listed(cursor.atom)


def _code_nz_number(cursor: StrictCursor, parser: StrictParser) -> int:
    cursor.space()
    return cursor.nz_number()


def _code_unseen(cursor: StrictCursor, parser: StrictParser) -> int:
    if parser.rev2:
        cursor.fail("UNSEEN is not of IMAP4rev2")
    return _code_nz_number(cursor, parser)


def _code_modseq(cursor: StrictCursor, parser: StrictParser) -> int:
    cursor.space()
    return cursor.modseq()


def _code_set(cursor: StrictCursor, parser: StrictParser) -> list[tuple[int, int]]:
    cursor.space()
    return cursor.number_ranges()


def _code_appenduid(
    cursor: StrictCursor, parser: StrictParser
) -> tuple[int, list[tuple[int, int]]]:
    cursor.space()
    uidvalidity = cursor.nz_number()
    cursor.space()
    return uidvalidity, cursor.number_ranges()


def _code_copyuid(
    cursor: StrictCursor, parser: StrictParser
) -> tuple[int, list[tuple[int, int]], list[tuple[int, int]]]:
    """Both sets have as many UIDs (RFC 4315 section 3)."""
    uidvalidity, sources = _code_appenduid(cursor, parser)
    cursor.space()
    targets = cursor.number_ranges()
    if sum(high - low for low, high in sources) + len(sources) != (
        sum(high - low for low, high in targets) + len(targets)
    ):
        cursor.fail("COPYUID has not as many targets as sources")
    return uidvalidity, sources, targets


def _code_badurl(cursor: StrictCursor, parser: StrictParser) -> bytes:
    """url-resp-text (RFC 4469 section 5)."""
    cursor.space()
    return cursor.match(_URL_TEXT, "a URL")[0]


def _code_inprogress(cursor: StrictCursor, parser: StrictParser) -> tuple[bytes, int, int]:
    """RFC 9585 section 5: the tag, how many are done, and of how many."""
    cursor.space()
    cursor.expect(b"(")
    tag = cursor.quoted()
    cursor.space()
    done = cursor.number()
    cursor.space()
    goal = cursor.nz_number()
    cursor.expect(b")")
    if done >= goal:
        cursor.fail("a command before this is in progress, and done")
    return tag, done, goal


def _code_object_id(cursor: StrictCursor, parser: StrictParser) -> bytes:
    cursor.space()
    (found,) = cursor.listed(cursor.object_id)
    return found


def _capabilities(cursor: StrictCursor, parser: StrictParser) -> list[bytes]:
    """One of IMAP4rev1 and IMAP4rev2 at least, and none twice."""
    found = []
    while cursor.skip(b" "):
        found.append(cursor.match(_CAPABILITY, "a capability")[0].upper())
    if not {b"IMAP4REV1", b"IMAP4REV2"} & set(found) or len(set(found)) < len(found):
        cursor.fail(f"{found} before this are no capabilities of an IMAP server")
    return found


def _code_metadata(cursor: StrictCursor, parser: StrictParser) -> str:
    """RFC 5464 section 5."""
    cursor.space()
    kind = cursor.word()
    if kind in ("LONGENTRIES", "MAXSIZE"):
        cursor.space()
        cursor.number()
    elif kind not in ("TOOMANY", "NOPRIVATE"):
        cursor.fail(f"{kind} is no code of METADATA")
    return kind


_CODES: Final[dict[str, _Code]] = {
    "APPENDUID": _code_appenduid,
    "BADEVENT": _code_events,
    "BADURL": _code_badurl,
    "BADCHARSET": _code_badcharset,
    "CAPABILITY": _capabilities,
    "COPYUID": _code_copyuid,
    "HIGHESTMODSEQ": _code_modseq,
    "INPROGRESS": _code_inprogress,
    "MAILBOXID": _code_object_id,
    "METADATA": _code_metadata,
    "MODIFIED": _code_set,
    "PERMANENTFLAGS": _code_flags,
    "UIDNEXT": _code_nz_number,
    "UIDVALIDITY": _code_nz_number,
    "UNSEEN": _code_unseen,
    **dict.fromkeys(
        (
            "ALERT", "ALREADYEXISTS", "AUTHENTICATIONFAILED", "AUTHORIZATIONFAILED", "CANNOT",
            "CLIENTBUG", "CLOSED", "COMPRESSIONACTIVE", "CONTACTADMIN", "CORRUPTION", "EXPIRED",
            "EXPUNGEISSUED", "HASCHILDREN", "INUSE", "LIMIT", "NOMODSEQ", "NONEXISTENT", "NOPERM",
            "NOTSAVED", "OVERQUOTA", "PARSE", "PRIVACYREQUIRED", "READ-ONLY", "READ-WRITE",
            "SERVERBUG", "TOOBIG", "TRYCREATE", "UIDNOTSTICKY", "UIDREQUIRED", "UNAVAILABLE",
            "UNKNOWN-CTE", "USEATTR",
        ),
        _alone,
    ),
}  # fmt: skip


# -- untagged data ----------

_Untagged = Callable[[StrictCursor, StrictParser], Any]


def _enabled(cursor: StrictCursor, parser: StrictParser) -> list[bytes]:
    """RFC 5161 section 4; it may name none."""
    found = []
    while cursor.skip(b" "):
        found.append(cursor.match(_CAPABILITY, "a capability")[0].upper())
    parser.enabled.update(found)
    return found


def _id(cursor: StrictCursor, parser: StrictParser) -> dict[bytes, bytes | None]:
    """RFC 2971 section 4."""
    cursor.space()
    if cursor.nil():
        return {}

    def field() -> tuple[bytes, bytes | None]:
        name = cursor.string()
        cursor.space()
        return name, cursor.nstring()

    return dict(cursor.listed(field, empty=True))


def _flags(cursor: StrictCursor, parser: StrictParser) -> list[bytes]:
    cursor.space()
    found = cursor.listed(cursor.flag, empty=True)
    if len({one.lower() for one in found}) < len(found):
        cursor.fail("a flag before this is told twice")
    return found


_SELECTABLE: Final = {b"\\noselect", b"\\marked", b"\\unmarked"}


def _list(
    cursor: StrictCursor, parser: StrictParser
) -> tuple[list[bytes], bytes, dict[bytes, Any]]:
    """Attributes, name, extended data (RFC 9051 section 9, mailbox-list)."""
    cursor.space()
    attributes = cursor.listed(cursor.flag, empty=True)
    lower = [one.lower() for one in attributes]
    if len(set(lower)) < len(lower) or not all(one.startswith(b"\\") for one in lower):
        cursor.fail(f"{attributes} before this are no attributes of a mailbox")
    if len(_SELECTABLE & set(lower)) > 1 or {b"\\haschildren", b"\\hasnochildren"} <= set(lower):
        cursor.fail(f"{attributes} before this exclude one another")
    cursor.space()
    if not cursor.nil() and len(cursor.quoted()) != 1:
        cursor.fail("a separator before this is not one character")
    cursor.space()
    name = cursor.mailbox()
    extended = dict(_list_extension(cursor, parser)) if cursor.skip(b" ") else {}
    return attributes, name, extended


def _list_extension(cursor: StrictCursor, parser: StrictParser) -> list[tuple[bytes, Any]]:
    def item() -> tuple[bytes, Any]:
        tag = cursor.astring().upper()
        cursor.space()
        if tag not in _LIST_EXTENSIONS:
            cursor.fail(f"{tag!r} is no extended data of LIST")
        return tag, _LIST_EXTENSIONS[tag](cursor, parser)

    return cursor.listed(item)


def _child_info(cursor: StrictCursor, parser: StrictParser) -> list[bytes]:
    """RFC 5258 section 6: the options are quoted."""
    return cursor.listed(cursor.quoted)


def _old_name(cursor: StrictCursor, parser: StrictParser) -> list[bytes]:
    """RFC 5465 section 8."""
    return cursor.listed(cursor.mailbox)


_LIST_EXTENSIONS: Final[dict[bytes, _Untagged]] = {
    b"CHILDINFO": _child_info,
    b"OLDNAME": _old_name,
}


def _namespace(cursor: StrictCursor, parser: StrictParser) -> list[list[bytes]]:
    """RFC 9051 section 6.3.10: personal, of others, shared."""

    def one() -> bytes:
        cursor.expect(b"(")
        prefix = cursor.string()
        cursor.space()
        if not cursor.nil() and len(cursor.quoted()) != 1:
            cursor.fail("a separator before this is not one character")
        cursor.expect(b")")
        return prefix

    found = []
    for _ in range(3):
        cursor.space()
        found.append([] if cursor.nil() else cursor.joined(one))
    return found


def _status(cursor: StrictCursor, parser: StrictParser) -> tuple[bytes, dict[str, Any]]:
    """RFC 9051 section 6.3.11; each item once."""
    cursor.space()
    name = cursor.mailbox()
    cursor.space()
    found: dict[str, Any] = {}

    def item() -> None:
        kind = cursor.word()
        if kind not in _STATUS or kind in found:
            cursor.fail(f"{kind} is no item of STATUS, or is there twice")
        cursor.space()
        found[kind] = _STATUS[kind](cursor)

    cursor.listed(item, empty=True)
    return name, found


_STATUS: Final[dict[str, Callable[[StrictCursor], Any]]] = {
    "APPENDLIMIT": lambda cursor: None if cursor.nil() else cursor.number(),
    "DELETED": StrictCursor.number,
    "DELETED-STORAGE": StrictCursor.number64,
    "HIGHESTMODSEQ": StrictCursor.number64,
    "MAILBOXID": lambda cursor: cursor.listed(cursor.object_id)[0],
    "MESSAGES": StrictCursor.number,
    "RECENT": StrictCursor.number,
    "SIZE": StrictCursor.number64,
    "UIDNEXT": StrictCursor.nz_number,
    "UIDVALIDITY": StrictCursor.nz_number,
    "UNSEEN": StrictCursor.number,
}


def _numbers(cursor: StrictCursor, parser: StrictParser) -> tuple[list[int], int]:
    """Of SEARCH (RFC 3501) and SORT (RFC 5256): the numbers, and the modseq or 0. It stands only
    behind numbers (RFC 7162 section 3.1.5)."""
    found = []
    while cursor.next_is(b" ") and not cursor.next_is(b" ("):
        cursor.space()
        found.append(cursor.nz_number())
    if len(set(found)) < len(found):
        cursor.fail("a message before this is found twice")
    modseq = 0
    if found and cursor.skip(b" (MODSEQ "):
        modseq = cursor.modseq()
        cursor.expect(b")")
    return found, modseq


def _search(cursor: StrictCursor, parser: StrictParser) -> tuple[list[int], int]:
    if parser.rev2:
        cursor.fail("SEARCH is not answered so after ENABLE IMAP4rev2")
    return _numbers(cursor, parser)


def _esearch(cursor: StrictCursor, parser: StrictParser) -> dict[str, Any]:
    """RFC 9051 section 7.3.4: the tag, then UID, then what was asked for."""
    found: dict[str, Any] = {}
    if cursor.skip(b" (TAG "):
        found["TAG"] = cursor.astring()
        cursor.expect(b")")
    if cursor.skip(b" UID"):
        found["UID"] = True
    while cursor.skip(b" "):
        name = cursor.word()
        if name not in _ESEARCH or name in found:
            cursor.fail(f"{name} is nothing that ESEARCH says, or is there twice")
        cursor.space()
        found[name] = _ESEARCH[name](cursor)
    return found


def _partial(cursor: StrictCursor) -> tuple[bytes, list[tuple[int, int]]]:
    """RFC 9394 section 4: the range that was asked for, and what is in it."""
    cursor.expect(b"(")
    asked = cursor.match(_PARTIAL_RANGE, "a range")[0]
    cursor.space()
    found = [] if cursor.nil() else cursor.number_ranges()
    cursor.expect(b")")
    return asked, found


_ESEARCH: Final[dict[str, Callable[[StrictCursor], Any]]] = {
    "ALL": StrictCursor.number_ranges,
    "COUNT": StrictCursor.number,
    "MAX": StrictCursor.nz_number,
    "MIN": StrictCursor.nz_number,
    "MODSEQ": StrictCursor.modseq,
    "PARTIAL": _partial,
}


def _thread(cursor: StrictCursor, parser: StrictParser) -> list[int]:
    """RFC 5256 section 5: the numbers, each once."""
    found: list[int] = []
    if cursor.skip(b" "):
        if not cursor.next_is(b"("):
            cursor.fail("THREAD has no thread behind its space")
        while cursor.next_is(b"("):
            _one_thread(cursor, found)
    if len(set(found)) < len(found):
        cursor.fail("a message before this is in two threads")
    return found


def _one_thread(cursor: StrictCursor, found: list[int], level: int = 0) -> None:
    """Numbers, and then nothing or two threads at least."""
    if level > 800:
        cursor.fail("threads are nested too deep")
    cursor.expect(b"(")
    numbers = 0
    while not cursor.next_is(b"(") and not cursor.next_is(b")"):
        found.append(cursor.nz_number())
        numbers += 1
        if not cursor.skip(b" "):
            break
    below = 0
    while cursor.next_is(b"("):
        _one_thread(cursor, found, level + 1)
        below += 1
    if below == 1 or (not numbers and not below):
        cursor.fail("a thread before this is no thread-list")
    cursor.expect(b")")


def _vanished(cursor: StrictCursor, parser: StrictParser) -> tuple[bool, list[tuple[int, int]]]:
    """RFC 7162 section 3.2.10; only for who has enabled QRESYNC."""
    if not (parser.qresync or parser.uid_only):
        cursor.fail("VANISHED to a client that has not enabled QRESYNC or UIDONLY")
    earlier = cursor.skip(b" (EARLIER)")
    cursor.space()
    return earlier, cursor.number_ranges()


def _quota(cursor: StrictCursor, parser: StrictParser) -> dict[str, tuple[int, int]]:
    """RFC 9208 section 5.2.1: use and limit of each resource."""
    cursor.space()
    cursor.astring()
    cursor.space()

    def resource() -> tuple[str, tuple[int, int]]:
        name = cursor.word()
        cursor.space()
        used = cursor.number64()
        cursor.space()
        return name, (used, cursor.number64())

    return dict(cursor.listed(resource, empty=True))


def _quota_root(cursor: StrictCursor, parser: StrictParser) -> list[bytes]:
    """RFC 9208 section 5.2.2."""
    cursor.space()
    cursor.mailbox()
    found = []
    while cursor.skip(b" "):
        found.append(cursor.astring())
    return found


_RIGHTS = re.compile(rb"[lrswipkxteacd]*")


def _rights(cursor: StrictCursor) -> bytes:
    found = cursor.astring()
    if _RIGHTS.fullmatch(found) is None or len(set(found)) < len(found):
        cursor.fail("rights before this are none, or are there twice")
    return found


def _acl(cursor: StrictCursor, parser: StrictParser) -> list[tuple[bytes, bytes]]:
    """RFC 4314 section 3.6: identifiers and rights."""
    cursor.space()
    cursor.mailbox()
    found = []
    while cursor.skip(b" "):
        identifier = cursor.astring()
        cursor.space()
        found.append((identifier, _rights(cursor)))
    return found


def _list_rights(cursor: StrictCursor, parser: StrictParser) -> list[bytes]:
    """RFC 4314 section 3.7: required rights, and those that may be given; each once."""
    cursor.space()
    cursor.mailbox()
    cursor.space()
    cursor.astring()
    found = []
    while cursor.skip(b" "):
        found.append(_rights(cursor))
    every = b"".join(found)
    if not found or len(set(every)) < len(every):
        cursor.fail("LISTRIGHTS has no rights before this, or one twice")
    return found


def _my_rights(cursor: StrictCursor, parser: StrictParser) -> bytes:
    """RFC 4314 section 3.8."""
    cursor.space()
    cursor.mailbox()
    cursor.space()
    return _rights(cursor)


def _metadata(cursor: StrictCursor, parser: StrictParser) -> dict[bytes, bytes | None]:
    """RFC 5464 section 4.4: entries with values in parentheses, or names of what changed."""
    cursor.space()
    cursor.mailbox()
    cursor.space()
    if not cursor.next_is(b"("):
        names: dict[bytes, bytes | None] = {cursor.astring(): None}
        while cursor.next_is(b" "):
            cursor.space()
            names[cursor.astring()] = None
        return names

    def entry() -> tuple[bytes, bytes | None]:
        name = cursor.astring()
        cursor.space()
        return name, cursor.literal8() if cursor.next_is(b"~") else cursor.nstring()

    return dict(cursor.listed(entry))


_UNTAGGED: Final[dict[str, _Untagged]] = {
    "ACL": _acl,
    "CAPABILITY": _capabilities,
    "ENABLED": _enabled,
    "ESEARCH": _esearch,
    "FLAGS": _flags,
    "ID": _id,
    "LIST": _list,
    "LISTRIGHTS": _list_rights,
    "LSUB": _list,
    "METADATA": _metadata,
    "MYRIGHTS": _my_rights,
    "NAMESPACE": _namespace,
    "QUOTA": _quota,
    "QUOTAROOT": _quota_root,
    "SEARCH": _search,
    "SORT": _numbers,
    "STATUS": _status,
    "THREAD": _thread,
    "VANISHED": _vanished,
}


# -- data about messages ----------


def _nothing(cursor: StrictCursor, parser: StrictParser, number: int) -> None:
    """EXISTS."""


def _recent(cursor: StrictCursor, parser: StrictParser, number: int) -> None:
    if parser.rev2:
        cursor.fail("RECENT is not of IMAP4rev2")


def _expunge(cursor: StrictCursor, parser: StrictParser, number: int) -> None:
    """RFC 7162 section 3.2.10: with QRESYNC it is VANISHED instead."""
    if not number:
        cursor.fail("EXPUNGE of number 0")
    if parser.qresync or parser.uid_only:
        cursor.fail("EXPUNGE to a client that has enabled QRESYNC or UIDONLY")


def _fetch(cursor: StrictCursor, parser: StrictParser, number: int) -> dict[str, Any]:
    """msg-att; each item once, by its name with section and origin."""
    if parser.uid_only:
        cursor.fail("FETCH to a client that has enabled UIDONLY")
    return _msg_att(cursor, number)


def _uid_fetch(cursor: StrictCursor, parser: StrictParser, number: int) -> dict[str, Any]:
    """RFC 9586 section 3.3; a UID among the items is that of the response."""
    if not parser.uid_only:
        cursor.fail("UIDFETCH to a client that has not enabled UIDONLY")
    found = _msg_att(cursor, number)
    if found.get("UID", number) != number:
        cursor.fail("UIDFETCH of another UID before this")
    return found


def _msg_att(cursor: StrictCursor, number: int) -> dict[str, Any]:
    if not number:
        cursor.fail("FETCH of number 0")
    cursor.space()
    found: dict[str, Any] = {}

    def item() -> None:
        name = cursor.word()
        if name in ("BODY", "BINARY", "BINARY.SIZE") and cursor.next_is(b"["):
            began = cursor.at
            _section(cursor, binary=name != "BODY")
            if name != "BINARY.SIZE" and cursor.skip(b"<"):
                cursor.number64()
                cursor.expect(b">")
            key = name + cursor.data[began : cursor.at].decode()
            name += "[]"
        else:
            key = name
        if name not in _FETCH or key in found:
            cursor.fail(f"{key} is no item of FETCH, or is there twice")
        cursor.space()
        found[key] = _FETCH[name](cursor)

    cursor.listed(item)
    return found


_PART: Final = re.compile(rb"[1-9][0-9]*(?:\.[1-9][0-9]*)*")
_SECTION_TEXT: Final = re.compile(rb"HEADER\.FIELDS\.NOT|HEADER\.FIELDS|HEADER|TEXT|MIME", re.I)


def _section(cursor: StrictCursor, *, binary: bool) -> None:
    """`[1.2.HEADER.FIELDS (a b)]`; of BINARY the numbers alone."""
    cursor.expect(b"[")
    if cursor.skip(b"]"):
        return
    part = _PART.match(cursor.data, cursor.at)
    if part is not None:
        cursor.at = part.end()
        if cursor.skip(b"]"):
            return
        cursor.expect(b".")
    if binary:
        cursor.fail("BINARY names parts by their numbers alone")
    kind = cursor.match(_SECTION_TEXT, "a kind of section")[0].upper()
    if kind == b"MIME" and part is None:
        cursor.fail("MIME is of a part")
    if kind.startswith(b"HEADER.FIELDS"):
        cursor.space()
        cursor.listed(cursor.astring)
    cursor.expect(b"]")


def _binary(cursor: StrictCursor) -> bytes | None:
    return cursor.literal8() if cursor.next_is(b"~") else cursor.nstring()


def _flags_of(cursor: StrictCursor) -> list[bytes]:
    found = cursor.listed(cursor.flag, empty=True)
    if len({one.lower() for one in found}) < len(found):
        cursor.fail("a flag before this is told twice")
    return found


def _preview(cursor: StrictCursor) -> str | None:
    """UTF-8 of at most 256 characters (RFC 8970 section 3.3)."""
    octets = cursor.nstring()
    text = None if octets is None else octets.decode()
    if text is not None and len(text) > 256:
        cursor.fail("a preview before this is too long")
    return text


_FETCH: Final[dict[str, Callable[[StrictCursor], Any]]] = {
    "BINARY.SIZE[]": StrictCursor.number,
    "BINARY[]": _binary,
    "BODY": lambda cursor: body(cursor, extended=False),
    "BODYSTRUCTURE": lambda cursor: body(cursor, extended=True),
    "BODY[]": StrictCursor.nstring,
    "EMAILID": lambda cursor: cursor.listed(cursor.object_id)[0],
    "ENVELOPE": envelope,
    "FLAGS": _flags_of,
    "INTERNALDATE": StrictCursor.date_time,
    "MODSEQ": lambda cursor: cursor.listed(cursor.modseq)[0],
    "PREVIEW": _preview,
    "RFC822": StrictCursor.nstring,
    "RFC822.HEADER": StrictCursor.nstring,
    "RFC822.SIZE": StrictCursor.number64,
    "RFC822.TEXT": StrictCursor.nstring,
    "SAVEDATE": lambda cursor: None if cursor.nil() else cursor.date_time(),
    "THREADID": lambda cursor: None if cursor.nil() else cursor.listed(cursor.object_id)[0],
    "UID": StrictCursor.nz_number,
}

_NUMBERED: Final[dict[str, Callable[[StrictCursor, StrictParser, int], Any]]] = {
    "EXISTS": _nothing,
    "EXPUNGE": _expunge,
    "FETCH": _fetch,
    "RECENT": _recent,
    "UIDFETCH": _uid_fetch,
}
