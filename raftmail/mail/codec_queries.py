"""Queries and answers as bytes, for nodes that ask another one's replica."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from raftmail.mail import queries as q
from raftmail.mail.annotations import ANNOTATIONS_MAX, check_annotation_name
from raftmail.mail.limits import (
    DELIVERY_KEY_BYTES,
    DIGEST_BYTES,
    GUID_BYTES,
    NUMBER_MAX,
    QUERY_LIMIT_MAX,
    RECEIVED_US_MAX,
    SIZE_BYTES_MAX,
    check_bytes,
    check_dates,
    check_int,
    check_record_key,
    check_ref,
    check_user,
)
from raftmail.mail.packing import CodecError, Raw, pack, unpack_versioned
from raftmail.mail.rights import check_entries, check_rights
from raftmail.mail.scripts import (
    RULES_VERSION_BYTES,
    SCRIPT_BYTES_MAX,
    check_script,
    check_script_name,
)
from raftmail.mail.uidset import UID_MAX, UidSet

VERSION = 1
_PREFIX = bytes((VERSION,))


def validate_query(query: q.Query) -> None:
    """Check a query's fields. Raises ValueError whose text names the field."""
    if isinstance(query, q.ListUsers):
        if query.after:
            check_user("after", query.after)
        check_int("limit", query.limit, 1, QUERY_LIMIT_MAX)
        return
    if isinstance(query, q.GetUser):
        check_user("address", query.address)
        return
    if isinstance(query, q.GetConfiguration):
        check_int("since", query.since, 0, NUMBER_MAX)
        check_int("floor", query.floor, 0, NUMBER_MAX)
        return
    if isinstance(query, q.MissingBodies):
        check_user("user", query.user)
        if type(query.hashes) is not tuple or len(query.hashes) > q.BODIES_MAX:
            raise ValueError(f"hashes: at most {q.BODIES_MAX} of them")
        for digest in query.hashes:
            check_bytes("hashes", digest, DIGEST_BYTES)
        return
    if not isinstance(query, tuple(_TO_RAW)):
        raise ValueError(f"query: {type(query).__name__} is no query")
    if isinstance(query, q.GuestQuery):
        check_user("guest", query.guest)
        if not isinstance(query.query, _OF_GUESTS):
            raise ValueError(f"query: no guest asks by {type(query.query).__name__}")
        validate_query(query.query)
        return
    check_user("user", query.user)
    if isinstance(query, _OF_USERS):
        return
    if isinstance(query, q.GetScript):
        check_script_name("name", query.name)
        return
    if isinstance(query, q.ActiveScript):
        if query.known != b"":
            check_bytes("known", query.known, RULES_VERSION_BYTES)
        return
    if isinstance(query, q.GetDelivery):
        check_bytes("key", query.key, DELIVERY_KEY_BYTES)
        return
    if isinstance(query, q.ListShared):
        check_user("guest", query.guest)
        if query.mailbox is None:
            return
    if isinstance(query, q.GetAnnotations) and query.mailbox is None:
        return
    if isinstance(query, q.ListAnnotations):
        _check_names(query.names)
        check_bool("digests", query.digests)
        return
    check_ref("mailbox", query.mailbox)
    if isinstance(query, q.FetchMessages | q.FetchColumns):
        if type(query.uids) is not UidSet:
            raise ValueError("uids: a UidSet")
        if isinstance(query, q.FetchMessages):
            check_int("changed_since", query.changed_since, 0, NUMBER_MAX)
        check_bool("summaries", query.summaries)
        check_int("limit", query.limit, 1, q.PAGE_MESSAGES_MAX)
    elif isinstance(query, q.FetchBodies):
        if type(query.uids) is not UidSet:
            raise ValueError("uids: a UidSet")
    elif isinstance(query, q.FetchVanished):
        check_int("since", query.since, 0, NUMBER_MAX)
    elif isinstance(query, q.FetchBody):
        check_int("uid", query.uid, 1, UID_MAX + 1)


def check_bool(field: str, value: object) -> None:
    if type(value) is not bool:
        raise ValueError(f"{field}: true or false, not {type(value).__name__}")


def encode_query(query: q.Query) -> bytes:
    """A query as bytes. Raises ValueError when it is none."""
    writer = _TO_RAW.get(type(query))
    if writer is None:
        raise ValueError(f"query: {type(query).__name__} is no query")
    return _PREFIX + pack(writer(query))


