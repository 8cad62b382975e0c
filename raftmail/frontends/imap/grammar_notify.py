"""NOTIFY (RFC 5465 section 8)."""

from __future__ import annotations

from raftmail.frontends.imap import commands as c
from raftmail.frontends.imap.fetch_items import FetchItem
from raftmail.frontends.imap.grammar_message import fetch_list
from raftmail.frontends.imap.notify_events import (
    MESSAGE_EVENTS,
    OF_SELECTED,
    EventGroup,
    NotifyEvent,
    NotifyFilter,
)
from raftmail.frontends.imap.scanner import ParseError, Scanner

GROUPS_MAX = 100
"""Groups of events of one NOTIFY: a mailbox is looked for in one after another."""

_FILTERS = {one.value: one for one in NotifyFilter}
_EVENTS = {one.value.upper(): one for one in NotifyEvent}
_WITH_NAMES = (NotifyFilter.SUBTREE, NotifyFilter.MAILBOXES)
_COME_AND_GO = {NotifyEvent.MESSAGE_NEW, NotifyEvent.MESSAGE_EXPUNGE}


def notify(scanner: Scanner) -> c.Notify:
    scanner.space("SET or NONE")
    if scanner.skip_word("NONE"):
        return c.Notify(False, ())
    if not scanner.skip_word("SET"):
        scanner.fail("SET or NONE")
    scanner.space("STATUS, or a group of events")
    status = scanner.skip_word("STATUS")
    if status:
        scanner.space("a group of events")
    groups = [_group(scanner)]
    while scanner.skip(b" "):
        if len(groups) == GROUPS_MAX:
            text = f"NOTIFY takes at most {GROUPS_MAX} groups: name more mailboxes in each"
            raise ParseError(text, "LIMIT", no=True)
        groups.append(_group(scanner))
    if sum(group.filter in OF_SELECTED for group in groups) > 1:
        raise ParseError("one group of events is about the mailbox that is selected")
    return c.Notify(status, tuple(groups))


def _group(scanner: Scanner) -> EventGroup:
    scanner.expect(b"(", "( and which mailboxes")
    scanner.deeper()
    which = scanner.one_of(_FILTERS, "which mailboxes")
    names: list[str] = []
    if which in _WITH_NAMES:
        scanner.space("mailboxes")
        if scanner.stands(b"("):
            names = scanner.items("mailboxes", scanner.mailbox)
        else:
            names = [scanner.mailbox()]
    scanner.space("events in parentheses, or NONE")
    events: set[NotifyEvent] = set()
    items: list[FetchItem] = []
    if not scanner.skip_word("NONE"):
        scanner.items("events", lambda: _event(scanner, events, items))
    scanner.expect(b")", ")")
    scanner.shallower()
    _check(which, events, items)
    return EventGroup(which, frozenset(names), frozenset(events), tuple(items))


def _event(scanner: Scanner, events: set[NotifyEvent], items: list[FetchItem]) -> None:
    """An event, or what to fetch of new messages, which stands behind MessageNew."""
    if NotifyEvent.MESSAGE_NEW in events and not items and scanner.stands(b"("):
        items += fetch_list(scanner)
        return
    word = scanner.word("an event")
    event = _EVENTS.get(word)
    if event is None:
        # One of another extension, as any atom may be (RFC 5465 sections 3.1 and 8).
        known = " ".join(one.value for one in NotifyEvent)
        raise ParseError(f"there is no {word[:40]} here", f"BADEVENT ({known})", no=True)
    events.add(event)


def _check(which: NotifyFilter, events: set[NotifyEvent], items: list[FetchItem]) -> None:
    """What may stand together (RFC 5465 sections 5.1 to 5.3 and 6.1)."""
    both = _COME_AND_GO & events
    if both and both != _COME_AND_GO:
        raise ParseError("MessageNew and MessageExpunge are asked for together")
    if NotifyEvent.FLAG_CHANGE in events and not both:
        raise ParseError("FlagChange is asked for beside MessageNew and MessageExpunge")
    if which in OF_SELECTED:
        if not events <= MESSAGE_EVENTS:
            raise ParseError("of the mailbox that is selected, only its messages are told of")
    elif items:
        raise ParseError("what to fetch is for the mailbox that is selected")
