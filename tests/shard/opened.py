"""Opening real replicas on a simulated disk, with an index in memory that stays when they are
closed."""

from __future__ import annotations

import random

from raftmail.consensus.journal import Identity as JournalIdentity
from raftmail.consensus.journal import JournalLimits
from raftmail.consensus.membership import Membership
from raftmail.shard.events import Observer
from raftmail.shard.limits import ReplicaLimits
from raftmail.shard.opening import Repairs, ReplicaSpec, open_replica
from raftmail.shard.replica import Replica
from raftmail.storage.blobs import BlobLimits
from raftmail.storage.index import TABLES, Index, IndexIdentity
from tests.simulation.disk import SimDisk
from tests.simulation.kv import MemoryEngine

NO_RESERVE = BlobLimits(free_bytes_min=0)


class MemoryIndex:
    """An index on LMDB's twin (`shard.opening.IndexKeeper`), which survives as a file would.
    `ordered` is what the next opening repairs; `made_anew` counts the indices that were set aside.
    `closed`: an opening failed."""

    def __init__(self, replica_id: int) -> None:
        self.engine = MemoryEngine(TABLES)
        self.ordered = Repairs()
        self.made_anew = 0
        self.closed = False
        self._identity = IndexIdentity("tests", 1, str(replica_id))

    def repairs(self) -> Repairs:
        return self.ordered

    def open(self) -> Index:
        return Index(self.engine, self._identity)

    def set_aside(self) -> None:
        self.made_anew += 1
        self.engine = MemoryEngine(TABLES)

    def repaired(self) -> None:
        self.ordered = Repairs()

    def close(self) -> None:
        self.closed = True


def open_on(
    disk: SimDisk,
    keeper: MemoryIndex,
    replica_id: int,
    node: str,
    told: Membership,
    now: float,
    *,
    is_new: bool,
    is_founding: bool,
    limits: ReplicaLimits,
    journal: JournalLimits,
    blobs: BlobLimits = NO_RESERVE,
    observer: Observer | None = None,
) -> Replica:
    """Open a replica of shard 1."""
    spec = ReplicaSpec(
        JournalIdentity(bytes(16), 1, replica_id),
        node,
        "tests",
        told,
        is_new=is_new,
        is_founding=is_founding,
        journal=journal,
        blobs=blobs,
        limits=limits,
    )
    return open_replica(
        disk,
        keeper,
        spec,
        now,
        observer=observer,
        make_rng=lambda: random.Random(replica_id),
    )
