"""Commands that change messages (RFC 9051 sections 6.3.12 and 6.4)."""

from __future__ import annotations

import asyncio
import hashlib
import os

from raftmail.frontends.imap import commands as i
from raftmail.frontends.imap import responses
from raftmail.frontends.imap.client import (
    Answer,
    CommandRefused,
    Extension,
    LoggedInClient,
    good_name,
    parts_of,
)
from raftmail.frontends.imap.responses import ResponseCode
from raftmail.frontends.imap.sequence import SequenceSet
from raftmail.frontends.imap.view import MailboxView
from raftmail.mail import commands as c
from raftmail.mail.limits import COPIED_MAX, TOUCHED_MAX
from raftmail.mail.results import CopyResult, SaveResult, StoreResult
from raftmail.mail.summary import encode_summary, summarise
from raftmail.mail.uidset import UidSet

_INLINE_BYTES_MAX = 256 * 1024
"""Longer messages are hashed and summarised in a thread, so that the others need not wait."""


# -- APPEND ----------


async def append(client: LoggedInClient, command: i.Append) -> Answer:
    """APPEND (6.3.12): all messages, or none (RFC 3502)."""
    name = good_name(command.name)
    most = client.limits.message_bytes_max
    for message in command.messages:
        if len(message.octets) > most:
            raise CommandRefused(
                ResponseCode.TOOBIG, f"a message may have {most} bytes, not {len(message.octets)}"
            )
        if not message.octets:
            raise CommandRefused(ResponseCode.CANNOT, "a message is not empty")
    now_us = int(client.wall_s() * 1_000_000)
    octets = sum(len(message.octets) for message in command.messages)
    if octets > _INLINE_BYTES_MAX:
        loop = asyncio.get_running_loop()
        made = await loop.run_in_executor(None, _made, client.user, name, command, now_us)
    else:
        made = _made(client.user, name, command, now_us)
    messages, blobs = made
    quota_bytes = client.service.quota_of(client.user)
    quotas = ((client.user, quota_bytes),) if quota_bytes else ()
    save = c.Save(client.user, messages, now_us // 1_000_000, quotas)
    saved = await client.execute(save, blobs, creates=True)
    assert isinstance(saved, SaveResult)
    uids = UidSet.from_uids(one.uid for one in saved.saved)
    view = client.view
    if view is not None and saved.saved[0].mailbox == view.number:
        client.stale = True
    code = b"APPENDUID %d %b" % (saved.saved[0].uidvalidity, responses.number_set(uids))
    return Answer("saved", code)


def _made(
    user: str, name: str, command: i.Append, now_us: int
) -> tuple[tuple[c.NewMessage, ...], list[c.Blob]]:
    messages: list[c.NewMessage] = []
    blobs: list[c.Blob] = []
    for one in command.messages:
        digest = hashlib.sha256(one.octets).digest()
        received_us = now_us if one.received is None else max(one.received.received_us, 0)
        messages.append(
            c.NewMessage(
                (c.Target(user, name),),
                digest,
                len(one.octets),
                os.urandom(16),
                received_us,
                one.flags,
                encode_summary(summarise(one.octets)),
            )
        )
        blobs.append((digest, one.octets))
    return tuple(messages), blobs


# -- STORE ----------


async def store(client: LoggedInClient, command: i.ImapStore) -> Answer:
    """STORE (6.4.6), and RFC 7162 section 3.1.3."""
    view = client.writable()
    if command.unchanged_since is not None:
        client.enabled.add(Extension.CONDSTORE)
        view.tells_modseq = True
    uids = view.choose(command.sequence, by_uid=command.uid)
    changed, rejected = UidSet(), UidSet()
    since = -1 if command.unchanged_since is None else command.unchanged_since
    for part in parts_of(uids, TOUCHED_MAX):
        done = await client.execute(
            c.Store(client.user, view.number, part, command.mode, command.flags, since)
        )
        assert isinstance(done, StoreResult)
        changed, rejected = changed | done.changed, rejected | done.rejected
    await _tell_flags(client, view, command, uids - rejected, changed)
    client.stale = True
    if rejected:
        shown = rejected if command.uid else _numbers(view, rejected)
        code = b"MODIFIED %b" % responses.number_set(shown)
        return Answer("some were changed meanwhile", code, expunges=command.uid)
    return Answer("stored", expunges=command.uid)


async def _tell_flags(
    client: LoggedInClient, view: MailboxView, command: i.ImapStore, uids: UidSet, changed: UidSet
) -> None:
    """Flags as they are now; of a silent STORE the modseq alone, where the client wants it."""
    if command.silent and not view.tells_modseq:
        async for page in client.reader.pages(view.number, changed):
            for message in page.messages:
                view.told(message.uid, message.modseq)
        return
    async for page in client.reader.pages(view.number, changed if command.silent else uids):
        await client.drained()
        for message in page.messages:
            number = view.number_of(message.uid)
            if not number:
                continue
            parts = [b"UID %d" % message.uid] if command.uid or client.qresync else []
            if not command.silent:
                parts.append(b"FLAGS " + responses.flags(message.flags))
            if view.tells_modseq:
                parts.append(b"MODSEQ (%d)" % message.modseq)
            client.write(b"* %d FETCH (%b)\r\n" % (number, b" ".join(parts)))
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
    target = c.Target(client.user, good_name(name))
    quota_bytes = client.service.quota_of(client.user)
    uidvalidity, sources, targets = 0, UidSet(), UidSet()
    for part in parts_of(uids, COPIED_MAX):
        done = await client.execute(
            c.Copy(
                client.user,
                view.number,
                part,
                target,
                int(client.wall_s()),
                move,
                quota_bytes=quota_bytes,
            ),
            creates=True,
        )
        assert isinstance(done, CopyResult)
        uidvalidity = done.uidvalidity
        sources, targets = sources | done.source_uids, targets | done.target_uids
        if move and done.source_uids:
            told = _copy_uid(uidvalidity, done.source_uids, done.target_uids)
            client.write(b"* OK [%b] moved\r\n" % told)
    client.stale = True
    if not uids:
        if await client.reader.mailbox(target.mailbox) is None:
            raise CommandRefused(ResponseCode.TRYCREATE, "there is no such mailbox")
        return Answer("there was nothing to copy")
    if move or not sources:
        return Answer("moved" if move else "there was nothing to copy any more")
    return Answer("copied", _copy_uid(uidvalidity, sources, targets))


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
    client.stale = True
    return Answer("expunged", b"HIGHESTMODSEQ %d" % modseq if modseq and client.qresync else b"")
