"""Messages of a mailbox in columns: what lists of messages are made of, some hundred at a time, at
a fraction of what one object a message costs."""

from __future__ import annotations

from raftmail.mail import queries as q
from raftmail.mail.flags import format_flags
from raftmail.shard.state import State
from raftmail.storage.records import MailboxRecord, unpack_columns

NOTHING = q.MessageColumns((), (), (), (), (), (), (), False)


def columns(state: State, mailbox: MailboxRecord, query: q.FetchColumns) -> q.MessageColumns:
    """The answer to a query. Raises `IndexDamaged`."""
    messages = state.index.messages
    wanted = messages.resolve(mailbox, query.uids)
    rows = messages.rows(mailbox, wanted, min(query.limit, q.PAGE_MESSAGES_MAX))
    if not rows:
        return NOTHING
    uids, modseqs, raw_flags, received_us, sizes = unpack_columns(mailbox.number, rows)
    places = {raw: at for at, raw in enumerate(dict.fromkeys(raw_flags))}
    flags_of = tuple(map(places.__getitem__, raw_flags))
    flags = tuple(
        format_flags(raw[0], int.from_bytes(raw[1:], "little"), mailbox.keywords) for raw in places
    )
    summaries = tuple(messages.summaries([key for key, _ in rows])) if query.summaries else ()
    more = uids[-1] < wanted.last
    columns = (uids, modseqs, sizes, received_us, flags, flags_of, summaries)
    return q.MessageColumns(*columns, more)
