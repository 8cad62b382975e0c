"""The commands that change mail: what goes, totally ordered, through a shard's Raft group.

A command holds everything its result depends on besides the shard's state. Dates, GUIDs and
UIDVALIDITY seeds are chosen by the front end that made it, never by the apply. So every replica
comes to the same state.

A mailbox is named by a `MailboxRef`: its name (str), or its shard-local number (int), which is
given once, never again, and survives RENAME. A command over many messages is one command: `uids` is
a `UidSet`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

from raftmail.mail.scripts import SCRIPT_TOTAL_BYTES_MAX, SCRIPTS_MAX
from raftmail.mail.uidset import UidSet

Blob: TypeAlias = tuple[bytes, bytes]
"""A sha256 and the body that it is of."""

MailboxRef: TypeAlias = str | int
"""A mailbox by name (RFC 9051 hierarchy with `/`, UTF-8, INBOX in any case) or by shard-local
number."""


class StoreMode(IntEnum):
    """What STORE does with the flags it names, and SETACL with rights."""

    ADD = 0
    REMOVE = 1
    REPLACE = 2


@dataclass(frozen=True, slots=True)
class CreateMailbox:
    """Make a mailbox and the parents it lacks; refused with ALREADYEXISTS when it is there.

    `uidvalidity_seed` is Unix time in seconds; the mailbox gets it or the next number this shard
    has not used. `special_use` is "" or one of RFC 6154's attributes (`\\Sent`, ...)."""

    user: str
    name: str
    uidvalidity_seed: int
    guid: bytes
    special_use: str = ""
    sole_use: bool = False
    """Whether it is refused where another mailbox has this special use."""


@dataclass(frozen=True, slots=True)
class DeleteMailbox:
    """Remove a mailbox and its messages. INBOX cannot be removed; children stay (RFC 9051 section
    6.3.5)."""

    user: str
    mailbox: MailboxRef


@dataclass(frozen=True, slots=True)
class RenameMailbox:
    """Give a mailbox and everything below it another name. Renaming INBOX moves its messages to a
    new mailbox and leaves INBOX empty (RFC 9051 section 6.3.6), for which `uidvalidity_seed` and
    `guid` are."""

    user: str
    mailbox: MailboxRef
    name: str
    uidvalidity_seed: int
    guid: bytes


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Put a name on (or take it off) the user's subscriptions, whether or not the mailbox
    exists."""

    user: str
    name: str
    subscribed: bool


@dataclass(frozen=True, slots=True)
class MakeFirstMailboxes:
    """Make INBOX for a user who is being added and, where the user has no mailbox at all, others
    beside it: all of them or none. Whoever has one gets no other, so that what somebody deleted
    does not come back.

    `mailboxes` are names and special uses ("": none), each name once, and before those below it.
    All are subscribed. `uidvalidity_seed` is as in `CreateMailbox`; the GUIDs follow from
    `guid`."""

    user: str
    mailboxes: tuple[tuple[str, str], ...]
    uidvalidity_seed: int
    guid: bytes


@dataclass(frozen=True, slots=True)
class SetAnnotations:
    """Set annotations (RFC 5464) of a mailbox, or of the user where `mailbox` is None; a value of
    None takes one away. Each name stands once."""

    user: str
    mailbox: MailboxRef | None
    entries: tuple[tuple[str, bytes | None], ...]


@dataclass(frozen=True, slots=True)
class PutScript:
    """Keep a script of delivery rules under a name, perhaps instead of another; the active one
    stays active. Refused with LIMIT or OVERQUOTA where the user would have too many, or too many
    bytes. Whether it compiles is asked by who puts it."""

    user: str
    name: str
    script: bytes
    scripts_max: int = SCRIPTS_MAX
    total_bytes_max: int = SCRIPT_TOTAL_BYTES_MAX


@dataclass(frozen=True, slots=True)
class DeleteScript:
    """Take a script away; refused with CANNOT while it is active (RFC 5804 section 2.10)."""

    user: str
    name: str


@dataclass(frozen=True, slots=True)
class RenameScript:
    """Give a script a name that no other has; the active one stays active."""

    user: str
    name: str
    new_name: str


@dataclass(frozen=True, slots=True)
class ActivateScript:
    """From now on the rules in this script are a user's; "": none are."""

    user: str
    name: str


