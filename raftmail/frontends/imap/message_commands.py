"""STORE, COPY, MOVE and EXPUNGE (RFC 9051 section 6.4)."""

from __future__ import annotations

from raftmail.frontends.imap import commands as i
from raftmail.frontends.imap import responses
from raftmail.frontends.imap.client import (
    Answer,
    CommandRefused,
    LoggedInClient,
    parts_of,
)
from raftmail.frontends.imap.mailbox_reader import PAGE_MESSAGES
from raftmail.frontends.imap.namespaces import MailboxPlace
from raftmail.frontends.imap.responses import ResponseCode
from raftmail.frontends.imap.sequence import SequenceSet
from raftmail.frontends.imap.view import MailboxView
from raftmail.mail import commands as c
from raftmail.mail.limits import COPIED_MAX, MESSAGES_MAX, TOUCHED_MAX
from raftmail.mail.results import CopyResult, StoreResult
from raftmail.mail.uidset import UidSet

# -- STORE ----------


async def store(client: LoggedInClient, command: i.ImapStore) -> Answer:
    """STORE (6.4.6), and RFC 7162 section 3.1.3."""
    view = client.writable()
    if command.unchanged_since is not None:
        client.use_modseqs()
    uids = view.choose(command.sequence, by_uid=command.uid)
    changed, rejected = UidSet(), UidSet()
    since = -1 if command.unchanged_since is None else command.unchanged_since
    results: list[StoreResult] = []
    progress = client.progress(len(uids))
    for part in parts_of(uids, TOUCHED_MAX):
        done = await client.execute(
            c.Store(view.owner, view.number, part, command.mode, command.flags, since)
        )
        assert isinstance(done, StoreResult)
        changed, rejected = changed | done.changed, rejected | done.rejected
        results.append(done)
        progress.add(len(part))
    modseqs = [done.modseq for done in results if done.changed]
    told = changed if command.silent else uids - rejected
    # What others changed is told whatever the client asked for (RFC 9051 section 6.4.6).
    is_silent = command.silent and view.saw_all_before(modseqs, uids)
    if is_silent and len(changed) <= PAGE_MESSAGES:
        _tell_modseqs(client, view, results, by_uid=command.uid)
    else:
        silent_to = max(modseqs, default=0) if is_silent else 0
        await _tell_flags(client, view, told, silent_to=silent_to, by_uid=command.uid)
    if rejected or not results or not all(_is_noted(view, done) for done in results):
        client.stale = True
    if rejected:
        shown = rejected if command.uid else _numbers(view, rejected)
        code = b"MODIFIED %b" % responses.number_set(shown)
        return Answer("some were changed meanwhile", code, expunges=command.uid)
    return Answer("stored", expunges=command.uid)


def _is_noted(view: MailboxView, done: StoreResult) -> bool:
    """Note what was stored. False when others changed something that was not read."""
    if done.changed:
        return view.note_own(done.modseq)
    return done.highestmodseq == view.modseq


def _tell_modseqs(
    client: LoggedInClient, view: MailboxView, results: list[StoreResult], *, by_uid: bool
) -> None:
    """Of what a client changed that needs not be told the flags: the modseq, where it is wanted."""
    by_uid = (by_uid or client.qresync) and not client.uid_only
    for done in results:
        for uid in done.changed:
            if view.tells_modseq and view.number_of(uid):
                before = b"UID %d " % uid if by_uid else b""
                client.write(view.fetched(uid, before + b"MODSEQ (%d)" % done.modseq))


async def _tell_flags(
    client: LoggedInClient, view: MailboxView, uids: UidSet, *, silent_to: int, by_uid: bool
) -> None:
    """Flags as they are now; of messages that nobody changed after the modseq `silent_to` the
    modseq alone, where the client wants it."""
    by_uid = (by_uid or client.qresync) and not client.uid_only
    async for page in client.view_reader.pages(view.number, uids):
        await client.drained()
        for message in page.messages:
            silent = message.modseq <= silent_to
            if silent and not view.tells_modseq:
                view.told(message.uid, message.modseq)
                continue
            if not view.number_of(message.uid):
                continue
            before = b""
            parts = [b"UID %d" % message.uid] if by_uid else []
            if not silent:
                before = view.keywords.announce(message.flags)
                parts.append(b"FLAGS " + responses.flags(message.flags))
            if view.tells_modseq:
                parts.append(b"MODSEQ (%d)" % message.modseq)
            client.write(before + view.fetched(message.uid, b" ".join(parts)))
            view.told(message.uid, message.modseq)


