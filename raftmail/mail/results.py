"""What a command gives back. Every result is computed by the apply, on every replica alike."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from raftmail.mail.uidset import UidSet


class Code(StrEnum):
    """Why a command was refused; the names follow RFC 5530 where it has one."""

    NONEXISTENT = "NONEXISTENT"
    ALREADYEXISTS = "ALREADYEXISTS"
    CANNOT = "CANNOT"
    NOPERM = "NOPERM"  # who asked has not the right (RFC 4314)
    LIMIT = "LIMIT"
    OVERQUOTA = "OVERQUOTA"  # the user's messages would be larger together than the user's quota
    CONFLICT = (
        "CONFLICT"  # a record that the command expected to be at a revision is at another one
    )
    GUIDMISMATCH = "GUIDMISMATCH"
    UNKNOWNUSER = "UNKNOWNUSER"
    # a sequence number at or below the client's floor: the result was already given and forgotten
    STALE = "STALE"
    BAD = "BAD"  # the command cannot be decoded, or breaks a rule that the front end should keep


@dataclass(frozen=True, slots=True)
class Refused:
    """The command had no effect; `text` says why and names the thing."""

    code: Code
    text: str


@dataclass(frozen=True, slots=True)
class Done:
    """The command took effect and has nothing to tell (SUBSCRIBE, users, PURGE)."""


@dataclass(frozen=True, slots=True)
class MailboxResult:
    """Of CREATE, RENAME, DELETE: the mailbox as it is now (or was, when it is gone)."""

    number: int
    name: str
    guid: bytes
    uidvalidity: int
    uidnext: int
    highestmodseq: int
    messages: int


@dataclass(frozen=True, slots=True)
class Saved:
    """One message in one mailbox."""

    user: str
    mailbox: int
    uidvalidity: int
    uid: int
    modseq: int


@dataclass(frozen=True, slots=True)
class SaveResult:
    """`saved` has one item per message and target, in the command's order."""

    saved: tuple[Saved, ...]


@dataclass(frozen=True, slots=True)
class CopyResult:
    """Source and target UIDs correspond in order. `source_modseq` is 0 unless messages were moved
    away."""

    uidvalidity: int
    target: int
    source_uids: UidSet
    target_uids: UidSet
    source_modseq: int
    target_modseq: int


@dataclass(frozen=True, slots=True)
class ExpungeResult:
    uids: UidSet
    highestmodseq: int


@dataclass(frozen=True, slots=True)
class StoreResult:
    """`changed` are the UIDs that got the modseq `modseq` (0 when none did); `rejected` changed
    after UNCHANGEDSINCE."""

    changed: UidSet
    rejected: UidSet
    modseq: int
    highestmodseq: int


@dataclass(frozen=True, slots=True)
class Configured:
    """`revision` is the one that the configuration and every record that was written now have."""

    revision: int


Result: TypeAlias = (
    Refused
    | Done
    | MailboxResult
    | SaveResult
    | CopyResult
    | ExpungeResult
    | StoreResult
    | Configured
)


@dataclass(frozen=True, slots=True)
class Executed:
    """A result with where it was applied: `index` is the Raft index, `master` the node that leads
    the shard now."""

    result: Result
    shard: int
    index: int
    master: str
