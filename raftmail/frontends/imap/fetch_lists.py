"""FETCH of what lists of messages show: flags, sizes, ENVELOPE, BODYSTRUCTURE.

One page of messages is one read, one pass over columns and one write. Other sessions have their
turn after each page.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Any, Final

from raftmail.frontends.imap import responses
from raftmail.frontends.imap.client import LoggedInClient
from raftmail.frontends.imap.fetch_items import Attribute, FetchItem
from raftmail.frontends.imap.view import MailboxView
from raftmail.mail.body import body_from
from raftmail.mail.queries import MessageColumns
from raftmail.mail.summary import finished_envelopes, finished_structures
from raftmail.mail.uidset import UidSet
from raftmail.net.turns import after_others

RECORDS_MAX: Final = 1000
SUMMARIES_MAX: Final = 250
"""Messages of one page, with and without what is finished of them: a turn of a millisecond or
two."""

_BODIES_MAX: Final = 10
"""The same where BODY is told: it is made of the BODYSTRUCTURE, which takes milliseconds where that
is as long as it can be."""

_OF_SUMMARIES: Final = frozenset((Attribute.ENVELOPE, Attribute.BODY, Attribute.BODYSTRUCTURE))

_COLUMNS: Final[dict[Attribute, tuple[bytes, Callable[[MessageColumns], Iterable[Any]]]]] = {
    Attribute.UID: (b"UID %d", lambda page: page.uids),
    Attribute.SIZE: (b"RFC822.SIZE %d", lambda page: page.sizes),
    Attribute.MODSEQ: (b"MODSEQ (%d)", lambda page: page.modseqs),
    Attribute.ENVELOPE: (b"ENVELOPE %b", lambda page: finished_envelopes(page.summaries)),
    Attribute.BODYSTRUCTURE: (
        b"BODYSTRUCTURE %b",
        lambda page: finished_structures(page.summaries),
    ),
    Attribute.BODY: (b"BODY %b", lambda page: map(body_from, finished_structures(page.summaries))),
}
"""How each attribute is written, and its values of a page. FLAGS are part of how a line is written:
there are few that differ."""

_LISTED: Final = frozenset((Attribute.FLAGS, *_COLUMNS))


def are_listed(items: Iterable[FetchItem]) -> bool:
    """Whether `fetch_lists` can tell all of them."""
    return all(isinstance(item, Attribute) and item in _LISTED for item in items)


async def fetch_lists(
    client: LoggedInClient, view: MailboxView, uids: UidSet, items: Sequence[FetchItem]
) -> int:
    """Tell attributes of messages of the view; how many there still are. Raises `Unavailable`,
    `MailboxGone`."""
    attributes = [item for item in items if isinstance(item, Attribute)]
    has_flags = Attribute.FLAGS in attributes
    summaries = not _OF_SUMMARIES.isdisjoint(attributes)
    limit = SUMMARIES_MAX if summaries else RECORDS_MAX
    if Attribute.BODY in attributes:
        limit = _BODIES_MAX
    told = 0
    async for page in client.view_reader.columns(
        view.number, uids, summaries=summaries, limit=limit
    ):
        lines = _lines(view, page, attributes)
        if has_flags:
            lines = b"".join((*map(view.keywords.announce, page.flags), lines))
            view.told_all(page.uids, page.modseqs)
        client.write(lines)
        client.told_modseq(max(page.modseqs, default=0))
        told += len(page.uids)
        await client.drained()
        if page.more:
            await after_others()
    return told


def _lines(view: MailboxView, page: MessageColumns, attributes: Sequence[Attribute]) -> bytes:
    """What is told of the messages of a page: all of it is written at once, for that costs a
    fraction of writing each line."""
    name = b"UIDFETCH" if view.uid_only else b"FETCH"

    def form(flags: bytes) -> bytes:
        values = [
            b"FLAGS " + flags if one is Attribute.FLAGS else _COLUMNS[one][0] for one in attributes
        ]
        return b"* %%d %b (%b)\r\n" % (name, b" ".join(values))

    if Attribute.FLAGS in attributes:
        forms = [form(responses.flags(flags).replace(b"%", b"%%")) for flags in page.flags]
        whole = b"".join(map(forms.__getitem__, page.flags_of))
    else:
        whole = form(b"") * len(page.uids)
    numbers = page.uids if view.uid_only else view.numbering.numbers_of(page.uids)
    columns = [_COLUMNS[one][1](page) for one in attributes if one is not Attribute.FLAGS]
    return whole % tuple(chain.from_iterable(zip(numbers, *columns, strict=True)))
