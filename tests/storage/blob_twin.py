"""A place table in memory with transactions, and a driver that compares a store with a dict."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from hashlib import sha256

from raftmail.storage.blobs import BlobLimits, BlobStore
from raftmail.storage.disk import DiskFull
from tests.simulation.disk import PowerCut, SimDisk

SMALL = BlobLimits(
    segment_bytes_max=2500,
    body_bytes_max=6000,
    buffer_bytes_max=1500,
    alloc_bytes_min=600,
    alloc_bytes_max=1200,
    compress_bytes_min=400,
    recompress_bytes_min=100,
)


class Places:
    """A place table whose commits survive a power loss, or, unsynced, may."""

    def __init__(self, disk: SimDisk | None = None) -> None:
        self.open_rows: dict[bytes, bytes] = {}
        self.committed: dict[bytes, bytes] = {}
        self.on_commit: Callable[[], None] = lambda: None
        self._disk = disk

    def get_place(self, digest: bytes) -> bytes | None:
        return self.open_rows.get(digest)

    def places_from(self, digest: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        return sorted(row for row in self.rows() if row[0] >= digest)[:limit]

    def put_places(self, places: Sequence[tuple[bytes, bytes]]) -> None:
        self.open_rows.update(places)

    def delete_place(self, digest: bytes) -> None:
        self.open_rows.pop(digest, None)

    def get_local(self, key: bytes) -> bytes | None:
        return self.open_rows.get(key)

    def put_local(self, key: bytes, value: bytes) -> None:
        self.open_rows[key] = value

    def commit_durable(self) -> None:
        if self._disk is not None:
            self._disk.check_power()
        self.committed = dict(self.open_rows)
        self.on_commit()
        if self._disk is not None and self._disk.count():
            raise PowerCut  # after the commit, before anyone knows

    def abort(self) -> None:
        self.open_rows = dict(self.committed)

    def rows(self) -> list[tuple[bytes, bytes]]:
        return [(k, v) for k, v in self.open_rows.items() if len(k) == 32]


def digest_of(body: bytes) -> bytes:
    return sha256(body).digest()


def sync(store: BlobStore) -> None:
    job = store.begin_sync()
    if job is not None:
        job.run()
        store.end_sync(job)


class Driver:
    """Does random things to a store and to a dict of what it must hold."""

    def __init__(self, disk: SimDisk, seed: int, limits: BlobLimits = SMALL) -> None:
        self.disk = disk
        self.places = Places(disk)
        self.places.on_commit = self._committed
        self.random = random.Random(seed)
        self.limits = limits
        self.bodies: dict[bytes, bytes] = {}  # everything that was ever appended
        self.safe: set[bytes] = set()  # synced, and referred to or pinned ever since
        self.unsynced: set[bytes] = set()
        self.references: dict[bytes, int] = {}
        self.committed_references: dict[bytes, int] = {}
        self.pinned: dict[int, bytes] = {}
        self.token = 0
        self.freed = 0
        self.store: BlobStore

    def open(self) -> None:
        self.store = BlobStore.open(self.disk, "blobs", self.places, self.limits)

    def crash(self) -> None:
        """What a power loss takes, and what the replica does after it: its log pins again what is
        not yet in the index."""
        self.disk.power_off()
        self.disk.restart()
        self.places.abort()
        self.open()
        self.unsynced.clear()
        for digest in self.bodies:
            self.check(digest, must=digest in self.safe)
        for token, digest in self.pinned.items():
            self.store.pin([digest], token)

    def check(self, digest: bytes, must: bool) -> None:
        if self.store.has(digest):
            assert self.store.get(digest) == self.bodies[digest]
        else:
            assert not must, f"the body {self.bodies[digest][:10]!r} is lost"

    def needed(self, digest: bytes) -> bool:
        return (
            self.references.get(digest, 0) > 0
            or self.committed_references.get(digest, 0) > 0
            or digest in self.pinned.values()
        )

    def step(self) -> None:
        kind = self.random.choices(
            ("append", "expunge", "sync", "place", "apply", "reclaim", "abort", "read", "reopen"),
            (40, 14, 14, 8, 14, 25, 1, 10, 1),
        )[0]
        getattr(self, "_" + kind)()
        for digest in self.safe:
            assert self.store.has(digest)

    def _append(self) -> None:
        if self.bodies and self.random.random() < 0.2:
            body = self.random.choice(list(self.bodies.values()))
        else:
            size = self.random.choice((0, 3, 50, 300, 900, 3500))
            body = self.random.randbytes(8) + b"abc" * (size // 3)
            if self.random.random() < 0.3:
                body = self.random.randbytes(size + 8)
        digest = digest_of(body)
        had = self.store.has(digest)
        try:
            assert self.store.append(digest, body) is not had
        except DiskFull:
            return
        self.bodies[digest] = body
        self.token += 1
        self.pinned[self.token] = digest
        self.store.pin([digest], self.token)
        if self.store.durable(digest):
            self.safe.add(digest)
        else:
            self.unsynced.add(digest)

    def _apply(self) -> None:
        """The log entry is applied: what it pinned is referred to by the index."""
        for token in list(self.pinned)[: self.random.randint(1, 4)]:
            digest = self.pinned.pop(token)
            self.references[digest] = self.references.get(digest, 0) + 1
            self.store.unpin(token)

    def _expunge(self) -> None:
        live = [d for d, n in self.references.items() if n]
        if live:
            digest = self.random.choice(live)
            self.references[digest] -= 1
            if not self.references[digest]:
                self.store.note_dead(digest)
                self.safe = {d for d in self.safe if self.needed(d)}

    def _sync(self) -> None:
        job = self.store.begin_sync()
        if job is None:
            return
        covered = set(self.unsynced)
        if self.random.random() < 0.3:
            self._append()
        job.run()
        self.store.end_sync(job)
        self.safe |= {d for d in covered if self.needed(d)}
        self.unsynced -= covered
        for digest in covered:
            assert not self.store.has(digest) or self.store.durable(digest)

    def _committed(self) -> None:
        self.committed_references = dict(self.references)
        self.safe = {d for d in self.safe if self.needed(d)}

    def _place(self) -> None:
        self.store.place_pending()
        self.places.commit_durable()

    def _abort(self) -> None:
        """The commit fails and the transaction is done again, as after a full disk."""
        self.store.place_pending()
        self.places.abort()
        self.store.place_pending()
        self.places.commit_durable()

    def _reclaim(self) -> None:
        try:
            progress = self.store.reclaim(lambda d: self.references.get(d, 0), 5000)
        except DiskFull:
            return
        self.freed += progress.freed_bytes

    def _read(self) -> None:
        if self.bodies:
            digest = self.random.choice(list(self.bodies))
            self.check(digest, must=digest in self.safe)

    def _reopen(self) -> None:
        self._sync()
        self._place()
        self.store.close()
        self.open()
        for token, digest in self.pinned.items():
            self.store.pin([digest], token)
