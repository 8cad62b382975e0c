"""Sectors that cannot be read: the record that they were part of is damaged, and everything else is
read as before."""

from __future__ import annotations

import errno
import os
from hashlib import sha256
from pathlib import Path

import pytest

from raftmail.consensus.journal import Identity, Journal, JournalDamaged, JournalLimits
from raftmail.storage.blobs import BlobDamaged, BlobLimits, BlobStore
from raftmail.storage.disk import (
    SECTOR_BYTES,
    DiskError,
    ReadFailed,
    RealDisk,
    read_what_can_be,
)
from raftmail.storage.index import TABLES, Index
from tests.simulation.disk import SimDisk
from tests.simulation.kv import MemoryEngine

BODIES = [b"%d " % n * 700 for n in range(6)]


def _stored(disk: SimDisk) -> tuple[Index, BlobStore]:
    index = Index(MemoryEngine(TABLES))
    store = BlobStore.open(disk, "blobs", index, BlobLimits(free_bytes_min=0))
    for body in BODIES:
        store.append(sha256(body).digest(), body)
    job = store.begin_sync()
    assert job is not None
    job.run()
    store.end_sync(job)
    store.place_pending()
    index.commit()
    return index, store


def _break(disk: SimDisk, store: BlobStore, body: bytes) -> None:
    place = store.place_of(sha256(body).digest())
    assert place is not None
    (name,) = disk.listdir("blobs")
    disk.make_unreadable(f"blobs/{name}", place.end - 1)


def test_a_body_in_a_sector_that_cannot_be_read_is_damaged_and_a_good_copy_mends_it() -> None:
    disk = SimDisk()
    _, store = _stored(disk)
    _break(disk, store, BODIES[2])
    for body in BODIES[:2] + BODIES[4:]:
        assert store.get(sha256(body).digest()) == body
    digest = sha256(BODIES[2]).digest()
    with pytest.raises(BlobDamaged):
        store.get(digest)
    assert not store.has(digest)
    store.replace(digest, BODIES[2])
    assert store.get(digest) == BODIES[2]


def test_a_store_opens_by_its_headers_around_a_sector_that_cannot_be_read() -> None:
    disk = SimDisk()
    _, store = _stored(disk)
    _break(disk, store, BODIES[2])
    store.abandon()
    index = Index(MemoryEngine(TABLES))
    again = BlobStore.open(disk, "blobs", index, BlobLimits(free_bytes_min=0), by_headers=True)
    read = 0
    for body in BODIES:
        digest = sha256(body).digest()
        if again.has(digest):
            try:
                read += again.get(digest) == body
            except BlobDamaged:
                continue
    assert read >= len(BODIES) - 2, "the one, and at most the one whose header it took along"


def test_an_entry_that_cannot_be_read_is_damage_of_the_journal_at_a_read_and_at_a_start() -> None:
    disk = SimDisk()
    limits = JournalLimits(cache_bytes_max=0)
    identity = Identity(bytes(16), 1, 1)
    journal = Journal.open(disk, "journal", identity, limits, create=True)
    for index in range(1, 40):
        journal.add(b"\0" + b"entry " * 40, index, 1)
    job = journal.begin_sync()
    assert job is not None
    job.run()
    journal.end_sync(job)
    (name,) = disk.listdir("journal")
    disk.make_unreadable(f"journal/{name}", 4 * SECTOR_BYTES)
    with pytest.raises(JournalDamaged):
        for index in range(1, 40):
            journal.entry(index)
    journal.abandon()
    with pytest.raises(JournalDamaged, match="cannot be read"):
        Journal.open(disk, "journal", identity, limits, create=False)


def test_what_can_be_read_around_bad_sectors_is_read_and_they_are_zeros() -> None:
    disk = SimDisk()
    content = bytes(range(1, 129)) * 20
    disk.put("file", content)
    disk.make_unreadable("file", SECTOR_BYTES + 1)
    file = disk.open("file")
    with pytest.raises(ReadFailed):
        file.read(0, len(content))
    found = read_what_can_be(file, 10, len(content))
    expected = content[:SECTOR_BYTES] + bytes(SECTOR_BYTES) + content[2 * SECTOR_BYTES :]
    assert found == expected[10:]


@pytest.mark.parametrize("number", [errno.EIO, errno.EUCLEAN, errno.EBADMSG])
def test_what_a_bad_disk_answers_is_a_failed_read_and_nothing_else_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    (tmp_path / "file").write_bytes(b"content")
    file = RealDisk(tmp_path).open("file")
    answers = [number, errno.ENOMEM]

    def pread(fd: int, length: int, offset: int) -> bytes:
        raise OSError(answers[0], os.strerror(answers[0]))

    monkeypatch.setattr(os, "pread", pread)
    with pytest.raises(ReadFailed, match="file: 7 bytes at offset 0 cannot be read"):
        file.read(0, 7)
    del answers[0]
    with pytest.raises(DiskError) as caught:
        file.read(0, 7)
    assert not isinstance(caught.value, ReadFailed)
    file.close()
