"""Long bodies are read in threads, several at once, beside the store's own reads."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import pytest

from raftmail.storage.blobformat import segment_name
from raftmail.storage.blobs import BlobDamaged, BlobLimits, BlobMissing, BlobStore
from raftmail.storage.disk import RealDisk
from raftmail.storage.index import TABLES, Index
from raftmail.storage.longread import LongRead
from tests.simulation.kv import MemoryEngine

BODY_BYTES = 3 << 20


def _body(seed: int) -> bytes:
    """One that zstd compresses: two letters in an order that is no pattern."""
    return bytes(random.Random(seed).choices(b"ab", k=BODY_BYTES))


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    limits = BlobLimits(free_bytes_min=0)
    return BlobStore.open(RealDisk(tmp_path), "blobs", Index(MemoryEngine(TABLES)), limits)


def _add(store: BlobStore, body: bytes) -> bytes:
    digest = sha256(body).digest()
    job = store.begin_long(digest, body)
    job.run()
    assert store.end_long(job)
    return digest


def test_bodies_that_are_read_at_once_in_threads_do_not_spoil_each_other(store: BlobStore) -> None:
    bodies = {_add(store, body): body for body in map(_body, range(4))}
    with ThreadPoolExecutor(4) as threads:
        for _ in range(10):
            jobs = [store.begin_read(digest) for digest in bodies]
            running = [threads.submit(job.run) for job in jobs]
            for digest, body in bodies.items():
                assert store.get(digest) == body, "and in this thread meanwhile"
            for job, done in zip(jobs, running, strict=True):
                done.result()
                assert store.end_read(job) == bodies[job.header.digest]
    assert not store.damaged()


def test_a_body_whose_segment_goes_meanwhile_is_read_to_its_end(store: BlobStore) -> None:
    body = _body(1)
    digest = _add(store, body)
    job = store.begin_read(digest)
    place = store.place_of(digest)
    assert place is not None
    store._files.remove(place.sequence)
    job.run()
    assert store.end_read(job) == body


def test_a_body_that_rotted_is_found_damaged_when_it_is_read(store: BlobStore) -> None:
    digest = _add(store, _body(2))
    place = store.place_of(digest)
    assert place is not None
    store._files.reader(place.sequence).write(place.end - 9, b"\0\1\2\3")
    job = store.begin_read(digest)
    LongRead.run(job)
    with pytest.raises(BlobDamaged):
        store.end_read(job)
    assert store.damaged() == [digest] and not store.has(digest)


def test_a_body_is_given_at_once_only_if_it_is_short(store: BlobStore) -> None:
    long, small = bytes(BODY_BYTES), b"a" * 100
    for body in (long, small):
        store.append(sha256(body).digest(), body)
    place = store.place_of(sha256(long).digest())
    assert place is not None and place.stored_bytes < 10_000, "it is long although little is stored"
    assert store.get_short(sha256(long).digest(), BODY_BYTES) is None
    assert store.get_short(sha256(long).digest(), BODY_BYTES + 1) == long
    assert store.get_short(sha256(small).digest(), 100) is None
    assert store.get_short(sha256(small).digest(), 101) == small
    with pytest.raises(BlobMissing):
        store.get_short(bytes(32), 100)


def test_a_short_body_that_is_damaged_is_not_given(store: BlobStore) -> None:
    digest = sha256(b"a" * 100).digest()
    store.append(digest, b"a" * 100)
    job = store.begin_sync()
    assert job is not None
    job.run()
    store.end_sync(job)
    place = store.place_of(digest)
    assert place is not None
    file = store._disk.open(segment_name("blobs", place.sequence))
    file.write(place.end - 1, b"b")
    file.close()
    with pytest.raises(BlobDamaged):
        store.get_short(digest, 1000)
    assert store.damaged() == [digest]
