"""What a client asks for, as parsed: one class for each command.

The sections of RFC 9051 stand beside them, or other RFCs where they say more. Mailbox names are
Unicode, decoded and not yet looked at (`mail.names.mailbox_name`). Commands with a UID form have
`uid`, which is True for it: `sequence` then means UIDs, and so do the numbers in answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TypeAlias

from raftmail.frontends.imap.fetch_items import FetchItem
from raftmail.frontends.imap.notify_events import EventGroup
from raftmail.frontends.imap.partial_range import PartialRange
from raftmail.frontends.imap.search_keys import SearchKey
from raftmail.frontends.imap.sequence import SequenceSet
from raftmail.mail.commands import StoreMode
from raftmail.mail.uidset import UidSet


@dataclass(frozen=True, slots=True)
class ImapCapability:
    """CAPABILITY (6.1.1)."""


@dataclass(frozen=True, slots=True)
class Noop:
    """NOOP (6.1.2)."""


@dataclass(frozen=True, slots=True)
class Logout:
    """LOGOUT (6.1.3)."""


@dataclass(frozen=True, slots=True)
class Id:
    """ID (RFC 2971): what the client says of itself, in its order. A value is None for NIL."""

    fields: tuple[tuple[str, str | None], ...]


@dataclass(frozen=True, slots=True)
class StartTls:
    """STARTTLS (6.2.1)."""


@dataclass(frozen=True, slots=True)
class Authenticate:
    """AUTHENTICATE (6.2.2). `initial` is the first answer of the mechanism, decoded: b"" for `=`,
    None when it was not sent with the command."""

    mechanism: str
    """In capitals."""
    initial: bytes | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Login:
    """LOGIN (6.2.3)."""

    user: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Enable:
    """ENABLE (6.3.1). `capabilities` are in capitals, each once, known or not."""

    capabilities: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Qresync:
    """What a client knows of a mailbox from earlier (RFC 7162 section 3.2.5)."""

    uidvalidity: int
    modseq: int
    known: UidSet | None
    """UIDs that it has; None: it does not say."""
    matched: tuple[UidSet, UidSet] | None
    """Sequence numbers, and the UIDs that they had, as many of each."""


@dataclass(frozen=True, slots=True)
class Select:
    """SELECT (6.3.2), and EXAMINE (6.3.3) with `read_only`. `condstore` is RFC 7162 section
    3.1.8."""

    name: str
    read_only: bool
    condstore: bool
    qresync: Qresync | None


@dataclass(frozen=True, slots=True)
class Create:
    """CREATE (6.3.4). `name` is without the separator that may stand at its end. `special_uses` are
    as the client wrote them, such as `\\Sent` (RFC 6154 section 3)."""

    name: str
    special_uses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Delete:
    """DELETE (6.3.5)."""

    name: str


@dataclass(frozen=True, slots=True)
class Rename:
    """RENAME (6.3.6)."""

    old: str
    new: str


@dataclass(frozen=True, slots=True)
class ImapSubscribe:
    """SUBSCRIBE (6.3.7)."""

    name: str


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """UNSUBSCRIBE (6.3.8)."""

    name: str


class StatusItem(Enum):
    """What STATUS tells of a mailbox; the value is how it is written."""

    MESSAGES = "MESSAGES"
    UIDNEXT = "UIDNEXT"
    UIDVALIDITY = "UIDVALIDITY"
    UNSEEN = "UNSEEN"
    DELETED = "DELETED"
    DELETED_STORAGE = "DELETED-STORAGE"
    """In octets (RFC 9208 section 4.1.4)."""
    SIZE = "SIZE"
    RECENT = "RECENT"
    """RFC 3501 section 6.3.10."""
    HIGHESTMODSEQ = "HIGHESTMODSEQ"
    """RFC 7162 section 3.1.7."""
    MAILBOXID = "MAILBOXID"
    """RFC 8474 section 4.3."""
    APPENDLIMIT = "APPENDLIMIT"
    """RFC 7889 section 4."""


class ListSelection(Enum):
    """Which mailboxes LIST is about (6.3.9.1, RFC 6154 section 2); the value is how it is
    written."""

    SUBSCRIBED = "SUBSCRIBED"
    REMOTE = "REMOTE"
    RECURSIVEMATCH = "RECURSIVEMATCH"
    SPECIAL_USE = "SPECIAL-USE"


class ListReturn(Enum):
    """What LIST says of each (6.3.9.2); the value is how it is written. STATUS and
    METADATA stand apart."""

    SUBSCRIBED = "SUBSCRIBED"
    CHILDREN = "CHILDREN"
    SPECIAL_USE = "SPECIAL-USE"
    MYRIGHTS = "MYRIGHTS"
    """RFC 8440."""


@dataclass(frozen=True, slots=True)
class List:
    """LIST (6.3.9). RECURSIVEMATCH stands in `select` beside SUBSCRIBED or SPECIAL-USE only."""

    reference: str
    patterns: tuple[str, ...]
    """In Unicode, with `*` and `%`; at least one."""
    select: frozenset[ListSelection]
    returns: frozenset[ListReturn]
    status: tuple[StatusItem, ...]
    """RETURN (STATUS (...)), RFC 9051 section 6.3.9.6; empty without."""
    extended: bool
    """It has a selection, a list of patterns or RETURN, so that "" is a pattern like others."""
    metadata: tuple[str, ...] = ()
    """RETURN (METADATA (...)), RFC 9590; empty without."""


@dataclass(frozen=True, slots=True)
class Lsub:
    """LSUB (RFC 3501 section 6.3.9)."""

    reference: str
    pattern: str


@dataclass(frozen=True, slots=True)
class Namespace:
    """NAMESPACE (6.3.10)."""


@dataclass(frozen=True, slots=True)
class Status:
    """STATUS (6.3.11). `items` are in the client's order, each once, at least one."""

    name: str
    items: tuple[StatusItem, ...]


