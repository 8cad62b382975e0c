"""Nodes, shards and what is being done with them, as the cluster's records tell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from raftmail.admin.api.codec import Flat

VOTER = "voter"
"""The state of a replica that neither comes nor goes."""
ACTIVE = "active"
DRAINING = "draining"
REMOVED = "removed"


@dataclass(frozen=True, slots=True)
class Nothing:
    """An answer that says only that it was done."""


@dataclass(frozen=True, slots=True)
class MemberRow:
    """A node of the cluster."""

    name: str
    """Its name."""
    peer: str
    """Where other nodes reach it."""
    client: str
    """Where clients reach it; "": not told."""
    lmtp: str
    """Where it takes mail; "": not told."""
    host: str
    """The machine below the zone; "": a machine of its own."""
    zone: str
    """What fails together; "": not told."""
    labels: tuple[str, ...]
    """For rules that choose nodes."""
    capacity: int
    """Its share in comparison to others."""
    state: str
    """active, draining or removed."""
    joined_s: int
    """When it joined, as Unix time; 0: the cluster began with it."""
    cordoned: bool
    """Whether it gets no masters and no new replicas."""
    replicas: int
    """How many replicas it holds."""
    joining: int
    """How many of them are being filled."""
    leaving: int
    """How many of them are about to go."""


@dataclass(frozen=True, slots=True)
class LeadingMember(MemberRow):
    """A node, and what it leads."""

    leads: tuple[int, ...]
    """The shards that it leads."""


@dataclass(frozen=True, slots=True)
class HeldReplica:
    """A replica that a node holds."""

    shard: int
    """Its shard."""
    id: int
    """Its id."""
    state: str
    """voter, joining or leaving."""


@dataclass(frozen=True, slots=True)
class OperationRow:
    """Something that an operator has begun."""

    id: str
    """Its id."""
    kind: str
    """drain, remove, replace, rebalance or recover."""
    subject: str
    """The node that it is about; "": none."""
    began_s: int
    """When, as Unix time."""
    by: str
    """Who asked for it."""
    via: str
    """The node that was asked."""
    state: str
    """running, done or undone."""
    left: int
    """Replicas that are left to deal with."""

    @property
    def is_running(self) -> bool:
        """Whether it has not come to its end."""
        return self.state == "running"


@dataclass(frozen=True, slots=True)
class MemberDetails(LeadingMember):
    """All that is known of a node."""

    held: tuple[HeldReplica, ...]
    """Its replicas."""
    operations: tuple[OperationRow, ...]
    """What was begun with it."""
    at_risk: tuple[str, ...]
    """What removing it would put at risk, if that was asked."""
    waits_for: tuple[str, ...]
    """What replicas of its shards that come or go wait for."""


@dataclass(frozen=True, slots=True)
class ReplacedMember(MemberRow):
    """A node that gets new replicas for those that it lost."""

    revision: int
    """The revision of the cluster that says so."""


@dataclass(frozen=True, slots=True)
class MemberList:
    """All nodes of the cluster."""

    revision: int
    """The cluster's revision."""
    cluster: str
    """The cluster's id."""
    shards: int
    """Shards besides the root."""
    replicas: int
    """Replicas of each shard where no rule says otherwise."""
    nodes: tuple[MemberRow, ...]
    """All nodes, with those that were removed."""


@dataclass(frozen=True, slots=True)
class Invited:
    """An invitation was written down."""

    id: str
    """Its id."""
    name: str
    """The node that is invited."""
    expires_s: int
    """The end, as Unix time."""


@dataclass(frozen=True, slots=True)
class Invitation:
    """An invitation of a node."""

    id: str
    """Its id."""
    name: str
    """The node that is invited."""
    peer: str
    """Where it will be reached."""
    expires_s: int
    """The end, as Unix time."""
    state: str
    """open, used or expired, by the clock of the node that was asked."""


@dataclass(frozen=True, slots=True)
class Invitations:
    """All invitations that are kept."""

    invitations: tuple[Invitation, ...]
    """Each of them."""


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """An invitation was taken back."""

    id: str
    """Its id."""


@dataclass(frozen=True, slots=True)
class Joined:
    """A node was taken in."""

    revision: int
    """The cluster's revision."""
    nodes: Mapping[str, str]
    """All nodes, with where they are reached."""


@dataclass(frozen=True, slots=True)
class ReplicaPlace:
    """Where a replica is."""

    id: int
    """Its id."""
    node: str
    """The node that holds it."""
    state: str
    """voter, joining or leaving."""


@dataclass(frozen=True, slots=True)
class Shard:
    """A shard, and where its replicas are."""

    shard: int
    """Its number."""
    pool: str
    """The pool that it belongs to."""
    replication: int
    """How many replicas it should have."""
    master: str | None
    """The node that leads it; None: nobody, or it was not asked."""
    master_preference: str
    """Where its master should be: balanced, near-clients or zone:NAME."""
    bytes: int | None
    """What its bodies take; None: no node told."""
    replicas: tuple[ReplicaPlace, ...]
    """Its replicas."""


