"""COPY, MOVE and EXPUNGE: a command over many messages is carried out page by page."""

from __future__ import annotations

from raftmail.mail.codec_results import COPIED, EXPUNGED
from raftmail.mail.commands import Copy, Expunge
from raftmail.mail.flags import ALL_FLAGS, DELETED, SEEN
from raftmail.mail.limits import COPIED_MAX, TOUCHED_MAX
from raftmail.mail.names import quoted
from raftmail.mail.packing import Raw
from raftmail.mail.results import Code
from raftmail.mail.uidset import UID_MAX, UidSet, UidSetBuilder
from raftmail.shard.state import Refusal, State, masked
from raftmail.storage.dates import dates_to_keep
from raftmail.storage.records import FIXED, MailboxRecord, unpack_message


def expunge(state: State, command: Expunge) -> Raw:
    """Raises `Refusal`."""
    mailbox = state.must_find(command.user, command.mailbox)
    messages = state.index.messages
    wanted = state.chosen(mailbox, command.uids, TOUCHED_MAX)
    removed = UidSetBuilder()
    count = 0
    for rows in messages.pages(mailbox, wanted):
        for key, record in rows:
            fields = unpack_message(key, record)
            if command.only_deleted and not fields[2] & DELETED:
                continue
            messages.remove(mailbox, key, fields)
            fixed = FIXED.unpack(fields[5])
            messages.refer(fixed[3], fixed[1], -1)
            removed.add(fields[0])
            count += 1
        messages.settle()
    if not count:
        return (EXPUNGED, (), mailbox.highestmodseq)
    uids = removed.build()
    mailbox.highestmodseq += 1
    messages.log_expunge(mailbox, mailbox.highestmodseq, uids)
    state.index.mailboxes.touch(mailbox)
    state.rows_changed += count
    return (EXPUNGED, uids.to_wire(), mailbox.highestmodseq)


def copy(
    state: State,
    command: Copy,
    system: int = ALL_FLAGS,
    *,
    keywords: bool = True,
    seen: UidSet | None = None,
) -> Raw:
    """The copies have of the system flags those in `system`, and keywords if they may. `seen` are
    the messages with \\Seen, where whoever copies has the own. Raises `Refusal`."""
    source = state.must_find(command.user, command.mailbox)
    to = command.target
    target = state.destination(to.user, to.mailbox, to.or_inbox)
    wanted = state.chosen(source, command.uids, COPIED_MAX)
    existing, used = _survey(state, source, wanted, command.guids)
    if not keywords:
        used = 0
    names = tuple(name for bit, name in enumerate(source.keywords) if used >> bit & 1)
    masked(target, names, add=True)
    if target is not None and target.uidnext + len(existing) > UID_MAX:
        raise Refusal(Code.LIMIT, f"the UIDs of mailbox {quoted(target.name)} are used up")
    if command.quota_bytes and not (command.move and to.user == command.user):
        state.check_quota(to.user, _size_of(state, source, existing), command.quota_bytes)
    if target is None:
        target = state.make_inbox(to.user, command.uidvalidity_seed)
    return transfer(
        state,
        source,
        target,
        existing,
        used,
        move=command.move,
        saved_us=command.saved_us,
        kept=(system, keywords),
        seen=seen,
    )


def move_all(state: State, source: MailboxRecord, target: MailboxRecord) -> None:
    """Move every message to an empty mailbox."""
    wanted = state.index.messages.resolve(source, UidSet.from_ranges([(1, UID_MAX)]))
    existing, used = _survey(state, source, wanted, ())
    transfer(state, source, target, existing, used, move=True)


