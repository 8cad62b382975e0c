"""The condition of a cluster, its nodes, shards and replicas: one form for commands, metrics, chaos
and bench.

A field whose docstring begins with "Omitted" has no key in JSON while it is None.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from raftmail.admin.api.codec import OMITTED, Flat

MASTER = "master"
"""The role of a replica that leads its shard."""
OK = "ok"
"""The state of a replica that nothing keeps from its work."""
UNREACHABLE = "unreachable"
"""The state of a replica whose node does not answer."""


@dataclass(frozen=True, slots=True)
class DiskStatus:
    """What syncs of a node's disk take."""

    slow: bool
    """Whether the disk is too slow for replicas to lead."""
    sync_p50_ms: float
    """The median of the last syncs."""
    sync_p99_ms: float
    """The 99th percentile of the last syncs."""
    sync_last_ms: float
    """The last sync that ended."""
    sync_under_way_ms: float
    """How long the oldest sync has been under way; 0.0: none is."""


@dataclass(frozen=True, slots=True)
class WorkReport:
    """A queue of work in the background. What is counted is since the start."""

    waiting: int
    """What waits now."""
    done: int
    """What was done."""
    failed: int
    """What failed."""
    dropped: int
    """What was left out, because too much waited or it was too long."""


@dataclass(frozen=True, slots=True)
class RulesReport:
    """Mail that delivery rules of users were asked about. What is counted is since the start."""

    judged: int
    """Messages that went by rules, each counted for each user."""
    failed: int
    """Those whose rules failed: they went where they would go without rules."""
    redirects_kept: int
    """Those that were to be sent on, and were kept."""
    unanswered: int
    """Those that were to be answered, and were not."""


@dataclass(frozen=True, slots=True)
class BackgroundReport:
    """What a node did of itself with mail, since it started."""

    expunged: Annotated[int | None, OMITTED] = None
    """Messages of Trash and Junk that were expunged by their age. Omitted where it is off."""
    learning: Annotated[WorkReport | None, OMITTED] = None
    """Messages for programs that learn from moves into Junk, and out of it. Omitted where there is
    none."""
    push: Annotated[WorkReport | None, OMITTED] = None
    """Events of new mail for web hooks; of `failed` those are counted that were tried again.
    Omitted where there are no hooks."""
    rules: Annotated[RulesReport | None, OMITTED] = None
    """Mail that went by delivery rules. Omitted where none did."""


@dataclass(frozen=True, slots=True)
class NodeReport:
    """What a node says of its process and machine."""

    version: str
    """The release that runs."""
    pid: int
    """The process."""
    uptime_s: float
    """How long it has run."""
    disk_free_bytes: int
    """What is free on the disk of its data folder."""
    disk: DiskStatus
    """How fast that disk is."""
    memory_budget_bytes: int
    """What it needs at most, by its configuration and its part of the cluster."""
    links: Mapping[str, bool]
    """By node: whether there is a link to it."""
    programs: Annotated[Mapping[str, str] | None, OMITTED] = None
    """By protocol: where mail programs reach it. None: its release does not say."""
    background: Annotated[BackgroundReport | None, OMITTED] = None
    """What it did of itself with mail. None: nothing of that is switched on."""


@dataclass(frozen=True, slots=True)
class LostBody:
    """A message whose body no replica has."""

    user: str
    """Whose message it is."""
    mailbox: str
    """The mailbox that it is in."""
    uid: int
    """Its UID there."""
    body: str
    """The hash of its body, hexadecimal."""


@dataclass(frozen=True, slots=True)
class Serving:
    """A node that is being brought back from this replica."""

    node: str
    """That node."""
    sent_bytes: int
    """What it was sent so far."""


@dataclass(frozen=True, slots=True)
class ScrubFinding:
    """Something that the scrub found damaged."""

    user: str
    """Whose message or mailbox it is; "": nobody's."""
    mailbox: str
    """The mailbox; "": none."""
    uid: int
    """The UID; 0: none."""
    what: str
    """What is wrong, in words."""


