"""Reads, and their answers. A query is answered from one replica after a read barrier (P5), in
bounded pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from raftmail.mail.commands import MailboxRef
from raftmail.mail.uidset import UidSet

PAGE_MESSAGES_MAX = 1000
TOGETHER_MAX = 16
TOGETHER_BYTES_MAX = 256 << 10
"""Short messages that are brought together, and their bytes."""
BODIES_MAX = 1000


@dataclass(frozen=True, slots=True)
class ListMailboxes:
    """All mailboxes of a user, ordered by name. Answer: tuple[MailboxInfo, ...]."""

    user: str


@dataclass(frozen=True, slots=True)
class GetMailbox:
    """One mailbox. Answer: MailboxInfo, or None."""

    user: str
    mailbox: MailboxRef


@dataclass(frozen=True, slots=True)
class FetchMessages:
    """Messages of a mailbox by UID, ascending, at most `limit`; with `changed_since` only those
    with a higher modseq. Answer: MessagePage, or None when there is no such mailbox."""

    user: str
    mailbox: MailboxRef
    uids: UidSet
    changed_since: int = 0
    summaries: bool = False
    limit: int = PAGE_MESSAGES_MAX


@dataclass(frozen=True, slots=True)
class FetchColumns:
    """As `FetchMessages`, for lists of many messages. Answer: MessageColumns, or None when there is
    no such mailbox."""

    user: str
    mailbox: MailboxRef
    uids: UidSet
    summaries: bool = False
    limit: int = PAGE_MESSAGES_MAX


@dataclass(frozen=True, slots=True)
class FetchContents:
    """What a front end numbers the messages of a mailbox by. Answer: MailboxContents, or None when
    there is no such mailbox.

    It costs as much for a million messages as for one, unless the expunge log does not tell all
    that went. Then messages are read, some with each question, until the answer is whole."""

    user: str
    mailbox: MailboxRef


@dataclass(frozen=True, slots=True)
class FetchVanished:
    """UIDs expunged after a modseq (RFC 7162 section 3.2.5.1). Answer: UidSet, or None."""

    user: str
    mailbox: MailboxRef
    since: int


@dataclass(frozen=True, slots=True)
class FetchBody:
    """One message's bytes. Answer: bytes, or None when mailbox or UID does not exist."""

    user: str
    mailbox: MailboxRef
    uid: int


@dataclass(frozen=True, slots=True)
class FetchBodies:
    """The bytes of short messages, as many of the first as are brought together. Answer:
    MessageBodies, or None when there is no such mailbox.

    One may be left out although it is there. `FetchBody` tells of it."""

    user: str
    mailbox: MailboxRef
    uids: UidSet


@dataclass(frozen=True, slots=True)
class MissingBodies:
    """Which of these bodies (sha256, at most BODIES_MAX) no message of the user's shard has.
    Answer: bytes, their hashes joined."""

    user: str
    hashes: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class GetUsage:
    """What all messages of a user are together. Answer: Usage; nothing of a user who has no
    mailbox."""

    user: str


@dataclass(frozen=True, slots=True)
class ListSubscriptions:
    """Answer: tuple[str, ...], ordered."""

    user: str


@dataclass(frozen=True, slots=True)
class GetAnnotations:
    """All annotations of a mailbox, or of the user where `mailbox` is None. Answer:
    AnnotationValues, or None when there is no such mailbox."""

    user: str
    mailbox: MailboxRef | None


@dataclass(frozen=True, slots=True)
class ListAnnotations:
    """Annotations of all mailboxes of a user, and those that the user has beside them: the ones
    with these names, or all where there are none. Answer: AnnotationList."""

    user: str
    names: tuple[str, ...]
    digests: bool
    """Whether each value is told by its digest, of 8 bytes."""


@dataclass(frozen=True, slots=True)
class GetAcl:
    """Who may do what with a mailbox. Answer: AclEntries, or None when there is no such mailbox."""

    user: str
    mailbox: MailboxRef


@dataclass(frozen=True, slots=True)
class ListShared:
    """What of a user's mailboxes is shared with `guest`: all that have the right `l`; of one
    mailbox, whatever the rights are, if there are any. Answer: SharedMailboxes."""

    user: str
    guest: str
    mailbox: MailboxRef | None = None


