"""Bringing one mailbox to the state that the source has of it.

First by what changed since the own modseq and what was expunged since. Where that cannot be told or
does not lead to the source's digest, by comparing the messages themselves. It cannot be told when
the expunge log was cut, or the own state is no earlier one of the source's. Where own records are
damaged, or suspect, they are first checked one by one, and bad ones dropped.

The mailbox's record is written together with every part of the messages, at the modseq reached: a
resync that is broken off in the middle goes on from there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Protocol
from zlib import crc32

from raftmail.mail.flags import SEEN
from raftmail.mail.packing import Raw, unpack
from raftmail.mail.uidset import STAR, UID_MAX, UidSet
from raftmail.resync import requests as r
from raftmail.resync.ranges import Range, digest_of, number_range
from raftmail.resync.requests import RequestKind
from raftmail.resync.survey import WORKED, NotAsAsked, Step, SurveyRequest, Task, fetch, survey
from raftmail.resync.writer import Writer, fields_of
from raftmail.storage.kv import PAGE_ROWS, Row, Table, scan
from raftmail.storage.messages import read_uids
from raftmail.storage.records import (
    CHANGE_KEY,
    CRC,
    DIGEST_MASK,
    EXPUNGE_KEY,
    FIXED,
    MESSAGE_BODY,
    MESSAGE_KEY,
    NUMBER,
    IndexDamaged,
    MailboxRecord,
    message_digest,
    unpack_message,
    unseal,
)

_COMPARE_LEVELS = (256, 16)
_SUMMARIES_PAGE = 100


class Tally(Protocol):
    """Where progress is counted."""

    messages_done: int


class MailboxPull:
    """One mailbox. `record` is the source's, `target` what it says; `check`: the own records are
    suspect."""

    def __init__(
        self, writer: Writer, tally: Tally, record: bytes, target: MailboxRecord, *, check: bool
    ) -> None:
        self._writer = writer
        self._tally = tally
        self._record = record
        self._target = target
        self._check = check
        self._range = number_range(NUMBER.pack(target.number))

    def run(self) -> Task:
        """The task. Raises `CodecError` when the source's records do not give its digest."""
        writer, target = self._writer, self._target
        own, damaged = writer.own_mailbox(target.number)
        check = self._check or damaged
        if own is not None and _another(own, target):
            yield from drop_mailbox(writer, own)
            own = None
        at = own or _empty(target)
        if own is None and writer.messages.page(*self._ends(), 1):
            check = True
        if not check and _is_earlier(at, target):
            try:
                yield from self._delta(at)
            except IndexDamaged:
                check = True
            if not check and not _alike(at, target):
                writer.distrust_counts()
        if check or not _alike(at, target):
            yield from self._compare_until_alike(at, check=check)
        rows = sum(1 for _ in self._keys(writer.expunges))
        if rows != target.expunge_rows:
            raise NotAsAsked(
                f"mailbox {target.number} has {rows} rows of its expunge log, and tells of "
                f"{target.expunge_rows}"
            )
        writer.finish_mailbox(own, target, self._record)

    def _compare_until_alike(self, at: MailboxRecord, *, check: bool) -> Step:
        target = self._target
        if not check:
            try:
                yield from self._compare(at, check=False)
            except IndexDamaged:
                check = True
            check = check or not _alike(at, target)
        if check:
            yield from self._compare(at, check=True)
            if not _alike(at, target):
                raise NotAsAsked(
                    f"the messages of mailbox {target.number} do not give the digest it has"
                )

    def _ends(self) -> tuple[bytes, bytes | None]:
        return self._range[0], self._range[1] or None

    def _keys(self, table: Table) -> Iterator[bytes]:
        start, end = self._ends()
        return (key for key, _ in scan(table, start, end))

    # -- what changed since ---------------------------------------------------------------------

    def _delta(self, at: MailboxRecord) -> Step:
        target = self._target
        since = at.highestmodseq
        yield from self._take_expunges(at, since, remove=True)
        modseq, uid = since, STAR
        unknown_from = at.uidnext
        while True:
            payload = r.encode_changes(r.Changes(target.number, modseq, uid, unknown_from))
            answer: r.Changed = yield SurveyRequest(RequestKind.CHANGES, payload, r.decode_changed)
            if not answer.bodies:
                if answer.more:
                    raise NotAsAsked("an answer of changes does not get on")
                return
            modseq, uid = self._take_changes(at, answer, (modseq, uid), unknown_from)
            yield WORKED
            if not answer.more:
                return

    def _take_changes(
        self, at: MailboxRecord, answer: r.Changed, after: tuple[int, int], unknown_from: int
    ) -> tuple[int, int]:
        target = self._target
        messages: list[tuple[bytes, Raw, bytes | None]] = []
        summaries = iter(answer.summaries)
        seen: set[int] = set()
        size = MESSAGE_BODY.size
        for offset in range(0, len(answer.bodies), size):
            body = answer.bodies[offset : offset + size]
            fields = fields_of(body)
            uid, modseq = fields[:2]
            if (modseq, uid) <= after or modseq > target.highestmodseq:
                raise NotAsAsked("changes are not in their order")
            after = (modseq, uid)
            if not 0 < uid < target.uidnext or uid in seen:
                raise NotAsAsked(f"UID {uid} cannot be in mailbox {target.number}")
            seen.add(uid)
            summary = next(summaries, None) if uid >= unknown_from else None
            if (summary is None) == (uid >= unknown_from):
                raise NotAsAsked("there are fewer summaries than new messages")
            _check_summary(uid, fields, summary)
            if summary is None and self._writer.needs_summary(
                MESSAGE_KEY.pack(target.number, uid), fields[5]
            ):
                raise IndexDamaged("messages", MESSAGE_KEY.pack(target.number, uid), "it is gone")
            messages.append((body, fields, summary))
        if next(summaries, None) is not None:
            raise NotAsAsked("there are more summaries than new messages")
        self._writer.put_messages(at, messages)
        self._tally.messages_done += len(messages)
        # The last step may go on in the next answer: only those before it are known to be whole.
        at.highestmodseq = max(at.highestmodseq, after[0] - bool(answer.more))
        self._writer.put_mailbox(at)
        return after

    def _take_expunges(self, at: MailboxRecord, since: int, *, remove: bool) -> Step:
        """Bring the expunge log to the source's, and with `remove` take away what vanished after
        `since`."""
        writer, number = self._writer, self._target.number
        table = writer.expunges
        digest = b""
        if remove:
            behind = EXPUNGE_KEY.pack(number, min(since + 1, 2**64 - 1))
            digest = digest_of(table, EXPUNGE_KEY.pack(number, 0), behind)
        after = 0
        while True:
            payload = r.encode_expunges(r.Expunges(number, since, digest, after))
            answer: r.ExpungeRows = yield SurveyRequest(
                RequestKind.EXPUNGES, payload, r.decode_expunge_rows
            )
            if answer.more and not answer.rows:
                raise NotAsAsked("an answer of expunges does not get on")
            if not after:
                for key in list(self._keys(table)):
                    if answer.all_rows or EXPUNGE_KEY.unpack(key)[1] > since:
                        table.delete(key)
                if not answer.all_rows:
                    after = since
            for key, record in answer.rows:
                if len(key) != EXPUNGE_KEY.size:
                    raise NotAsAsked("a row of an expunge log has another key")
                row_number, modseq = EXPUNGE_KEY.unpack(key)
                if row_number != number or not after < modseq <= self._target.highestmodseq:
                    raise NotAsAsked("rows of an expunge log are not in their order")
                after = modseq
                uids = read_uids(key, record)
                table.put(key, record)
                writer.wrote(1, len(record))
                if remove and modseq > since:
                    yield from self._remove(at, uids)
            writer.put_mailbox(at)
            yield WORKED
            if not answer.more:
                return

    def _remove(self, at: MailboxRecord, uids: UidSet) -> Step:
        writer, number = self._writer, self._target.number
        for low, high in uids.ranges():
            start, end = MESSAGE_KEY.pack(number, low), MESSAGE_KEY.pack(number, high + 1)
            most = min(PAGE_ROWS, high - low + 1)
            while True:
                rows = writer.messages.page(start, end, most)
                for key, record in rows:
                    writer.remove_message(at, key, record)
                if len(rows) < most or most < PAGE_ROWS:
                    break
                start = rows[-1][0] + b"\0"
                writer.put_mailbox(at)
                yield WORKED

    # -- comparing ------------------------------------------------------------------------------

    def _compare(self, at: MailboxRecord, *, check: bool) -> Step:
        writer = self._writer
        if check:
            writer.distrust_counts()
            yield from self._check_own()
        yield from self._recount(at)
        found: list[Range] = []
        ranges = [(self._range[0], self._range[1])]
        yield from survey(writer.messages, "messages", ranges, found, _COMPARE_LEVELS)

        def take(covered: Sequence[Range], rows: Sequence[Row]) -> Step:
            yield from self._take_rows(at, covered, rows)

        yield from fetch("messages", found, take)
        yield from self._recount(at)
        yield from self._take_expunges(at, 0, remove=False)

    def _take_rows(self, at: MailboxRecord, covered: Sequence[Range], rows: Sequence[Row]) -> Step:
        writer = self._writer
        theirs: dict[bytes, bytes] = dict(rows)
        for start, end in covered:
            while True:
                page = writer.messages.page(start, end or None, PAGE_ROWS)
                for key, record in page:
                    if key not in theirs:
                        writer.remove_message(at, key, record)
                if len(page) < PAGE_ROWS:
                    break
                start = page[-1][0] + b"\0"
                yield WORKED
        changed: list[tuple[bytes, Raw]] = []
        unknown: list[int] = []
        for key, record in rows:
            fields = self._checked(key, record)
            if writer.messages.get(key) == record:
                continue
            changed.append((record[: MESSAGE_BODY.size], fields))
            if writer.needs_summary(key, fields[5]):
                unknown.append(fields[0])
        summaries: dict[int, bytes] = {}
        while unknown:
            asked = tuple(unknown[: r.UIDS_MAX])
            payload = r.encode_summaries(r.Summaries(self._target.number, asked))
            parts: tuple[bytes, ...] = yield SurveyRequest(
                RequestKind.SUMMARIES, payload, partial(_parts, most=len(asked))
            )
            summaries.update(zip(unknown, parts, strict=False))
            unknown = unknown[len(parts) :]
        messages: list[tuple[bytes, Raw, bytes | None]] = []
        for body, fields in changed:
            summary = summaries.get(fields[0])
            _check_summary(fields[0], fields, summary)
            messages.append((body, fields, summary))
        writer.put_messages(at, messages)
        writer.put_mailbox(at)
        self._tally.messages_done += len(messages)
        yield WORKED

    def _checked(self, key: bytes, record: bytes) -> Raw:
        """The fields of a record of the source's. Raises `CodecError`."""
        if len(key) != MESSAGE_KEY.size or not key.startswith(self._range[0]):
            raise NotAsAsked("a message has another mailbox's key")
        try:
            fields = unpack_message(key, record)
        except IndexDamaged as e:
            raise NotAsAsked(f"the source's {e}") from None
        if message_digest(record[: MESSAGE_BODY.size]) != fields[6]:
            raise NotAsAsked(f"UID {fields[0]} has a digest that is not of its fields")
        if not 0 < fields[0] <= UID_MAX:
            raise NotAsAsked(f"{fields[0]} is no UID")
        return fields[:6]

    def _check_own(self) -> Step:
        """Drop messages whose records or summaries are damaged, summaries that are no message's,
        and write the rows of changes anew."""
        writer = self._writer
        start, end = self._ends()
        while keys := [key for key, _ in writer.changes.page(start, end)]:
            for key in keys:
                writer.changes.delete(key)
            writer.wrote(len(keys), 30 * len(keys))
            yield WORKED
        number = self._target.number
        while True:
            page = writer.messages.page(start, end, _SUMMARIES_PAGE)
            changes: list[Row] = []
            for key, record in page:
                modseq = _good_modseq(key, record, writer.summaries.get(key))
                if modseq:
                    change = CHANGE_KEY.pack(number, modseq, MESSAGE_KEY.unpack(key)[1])
                    changes.append((change, CRC.pack(crc32(change))))
                else:
                    writer.drop_message(key)
            changes.sort()
            writer.changes.put_many(changes)
            writer.wrote(len(changes), 30 * len(changes))
            yield WORKED
            if len(page) < _SUMMARIES_PAGE:
                break
            start = page[-1][0] + b"\0"
        start = self._range[0]
        while page := writer.summaries.page(start, end, _SUMMARIES_PAGE):
            for key, _ in page:
                if writer.messages.get(key) is None:
                    writer.summaries.delete(key)
            yield WORKED
            start = page[-1][0] + b"\0"

    def _recount(self, at: MailboxRecord) -> Step:
        """Count the own messages again. Raises `IndexDamaged`."""
        at.messages = at.unseen = at.size_bytes = 0
        total = 0
        start, end = self._ends()
        while True:
            page = self._writer.messages.page(start, end)
            for key, record in page:
                fields = unpack_message(key, record)
                at.messages += 1
                at.unseen += not fields[2] & SEEN
                at.size_bytes += FIXED.unpack(fields[5])[1]
                total += int.from_bytes(fields[6], "little")
            yield WORKED
            if len(page) < PAGE_ROWS:
                break
            start = page[-1][0] + b"\0"
        at.digest = total & DIGEST_MASK


