"""Whether all replicas of a shard are equal, and the resyncs that are ordered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from raftmail.admin.api.codec import OMITTED


@dataclass(frozen=True, slots=True)
class ReplicaDigest:
    """The digest of all that a replica has at one entry."""

    node: str
    """The node that holds it."""
    index: int
    """The entry."""
    digest: str | None
    """The digest, hexadecimal; None: there is none."""
    error: str | None
    """Why there is none."""
    bodies: Annotated[int | None, OMITTED] = None
    """Bodies that were read. Omitted where none were to be."""
    body_bytes: Annotated[int | None, OMITTED] = None
    """Their bytes. Omitted where none were to be read."""
    bad_bodies: Annotated[tuple[str, ...] | None, OMITTED] = None
    """Hashes of bodies that cannot be read, hexadecimal. Omitted where none were to be read."""


@dataclass(frozen=True, slots=True)
class ReplicaDifference:
    """Where a replica differs from one of those that most are like."""

    node: str
    """The node whose replica differs."""
    other: str
    """A node whose replica is like most."""
    user: str
    """Whose mailbox it is; "": nobody's."""
    mailbox: str
    """The mailbox; "": none."""
    uid: int
    """The UID; 0: it is not about one message."""
    what: str
    """What differs."""
    here: str | None
    """What it is on `node`; None: missing."""
    there: str | None
    """What it is on `other`; None: missing."""


@dataclass(frozen=True, slots=True)
class ShardVerification:
    """The comparison of a shard's replicas."""

    shard: int
    """The shard."""
    index: int
    """The entry at which they were compared."""
    equal: bool
    """Whether all answered and are equal, and every body that was read is as it should be."""
    replicas: tuple[ReplicaDigest, ...]
    """What each has."""
    differences: Annotated[tuple[ReplicaDifference, ...] | None, OMITTED] = None
    """Where they differ. Omitted by a comparison of digests alone."""

    @property
    def common(self) -> str | None:
        """The digest that most have; None: no replica has any."""
        return common_digest(self.replicas)

    @property
    def differing(self) -> list[str]:
        """The nodes whose digest is another than most have."""
        common = self.common
        return [row.node for row in self.replicas if row.digest and row.digest != common]


@dataclass(frozen=True, slots=True)
class Verification:
    """The comparison of all replicas of all shards."""

    equal: bool
    """Whether all are equal."""
    shards: tuple[ShardVerification, ...]
    """Each shard."""


def common_digest(rows: Sequence[ReplicaDigest]) -> str | None:
    """The digest that most replicas have, the first of several; None: no replica has any."""
    counts = Counter(row.digest for row in rows if row.digest)
    return counts.most_common(1)[0][0] if counts else None


@dataclass(frozen=True, slots=True)
class VerificationBegun:
    """A deep verification was begun, or is under way."""

    node: str
    """The node that carries it out, and has to be asked for the result."""


@dataclass(frozen=True, slots=True)
class DeepVerification:
    """How far a deep verification is."""

    result: Verification | None
    """The result; None while it is under way."""
    progress: str
    """What it is at, in words."""


@dataclass(frozen=True, slots=True)
class OrderedShard:
    """A resync that was ordered."""

    shard: int
    """The shard."""
    mailboxes: int
    """How many mailboxes it is for; 0: all."""
    full: bool
    """Whether every record is compared."""


@dataclass(frozen=True, slots=True)
class ResyncOrdered:
    """The resyncs that a node was ordered to make."""

    node: str
    """The node."""
    started: tuple[OrderedShard, ...]
    """One for each shard."""
