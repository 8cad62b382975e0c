"""A replica of one shard: Raft group, state machine, blob store, and the requests that wait for
them.

Stepped, never threaded: whoever drives it feeds `submit`, `receive` and `tick`, and takes it
through its turns (`driver`); frames for other nodes come out of `take_frames`.

Invariants:

1. An entry is proposed only when every body that it names is in the blob store. A follower
   acknowledges it only when it holds them too. They stay pinned until the entry is applied (P1).
2. The index commits only what the journal on disk holds; the journal is trimmed only up to what the
   index has on disk."""

from __future__ import annotations

import logging
import math
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from operator import attrgetter
from typing import Any, ClassVar, TypeAlias

from raftmail.consensus.appends import Diverged
from raftmail.consensus.change import CAUGHT_UP_ENTRIES
from raftmail.consensus.engine import REGULAR
from raftmail.consensus.fitness import Fitness
from raftmail.consensus.group import Group, NotLeader
from raftmail.consensus.heartbeats import Beat, unpack
from raftmail.consensus.journal import SyncJob as JournalSyncJob
from raftmail.consensus.membership import KIND as MEMBERSHIP
from raftmail.consensus.membership import Membership
from raftmail.consensus.messages import BadMessage, is_of_start
from raftmail.mail.arrivals import HearArrivals
from raftmail.mail.codec import encode_entry
from raftmail.mail.commands import Blob
from raftmail.mail.failures import Failure
from raftmail.mail.queries import Answer, MessageBodies, Query
from raftmail.resync.missing import body_size
from raftmail.resync.status import ResyncStatus
from raftmail.shard.aged_mail import AgedMail
from raftmail.shard.bodies import DIGEST_BYTES, BadBodies, Bodies
from raftmail.shard.catch_up import CatchUp
from raftmail.shard.deep_check import DeepReading
from raftmail.shard.events import (
    Applied,
    Applying,
    IndexCommitted,
    LogTrimmed,
    NotApplied,
    Observer,
    ReplicaEvent,
    StatusChanged,
    WentBack,
)
from raftmail.shard.frames import DEEP_MARK, MARK, Frame, FrameKind
from raftmail.shard.index_recovery import mend_journal
from raftmail.shard.lending import Lending
from raftmail.shard.limits import Counters, ReplicaLimits
from raftmail.shard.log_retention import LogRetention
from raftmail.shard.machine import Machine
from raftmail.shard.marks import Marks
from raftmail.shard.memory import Memory
from raftmail.shard.proposals import BlobsUnknown, Done, Proposals, Waiting
from raftmail.shard.status import (
    ALLOWED,
    LACKING_GRACE_S,
    Capability,
    Condition,
    describe,
    fitness_under,
)
from raftmail.shard.streams import Streams
from raftmail.shard.watchers import Hear, Watchers
from raftmail.storage.blobs import BlobDamaged, BlobMissing, BlobStore, BlobSyncJob
from raftmail.storage.disk import DiskFull
from raftmail.storage.kv import TableDamaged
from raftmail.storage.longbody import LongBody
from raftmail.storage.longread import LongRead
from raftmail.storage.records import IndexDamaged

__all__ = ["MARK", "Counters", "Done", "Frame", "FrameKind", "Replica", "ReplicaLimits"]

logger = logging.getLogger(__name__)


def _read(path: str) -> Any:
    """A property that needs no call in Python: routers and schedulers read these all the time."""
    return property(attrgetter(path))


(
    _LOST_DISK,
    _PROVING,
    _REMOVED,
    _FAILED,
    _RESYNCING,
    _DAMAGED,
    _WITHHOLDING,
    _LACKS_BODIES,
    _SUSPECT,
    _DISK_FULL,
    _DISK_SLOW,
) = map(int, Condition)

_FROM_STRANGERS = (FrameKind.BLOB, FrameKind.BODY, FrameKind.BEATS)

_WITHOUT_BODIES = (MARK, MEMBERSHIP)
"""The kinds of entries that name no bodies."""

_LOST = "mastership of the shard is lost"

SAY_BAD_S = 10.0
"""Frames that make no sense are told of in the log no more often, in each shard."""

CHORES_S = 1.0
"""How often a replica in which nothing happens looks after its disk, its bodies and its resyncs."""


WhenApplied: TypeAlias = Callable[[bool], None]


@dataclass(frozen=True, slots=True, repr=False)
class BackgroundJob:
    """Disk work beside the turns: `run` in any thread, and then `end` where the replica is stepped.
    `long_body` is what it stores or reads, if it takes memory of a long body's length."""

    run: Callable[[], None]
    end: Callable[[], None]
    long_body: LongBody | LongRead | None = None


@dataclass(slots=True, repr=False)
class ApplyWaiters:
    """Those who wait for an entry to be applied. Each is called once: `True` when it is so far,
    `False` when it is given up."""

    _waiting: list[tuple[int, WhenApplied]] = field(default_factory=list)

    def add(self, index: int, done: WhenApplied) -> None:
        self._waiting.append((index, done))

    def forget(self, done: WhenApplied) -> None:
        """Whoever waited gave up; `done` is not called."""
        self._waiting = [wait for wait in self._waiting if wait[1] is not done]

    def give_up(self) -> None:
        """`done(False)` for all."""
        waits, self._waiting = self._waiting, []
        for _, done in waits:
            done(False)

    def release(self, applied: int) -> None:
        """`done(True)` for all whose entry is applied."""
        if not self._waiting:
            return
        ready = [done for index, done in self._waiting if index <= applied]
        if ready:
            self._waiting = [wait for wait in self._waiting if wait[0] > applied]
            for done in ready:
                done(True)