def drop_mailbox(writer: Writer, mailbox: MailboxRecord) -> Task:
    """Remove a mailbox that the source does not have, with all that is in it."""
    start, end = number_range(NUMBER.pack(mailbox.number))
    while page := writer.messages.page(start, end or None):
        for key, record in page:
            try:
                writer.remove_message(mailbox, key, record)
            except IndexDamaged:
                writer.drop_message(key)
        writer.put_mailbox(mailbox)
        yield WORKED
    for table in (writer.summaries, writer.changes, writer.expunges):
        while page := table.page(start, end or None):
            for key, _ in page:
                table.delete(key)
            writer.wrote(len(page), 100 * len(page))
            yield WORKED
    writer.drop_name(mailbox)
    writer.mailboxes.delete(NUMBER.pack(mailbox.number))


def _good_modseq(key: bytes, record: bytes, sealed: bytes | None) -> int:
    """The modseq of a message that is good, with its summary; else 0."""
    try:
        fields = unpack_message(key, record)
        if sealed is None or message_digest(record[: MESSAGE_BODY.size]) != fields[6]:
            return 0
        summary = unseal("summaries", key, sealed)
    except IndexDamaged:
        return 0
    return int(fields[1]) if crc32(summary) == FIXED.unpack(fields[5])[4] else 0


