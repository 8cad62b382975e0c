"""Values of the mail room as they stand on the wire, both directions: the server writes what the
client library reads.

Readers raise `net.lines.ProtocolViolation` for what they cannot understand. docs/protocol.md lists
the fields.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from raftmail.mail.flags import parse_flags
from raftmail.mail.queries import MailboxInfo, MessageInfo, ScriptInfo
from raftmail.mail.results import (
    Code,
    CopyResult,
    Done,
    Executed,
    ExpungeResult,
    MailboxResult,
    Refused,
    Result,
    Saved,
    SaveResult,
    StoreResult,
)
from raftmail.mail.uidset import TEXT_CHARS_MAX, UidSet
from raftmail.net.lines import Line, ProtocolViolation, quote, quote_text

# Flags

_CACHED_FLAGS_BYTES_MAX = 200
_ESCAPE = re.compile(r"[,={}%\"\\]")
_UNESCAPE = re.compile(r"%([0-9A-Fa-f]{2})")


def format_flags(flags: tuple[str, ...]) -> bytes:
    r"""`\Seen,$Junk`; what would be mistaken stands as `%2C`, as in URLs (a keyword has no `%`)."""
    return ",".join(map(_escape, flags)).encode()


@lru_cache(1024)
def _escape(flag: str) -> str:
    system = "\\" if flag.startswith("\\") else ""
    return system + _ESCAPE.sub(lambda m: f"%{ord(m[0]):02X}", flag[len(system) :])


def read_flags(text: bytes) -> tuple[str, ...]:
    """Raises ValueError for what RFC 9051 does not allow as a flag that can be set."""
    if len(text) <= _CACHED_FLAGS_BYTES_MAX:
        return _read_flags(text)
    return _read_flags.__wrapped__(text)


@lru_cache(1024)
def _read_flags(text: bytes) -> tuple[str, ...]:
    if not text:
        return ()
    flags = tuple(text.decode("ascii").split(","))
    if b"%" in text:
        flags = tuple(_UNESCAPE.sub(lambda m: chr(int(m[1], 16)), flag) for flag in flags)
    parse_flags(flags)
    return flags


# Dates

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_INTEGER = re.compile(rb"-?[0-9]{1,19}")


def format_date(received_us: int) -> bytes:
    """RFC 3339 in UTC, or the microseconds since 1970 where that has no year of four digits."""
    try:
        moment = _EPOCH + timedelta(microseconds=received_us)
    except OverflowError:
        return b"%d" % received_us
    return moment.replace(tzinfo=None).isoformat().encode() + b"Z"


def read_date(text: bytes) -> int:
    """Microseconds since 1970, from RFC 3339 or themselves. Raises ValueError."""
    if _INTEGER.fullmatch(text) is not None:
        return int(text)
    moment = datetime.fromisoformat(text.decode("ascii"))
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - _EPOCH) // _MICROSECOND


# Results

_Store = StoreResult


def format_executed(executed: Executed) -> bytes:
    """What follows the tag of an answer to a write, without the line end."""
    result = executed.result
    where = b" index=%d shard=%d master=%b" % (
        executed.index,
        executed.shard,
        _node(executed.master),
    )
    if type(result) is _Store:
        changed = result.changed
        only = changed.only
        if only and not result.rejected:
            return b"OK changed=%d modseq=%d highestmodseq=%d%b" % (
                only,
                result.modseq,
                result.highestmodseq,
                where,
            )
        return b"OK changed=%b rejected=%b modseq=%d highestmodseq=%d%b" % (
            format_uids(changed),
            format_uids(result.rejected),
            result.modseq,
            result.highestmodseq,
            where,
        )
    if type(result) is Refused:
        return b"NO %b %b%b" % (result.code.encode(), quote_text(result.text), where)
    return b"OK" + _FORMATS[type(result)](result) + where


@lru_cache(256)
def _node(name: str) -> bytes:
    return quote(name.encode())


def format_uids(uids: UidSet) -> bytes:
    """A set as a value: nothing for the empty set, a literal for a very long one."""
    return quote(uids.format().encode()) if uids else b""


def _format_mailbox(result: MailboxResult) -> bytes:
    return b" number=%d name=%b guid=%b uidvalidity=%d uidnext=%d highestmodseq=%d messages=%d" % (
        result.number,
        quote(result.name.encode()),
        result.guid.hex().encode(),
        result.uidvalidity,
        result.uidnext,
        result.highestmodseq,
        result.messages,
    )


def _format_saved(result: SaveResult) -> bytes:
    return b" saved=" + quote(
        b",".join(
            b"%d:%d:%d:%d" % (saved.mailbox, saved.uidvalidity, saved.uid, saved.modseq)
            for saved in result.saved
        )
    )


def _format_copy(result: CopyResult) -> bytes:
    return b" uidvalidity=%d target=%d from=%b to=%b source_modseq=%d target_modseq=%d" % (
        result.uidvalidity,
        result.target,
        format_uids(result.source_uids),
        format_uids(result.target_uids),
        result.source_modseq,
        result.target_modseq,
    )


def _format_expunge(result: ExpungeResult) -> bytes:
    return b" uids=%b highestmodseq=%d" % (format_uids(result.uids), result.highestmodseq)


_FORMATS: dict[type, Callable[[Any], bytes]] = {
    Done: lambda result: b"",
    MailboxResult: _format_mailbox,
    SaveResult: _format_saved,
    CopyResult: _format_copy,
    ExpungeResult: _format_expunge,
}

Named = Mapping[bytes, bytes]


def read_uids(text: bytes, *, chars_max: int = TEXT_CHARS_MAX) -> UidSet:
    """A set as a value; nothing is the empty set. Raises ValueError."""
    if text.isdigit() and len(text) < 10 and text[0] != 48:
        return UidSet.single(int(text))
    low, _, high = text.partition(b":")
    if low.isdigit() and high.isdigit() and len(text) < 20 and text[0] != 48 and high[0] != 48:
        return UidSet.from_ranges(((int(low), int(high)),))
    return UidSet.parse(text.decode("ascii"), chars_max=chars_max) if text else UidSet()


def _given(text: bytes) -> UidSet:
    """A set that a server gave, which is as long as it is."""
    return read_uids(text, chars_max=len(text))


def read_store(named: Named) -> StoreResult:
    rejected = named.get(b"rejected")
    return StoreResult(
        _given(named[b"changed"]),
        _given(rejected) if rejected else UidSet(),
        int(named[b"modseq"]),
        int(named[b"highestmodseq"]),
    )


def read_mailbox_result(named: Named) -> MailboxResult:
    return MailboxResult(
        int(named[b"number"]),
        named[b"name"].decode(),
        bytes.fromhex(named[b"guid"].decode()),
        int(named[b"uidvalidity"]),
        int(named[b"uidnext"]),
        int(named[b"highestmodseq"]),
        int(named[b"messages"]),
    )


def read_saved(named: Named, users: tuple[str, ...]) -> SaveResult:
    """`users` are those of the targets, in order; they stand once more for each message."""
    saved = []
    for at, item in enumerate(named[b"saved"].split(b",")):
        mailbox, uidvalidity, uid, modseq = map(int, item.split(b":"))
        saved.append(Saved(users[at % len(users)], mailbox, uidvalidity, uid, modseq))
    return SaveResult(tuple(saved))


def read_copy(named: Named) -> CopyResult:
    return CopyResult(
        int(named[b"uidvalidity"]),
        int(named[b"target"]),
        _given(named[b"from"]),
        _given(named[b"to"]),
        int(named[b"source_modseq"]),
        int(named[b"target_modseq"]),
    )


def read_expunge(named: Named) -> ExpungeResult:
    return ExpungeResult(_given(named[b"uids"]), int(named[b"highestmodseq"]))


def read_executed(line: Line, read: Callable[[Named], Result]) -> Executed:
    """Of an answer OK or NO to a write; `read` makes the result of its named fields.

    Raises `ProtocolViolation`."""
    named = line.named
    try:
        result = read(named) if line.words[1] == b"OK" else read_refused(line)
        return Executed(
            result,
            int(named.get(b"shard", b"0")),
            int(named.get(b"index", b"0")),
            named.get(b"master", b"").decode(),
        )
    except (KeyError, ValueError, IndexError) as error:
        raise ProtocolViolation(f"an answer that makes no sense ({error!r}): {line}") from None


def read_refused(line: Line) -> Refused:
    """Of an answer NO. Raises ValueError or IndexError."""
    return Refused(Code(line.words[2].decode()), line.words[3].decode("utf-8", "replace"))


# Mailboxes and messages


def format_mailbox_info(number: int, info: MailboxInfo) -> bytes:
    """`* MAILBOX number user name uidvalidity uidnext messages ...` with its line end."""
    return (
        b"* MAILBOX %d %b %b %d %d %d number=%d highestmodseq=%d unseen=%d size=%d guid=%b"
        b" special=%b subscribed=%b digest=%b\r\n"
    ) % (
        number,
        quote(info.user.encode()),
        quote(info.name.encode()),
        info.uidvalidity,
        info.uidnext,
        info.messages,
        info.number,
        info.highestmodseq,
        info.unseen,
        info.size_bytes,
        info.guid.hex().encode(),
        quote(info.special_use.encode()),
        b"yes" if info.subscribed else b"no",
        info.digest.hex().encode(),
    )


def read_mailbox_info(line: Line) -> tuple[int, MailboxInfo]:
    """The server's number and what it stands for. Raises `ProtocolViolation`."""
    try:
        _, _, number, user, name, uidvalidity, uidnext, messages = line.words
        named = line.named
        return int(number), MailboxInfo(
            int(named[b"number"]),
            user.decode(),
            name.decode(),
            bytes.fromhex(named[b"guid"].decode()),
            int(uidvalidity),
            int(uidnext),
            int(named[b"highestmodseq"]),
            int(messages),
            int(named[b"unseen"]),
            int(named[b"size"]),
            named[b"special"].decode(),
            named[b"subscribed"] == b"yes",
            bytes.fromhex(named[b"digest"].decode()),
        )
    except (KeyError, ValueError) as error:
        raise ProtocolViolation(f"a mailbox that makes no sense ({error!r}): {line}") from None


