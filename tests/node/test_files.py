"""Small files of a node are written on a full disk, too, out of space that was set aside."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from raftmail.node import files
from raftmail.node.files import ASIDE, set_space_aside, write_json


def _fill(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no space for a file while anything is set aside: as a disk that others have filled."""
    write = files._write

    def write_if_space(folder: Path, name: str, value: Mapping[str, Any]) -> None:
        if not (folder / ASIDE).exists() or os.stat(folder / ASIDE).st_blocks:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(folder, name, value)

    monkeypatch.setattr(files, "_write", write_if_space)


def test_a_small_file_is_written_on_a_full_disk_and_space_is_set_aside_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_space_aside(tmp_path)
    _fill(monkeypatch)
    for number in range(3):
        write_json(tmp_path, "start.json", {"number": number})
        assert json.loads((tmp_path / "start.json").read_text()) == {"number": number}
        assert os.stat(tmp_path / ASIDE).st_blocks


def test_a_file_of_a_shard_uses_what_is_set_aside_in_the_data_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_space_aside(tmp_path)
    shard = tmp_path / "shards" / "0"
    shard.mkdir(parents=True)
    write = files._write

    def write_if_space(folder: Path, name: str, value: Mapping[str, Any]) -> None:
        if os.stat(tmp_path / ASIDE).st_blocks:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(folder, name, value)

    monkeypatch.setattr(files, "_write", write_if_space)
    write_json(shard, "repair.json", {"rebuild": "why"})
    assert json.loads((shard / "repair.json").read_text()) == {"rebuild": "why"}
    assert os.stat(tmp_path / ASIDE).st_blocks and not (shard / ASIDE).exists()


def test_without_space_set_aside_the_file_is_named_and_stays_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_json(tmp_path, "start.json", {"number": 1})
    _fill(monkeypatch)
    with pytest.raises(OSError, match=r"start\.json") as raised:
        write_json(tmp_path, "start.json", {"number": 2})
    assert raised.value.errno == errno.ENOSPC
    assert json.loads((tmp_path / "start.json").read_text()) == {"number": 1}


def test_other_errors_leave_what_is_set_aside_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_space_aside(tmp_path)

    def fail(folder: Path, name: str, value: Mapping[str, Any]) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(files, "_write", fail)
    with pytest.raises(OSError, match="Read-only"):
        write_json(tmp_path, "start.json", {})
    assert os.stat(tmp_path / ASIDE).st_blocks
