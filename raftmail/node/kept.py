"""Opening what a replica keeps beside its journal, also when it was damaged or lost.

The index that cannot be used is set aside (`index.damaged`, one of them is kept) and made anew;
`shard.rescue` tells what follows from that. What was ordered while the replica was closed (by
`raftmail fsck --repair`, or by the node itself when it met damage) stands in `repair.json`.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

from raftmail.consensus.journal import Journal
from raftmail.consensus.membership import BadMembership, Membership
from raftmail.node.folder import read_json, write_json
from raftmail.resync.state import Suspects
from raftmail.shard import rescue
from raftmail.shard.recovery import finish_jump
from raftmail.storage.blobs import BlobLimits, BlobStore
from raftmail.storage.disk import DiskError, RealDisk
from raftmail.storage.index import TABLES, Index, IndexDamaged, IndexFailed, IndexIdentity
from raftmail.storage.kv import LmdbEngine, TableDamaged
from raftmail.storage.lmdbcheck import FILE, check_pages

logger = logging.getLogger(__name__)

INDEX = "index"
SET_ASIDE = "index.damaged"
ORDERS = "repair.json"
CLOSED = "index.closed.json"
FIRST = "membership.first"
_DIGEST = re.compile(r"[0-9a-f]{64}")
DAMAGED_MAX = 10_000
"""Damaged bodies that are named in an order; the scrub finds the others."""


@dataclass(frozen=True, slots=True)
class Orders:
    """What the next opening has to repair. `rebuild`: why the index has to be made anew; "": it has not. `own`: the same of the tables
    that are this replica's own. `compare`: compare every
    record with another replica's. `bodies`: look for every body; `damaged` are hashes (hexadecimal) of some that are not good."""

    rebuild: str = ""
    own: str = ""
    compare: bool = False
    bodies: bool = False
    damaged: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.rebuild or self.own or self.compare or self.bodies or self.damaged)


@dataclass(frozen=True, slots=True)
class Kept:
    """What was opened."""

    engine: LmdbEngine
    index: Index
    blobs: BlobStore


def order(disk: RealDisk, orders: Orders) -> None:
    """Have the next opening repair a replica. Durable when it returns."""
    before = read_orders(disk)
    value = {
        "rebuild": before.rebuild or orders.rebuild,
        "own": before.own or orders.own,
        "compare": before.compare or orders.compare,
        "bodies": before.bodies or orders.bodies,
        "damaged": sorted({*before.damaged, *orders.damaged})[:DAMAGED_MAX],
    }
    write_json(disk.root, ORDERS, value)


def read_orders(disk: RealDisk) -> Orders:
    """Those that cannot be read are: compare and look at everything."""
    path = disk.root / ORDERS
    if not path.exists():
        return Orders()
    try:
        value = read_json(path)
        damaged = tuple(str(digest) for digest in value["damaged"])
        if not all(map(_DIGEST.fullmatch, damaged)):
            raise ValueError("a hash is none")
        return Orders(
            str(value["rebuild"]),
            str(value.get("own", "")),
            bool(value["compare"]),
            bool(value["bodies"]),
            damaged,
        )
    except (OSError, ValueError, KeyError, TypeError):
        return Orders(compare=True, bodies=True)


def open_kept(
    disk: RealDisk, identity: IndexIdentity, journal: Journal, limits: BlobLimits, *, made: bool
) -> Kept:
    """Open index and bodies of a replica; `made`: it is not a new one. Raises `DiskError`, `IndexFailed` when the index is another
    replica's, and `IndexDamaged` and `TableDamaged` for damage that is met only now (`repair_of`)."""
    orders = read_orders(disk)
    closed = _was_closed(disk.root)
    lost = orders.rebuild or (_trouble(disk.root, closed=closed) if made else "")
    if not lost:
        try:
            engine, index = _open_index(disk, identity)
        except IndexFailed:
            raise
        except (TableDamaged, IndexDamaged) as e:
            lost = str(e)
    if lost:
        logger.error(
            "shard %d: the index cannot be used: %s. It is made anew, from the log and other replicas",
            identity.shard,
            lost,
        )
        _set_aside(disk)
        engine, index = _open_index(disk, identity)
    try:
        (disk.root / CLOSED).unlink(missing_ok=True)
        own = "" if lost else orders.own
        if made and not lost and not own and (orders or not closed):
            own = rescue.own_damage(index)
        if own:
            logger.error(
                "shard %d: %s. What is this replica's own is made again, from its files",
                identity.shard,
                own,
            )
            rescue.forget_own_tables(index)
        blobs = _open_bodies(disk, index, limits, journal, orders, anew=bool(lost or own), own=own)
        finish_jump(index, journal)
    except BaseException:
        engine.close()
        raise
    if orders:
        (disk.root / ORDERS).unlink(missing_ok=True)
        disk.sync_folder("")
    return Kept(engine, index, blobs)


