"""Filling the replicas of a stopped cluster with mail, much faster than through the front door.

The mail shard of one node is filled by its own state machine; the others are given copies under
their own ids. All logs are begun anew behind that, as after a resync, so that the nodes start
equal.
"""

from __future__ import annotations

import hashlib
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.cluster import MAIL_SHARD, Raftmail
from raftmail.consensus.journal import Identity as JournalIdentity
from raftmail.consensus.journal import Journal
from raftmail.mail import commands as c
from raftmail.mail.codec import encode_entry, encode_request
from raftmail.node.config import load
from raftmail.node.index_folder import CLOSED
from raftmail.shard.machine import Machine
from raftmail.storage.blobs import BlobStore
from raftmail.storage.disk import RealDisk
from raftmail.storage.index import TABLES, Index
from raftmail.storage.kv import LmdbEngine
from raftmail.storage.records import seal_packed

BODY_BYTES = 8192
BATCH = 250
SUMMARY = b"a summary of as many bytes as summaries mostly have, " * 8
TERM = 1000


@dataclass(slots=True)
class Planter:
    """Applies entries to a shard that nobody has open."""

    machine: Machine
    bodies: BlobStore
    user: str
    seq: int = 0

    def create(self, name: str) -> None:
        guid = hashlib.sha256(name.encode()).digest()[:16]
        self._apply(c.CreateMailbox(self.user, name, 1, guid, ""), [])

    def save(self, mailbox: str, texts: list[tuple[bytes, bytes | None]]) -> None:
        """Messages by hash; those with a body have it stored."""
        messages = []
        for digest, body in texts:
            if body is not None:
                self.bodies.append(digest, body)
            target = (c.Target(self.user, mailbox, False),)
            when = 1_700_000_000_000_000 + self.seq
            message = c.NewMessage(target, digest, BODY_BYTES, digest[:16], when, (), SUMMARY)
            messages.append(message)
        hashes = [digest for digest, _ in texts]
        self._apply(c.Save(self.user, tuple(messages), 1), list(dict.fromkeys(hashes)))

    def _apply(self, command: c.Command, hashes: list[bytes]) -> None:
        self.seq += 1
        request = encode_request(b"client of  bench", self.seq, self.seq - 1, command)
        payload = encode_entry([request], hashes)
        self.machine.apply_raw(self.machine.applied_index + 1, TERM, payload)

    def commit(self) -> None:
        job = self.bodies.begin_sync()
        if job is not None:
            job.run()
            self.bodies.end_sync(job)
        self.bodies.place_pending()
        self.machine.commit()


def shard_of(cluster: Raftmail, name: str) -> Path:
    return cluster.data_of(name) / "shards" / str(MAIL_SHARD)


def plant(cluster: Raftmail, user: str, mailboxes: int, messages: int, *, bodies: bool) -> int:
    """Stop the nodes, give all of them mail of one user, and start them. How many messages there
    are."""
    for name in cluster.names:
        cluster.stop(name)
    first, *others = cluster.names
    planted = _fill(shard_of(cluster, first), user, mailboxes, messages, bodies=bodies)
    for name in others:
        for part in ("index", "blobs"):
            shutil.rmtree(shard_of(cluster, name) / part)
            shutil.copytree(shard_of(cluster, first) / part, shard_of(cluster, name) / part)
    for number, name in enumerate(cluster.names, 1):
        _begin_anew(cluster, name, number)
        cluster.restart(name)
    cluster.wait_until_ready()
    return planted


def _fill(root: Path, user: str, mailboxes: int, messages: int, *, bodies: bool) -> int:
    engine = LmdbEngine(root / "index", TABLES)
    index = Index(engine)
    planter = Planter(Machine(index), BlobStore.open(RealDisk(root), "blobs", index), user)
    rng = random.Random(1)
    each = messages // mailboxes
    made = 0
    for box in range(mailboxes):
        planter.create(f"box{box}")
        for first in range(0, each, BATCH):
            count = min(BATCH, each - first)
            if bodies:
                planter.save(f"box{box}", list(bodies_of(rng, count)))
            else:
                hashes = [hashlib.sha256(b"%d" % (made + i)).digest() for i in range(count)]
                planter.save(f"box{box}", [(digest, None) for digest in hashes])
            made += count
        if box % 20 == 0:
            planter.commit()
    planter.commit()
    planter.bodies.close()
    engine.close()
    return made


def _begin_anew(cluster: Raftmail, name: str, replica: int) -> None:
    """Make an index this replica's own, and begin its log where that ends."""
    root = shard_of(cluster, name)
    (root / CLOSED).unlink(missing_ok=True)
    config = load(cluster.folder / "nodes" / name)
    engine = LmdbEngine(root / "index", TABLES)
    mine = (config.cluster.id, MAIL_SHARD, str(replica))
    engine.table("meta").put(b"identity", seal_packed(b"identity", mine))
    engine.commit()
    index = Index(engine)
    applied, term = index.applied_index, index.applied_term
    engine.close()
    identity = JournalIdentity(bytes.fromhex(config.cluster.id), MAIL_SHARD, replica)
    journal = Journal.open(RealDisk(root), "journal", identity, create=False)
    journal.reset(applied, term)
    journal.close()


def lose(cluster: Raftmail, name: str) -> None:
    """Take index and bodies away from a stopped node: of the mail nothing is left there."""
    for part in ("index", "blobs"):
        shutil.rmtree(shard_of(cluster, name) / part)


def bodies_of(rng: random.Random, count: int) -> Iterator[tuple[bytes, bytes]]:
    """Bodies that compress about as mail does."""
    for _ in range(count):
        body = rng.randbytes(BODY_BYTES * 3 // 8).hex().encode().ljust(BODY_BYTES, b" ")
        yield hashlib.sha256(body).digest(), body