def decode_query(data: bytes) -> q.Query:
    """Read and check a query. Raises `CodecError`."""
    raw = unpack_versioned(data, VERSION, "query")
    reader = _FROM_RAW.get(raw[0])
    if reader is None:
        raise CodecError(f"no query has the kind {raw[0]}")
    try:
        query = reader(*raw[1:])
        validate_query(query)
    except (ValueError, TypeError) as e:
        raise CodecError(f"query: {e}") from None
    return query


_TO_RAW: dict[type, Callable[[Any], Raw]] = {
    q.ListMailboxes: lambda x: (1, x.user),
    q.GetMailbox: lambda x: (2, x.user, x.mailbox),
    q.FetchMessages: lambda x: (
        3,
        x.user,
        x.mailbox,
        x.uids.to_wire(),
        x.changed_since,
        x.summaries,
        x.limit,
    ),
    q.FetchVanished: lambda x: (4, x.user, x.mailbox, x.since),
    q.FetchBody: lambda x: (5, x.user, x.mailbox, x.uid),
    q.ListSubscriptions: lambda x: (6, x.user),
    q.ListUsers: lambda x: (7, x.after, x.limit),
    q.GetUser: lambda x: (8, x.address),
    q.GetConfiguration: lambda x: (9, x.since, x.floor),
    q.MissingBodies: lambda x: (10, x.user, x.hashes),
    q.GetUsage: lambda x: (11, x.user),
    q.GetAnnotations: lambda x: (14, x.user, x.mailbox),
    q.ListAnnotations: lambda x: (15, x.user, x.names, x.digests),
    q.FetchContents: lambda x: (12, x.user, x.mailbox),
    q.FetchColumns: lambda x: (13, x.user, x.mailbox, x.uids.to_wire(), x.summaries, x.limit),
    q.FetchBodies: lambda x: (16, x.user, x.mailbox, x.uids.to_wire()),
    q.ListScripts: lambda x: (17, x.user),
    q.GetScript: lambda x: (18, x.user, x.name),
    q.ActiveScript: lambda x: (19, x.user, x.known),
    q.GetAcl: lambda x: (20, x.user, x.mailbox),
    q.ListShared: lambda x: (21, x.user, x.guest, x.mailbox),
    q.ListSharers: lambda x: (22, x.user),
    q.GetDelivery: lambda x: (24, x.user, x.key),
    q.GuestQuery: lambda x: (23, x.guest, _TO_RAW[type(x.query)](x.query)),
}

_OF_USERS = (q.ListMailboxes, q.ListSubscriptions, q.GetUsage, q.ListSharers, q.ListScripts)
_OF_GUESTS = (
    q.GetMailbox,
    q.FetchMessages,
    q.FetchColumns,
    q.FetchContents,
    q.FetchVanished,
    q.FetchBody,
    q.FetchBodies,
    q.GetAnnotations,
    q.GetAcl,
)


def _read_fetch(
    user: Any, mailbox: Any, uids: Any, since: Any, summaries: Any, limit: Any
) -> q.Query:
    return q.FetchMessages(user, mailbox, UidSet.from_wire(uids), since, summaries, limit)


def _read_columns_query(user: Any, mailbox: Any, uids: Any, summaries: Any, limit: Any) -> q.Query:
    return q.FetchColumns(user, mailbox, UidSet.from_wire(uids), summaries, limit)


def _read_guest_query(guest: Any, raw: Any) -> q.Query:
    kind, *fields = _tuple(raw)
    reader = _FROM_RAW.get(kind)
    if reader is None or kind == 23:
        raise ValueError(f"no guest asks by kind {kind}")
    query: Any = reader(*fields)
    return q.GuestQuery(guest, query)


_FROM_RAW: dict[int, Callable[..., q.Query]] = {
    1: q.ListMailboxes,
    2: q.GetMailbox,
    3: _read_fetch,
    4: q.FetchVanished,
    5: q.FetchBody,
    6: q.ListSubscriptions,
    7: q.ListUsers,
    8: q.GetUser,
    9: q.GetConfiguration,
    10: q.MissingBodies,
    11: q.GetUsage,
    12: q.FetchContents,
    13: _read_columns_query,
    14: q.GetAnnotations,
    15: q.ListAnnotations,
    16: lambda user, mailbox, uids: q.FetchBodies(user, mailbox, UidSet.from_wire(uids)),
    17: q.ListScripts,
    18: q.GetScript,
    19: q.ActiveScript,
    20: q.GetAcl,
    21: q.ListShared,
    22: q.ListSharers,
    23: _read_guest_query,
    24: q.GetDelivery,
}