def _numbers(view: MailboxView, uids: UidSet) -> UidSet:
    return UidSet.from_uids(number for uid in uids if (number := view.number_of(uid)))


# -- COPY, MOVE ----------


async def copy(client: LoggedInClient, command: i.ImapCopy) -> Answer:
    """COPY (6.4.7)."""
    return await _copy(client, command.sequence, command.name, by_uid=command.uid, move=False)


async def move(client: LoggedInClient, command: i.ImapMove) -> Answer:
    """MOVE (6.4.8): where the messages went is told before they go."""
    client.writable()
    return await _copy(client, command.sequence, command.name, by_uid=command.uid, move=True)


async def _copy(
    client: LoggedInClient, sequence: SequenceSet, name: str, *, by_uid: bool, move: bool
) -> Answer:
    view = client.selected()
    uids = view.choose(sequence, by_uid=by_uid)
    place = await client.owned_place(name)
    target = c.Target(place.owner, place.name)
    quota_bytes = client.service.quota_of(place.owner)
    uidvalidity, sources, targets = 0, UidSet(), UidSet()
    progress = client.progress(len(uids))
    service = client.service
    is_far = service.shard_of(view.owner) != service.shard_of(place.owner)
    for part in parts_of(uids, MESSAGES_MAX if is_far else COPIED_MAX):
        done = await client.execute(
            c.Copy(
                view.owner,
                view.number,
                part,
                target,
                int(client.wall_s()),
                move,
                quota_bytes=quota_bytes,
                saved_us=int(client.wall_s() * 1_000_000),
            ),
            creates=True,
        )
        assert isinstance(done, CopyResult)
        progress.add(len(part))
        uidvalidity = done.uidvalidity
        sources, targets = sources | done.source_uids, targets | done.target_uids
        if move and done.source_uids:
            told = _copy_uid(uidvalidity, done.source_uids, done.target_uids)
            client.write(b"* OK [%b] moved\r\n" % told)
        if (place.owner, done.target) == (view.owner, view.number) or not _is_copy_noted(
            view, part, done
        ):
            client.stale = True
    if not uids:
        await _check_target(client, place)
        return Answer("there was nothing to copy")
    if not sources and not by_uid:
        # Numbers name messages that are gone, and never others (RFC 2180 section 4.4).
        raise CommandRefused(ResponseCode.EXPUNGEISSUED, "those messages are gone")
    if move or not sources:
        return Answer("moved" if move else "there was nothing to copy any more")
    return Answer("copied", _copy_uid(uidvalidity, sources, targets))


async def _check_target(client: LoggedInClient, place: MailboxPlace) -> None:
    """Whether something could be copied there. Raises `CommandRefused`."""
    if place.owner == client.user:
        is_there = await client.reader.mailbox(place.name) is not None
    else:
        found = await client.reader_of(place.owner).shared(place.name)
        is_there = found is not None and not {"l", "i"}.isdisjoint(found[1])
    if not is_there:
        raise CommandRefused(ResponseCode.TRYCREATE, "there is no such mailbox")


def _is_copy_noted(view: MailboxView, wanted: UidSet, done: CopyResult) -> bool:
    """Note what was copied or moved. False when something became of the mailbox that was not
    read."""
    if done.source_uids != wanted:
        return False
    if not done.source_modseq:
        return True
    return view.note_own(done.source_modseq, gone=done.source_uids)


def _copy_uid(uidvalidity: int, sources: UidSet, targets: UidSet) -> bytes:
    """COPYUID (RFC 9051 section 7.1): both sets ascend, and correspond in order."""
    return b"COPYUID %d %b %b" % (
        uidvalidity,
        responses.number_set(sources),
        responses.number_set(targets),
    )


# -- EXPUNGE ----------


async def expunge(client: LoggedInClient, command: i.ImapExpunge) -> Answer:
    """EXPUNGE (6.4.3) and UID EXPUNGE (6.4.9), of messages that the client knows."""
    view = client.writable()
    if command.uids is None:
        uids = view.uids
    else:
        uids = view.choose(command.uids, by_uid=True)
    modseq = await client.expunge(view, uids)
    return Answer("expunged", modseq=modseq if client.qresync else 0)
