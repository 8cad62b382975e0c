"""FETCH and UID FETCH (RFC 9051 section 6.4.5)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Final

from raftmail.frontends.imap import commands as i
from raftmail.frontends.imap import responses
from raftmail.frontends.imap.client import (
    Answer,
    CommandRefused,
    CommandWrong,
    LoggedInClient,
    parts_of,
)
from raftmail.frontends.imap.fetch_items import (
    Attribute,
    BinarySection,
    BinarySize,
    BodySection,
    FetchItem,
    Preview,
)
from raftmail.frontends.imap.fetch_lists import are_listed, fetch_lists
from raftmail.frontends.imap.numbering import Numbering
from raftmail.frontends.imap.partial_range import PartialRange
from raftmail.frontends.imap.previews import LAZY_BYTES_MAX, preview_of
from raftmail.frontends.imap.responses import ResponseCode
from raftmail.frontends.imap.search import saved_us
from raftmail.frontends.imap.sections import (
    binary_of,
    binary_size_of,
    needs_body,
    octets_read,
    section_of,
    shown,
)
from raftmail.frontends.imap.view import MailboxView
from raftmail.mail import commands as c
from raftmail.mail.body import body_from
from raftmail.mail.commands import StoreMode
from raftmail.mail.limits import TOUCHED_MAX
from raftmail.mail.queries import MessageInfo
from raftmail.mail.results import StoreResult
from raftmail.mail.summary import Summary, decode_summary
from raftmail.mail.transfer import UnknownEncodingError
from raftmail.mail.uidset import UidSet
from raftmail.net.limits import MIB
from raftmail.net.turns import after_others

_OF_RECORDS = frozenset(
    (
        Attribute.UID,
        Attribute.FLAGS,
        Attribute.INTERNALDATE,
        Attribute.SAVEDATE,
        Attribute.SIZE,
        Attribute.MODSEQ,
        Attribute.EMAILID,
        Attribute.THREADID,
    )
)
"""Attributes that a message's record has without its summary."""


_TIMES_MAX: Final = 4
_SPARE_BYTES: Final = 1 * MIB
"""One answer has at most so many times the octets of its message, and these. Sections lie in one
another, but clients do not ask for many that do."""

_INLINE_BYTES_MAX: Final = 64 * 1024
"""More than that is decoded in a thread, so that the others need not wait."""

_TURN_ITEMS: Final = 200
"""Told in one turn of the loop."""


async def fetch(client: LoggedInClient, command: i.ImapFetch) -> Answer:
    """FETCH, with RFC 7162's modifiers."""
    view = client.selected()
    items = _all_items(client, view, command)
    uids = view.choose(command.sequence, by_uid=command.uid)
    if command.partial is not None:
        uids = _part_of(uids, command.partial)
    if command.vanished:
        await _tell_vanished(client, view, command)
    if marks_seen(view) and any(_makes_seen(item) for item in items):
        changed = await _mark_seen(client, view, uids)
        if changed and Attribute.FLAGS not in items:
            items = (*items, Attribute.FLAGS)
    since = command.changed_since or 0
    told = await fetch_uids(client, view, uids, items, since)
    if not since and told < len(uids):
        return Answer("some are gone", ResponseCode.EXPUNGEISSUED.value, expunges=command.uid)
    return Answer("fetched", expunges=command.uid)


def marks_seen(view: MailboxView) -> bool:
    """Whether what is read is marked: not without the right to it (RFC 4314 section 4)."""
    return not view.read_only and "s" in view.rights


async def _mark_seen(client: LoggedInClient, view: MailboxView, uids: UidSet) -> UidSet:
    """The messages that were not seen before. There are none where the right was taken away, or
    no more can be kept of what a guest has seen."""
    changed = UidSet()
    for part in parts_of(uids, TOUCHED_MAX):
        store = c.Store(view.owner, view.number, part, StoreMode.ADD, ("\\Seen",))
        try:
            done = await client.execute(store)
        except CommandRefused as e:
            if e.code not in (ResponseCode.NOPERM, ResponseCode.LIMIT):
                raise
            return changed
        assert isinstance(done, StoreResult)
        changed = changed | done.changed
    return changed


