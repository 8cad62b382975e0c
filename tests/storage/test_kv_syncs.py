"""LMDB puts on the disk what a commit with sync promises, as its settings, the calls that it gets,
and strace tell."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import lmdb
import pytest

from raftmail.storage.disk import SyncFailed
from raftmail.storage.kv import LmdbEngine

ROOT = Path(__file__).resolve().parents[2]


class Watched:
    """An environment that notes its syncs, and what was committed before each."""

    def __init__(self, env: lmdb.Environment, fail: bool = False) -> None:
        self._env = env
        self._fail = fail
        self.synced: list[tuple[bool, int]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._env, name)

    def sync(self, force: bool = False) -> None:
        if self._fail:
            raise lmdb.Error("mdb_env_sync: Input/output error")
        self.synced.append((force, int(self._env.info()["last_txnid"])))
        self._env.sync(force)


def _watched(folder: Path, *, fail: bool = False) -> tuple[LmdbEngine, Watched]:
    engine = LmdbEngine(folder, ("a",))
    env = Watched(engine.env, fail)
    engine.env = env  # type: ignore[assignment]
    return engine, env


def test_lmdb_itself_syncs_the_pages_of_every_commit_before_the_one_that_names_them(
    tmp_path: Path,
) -> None:
    """Without that, power loss leaves a tree whose pages are not there: not whole commits are lost,
    but the index."""
    engine = LmdbEngine(tmp_path, ("a",))
    flags = engine.env.flags()
    assert flags["sync"] and not flags["map_async"] and not flags["writemap"]
    engine.close()


def test_a_commit_with_sync_forces_the_environment_after_it_was_committed(tmp_path: Path) -> None:
    engine, env = _watched(tmp_path)
    engine.table("a").put(b"k", b"v")
    before = int(engine.env.info()["last_txnid"])
    engine.commit(sync=True)
    assert env.synced == [(True, before + 1)]
    engine.table("a").put(b"k", b"w")
    engine.commit(sync=False)
    assert len(env.synced) == 1
    engine.sync()
    assert env.synced[1:] == [(True, before + 2)]
    engine.close()


def test_a_commit_whose_sync_fails_is_not_taken_for_durable(tmp_path: Path) -> None:
    engine, _ = _watched(tmp_path, fail=True)
    engine.table("a").put(b"k", b"v")
    with pytest.raises(SyncFailed):
        engine.commit(sync=True)


def _can_trace() -> bool:
    strace = shutil.which("strace")
    if strace is None:
        return False
    return subprocess.run([strace, "-o", "/dev/null", "true"], capture_output=True).returncode == 0


_CODE = """
import os, pathlib, sys
from raftmail.storage.kv import LmdbEngine
engine = LmdbEngine(pathlib.Path(sys.argv[1]), ("a",))
for turn in range(3):
    engine.table("a").put(b"k%d" % turn, bytes(3000))
    engine.commit(sync=turn != 1)
    os.write(2, b"committed %d\\n" % turn)
os._exit(0)
"""


@pytest.mark.skipif(not _can_trace(), reason="there is no strace here, or it may not trace")
def test_nothing_that_a_commit_wrote_is_unsynced_when_it_returns(tmp_path: Path) -> None:
    out = tmp_path / "calls"
    calls = "trace=pwrite64,pwritev,write,writev,fdatasync,fsync,msync"
    argv = ["strace", "-f", "-y", "-e", calls, "-o", str(out)]
    done = subprocess.run(
        [*argv, sys.executable, "-c", _CODE, str(tmp_path / "db")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    unsynced: dict[str, int] = {}
    syncs = 0
    states = []
    for line in out.read_text().splitlines():
        found = re.search(r"(pwrite64|pwritev|writev|write|fdatasync|fsync)\((\d+)<([^>]*)>", line)
        if found is None:
            continue
        call, _, path = found.groups()
        if "committed" in line:
            states.append((sum(unsynced.values()), syncs))
        elif not path.endswith("data.mdb"):
            continue
        elif "sync" in call:
            unsynced.clear()
            syncs += 1
        else:
            unsynced[path] = unsynced.get(path, 0) + 1
    assert len(states) == 3
    left = [count for count, _ in states]
    assert left[0] == 0 and left[2] == 0, "a commit with sync leaves nothing to lose"
    assert left[1] == 1, "one without leaves its meta page alone, which is written last"
    assert states[1][1] > states[0][1], "its data were synced before"
