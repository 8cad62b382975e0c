"""Reads. They see the open transaction, and are bounded in messages and in bytes."""

from __future__ import annotations

from raftmail.mail import queries as q
from raftmail.mail.annotations import SPECIAL_USE, annotation_digest
from raftmail.mail.flags import format_flags
from raftmail.mail.packing import Raw
from raftmail.mail.uidset import UidSet
from raftmail.shard import configuration, guests
from raftmail.shard.columns import columns
from raftmail.shard.own_seen import as_seen, info_as_seen, seen_by
from raftmail.shard.scripts import rules_in_force, script_list
from raftmail.shard.state import Refusal, State
from raftmail.storage.dates import MessageDates
from raftmail.storage.records import FIXED, MailboxRecord, unpack_message

PAGE_BYTES_MAX = 4 << 20
"""A page ends after the summary that goes over this."""

_CHANGED_MAX = 10_000
"""Up to so many changed messages are found by what changed since; more by reading the mailbox in
the order of UIDs."""


def answer(state: State, query: q.Query) -> q.Answer:
    """The answer to any query but `FetchBodies`, and `FetchBody`, of which it is the body's
    sha256. Raises `IndexDamaged`."""
    index = state.index
    if isinstance(query, q.ListUsers):
        return tuple(index.users.after(query.after, min(query.limit, 1000)))
    if isinstance(query, q.GetUser):
        password_hash = index.users.get(query.address)
        return None if password_hash is None else q.UserInfo(query.address, password_hash)
    if isinstance(query, q.GetConfiguration):
        return configuration.changes(state, query)
    if isinstance(query, q.ListMailboxes):
        return tuple(info_of(state, mailbox) for mailbox in index.mailboxes.of(query.user))
    if isinstance(query, q.GetUsage):
        owned = state.owned(query.user)
        return q.Usage(sum(m.messages for m in owned), sum(m.size_bytes for m in owned))
    if isinstance(query, q.ListSubscriptions):
        return tuple(index.subscriptions.of(query.user))
    if isinstance(query, q.ListAnnotations):
        return _annotations(state, query)
    if isinstance(query, q.GetAnnotations):
        return _values(state, query)
    if isinstance(query, q.ListScripts):
        return script_list(state, query)
    if isinstance(query, q.GetScript):
        return index.scripts.get(query.user, query.name)
    if isinstance(query, q.ActiveScript):
        return rules_in_force(state, query)
    if isinstance(query, q.GetDelivery):
        received_us = index.delivered.received_us(query.user, query.key)
        return None if received_us is None else q.KnownDelivery(received_us)
    if isinstance(query, q.MissingBodies):
        index.messages.settle()
        return b"".join(digest for digest in query.hashes if not index.references(digest))
    if isinstance(query, q.ListSharers):
        return tuple(index.sharers.of(query.user))
    if isinstance(query, q.ListShared):
        shared = guests.shared_with(state, query)
        return q.SharedMailboxes(
            tuple((_shared_info(state, one, query.guest), rights) for one, rights in shared)
        )
    if isinstance(query, q.GuestQuery):
        return _answer_guest(state, query)
    try:
        mailbox = state.find(query.user, query.mailbox)
    except Refusal:
        return None
    if mailbox is None:
        return None
    if isinstance(query, q.GetAcl):
        return q.AclEntries(index.acls.of(mailbox.number), index.seen.is_own(mailbox.number))
    if isinstance(query, q.GetMailbox):
        return info_of(state, mailbox)
    if isinstance(query, q.FetchMessages):
        return _page(state, mailbox, query)
    if isinstance(query, q.FetchColumns):
        return columns(state, mailbox, query)
    if isinstance(query, q.FetchContents):
        return _contents(state, mailbox)
    if isinstance(query, q.FetchVanished):
        return index.messages.vanished_since(mailbox, query.since)
    assert isinstance(query, q.FetchBody)
    return body_of(state, query)


def _shared_info(state: State, mailbox: MailboxRecord, guest: str) -> q.MailboxInfo:
    info = info_of(state, mailbox)
    seen = seen_by(state, mailbox, guest)
    return info if seen is None else info_as_seen(state, mailbox, seen, info)


def _answer_guest(state: State, query: q.GuestQuery) -> q.Answer:
    if not guests.may_read(state, query):
        return None
    found = answer(state, query.query)
    inner = query.query
    mailbox = None if inner.mailbox is None else state.find(inner.user, inner.mailbox)
    if mailbox is not None:
        seen = seen_by(state, mailbox, query.guest)
        if seen is not None:
            found = as_seen(state, mailbox, seen, found)
    if isinstance(found, q.AnnotationValues):
        shared = guests.SHARED_ANNOTATIONS
        return q.AnnotationValues(tuple(one for one in found.entries if one[0].startswith(shared)))
    return found


def body_of(state: State, query: q.Query) -> bytes | None:
    """The sha256 of the body of a message that is asked for by `FetchBody`, if there is such a
    message. Raises `IndexDamaged`."""
    asked = q.asked_for(query)
    assert isinstance(asked, q.FetchBody)
    if isinstance(query, q.GuestQuery) and not guests.may_read(state, query):
        return None
    try:
        mailbox = state.find(asked.user, asked.mailbox)
    except Refusal:
        return None
    if mailbox is None:
        return None
    fields = state.index.messages.message(mailbox, asked.uid)
    return None if fields is None else bytes(FIXED.unpack(fields[5])[3])


