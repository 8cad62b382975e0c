"""FETCH of what lists of messages show: flags, sizes, ENVELOPE, BODYSTRUCTURE.

One page of messages is one read, one pass over columns and one write. Other sessions have their
turn after each page.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from raftmail.frontends.imap import responses
from raftmail.frontends.imap.client import LoggedInClient
from raftmail.frontends.imap.fetch_items import Attribute, FetchItem
from raftmail.frontends.imap.view import MailboxView
from raftmail.mail.body import body_from
from raftmail.mail.queries import MessageColumns
from raftmail.mail.summary import finished_lists
from raftmail.mail.uidset import UidSet
from raftmail.net.turns import after_others

RECORDS_MAX: Final = 1000
SUMMARIES_MAX: Final = 250
"""Messages of one page, with and without what is finished of them: a turn of a millisecond or
two."""

_OF_SUMMARIES: Final = frozenset((Attribute.ENVELOPE, Attribute.BODY, Attribute.BODYSTRUCTURE))

_Column = Callable[[MessageColumns, Sequence[tuple[bytes, bytes]]], Iterable[Any]]


def _flags(page: MessageColumns, _: Sequence[tuple[bytes, bytes]]) -> Iterable[bytes]:
    shown = [responses.flags(flags) for flags in page.flags]
    return [shown[place] for place in page.flags_of]


_COLUMNS: Final[dict[Attribute, tuple[bytes, _Column]]] = {
    Attribute.UID: (b"UID %d", lambda page, _: page.uids),
    Attribute.FLAGS: (b"FLAGS %b", _flags),
    Attribute.SIZE: (b"RFC822.SIZE %d", lambda page, _: page.sizes),
    Attribute.MODSEQ: (b"MODSEQ (%d)", lambda page, _: page.modseqs),
    Attribute.ENVELOPE: (b"ENVELOPE %b", lambda _, lists: [one[0] for one in lists]),
    Attribute.BODYSTRUCTURE: (b"BODYSTRUCTURE %b", lambda _, lists: [one[1] for one in lists]),
    Attribute.BODY: (b"BODY %b", lambda _, lists: [body_from(one[1]) for one in lists]),
}
"""How each attribute is written, and its values of a page."""


def are_listed(items: Iterable[FetchItem]) -> bool:
    """Whether `fetch_lists` can tell all of them."""
    return all(isinstance(item, Attribute) and item in _COLUMNS for item in items)


async def fetch_lists(
    client: LoggedInClient, view: MailboxView, uids: UidSet, items: Sequence[FetchItem]
) -> int:
    """Tell attributes of messages of the view; how many there still are. Raises `Unavailable`,
    `MailboxGone`."""
    attributes = [item for item in items if isinstance(item, Attribute)]
    name = b"UIDFETCH" if view.uid_only else b"FETCH"
    values = b" ".join(_COLUMNS[one][0] for one in attributes)
    form = b"* %d " + name + b" (" + values + b")\r\n"
    summaries = not _OF_SUMMARIES.isdisjoint(attributes)
    limit = SUMMARIES_MAX if summaries else RECORDS_MAX
    told = 0
    async for page in client.reader.columns(view.number, uids, summaries=summaries, limit=limit):
        lists = [finished_lists(summary) for summary in page.summaries]
        columns = [_COLUMNS[one][1](page, lists) for one in attributes]
        numbers = page.uids if view.uid_only else view.numbering.numbers_of(page.uids)
        lines = [form % row for row in zip(numbers, *columns, strict=True)]
        if Attribute.FLAGS in attributes:
            lines[:0] = [view.keywords.announce(flags) for flags in page.flags]
            view.told_all(page.uids, page.modseqs)
        client.write(b"".join(lines))
        client.told_modseq(max(page.modseqs, default=0))
        told += len(page.uids)
        await client.drained()
        if page.more:
            await after_others()
    return told
