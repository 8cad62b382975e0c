"""What can be seen of a replica from outside: who is in its group, how it stands, and whether there is anything for it to do."""

from __future__ import annotations

from raftmail.consensus.fitness import Fitness
from raftmail.consensus.group import Group
from raftmail.consensus.membership import Membership
from raftmail.resync.sink import Progress
from raftmail.shard.bodies import Bodies
from raftmail.shard.frames import Frame
from raftmail.shard.limits import Limits
from raftmail.shard.marks import Marks
from raftmail.shard.recovery import Recovery
from raftmail.shard.requests import Requests
from raftmail.shard.status import LACKING_GRACE_S, Capability, Condition, allowed, fitness_under
from raftmail.storage.blobs import BlobStore

_REMOVED, _RESYNCING, _DAMAGED, _WITHHOLDING, _LACKS_BODIES, _SUSPECT, _DISK_FULL, _DISK_SLOW = map(
    int, Condition
)


class ReplicaView:
    """The reading side of `replica.Replica`, which owns the parts."""

    __slots__ = ()

    group: Group
    bodies: Bodies
    recovery: Recovery
    requests: Requests
    marks: Marks
    blobs: BlobStore
    limits: Limits
    disk_full: bool
    disk_slow: bool
    _lacking_since: float | None
    _now: float
    _frames: list[Frame]
    _index_dirty_since: float | None
    _index_retry_at: float
    _chores_at: float
    _step_due: bool

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

    def progress(self) -> dict[int, int]:
        """Of a leader: up to where each other member's disk holds the log."""
        return self.group.progress()

    @property
    def is_whole(self) -> bool:
        """Whether this replica has all records and bodies of the state that it stands at, so that it may vote with the others, and be a
        source for them. (How far that state is behind the log, the master's match index tells.) `resync_progress` tells what is left."""
        return self.recovery.is_whole(self.group)

    @property
    def conditions(self) -> int:
        """What this replica is under now, as bits of `status.Condition`; 0: nothing keeps it from anything."""
        recovery = self.recovery
        bits = 0
        if recovery.frozen:
            bits |= _RESYNCING
        if recovery.damaged or recovery.machine.index.failed:
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
        if self.disk_slow:
            bits |= _DISK_SLOW
        group = self.group
        may_be_gone = group.elections.removed or group.members.is_stranger(group.self_id)
        if may_be_gone and group.removed:
            bits |= _REMOVED
        return bits

    @property
    def must_help_itself(self) -> bool:
        """Whether a record of the index is damaged that no other replica could give, and all that made it is still in the log."""
        group = self.group
        alone = self.recovery.damaged and len(group.membership.nodes) == 1
        return alone and group.journal.begins_at <= 1

    def may(self, capability: Capability) -> bool:
        """Whether nothing keeps this replica from something; see `status.CAPABILITIES`."""
        return bool(allowed(self.conditions) & capability)

    def fitness(self) -> Fitness:
        """How fit this replica is to lead (`consensus.applier.Applier`)."""
        return fitness_under(self.conditions)

    def resync_progress(self, now: float) -> Progress:
        """How far a resync is."""
        return self.recovery.desk.sink.progress(now)

    def next_deadline(self, now: float) -> float:
        """When to `tick` again at the latest, if nothing comes in before. A replica that nothing happens in has little to do between
        heartbeats, and hardly more between elections that do not come; one that took an entry has to commit its index once, and to put
        bodies to the disk."""
        if (
            self.disk_full
            or self.bodies.missing
            or self.group.resync_wanted is not None
            or self.marks.reads
            or self._has_to_do
            or self.recovery.frozen
        ):
            return now
        deadline = min(
            self.group.next_deadline(), self._chores_at, self.recovery.desk.scrub.behind_at
        )
        if self._index_dirty_since is not None:
            commit_at = self._index_dirty_since + self.limits.index_commit_s
            deadline = min(deadline, max(commit_at, self._index_retry_at))
        return min(deadline, self.bodies.next_deadline())

    @property
    def needs_turn(self) -> bool:
        """Whether a tick left anything to send, sync, apply or commit, or a resync is under way (nothing else may wake it)."""
        return self.group.has_beats or self._has_to_do

    @property
    def request_needs_turn(self) -> bool:
        """Whether the request that came last leaves anything to do at once. One that joins others that wait changes nothing, unless there
        are now so many that they are worth an entry beside the one that is on its way."""
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
            or self.recovery.desk.busy
            or self.bodies.has_to_do(self._now)
        )

    @property
    def has_work(self) -> bool:
        """Whether another step would do something at once: what waits can be proposed, or held messages could go."""
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
