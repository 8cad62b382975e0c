"""Commands about mailboxes as a whole (RFC 9051 section 6.3)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from itertools import compress

from raftmail.frontends.imap import commands as i
from raftmail.frontends.imap import responses
from raftmail.frontends.imap.client import (
    WRITING,
    Answer,
    CommandRefused,
    CommandWrong,
    Extension,
    LoggedInClient,
    good_name,
)
from raftmail.frontends.imap.keywords import Keywords
from raftmail.frontends.imap.mailbox_reader import ALL_UIDS, MailboxGone
from raftmail.frontends.imap.namespaces import OTHER_USERS, SHARED_FOLDERS
from raftmail.frontends.imap.responses import ResponseCode
from raftmail.frontends.imap.special_uses import special_use
from raftmail.frontends.imap.view import MailboxView
from raftmail.mail import commands as c
from raftmail.mail.names import INBOX
from raftmail.mail.queries import MailboxContents, MailboxInfo
from raftmail.mail.results import MailboxResult
from raftmail.mail.uidset import UidSet
from raftmail.net.turns import after_others


def mailbox_id(guid: bytes) -> bytes:
    """An object id (RFC 8474 section 4) of a mailbox."""
    return b"F" + guid.hex().encode()


_OWN_RIGHTS = (("\\Deleted", "t"), ("\\Seen", "s"))
"""The flags that have rights of their own."""

# -- SELECT, EXAMINE, CLOSE, UNSELECT ----------


async def select(client: LoggedInClient, command: i.Select) -> Answer:
    """SELECT and EXAMINE (6.3.2, 6.3.3), with RFC 7162's parameters."""
    if command.qresync is not None and not client.qresync:
        raise CommandWrong("QRESYNC is for those who have enabled it (RFC 7162 section 3.2.5)")
    if client.view is not None:
        client.view = None
        client.write(b"* OK [CLOSED] the mailbox before is closed\r\n")  # RFC 7162 section 3.2.11
    client.stale = False
    info, rights = await client.locate(command.name, "r")
    client.heard_modseq = 0
    view = MailboxView(client.full_name(info), info.number, info.uidvalidity)
    view.owner, view.rights = info.user, rights
    view.read_only = command.read_only or WRITING.isdisjoint(rights)
    view.uid_only = client.uid_only
    if command.condstore:
        client.enabled.add(Extension.CONDSTORE)
    view.tells_modseq = bool(client.enabled & {Extension.CONDSTORE, Extension.QRESYNC})
    client.view_reader = client.reader_of(info.user)
    contents = await client.view_reader.contents(info.number)
    view.begin(contents.uids, contents.mailbox.highestmodseq)
    client.view = view
    _tell_selected(client, view, contents)
    if command.qresync is not None:
        uidnext = _uidnext(view, contents)
        await _tell_since(client, view, command.qresync, uidnext)
    code = ResponseCode.READ_ONLY if view.read_only else ResponseCode.READ_WRITE
    return Answer("the mailbox is open", code.value)


def _tell_selected(client: LoggedInClient, view: MailboxView, contents: MailboxContents) -> None:
    info = contents.mailbox
    unseen = view.number_of(contents.first_unseen)
    view.keywords = Keywords(contents.keywords)
    flags = view.keywords.shown
    kept = b"()" if view.read_only else _kept_flags(view, contents.keywords)
    write = client.write
    write(b"* FLAGS %b\r\n" % flags)
    write(b"* OK [PERMANENTFLAGS %b] these are kept\r\n" % kept)
    write(b"* %d EXISTS\r\n" % len(view))
    if not client.rev2:
        write(b"* 0 RECENT\r\n")
        if unseen and not client.uid_only:
            write(b"* OK [UNSEEN %d] the first that is unseen\r\n" % unseen)
    write(b"* OK [UIDVALIDITY %d] UIDs are valid\r\n" % info.uidvalidity)
    write(b"* OK [UIDNEXT %d] the next UID\r\n" % _uidnext(view, contents))
    write(b"* OK [HIGHESTMODSEQ %d] the highest modseq\r\n" % max(info.highestmodseq, 1))
    write(b"* OK [MAILBOXID (%b)] the id of the mailbox\r\n" % mailbox_id(info.guid))
    if client.rev2:
        write(b'* LIST () "/" %b\r\n' % client.shown(view.name))