def format_message_info(number: int, info: MessageInfo) -> bytes:
    """`* MESSAGE number uid ...` with its line end."""
    head = b"* MESSAGE %d %d modseq=%d flags=%b date=%b size=%d guid=%b blob=%b" % (
        number,
        info.uid,
        info.modseq,
        format_flags(info.flags),
        format_date(info.received_us),
        info.size_bytes,
        info.guid.hex().encode(),
        info.blob.hex().encode(),
    )
    if info.summary:
        return b"%b summary={%d}\r\n%b\r\n" % (head, len(info.summary), info.summary)
    return head + b"\r\n"


def read_message_info(line: Line) -> tuple[int, MessageInfo]:
    """The server's number of the mailbox and the message. Raises `ProtocolViolation`."""
    try:
        _, _, number, uid = line.words
        named = line.named
        return int(number), MessageInfo(
            int(uid),
            bytes.fromhex(named[b"guid"].decode()),
            int(named[b"modseq"]),
            read_flags(named[b"flags"]),
            read_date(named[b"date"]),
            int(named[b"size"]),
            bytes.fromhex(named[b"blob"].decode()),
            named.get(b"summary", b""),
        )
    except (KeyError, ValueError) as error:
        raise ProtocolViolation(f"a message that makes no sense ({error!r}): {line}") from None


# Scripts


def format_script_info(info: ScriptInfo) -> bytes:
    active = b"yes" if info.active else b"no"
    return b"%b size=%d active=%b" % (quote(info.name.encode()), info.size_bytes, active)


def read_script_info(line: Line) -> ScriptInfo:
    named = line.named
    return ScriptInfo(line.words[2].decode(), int(named[b"size"]), named[b"active"] == b"yes")
