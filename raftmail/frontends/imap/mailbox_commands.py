"""Commands about mailboxes as a whole (RFC 9051 section 6.3)."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Final

from raftmail.frontends.imap import commands as i
from raftmail.frontends.imap import responses
from raftmail.frontends.imap.client import (
    Answer,
    CommandRefused,
    Extension,
    LoggedInClient,
    good_name,
)
from raftmail.frontends.imap.mailbox_reader import ALL_UIDS
from raftmail.frontends.imap.responses import ResponseCode
from raftmail.frontends.imap.view import MailboxView
from raftmail.mail import commands as c
from raftmail.mail.names import INBOX, SEPARATOR, matches, parents
from raftmail.mail.queries import GetUsage, MailboxContents, MailboxInfo, Usage
from raftmail.mail.results import MailboxResult

_SYSTEM_FLAGS: Final = ("\\Answered", "\\Flagged", "\\Deleted", "\\Seen", "\\Draft")


def mailbox_id(guid: bytes) -> bytes:
    """An object id (RFC 8474 section 4) of a mailbox."""
    return b"F" + guid.hex().encode()


# -- SELECT, EXAMINE, CLOSE, UNSELECT ----------


async def select(client: LoggedInClient, command: i.Select) -> Answer:
    """SELECT and EXAMINE (6.3.2, 6.3.3), with RFC 7162's parameters."""
    if client.view is not None:
        client.view = None
        if client.qresync or client.rev2:
            client.write(b"* OK [CLOSED] the mailbox before is closed\r\n")
    client.stale = False
    info = await client.mailbox(good_name(command.name))
    client.heard_modseq = 0
    view = MailboxView(info.name, info.number, info.uidvalidity)
    view.read_only = command.read_only
    view.uid_only = client.uid_only
    if command.condstore:
        client.enabled.add(Extension.CONDSTORE)
    view.tells_modseq = bool(client.enabled & {Extension.CONDSTORE, Extension.QRESYNC})
    contents = await client.reader.contents(info.number)
    view.begin(contents.uids, contents.mailbox.highestmodseq)
    client.view = view
    _tell_selected(client, view, contents)
    if command.qresync is not None:
        await _tell_since(client, view, command.qresync)
    code = ResponseCode.READ_ONLY if view.read_only else ResponseCode.READ_WRITE
    return Answer("the mailbox is open", code.value)


def _tell_selected(client: LoggedInClient, view: MailboxView, contents: MailboxContents) -> None:
    info = contents.mailbox
    unseen = view.number_of(contents.first_unseen)
    flags = responses.flags((*_SYSTEM_FLAGS, *contents.keywords))
    kept = b"()" if view.read_only else flags[:-1] + b" \\*)"
    write = client.write
    write(b"* FLAGS %b\r\n" % flags)
    write(b"* OK [PERMANENTFLAGS %b] these are kept\r\n" % kept)
    write(b"* %d EXISTS\r\n" % len(view))
    if not client.rev2:
        write(b"* 0 RECENT\r\n")
        if unseen and not client.uid_only:
            write(b"* OK [UNSEEN %d] the first that is unseen\r\n" % unseen)
    write(b"* OK [UIDVALIDITY %d] UIDs are valid\r\n" % info.uidvalidity)
    write(b"* OK [UIDNEXT %d] the next UID\r\n" % max(info.uidnext, view.last_uid + 1))
    write(b"* OK [HIGHESTMODSEQ %d] the highest modseq\r\n" % max(info.highestmodseq, 1))
    write(b"* OK [MAILBOXID (%b)] the id of the mailbox\r\n" % mailbox_id(info.guid))
    if client.rev2:
        write(b'* LIST () "/" %b\r\n' % client.shown(info.name))


