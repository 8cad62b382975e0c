"""NOTIFY: what one client wants to hear of all mailboxes, and what it was told (RFC 5465).

The service's watch says that something changed. What it was is read, and compared with what was
told before: so a change that was heard twice is told once, and none is missed.
"""

from __future__ import annotations

from typing import NamedTuple

from raftmail.frontends.imap import commands as i
from raftmail.frontends.imap.mailbox_reader import MailboxReader
from raftmail.frontends.imap.notify_events import (
    MESSAGE_EVENTS,
    METADATA_EVENTS,
    OF_SELECTED,
    EventGroup,
    NotifyEvent,
    NotifyFilter,
)
from raftmail.mail.changes import Change, MailboxChanged
from raftmail.mail.names import INBOX, parents
from raftmail.mail.queries import MailboxInfo


class Renamed(NamedTuple):
    """A mailbox was made, renamed, removed, or its subscription changed: to be told by LIST. `old`
    is what it was called before, where that differs."""

    name: str
    old: str
    exists: bool
    subscribed: bool


class _Told(NamedTuple):
    """How the client knows a mailbox."""

    name: str
    uidnext: int
    messages: int
    modseq: int


class Notifier:
    """What NOTIFY SET asked for. Memory is bounded by the mailboxes that a user can have."""

    def __init__(self, command: i.Notify) -> None:
        self._groups = [one for one in command.groups if one.filter not in OF_SELECTED]
        selected = [one for one in command.groups if one.filter in OF_SELECTED]
        self.selected: EventGroup | None = selected[0] if selected else None
        """What is told of the mailbox that is selected, between commands too."""
        self._told: dict[int, _Told] = {}
        self._subscribed: set[str] = set()
        self._changed: set[int] = set()
        self._relisted = False

    @property
    def delays_expunges(self) -> bool:
        """Whether messages of the selected mailbox keep their numbers until a command that may
        change them (RFC 5465 section 6.2)."""
        return self.selected is not None and self.selected.filter is NotifyFilter.SELECTED_DELAYED

    @property
    def tells_annotations(self) -> bool:
        """Whether some are told of when they change."""
        return any(METADATA_EVENTS & group.events for group in self._groups)

    @property
    def tells_server(self) -> bool:
        """Whether changes of the server's annotations are told, which may be asked for with any
        mailboxes (RFC 5465 section 5.7)."""
        event = NotifyEvent.SERVER_METADATA_CHANGE
        return any(event in group.events for group in self._groups)

    def tells_annotations_of(self, name: str) -> bool:
        """Whether changes of a mailbox's annotations are told (RFC 5465 section 5.6)."""
        return self._wants(NotifyEvent.MAILBOX_METADATA_CHANGE, name)

    @property
    def has_news(self) -> bool:
        """Whether something was heard that `news` has not looked at."""
        return bool(self._changed) or self._relisted

    def hear(self, change: Change) -> None:
        """Something changed, or may have."""
        if not isinstance(change, MailboxChanged):
            self._relisted = True
            return
        told = self._told.get(change.mailbox)
        if told is None or self._events_of(told.name) & MESSAGE_EVENTS:
            self._changed.add(change.mailbox)

    async def begin(self, reader: MailboxReader, selected: int) -> list[MailboxInfo]:
        """Note how everything is now; of which mailboxes a client that asked for STATUS is told.
        Raises `Unavailable`."""
        infos = await reader.mailboxes()
        self._subscribed = set(await reader.subscriptions())
        self._changed.clear()
        self._relisted = False
        self._told = {info.number: _told(info) for info in infos}
        return [
            info
            for info in infos
            if info.number != selected and self._events_of(info.name) & MESSAGE_EVENTS
        ]

    async def news(
        self, reader: MailboxReader, selected: int
    ) -> tuple[list[Renamed], list[MailboxInfo]]:
        """What there is to tell: mailboxes by LIST, and others by STATUS. Raises `Unavailable`, and
        then nothing is forgotten."""
        if self._relisted:
            infos = await reader.mailboxes()
            subscribed = set(await reader.subscriptions())
            self._relisted = False
            self._changed.clear()
            listed = self._compare_names(infos, subscribed)
        else:
            infos, listed = [], []
            for number in sorted(self._changed):
                info = await reader.mailbox(number)
                self._changed.discard(number)
                if info is not None:
                    infos.append(info)
        status = [info for info in infos if self._is_news(info) and info.number != selected]
        self._told.update((info.number, _told(info)) for info in infos)
        return listed, status

    def _compare_names(self, infos: list[MailboxInfo], subscribed: set[str]) -> list[Renamed]:
        found: list[Renamed] = []
        there = {info.number: info.name for info in infos}
        names = set(there.values())
        for number, told in list(self._told.items()):
            if number not in there:
                del self._told[number]
                if told.name not in names and self._wants(NotifyEvent.MAILBOX_NAME, told.name):
                    found.append(Renamed(told.name, "", False, told.name in subscribed))
        for number, name in there.items():
            before = self._told.get(number)
            old = "" if before is None or before.name == name else before.name
            if (before is None or old) and (
                self._wants(NotifyEvent.MAILBOX_NAME, name)
                or (old and self._wants(NotifyEvent.MAILBOX_NAME, old))
            ):
                found.append(Renamed(name, old, True, name in subscribed))
        listed = {one.name for one in found}
        changed, self._subscribed = self._subscribed ^ subscribed, subscribed
        for name in sorted(changed - listed):
            if self._wants(NotifyEvent.SUBSCRIPTION_CHANGE, name):
                found.append(Renamed(name, "", name in names, name in subscribed))
        return found

    def _is_news(self, info: MailboxInfo) -> bool:
        events = self._events_of(info.name)
        told = self._told.get(info.number)
        if not events & MESSAGE_EVENTS:
            return False
        if told is None:
            return info.messages > 0
        if info.highestmodseq == told.modseq:
            return False
        came_or_went = info.uidnext != told.uidnext or info.messages != told.messages
        return came_or_went or NotifyEvent.FLAG_CHANGE in events

    def _wants(self, event: NotifyEvent, name: str) -> bool:
        return event in self._events_of(name)

    def _events_of(self, name: str) -> frozenset[NotifyEvent]:
        """Of the first group that is about a mailbox."""
        for group in self._groups:
            if self._is_about(group, name):
                return group.events
        return frozenset()

    def _is_about(self, group: EventGroup, name: str) -> bool:
        match group.filter:
            case NotifyFilter.PERSONAL:
                return True
            case NotifyFilter.INBOXES:
                return name == INBOX
            case NotifyFilter.SUBSCRIBED:
                return name in self._subscribed
            case NotifyFilter.SUBTREE:
                return not group.mailboxes.isdisjoint((name, *parents(name)))
            case _:
                return name in group.mailboxes


def _told(info: MailboxInfo) -> _Told:
    return _Told(info.name, info.uidnext, info.messages, info.highestmodseq)
