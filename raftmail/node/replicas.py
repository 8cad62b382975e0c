"""Opening a replica from its folder (`shard.opening`), by what the configuration says, and again
when damage is met on the way."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from raftmail.consensus.group import Timing
from raftmail.consensus.journal import Identity as JournalIdentity
from raftmail.consensus.journal import Journal, JournalLimits
from raftmail.consensus.membership import Membership
from raftmail.node.budget import BODY_BYTES_HIGHEST, limits_of
from raftmail.node.config import Config
from raftmail.node.folder import DataFolder
from raftmail.node.index_folder import IndexFolder, made_with, order
from raftmail.resync.scrub import ScrubLimits
from raftmail.shard import opening
from raftmail.shard.log_retention import LogLimits
from raftmail.shard.memory import Memory
from raftmail.shard.opening import Repairs, ReplicaSpec
from raftmail.shard.replica import Replica, ReplicaLimits
from raftmail.storage.blobs import BlobLimits
from raftmail.storage.index import Index, IndexIdentity
from raftmail.storage.kv import LmdbEngine, TableDamaged
from raftmail.storage.records import IndexDamaged

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Opened:
    """What was opened, for status and fsck."""

    replica: Replica
    index: Index
    engine: LmdbEngine


def _log_limits(config: Config) -> LogLimits:
    return LogLimits(config.log.bytes_max, config.log.entries_max, float(config.log.age_s))


def _journal_limits(config: Config) -> JournalLimits:
    return JournalLimits(segment_bytes_max=_log_limits(config).segment_bytes)


def _identity(config: Config, shard: int, replica_id: int) -> JournalIdentity:
    return JournalIdentity(bytes.fromhex(config.cluster.id), shard, replica_id)


def open_journal(config: Config, folder: DataFolder, shard: int, replica_id: int) -> Journal:
    """Open the journal of a replica that `folder` knows. Raises `JournalError`, `DiskError`."""
    return Journal.open(
        folder.shard_disk(shard),
        "journal",
        _identity(config, shard, replica_id),
        _journal_limits(config),
        create=False,
    )


def open_replica(
    config: Config,
    folder: DataFolder,
    shard: int,
    replica_id: int,
    told: Membership,
    now: float,
    memory: Memory,
) -> Opened:
    """Open one replica; one that `folder` does not know is made, with `told` for its group's
    members. Damage of the index that is met on the way is repaired, by more and more: its own
    tables, a comparison with other replicas, an index made anew. Raises the rooms' errors of
    damage, each naming the file and what to do; then nothing is open."""
    disk = folder.shard_disk(shard)
    is_new = shard not in folder.made
    told, is_founding = made_with(disk, told, made=not is_new)
    spec = ReplicaSpec(
        _identity(config, shard, replica_id),
        config.node.name,
        config.cluster.id,
        told,
        is_new=is_new,
        is_founding=is_founding,
        is_doubtful=folder.is_copy,
        journal=_journal_limits(config),
        blobs=BlobLimits(
            free_bytes_min=config.mail.disk_reserve_bytes, body_bytes_max=BODY_BYTES_HIGHEST
        ),
        limits=_limits(config),
        timing=_timing(config),
    )
    tried = Repairs()
    while True:
        keeper = IndexFolder(
            disk, IndexIdentity(config.cluster.id, shard, str(replica_id)), is_new=is_new
        )
        try:
            replica = opening.open_replica(disk, keeper, spec, now, memory)
        except (IndexDamaged, TableDamaged) as e:
            if tried.rebuild:
                raise
            repairs = opening.repair_of(e, tried)
            logger.error("shard %d: %s; the replica is opened again, to repair it", shard, e)
            order(disk, repairs)
            tried = Repairs(
                tried.rebuild or repairs.rebuild,
                tried.own or repairs.own,
                compare=tried.compare or repairs.compare,
            )
        else:
            return Opened(replica, keeper.index, keeper.engine)


def _limits(config: Config) -> ReplicaLimits:
    sizes = limits_of(config)
    return ReplicaLimits(
        log=_log_limits(config),
        stream_s=float(config.mail.deadline_s),
        resync=sizes.resync,
        scrub=ScrubLimits(
            rate_bytes_s=config.scrub.rate_bytes_s, period_s=float(config.scrub.period_s)
        ),
    )


def _timing(config: Config) -> Timing:
    raft = config.raft
    return Timing(
        heartbeat_s=raft.heartbeat_ms / 1000,
        election_min_s=raft.election_min_ms / 1000,
        election_max_s=raft.election_max_ms / 1000,
        fallback_s=raft.election_max_ms / 1000,
    )
