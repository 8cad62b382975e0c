"""The journal through power losses at every operation of the disk (guards D1–D5, D7, G6, G7)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from raftmail.consensus.journal import Journal, JournalLimits
from raftmail.consensus.records import RECORD_BYTES, mark_payload
from tests.consensus.journal_twin import IDENTITY, SMALL, Driver
from tests.simulation.disk import PowerCut, SimDisk


def live(driver: Driver, steps: int) -> None:
    if not driver.created:
        driver.open()
    else:
        driver.recover()
    for _ in range(steps):
        driver.step()


def one_life(seed: int, cut_at: int | None, steps: int, disk_seed: int) -> SimDisk:
    disk = SimDisk(disk_seed)
    disk.cut_at = cut_at
    driver = Driver(disk, seed)
    try:
        live(driver, steps)
    except PowerCut:
        pass
    if cut_at is not None:
        disk.power_off()
        disk.restart()
        driver.recover()
    return disk


@pytest.mark.parametrize("seed", range(6))
def test_the_power_may_go_at_any_operation(seed: int) -> None:
    operations = one_life(seed, None, 60, 0).operations
    assert operations > 40
    for cut_at in range(1, operations + 1):
        one_life(seed, cut_at, 60, disk_seed=cut_at)


@pytest.mark.parametrize("seed", range(30))
def test_many_power_losses_in_one_life(seed: int) -> None:
    disk = SimDisk(seed)
    driver = Driver(disk, seed)
    for _ in range(12):
        disk.cut_at = disk.operations + driver.random.randint(1, 60)
        try:
            live(driver, 40)
            disk.power_off()
        except PowerCut:
            pass
        disk.restart()
    driver.recover()


@pytest.mark.parametrize("seed", range(30))
def test_a_disk_that_fills_up_and_is_emptied_again(seed: int) -> None:
    disk = SimDisk(seed)
    driver = Driver(disk, seed, replace(SMALL, reserve_bytes=3000))
    driver.open()
    for _ in range(6):
        disk.capacity_bytes = driver.random.randint(8000, 30000)
        for _ in range(25):
            driver.step()
        disk.capacity_bytes = 1 << 30
        driver.journal.flush()
        assert driver.journal.room()
        disk.cut_at = disk.operations + driver.random.randint(1, 20)
        try:
            for _ in range(10):
                driver.step()
            disk.power_off()
        except PowerCut:
            pass
        disk.restart()
        driver.recover()


def test_what_was_never_synced_may_be_lost_and_nothing_else() -> None:
    lost = 0
    for seed in range(40):
        disk = SimDisk(seed)
        journal = Journal.open(disk, "journal", IDENTITY, SMALL, create=True)
        journal.add(b"first", 1, 1)
        job = journal.begin_sync()
        assert job is not None
        job.run()
        journal.end_sync(job)
        journal.add(b"second", 2, 1)
        journal.flush()
        disk.power_off()
        disk.restart()
        journal = Journal.open(disk, "journal", IDENTITY, SMALL, create=False)
        assert journal[0] == (b"first", 1, 1)
        lost += journal.last_index == 1
    assert 0 < lost < 40


def test_the_end_of_a_lost_batch_does_not_come_back_to_life() -> None:
    """Records behind a torn one stay on the disk; new records of the same length reach up to
    them.
    """
    disk = SimDisk(1)
    limits = JournalLimits()
    journal = Journal.open(disk, "journal", IDENTITY, limits, create=True)
    journal.flush()
    before = len(disk.content("journal/0000000000000001.log").rstrip(b"\0"))
    # As long as the mark and the entry that will be written in its place.
    journal.add(bytes(len(mark_payload(0)) + RECORD_BYTES + 8), 1, 1)
    for index in (2, 3):
        journal.add(b"%d" % index * 8, index, 1)
    journal.flush()
    torn = bytearray(disk.content("journal/0000000000000001.log"))
    torn[before + 20] ^= 1
    disk.put("journal/0000000000000001.log", bytes(torn))
    journal = Journal.open(disk, "journal", IDENTITY, limits, create=False)
    assert journal.last_index == 0
    journal.flush()
    journal.add(b"new-new-", 1, 2)
    journal.flush()
    journal = Journal.open(disk, "journal", IDENTITY, limits, create=False)
    assert list(journal) == [(b"new-new-", 1, 2)]
