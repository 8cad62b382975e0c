"""Bringing this replica back, and helping others: the manager of `resync`, tied to the Raft group.

While records are being exchanged the replica is frozen: it takes no Raft messages, applies, serves
and votes for nothing, because its index is no one's state. A leader hands its mastership over
first."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from raftmail.consensus.group import Group
from raftmail.resync.manager import ResyncManager
from raftmail.resync.state import forget_jump
from raftmail.shard.events import Jumped, Restated
from raftmail.shard.limits import ReplicaLimits
from raftmail.shard.machine import Machine
from raftmail.shard.membership_store import kept
from raftmail.storage.blobs import BlobStore
from raftmail.storage.records import IndexDamaged

logger = logging.getLogger(__name__)

LOOK_S = 0.1
"""How often it is looked whether something is to be begun."""

BUSY_ROOM_BYTES = 48 << 10
"""The same while clients write: they wait for the end of a step."""

SYNC_BYTES = 8 << 20
SYNC_S = 0.5
"""Bodies of a resync are synced when there are so many, or the last sync was so long ago."""

WRITES_MIN = 2
"""More entries than this between two looks tell that clients write ..."""

WRITES_S = 1.0
"""... and that they go on for so long."""

SCRUB_S = 0.05
"""How often the scrub takes a step when nothing else goes on."""

ROOM_BYTES = 4 << 20
"""How much of a resync may be queued for a node in one step."""


@dataclass(slots=True, repr=False)
class CatchUp:
    """`damaged` is set while the index cannot be applied to because a record of it is damaged."""

    shard: int
    manager: ResyncManager
    machine: Machine
    node: str
    damaged: bool = False
    suspect: bool = False
    """Records are to be compared, as far as was seen at the last look."""

    _offered: int = 0
    """The state that the leader offered when its log did not reach back far enough; 0: none is
    waited for."""

    has_more: bool = False
    """A step ended with something left to do at once."""

    _synced_at: float = -1e18
    _applied: int = 0
    _writes_at: float = -1e18
    _scrub_at: float = 0.0
    _looked_at: float = -1e18
    _others_by: tuple[int, str | None] = (-1, None)
    _kept_others: tuple[Sequence[str], Sequence[str]] = ((), ())

    @classmethod
    def of(
        cls,
        shard: int,
        node: str,
        cluster: str,
        machine: Machine,
        blobs: BlobStore,
        limits: ReplicaLimits,
        new_session: Callable[[], int],
    ) -> CatchUp:
        """That of a replica."""
        manager = ResyncManager(
            machine.index,
            blobs,
            cluster,
            shard,
            machine.abort,
            new_session,
            limits.resync,
            limits.scrub,
        )
        return cls(shard, manager, machine, node)

    @property
    def frozen(self) -> bool:
        """Nothing may be applied, served, voted for or acknowledged now. Also from when the records
        are whole until the group has jumped to where they stand: meanwhile the group would apply,
        from a log that is trimmed by what the records hold, what they hold already."""
        return self.manager.sink.frozen

    def is_whole(self, group: Group) -> bool:
        """See `Replica.is_whole`."""
        manager = self.manager
        if self.damaged or group.resync_wanted is not None:
            return False
        return manager.whole and not manager.needs_records

    def index_damaged(self, damage: IndexDamaged) -> None:
        """A record of the index cannot be verified: have it fetched from another replica."""
        logger.error("shard %d: %s; it is fetched from another replica", self.shard, damage)
        self.manager.damaged(damage)
        self.damaged = True

    def tick(self, now: float, group: Group) -> None:
        """Begin what is to be begun."""
        manager = self.manager
        if now < self._looked_at + LOOK_S and not manager.busy and group.resync_wanted is None:
            return
        self._looked_at = now
        self._note_writes(now)
        wanted = group.take_resync_wanted()
        if wanted is not None:
            self._offered = wanted[1]
            if not manager.needs_records:
                manager.need()
        elif self._offered and group.applied_index >= self._offered and not manager.holds:
            # Another leader's log did reach back. No source would be ahead, and missing bodies
            # would wait for one.
            self._offered = 0
            manager.need_no_more()
        self.suspect = manager.needs_records
        manager.at_least = group.applied_index
        others, connected = self._others(group)
        manager.tick(now, others, connected, may_hold=not group.is_leader)

    def _others(self, group: Group) -> tuple[Sequence[str], Sequence[str]]:
        """The nodes of the other replicas, and those of them that there is a link to."""
        leader = None if group.leader is None else group.node_of(group.leader)
        if self._others_by != (group.links_changed, leader):
            self._others_by = (group.links_changed, leader)
            # A leader that this log does not name yet, because the membership changed behind it,
            # may be the only source there is.
            named = {*group.membership.nodes.values(), *([leader] if leader else ())}
            others = sorted(named - {self.node})
            # Others before the master, whose load should stay even.
            linked = filter(group.is_linked, others)
            connected = sorted(linked, key=lambda name: (name == leader, name))
            self._kept_others = others, connected
        return self._kept_others

    def sync_may_wait(self, now: float, group: Group) -> bool:
        """Whether the bodies to be synced are those of a resync alone, and few: many syncs would
        take longer than the rest of it."""
        few = 0 < self.manager.unsynced_bytes < SYNC_BYTES and now - self._synced_at < SYNC_S
        if few and not group.has_held_messages and not group.journal.dirty:
            return True
        self._synced_at = now
        return False

    def _note_writes(self, now: float) -> None:
        applied = self.machine.applied_index
        if applied > self._applied + WRITES_MIN:
            self._writes_at = now
        self._applied = applied
        self.manager.writes_go_on(busy=self._has_writes(now))

    def _has_writes(self, now: float) -> bool:
        return now - self._writes_at < WRITES_S

    def step(self, now: float, connected: Callable[[str], bool]) -> Sequence[tuple[str, bytes]]:
        """A bounded piece of work; frames to send. Without a resync there is only the scrub, which
        takes its turn now and then."""
        if not self.manager.busy:
            if now < self._scrub_at:
                return ()
            self._scrub_at = now + SCRUB_S
        manager = self.manager
        room = BUSY_ROOM_BYTES if self._has_writes(now) else ROOM_BYTES
        self.has_more = manager.step(now, lambda name: room if connected(name) else 0)
        if manager.wait_s() > 0.0:
            self.has_more = False  # the rate holds it back: the next tick goes on
        return manager.take_frames()

    def settle(self, group: Group, sync_bodies: Callable[[], None]) -> Jumped | Restated | None:
        """When the records have become complete, let the group jump to where they stand. Returns
        what came of it. `sync_bodies` has the blob store hold on the disk what the journal kept:
        the jump may forget it, and some of it may be on no disk yet."""
        finished = self.manager.take_finished()
        if finished is None:
            return None
        index, term = finished
        self.damaged = False
        standing = kept(self.machine.index) or (0, group.membership)
        sync_bodies()
        settled: Jumped | Restated
        if group.lacks(index, term):
            group.jump(index, term, standing)
            settled = Jumped(index)
        else:
            group.restate(standing)
            settled = Restated(group.applied_index)
        forget_jump(self.machine.index)
        logger.info("shard %d: this replica is whole up to entry %d", self.shard, index)
        return settled
