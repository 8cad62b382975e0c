"""Messages of a mailbox in columns: what lists of messages are made of, some hundred at a time, at
a fraction of what one object a message costs."""

from __future__ import annotations

from raftmail.mail import queries as q
from raftmail.shard.state import State
from raftmail.storage.records import MailboxRecord

NOTHING = q.MessageColumns((), (), (), (), (), (), (), False)


def columns(state: State, mailbox: MailboxRecord, query: q.FetchColumns) -> q.MessageColumns:
    """The answer to a query. Raises `IndexDamaged`."""
    messages = state.index.messages
    wanted = messages.resolve(mailbox, query.uids)
    limit = min(query.limit, q.PAGE_MESSAGES_MAX)
    found = state.index.known_columns.page(mailbox, wanted, limit)
    uids = found.uids
    if not uids:
        return NOTHING
    summaries = messages.summaries(mailbox, uids) if query.summaries else ()
    more = uids[-1] < wanted.last
    columns = (uids, found.modseqs, found.sizes, found.received_us, found.flags, found.flags_of)
    return q.MessageColumns(*columns, summaries, more)
