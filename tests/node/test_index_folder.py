"""What of an index that cannot be read is made anew, and what is told instead."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from raftmail.node import index_folder
from raftmail.node.index_folder import CLOSED, note_closed
from raftmail.storage.disk import DiskError


def test_a_folder_where_the_index_should_be_is_an_index_to_be_made_anew(tmp_path: Path) -> None:
    (tmp_path / "index" / "data.mdb").mkdir(parents=True)
    assert "Is a directory" in index_folder._trouble(tmp_path, closed=False)


@pytest.mark.parametrize("number", [errno.EIO, errno.EUCLEAN, errno.EBADMSG])
def test_an_index_whose_sectors_cannot_be_read_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def fails(_: Path) -> str:
        raise OSError(number, os.strerror(number))

    (tmp_path / "index").mkdir()
    (tmp_path / "index" / "data.mdb").write_bytes(b"some")
    monkeypatch.setattr(index_folder, "check_pages", fails)
    assert os.strerror(number) in index_folder._trouble(tmp_path, closed=False)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EMFILE])
def test_an_index_that_this_process_may_not_read_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def fails(_: Path) -> str:
        raise OSError(number, os.strerror(number))

    (tmp_path / "index").mkdir()
    (tmp_path / "index" / "data.mdb").write_bytes(b"some")
    monkeypatch.setattr(index_folder, "check_pages", fails)
    with pytest.raises(DiskError, match=r"data\.mdb: cannot be read"):
        index_folder._trouble(tmp_path, closed=False)


def test_where_it_cannot_be_noted_that_an_index_was_closed_it_is_closed_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replica that is given up is closed on a disk that is full, too."""

    def full(folder: Path, name: str, value: Mapping[str, Any]) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(folder / name))

    (tmp_path / "index").mkdir()
    (tmp_path / "index" / "data.mdb").write_bytes(b"some")
    note_closed(tmp_path)
    assert (tmp_path / CLOSED).exists()
    (tmp_path / CLOSED).unlink()
    monkeypatch.setattr(index_folder, "write_json", full)
    note_closed(tmp_path)
    assert not (tmp_path / CLOSED).exists()
