"""NOTIFY (RFC 5465), and what is told because of it."""

from __future__ import annotations

from typing import Final

from raftmail.frontends.imap import commands as i
from raftmail.frontends.imap.annotation_news import AnnotationNews
from raftmail.frontends.imap.client import Answer, Extension, LoggedInClient
from raftmail.frontends.imap.fetch_command import fetch_uids
from raftmail.frontends.imap.fetch_items import Attribute
from raftmail.frontends.imap.mailbox_commands import tell_status
from raftmail.frontends.imap.metadata_commands import tell_names
from raftmail.frontends.imap.notifier import Notifier, Renamed
from raftmail.frontends.imap.notify_events import NotifyEvent
from raftmail.mail.uidset import STAR

_STATUS: Final = (
    i.StatusItem.MESSAGES,
    i.StatusItem.UIDNEXT,
    i.StatusItem.UIDVALIDITY,
    i.StatusItem.UNSEEN,
    i.StatusItem.HIGHESTMODSEQ,
)
"""What is told of mailboxes that are not selected (RFC 5465 sections 5.1 to 5.3)."""

_ENABLES: Final = frozenset((Extension.METADATA, Extension.METADATA_SERVER))


async def notify(client: LoggedInClient, command: i.Notify) -> Answer:
    """NOTIFY SET and NOTIFY NONE (RFC 5465 section 3)."""
    client.notifier = None
    if command.groups:
        notifier = Notifier(command)
        infos = await notifier.begin(client.reader, _selected(client))
        if command.status:
            for info in infos:
                await tell_status(client, info, _STATUS)
        if notifier.tells_annotations:
            await watch_annotations(client)
        client.notifier = notifier
    if not tells_annotations(client):
        client.annotation_news = None
    return Answer("it will be told")


async def tell_mailboxes(client: LoggedInClient) -> None:
    """Tell what became of mailboxes that are not selected. Raises `Unavailable`."""
    notifier = client.notifier
    if notifier is None or not notifier.has_news:
        return
    listed, status = await notifier.news(client.reader, _selected(client))
    for one in listed:
        client.write(_listed(client, one))
    for info in status:
        await tell_status(client, info, _STATUS)


def tells_annotations(client: LoggedInClient) -> bool:
    """Whether the client asked to hear of changes of annotations, by ENABLE or NOTIFY."""
    if not client.enabled.isdisjoint(_ENABLES):
        return True
    return client.notifier is not None and client.notifier.tells_annotations


async def watch_annotations(client: LoggedInClient) -> None:
    """Changes of annotations are told from here on. Raises `Unavailable`."""
    if client.annotation_news is None:
        news = AnnotationNews()
        await news.begin(client.reader)
        client.annotation_news = news


async def tell_annotations(client: LoggedInClient) -> None:
    """Tell which annotations changed (RFC 5464 section 4.4.2). Raises `Unavailable`."""
    news, notifier = client.annotation_news, client.notifier
    if news is None or not news.stale:
        return
    enabled = Extension.METADATA in client.enabled
    client.reader.renew()  # what was heard may be newer than what the command waited for
    for number, names in (await news.take(client.reader)).items():
        if not number:
            server = enabled or Extension.METADATA_SERVER in client.enabled
            if server or (notifier is not None and notifier.tells_server):
                tell_names(client, "", names)
            continue
        info = await client.reader.mailbox(number)
        if info is not None and (
            enabled or (notifier is not None and notifier.tells_annotations_of(info.name))
        ):
            tell_names(client, info.name, names)


async def tell_selected(client: LoggedInClient, *, expunges: bool) -> None:
    """Tell what became of the mailbox that is selected, and of new messages what NOTIFY asked for.
    Raises `Unavailable`, `MailboxGone`."""
    view, group = client.view, None if client.notifier is None else client.notifier.selected
    if view is None or group is None:
        client.tell(expunges=expunges)
        return
    last = view.last_uid
    client.tell(expunges=expunges, flags=NotifyEvent.FLAG_CHANGE in group.events)
    came = view.uids.part(last + 1, STAR)
    if came and group.items:
        also = () if client.uid_only else (Attribute.UID,)
        items = tuple(dict.fromkeys((*also, *group.items)))
        await fetch_uids(client, view, came, items)


def _selected(client: LoggedInClient) -> int:
    return client.selected_number


def _listed(client: LoggedInClient, one: Renamed) -> bytes:
    """LIST (RFC 5465 section 5.4 and 5.5)."""
    attributes = [] if one.exists else [b"\\NonExistent"]
    if one.subscribed:
        attributes.append(b"\\Subscribed")
    end = b' ("OLDNAME" (%b))' % client.shown(one.old) if one.old else b""
    shown = client.shown(one.name)
    return b'* LIST (%b) "/" %b%b\r\n' % (b" ".join(attributes), shown, end)
