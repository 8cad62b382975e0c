"""The blob store against a dict, through power losses at every operation of the disk."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.simulation.disk import PowerCut, SimDisk
from tests.storage.blob_twin import Driver
from tests.storage.segments import check_segments


def fsck(driver: Driver) -> None:
    driver.store.close()
    problems = check_segments(
        driver.disk, "blobs", driver.places.rows(), driver.places.get_local, deep=True
    )
    assert not problems, [str(p) for p in problems]


@settings(max_examples=20)
@given(seed=st.integers(0, 1 << 32), steps=st.integers(1, 300))
def test_a_store_holds_what_a_dict_would(seed: int, steps: int) -> None:
    driver = Driver(SimDisk(seed), seed)
    driver.open()
    for _ in range(steps):
        driver.step()
    fsck(driver)


@pytest.mark.parametrize("seed", range(5))
def test_space_is_given_back_while_bodies_come_in(seed: int) -> None:
    driver = Driver(SimDisk(seed), seed)
    driver.open()
    for _ in range(400):
        driver.step()
    assert driver.freed > 0
    assert driver.store.total_bytes < sum(map(len, driver.bodies.values()))
    fsck(driver)


@pytest.mark.parametrize("seed", range(4))
def test_the_power_may_go_at_any_operation(seed: int) -> None:
    driver = Driver(SimDisk(0), seed)
    driver.open()
    for _ in range(120):
        driver.step()
    operations = driver.disk.operations
    assert operations > 40
    for cut_at in range(1, operations + 1):
        disk = SimDisk(cut_at)
        disk.cut_at = cut_at
        driver = Driver(disk, seed)
        try:
            driver.open()
            for _ in range(120):
                driver.step()
        except PowerCut:
            pass
        driver.crash()
        fsck(driver)


@pytest.mark.parametrize("seed", range(25))
def test_many_power_losses_in_one_life(seed: int) -> None:
    disk = SimDisk(seed)
    driver = Driver(disk, seed)
    driver.open()
    for _ in range(10):
        disk.cut_at = disk.operations + driver.random.randint(1, 80)
        try:
            for _ in range(60):
                driver.step()
        except PowerCut:
            pass
        driver.crash()
    fsck(driver)


@pytest.mark.parametrize("seed", range(15))
def test_a_disk_that_fills_up_loses_nothing(seed: int) -> None:
    disk = SimDisk(seed)
    driver = Driver(disk, seed)
    driver.open()
    for _ in range(5):
        disk.capacity_bytes = driver.random.randint(4000, 20000)
        for _ in range(60):
            driver.step()
        disk.capacity_bytes = 1 << 30
        for _ in range(20):
            driver.step()
        driver.crash()
    fsck(driver)