async def _tell_since(client: LoggedInClient, view: MailboxView, known: i.Qresync) -> None:
    """What changed since the client was here last (RFC 7162 section 3.2.5.1)."""
    if known.uidvalidity != view.uidvalidity:
        return
    vanished = await client.reader.vanished(view.number, known.modseq)
    if known.known is not None:
        vanished = vanished & known.known
    vanished = vanished - view.uids
    for piece in responses.number_sets(vanished):
        client.write(b"* VANISHED (EARLIER) %b\r\n" % piece)
    wanted = ALL_UIDS if known.known is None else known.known.resolve(view.last_uid)
    async for page in client.reader.pages(view.number, wanted, changed_since=known.modseq):
        await client.drained()
        for message in page.messages:
            if view.number_of(message.uid):
                client.write(view.flags_of(message))


async def close(client: LoggedInClient, command: i.Close) -> Answer:
    """CLOSE (6.4.1): what is marked \\Deleted goes, and nothing is said of it."""
    view = client.selected()
    if not view.read_only:
        await client.expunge(view, view.uids)
    client.view = None
    return Answer("closed")


async def unselect(client: LoggedInClient, command: i.Unselect) -> Answer:
    """UNSELECT (6.4.2)."""
    client.view = None
    return Answer("closed")


# -- CREATE, DELETE, RENAME, subscriptions ----------


async def create(client: LoggedInClient, command: i.Create) -> Answer:
    """CREATE (6.3.4), with RFC 6154's uses and RFC 8474's id."""
    if len(command.special_uses) > 1:
        raise CommandRefused(ResponseCode.CANNOT, "a mailbox has one special use")
    use = command.special_uses[0] if command.special_uses else ""
    name = good_name(command.name)
    if name == INBOX:
        raise CommandRefused(ResponseCode.ALREADYEXISTS, "INBOX is always there")
    made = await client.execute(
        c.CreateMailbox(client.user, name, int(client.wall_s()), os.urandom(16), use)
    )
    assert isinstance(made, MailboxResult)
    return Answer("made", b"MAILBOXID (%b)" % mailbox_id(made.guid))


async def delete(client: LoggedInClient, command: i.Delete) -> Answer:
    """DELETE (6.3.5)."""
    await client.execute(c.DeleteMailbox(client.user, good_name(command.name)))
    return Answer("removed")


