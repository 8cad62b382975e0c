"""What nodes answer each other."""

from __future__ import annotations

import builtins
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from raftmail.admin.api.codec import OMITTED, Flat
from raftmail.admin.api.members import LeftReplica


@dataclass(frozen=True, slots=True)
class WholeState:
    """All records of the cluster."""

    state: bytes
    """As a node keeps them in `cluster.json`."""


@dataclass(frozen=True, slots=True)
class Held:
    """A shard that the balancer leaves where it is."""

    hold_s: float
    """For so long."""


@dataclass(frozen=True, slots=True)
class GroupReport:
    """A group, by the node that leads it."""

    id: int
    """The id of its replica."""
    membership: builtins.bytes
    """The committed membership."""
    changing: bool
    """Whether a change of the membership is under way."""
    whole: tuple[int, ...]
    """The ids of replicas that answer and lack nothing."""
    able: tuple[int, ...]
    """The ids of replicas that may lead."""
    bytes: int
    """What its bodies take."""
    held: bool = False
    """Whether an operator wants the master to stay."""


@dataclass(frozen=True, slots=True)
class NodeObservation:
    """What a node knows that the root's master wants to know."""

    revision: int
    """The revision of the cluster that it follows."""
    shards: Mapping[int, GroupReport]
    """The groups that it leads."""
    commands: Mapping[int, Mapping[str, int]]
    """By shard and node: commands that were taken there lately."""
    unix_s: Annotated[float | None, OMITTED] = None
    """Its clock, as Unix time. Omitted by nodes of a release before."""


@dataclass(frozen=True, slots=True)
class Wholeness:
    """Whether a replica lacks something."""

    not_whole: str
    """What is under way, as the end of a sentence that begins with the node; "": it is whole."""


@dataclass(frozen=True, slots=True)
class MarkMade:
    """A mark in a shard's log."""

    index: int
    """Its entry; 0: none was made, because the replica does not lead."""


@dataclass(frozen=True, slots=True)
class DigestAnswer:
    """A replica's digest at a mark."""

    digest: str | None
    """Hexadecimal; None: there is none (yet)."""
    error: Annotated[str | None, OMITTED] = None
    """Why. Omitted where there is one."""


@dataclass(frozen=True, slots=True)
class DeepAnswer:
    """How far a replica is in reading everything at a mark."""

    reading: bool
    """Whether it reads, or has read."""
    digest: bytes
    """What it found; empty while it reads."""
    failed: str
    """Why it gave up; "": it did not."""


@dataclass(frozen=True, slots=True)
class ListingAnswer:
    """A part of a mailbox as it was at a mark."""

    listing: bytes
    """See `resync.verify.Listing`."""


@dataclass(frozen=True, slots=True)
class ReplicaHere:
    """What a node has of a shard."""

    replica: Annotated[LeftReplica | None, Flat("id")]
    """Its replica; None: it has none."""
