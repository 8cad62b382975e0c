"""The real disk asks the kernel for what it promises: a sync that returned was made, of the right
file, after the writes that it covers."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from raftmail.storage.disk import RealDisk, SyncFailed
from tests.storage.kernel import Kernel


def test_a_sync_of_a_file_has_the_kernel_write_that_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = RealDisk(tmp_path)
    one, other = disk.open("one", create=True), disk.open("other", create=True)
    kernel = Kernel(monkeypatch)
    for file in (one, other):
        file.write(0, b"x")
    assert kernel.unsynced == ["one", "other"]
    one.sync()
    assert kernel.unsynced == ["other"]
    other.sync()
    assert kernel.unsynced == []
    one.truncate(7)
    other.allocate(4096)
    assert kernel.unsynced == ["one", "other"]
    one.sync()
    other.sync()
    assert kernel.unsynced == []
    one.close()
    other.close()


def test_every_sync_is_made_also_when_nothing_was_written_since_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another descriptor of the same file may have written: a sync that thinks it knows better
    loses that."""
    file = RealDisk(tmp_path).open("one", create=True)
    kernel = Kernel(monkeypatch)
    for _ in range(3):
        file.sync()
    assert kernel.calls == ["fdatasync"] * 3
    file.close()


def test_a_sync_of_a_folder_makes_its_names_last_and_those_of_no_other_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = RealDisk(tmp_path)
    for folder in ("a", "b"):
        disk.mkdir(folder)
        disk.open(f"{folder}/old", create=True).close()
    kernel = Kernel(monkeypatch)
    disk.open("a/new", create=True).close()
    disk.rename("b/old", "b/renamed")
    assert kernel.unsynced == ["a/", "b/"]
    disk.sync_folder("a")
    assert kernel.unsynced == ["b/"]
    disk.sync_folder("b")
    assert kernel.unsynced == []
    disk.remove("a/new")
    assert kernel.unsynced == ["a/"]
    disk.sync_folder("a")
    assert kernel.unsynced == []


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EROFS])
def test_a_sync_that_the_kernel_refuses_is_never_taken_for_done(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = RealDisk(tmp_path)
    file = disk.open("one", create=True)

    def refuse(fd: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fdatasync", refuse)
    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(SyncFailed, match="one: fdatasync"):
        file.sync()
    with pytest.raises(SyncFailed, match="fsync of the folder"):
        disk.sync_folder("")
    file.close()
