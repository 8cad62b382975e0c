"""Opening a replica from what it keeps. The order stands here, and nowhere else:

1. **The journal.** Everything that was promised to others is in it, so nothing is believed before
   it is read.
2. **The index.** One that cannot be used is set aside and made anew; its own tables are made again
   when they alone are damaged.
3. **Log and index are joined** (`index_recovery.join`). Where the log goes on behind what the
   index has, a resync has to come first.
4. **The bodies.** What the journal alone kept is put into the store, and what is missing is noted.
5. **A jump that was not finished** (`finish_jump`). From here on log and index stand at the same
   entry, or the log goes on.
6. **The machine and the replica**, which knows up to where no body may be given up
   (`index_recovery.keep_to`).
7. **The membership** that the replica stands at, which the index knows, or is told once.
8. **The group**, which calls the replica back, and `Replica.start`, which pins what the log names.

Whoever opens a replica (a node, the simulator, a test) says where its parts are kept, and what is
to be repaired."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from raftmail.consensus.followers import Flow
from raftmail.consensus.group import Group
from raftmail.consensus.journal import Identity, Journal, JournalLimits
from raftmail.consensus.membership import Membership
from raftmail.consensus.timing import Timing
from raftmail.resync.state import Suspects, pending_jump
from raftmail.shard import index_recovery
from raftmail.shard.events import LogOpened, Observer, OwnTablesForgotten
from raftmail.shard.limits import ReplicaLimits
from raftmail.shard.machine import Machine
from raftmail.shard.membership_store import standing_at_start
from raftmail.shard.memory import Memory
from raftmail.shard.replica import Replica
from raftmail.storage.blobs import BlobLimits, BlobStore
from raftmail.storage.disk import Disk
from raftmail.storage.index import Index, IndexFailed
from raftmail.storage.kv import TableDamaged
from raftmail.storage.records import IndexDamaged

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Repairs:
    """What an opening has to repair.

    `rebuild`: why the index has to be made anew; "": it has not. `own`: the same of the tables that
    are this replica's own, which `check_own` has read for damage. `compare`: compare every record
    with another replica's. `bodies`: look for every body; `damaged` are hashes of some that are not
    good."""

    rebuild: str = ""
    own: str = ""
    check_own: bool = False
    compare: bool = False
    bodies: bool = False
    damaged: tuple[bytes, ...] = ()


def repair_of(damage: IndexDamaged | TableDamaged, tried: Repairs) -> Repairs:
    """What the next opening has to do about damage that was met, when `tried` did not help."""
    if isinstance(damage, IndexDamaged):
        own = damage.is_local and damage.table != "meta"
        if own and not tried.own:
            return Repairs(own=str(damage))
        if not own and damage.table != "meta" and not tried.compare:
            return Repairs(compare=True)
    return Repairs(rebuild=str(damage))


class IndexKeeper(Protocol):
    """Where the index of one replica is kept, and what is known of its condition."""

    def repairs(self) -> Repairs:
        """What this opening has to repair."""

    def open(self) -> Index:
        """Open the index; one that is not there is made. Raises `IndexFailed` for another
        replica's, and `TableDamaged` and `IndexDamaged` for one that cannot be used."""

    def set_aside(self) -> None:
        """Put what cannot be used out of the way, closing it, so that the next `open` makes a new
        one. Raises `DiskError`."""

    def repaired(self) -> None:
        """What had to be repaired is repaired, and on the disk."""

    def close(self) -> None:
        """Close what `open` opened: the opening failed."""


@dataclass(frozen=True, slots=True)
class ReplicaSpec:
    """Which replica is opened, and how it is to work.

    `cluster` is the name that resyncs go by. `told` is what a new replica is told of its group, and
    `is_founding` that this is what the replica was made with. `is_new`: there is nothing on the
    disk yet. `is_doubtful`: the disk may be an old copy (guard G13)."""

    identity: Identity
    node: str
    cluster: str
    told: Membership
    is_new: bool
    is_founding: bool = False
    is_doubtful: bool = False
    journal: JournalLimits = field(default_factory=JournalLimits)
    blobs: BlobLimits = field(default_factory=BlobLimits)
    limits: ReplicaLimits = field(default_factory=ReplicaLimits)
    timing: Timing = field(default_factory=Timing)
    flow: Flow = field(default_factory=Flow)