@dataclass(frozen=True, slots=True)
class ListSharers:
    """Who may share mailboxes with a user, or with all users of a domain
    (`mail.rights.everybody`), which the root shard knows. Answer: tuple[str, ...], ordered."""

    user: str


@dataclass(frozen=True, slots=True)
class ListScripts:
    """The scripts of a user. Answer: ScriptList."""

    user: str


@dataclass(frozen=True, slots=True)
class GetScript:
    """The text of a script. Answer: bytes, or None when there is no such script."""

    user: str
    name: str


@dataclass(frozen=True, slots=True)
class ActiveScript:
    """The delivery rules of a user. Answer: RulesInForce, or None when no script is active.

    `known` is the version that the asker has (b"": none): it is not sent again."""

    user: str
    known: bytes = b""


@dataclass(frozen=True, slots=True)
class GetDelivery:
    """What is known of a user's delivery by its key, or by a mark (`commands.NewMessage`). Answer:
    KnownDelivery, or None."""

    user: str
    key: bytes


@dataclass(frozen=True, slots=True)
class ListUsers:
    """Users of the root shard after `after`, ordered, at most `limit`. Answer: tuple[str, ...]."""

    after: str = ""
    limit: int = 1000


@dataclass(frozen=True, slots=True)
class GetUser:
    """Answer: UserInfo, or None."""

    address: str


@dataclass(frozen=True, slots=True)
class GetConfiguration:
    """What of the cluster's configuration changed after revision `since`, a page at a time. Answer:
    Configuration.

    `floor` is that of the `Configuration` that the asker last took whole (0: none): see there."""

    since: int = 0
    floor: int = 0


@dataclass(frozen=True, slots=True)
class GuestQuery:
    """What `guest` asks of a mailbox of somebody else. It is answered where the rights allow it
    (RFC 4314 section 4), else as if there were no such mailbox: `a` for `GetAcl`, `r` for all
    else."""

    guest: str
    query: (
        GetMailbox
        | FetchMessages
        | FetchColumns
        | FetchContents
        | FetchVanished
        | FetchBody
        | FetchBodies
        | GetAnnotations
        | GetAcl
    )

    @property
    def user(self) -> str:
        """Whose shard answers it."""
        return self.query.user


Query: TypeAlias = (
    ListMailboxes
    | GetMailbox
    | FetchMessages
    | FetchColumns
    | FetchContents
    | FetchVanished
    | FetchBody
    | FetchBodies
    | ListSubscriptions
    | GetAnnotations
    | ListAnnotations
    | ListScripts
    | GetScript
    | ActiveScript
    | GetDelivery
    | ListUsers
    | GetUser
    | GetConfiguration
    | MissingBodies
    | GetUsage
    | GetAcl
    | ListShared
    | ListSharers
    | GuestQuery
)


def asked_for(query: Query) -> Query:
    """What is to be read, whoever asks."""
    return query.query if isinstance(query, GuestQuery) else query


@dataclass(frozen=True, slots=True)
class MailboxInfo:
    number: int
    user: str
    name: str
    guid: bytes
    uidvalidity: int
    uidnext: int
    highestmodseq: int
    messages: int
    unseen: int
    size_bytes: int
    special_use: str
    subscribed: bool
    digest: bytes


@dataclass(slots=True, repr=False)
class ReadPoint:
    """How far a replica has to be for reads that belong together. The first of them waits for a
    barrier, and those after it for what that one had to wait for (P5): whatever was acknowledged
    before the first began, all of them see. No read sees less than one before it, whichever
    replicas answer them."""

    shard: int = -1
    index: int = -1
    """-1: nothing was read yet."""

    def reached(self, shard: int, index: int) -> None:
        """A write was applied at this index, or a read was answered there: reads see it, and all
        that was acknowledged before it was asked for."""
        self.shard, self.index = shard, index

    def passed(self) -> None:
        """A read is answered at an index that is not known: the next waits for a barrier."""
        self.shard = self.index = -1


