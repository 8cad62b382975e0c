"""APPEND (RFC 9051 section 6.3.12) and REPLACE (RFC 8508): one entry of the log for each."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Sequence

from raftmail.frontends.imap import commands as i
from raftmail.frontends.imap import responses
from raftmail.frontends.imap.catenate import assembled
from raftmail.frontends.imap.client import Answer, CommandRefused, LoggedInClient
from raftmail.frontends.imap.namespaces import MailboxPlace
from raftmail.frontends.imap.responses import ResponseCode
from raftmail.frontends.imap.view import MailboxView, NoSuchNumber
from raftmail.mail import commands as c
from raftmail.mail.flags import format_flags, parse_flags
from raftmail.mail.queries import MessageInfo
from raftmail.mail.results import SaveResult
from raftmail.mail.summary import encode_summary, summarise
from raftmail.mail.uidset import STAR, UidSet

_INLINE_BYTES_MAX = 256 * 1024
"""Longer messages are hashed and summarised in a thread, so that the others need not wait."""


async def append(client: LoggedInClient, command: i.Append) -> Answer:
    """APPEND (6.3.12): all messages, or none (RFC 3502)."""
    saved = await _save(client, command.name, command.messages)
    return Answer("saved", _append_uid(saved))


async def replace(client: LoggedInClient, command: i.Replace) -> Answer:
    """REPLACE: the new message is there and the old one is gone in one step, or neither. The UID is
    told before EXPUNGE (RFC 8508 section 4.3)."""
    view = client.writable()
    uid = _uid_of(view, command)
    if uid == 0:
        raise CommandRefused(ResponseCode.NONEXISTENT, "there is no such message to replace")
    place = await client.owned_place(command.name)
    if place.owner != view.owner:
        text = "a message is replaced by one in a mailbox of the same owner"
        raise CommandRefused(ResponseCode.CANNOT, text)
    try:
        saved = await _save(client, command.name, (command.message,), (view.number, uid))
    except CommandRefused as e:
        is_there = e.code is ResponseCode.TRYCREATE and (
            place.owner == client.user and await client.reader.mailbox(place.name)
        )
        if not is_there:
            raise
        raise CommandRefused(ResponseCode.NONEXISTENT, str(e)) from None
    client.stale = True
    client.write(b"* OK [%b] the new message\r\n" % _append_uid(saved))
    return Answer("replaced")


def _uid_of(view: MailboxView, command: i.Replace) -> int:
    """The UID of the message that is to go; 0 when there is none. Raises `NoSuchNumber`."""
    if command.uid:
        uid = view.last_uid if command.number == STAR else command.number
        return uid if view.number_of(uid) else 0
    if command.number == STAR:
        return view.last_uid
    if command.number > len(view):
        raise NoSuchNumber(command.number, len(view))
    return view.numbering.uid_of(command.number)


async def _save(
    client: LoggedInClient,
    name: str,
    messages: Sequence[i.AppendMessage],
    replaces: tuple[int, int] | None = None,
) -> SaveResult:
    place = await client.owned_place(name)
    if not client.utf8 and any(message.utf8 for message in messages):
        raise CommandRefused(ResponseCode.CANNOT, "UTF8 (...) is for after ENABLE UTF8=ACCEPT")
    # An 8-bit header in a plain literal is taken from anybody: see docs/architecture/frontends.md.
    async with assembled(client, messages) as whole:
        now_us = int(client.wall_s() * 1_000_000)
        octets = sum(len(message.octets) for message in whole)
        if octets > _INLINE_BYTES_MAX:
            loop = asyncio.get_running_loop()
            made = await loop.run_in_executor(None, _made, place, whole, now_us)
        else:
            made = _made(place, whole, now_us)
        new, blobs = made
        quota_bytes = client.service.quota_of(place.owner)
        quotas = ((place.owner, quota_bytes),) if quota_bytes else ()
        save = c.Save(place.owner, new, now_us // 1_000_000, quotas, replaces=replaces)
        saved = await client.execute(save, blobs, creates=True)
    assert isinstance(saved, SaveResult)
    view = client.view
    where = (place.owner, saved.saved[0].mailbox)
    if view is not None and where == (view.owner, view.number):
        is_known = replaces is None and view.owner == client.user
        came = _came(saved, new) if is_known else ()
        if not came or not view.note_own(came[0].modseq, came=came):
            client.stale = True
    return saved


def _came(saved: SaveResult, new: Sequence[c.NewMessage]) -> Sequence[MessageInfo]:
    """The messages as they are read back. None where any has keywords, whose spelling is the
    mailbox's."""
    came: list[MessageInfo] = []
    for one, message in zip(saved.saved, new, strict=True):
        system, keywords = parse_flags(message.flags)
        if keywords:
            return ()
        flags = format_flags(system, 0, ())
        received_us, size = message.received_us, message.size_bytes
        came.append(
            MessageInfo(one.uid, message.guid, one.modseq, flags, received_us, size, message.blob)
        )
    return came


def _append_uid(saved: SaveResult) -> bytes:
    uids = UidSet.from_uids(one.uid for one in saved.saved)
    return b"APPENDUID %d %b" % (saved.saved[0].uidvalidity, responses.number_set(uids))


def _made(
    place: MailboxPlace, messages: Sequence[i.AppendMessage], now_us: int
) -> tuple[tuple[c.NewMessage, ...], list[c.Blob]]:
    new: list[c.NewMessage] = []
    blobs: list[c.Blob] = []
    for one in messages:
        digest = hashlib.sha256(one.octets).digest()
        received = one.received
        new.append(
            c.NewMessage(
                (c.Target(place.owner, place.name),),
                digest,
                len(one.octets),
                os.urandom(16),
                now_us if received is None else received.received_us,
                one.flags,
                encode_summary(summarise(one.octets)),
                zone_minutes=0 if received is None else received.zone_minutes,
                saved_us=None if received is None else now_us,
            )
        )
        blobs.append((digest, one.octets))
    return tuple(new), blobs