def bodies_of(state: State, query: q.Query) -> list[tuple[int, bytes]] | None:
    """UIDs and sha256 of messages that are brought together by `FetchBodies`; None: there is no
    such mailbox. Raises `IndexDamaged`."""
    asked = q.asked_for(query)
    assert isinstance(asked, q.FetchBodies)
    if isinstance(query, q.GuestQuery) and not guests.may_read(state, query):
        return None
    try:
        mailbox = state.find(asked.user, asked.mailbox)
    except Refusal:
        return None
    if mailbox is None:
        return None
    messages = state.index.messages
    found: list[tuple[int, bytes]] = []
    left = q.TOGETHER_BYTES_MAX
    for key, record in messages.rows(
        mailbox, messages.resolve(mailbox, asked.uids), q.TOGETHER_MAX
    ):
        fields = unpack_message(key, record)
        _, size_bytes, _, digest, _ = FIXED.unpack(fields[5])
        left -= size_bytes
        if left < 0:
            break
        found.append((fields[0], digest))
    return found


def info_of(state: State, mailbox: MailboxRecord) -> q.MailboxInfo:
    """A mailbox as queries show it."""
    state.index.messages.settle()
    return q.MailboxInfo(
        number=mailbox.number,
        user=mailbox.user,
        name=mailbox.name,
        guid=mailbox.guid,
        uidvalidity=mailbox.uidvalidity,
        uidnext=mailbox.uidnext,
        highestmodseq=mailbox.highestmodseq,
        messages=mailbox.messages,
        unseen=mailbox.unseen,
        size_bytes=mailbox.size_bytes,
        special_use=mailbox.special_use,
        subscribed=state.index.subscriptions.has(mailbox.user, mailbox.name),
        digest=mailbox.digest.to_bytes(16, "little"),
    )


def _contents(state: State, mailbox: MailboxRecord) -> q.MailboxContents:
    known = state.index.known_uids
    uids = known.uids(mailbox)
    return q.MailboxContents(
        mailbox=info_of(state, mailbox),
        uids=UidSet() if uids is None else uids,
        keywords=tuple(mailbox.keywords),
        first_unseen=0 if uids is None else known.first_unseen(mailbox, uids),
        whole=uids is not None,
    )


def _values(state: State, query: q.GetAnnotations) -> q.AnnotationValues | None:
    """A mailbox's special use is one of its annotations (RFC 6154 section 4)."""
    annotations = state.index.annotations
    if query.mailbox is None:
        return q.AnnotationValues(tuple(annotations.of(query.user, 0).items()))
    try:
        mailbox = state.find(query.user, query.mailbox)
    except Refusal:
        mailbox = None
    if mailbox is None:
        return None
    values = annotations.of(mailbox.user, mailbox.number)
    if mailbox.special_use:
        values[SPECIAL_USE] = mailbox.special_use.encode()
    return q.AnnotationValues(tuple(sorted(values.items())))


def _annotations(state: State, query: q.ListAnnotations) -> q.AnnotationList:
    found = state.index.annotations.of_all(query.user)
    found += [
        (mailbox.number, SPECIAL_USE, mailbox.special_use.encode())
        for mailbox in state.owned(query.user)
        if mailbox.special_use
    ]
    names = frozenset(query.names)
    if names:
        found = [entry for entry in found if entry[1] in names]
    if query.digests:
        found = [(number, name, annotation_digest(value)) for number, name, value in found]
    return q.AnnotationList(tuple(sorted(found)))


def _page(state: State, mailbox: MailboxRecord, query: q.FetchMessages) -> q.MessagePage:
    messages = state.index.messages
    wanted = messages.resolve(mailbox, query.uids)
    limit = min(query.limit, q.PAGE_MESSAGES_MAX)
    since = query.changed_since
    if since >= mailbox.highestmodseq:
        wanted = UidSet()
    elif since > 1 and wanted.only == 0:
        changed = messages.changed_since(mailbox, since, _CHANGED_MAX)
        if changed is not None:
            wanted = wanted & UidSet.from_uids(changed)
    found: list[q.MessageInfo] = []
    budget = PAGE_BYTES_MAX
    for rows in messages.pages(mailbox, wanted):
        dates = messages.dates.of(rows)
        for key, record in rows:
            fields = unpack_message(key, record)
            if fields[1] <= since:
                continue
            if len(found) == limit or budget <= 0:
                return q.MessagePage(info_of(state, mailbox), tuple(found), True)
            summary = messages.summary(key) if query.summaries else b""
            budget -= len(summary)
            found.append(_message_info(mailbox, fields, summary, dates.get(key)))
    return q.MessagePage(info_of(state, mailbox), tuple(found), False)


def _message_info(
    mailbox: MailboxRecord, fields: Raw, summary: bytes, dates: MessageDates | None
) -> q.MessageInfo:
    received_us, size_bytes, guid, blob, _ = FIXED.unpack(fields[5])
    return q.MessageInfo(
        uid=fields[0],
        guid=guid,
        modseq=fields[1],
        flags=format_flags(fields[2], fields[3] | fields[4] << 64, mailbox.keywords),
        received_us=received_us,
        size_bytes=size_bytes,
        blob=blob,
        summary=summary,
        zone_minutes=0 if dates is None else dates.zone_minutes,
        saved_us=None if dates is None else dates.saved_us,
    )