# Answers

(
    _NONE,
    _MAILBOX,
    _PAGE,
    _USER,
    _UIDS,
    _BODY,
    _MAILBOXES,
    _NAMES,
    _NOTHING,
    _CONFIGURATION,
    _USAGE,
    _CONTENTS,
    _COLUMNS,
    _ANNOTATIONS,
    _ANNOTATION_LIST,
    _BODIES,
    _SCRIPTS,
    _RULES,
    _ACL,
    _SHARED,
    _DELIVERY,
) = range(21)


def encode_answer(answer: q.Answer) -> bytes:
    """An answer as bytes."""
    return _PREFIX + pack(_answer_raw(answer))


def decode_answer(data: bytes) -> q.Answer:
    """Read and check an answer. Raises `CodecError`."""
    raw = unpack_versioned(data, VERSION, "answer")
    try:
        return _read_answer(raw[0], *raw[1:])
    except (ValueError, TypeError) as e:
        raise CodecError(f"answer: {e}") from None


def _answer_raw(answer: q.Answer) -> Raw:
    if answer is None:
        return (_NONE,)
    if isinstance(answer, q.MailboxInfo):
        return (_MAILBOX, _mailbox_raw(answer))
    if isinstance(answer, q.MessagePage):
        messages = [_message_raw(message) for message in answer.messages]
        return (_PAGE, (_mailbox_raw(answer.mailbox), messages, answer.more))
    if isinstance(answer, q.AnnotationValues):
        return (_ANNOTATIONS, (answer.entries,))
    if isinstance(answer, q.AnnotationList):
        return (_ANNOTATION_LIST, (answer.entries,))
    if isinstance(answer, q.AclEntries):
        return (_ACL, (answer.entries, answer.own_seen))
    if isinstance(answer, q.SharedMailboxes):
        shared = [(_mailbox_raw(info), rights) for info, rights in answer.shared]
        return (_SHARED, (shared,))
    if isinstance(answer, q.MessageBodies):
        return (_BODIES, (answer.bodies,))
    if isinstance(answer, q.ScriptList):
        scripts = [(one.name, one.size_bytes, one.active) for one in answer.scripts]
        return (_SCRIPTS, (scripts,))
    if isinstance(answer, q.RulesInForce):
        return (_RULES, (answer.version, answer.name, answer.script, answer.others))
    if isinstance(answer, q.KnownDelivery):
        return (_DELIVERY, (answer.received_us,))
    if isinstance(answer, q.MessageColumns):
        return (_COLUMNS, _columns_raw(answer))
    if isinstance(answer, q.MailboxContents):
        known = (answer.uids.to_wire(), answer.keywords, answer.first_unseen, answer.whole)
        return (_CONTENTS, (_mailbox_raw(answer.mailbox), *known))
    if isinstance(answer, q.UserInfo):
        return (_USER, (answer.address, answer.password_hash))
    if isinstance(answer, q.Configuration):
        fields = (answer.revision, answer.records, answer.whole, answer.floor, answer.more)
        return (_CONFIGURATION, fields)
    if isinstance(answer, q.Usage):
        return (_USAGE, (answer.messages, answer.size_bytes))
    if isinstance(answer, UidSet):
        return (_UIDS, answer.to_wire())
    if isinstance(answer, bytes):
        return (_BODY, answer)
    if not answer:
        return (_NOTHING,)
    if isinstance(answer[0], str):
        return (_NAMES, answer)
    return (_MAILBOXES, [_mailbox_raw(mailbox) for mailbox in answer])