@dataclass(frozen=True, slots=True)
class InternalDate:
    """A date-time with its zone. `received_us` is microseconds since 1970 in UTC, `zone_minutes`
    what the zone is ahead of UTC."""

    received_us: int
    zone_minutes: int


@dataclass(frozen=True, slots=True)
class CatenateUrl:
    """A URL of CATENATE (RFC 4469 section 3), not yet read."""

    text: bytes


@dataclass(frozen=True, slots=True)
class AppendMessage:
    """One message of APPEND. `flags` are valid (`mail.flags.parse_flags`). With `binary` it came as
    literal8 (RFC 9051 section 6.4.5.2), with `utf8` as `UTF8 (~{n} ...)` (RFC 9755 section 4), or
    parts of it did. With `parts` it is what these are together, in place of `octets`."""

    flags: tuple[str, ...]
    received: InternalDate | None
    octets: bytes = field(repr=False)
    binary: bool = False
    utf8: bool = False
    parts: tuple[bytes | CatenateUrl, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Append:
    """APPEND (6.3.12), of at least one message (RFC 3502)."""

    name: str
    messages: tuple[AppendMessage, ...]


@dataclass(frozen=True, slots=True)
class Replace:
    """REPLACE (RFC 8508). `number` is the sequence number or UID of the message that goes;
    `uidset.STAR` is the last."""

    uid: bool
    number: int
    name: str
    message: AppendMessage


@dataclass(frozen=True, slots=True)
class Idle:
    """IDLE (6.3.13). The line DONE comes from `RequestReader.take_line`."""


@dataclass(frozen=True, slots=True)
class Check:
    """CHECK (RFC 3501 section 6.4.1)."""


@dataclass(frozen=True, slots=True)
class Close:
    """CLOSE (6.4.1)."""


@dataclass(frozen=True, slots=True)
class Unselect:
    """UNSELECT (6.4.2)."""


@dataclass(frozen=True, slots=True)
class ImapExpunge:
    """EXPUNGE (6.4.3), and UID EXPUNGE (6.4.9) with a set."""

    uids: SequenceSet | None


class SearchReturn(Enum):
    """RETURN (...) of SEARCH (6.4.4); the value is how it is written."""

    MIN = "MIN"
    MAX = "MAX"
    ALL = "ALL"
    COUNT = "COUNT"
    SAVE = "SAVE"


@dataclass(frozen=True, slots=True)
class Search:
    """SEARCH (6.4.4)."""

    uid: bool
    key: SearchKey
    returns: frozenset[SearchReturn] | None
    """None: there was no RETURN, and the answer may be `* SEARCH`. `RETURN ()` is ALL."""
    modseq: bool
    """MODSEQ is among the keys, so that the answer has it (RFC 7162 section 3.1.5)."""
    partial: PartialRange | None = None
    """PARTIAL of RETURN (RFC 9394), never beside ALL."""


class SortKey(Enum):
    """What SORT compares (RFC 5256 section 3, RFC 5957); the value is how it is written."""

    ARRIVAL = "ARRIVAL"
    CC = "CC"
    DATE = "DATE"
    DISPLAYFROM = "DISPLAYFROM"
    DISPLAYTO = "DISPLAYTO"
    FROM = "FROM"
    SIZE = "SIZE"
    SUBJECT = "SUBJECT"
    TO = "TO"


@dataclass(frozen=True, slots=True)
class SortCriterion:
    key: SortKey
    reverse: bool


@dataclass(frozen=True, slots=True)
class Sort:
    """SORT (RFC 5256 section 3); at least one criterion."""

    uid: bool
    criteria: tuple[SortCriterion, ...]
    key: SearchKey
    modseq: bool


class ThreadAlgorithm(Enum):
    ORDEREDSUBJECT = "ORDEREDSUBJECT"
    REFERENCES = "REFERENCES"


@dataclass(frozen=True, slots=True)
class Thread:
    """THREAD (RFC 5256 section 3)."""

    uid: bool
    algorithm: ThreadAlgorithm
    key: SearchKey


@dataclass(frozen=True, slots=True)
class ImapFetch:
    """FETCH (6.4.5). Macros are taken apart; `items` are in the client's order, each once, as
    written: UID and MODSEQ that other parts of the command imply are not added."""

    uid: bool
    sequence: SequenceSet
    items: tuple[FetchItem, ...]
    changed_since: int | None
    """RFC 7162 section 3.1.4.1."""
    vanished: bool
    """RFC 7162 section 3.2.6; with `uid` and `changed_since` only."""
    partial: PartialRange | None = None
    """RFC 9394 section 3.3; with `uid` only."""


@dataclass(frozen=True, slots=True)
class ImapStore:
    """STORE (6.4.6). `flags` are valid (`mail.flags.parse_flags`)."""

    uid: bool
    sequence: SequenceSet
    mode: StoreMode
    flags: tuple[str, ...]
    silent: bool
    unchanged_since: int | None
    """RFC 7162 section 3.1.3."""


@dataclass(frozen=True, slots=True)
class ImapCopy:
    """COPY (6.4.7)."""

    uid: bool
    sequence: SequenceSet
    name: str


@dataclass(frozen=True, slots=True)
class ImapMove:
    """MOVE (6.4.8)."""

    uid: bool
    sequence: SequenceSet
    name: str


@dataclass(frozen=True, slots=True)
class GetQuota:
    """GETQUOTA (RFC 9208 section 4.1.1)."""

    root: str


@dataclass(frozen=True, slots=True)
class GetQuotaRoot:
    """GETQUOTAROOT (RFC 9208 section 4.1.2)."""

    name: str


class MetadataDepth(Enum):
    """How far below an entry GETMETADATA looks; the value is how it is written."""

    NONE = "0"
    ONE = "1"
    INFINITY = "INFINITY"


@dataclass(frozen=True, slots=True)
class GetMetadata:
    """GETMETADATA (RFC 5464 section 4.2). The server's name is empty; longer values than
    `size_bytes` are left out."""

    name: str
    names: tuple[str, ...]
    depth: MetadataDepth
    size_bytes: int | None


@dataclass(frozen=True, slots=True)
class SetMetadata:
    """SETMETADATA (RFC 5464 section 4.3); None takes an annotation away."""

    name: str
    entries: tuple[tuple[str, bytes | None], ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class ImapSetAcl:
    """SETACL (RFC 4314 section 3.1); DELETEACL (section 3.2) gives no rights in place of any.
    `rights` are in their order."""

    name: str
    identifier: str
    mode: StoreMode
    rights: str


@dataclass(frozen=True, slots=True)
class ImapGetAcl:
    """GETACL (RFC 4314 section 3.3)."""

    name: str


@dataclass(frozen=True, slots=True)
class ListRights:
    """LISTRIGHTS (RFC 4314 section 3.4)."""

    name: str
    identifier: str


@dataclass(frozen=True, slots=True)
class MyRights:
    """MYRIGHTS (RFC 4314 section 3.5)."""

    name: str


@dataclass(frozen=True, slots=True)
class Notify:
    """NOTIFY (RFC 5465 section 3). NOTIFY NONE has no groups. With `status`, what there is now is
    told first."""

    status: bool
    groups: tuple[EventGroup, ...]


@dataclass(frozen=True, slots=True)
class Compress:
    """COMPRESS DEFLATE (RFC 4978)."""


ImapCommand: TypeAlias = (
    ImapCapability
    | Noop
    | Logout
    | Id
    | StartTls
    | Authenticate
    | Login
    | Enable
    | Select
    | Create
    | Delete
    | Rename
    | ImapSubscribe
    | Unsubscribe
    | List
    | Lsub
    | Namespace
    | Status
    | Append
    | Replace
    | Idle
    | Check
    | Close
    | Unselect
    | ImapExpunge
    | Search
    | Sort
    | Thread
    | ImapFetch
    | ImapStore
    | ImapCopy
    | ImapMove
    | GetQuota
    | GetQuotaRoot
    | GetMetadata
    | SetMetadata
    | ImapSetAcl
    | ImapGetAcl
    | ListRights
    | MyRights
    | Notify
    | Compress
)