def _check_summary(uid: int, fields: Raw, summary: bytes | None) -> None:
    if summary is not None and crc32(summary) != FIXED.unpack(fields[5])[4]:
        raise NotAsAsked(f"UID {uid} comes with another message's summary")


def _parts(data: bytes, most: int) -> tuple[bytes, ...]:
    parts = r.decode_parts(unpack(data), most)
    if not parts:
        raise NotAsAsked("an answer of summaries does not get on")
    return parts


def _another(own: MailboxRecord, target: MailboxRecord) -> bool:
    return (own.guid, own.uidvalidity) != (target.guid, target.uidvalidity)


def _empty(target: MailboxRecord) -> MailboxRecord:
    at = MailboxRecord(
        target.number,
        target.user,
        target.name,
        target.guid,
        target.uidvalidity,
        target.special_use,
    )
    at.highestmodseq = 0
    return at


def _is_earlier(at: MailboxRecord, target: MailboxRecord) -> bool:
    """Whether what happened since can be told from the source's logs."""
    return (
        at.highestmodseq <= target.highestmodseq
        and at.uidnext <= target.uidnext
        and (not at.messages or at.highestmodseq >= target.expunge_floor)
    )


def _alike(at: MailboxRecord, target: MailboxRecord) -> bool:
    return (at.digest, at.messages, at.unseen, at.size_bytes) == (
        target.digest,
        target.messages,
        target.unseen,
        target.size_bytes,
    )