@dataclass(frozen=True, slots=True)
class ShardDetails(Shard):
    """A shard, and what it waits for."""

    waits_for: tuple[str, ...]
    """What replicas that come or go wait for."""


@dataclass(frozen=True, slots=True)
class Shards:
    """All shards."""

    shards: tuple[Shard, ...]
    """Each of them."""


@dataclass(frozen=True, slots=True)
class PlannedMove:
    """A move of a replica that evens things out."""

    shard: int
    """The shard."""
    source: str
    """Where the replica goes away; "": nowhere."""
    target: str
    """Where one is made; "": nowhere."""
    why: str
    """The reason."""
    bytes: int
    """What its bodies take."""


@dataclass(frozen=True, slots=True)
class Moves:
    """What a rebalance moves."""

    moves: tuple[PlannedMove, ...]
    """Each move."""
    bytes: int
    """What their bodies take together."""
    begun: bool
    """Whether it was begun, not only planned."""


@dataclass(frozen=True, slots=True)
class MovingReplica:
    """A replica that comes or goes."""

    shard: int
    """Its shard."""
    id: int
    """Its id."""
    node: str
    """Its node."""
    state: str
    """joining or leaving."""
    waits_for: str
    """What it waits for; "": nothing that is known."""


@dataclass(frozen=True, slots=True)
class Operations:
    """What operators have asked for."""

    operations: tuple[OperationRow, ...]
    """Each of them, the oldest first."""
    moving: tuple[MovingReplica, ...]
    """The replicas that come and go now."""
    waits_for: tuple[str, ...]
    """What these wait for, each once."""


@dataclass(frozen=True, slots=True)
class UnreadableRecord:
    """A record of the cluster that this node cannot read."""

    key: str
    """Its key."""
    why: str
    """What is wrong with it."""
    revision: int
    """The revision in which it was written."""


@dataclass(frozen=True, slots=True)
class UnreadableRecords:
    """The records that cannot be read."""

    records: tuple[UnreadableRecord, ...]
    """The first of them."""
    more: bool
    """Whether there are others."""


@dataclass(frozen=True, slots=True)
class RepairedRecord:
    """A record was repaired."""

    key: str
    """Its key."""
    written: bool
    """Whether it was written as it was before; else it was removed."""


@dataclass(frozen=True, slots=True)
class MasterPlaced:
    """A shard was handed over."""

    shard: int
    """The shard."""
    master: str
    """The node that leads it now."""
    hold_s: float = 0.0
    """For so long the balancer leaves it there."""


@dataclass(frozen=True, slots=True)
class LeftReplica:
    """What a node has of a shard, for a recovery."""

    id: int
    """The id of its replica."""
    members: str
    """The membership that it knows, hexadecimal."""
    last_index: int
    """The last entry of its log."""
    last_term: int
    """That entry's term."""
    applied_index: int
    """The last entry that it has applied."""
    lacks_bodies: bool
    """Whether bodies are missing, or its records are not complete."""
    leads: bool
    """Whether it leads the shard."""
    hears_master: bool
    """Whether it hears a master."""

    @property
    def newness(self) -> tuple[int, int]:
        """By which the log of one replica is newer than another's."""
        return self.last_term, self.last_index


@dataclass(frozen=True, slots=True)
class LeftVoter:
    """A voter that is left."""

    node: str
    """The node that holds it."""
    has: Annotated[LeftReplica, Flat()]
    """What it has."""


@dataclass(frozen=True, slots=True)
class OtherReplica:
    """A replica that is no voter."""

    node: str
    """The node that holds it."""
    has: Annotated[LeftReplica, Flat()]
    """What it has."""
    learner: bool = False
    """Whether it is a learner; else it is no member any more."""


@dataclass(frozen=True, slots=True)
class RecoveryLook:
    """What is left of a shard, and what is lost."""

    shard: int
    """The shard."""
    voters: Mapping[int, str]
    """By id of the replica: the node that holds it."""
    left: tuple[LeftVoter, ...]
    """The voters that answer."""
    others: tuple[OtherReplica, ...]
    """Other replicas that answer."""
    lost: Mapping[int, str]
    """The voters that do not answer, or are gone, by id: the node."""
    why_lost: Mapping[int, str]
    """Why each counts as lost."""
    silent: tuple[str, ...]
    """Nodes of voters to which there is a link, and which do not answer."""
    has_majority: bool
    """Whether the voters that are left are a majority."""
    kept: int | None
    """The id of the best replica; None: no voter is left."""
    node: str | None
    """The node of that replica."""
    written_down: bool
    """Whether the cluster's records name that replica alone."""