def never_changes(client: LoggedInClient, command: i.ImapFetch) -> bool:
    """Whether a client asks only for what is the same of a message for ever. That is read without a
    barrier of its own, also of a message that another client has just expunged."""
    view = client.view
    return (
        view is not None
        and command.changed_since is None
        and not any(
            item in (Attribute.FLAGS, Attribute.MODSEQ) or (_makes_seen(item) and marks_seen(view))
            for item in command.items
        )
    )


async def fetch_uids(
    client: LoggedInClient,
    view: MailboxView,
    uids: UidSet,
    items: Sequence[FetchItem],
    since: int = 0,
) -> int:
    """Tell items of messages that changed after a modseq; of how many. Raises `Unavailable`,
    `MailboxGone`, `CommandRefused`."""
    if not since and are_listed(items):
        return await fetch_lists(client, view, uids, items)
    return await _fetch_each(client, view, uids, since, items)


async def _fetch_each(
    client: LoggedInClient, view: MailboxView, uids: UidSet, since: int, items: Sequence[FetchItem]
) -> int:
    """Tell attributes and texts of messages; of how many. One that cannot be decoded does not keep
    the others from being told: it is refused at the end."""
    summaries = any(item not in _OF_RECORDS for item in items)
    told = items_told = 0
    refused: CommandRefused | None = None
    async for page in client.view_reader.pages(
        view.number, uids, changed_since=since, summaries=summaries
    ):
        for message in page.messages:
            items_told += len(items)
            if items_told > _TURN_ITEMS:
                items_told = 0
                await after_others()
            if not view.number_of(message.uid):
                continue
            try:
                if not await _tell(client, view, message, items):
                    continue
            except CommandRefused as e:
                refused = e
                continue
            told += 1
            if Attribute.FLAGS in items:
                view.told(message.uid, message.modseq)
            client.told_modseq(message.modseq)
        await client.drained()
    if refused is not None:
        raise refused
    return told


def _part_of(uids: UidSet, partial: PartialRange) -> UidSet:
    """Those of the messages that PARTIAL means (RFC 9394 section 3.3)."""
    numbering = Numbering(uids)
    first, last = partial.among(numbering.count)
    if last < first:
        return UidSet()
    return numbering.numbered(UidSet.from_ranges([(first, last)]))


def _all_items(
    client: LoggedInClient, view: MailboxView, command: i.ImapFetch
) -> tuple[FetchItem, ...]:
    """What is asked for, and what the form of the command adds (RFC 7162 section 3.1.4)."""
    items = list(command.items)
    if command.uid and not client.uid_only and Attribute.UID not in items:
        items.insert(0, Attribute.UID)
    if command.changed_since is not None or Attribute.MODSEQ in items:
        client.use_modseqs()
    if command.changed_since is not None and Attribute.MODSEQ not in items:
        items.append(Attribute.MODSEQ)
    if command.vanished and not client.qresync:
        raise CommandWrong("VANISHED is for those who have enabled QRESYNC")
    return tuple(items)


def _makes_seen(item: FetchItem) -> bool:
    return isinstance(item, BodySection | BinarySection) and not item.peek


async def _tell_vanished(client: LoggedInClient, view: MailboxView, command: i.ImapFetch) -> None:
    vanished = await client.view_reader.vanished(view.number, command.changed_since or 0)
    wanted = command.sequence.numbers
    found = (vanished & wanted) - view.uids
    for piece in responses.number_sets(found):
        client.write(b"* VANISHED (EARLIER) %b\r\n" % piece)


async def _tell(
    client: LoggedInClient, view: MailboxView, message: MessageInfo, items: Sequence[FetchItem]
) -> bool:
    """Tell of one message; False when it has gone meanwhile."""
    summary = decode_summary(message.summary) if message.summary else None
    if summary is not None:
        _check_octets(message, summary, items)
    kept = None
    makes_preview = False
    for item in items:
        if isinstance(item, Preview) and kept is None:
            kept = client.context.previews.get(message.blob)
            if kept is None and (not item.lazy or message.size_bytes <= LAZY_BYTES_MAX):
                makes_preview = summary is not None
    needed = summary is not None and any(needs_body(summary, item) for item in items)
    if not (needed or makes_preview):
        client.write(_line(view, message, summary, b"", items, kept))
        return True
    async with client.body(view.number, message.uid) as body:
        if body is None:
            return False
        if makes_preview:
            assert summary is not None
            kept = preview_of(summary, body)
            client.context.previews.put(message.blob, kept)
        if summary is not None and _decoded_octets(summary, items) > _INLINE_BYTES_MAX:
            look = partial(_values, message, summary, body, items, kept)
            values = await asyncio.get_running_loop().run_in_executor(None, look)
            client.write(_with_values(view, message, items, values))
        else:
            client.write(_line(view, message, summary, body, items, kept))
        await client.drained()
    return True