def _kept_flags(view: MailboxView, keywords: Sequence[str]) -> bytes:
    """The flags that the client may change (RFC 4314 section 5.1)."""
    if "w" in view.rights:
        names = ["\\Answered", "\\Flagged", "\\Draft", *keywords, "\\*"]
    else:
        names = []
    names[2:2] = [flag for flag, right in _OWN_RIGHTS if right in view.rights]
    return responses.flags(names)


def _uidnext(view: MailboxView, contents: MailboxContents) -> int:
    return max(contents.mailbox.uidnext, view.last_uid + 1)


async def _tell_since(
    client: LoggedInClient, view: MailboxView, known: i.Qresync, uidnext: int
) -> None:
    """What changed since the client was here last (RFC 7162 section 3.2.5.1). UIDs from `uidnext`
    on, which it was told, were given later: it has heard of none."""
    if known.uidvalidity != view.uidvalidity:
        return
    vanished = await client.view_reader.vanished(view.number, known.modseq)
    if known.known is not None:
        vanished = vanished & known.known
    vanished = vanished.part(1, uidnext - 1)
    vanished = vanished - view.uids
    for piece in responses.number_sets(vanished):
        client.write(b"* VANISHED (EARLIER) %b\r\n" % piece)
    wanted = ALL_UIDS if known.known is None else known.known.resolve(view.last_uid)
    read_at = view.modseq
    told: list[int] = []
    async for page in client.view_reader.pages(view.number, wanted, changed_since=known.modseq):
        await client.drained()
        read_at = max(read_at, page.mailbox.highestmodseq)
        for message in page.messages:
            if view.number_of(message.uid):
                client.write(view.flags_of(message))
                client.told_modseq(message.modseq)
                told.append(message.uid)
    if read_at > view.modseq and not view.uid_only:
        gone = await client.view_reader.vanished(view.number, view.modseq)
        _tell_numbers(client, view, gone - UidSet.from_uids(told))


def _tell_numbers(client: LoggedInClient, view: MailboxView, gone: UidSet) -> None:
    """Tell the UIDs of messages that EXISTS has counted, and that went before they could be told.
    That they went is told next, and means nothing to a client that never heard of them."""
    for uid in view.uids & gone:
        client.write(view.fetched(uid, b"UID %d" % uid))


async def close(client: LoggedInClient, command: i.Close) -> Answer:
    """CLOSE (6.4.1): what is marked \\Deleted goes, and nothing is said of it."""
    view = client.selected()
    if not view.read_only and "e" in view.rights:
        with suppress(MailboxGone):  # nothing is left to go
            if marked := await _marked(client, view):
                await _expunge_quietly(client, view, marked)
    client.view = None
    return Answer("closed")


async def _expunge_quietly(client: LoggedInClient, view: MailboxView, marked: UidSet) -> None:
    """CLOSE is no failure without the right to expunge (RFC 4314 section 4)."""
    try:
        await client.expunge(view, marked)
    except CommandRefused as e:
        if e.code is not ResponseCode.NOPERM:
            raise


async def _marked(client: LoggedInClient, view: MailboxView) -> UidSet:
    """The messages that the client knows and that are marked \\Deleted. Where there are none, as
    mostly when a program closes a mailbox, no entry of the log is made."""
    marked: list[int] = []
    async for page in client.view_reader.columns(
        view.number, view.uids, summaries=False, limit=1000
    ):
        are_marked = ["\\Deleted" in flags for flags in page.flags]
        marked += compress(page.uids, map(are_marked.__getitem__, page.flags_of))
        await after_others()
    return UidSet.from_uids(marked)


async def unselect(client: LoggedInClient, command: i.Unselect) -> Answer:
    """UNSELECT (6.4.2)."""
    client.view = None
    return Answer("closed")


# -- CREATE, DELETE, RENAME, subscriptions ----------


async def create(client: LoggedInClient, command: i.Create) -> Answer:
    """CREATE (6.3.4), with RFC 6154's uses and RFC 8474's id."""
    place = await client.place(command.name)
    if not place.owner:
        raise CommandRefused(ResponseCode.CANNOT, "no mailbox can have that name")
    if place == (client.user, INBOX):
        raise CommandRefused(ResponseCode.ALREADYEXISTS, "INBOX is always there")
    use = special_use(command.special_uses)
    seed, guid = int(client.wall_s()), os.urandom(16)
    try:
        made = await client.execute(
            c.CreateMailbox(place.owner, place.name, seed, guid, use, sole_use=bool(use))
        )
    except CommandRefused as e:
        if use and e.code is ResponseCode.CANNOT:  # another mailbox has it (RFC 6154 section 3)
            raise CommandRefused(ResponseCode.USEATTR, str(e)) from None
        raise
    assert isinstance(made, MailboxResult)
    return Answer("made", b"MAILBOXID (%b)" % mailbox_id(made.guid))