async def rename(client: LoggedInClient, command: i.Rename) -> Answer:
    """RENAME (6.3.6)."""
    old, new = good_name(command.old), good_name(command.new)
    await client.execute(
        c.RenameMailbox(client.user, old, new, int(client.wall_s()), os.urandom(16))
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


# -- LIST, LSUB, STATUS, NAMESPACE ----------


async def list_mailboxes(client: LoggedInClient, command: i.List) -> Answer:
    """LIST (6.3.9). INBOX is listed also when nobody has looked for it yet."""
    if not command.extended and command.patterns == ("",):
        client.write(b'* LIST (\\Noselect) "/" ""\r\n')
        return Answer("listed")
    infos = {info.name: info for info in await client.reader.mailboxes()}
    subscribed = set(await client.reader.subscriptions())
    names = _with_parents({INBOX, *infos, *(subscribed if _only_subscribed(command) else ())})
    patterns = [command.reference + pattern for pattern in command.patterns]
    for name in sorted(names):
        if not any(_fits(pattern, name) for pattern in patterns):
            continue
        attributes = _attributes(name, names, infos, subscribed, command)
        if attributes is None:
            continue
        shown = client.shown(name)
        end = b""
        if i.ListSelection.RECURSIVEMATCH in command.select and _has_below(name, subscribed):
            end = b' ("CHILDINFO" ("SUBSCRIBED"))'
        client.write(b'* LIST (%b) "/" %b%b\r\n' % (" ".join(attributes).encode(), shown, end))
        if command.status and name in infos:
            await _tell_status(client, infos[name], command.status)
    return Answer("listed")


def _has_below(name: str, others: Iterable[str]) -> bool:
    below = name + SEPARATOR
    return any(other.startswith(below) for other in others)


def _only_subscribed(command: i.List) -> bool:
    return i.ListSelection.SUBSCRIBED in command.select


def _fits(pattern: str, name: str) -> bool:
    try:
        return matches(pattern, name)
    except ValueError as e:
        raise CommandRefused(ResponseCode.CANNOT, str(e)) from None


def _with_parents(names: Iterable[str]) -> set[str]:
    found = set(names)
    for name in names:
        found.update(parents(name))
    return found


def _attributes(
    name: str,
    names: set[str],
    infos: dict[str, MailboxInfo],
    subscribed: set[str],
    command: i.List,
) -> list[str] | None:
    """Of one mailbox, or of a name that only has some below it; None: it is not listed."""
    info = infos.get(name)
    has_children = _has_below(name, names)
    if info is None and not has_children and name not in subscribed and name != INBOX:
        return None
    use = info.special_use if info is not None else ""
    if i.ListSelection.SPECIAL_USE in command.select and not use:
        return None
    if _only_subscribed(command) and name not in subscribed:
        recursive = i.ListSelection.RECURSIVEMATCH in command.select
        if not (recursive and _has_below(name, subscribed)):
            return None
    found = [] if info is not None or name == INBOX else ["\\NonExistent"]
    found.append("\\HasChildren" if has_children else "\\HasNoChildren")
    if name in subscribed and (
        _only_subscribed(command) or i.ListReturn.SUBSCRIBED in command.returns
    ):
        found.append("\\Subscribed")
    if use:
        found.append(use)
    return found


async def lsub(client: LoggedInClient, command: i.Lsub) -> Answer:
    """LSUB (RFC 3501 section 6.3.9): with `%`, a name whose children alone are subscribed is told
    as \\Noselect."""
    subscribed = set(await client.reader.subscriptions())
    pattern = command.reference + command.pattern
    for name in sorted(_with_parents(subscribed)):
        if (name in subscribed or pattern.endswith("%")) and _fits(pattern, name):
            attributes = b"" if name in subscribed else b"\\Noselect"
            client.write(b'* LSUB (%b) "/" %b\r\n' % (attributes, client.shown(name)))
    return Answer("listed")


async def status(client: LoggedInClient, command: i.Status) -> Answer:
    """STATUS (6.3.11)."""
    info = await client.mailbox(good_name(command.name))
    await _tell_status(client, info, command.items)
    return Answer("told")


async def _tell_status(
    client: LoggedInClient, info: MailboxInfo, items: tuple[i.StatusItem, ...]
) -> None:
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
    if item.DELETED in items:
        count = 0
        async for page in client.reader.pages(info.number, ALL_UIDS):
            count += sum("\\Deleted" in message.flags for message in page.messages)
        values[item.DELETED] = b"%d" % count
    told = b" ".join(b"%b %b" % (one.value.encode(), values[one]) for one in items)
    client.write(b"* STATUS %b (%b)\r\n" % (client.shown(info.name), told))


async def namespace(client: LoggedInClient, command: i.Namespace) -> Answer:
    """NAMESPACE (6.3.10): there is one, the user's own."""
    client.write(b'* NAMESPACE (("" "/")) NIL NIL\r\n')
    return Answer("told")


# -- quotas (RFC 9208) ----------


async def get_quota(client: LoggedInClient, command: i.GetQuota) -> Answer:
    """GETQUOTA (4.1.1): a user has one quota root, "", for all mail."""
    if command.root:
        raise CommandRefused(ResponseCode.NONEXISTENT, "there is no such quota root")
    await _tell_quota(client)
    return Answer("told")


async def get_quota_root(client: LoggedInClient, command: i.GetQuotaRoot) -> Answer:
    """GETQUOTAROOT (4.1.2)."""
    info = await client.mailbox(good_name(command.name))
    client.write(b'* QUOTAROOT %b ""\r\n' % client.shown(info.name))
    await _tell_quota(client)
    return Answer("told")


async def _tell_quota(client: LoggedInClient) -> None:
    limit_bytes = client.service.quota_of(client.user)
    if not limit_bytes:
        client.write(b'* QUOTA "" ()\r\n')
        return
    query = GetUsage(client.user)
    usage = await client.service.query(query, deadline_s=client.limits.deadline_s)
    assert isinstance(usage, Usage)
    used, limit = -(-usage.size_bytes // 1024), limit_bytes // 1024
    client.write(b'* QUOTA "" (STORAGE %d %d)\r\n' % (used, limit))