def _decoded_octets(summary: Summary, items: Sequence[FetchItem]) -> int:
    """What has to be decoded of a message."""
    return sum(
        octets_read(summary, item)
        for item in items
        if isinstance(item, BinarySection | BinarySize) and item.part
    )


def _check_octets(message: MessageInfo, summary: Summary, items: Sequence[FetchItem]) -> None:
    """Raises CommandRefused for sections that are many times the message."""
    octets = sum(
        octets_read(summary, item)
        for item in items
        if isinstance(item, BodySection | BinarySection | BinarySize)
    )
    most = _TIMES_MAX * summary.size + _SPARE_BYTES
    if octets > most:
        raise CommandRefused(
            ResponseCode.LIMIT,
            f"the sections of the message with UID {message.uid} have {octets} octets together; "
            f"one FETCH tells at most {most} of it: ask for fewer at once",
        )


def _line(
    view: MailboxView,
    message: MessageInfo,
    summary: Summary | None,
    body: bytes,
    items: Sequence[FetchItem],
    preview: str | None,
) -> bytes:
    return _with_values(view, message, items, _values(message, summary, body, items, preview))


def _values(
    message: MessageInfo,
    summary: Summary | None,
    body: bytes,
    items: Sequence[FetchItem],
    preview: str | None,
) -> bytes:
    return b" ".join(_value(item, message, summary, body, preview) for item in items)


def _with_values(
    view: MailboxView, message: MessageInfo, items: Sequence[FetchItem], values: bytes
) -> bytes:
    line = view.fetched(message.uid, values)
    return view.keywords.announce(message.flags) + line if Attribute.FLAGS in items else line


def _value(
    item: FetchItem,
    message: MessageInfo,
    summary: Summary | None,
    body: bytes,
    preview: str | None,
) -> bytes:
    if isinstance(item, Attribute):
        simple = _simple(item, message)
        if simple is not None:
            return simple
        assert summary is not None
        if item is Attribute.ENVELOPE:
            return b"ENVELOPE " + summary.envelope
        if item is Attribute.BODYSTRUCTURE:
            return b"BODYSTRUCTURE " + summary.bodystructure
        return b"BODY " + body_from(summary.bodystructure)
    if isinstance(item, Preview):
        return b"PREVIEW " + responses.nstring(None if preview is None else preview.encode())
    assert summary is not None
    if isinstance(item, BodySection):
        return _section(item, summary, body)
    return _binary(item, summary, body)


def _simple(item: Attribute, message: MessageInfo) -> bytes | None:
    """An attribute of the record; None when it is one of the summary."""
    match item:
        case Attribute.UID:
            return b"UID %d" % message.uid
        case Attribute.FLAGS:
            return b"FLAGS " + responses.flags(message.flags)
        case Attribute.INTERNALDATE:
            shown = responses.internal_date(message.received_us, message.zone_minutes)
            return b"INTERNALDATE " + shown
        case Attribute.SAVEDATE:
            return b"SAVEDATE " + responses.internal_date(saved_us(message))
        case Attribute.SIZE:
            return b"RFC822.SIZE %d" % message.size_bytes
        case Attribute.MODSEQ:
            return b"MODSEQ (%d)" % message.modseq
        case Attribute.EMAILID:
            return b"EMAILID (M%b)" % message.guid.hex().encode()
        case Attribute.THREADID:
            return b"THREADID NIL"
    return None


def _section(item: BodySection, summary: Summary, body: bytes) -> bytes:
    found = section_of(summary, body, item)
    return b"%b %b" % (shown(item), b"NIL" if found is None else responses.literal(found))


def _binary(item: BinarySection | BinarySize, summary: Summary, body: bytes) -> bytes:
    try:
        if isinstance(item, BinarySize):
            return b"%b %d" % (shown(item), binary_size_of(summary, body, item))
        found = binary_of(summary, body, item)
    except UnknownEncodingError as e:
        raise CommandRefused(ResponseCode.UNKNOWN_CTE, str(e)) from None
    return b"%b %b" % (shown(item), b"NIL" if found is None else responses.binary(found))