def _read_answer(kind: int, value: Any = None) -> q.Answer:
    if kind in (_NONE, _NOTHING):
        if value is not None:
            raise ValueError("nothing stands in an empty answer")
        return None if kind == _NONE else ()
    if kind == _MAILBOX:
        return _read_mailbox(value)
    if kind == _UIDS:
        return UidSet.from_wire(value)
    if kind == _BODY:
        if type(value) is not bytes:
            raise ValueError("a body is bytes")
        return value
    values = _tuple(value)
    if kind == _PAGE:
        mailbox, messages, more = values
        check_bool("more", more)
        page = tuple(_read_message(message) for message in _tuple(messages))
        return q.MessagePage(_read_mailbox(mailbox), page, more)
    if kind == _ANNOTATIONS:
        return _read_annotations(*values)
    if kind == _ANNOTATION_LIST:
        return _read_annotation_list(*values)
    if kind == _ACL:
        entries, own_seen = values
        check_entries("entries", entries)
        check_bool("own_seen", own_seen)
        return q.AclEntries(entries, own_seen)
    if kind == _SHARED:
        return _read_shared(*values)
    if kind == _BODIES:
        (bodies,) = values
        for uid, body in _tuple(bodies):
            check_int("bodies", uid, 1, UID_MAX)
            if type(body) is not bytes:
                raise ValueError("a body is bytes")
        return q.MessageBodies(bodies)
    if kind == _SCRIPTS:
        return _read_scripts(*values)
    if kind == _RULES:
        return _read_rules(*values)
    if kind == _DELIVERY:
        return _read_delivery(*values)
    if kind == _COLUMNS:
        return _read_columns(*values)
    if kind == _CONTENTS:
        return _read_contents(*values)
    if kind == _USER:
        address, password_hash = values
        _strings((address, password_hash))
        return q.UserInfo(address, password_hash)
    if kind == _CONFIGURATION:
        return _read_configuration(*values)
    if kind == _USAGE:
        for number in values:
            check_int("usage", number, 0, NUMBER_MAX)
        return q.Usage(*values)
    if not values:
        raise ValueError("an empty list has a kind of its own")
    if kind == _NAMES:
        return _strings(values)
    if kind == _MAILBOXES:
        return tuple(_read_mailbox(mailbox) for mailbox in values)
    raise ValueError(f"no answer has the kind {kind}")


def _mailbox_raw(x: q.MailboxInfo) -> Raw:
    return (
        x.number,
        x.user,
        x.name,
        x.guid,
        x.uidvalidity,
        x.uidnext,
        x.highestmodseq,
        x.messages,
        x.unseen,
        x.size_bytes,
        x.special_use,
        x.subscribed,
        x.digest,
    )


def _read_mailbox(raw: object) -> q.MailboxInfo:
    info = q.MailboxInfo(*_tuple(raw))
    for number in (
        info.number,
        info.uidvalidity,
        info.uidnext,
        info.highestmodseq,
        info.messages,
        info.unseen,
        info.size_bytes,
    ):
        check_int("mailbox", number, 0, NUMBER_MAX)
    _strings((info.user, info.name, info.special_use))
    check_bytes("guid", info.guid, GUID_BYTES)
    check_bytes("digest", info.digest, 16)
    check_bool("subscribed", info.subscribed)
    return info


def _read_contents(
    mailbox: Any, uids: Any, keywords: Any, first_unseen: Any, whole: Any
) -> q.MailboxContents:
    _strings(_tuple(keywords))
    check_int("first_unseen", first_unseen, 0, UID_MAX)
    check_bool("whole", whole)
    known = UidSet.from_wire(uids)
    return q.MailboxContents(_read_mailbox(mailbox), known, keywords, first_unseen, whole)


def _read_annotations(entries: Any) -> q.AnnotationValues:
    for entry in _tuple(entries):
        name, value = _tuple(entry)
        check_annotation_name("entries", name)
        if type(value) is not bytes:
            raise ValueError("entries: a value is bytes")
    return q.AnnotationValues(entries)


def _read_shared(shared: Any) -> q.SharedMailboxes:
    found = []
    for one in _tuple(shared):
        info, rights = _tuple(one)
        check_rights("rights", rights)
        found.append((_read_mailbox(info), rights))
    return q.SharedMailboxes(tuple(found))


def _check_names(names: Any) -> None:
    if type(names) is not tuple or len(names) > ANNOTATIONS_MAX:
        raise ValueError(f"names: at most {ANNOTATIONS_MAX} of them")
    for name in names:
        check_annotation_name("names", name)


def _read_annotation_list(entries: Any) -> q.AnnotationList:
    for entry in _tuple(entries):
        number, name, value = _tuple(entry)
        check_annotation_name("entries", name)
        if type(number) is not int or type(value) is not bytes:
            raise ValueError("entries: numbers, names and bytes")
    return q.AnnotationList(entries)


