"""Files are opened where no more may be open; and where nothing can be, that is no damage."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from raftmail.storage import disk
from raftmail.storage.disk import DiskFull, RealDisk
from raftmail.storage.spares import SPARES, Spares


@pytest.fixture
def crowded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """While it is on, nothing can be opened unless a spare was let go for it."""
    assert tmp_path.is_dir()  # made before
    real = os.open
    SPARES.fill(4)
    before = SPARES.count

    def opening(path: str, flags: int, mode: int = 0o777) -> int:
        if SPARES.count >= before:
            raise OSError(errno.EMFILE, "Too many open files", path)
        return real(path, flags, mode)

    monkeypatch.setattr(disk.os, "open", opening)  # type: ignore[attr-defined]
    yield
    monkeypatch.undo()
    while SPARES.let_go():
        pass


@pytest.mark.usefixtures("crowded")
def test_a_file_is_opened_with_a_spare(tmp_path: Path) -> None:
    file = RealDisk(tmp_path).open("x", create=True)
    file.write(0, b"x")
    file.close()
    assert (tmp_path / "x").read_bytes() == b"x"


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
def test_without_a_spare_it_is_told_as_a_full_disk_and_not_as_a_failed_sync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    of_disk = RealDisk(tmp_path)
    monkeypatch.setattr(disk.os, "open", refuse)  # type: ignore[attr-defined]
    with pytest.raises(DiskFull):
        of_disk.open("x", create=True)
    with pytest.raises(DiskFull):
        of_disk.sync_folder("")


def test_other_errors_let_no_spare_go() -> None:
    spares = Spares()
    spares.fill(2)

    def missing() -> None:
        raise FileNotFoundError(errno.ENOENT, "x")

    with pytest.raises(FileNotFoundError):
        spares.opening(missing)
    assert spares.count == 2
    assert spares.let_go()
    assert not spares.let_go()