@dataclass(frozen=True, slots=True)
class ScrubProgress:
    """How far the scrub is, which reads everything that a replica has."""

    rounds: int
    """Whole rounds since the replica was opened."""
    table: str
    """What it reads now."""
    read_bytes: int
    """What it has read since the replica was opened."""
    round_s: float
    """How long the last round took."""
    late: bool
    """Whether a round takes longer than `scrub.period_s`."""
    rate_bytes_s: int
    """`scrub.rate_bytes_s`; 0: there is no scrub."""
    needed_bytes_s: int
    """The rate at which a round would take `scrub.period_s`."""
    findings: tuple[ScrubFinding, ...]
    """The latest findings, the oldest first."""


@dataclass(frozen=True, slots=True)
class LastResync:
    """The last resync that came to its end."""

    peer: str
    """The node that it came from."""
    records_s: float | None
    """How long records took; None: none were exchanged."""
    all_s: float
    """How long all of it took."""
    received_bytes: int
    """What came."""
    sent_bytes: int
    """What was sent for it."""


@dataclass(frozen=True, slots=True)
class ResyncProgress:
    """A resync that is under way or about to begin. Totals are what is known so far."""

    phase: str
    """What it does: idle, greeting, survey, records, verify, bodies or waiting."""
    peer: str
    """The node that it comes from."""
    to_index: int
    """The entry at which the other replica stood when it began."""
    mailboxes: int
    """Mailboxes that are done."""
    mailboxes_total: int
    """Mailboxes that differ."""
    messages: int
    """Records of messages that are done."""
    messages_total: int
    """Records of messages that differ."""
    bodies_left: int
    """Bodies that have yet to come."""
    body_bytes_left: int
    """Their bytes."""
    body_bytes: int
    """Bytes of bodies that came."""
    received_bytes: int
    """All bytes that came."""
    rate_bytes_s: int
    """Bytes a second, lately."""
    eta_s: float | None
    """How long it will take yet; None: nobody knows."""
    error: str | None
    """Why the last try ended; None: it did not fail."""
    retry_s: float | None
    """When it is tried again; None: it did not fail."""


@dataclass(frozen=True, slots=True)
class ReplicaStatus:
    """A replica that is open, as its node tells."""

    replica: int
    """Its id."""
    role: str
    """`master`, `replica` (it hears a master), or `electing`."""
    term: int
    """The term that it is in."""
    commit_index: int
    """The last entry that it knows to be committed."""
    applied_index: int
    """The last entry that it has applied."""
    last_index: int
    """The last entry of its log."""
    log_bytes: int
    """What its log takes."""
    index_bytes: int
    """What its index takes."""
    blob_bytes: int
    """What its bodies take."""
    deliveries_known: int
    """Deliveries that it would recognise if they came again."""
    state: str
    """The worst of its conditions; `ok`: none."""
    conditions: tuple[str, ...]
    """All of its conditions, the worst first."""
    may_lead: bool
    """Whether it may lead its shard."""
    whole: bool
    """Whether it lacks nothing."""
    missing_bodies: int
    """Bodies that have yet to come."""
    missing_bytes: int
    """Their bytes."""
    lost_bodies: int
    """Bodies that no replica has."""
    lost: tuple[LostBody, ...]
    """Messages of such bodies, the first of them."""
    serving: tuple[Serving, ...]
    """The nodes that are brought back from it now."""
    scrub: ScrubProgress
    """How far its scrub is."""
    last_resync: Annotated[LastResync | None, OMITTED] = None
    """Omitted until one was finished."""
    resync: Annotated[ResyncProgress | None, OMITTED] = None
    """Omitted while none is under way or wanted."""
    requests: int = 0
    """Requests that it has applied since it was opened."""
    entries: int = 0
    """Entries that it has proposed since it was opened."""
    sync_ms: float = 0.0
    """What its last syncs took."""
    files: tuple[str, ...] = ()
    """What somebody did to its files, in words."""


@dataclass(frozen=True, slots=True)
class ReplicaNotOpen:
    """A replica that cannot tell of itself."""

    replica: Annotated[int | None, OMITTED] = None
    """Its id. Omitted where nobody told it."""
    state: str = UNREACHABLE
    """`unreachable`, `cannot be opened` or `disk went back`."""
    why: Annotated[str | None, OMITTED] = None
    """The reason. Omitted where it is the node that does not answer."""