def _read_scripts(scripts: Any) -> q.ScriptList:
    found = []
    for script in _tuple(scripts):
        name, size_bytes, active = _tuple(script)
        check_script_name("scripts", name)
        check_int("scripts", size_bytes, 0, SCRIPT_BYTES_MAX)
        check_bool("scripts", active)
        found.append(q.ScriptInfo(name, size_bytes, active))
    return q.ScriptList(tuple(found))


def _read_rules(version: Any, name: Any, script: Any, others: Any) -> q.RulesInForce:
    check_bytes("version", version, RULES_VERSION_BYTES)
    if name != "":
        check_script_name("name", name)
    check_script("script", script)
    for other in _tuple(others):
        other_name, text = _tuple(other)
        check_script_name("others", other_name)
        check_script("others", text)
    return q.RulesInForce(version, name, script, others)


def _read_delivery(received_us: Any) -> q.KnownDelivery:
    check_int("received_us", received_us, -RECEIVED_US_MAX, RECEIVED_US_MAX)
    return q.KnownDelivery(received_us)


def _columns_raw(x: q.MessageColumns) -> Raw:
    numbers = [tuple(column) for column in (x.uids, x.modseqs, x.sizes, x.received_us)]
    return (*numbers, x.flags, tuple(x.flags_of), tuple(x.summaries), x.more)


def _read_columns(
    uids: Any,
    modseqs: Any,
    sizes: Any,
    received_us: Any,
    flags: Any,
    flags_of: Any,
    summaries: Any,
    more: Any,
) -> q.MessageColumns:
    count = len(_tuple(uids))
    for name, column, least, most in (
        ("uids", uids, 1, UID_MAX),
        ("modseqs", modseqs, 0, NUMBER_MAX),
        ("sizes", sizes, 0, SIZE_BYTES_MAX),
        ("received_us", received_us, -RECEIVED_US_MAX, RECEIVED_US_MAX),
        ("flags_of", flags_of, 0, len(_tuple(flags)) - 1),
    ):
        if len(_tuple(column)) != count:
            raise ValueError(f"{name}: a value for each message")
        for value in column:
            check_int(name, value, least, most)
    for one in flags:
        _strings(_tuple(one))
    if len(_tuple(summaries)) not in (0, count) or not all(type(one) is bytes for one in summaries):
        raise ValueError("summaries: bytes for each message, or none")
    check_bool("more", more)
    columns = (uids, modseqs, sizes, received_us, flags, flags_of, summaries)
    return q.MessageColumns(*columns, more)


def _message_raw(x: q.MessageInfo) -> Raw:
    raw = (x.uid, x.guid, x.modseq, x.flags, x.received_us, x.size_bytes, x.blob, x.summary)
    if x.zone_minutes or x.saved_us is not None:
        return (*raw, x.zone_minutes, x.saved_us)
    return raw


def _read_message(raw: object) -> q.MessageInfo:
    info = q.MessageInfo(*_tuple(raw))
    check_int("uid", info.uid, 1, UID_MAX)
    check_bytes("guid", info.guid, GUID_BYTES)
    check_int("modseq", info.modseq, 0, NUMBER_MAX)
    _strings(_tuple(info.flags))
    check_int("received_us", info.received_us, -RECEIVED_US_MAX, RECEIVED_US_MAX)
    check_int("size_bytes", info.size_bytes, 0, SIZE_BYTES_MAX)
    check_bytes("blob", info.blob, DIGEST_BYTES)
    if type(info.summary) is not bytes:
        raise ValueError("summary: bytes")
    check_dates("message", info.zone_minutes, info.saved_us)
    return info


def _read_configuration(
    revision: Any, records: Any, whole: Any, floor: Any, more: Any
) -> q.Configuration:
    check_int("revision", revision, 0, NUMBER_MAX)
    check_int("floor", floor, 0, NUMBER_MAX)
    check_bool("whole", whole)
    check_bool("more", more)
    for record in _tuple(records):
        key, at, value = _tuple(record)
        check_record_key("records", key)
        check_int("records", at, 1, NUMBER_MAX)
        if value is not None and type(value) is not bytes:
            raise ValueError("records: a value is bytes")
    return q.Configuration(revision, records, whole, floor, more)


def _tuple(value: object) -> Raw:
    if type(value) is not tuple:
        raise ValueError(f"an array, not {type(value).__name__}")
    return value


def _strings(values: tuple[Any, ...]) -> tuple[str, ...]:
    for value in values:
        if type(value) is not str:
            raise ValueError(f"text, not {type(value).__name__}")
    return values