def open_replica(
    disk: Disk,
    keeper: IndexKeeper,
    spec: ReplicaSpec,
    now: float,
    memory: Memory | None = None,
    observer: Observer | None = None,
    make_rng: Callable[[], random.Random] = random.Random,
) -> Replica:
    """Open a replica; one that is new is made. `disk` has its journal and bodies.

    Raises `JournalError`, `JournalBehind`, `DiskError`, `IndexFailed`, and `IndexDamaged` and
    `TableDamaged` for damage that is met only after the index was opened (see `repair_of`). Then
    nothing is open."""
    with ExitStack() as opened:
        journal = Journal.open(disk, "journal", spec.identity, spec.journal, create=spec.is_new)
        opened.callback(journal.abandon)
        if observer is not None:
            observer(LogOpened(journal))
        opened.callback(keeper.close)
        index, blobs = _open_state(disk, keeper, spec, journal, observer)
        opened.callback(blobs.abandon)
        memory = memory or Memory()
        index.share(memory.columns)
        machine = Machine(index)
        replica = Replica(
            spec.identity.shard,
            spec.node,
            machine,
            blobs,
            spec.limits,
            cluster=spec.cluster,
            new_session=partial(make_rng().getrandbits, 63),
            keep_to=index_recovery.keep_to(index),
            memory=memory,
            observer=observer,
        )
        replica_id = spec.identity.replica
        at, membership = standing_at_start(
            index, journal, replica_id, spec.told, first=spec.is_founding
        )
        group = Group(
            spec.identity.shard,
            replica_id,
            membership,
            journal,
            replica,
            max(machine.applied_index, journal.begins_at),
            make_rng(),
            now,
            spec.timing,
            spec.flow,
            membership_index=at,
            doubtful=spec.is_doubtful,
        )
        replica.start(group)
        opened.pop_all()
    return replica


def _open_state(
    disk: Disk,
    keeper: IndexKeeper,
    spec: ReplicaSpec,
    journal: Journal,
    observer: Observer | None,
) -> tuple[Index, BlobStore]:
    """The index and the bodies, repaired, and standing where the log can go on."""
    repairs = keeper.repairs()
    index, lost = _open_index(keeper, spec, repairs.rebuild)
    own = "" if lost else repairs.own
    if not lost and not own and repairs.check_own:
        own = index_recovery.own_damage(index)
    if own:
        try:
            index_recovery.forget_own_tables(index)
        except IndexDamaged as e:
            index, lost = _open_index(keeper, spec, str(e))
            own = ""
        else:
            logger.error(
                "shard %d: %s. What is this replica's own is made again, from its files",
                spec.identity.shard,
                own,
            )
            if observer is not None:
                observer(OwnTablesForgotten(own))
    anew = bool(lost or own)
    index_recovery.join(index, journal, anew=anew)
    if repairs.compare:
        suspects = Suspects.read(index)
        suspects.everything = True
        suspects.write(index)
        index.commit(sync=True)
    blobs = index_recovery.open_bodies(
        disk,
        index,
        spec.blobs,
        journal,
        anew=anew,
        look=repairs.bodies or bool(own) or spec.is_doubtful,
        suspect=repairs.damaged,
    )
    try:
        finish_jump(index, journal)
        keeper.repaired()
    except BaseException:
        blobs.abandon()
        raise
    return index, blobs


def _open_index(keeper: IndexKeeper, spec: ReplicaSpec, lost: str) -> tuple[Index, str]:
    """The index, and why it is a new one; "": it is not. `lost`: why the one that is there cannot
    be used."""
    if not lost:
        try:
            return keeper.open(), ""
        except IndexFailed:
            raise
        except (TableDamaged, IndexDamaged) as e:
            lost = str(e)
    logger.error(
        "shard %d: the index cannot be used: %s. It is made anew, from the log and other replicas",
        spec.identity.shard,
        lost,
    )
    keeper.set_aside()
    return keeper.open(), lost


def finish_jump(index: Index, journal: Journal) -> None:
    """A crash between the end of a resync and the jump of the log left the index ahead of it.

    Or the index is at an entry that the log has of another term. The log is begun anew where the
    index stands; nothing that it had was needed any more.
    """
    pending = pending_jump(index)
    if pending is None or index.applied_index != pending[0] or pending[0] < journal.begins_at:
        return
    at, term = pending
    if at > journal.last_index or journal.term_of(at) != term:
        journal.reset(at, term)