async def delete(client: LoggedInClient, command: i.Delete) -> Answer:
    """DELETE (6.3.5). A client that removes what it has selected has nothing selected any more."""
    place = await client.owned_place(command.name)
    done = await client.execute(c.DeleteMailbox(place.owner, place.name))
    assert isinstance(done, MailboxResult)
    view = client.view
    if view is not None and (view.owner, view.number) == (place.owner, done.number):
        client.view = None
        client.stale = False
    return Answer("removed")


async def rename(client: LoggedInClient, command: i.Rename) -> Answer:
    """RENAME (6.3.6)."""
    old, new = await client.owned_place(command.old), await client.place(command.new)
    if old.owner != new.owner:
        raise CommandRefused(ResponseCode.CANNOT, "a mailbox stays with its owner: copy the mail")
    await client.execute(
        c.RenameMailbox(old.owner, old.name, new.name, int(client.wall_s()), os.urandom(16))
    )
    return Answer("renamed")


async def subscribe(client: LoggedInClient, command: i.ImapSubscribe) -> Answer:
    """SUBSCRIBE (6.3.7)."""
    await client.execute(c.Subscribe(client.user, good_name(command.name), subscribed=True))
    return Answer("subscribed")


async def unsubscribe(client: LoggedInClient, command: i.Unsubscribe) -> Answer:
    """UNSUBSCRIBE (6.3.8)."""
    await client.execute(c.Subscribe(client.user, good_name(command.name), subscribed=False))
    return Answer("unsubscribed")


# -- STATUS, NAMESPACE ----------


async def status(client: LoggedInClient, command: i.Status) -> Answer:
    """STATUS (6.3.11)."""
    if i.StatusItem.HIGHESTMODSEQ in command.items:
        client.use_modseqs()
    info = (await client.locate(command.name, "r")).info
    await tell_status(client, info, command.items)
    return Answer("told")


async def tell_status(
    client: LoggedInClient, info: MailboxInfo, items: Sequence[i.StatusItem]
) -> None:
    """A STATUS response (RFC 9051 section 7.3.4)."""
    if info.user != client.user and i.StatusItem.UNSEEN in items:
        # A guest may have a \\Seen of the own, which is counted by all UIDs.
        info = (await client.reader_of(info.user).contents(info.number)).mailbox
    item = i.StatusItem
    values = {
        item.MESSAGES: b"%d" % info.messages,
        item.UIDNEXT: b"%d" % info.uidnext,
        item.UIDVALIDITY: b"%d" % info.uidvalidity,
        item.UNSEEN: b"%d" % info.unseen,
        item.SIZE: b"%d" % info.size_bytes,
        item.RECENT: b"0",
        item.HIGHESTMODSEQ: b"%d" % max(info.highestmodseq, 1),
        item.MAILBOXID: b"(%b)" % mailbox_id(info.guid),
        item.APPENDLIMIT: b"%d" % client.limits.message_bytes_max,
    }
    if item.DELETED in items or item.DELETED_STORAGE in items:
        count, size_bytes = await _deleted(client, info)
        values[item.DELETED] = b"%d" % count
        values[item.DELETED_STORAGE] = b"%d" % size_bytes
    told = b" ".join(b"%b %b" % (one.value.encode(), values[one]) for one in items)
    client.write(b"* STATUS %b (%b)\r\n" % (client.shown(client.full_name(info)), told))


async def _deleted(client: LoggedInClient, info: MailboxInfo) -> tuple[int, int]:
    """How many messages are marked \\Deleted, and their bytes."""
    count = size_bytes = 0
    reader = client.reader_of(info.user)
    async for page in reader.columns(info.number, ALL_UIDS, summaries=False, limit=1000):
        marked = {place for place, flags in enumerate(page.flags) if "\\Deleted" in flags}
        if marked:
            of_marked = [place in marked for place in page.flags_of]
            count += sum(of_marked)
            size_bytes += sum(compress(page.sizes, of_marked))
        await after_others()
    return count, size_bytes


async def namespace(client: LoggedInClient, command: i.Namespace) -> Answer:
    """NAMESPACE (6.3.10)."""
    told = (b'(("%b/" "/"))' % top.encode() for top in (OTHER_USERS, SHARED_FOLDERS))
    client.write(b'* NAMESPACE (("" "/")) %b\r\n' % b" ".join(told))
    return Answer("told")
