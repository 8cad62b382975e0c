"""Long bodies, in segments of their own that another thread writes: durable when they are there,
whatever happens around."""

from __future__ import annotations

import random
from hashlib import sha256

import pytest

from raftmail.storage.blobs import BlobLimits, BlobStore, BlobTooLarge
from raftmail.storage.index import TABLES, Index
from raftmail.storage.longbody import LongBody
from tests.simulation.disk import SimDisk
from tests.simulation.kv import MemoryEngine

LIMITS = BlobLimits(
    segment_bytes_max=4096, buffer_bytes_max=512, free_bytes_min=0, body_bytes_max=50_000
)


class Store:
    """A blob store on a disk whose power can be cut, and what it must have after that."""

    def __init__(self) -> None:
        self.disk = SimDisk()
        self.engine = MemoryEngine(TABLES)
        self.safe: dict[bytes, bytes] = {}
        self.bodies: dict[bytes, bytes] = {}
        self.open()

    def open(self) -> None:
        self.index = Index(self.engine)
        self.store = BlobStore.open(self.disk, "blobs", self.index, LIMITS)

    def body(self, data: bytes) -> bytes:
        digest = sha256(data).digest()
        self.bodies[digest] = data
        return digest

    def note(self) -> None:
        for digest, data in self.bodies.items():
            if self.store.durable(digest):
                self.safe[digest] = data

    def sync(self) -> None:
        job = self.store.begin_sync()
        if job is not None:
            job.run()
            self.store.end_sync(job)

    def commit(self, *, sync: bool) -> None:
        self.store.place_pending()
        self.index.commit(sync=sync)

    def lose_power(self) -> None:
        self.note()
        self.disk.power_off()
        self.disk.restart()
        self.engine.power_loss(lucky=False)
        self.open()
        for digest, data in self.safe.items():
            assert self.store.get(digest) == data


@pytest.mark.parametrize("seed", range(60))
def test_a_long_body_that_is_durable_survives_a_loss_of_power_whatever_goes_on_beside(
    seed: int,
) -> None:
    rng = random.Random(seed)
    kept = Store()
    job: LongBody | None = None
    ran = False
    for _ in range(120):
        what = rng.randrange(8)
        if what <= 1:
            data = rng.randbytes(rng.randrange(1, 1500))
            kept.store.append(kept.body(data), data)
        elif what == 2 and job is None:
            data = rng.randbytes(rng.randrange(5000, 20_000)) + bytes(rng.choice((0, 20_000)))
            job, ran = kept.store.begin_long(kept.body(data), data), False
        elif what == 3 and job is not None and not ran:
            job.run()
            ran = True
        elif what == 4 and job is not None and ran:
            assert kept.store.end_long(job)
            assert kept.store.durable(job.digest)
            job = None
        elif what == 5:
            kept.sync()
        elif what == 6:
            kept.commit(sync=rng.random() < 0.7)
        elif what == 7 and rng.random() < 0.3:
            kept.lose_power()
            job = None
        kept.note()
    kept.lose_power()


def test_a_body_that_is_not_the_one_of_its_hash_is_not_stored() -> None:
    kept = Store()
    job = kept.store.begin_long(bytes(32), b"x" * 9000)
    job.run()
    assert not kept.store.end_long(job) and not kept.store.has(bytes(32))
    assert kept.disk.listdir("blobs") == []


def test_a_disk_without_space_is_told_and_leaves_nothing_behind() -> None:
    kept = Store()
    kept.disk.capacity_bytes = kept.disk.used_bytes() + 5000
    data = random.Random(1).randbytes(9000)
    job = kept.store.begin_long(kept.body(data), data)
    job.run()
    assert job.full is not None and not kept.store.end_long(job)
    assert kept.disk.listdir("blobs") == []


def test_a_body_above_the_limit_is_refused() -> None:
    with pytest.raises(BlobTooLarge):
        Store().store.begin_long(bytes(32), bytes(50_001))


def test_a_long_body_is_worked_at_a_mib_at_a_time_and_synced_as_it_is_written() -> None:
    kept = Store()
    data = random.Random(1).randbytes((3 << 20) + 1)
    kept.store = BlobStore.open(
        kept.disk, "long", kept.index, BlobLimits(free_bytes_min=0, body_bytes_max=1 << 23)
    )
    job = kept.store.begin_long(kept.body(data), data)
    syncs: list[int] = []
    job.rest = lambda: syncs.append(kept.disk.syncs)
    job.run()
    assert kept.store.end_long(job) and kept.store.get(job.digest) == data
    before = syncs[0]
    hashed, compressed, written = syncs[:4], syncs[4:8], syncs[8:]
    assert hashed == compressed == [before] * 4
    assert written == [before + n for n in (1, 2, 3, 4)]