@dataclass(frozen=True, slots=True)
class ReplicaRow:
    """A replica as the cluster's status shows it."""

    node: str
    """The node that holds it."""
    report: Annotated[ReplicaStatus | ReplicaNotOpen, Flat("role")]
    """What the node says of it."""
    lag: Annotated[int | None, OMITTED] = None
    """Entries that the master has and it has not applied. Omitted where it is not open."""

    @property
    def opened(self) -> ReplicaStatus | None:
        """What it says, if it is open."""
        return self.report if isinstance(self.report, ReplicaStatus) else None

    @property
    def state(self) -> str:
        """Its state in words."""
        return self.report.state

    @property
    def why(self) -> str:
        """Why it is not open; "": it is, or nobody knows."""
        return "" if isinstance(self.report, ReplicaStatus) else self.report.why or ""

    @property
    def is_reachable(self) -> bool:
        """Whether its node answers."""
        return self.report.state != UNREACHABLE


@dataclass(frozen=True, slots=True)
class Verified:
    """The last time that the replicas of a shard were compared."""

    at: int
    """When, as Unix time in seconds."""
    index: int
    """The entry at which."""
    equal: bool
    """Whether all replicas answered and were equal."""
    deep: bool
    """Whether every record and body was read for it."""
    differing: tuple[str, ...]
    """The nodes whose replicas differ from most."""


@dataclass(frozen=True, slots=True)
class ShardStatus:
    """A shard, and the replicas that it has."""

    shard: int
    """Its number."""
    master: str | None
    """The node that leads it; None: nobody."""
    term: int
    """The highest term that a replica is in."""
    replicas: tuple[ReplicaRow, ...]
    """One for each replica that the cluster knows."""
    verified: Verified | None = None
    """The last comparison; None: none since the nodes were started."""

    @property
    def lag(self) -> int:
        """That of the replica which lags most."""
        return max((row.lag or 0 for row in self.replicas), default=0)


@dataclass(frozen=True, slots=True)
class MemberStatus:
    """A node as the cluster's status shows it."""

    name: str
    """Its name."""
    up: bool
    """Whether it answers."""
    peer: str
    """Where other nodes reach it."""
    membership: str
    """Its place in the cluster: active, draining or removed."""
    cordoned: bool
    """Whether it gets no masters and no new replicas."""
    report: Annotated[NodeReport | None, Flat("version")]
    """What it says of itself; None: it does not answer."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something that a node wants an operator to know."""

    text: str
    """What, and what to do."""
    nodes: tuple[str, ...]
    """The nodes that say so."""


@dataclass(frozen=True, slots=True)
class ClusterStatus:
    """The whole cluster, by what all nodes answer."""

    cluster: str
    """The cluster's id."""
    asked: str
    """The node that has asked the others."""
    nodes: tuple[MemberStatus, ...]
    """All nodes but those that were removed."""
    shards: tuple[ShardStatus, ...]
    """All shards."""
    users: int | None = None
    """How many users there are; None: the node that was asked does not know."""
    alarms: tuple[Alarm, ...] = ()
    """What nodes want operators to know."""

    @property
    def is_ready(self) -> bool:
        """Whether every node is up, and every shard has a master."""
        return all(node.up for node in self.nodes) and all(shard.master for shard in self.shards)

    def shard(self, number: int) -> ShardStatus | None:
        """The shard of a number."""
        return next((one for one in self.shards if one.shard == number), None)


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """One node and the replicas that it holds, by its own word."""

    node: NodeReport
    """Its process and machine."""
    shards: Mapping[int, ReplicaStatus]
    """Its open replicas, by shard."""
    aside: Mapping[int, str]
    """Why replicas of it cannot be opened, by shard."""
    verified: Mapping[int, Verified]
    """The last comparisons that it made, by shard."""
    lost: Mapping[int, ReplicaNotOpen]
    """Replicas that were set aside, because its disk went back in time."""
    alarms: tuple[str, ...] = ()
    """What operators should know."""

    @property
    def led(self) -> frozenset[int]:
        """The shards that it says it leads."""
        return frozenset(number for number, one in self.shards.items() if one.role == MASTER)

    def replica(self, shard: int) -> ReplicaStatus | ReplicaNotOpen:
        """What it says of its replica of a shard."""
        if shard in self.shards:
            return self.shards[shard]
        if shard in self.lost:
            return self.lost[shard]
        if shard in self.aside:
            return ReplicaNotOpen(state="cannot be opened", why=self.aside[shard])
        return ReplicaNotOpen()