@dataclass(frozen=True, slots=True)
class MessageColumns:
    """Messages in columns, ascending by UID; `more` tells that others may follow. `flags` are those
    that differ, and `flags_of` has the place there of each message's. `summaries` are empty where
    they were not asked for."""

    uids: Sequence[int]
    modseqs: Sequence[int]
    sizes: Sequence[int]
    received_us: Sequence[int]
    flags: tuple[tuple[str, ...], ...]
    flags_of: Sequence[int]
    summaries: Sequence[bytes]
    more: bool


@dataclass(frozen=True, slots=True)
class MailboxContents:
    """`uids` are those of all messages; `keywords` all that the mailbox has ever had. Where it is
    not `whole`, ask again: there are no UIDs yet."""

    mailbox: MailboxInfo
    uids: UidSet
    keywords: tuple[str, ...]
    first_unseen: int
    """The UID of the first message without \\Seen; 0: there is none, or it is far from both ends
    of a large mailbox."""
    whole: bool


@dataclass(frozen=True, slots=True)
class MessageInfo:
    """`zone_minutes` and `saved_us` are as in `mail.commands.NewMessage`."""

    uid: int
    guid: bytes
    modseq: int
    flags: tuple[str, ...]
    received_us: int
    size_bytes: int
    blob: bytes
    summary: bytes = b""
    zone_minutes: int = 0
    saved_us: int | None = None


@dataclass(frozen=True, slots=True)
class MessagePage:
    """`more` tells that messages after the last one were left out because of the limit."""

    mailbox: MailboxInfo
    messages: tuple[MessageInfo, ...]
    more: bool


@dataclass(frozen=True, slots=True, repr=False)
class MessageBodies:
    """UIDs and bytes of messages, ascending."""

    bodies: tuple[tuple[int, bytes], ...]


@dataclass(frozen=True, slots=True)
class AnnotationValues:
    """By name, ordered."""

    entries: tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True)
class AnnotationList:
    """Number of the mailbox (0: beside all mailboxes), name, and value or its digest; ordered."""

    entries: tuple[tuple[int, str, bytes], ...]


@dataclass(frozen=True, slots=True)
class ScriptInfo:
    """`active` is true of one script at most."""

    name: str
    size_bytes: int
    active: bool


@dataclass(frozen=True, slots=True)
class ScriptList:
    """Ordered by name."""

    scripts: tuple[ScriptInfo, ...]


@dataclass(frozen=True, slots=True)
class KnownDelivery:
    """A message that was delivered, by its date of receipt in microseconds since 1970."""

    received_us: int


@dataclass(frozen=True, slots=True, repr=False)
class RulesInForce:
    """The active script, and all other scripts of the user, which it may include. `version`
    changes with each of them. Where it is the one that the asker has, all else is empty."""

    version: bytes
    name: str
    script: bytes
    others: tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True)
class AclEntries:
    """Identifiers with their rights, ordered. The owner stands in no list."""

    entries: tuple[tuple[str, str], ...]
    own_seen: bool = False
    """Whether each guest has a \\Seen of the own."""


@dataclass(frozen=True, slots=True)
class SharedMailboxes:
    """Mailboxes with the rights that the asker has, ordered by name."""

    shared: tuple[tuple[MailboxInfo, str], ...]


@dataclass(frozen=True, slots=True)
class UserInfo:
    address: str
    password_hash: str


@dataclass(frozen=True, slots=True)
class Usage:
    """`size_bytes` is what a quota limits: the messages as they were saved, each mailbox's for
    itself."""

    messages: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Configuration:
    """Records of the cluster's configuration in the order of their revisions: (key, revision,
    value), None for one that was taken away.

    With them, the asker has everything up to `revision`; with `more` there are later ones, to be
    asked for with `since=revision` and `floor=floor`. With `whole`, what was taken away before is
    not known any more: the asker forgets all that it has, and begins with these."""

    revision: int
    records: tuple[tuple[str, int, bytes | None], ...]
    whole: bool
    floor: int
    more: bool


Answer: TypeAlias = (
    MailboxInfo
    | MailboxContents
    | MessageColumns
    | MessagePage
    | MessageBodies
    | AnnotationValues
    | AnnotationList
    | ScriptList
    | RulesInForce
    | KnownDelivery
    | AclEntries
    | SharedMailboxes
    | UserInfo
    | Configuration
    | Usage
    | UidSet
    | bytes
    | tuple[MailboxInfo, ...]
    | tuple[str, ...]
    | None
)
