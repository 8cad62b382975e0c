"""What a node notes of its replicas stands on the disk before anything follows from it."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from raftmail.node import folder as folder_module
from raftmail.node import lost_disks
from raftmail.node.bootstrap import NodePlan, make_cluster
from raftmail.node.config import load
from raftmail.node.folder import DataFolder

_N1 = NodePlan("n1", "127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3")


def _full(folder: Path, name: str, value: Mapping[str, Any]) -> None:
    raise OSError(errno.ENOSPC, "No space left on device", str(folder / name))


def test_what_could_not_be_noted_on_a_full_disk_is_not_so_and_can_be_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_cluster(tmp_path / "c", [_N1], shards=1, now=datetime.now(UTC))
    folder = DataFolder.claim(load(made.folders[0]))
    folder.note_made({0: 1, 1: 1})
    with monkeypatch.context() as patch:
        patch.setattr(folder_module, "write_json", _full)
        patch.setattr(lost_disks, "write_json", _full)
        with pytest.raises(OSError, match="No space"):
            folder.forget(0)
        with pytest.raises(OSError, match="No space"):
            folder.note_made({2: 1})
        with pytest.raises(OSError, match="No space"):
            folder.set_aside(1, 1, "its disk went back")
    assert folder.made == {0: 1, 1: 1} and folder.lost == {}
    folder.set_aside(1, 1, "its disk went back")
    folder.forget(0)
    folder.note_made({1: 2})
    assert folder.made == {1: 2} and folder.lost == {}
    folder.release()


def test_on_a_disk_without_space_for_a_folder_replicas_are_set_aside_and_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_cluster(tmp_path / "c", [_N1], shards=1, now=datetime.now(UTC))
    folder = DataFolder.claim(load(made.folders[0]))
    folder.note_made({0: 1, 1: 1})
    shards = folder.config.data / "shards"
    for shard in ("0", "1"):
        (shards / shard / "journal").mkdir(parents=True)

    mkdir = Path.mkdir

    def no_folder(
        self: Path, mode: int = 0o777, parents: bool = False, exist_ok: bool = False
    ) -> None:
        if self.name in ("lost", ".gone"):
            raise OSError(errno.ENOSPC, "No space left on device", str(self))
        mkdir(self, mode, parents, exist_ok)

    monkeypatch.setattr(Path, "mkdir", no_folder)
    folder.set_aside(1, 1, "its disk went back")
    assert folder.lost.keys() == {1} and folder.made == {0: 1}
    folder.forget(0)
    folder.clear(0)
    folder.clear(1)
    assert not list(shards.iterdir())
    folder.release()