def _open_bodies(
    disk: RealDisk,
    index: Index,
    limits: BlobLimits,
    journal: Journal,
    orders: Orders,
    *,
    anew: bool,
    own: str,
) -> BlobStore:
    rescue.join(index, journal, anew=anew)
    if orders.compare:
        suspects = Suspects.read(index)
        suspects.everything = True
        suspects.write(index)
        index.commit(sync=True)
    return rescue.open_bodies(
        disk,
        index,
        limits,
        journal,
        anew=anew,
        look=orders.bodies or bool(own),
        suspect=[bytes.fromhex(digest) for digest in orders.damaged],
    )


def repair_of(damage: IndexDamaged | TableDamaged, tried: Orders) -> Orders:
    """What the next opening has to do about damage that was met, when `tried` did not help."""
    if isinstance(damage, IndexDamaged):
        own = damage.is_local and damage.table != "meta"
        if own and not tried.own:
            return Orders(own=str(damage))
        if not own and damage.table != "meta" and not tried.compare:
            return Orders(compare=True)
    return Orders(rebuild=str(damage))


def made_with(disk: RealDisk, told: Membership, *, made: bool) -> tuple[Membership, bool]:
    """The membership that a replica was made with, and True; or, where that cannot be told any more, `told` and False. A new one is made
    with `told`, which is kept beside the index, so that the log can be applied again without it."""
    path = disk.root / FIRST
    if not made:
        encoded = told.encode()
        path.write_bytes(encoded + crc32(encoded).to_bytes(4, "big"))
        disk.sync_folder("")
        return told, True
    try:
        data = path.read_bytes()
        if crc32(data[:-4]).to_bytes(4, "big") == data[-4:]:
            return Membership.decode(data[:-4]), True
    except (OSError, BadMembership):
        pass
    return told, False


def note_closed(root: Path) -> None:
    """The index was closed in order: what it looks like now can be told from what somebody else makes of it."""
    stat = os.stat(root / INDEX / FILE)
    write_json(root, CLOSED, {"bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns})


def _was_closed(root: Path) -> bool:
    """Whether the index was closed in order, and nobody changed it since."""
    try:
        stat = (root / INDEX / FILE).stat()
        closed = read_json(root / CLOSED)
        return bool((closed["bytes"], closed["mtime_ns"]) == (stat.st_size, stat.st_mtime_ns))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _trouble(root: Path, *, closed: bool) -> str:
    """Why an index must not be opened at all; "": as far as can be told, it may be. One that cannot be read is of no more use than one
    that is not there."""
    path = root / INDEX / FILE
    try:
        if not path.exists():
            return f"{path} is missing"
        return "" if closed else check_pages(root / INDEX)
    except OSError as e:
        if e.errno in (errno.EIO, errno.EUCLEAN, errno.EBADMSG, errno.EISDIR):
            return f"{path}: cannot be read: {e.strerror}"
        raise DiskError(f"{path}: cannot be read: {e.strerror}") from None


def _open_index(disk: RealDisk, identity: IndexIdentity) -> tuple[LmdbEngine, Index]:
    engine = LmdbEngine(disk.root / INDEX, TABLES)
    try:
        return engine, Index(engine, identity)
    except BaseException:
        engine.close()
        raise


def _set_aside(disk: RealDisk) -> None:
    folder, aside = disk.root / INDEX, disk.root / SET_ASIDE
    if folder.exists():
        shutil.rmtree(aside, ignore_errors=True)
        os.rename(folder, aside)
        disk.sync_folder("")
