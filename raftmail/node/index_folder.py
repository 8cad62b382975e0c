"""Opening what a replica keeps beside its journal, also when it was damaged or lost.

`shard.opening` opens a replica, and knows the order. Here is where a node keeps the index, and what
it notes about its condition. The index that cannot be used is set aside (`index.damaged`, one of
them is kept) and made anew; `shard.index_recovery` tells what follows from that. What was ordered
while the replica was closed (by `raftmail fsck --repair`, or by the node itself when it met damage)
stands in `repair.json`.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path
from zlib import crc32

from raftmail.consensus.membership import BadMembership, Membership
from raftmail.node.folder import read_json, write_json
from raftmail.shard.opening import Repairs
from raftmail.storage.disk import DiskError, RealDisk
from raftmail.storage.index import TABLES, Index, IndexIdentity
from raftmail.storage.kv import LmdbEngine
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


def order(disk: RealDisk, orders: Repairs) -> None:
    """Have the next opening repair a replica. Durable when it returns."""
    before = read_orders(disk)
    value = {
        "rebuild": before.rebuild or orders.rebuild,
        "own": before.own or orders.own,
        "compare": before.compare or orders.compare,
        "bodies": before.bodies or orders.bodies,
        "damaged": sorted({digest.hex() for digest in before.damaged + orders.damaged})[
            :DAMAGED_MAX
        ],
    }
    write_json(disk.root, ORDERS, value)


def read_orders(disk: RealDisk) -> Repairs:
    """Those that cannot be read are: compare and look at everything."""
    path = disk.root / ORDERS
    if not path.exists():
        return Repairs()
    try:
        value = read_json(path)
        damaged = tuple(str(digest) for digest in value["damaged"])
        if not all(map(_DIGEST.fullmatch, damaged)):
            raise ValueError("a hash is none")
        return Repairs(
            str(value["rebuild"]),
            str(value.get("own", "")),
            compare=bool(value["compare"]),
            bodies=bool(value["bodies"]),
            damaged=tuple(map(bytes.fromhex, damaged)),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return Repairs(compare=True, bodies=True)


class IndexFolder:
    """The index of one replica in its folder (`shard.opening.IndexKeeper`). `is_new`: the replica
    is made now."""

    def __init__(self, disk: RealDisk, identity: IndexIdentity, *, is_new: bool) -> None:
        self.engine: LmdbEngine
        self._disk = disk
        self._identity = identity
        self._is_new = is_new
        self._index: Index | None = None

    @property
    def index(self) -> Index:
        """What `open` opened."""
        assert self._index is not None
        return self._index

    def repairs(self) -> Repairs:
        """What was ordered while the replica was closed, and what can be told of an index that was
        not closed in order."""
        orders = read_orders(self._disk)
        if self._is_new:
            return orders
        closed = _was_closed(self._disk.root)
        rebuild = orders.rebuild or _trouble(self._disk.root, closed=closed)
        return replace(orders, rebuild=rebuild, check_own=orders != Repairs() or not closed)

    def open(self) -> Index:
        self.engine = LmdbEngine(self._disk.root / INDEX, TABLES)
        try:
            self._index = Index(self.engine, self._identity)
        except BaseException:
            self.engine.close()
            raise
        (self._disk.root / CLOSED).unlink(missing_ok=True)
        return self._index

    def set_aside(self) -> None:
        self.close()
        folder, aside = self._disk.root / INDEX, self._disk.root / SET_ASIDE
        if folder.exists():
            shutil.rmtree(aside, ignore_errors=True)
            os.rename(folder, aside)
            self._disk.sync_folder("")

    def repaired(self) -> None:
        if (self._disk.root / ORDERS).exists():
            (self._disk.root / ORDERS).unlink()
            self._disk.sync_folder("")

    def close(self) -> None:
        index, self._index = self._index, None
        if index is not None:
            index.close()


def made_with(disk: RealDisk, told: Membership, *, made: bool) -> tuple[Membership, bool]:
    """The membership that a replica was made with, and True; or, where that cannot be told any
    more, `told` and False. A new one is made with `told`, which is kept beside the index, so that
    the log can be applied again without it."""
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
    """The index was closed in order: what it looks like now can be told from what somebody else
    makes of it. Where that cannot be noted, the next opening looks at every page."""
    try:
        stat = os.stat(root / INDEX / FILE)
        write_json(root, CLOSED, {"bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns})
    except OSError as e:
        logger.warning("%s; the next start looks at the whole index", e)


def _was_closed(root: Path) -> bool:
    """Whether the index was closed in order, and nobody changed it since."""
    try:
        stat = (root / INDEX / FILE).stat()
        closed = read_json(root / CLOSED)
        return bool((closed["bytes"], closed["mtime_ns"]) == (stat.st_size, stat.st_mtime_ns))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _trouble(root: Path, *, closed: bool) -> str:
    """Why an index must not be opened at all; "": as far as can be told, it may be. One that cannot
    be read is of no more use than one that is not there."""
    path = root / INDEX / FILE
    try:
        if not path.exists():
            return f"{path} is missing"
        return "" if closed else check_pages(root / INDEX)
    except OSError as e:
        if e.errno in (errno.EIO, errno.EUCLEAN, errno.EBADMSG, errno.EISDIR):
            return f"{path}: cannot be read: {e.strerror}"
        raise DiskError(f"{path}: cannot be read: {e.strerror}") from None
