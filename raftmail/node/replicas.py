"""Opening a replica from its folder: index, blobs, journal, state machine and group, in the order that recovery needs."""

from __future__ import annotations

import logging
import random
from contextlib import ExitStack
from dataclasses import dataclass

from raftmail.consensus.group import Group, Timing
from raftmail.consensus.journal import Identity as JournalIdentity
from raftmail.consensus.journal import Journal, JournalLimits
from raftmail.consensus.membership import Membership
from raftmail.node.budget import BODY_BYTES_HIGHEST, limits_of
from raftmail.node.config import Config
from raftmail.node.folder import DataFolder
from raftmail.node.kept import Orders, made_with, open_kept, order, repair_of
from raftmail.resync.scrub import ScrubLimits
from raftmail.shard.compaction import LogLimits
from raftmail.shard.machine import Machine
from raftmail.shard.memory import Memory
from raftmail.shard.replica import Limits, Replica
from raftmail.shard.rescue import keep_to
from raftmail.shard.standing import standing_at_start
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


def open_journal(config: Config, folder: DataFolder, shard: int, replica_id: int) -> Journal:
    """Open a replica's journal; one that `folder` does not know is made. Raises `JournalError`, `DiskError`."""
    return Journal.open(
        folder.shard_disk(shard),
        "journal",
        JournalIdentity(bytes.fromhex(config.cluster.id), shard, replica_id),
        JournalLimits(segment_bytes_max=_log_limits(config).segment_bytes),
        create=shard not in folder.made,
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
    """Open one replica; one that `folder` does not know is made, with `told` for its group's members. Damage of the index that is met on
    the way is repaired, by more and more: its own tables, a comparison with other replicas, an index made anew. Raises the rooms'
    errors of damage, each naming the file and what to do; then nothing is open."""
    disk = folder.shard_disk(shard)
    tried = Orders()
    while True:
        try:
            return _open_once(config, folder, shard, replica_id, told, now, memory)
        except (IndexDamaged, TableDamaged) as e:
            if tried.rebuild:
                raise
            orders = repair_of(e, tried)
            logger.error("shard %d: %s; the replica is opened again, to repair it", shard, e)
            order(disk, orders)
            tried = Orders(
                tried.rebuild or orders.rebuild,
                tried.own or orders.own,
                tried.compare or orders.compare,
            )


def _open_once(
    config: Config,
    folder: DataFolder,
    shard: int,
    replica_id: int,
    told: Membership,
    now: float,
    memory: Memory,
) -> Opened:
    disk = folder.shard_disk(shard)
    with ExitStack() as opened:
        journal = open_journal(config, folder, shard, replica_id)
        opened.callback(journal.abandon)
        kept = open_kept(
            disk,
            IndexIdentity(config.cluster.id, shard, str(replica_id)),
            journal,
            BlobLimits(
                free_bytes_min=config.mail.disk_reserve_bytes, body_bytes_max=BODY_BYTES_HIGHEST
            ),
            made=shard in folder.made,
        )
        opened.callback(kept.engine.close)
        opened.callback(kept.blobs.abandon)
        index = kept.index
        machine = Machine(index)
        replica = Replica(
            shard,
            config.node.name,
            machine,
            kept.blobs,
            _limits(config),
            cluster=config.cluster.id,
            keep_to=keep_to(index),
            memory=memory,
        )
        told, first = made_with(disk, told, made=shard in folder.made)
        at, membership = standing_at_start(index, journal, replica_id, told, first=first)
        group = Group(
            shard,
            replica_id,
            membership,
            journal,
            replica,
            max(machine.applied_index, journal.begins_at),
            random.Random(),
            now,
            _timing(config),
            membership_index=at,
            doubtful=folder.is_copy,
        )
        replica.start(group)
        opened.pop_all()
    return Opened(replica, index, kept.engine)


def _limits(config: Config) -> Limits:
    sizes = limits_of(config)
    return Limits(
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