@dataclass(slots=True, repr=False)
class Replica:
    """One shard's replica on this node. Others are known by their nodes' names. `keep_to` is that
    of `index_recovery`; `observer` hears of `events`."""

    shard: int
    node: str
    machine: Machine
    blobs: BlobStore
    limits: ReplicaLimits = field(default_factory=ReplicaLimits)
    cluster: str = ""
    new_session: Callable[[], int] = field(default=partial(secrets.randbits, 63))
    keep_to: int = 0
    memory: Memory = field(default_factory=Memory)
    """Shared by the replicas of a node."""
    observer: Observer | None = None
    counters: Counters = field(default_factory=Counters)
    marks: Marks = field(init=False)
    group: Group = field(init=False)
    bodies: Bodies = field(init=False)
    recovery: CatchUp = field(init=False)
    requests: Proposals = field(init=False)
    streams: Streams = field(init=False)
    lending: Lending = field(init=False)
    compaction: LogRetention = field(init=False)
    watchers: Watchers = field(init=False)
    waits: ApplyWaiters = field(default_factory=ApplyWaiters)
    disk_full: bool = False
    _is_disk_slow: bool = False

    _hear_arrivals: HearArrivals | None = None
    _told_to: int = 0
    """The last entry whose arrivals were told."""
    _full_at: float = 0.0
    _make_way_at: float = 0.0
    _trimmed_at: float = 0.0
    _linked: tuple[str, ...] = ()
    _linked_by: int = -1
    _failure: TableDamaged | IndexDamaged | None = None
    _frames: list[Frame] = field(default_factory=list)
    _index_dirty_since: float | None = None
    _index_retry_at: float = 0.0
    _now: float = 0.0
    _chores_at: float = -1e18
    _say_bad_at: float = -1e18
    _step_due: bool = False
    _lacks_bodies: bool = True
    _lacking_since: float | None = -1e18
    _conditions: int = 0
    _blob_job: BlobSyncJob | None = None
    _journal_job: JournalSyncJob | None = None

    def __post_init__(self) -> None:
        self.bodies = Bodies(
            self.blobs, self.machine.index, self.limits.bodies, arrived=self.memory.arrived
        )
        self.compaction = LogRetention(self.limits.log)
        self.marks = Marks(self.machine, self.blobs, self.body)
        self.watchers = Watchers(self.machine.index)
        self.requests = Proposals(
            self.limits,
            self.counters,
            self.machine.known,
            self._store_bodies,
            self.shard,
            lambda: self.leader_node or self.node,
            self._go_ahead,
            self.memory.waiting,
        )
        self.streams = Streams(
            lambda request: self.requests.waiting.append(request),
            self._fail_ahead,
            self.requests.forget_bodies,
            self.memory,
            self.limits.stream_s,
            self.limits.stream_lost_s,
        )
        self.lending = Lending(self.bodies, self.streams)
        self.recovery = CatchUp.of(
            self.shard,
            self.node,
            self.cluster,
            self.machine,
            self.blobs,
            self.limits,
            self.new_session,
        )

    def start(self, group: Group) -> None:
        """Take the group, which calls back into this object while it is made, and pin what its log
        names. What never was acknowledged is cut off, for it must not be now. What may have been
        (up to `keep_to`, see `index_recovery`) is withheld until its bodies have come."""
        self.group = group
        self.marks.begun_at = group.last_index
        self.bodies.journal = group.journal
        never_held = self._pin_log(may_cut=True)
        if never_held:
            logger.info(
                "shard %d: the log is cut at %d, whose bodies were lost", self.shard, never_held
            )
            group.forget_from(never_held)
        if self._check_withheld():
            logger.warning(
                "shard %d: %d entries of the log wait for bodies that are lost here; "
                "they do not count as being here until others have given them",
                self.shard,
                len(self.bodies.withheld),
            )

    # -- what is known -----------------------------------------------------------------------------

    replica_id: ClassVar[int] = _read("group.self_id")
    term: ClassVar[int] = _read("group.term")
    is_leader: ClassVar[bool] = _read("group.is_leader")
    accepts: ClassVar[bool] = _read("group.accepts")
    """Whether requests are taken: it leads, and is not handing the leader's place over."""
    applied_index: ClassVar[int] = _read("group.applied_index")
    commit_index: ClassVar[int] = _read("group.commit_index")
    last_index: ClassVar[int] = _read("group.last_index")

    @property
    def leader(self) -> int | None:
        """The replica that leads the shard, as far as is known here."""
        return self.group.leader

    @property
    def leader_node(self) -> str | None:
        """The node that leads the shard, as far as is known here."""
        leader = self.group.leader
        return None if leader is None else self.group.node_of(leader)

    @property
    def membership(self) -> Membership:
        """Who is in the group, by the newest entry of the log that says so."""
        return self.group.membership

    @property
    def committed_membership(self) -> Membership:
        """Who is in the group for good."""
        return self.group.committed_membership

    @property
    def removed(self) -> bool:
        """Whether this replica is known to be no member any more, and for ever."""
        return self.group.removed

    @property
    def last_term(self) -> int:
        """The term of the newest entry of the log."""
        return self.group.journal.term_of(self.group.last_index)

    @property
    def log_begins_at(self) -> int:
        """The entry after which the log begins; 0: it has the first."""
        return self.group.journal.begins_at

    @property
    def log_bytes(self) -> int:
        """Space that the log's files take."""
        return self.group.journal.total_bytes

    @property
    def body_bytes(self) -> int:
        """Space that the files of bodies take."""
        return self.blobs.total_bytes

    @property
    def deliveries_known(self) -> int:
        """How many deliveries are remembered, so that none is made twice (P9)."""
        return len(self.machine.index.delivered)

    @property
    def config_revision(self) -> int:
        """Of the root: the newest revision of the cluster's records. Raises `IndexDamaged`."""
        return self.machine.index.config.revision

    def hears_leader(self, now: float) -> bool:
        """Whether this replica leads, or has heard from who does within the longest election
        timeout."""
        return self.group.elections.hears_leader(now)

    @property
    def has_lost_nothing(self) -> bool:
        """Whether it is known that the disk has all that this replica ever promised (G13)."""
        return self.group.is_settled

    @property
    def lost_disk(self) -> str:
        """Why the disk is known to have lost what this replica promised (G13): it must not take
        part any more. "": it has not."""
        return self.group.proof.lost

    @property
    def contradiction(self) -> tuple[float, Diverged] | None:
        """See `Group.contradiction`."""
        return self.group.contradiction

    def progress(self) -> dict[int, int]:
        """Of a leader: up to where each other member's disk holds the log."""
        return self.group.progress()

    def complete_members(self) -> set[int]:
        """Of a leader: the replicas, its own among them, that answer and lack nothing but perhaps
        what came a moment ago."""
        group = self.group
        followers = group.followers
        complete = set() if self.lacks_bodies() else {group.self_id}
        for other, matched in group.progress().items():
            near = group.last_index - matched <= CAUGHT_UP_ENTRIES
            if near and followers.is_connected(other) and followers.is_whole(other):
                complete.add(other)
        return complete

    def able_members(self) -> set[int]:
        """Of a leader: the replicas, its own among them, that say that they may lead."""
        group = self.group
        able = {group.self_id} if self.may(Capability.LEAD) else set()
        return able | {other for other in group.progress() if group.followers.is_able(other)}

    def log_file_lengths(self) -> dict[str, int]:
        """The files of the log that must be there, with the bytes that each has at least."""
        return dict(self.group.journal.file_lengths())

    def file_lengths(self) -> dict[str, int]:
        """The files of log and bodies that must be there, with the bytes that each has at least."""
        return self.log_file_lengths() | self.blobs.file_lengths()

    @property
    def is_whole(self) -> bool:
        """Whether this replica has all records and bodies of the state that it stands at.

        So it may vote with the others, and be a source for them. (How far that state is behind the
        log, the master's match index tells.) False where the index cannot tell: that is noted, as
        in any turn.
        """
        try:
            return self._failure is None and self.recovery.is_whole(self.group)
        except IndexDamaged as e:
            self.index_damaged(e)
        except TableDamaged as e:
            self.index_broken(e)
        return False

    @property
    def conditions(self) -> int:
        """What this replica is under now, as bits of `status.Condition`; 0: nothing keeps it from
        anything."""
        group, recovery = self.group, self.recovery
        proof = group.proof
        bits = 0
        if not proof.may_follow:
            bits |= _LOST_DISK if proof.lost else _PROVING
        if self._failure is not None:
            bits |= _FAILED
        if recovery.frozen:
            bits |= _RESYNCING
        if recovery.damaged or self.machine.index.failed:
            bits |= _DAMAGED
        if recovery.suspect:
            bits |= _SUSPECT
        if self.bodies.withheld:
            bits |= _WITHHOLDING
        since = self._lacking_since
        if since is not None and self._now - since >= LACKING_GRACE_S:
            bits |= _LACKS_BODIES
        if self.disk_full:
            bits |= _DISK_FULL
        if self._is_disk_slow:
            bits |= _DISK_SLOW
        may_be_gone = group.elections.removed or group.members.is_stranger(group.self_id)
        if may_be_gone and group.removed:
            bits |= _REMOVED
        return bits

    @property
    def takes_part(self) -> bool:
        """`may(TAKE_PART)`, by the two conditions alone that deny it: every frame and every beat
        asks."""
        return self._failure is None and not self.recovery.frozen

    @property
    def must_help_itself(self) -> bool:
        """Whether a record of the index is damaged that no other replica could give, and all that
        made it is still in the log."""
        group = self.group
        damaged = self.recovery.damaged or self._failure is not None
        alone = damaged and len(group.membership.nodes) == 1
        return alone and group.journal.begins_at <= 1

    def may(self, capability: Capability) -> bool:
        """Whether nothing keeps this replica from something; see `status.CAPABILITIES`."""
        return ALLOWED[self.conditions] & capability != 0

    @property
    def state_text(self) -> str:
        """What operators read of this replica, in a few words; "ok": nothing keeps it from
        anything."""
        conditions = self.conditions
        if not conditions and not self.recovery.manager.whole:
            return Condition.LACKS_BODIES.text  # not for long enough to mind
        return describe(conditions)

    def fitness(self) -> Fitness:
        """How fit this replica is to lead (`consensus.applier.Applier`)."""
        return fitness_under(self.conditions)

    def resync_status(self, now: float) -> ResyncStatus:
        """What resyncs and the scrub have done and are at, and what is missing."""
        return self.recovery.manager.status(now)

    @property
    def why_incomplete(self) -> str:
        """What keeps this replica from being `is_whole`, as the end of a sentence that begins with
        its node; "": nothing."""
        if self.is_whole:
            return ""
        if self._failure is not None:
            return f"has an index that is made anew: {self._failure}"
        return self.recovery.manager.why_incomplete()

    def checkpoint_digest(self, index: int) -> bytes | None:
        """The digest of the state at a mark of the log; None: it has not come here, or is one of
        long ago."""
        return self.marks.digests.get(index)

    def deep_reading(self, index: int) -> DeepReading | None:
        """The reading that began at a deep mark; None: none did, or a later one has."""
        deep = self.marks.deep
        return deep if deep is not None and deep.index == index else None

    def next_deadline(self, now: float) -> float:
        """When to `tick` again at the latest, if nothing comes in before. A replica that nothing
        happens in has little to do between heartbeats, and hardly more between elections that do
        not come. One that took an entry has to commit its index once, and to put bodies to the
        disk.
        """
        if (
            self.disk_full
            or self.bodies.missing
            or self.group.resync_wanted is not None
            or self.marks.reads
            or self._has_to_do
            or not self.takes_part
        ):
            return now
        deadline = min(
            self.group.next_deadline(), self._chores_at, self.recovery.manager.scrub.behind_at
        )
        if self._index_dirty_since is not None:
            commit_at = self._index_dirty_since + self.limits.index_commit_s
            deadline = min(deadline, max(commit_at, self._index_retry_at))
        return min(deadline, self.bodies.next_deadline())

    @property
    def needs_turn(self) -> bool:
        """Whether a tick left anything to send, sync, apply or commit, or a resync is under way
        (nothing else may wake it)."""
        return self.group.has_beats or self._has_to_do

    @property
    def request_needs_turn(self) -> bool:
        """Whether the request that came last leaves anything to do at once. One that joins others
        that wait changes nothing. The exception is when there are now so many that they are worth
        an entry beside the one that is on its way.
        """
        requests = self.requests
        limits = self.limits
        waiting = len(requests.waiting)
        if (
            waiting > 1
            and waiting != limits.pipelined_requests_min
            and requests.waiting_bytes < limits.pipelined_bytes_min
        ):
            return False
        return self.has_work

    @property
    def _has_to_do(self) -> bool:
        since = self._index_dirty_since
        return (
            bool(self._frames)
            or self._step_due
            or (bool(self.requests.waiting) and self._may_propose)
            or self.group.has_to_do
            or (since is not None and self._now - since >= self.limits.index_commit_s)
            or self.recovery.manager.busy
            or self.bodies.has_to_do(self._now)
            or self.lending.has_short
        )

    @property
    def has_work(self) -> bool:
        """Whether another step would do something at once: what waits can be proposed, or held
        messages could go."""
        group = self.group
        if self.recovery.has_more:
            return True
        if group.has_held_messages and not self.disk_full:
            return not (self.bodies.syncing and self.blobs.pressing())
        return bool(self.requests.waiting) and self._may_propose

    @property
    def _may_propose(self) -> bool:
        """Whether a request that waits can go into an entry now."""
        group = self.group
        return (
            (not self.disk_full or self.blobs.has_second_reserve())
            and group.accepts
            and self.requests.may_propose(group.entries_in_flight)
        )

    # -- requests ----------------------------------------------------------------------------------

    def change(self, now: float, new: Membership) -> tuple[int, int]:
        """Of a leader: have `new` follow the membership that is in force; (term, index) of its
        entry. It is for good once `committed_membership` says so. Raises `ChangeRefused`, with the
        reason, and DiskFull."""
        self._now = now
        self._look_for_bodies()
        changed = self.group.change(now, new)
        self._collect()
        return changed

    def submit(
        self,
        now: float,
        request: bytes,
        blobs: Sequence[Blob],
        done: Done,
        until: float = math.inf,
    ) -> None:
        """Have a request applied. Only a leader takes it; others fail it at once, with no effect.
        `until` is when whoever asks gives up: a request whose long bodies a majority does not have
        then holds no memory any more, and fails some time later."""
        self._now = now
        if not self.group.accepts:
            done(Failure("this node does not lead the shard"))
        elif self.disk_full:
            frees = self.blobs.has_second_reserve()
            full = self._full_text()
            self.requests.add(request, blobs, done, until=until, full=full, frees=frees)
        else:
            self.requests.add(request, blobs, done, until=until)

    def _full_text(self) -> str:
        least = self.blobs.limits.free_bytes_min >> 20
        taken = (
            "only what frees some is taken (expunge, deleting mailboxes and users)"
            if self.blobs.has_second_reserve()
            else "nothing is taken"
        )
        return (
            f"the master's disk is full: less than {least} MiB are free on node {self.node}; "
            f"until there is space {taken}"
        )

    def transfer(self, now: float, target: int) -> None:
        """Of a leader: hand the leader's place to a voter. Raises as `Group.transfer`."""
        self.group.transfer(now, target)

    def hand_over(self, now: float) -> bool:
        """Of a leader: hand the leader's place to the best successor, if there is one."""
        return self.group.hand_over(now) is not None

    @property
    def can_hand_over(self) -> bool:
        """Whether it leads, and another replica could."""
        return self.group.is_leader and self.group.best_successor() is not None

    def order_resync(
        self, mailboxes: Sequence[int] = (), *, full: bool = False, only: Sequence[str] = ()
    ) -> None:
        """An operator wants records compared with another replica's: see
        `resync.manager.ResyncManager.order`."""
        self.recovery.manager.order(mailboxes, full=full, only=only)

    def scrub_again(self) -> None:
        """Have the scrub begin a round now: somebody was at the files."""
        self.recovery.manager.scrub.again()

    def check_log(self) -> str:
        """Read the next segment of the log, and tell what was done to its file since it was
        written; "": nothing."""
        return self.group.journal.check_next()

    def note_disk(self, *, is_slow: bool) -> None:
        """Whoever drives the replica, and measures what syncs take, tells what came of it."""
        self._is_disk_slow = is_slow

    def note_sync(self, sync_ms: float) -> None:
        """Whoever runs the jobs of syncs tells what one takes, on average."""
        self.counters.sync_ms = sync_ms

    def barrier(self, now: float, done: Callable[[int | None], None], number: int = 0) -> None:
        """A read barrier (P5): `done` gets the index that must be applied before reading, or
        None. `number` is that by which the asking node's replica may have vouched for it."""
        self.group.barrier(now, done, number)

    def vouch(self, number: int) -> Frame | None:
        """Of a follower whose node is about to ask for a barrier by this number: the frame that
        vouches for it (see `Group.vouch`)."""
        vouched = self.group.vouch(number) if self.takes_part else None
        return None if vouched is None else (vouched[0], FrameKind.RAFT, vouched[1])

    def mark(self, *, deep: bool = False) -> int:
        """Of a leader: put a mark into the log, at which every replica notes its digest. Returns
        its index; 0: it does not lead."""
        try:
            return self.group.propose(DEEP_MARK if deep else MARK)[1]
        except (NotLeader, DiskFull):
            return 0

    def when_applied(self, index: int, done: Callable[[bool], None]) -> None:
        """Call `done(True)` once `index` is applied here."""
        if self.group.applied_index >= index:
            done(True)
        else:
            self.waits.add(index, done)

    def stop_waiting(self, done: WhenApplied) -> None:
        """Whoever asked `when_applied` gave up; `done` is not called."""
        self.waits.forget(done)

    def watch(self, user: str, hear: Hear) -> None:
        """Tell `hear` of every change to a user's mail from now on (see `watchers`). Again does
        nothing."""
        self.watchers.add(user, hear)

    def unwatch(self, user: str, hear: Hear) -> None:
        """Harmless for one that does not watch."""
        self.watchers.remove(user, hear)

    def tell_arrivals(self, hear: HearArrivals) -> None:
        """Tell `hear` what comes with the entries that this replica applies while it leads, each
        once."""
        self.machine.note_arrivals()
        self._hear_arrivals = hear

    def query(self, query: Query) -> Answer:
        """Answer from the state as it is here; only while this replica may `READ`. Raises
        `IndexDamaged`, `TableDamaged`: tell `index_damaged` or `index_broken`, and ask another
        node."""
        return self.machine.query(query)

    def body_of(self, query: Query) -> bytes | None:
        """The hash of a message's body; None: there is no such message. Raises as `query`."""
        return self.machine.body_of(query)

    def bodies_of(self, query: Query) -> MessageBodies | None:
        """The answer to a query, up to a body that cannot be read. Raises as `query`."""
        named = self.machine.bodies_of(query)
        if named is None:
            return None
        found: list[tuple[int, bytes]] = []
        for uid, digest in named:
            try:
                body = self.short_body(digest)
            except (BlobMissing, BlobDamaged):
                break
            if body is not None:
                found.append((uid, body))
        return MessageBodies(tuple(found))

    def mailbox_numbers(self, user: str, name: str = "") -> list[int]:
        """The mailboxes of a user, or the one with this name. Raises `IndexDamaged`."""
        return [m.number for m in self.machine.index.mailboxes.of(user) if name in ("", m.name)]

    def aged(self, after: int, ages_us: Mapping[str, int], now_us: int) -> AgedMail:
        """Messages that are kept no longer (see `aged_mail.find_aged`); only while this replica may
        `READ`. Raises as `query`."""
        return self.machine.aged(after, ages_us, now_us)

    def body(self, digest: bytes) -> bytes:
        """A message's bytes. Raises BlobMissing or BlobDamaged, having asked the other replicas for
        it, and noted that it is missing."""
        with self._noting_missing(digest):
            return self.blobs.get(digest)

    def short_body(self, digest: bytes) -> bytes | None:
        """A message's bytes; None: it is so long that it is to be read with `begin_read`. Raises as
        `body`."""
        with self._noting_missing(digest):
            return self.blobs.get_short(digest, self.limits.bodies.long_bytes_min)

    def begin_read(self, digest: bytes) -> LongRead:
        """Begin to read a message; `end_read` when `LongRead.run`, which may be called in another
        thread, has returned. Raises as `body`."""
        with self._noting_missing(digest):
            return self.blobs.begin_read(digest)

    def end_read(self, job: LongRead) -> bytes:
        """A message's bytes. Raises as `body`."""
        with self._noting_missing(job.header.digest):
            return self.blobs.end_read(job)

    @contextmanager
    def _noting_missing(self, digest: bytes) -> Iterator[None]:
        try:
            yield
        except (BlobMissing, BlobDamaged):
            self._want(digest)
            raise

    def _want(self, digest: bytes) -> None:
        """A body is missing or damaged: have it fetched from other replicas."""
        self.bodies.want(digest)
        size = body_size(self.machine.index, digest)
        if size is not None and self.may(Capability.KEEP_INDEX):
            self.recovery.manager.want(digest, size)

    # -- stepping ----------------------------------------------------------------------------------

    def tick(self, now: float) -> float:
        """Let time pass. Returns `next_deadline`."""
        self._now = now
        if self._failure is not None:
            self._step_due = True
            return now
        self._look_at_index()
        if self.takes_part:
            try:
                self.group.tick(now)
            except (DiskFull, IndexDamaged) as e:
                self._meet(e)
        self._check_role()
        if now >= self.recovery.manager.scrub.behind_at:
            self._step_due = True
        if now < self._chores_at:
            if (deadline := self.next_deadline(now)) > now:
                return deadline
        else:
            self.streams.forget_lost(now)
            waiting = bool(self.streams) or bool(self.lending)
            self._step_due = waiting or self.recovery.manager.scrub.is_due(now)
            self._chores_at = now + (CHORES_S if self._look_for_bodies() else 0.0)
        self._check_space(now)
        self._make_way(now)
        self.bodies.tick(now, self.group.applied_index, waiting=self.group.has_parked)
        resync = partial(self.recovery.tick, group=self.group)
        for chore in (resync, self._look_at_log, self.marks.step, self._reclaim):
            try:
                chore(now)
            except (DiskFull, IndexDamaged) as e:
                self._meet(e)  # and go on: what follows may be what makes space
        return self.next_deadline(now)

    def step(self, now: float) -> None:
        """Propose what waits, and make the frames that may leave before the sync. Raises
        `TableDamaged` and `IndexDamaged`: abandon the replica."""
        self._now = now
        self._step_due = False
        if self._failure is not None:
            raise self._failure
        if self.streams:
            self.streams.release(now, tuple(self.group.membership.voters.values()), self.node)
            for node, digest, body in self.streams.to_send(now, self._linked_nodes()):
                self._frames.append((node, FrameKind.BODY, (digest, body)))
        if self.lending.has_short:
            self._frames += self.lending.give()
            self._look_for_lost()
        if self.requests.waiting:
            self._propose_waiting(now)
        if self.bodies.withheld:
            self._check_withheld()
        if self.bodies.asking:
            self._frames += self.bodies.wants(now, self.leader_node, self._linked_nodes())
        self._collect()
        try:
            for name, frame in self.recovery.step(now, self.group.is_linked):
                self._frames.append((name, FrameKind.SYNC, (frame,)))
        except (DiskFull, IndexDamaged) as e:
            self._meet(e)

    def begin_sync(self) -> list[Callable[[], None]]:
        """The disk work that answers wait for; the returned calls may run in other threads, in any
        order."""
        if self.blobs.pressing() and not self.recovery.sync_may_wait(self._now, self.group):
            if self.bodies.syncing:
                return []  # one at a time; nothing is released before
            self._blob_job = self.blobs.begin_sync()
        self._journal_job = self.group.begin_sync()
        return [job.run for job in (self._blob_job, self._journal_job) if job is not None]

    def end_sync(self, now: float) -> None:
        """All calls of `begin_sync` have returned: release what they held up."""
        self._now = now
        if self._blob_job is not None:
            self.blobs.end_sync(self._blob_job)
        self.group.end_sync(now, self._journal_job)
        self._blob_job = self._journal_job = None
        self._collect()

    def begin_background(self, now: float) -> list[BackgroundJob]:
        """Disk work that nobody waits for, after `advance`. It may run in other threads for as long
        as it takes."""
        bodies = self.bodies
        jobs = []
        if (sync := bodies.begin_sync(now)) is not None:
            jobs.append(BackgroundJob(sync, self._end_body_sync))
        if (store := bodies.begin_long()) is not None:
            jobs.append(BackgroundJob(store.run, bodies.end_long, store))
        if (read := self.lending.begin_read(now)) is not None:
            jobs.append(BackgroundJob(read.run, self._end_read, read))
        return jobs

    def _end_body_sync(self) -> None:
        """Bodies that the journal had kept are in the store. Where they are is entered with a
        commit of the index, which comes although nothing may be applied meanwhile."""
        self.bodies.end_sync()
        if self.blobs.pending and self._index_dirty_since is None:
            self._index_dirty_since = self._now

    def _end_read(self) -> None:
        """A long body was read that another replica asked for."""
        self._frames += self.lending.end_read(self._now)
        self._look_for_lost()
        self._step_due = True

    def advance(self, now: float) -> None:
        """Commit, apply and answer what the syncs and acknowledgements so far allow. Not while a
        sync runs."""
        self._now = now
        if self._failure is not None:
            return
        group = self.group
        settled = None if self.bodies.syncing else self.recovery.settle(group, self.bodies.sync_now)
        if settled is not None:
            self._tell(settled)
            self.bodies.unpin_to(group.applied_index)
            self._lacks_bodies = True
            self._index_dirty_since = now
            self.watchers.missed()
        self._look_at_index()
        if self.takes_part:
            self._apply_committed(now)
        self._check_role()
        self.waits.release(group.applied_index)
        if self.watchers:
            self.watchers.tell()
        self._commit_index(now)
        self._collect()

    def _apply_committed(self, now: float) -> None:
        group = self.group
        try:
            group.advance(now)
            while group.has_to_apply and self.may_apply():
                group.advance(now)
        except (DiskFull, IndexDamaged) as e:
            self._meet(e)

    def index_broken(self, error: TableDamaged | IndexDamaged) -> None:
        """The index cannot be used as it is: the next step raises the error, for the replica to be
        opened anew."""
        self._failure, self._step_due = error, True

    def index_damaged(self, damage: IndexDamaged) -> None:
        """A record of the index cannot be verified. It is fetched from another replica before
        anything more is applied; one of this replica's own tables is made again by opening the
        replica anew."""
        if damage.is_local:
            self.index_broken(damage)
            return
        try:
            self._go_back()
        except TableDamaged as e:
            self.index_broken(e)
        else:
            self.recovery.index_damaged(damage)

    def _linked_nodes(self) -> Sequence[str]:
        """The nodes of other members, learners too, that there are links to."""
        group = self.group
        if self._linked_by != group.links_changed:
            self._linked_by = group.links_changed
            others = set(group.membership.nodes.values()) - {self.node}
            self._linked = tuple(sorted(filter(group.is_linked, others)))
        return self._linked

    def _check_space(self, now: float) -> None:
        """Refuse writes while the disk is nearly full, and take them again when there has been
        space for a while."""
        full = self.blobs.nearly_full(now) or not self.group.journal.room()
        if full:
            if not self.disk_full:
                self._note_full(DiskFull("the disk is nearly full"))
            self._full_at = now
        elif self.disk_full and now - self._full_at >= self.limits.space_again_s:
            self.disk_full = False
            logger.info("shard %d: there is space again, writes are taken", self.shard)

    def _make_way(self, now: float) -> None:
        """Of a leader that may not lead: hand over to a replica that may, as soon as there is one.
        Notes in the log what this replica came under, whether it leads or not."""
        conditions = self.conditions
        if conditions != self._conditions:
            before, self._conditions = self._conditions, conditions
            self._tell(StatusChanged(before, conditions))
            if (before ^ conditions) & ~_PROVING:
                logger.warning(
                    "shard %d: this replica is now: %s", self.shard, describe(conditions)
                )
        if now < self._make_way_at or not self.group.accepts or self.may(Capability.LEAD):
            return
        successor = self.group.hand_over(now)
        if successor is not None:
            self._make_way_at = now + self.limits.make_way_s
            logger.warning(
                "shard %d: replica %d shall lead, for this one may not: %s",
                self.shard,
                successor,
                describe(conditions),
            )

    def _reclaim(self, now: float) -> None:
        if self.group.applied_index < self.keep_to or not self.may(Capability.KEEP_INDEX):
            return  # the index does not tell what is needed
        progress = self.bodies.reclaim(now, self.machine.index.messages.unreferenced)
        if progress.freed_bytes:
            freed = progress.freed_bytes
            logger.info("shard %d: %d bytes of bodies given back", self.shard, freed)
        for digest in progress.damaged:
            self._want(digest)

    def take_frames(self) -> list[Frame]:
        """Frames to send, in order per node."""
        frames, self._frames = self._frames, []
        return frames

    def receive(self, now: float, node: str, kind: str, payload: bytes) -> None:
        """Take a frame from another node's replica. Bad ones are counted and dropped.

        A node that is not in the membership may be in one that has not come here yet: its Raft
        messages are taken (`Group.receive`), and bodies, which prove themselves; the rest once it
        has sent such a message."""
        self._now = now
        try:
            if kind == FrameKind.RAFT:
                if self.takes_part or is_of_start(payload):
                    self.group.receive(now, payload, node)
                    self._check_role()
            elif kind not in _FROM_STRANGERS and not self.group.members.knows_node(node):
                if kind == FrameKind.SYNC:
                    self.recovery.manager.turn_away(node, payload, "it knows of no replica there")
                raise BadMessage(f"node {node} has no replica of shard {self.shard}")
            elif kind == FrameKind.BEATS:
                for beat in unpack(payload):
                    self.receive_beat(now, node, beat)
            elif kind == FrameKind.SYNC:
                self.recovery.manager.receive(now, node, payload)
            elif kind == FrameKind.BLOB:
                if self.bodies.take(payload):
                    self.group.retry_parked(now)
            elif kind == FrameKind.BODY:
                self.take_long(now, node, payload)
            elif kind == FrameKind.HAVE:
                self.streams.acknowledged(node, bytes(payload))
                self.lending.drop(node, bytes(payload))
                self._step_due = True
            elif kind == FrameKind.WANT:
                told = self.group.applied_index if self.may(Capability.READ) else 0
                self._frames += self.lending.ask(now, node, payload, told)
                self._look_for_lost()
            elif kind == FrameKind.SOON:
                self.bodies.note_soon(now, node, payload)
            elif kind == FrameKind.GONE:
                complete = self.bodies.note_gone(payload)
                self.blobs.place_pending()
                self.machine.commit()  # a restart must not forget it
                if complete:
                    self.group.retry_parked(now)
            else:
                raise BadMessage(f"a frame of unknown kind {kind}")
        except (BadMessage, BadBodies) as e:
            self._refuse_frame(node, str(e))
        except (DiskFull, IndexDamaged) as e:
            self._meet(e)

    def receive_beat(self, now: float, node: str, beat: Beat) -> bool:
        """Take a beat from another node's replica, as `receive` takes frames. True: all that comes
        of it are other beats, which `take_beats` has at once."""
        self._now = now
        if not self.takes_part:
            return True
        try:
            return self.group.receive_beat(now, beat, node)
        except BadMessage as e:
            self._refuse_frame(node, str(e))
        except DiskFull as e:
            self._note_full(e)
        return False

    def _refuse_frame(self, node: str, why: str) -> None:
        """Count a frame that makes no sense, and tell of it now and then: whoever sends one may
        send many."""
        self.counters.bad_frames += 1
        if self._now >= self._say_bad_at:
            self._say_bad_at = self._now + SAY_BAD_S
            logger.warning(
                "shard %d: from %s: %s (%d frames were refused since the start)",
                self.shard,
                node,
                why,
                self.counters.bad_frames,
            )

    def take_beats(self) -> list[tuple[str, bytes]]:
        """Beats that may leave now, with the nodes they are for. Who drives many replicas puts
        those for one node into one frame, after ticking them and after handing them the beats of a
        frame. What it does not take leaves with the next turn's frames.
        """
        return self.group.take_beats()

    def connected(self, now: float, node: str) -> None:
        """There is a link to a node, in the membership or not: it may come to be. A replica that
        starts is told of all that are up."""
        self._now = now
        self.recovery.manager.disconnected(now, node)  # an older link may have gone without a word
        self.group.connected(now, node)

    def disconnected(self, now: float, node: str) -> None:
        self._now = now
        self.streams.disconnected(node)
        self.lending.disconnected(node)
        self.group.disconnected(now, node)
        self.recovery.manager.disconnected(now, node)

    def mend_journal(self) -> bool:
        """See `index_recovery.mend_journal`. Nothing may be under way any more; `abandon` this
        replica then, and open it anew."""
        if self._blob_job is not None:
            self.blobs.end_sync(self._blob_job)
            self._blob_job = None
        return mend_journal(self.machine, self.bodies, half=self.recovery.manager.holds)

    def close(self) -> None:
        """Commit the index and close the files. Whatever still waits is failed as unknown."""
        self._let_go("the node stops")
        if self.may(Capability.KEEP_INDEX):
            self._commit(self._now, sync=True)
        self.group.journal.close()
        self.blobs.close()

    def abandon(self) -> None:
        """Close the files as they are, as a crash would leave them."""
        self._let_go("this node's replica is opened anew")
        self.group.journal.abandon()
        self.blobs.abandon()

    def _let_go(self, why: str) -> None:
        self.requests.fail_in_flight()
        self.streams.fail_all(why)
        self.requests.fail_waiting(why)
        self.bodies.drop_arrived()
        self.waits.give_up()
        self.watchers.missed()
        self.recovery.manager.close()
        self.marks.close()

    # -- the state machine's side (consensus.group.Applier) ----------------------------------------

    def apply(self, index: int, term: int, payload: bytes) -> None:
        observer = self.observer
        if observer is None:
            self._apply(index, term, payload)
            return
        observer(Applying(index))
        try:
            self._apply(index, term, payload)
        except BaseException:
            observer(NotApplied(index))
            raise
        observer(Applied(index, term, payload))

    def _apply(self, index: int, term: int, payload: bytes) -> None:
        if self._index_dirty_since is None:
            self._index_dirty_since = self._now
        if payload[:1] == MARK:
            # Committed like any other, so that a source of resyncs does not stand behind it.
            self.machine.apply_raw(index, term, b"")
            self.marks.applied(self._now, index, payload)
            return
        if payload[:1] == MEMBERSHIP:
            self.machine.apply_membership(index, term, payload[1:])
            return
        results = self.machine.apply_raw(index, term, payload)
        if self._hear_arrivals is not None:
            self._tell_arrivals(index)
        if self.bodies.unheld:
            self._note_unheld(payload)
        self.bodies.unpin(index)
        if self.requests.in_flight:
            self.requests.applied(results, index)

    def _tell_arrivals(self, index: int) -> None:
        """Of an entry that was applied before it went back, they were told."""
        arrived = self.machine.take_arrivals()
        if arrived and index > self._told_to and self.is_leader:
            self._told_to = index
            assert self._hear_arrivals is not None
            try:
                self._hear_arrivals(arrived)
            except Exception as e:  # as an answer that cannot be given (G10)
                logger.error("arrivals could not be told: %s: %s", type(e).__name__, e)

    def _note_unheld(self, payload: bytes) -> None:
        """Of an entry that was in the log at the start and is applied now: bodies that are still
        not here are missing."""
        for digest in self.bodies.take_unheld(payload):
            size = body_size(self.machine.index, digest)
            if size is not None:
                self.recovery.manager.want(digest, size)

    def holds_blobs(self, payload: bytes, index: int) -> bool:
        return payload[:1] in _WITHOUT_BODIES or self.bodies.hold(payload, index)

    def want_blobs(self, payload: bytes) -> None:
        if payload[:1] not in _WITHOUT_BODIES:
            self.bodies.want_all(payload)

    def may_apply(self) -> bool:
        return self.may(Capability.APPLY)

    def lacks_bodies(self) -> bool:
        return self._lacks_bodies

    # -- inside ------------------------------------------------------------------------------------

    def _propose_waiting(self, now: float) -> None:
        group = self.group
        requests = self.requests
        while group.accepts and requests.may_propose(group.entries_in_flight):
            if not group.journal.room():
                self._note_full(DiskFull("the journal has no room"))
                return
            try:
                batch, hashes = requests.next_batch(group.applied_index)
            except DiskFull as e:
                self._note_full(e)
                return
            if not batch:
                continue
            try:
                _, index = group.propose(encode_entry([w.request for w in batch], list(hashes)))
            except DiskFull as e:
                self._note_full(e)
                for w in batch:
                    w.done(Failure(f"the master's disk is full: {e}", full=True))
                return
            if hashes:
                self.bodies.pin(tuple(hashes), index)
            requests.proposed(batch, group.term)
            self.counters.entries += 1
            group.replicate(now)
            self._collect()

    def _look_for_bodies(self) -> bool:
        """See whether any body is missing. False: not to be said before a sync, for some are not on
        the disk; what was said last stands."""
        journal = self.group.journal
        if not self.recovery.manager.whole:
            self._lacks_bodies = True
            if self._lacking_since is None:
                self._lacking_since = self._now
        else:
            self._lacking_since = None
        if self._lacking_since is not None:
            return True
        if journal.has_unsynced_bodies or self.blobs.pressing() or self._blob_job is not None:
            return False
        self._lacks_bodies = False
        return True

    def _store_bodies(self, w: Waiting) -> None:
        """Store a request's bodies, and send them ahead of the entry."""
        given = dict(w.blobs)
        for digest in w.hashes:
            body = given.get(digest)
            if body is None:
                if not self.blobs.has(digest):
                    raise BlobsUnknown(f"the body {digest.hex()} was not sent and is not stored")
            elif self.bodies.add(digest, body):
                for name in self._linked_nodes():
                    self._frames.append((name, FrameKind.BLOB, (digest, body)))

    def _go_ahead(self, w: Waiting) -> bool:
        """Send a request's long bodies to the followers, and have them stored here, before it is
        proposed. False: it has none."""
        least = self.limits.bodies.long_bytes_min
        named = set(w.hashes)
        long = {h: body for h, body in w.blobs if len(body) >= least and h in named}
        if not long:
            return False
        self.streams.begin(self._now, w, long, [h for h in long if not self.blobs.durable(h)])
        self._step_due = True
        for digest, body in long.items():
            if not self.blobs.durable(digest):
                self.bodies.store_long(digest, body, partial(self._stored_long, digest))
        return True

    def _fail_ahead(self, w: Waiting, failure: Failure) -> None:
        """A request whose bodies went ahead has no effect."""
        self.requests.release(w.size)
        w.done(failure)

    def _stored_long(self, digest: bytes, stored: bool) -> None:
        """A long body of a request is on this replica's disk, or could not be put there."""
        if stored:
            self.streams.stored(digest)
            self._long_arrived()
        else:
            self.streams.fail(digest, Failure("the master has no room for the body", full=True))
        self._step_due = True

    def take_long(self, now: float, node: str, payload: bytes | memoryview) -> None:
        """A long body (hash, bytes) from another replica, which is told when it is on this one's
        disk. A bad one is counted and dropped."""
        self._now = now
        digest, body = bytes(payload[:DIGEST_BYTES]), memoryview(payload)[DIGEST_BYTES:]
        if len(digest) < DIGEST_BYTES or len(body) > self.blobs.limits.body_bytes_max:
            self._refuse_frame(node, f"a body of {len(body)} bytes")
            return

        asked_all = self.bodies.is_late(digest)

        def stored(ok: bool) -> None:
            if ok:
                names = {node, *self._linked_nodes()} if asked_all else {node}
                self._frames += [(name, FrameKind.HAVE, (digest,)) for name in sorted(names)]
                self._long_arrived()

        self.bodies.received += 1
        if self.blobs.durable(digest):
            stored(True)
        elif not self.bodies.take_long(digest, body, stored):
            logger.warning("shard %d: too many long bodies wait to be stored", self.shard)

    def _long_arrived(self) -> None:
        """A long body that entries may wait for is here."""
        if not self.bodies.missing and self.group.has_parked:
            self.group.retry_parked(self._now)

    def _check_role(self) -> None:
        requests, group = self.requests, self.group
        if requests.in_flight and not (group.is_leader and group.term == requests.term):
            requests.fail_in_flight()
        if (requests.waiting or self.streams) and not group.is_leader:
            self.streams.fail_all(_LOST)
            requests.fail_waiting(_LOST)

    def _look_at_index(self) -> None:
        """A read or the scrub may have found no space for what was held back: that is lost from the
        open transaction."""
        if self.machine.index.failed and self.may(Capability.KEEP_INDEX):
            self._note_full(DiskFull(self.machine.index.failed))

    def _note_full(self, error: DiskFull) -> None:
        """Refuse writes until there is space. What the index had not committed may be lost with its
        transaction: it is applied again."""
        if not self.disk_full:
            logger.error("shard %d: writes are refused until there is space: %s", self.shard, error)
            self.requests.fail_growing(self._full_text())
        self.disk_full = True
        self._full_at = self._now
        if self.machine.index.failed:
            self._go_back()

    def _go_back(self) -> None:
        """To the index's last commit: what came after it is applied again. Raises `TableDamaged`
        when there is no way back."""
        self.machine.abort()
        self.bodies.reload()
        self.group.rewind_applied(self.machine.applied_index)
        self._tell(WentBack(self.group.applied_index))
        self._pin_log(may_cut=False)  # before a step of the reclaiming
        self._check_withheld()
        self._index_dirty_since = None

    # -- which entries are held --------------------------------------------------------------------

    def _pin_log(self, *, may_cut: bool) -> int:
        """Pin the bodies of the entries that are to be applied. Returns the first entry that must
        not be acknowledged and goes, or 0."""
        group = self.group
        entries = self._entries_after(group.applied_index)
        return self.bodies.pin_log(entries, group.commit_index, self.keep_to, may_cut=may_cut)

    def _check_withheld(self) -> bool:
        """See that entries that lack bodies are acknowledged only when they have them. True while
        there are any. Who is alone among the voters has nobody to get them from, and goes on
        without."""
        group = self.group
        first = self.bodies.first_withheld(group.journal, group.applied_index)
        group.withhold(first if group.members.other_voters else 0)
        return first > 0

    def _look_for_lost(self) -> None:
        """What was read for another replica may have been found lost."""
        if self.bodies.found_lost:
            self._withhold_lost()
            self._check_role()

    def _withhold_lost(self) -> None:
        """Bodies that entries name were found lost. Entries that are committed are on other disks,
        bodies and all; of others this may be the only copy."""
        committed = max(self.group.applied_index, self.group.commit_index)
        self.bodies.withhold_lost(self._entries_after(committed))
        self._check_withheld()

    def _entries_after(self, index: int) -> list[tuple[int, int, bytes]]:
        """Index, term and payload of the entries that may name bodies."""
        group = self.group
        if index >= group.last_index:
            return []
        return [
            (at, term, command[1:])
            for command, at, term in group.entries(index + 1, group.last_index)
            if command[:1] == REGULAR and command[1:2] not in _WITHOUT_BODIES
        ]

    # -- problems, the index and the log -----------------------------------------------------------

    def _meet(self, error: DiskFull | IndexDamaged) -> None:
        if isinstance(error, DiskFull):
            self._note_full(error)
        else:
            self.index_damaged(error)

    def _commit_index(self, now: float) -> None:
        manager = self.recovery.manager
        if manager.dirty and self._index_dirty_since is None:
            self._index_dirty_since = now
        since = self._index_dirty_since
        limits = self.limits
        if since is None or now < self._index_retry_at:
            return
        if (
            self.machine.dirty_requests < limits.index_commit_requests_max
            and self.machine.dirty_bytes < limits.index_commit_bytes_max
            and now - since < limits.index_commit_s
        ):
            return
        if not self.may(Capability.KEEP_INDEX):
            return
        # Durable with the next commit: the journal keeps what may be lost, and a sync less is made
        # here.
        if self._commit(now, sync=False):
            manager.committed()
            self._index_dirty_since = None
            self.counters.index_commits += 1
            self._tell(IndexCommitted(self.machine.index.committed_index))
            self._trim_log()

    def _commit(self, now: float, *, sync: bool) -> bool:
        try:
            self.blobs.place_pending()
            self.machine.commit(sync=sync)
        except (DiskFull, IndexDamaged) as e:
            self._meet(e)
            self._index_retry_at = now + self.limits.index_retry_s
            return False
        return True

    def _look_at_log(self, now: float) -> None:
        """What is over the limits goes also where nothing comes any more, and the last commit is
        not made durable by a next one."""
        if now - self._trimmed_at < self.limits.log_look_s or not self.may(Capability.KEEP_INDEX):
            return
        index = self.machine.index
        if index.durable_index < index.committed_index and self._index_dirty_since is None:
            self._commit(now, sync=True)
        self._trim_log()

    def _trim_log(self) -> None:
        """Keep what the limits allow of the log, for followers that were away; what the index has
        not on disk stays in any case."""
        self._trimmed_at = self._now
        journal = self.group.journal
        if not self.group.keeps_log:
            first_index = journal.first_index
            self.compaction.step(self._now, journal, self.machine.durable_index)
            if journal.first_index > first_index:
                self._tell(LogTrimmed(journal.first_index))

    def _tell(self, event: ReplicaEvent) -> None:
        if self.observer is not None:
            self.observer(event)

    def _collect(self) -> None:
        group = self.group
        if not group.has_output:
            return
        for peer, parts in group.take_messages():
            node = group.node_of(peer)
            if node is not None:
                self._frames.append((node, FrameKind.RAFT, parts))
        self._frames.extend((node, FrameKind.BEATS, (beat,)) for node, beat in self.take_beats())
