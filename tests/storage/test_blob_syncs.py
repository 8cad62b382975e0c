"""A blob store on the real disk leaves nothing that a loss of power could take: after a sync, after
it was opened, after a segment went."""

from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path

import pytest

from raftmail.storage.blobs import BlobLimits, BlobStore
from raftmail.storage.disk import RealDisk
from raftmail.storage.index import TABLES, Index
from tests.simulation.kv import MemoryEngine
from tests.storage.kernel import Kernel

LIMITS = BlobLimits(segment_bytes_max=4000, free_bytes_min=0, alloc_bytes_min=512)


def _add(store: BlobStore, count: int) -> None:
    for _ in range(count):
        body = os.urandom(900)
        store.append(sha256(body).digest(), body)


def _sync(store: BlobStore) -> None:
    job = store.begin_sync()
    if job is not None:
        job.run()
        store.end_sync(job)


@pytest.mark.parametrize("torn", [b"", b"torn"])
def test_nothing_is_unsynced_after_a_sync_an_opening_and_a_removal(
    torn: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, index = RealDisk(tmp_path), Index(MemoryEngine(TABLES))
    store = BlobStore.open(disk, "b", index, LIMITS)
    kernel = Kernel(monkeypatch)
    for count in (1, 3, 9):
        _add(store, count)
        _sync(store)
        assert kernel.unsynced == []
    store._files.seal()
    _sync(store)
    assert kernel.unsynced == [], "a segment that is cut to its length when it is sealed"
    _add(store, 2)
    _sync(store)
    store.place_pending()
    _add(store, 1)
    store._files.write()
    store.abandon()
    newest = sorted((tmp_path / "b").iterdir())[-1]
    with open(newest, "ab") as file:
        file.write(torn)
    store = BlobStore.open(disk, "b", index, LIMITS)
    assert kernel.unsynced == [], "what was found is durable before anybody is told of it"
    store._files.remove(min(store._files.sealed))
    assert kernel.unsynced == []
    store.close()