@dataclass(frozen=True, slots=True)
class SetAcl:
    """Set what rights one identifier has on a mailbox (RFC 4314 section 3.1), add some, or take
    some away. Where `mailbox` is None, it only takes away, on all mailboxes of the user. Who has
    none stands in no list."""

    user: str
    mailbox: MailboxRef | None
    identifier: str
    mode: StoreMode
    rights: str


@dataclass(frozen=True, slots=True)
class NoteSharer:
    """Keep that `owner` may share mailboxes with `user`, so that `user` finds them. It goes before
    the `SetAcl` in the owner's shard, which alone decides. `user` may stand for all of a domain
    (`mail.rights.everybody`): the root shard (0) has that."""

    user: str
    owner: str


@dataclass(frozen=True, slots=True)
class SetOwnSeen:
    """Have each guest of a mailbox have a \\Seen of the own, or none; then what guests have seen is
    forgotten. The owner has that of the messages."""

    user: str
    mailbox: MailboxRef
    own: bool


@dataclass(frozen=True, slots=True)
class Target:
    """Where a message goes. With `or_inbox`, INBOX is taken when the mailbox does not exist
    (delivery to user+detail). A missing INBOX is made with the command's `uidvalidity_seed`."""

    user: str
    mailbox: MailboxRef
    or_inbox: bool = False


@dataclass(frozen=True, slots=True)
class NewMessage:
    """One message to save: body by hash, never inline.

    `blob` is the body's sha256, `size_bytes` its length, `guid` 16 bytes that stay the same on
    copy. `received_us` is the internal date in microseconds since 1970, `summary` the encoded
    `mail.summary.Summary`.

    `delivery_keys` are of deliveries that may be sent again (P9): none, or one of 32 bytes for each
    target. A target whose user has a message under the same key keeps it, and has its result; only
    the others are written.

    `zone_minutes` is what the zone of the internal date is ahead of UTC. `saved_us` is when it was
    saved (RFC 8514), in microseconds since 1970; None: when it was received.

    `is_further` says that it is the same delivery as a message before it, in another mailbox or
    with other flags: it is written only where that one is, by its key. `marks` are kept as the
    delivery keys are, and tell later that a message was here (RFC 7352)."""

    targets: tuple[Target, ...]
    blob: bytes
    size_bytes: int
    guid: bytes
    received_us: int
    flags: tuple[str, ...] = ()
    summary: bytes = b""
    delivery_keys: tuple[bytes, ...] = ()
    zone_minutes: int = 0
    saved_us: int | None = None
    is_further: bool = False
    marks: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Save:
    """Save messages, all or none (one for APPEND and delivery, several for MULTIAPPEND).

    `quotas` are the limits of those of the targets' users who have one, in bytes of all their
    messages: the whole is refused (OVERQUOTA) when it would bring one of them above the own limit.
    What a delivery key tells to be there is not counted again, and "all or none" is of what is not
    there. `delivered_once_s` tells for how many seconds delivery keys are kept at least; it stands
    where there are any (see `storage.delivered`).

    `replaces` is a message of the user's, by mailbox and UID, that goes in the same step (RFC
    8508). The whole is refused (NONEXISTENT) when it is not there. Its size counts no more."""

    user: str
    messages: tuple[NewMessage, ...]
    uidvalidity_seed: int
    quotas: tuple[tuple[str, int], ...] = ()
    delivered_once_s: int = 0
    replaces: tuple[MailboxRef, int] | None = None


@dataclass(frozen=True, slots=True)
class Copy:
    """Copy (or with `move`, move) messages by source UID; no body is moved, GUID and received date
    stay.

    UIDs that do not exist are passed over (RFC 9051 section 6.4.7). `guids`, if not empty, has one
    GUID for each existing UID of `uids` in ascending order as the caller knows them: a difference
    refuses the whole command (GUIDMISMATCH). `quota_bytes` is the limit of the target's user (0:
    none), which a move within the own mailboxes does not meet. `saved_us` is when that happens, for
    the dates of the copies (RFC 8514 section 2); None: their dates stay too."""

    user: str
    mailbox: MailboxRef
    uids: UidSet
    target: Target
    uidvalidity_seed: int
    move: bool = False
    guids: tuple[bytes, ...] = ()
    quota_bytes: int = 0
    saved_us: int | None = None


