"""What NOTIFY asks to be told of (RFC 5465 section 5 and 6)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from raftmail.frontends.imap.fetch_items import FetchItem


class NotifyEvent(Enum):
    """What may happen; the value is how it is written."""

    MESSAGE_NEW = "MessageNew"
    MESSAGE_EXPUNGE = "MessageExpunge"
    FLAG_CHANGE = "FlagChange"
    MAILBOX_NAME = "MailboxName"
    SUBSCRIPTION_CHANGE = "SubscriptionChange"
    MAILBOX_METADATA_CHANGE = "MailboxMetadataChange"
    SERVER_METADATA_CHANGE = "ServerMetadataChange"


MESSAGE_EVENTS = frozenset(
    (NotifyEvent.MESSAGE_NEW, NotifyEvent.MESSAGE_EXPUNGE, NotifyEvent.FLAG_CHANGE)
)


METADATA_EVENTS = frozenset(
    (NotifyEvent.MAILBOX_METADATA_CHANGE, NotifyEvent.SERVER_METADATA_CHANGE)
)


class NotifyFilter(Enum):
    """In which mailboxes; the value is how it is written."""

    SELECTED = "SELECTED"
    SELECTED_DELAYED = "SELECTED-DELAYED"
    INBOXES = "INBOXES"
    PERSONAL = "PERSONAL"
    SUBSCRIBED = "SUBSCRIBED"
    SUBTREE = "SUBTREE"
    MAILBOXES = "MAILBOXES"


OF_SELECTED = frozenset((NotifyFilter.SELECTED, NotifyFilter.SELECTED_DELAYED))


@dataclass(frozen=True, slots=True)
class EventGroup:
    """`mailboxes` are those of SUBTREE and MAILBOXES. `items` are told of each new message of the
    mailbox that is selected. Without events nothing is told of these mailboxes."""

    filter: NotifyFilter
    mailboxes: frozenset[str]
    events: frozenset[NotifyEvent]
    items: tuple[FetchItem, ...]
