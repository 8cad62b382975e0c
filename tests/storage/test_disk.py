"""Both disks, the real and the simulated, keep the same promises."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from raftmail.storage.disk import Disk, DiskError, DiskFull, RealDisk
from tests.simulation.disk import PowerCut, SimDisk


@pytest.fixture(params=["real", "simulated"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    yield RealDisk(tmp_path / "root") if request.param == "real" else SimDisk()


def test_a_file_is_read_as_it_was_written(disk: Disk) -> None:
    disk.mkdir("a/b")
    file = disk.open("a/b/c", create=True)
    file.write(3, b"abc")
    file.write(4, bytearray(b"X"))
    assert file.read(0, 100) == b"\0\0\0aXc" and file.size() == 6
    assert file.read(6, 5) == b"" and file.read(4, 1) == b"X"
    file.truncate(4)
    file.truncate(5)
    assert file.read(0, 9) == b"\0\0\0a\0"
    file.allocate(3)
    assert file.size() == 5
    file.allocate(9)
    assert file.size() == 9 and file.read(5, 9) == bytes(4)
    file.sync()
    disk.sync_folder("a/b")
    file.close()
    file.close()


def test_names_are_made_listed_moved_and_removed(disk: Disk) -> None:
    disk.mkdir("a")
    disk.mkdir("a")
    assert disk.listdir("a") == [] and disk.listdir("nowhere") == []
    for name in ("z", "y"):
        disk.open(f"a/{name}", create=True).close()
    assert disk.listdir("a") == ["y", "z"] and disk.exists("a/z")
    one = disk.open("a/z")
    one.write(0, b"z")
    one.close()
    disk.rename("a/z", "a/y")
    again = disk.open("a/y")
    assert disk.listdir("a") == ["y"] and again.read(0, 9) == b"z"
    disk.remove("a/y")
    assert again.read(0, 9) == b"z"
    assert not disk.exists("a/y")
    again.close()
    for missing in ("a/y", "b/x"):
        with pytest.raises(FileNotFoundError):
            disk.open(missing)
    assert disk.free_bytes() > 0


def test_an_error_names_the_file(tmp_path: Path) -> None:
    disk = RealDisk(tmp_path)
    disk.mkdir("folder")
    with pytest.raises(DiskError, match="folder: Is a directory"):
        disk.open("folder")
    with pytest.raises(DiskFull, match="/dev/full: No space left"):
        RealDisk(Path("/dev")).open("full").write(0, b"x")


def after_power_loss(seed: int) -> tuple[bytes, list[str]]:
    disk = SimDisk(seed)
    disk.open("kept", create=True).close()
    disk.sync_folder("")
    file = disk.open("kept")
    file.write(0, b"s" * 1500)
    file.sync()
    file.write(500, b"1" * 1500)
    file.write(1000, b"2" * 1500)
    disk.open("new", create=True)
    disk.power_off()
    with pytest.raises(PowerCut):
        file.read(0, 1)
    disk.restart()
    with pytest.raises(PowerCut):
        file.read(0, 1)
    return disk.content("kept"), disk.listdir("")


def test_a_power_loss_keeps_what_was_synced_and_any_part_of_the_rest() -> None:
    seen = {after_power_loss(seed)[0] for seed in range(60)}
    whole = b"s" * 500 + b"1" * 500 + b"2" * 1500
    assert len(seen) > 20 and b"s" * 1500 in seen and whole in seen
    for data in seen:
        assert data[:500] == b"s" * 500
        assert len(data) >= 1500
    names = [after_power_loss(seed)[1] for seed in range(60)]
    assert ["kept"] in names and ["kept", "new"] in names


def test_a_seed_gives_the_same_power_loss_again() -> None:
    assert after_power_loss(5) == after_power_loss(5)


def test_the_power_is_cut_at_the_operation_that_was_named() -> None:
    disk = SimDisk(3)
    disk.cut_at = 3
    file = disk.open("a", create=True)
    file.write(0, b"x")
    with pytest.raises(PowerCut):
        file.sync()
    with pytest.raises(PowerCut):
        disk.listdir("")
    disk.restart()
    disk.open("b", create=True)


def test_a_full_simulated_disk_takes_a_part_and_says_so() -> None:
    disk = SimDisk(1, capacity_bytes=1000)
    file = disk.open("a", create=True)
    with pytest.raises(DiskFull):
        file.write(0, bytes(1001))
    assert file.size() <= 1000
    file.truncate(0)
    file.write(0, bytes(1000))
    file.write(500, b"x" * 500)
    with pytest.raises(DiskFull):
        file.allocate(1001)