@dataclass(frozen=True, slots=True)
class CopyIn:
    """The half of a `Copy` between shards that its target's shard does
    (`cluster/cross_shard_copy.py`); the result is a `CopyResult`.

    `messages` go to `target`, whose user is `user`; `source_uids` are their UIDs in the source, in
    the same order. With `refused_code`, the source refuses (for the reason `refused_text`), and so
    does this: a retry gets what came first."""

    user: str
    messages: tuple[NewMessage, ...]
    uidvalidity_seed: int
    target: Target
    source_uids: UidSet
    refused_code: str = ""
    refused_text: str = ""
    quota_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Expunge:
    """Remove messages by UID; with `only_deleted`, just those that carry \\Deleted."""

    user: str
    mailbox: MailboxRef
    uids: UidSet
    only_deleted: bool = False


@dataclass(frozen=True, slots=True)
class Store:
    """Change flags and keywords. `unchanged_since` of -1 means unconditional; otherwise messages
    with a higher modseq are left alone and returned as rejected (RFC 7162 section 3.1.3)."""

    user: str
    mailbox: MailboxRef
    uids: UidSet
    mode: StoreMode
    flags: tuple[str, ...]
    unchanged_since: int = -1


@dataclass(frozen=True, slots=True)
class GuestCommand:
    """What `guest` asks of mailboxes of others: it is carried out as far as the rights go that the
    guest has when it is applied (RFC 4314 section 4). All messages of a `Save` go to the command's
    own user. A copy may come from or go to the guest's own mailboxes."""

    guest: str
    command: (
        CreateMailbox
        | DeleteMailbox
        | RenameMailbox
        | SetAnnotations
        | SetAcl
        | Save
        | Copy
        | CopyIn
        | Expunge
        | Store
    )

    @property
    def user(self) -> str:
        """Whose shard carries it out."""
        return self.command.user


@dataclass(frozen=True, slots=True)
class PutUser:
    """Add a user, or with `replace` change what is kept of the password of one that exists, whose
    app passwords stay. Belongs to the root shard (0)."""

    address: str
    password_hash: str
    replace: bool = False


@dataclass(frozen=True, slots=True)
class PutAppPassword:
    """Give a user one more app password (`mail.app_passwords`); `made_s` is Unix time. Belongs to
    the root shard (0)."""

    address: str
    name: str
    made_s: int
    kept: str


@dataclass(frozen=True, slots=True)
class DropAppPassword:
    """Take a user's app password away. Belongs to the root shard (0)."""

    address: str
    name: str


@dataclass(frozen=True, slots=True)
class RemoveUser:
    """Forget a user. Belongs to the root shard (0); the mail goes by `PurgeUser` in the user's own
    shard."""

    address: str


@dataclass(frozen=True, slots=True)
class PurgeUser:
    """Remove every mailbox, message, subscription and script of a user from the user's shard."""

    user: str


@dataclass(frozen=True, slots=True)
class Configure:
    """Write records of the cluster's configuration, all or none. Belongs to the root shard (0).

    `puts` are keys with their new values (None takes a key away), each key once. Every key of
    `expected` must have just that revision (0: it is absent), else the whole is refused with
    CONFLICT: so whoever read a record and decided by it is refused when somebody else was
    faster."""

    puts: tuple[tuple[str, bytes | None], ...]
    expected: tuple[tuple[str, int], ...] = ()


Command: TypeAlias = (
    CreateMailbox
    | DeleteMailbox
    | RenameMailbox
    | Subscribe
    | SetAnnotations
    | MakeFirstMailboxes
    | PutScript
    | DeleteScript
    | RenameScript
    | ActivateScript
    | SetAcl
    | SetOwnSeen
    | NoteSharer
    | Save
    | Copy
    | CopyIn
    | Expunge
    | Store
    | GuestCommand
    | PutUser
    | PutAppPassword
    | DropAppPassword
    | RemoveUser
    | PurgeUser
    | Configure
)