def _survey(
    state: State, source: MailboxRecord, wanted: UidSet, guids: tuple[bytes, ...]
) -> tuple[UidSet, int]:
    """The UIDs of `wanted` that exist, and which keywords their messages have. Raises `Refusal`
    when `guids`, if there are any, are not theirs."""
    existing = UidSetBuilder()
    used = at = 0
    for rows in state.index.messages.pages(source, wanted):
        for key, record in rows:
            fields = unpack_message(key, record)
            existing.add(fields[0])
            used |= fields[3] | fields[4] << 64
            if guids:
                if at >= len(guids) or FIXED.unpack(fields[5])[2] != guids[at]:
                    raise Refusal(
                        Code.GUIDMISMATCH, f"UID {fields[0]} is not the message that was meant"
                    )
                at += 1
    if guids and at != len(guids):
        raise Refusal(Code.GUIDMISMATCH, f"{len(guids)} messages were meant, {at} are there")
    return existing.build(), used


def _size_of(state: State, source: MailboxRecord, existing: UidSet) -> int:
    """What messages that exist are together, in bytes."""
    return sum(
        FIXED.unpack(unpack_message(key, record)[5])[1]
        for rows in state.index.messages.pages(source, existing)
        for key, record in rows
    )


def transfer(
    state: State,
    source: MailboxRecord,
    target: MailboxRecord,
    existing: UidSet,
    used: int,
    *,
    move: bool,
    saved_us: int | None = None,
    kept: tuple[int, bool] = (ALL_FLAGS, True),
    seen: UidSet | None = None,
) -> Raw:
    """Copy or move messages that exist; everything was checked. A move within one mailbox gives
    new UIDs (RFC 6851 section 3.3), and is one step of its modseq. `saved_us` is as in `Copy`.
    `kept` are the system flags that the copies may have, and whether they may have keywords.
    `seen` is as in `copy`."""
    if not existing:
        return (COPIED, target.uidvalidity, target.number, (), (), 0, 0)
    index = state.index
    messages = index.messages
    bits = _translate(source, target, used)
    first = target.uidnext
    modseq = target.highestmodseq = target.highestmodseq + 1
    source_modseq = 0
    if move:
        if source is not target:
            source.highestmodseq += 1
        source_modseq = source.highestmodseq
    count = 0
    for rows in messages.pages(source, existing):
        dates_of = messages.dates.of(rows)
        for key, record in rows:
            fields = unpack_message(key, record)
            keywords = fields[3] | fields[4] << 64
            if not kept[1]:
                keywords = 0
            elif bits and keywords:
                keywords = sum(new for old, new in bits if keywords & old)
            summary = messages.summary(key)
            dates = dates_of.get(key)
            if saved_us is not None:
                zone_minutes = 0 if dates is None else dates.zone_minutes
                dates = dates_to_keep(FIXED.unpack(fields[5])[0], zone_minutes, saved_us)
            flags = fields[2]
            if seen is not None:
                flags = flags | SEEN if fields[0] in seen else flags & ~SEEN
            messages.add(target, modseq, flags & kept[0], keywords, fields[5], summary, dates)
            if move:
                messages.remove(source, key, fields)
            else:
                fixed = FIXED.unpack(fields[5])
                messages.refer(fixed[3], fixed[1], 1)
            count += 1
        messages.settle()
    if move:
        messages.log_expunge(source, source_modseq, existing)
        index.mailboxes.touch(source)
    index.mailboxes.touch(target)
    state.rows_changed += count
    given = UidSet.from_ranges([(first, target.uidnext - 1)])
    return (
        COPIED,
        target.uidvalidity,
        target.number,
        existing.to_wire(),
        given.to_wire(),
        source_modseq,
        modseq,
    )


def _translate(source: MailboxRecord, target: MailboxRecord, used: int) -> list[tuple[int, int]]:
    """Give the target the keywords in use; pairs of bits in the source and in the target, none
    where all are the same."""
    names = [(bit, name) for bit, name in enumerate(source.keywords) if used >> bit & 1]
    target.add_keywords(tuple(name for _, name in names if name.lower() not in target.bits))
    pairs = [(1 << bit, 1 << target.bits[name.lower()]) for bit, name in names]
    return [] if all(old == new for old, new in pairs) else pairs
