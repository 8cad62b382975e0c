"""What a node says when it ends or does not start: what is wrong, where, and what to do, in one
line."""

from __future__ import annotations

import errno
import os
import resource
from pathlib import Path

import pytest

from raftmail.net.tls import TlsError
from raftmail.node.config import ConfigError
from raftmail.node.exit_message import explain, is_foreseen
from raftmail.storage.disk import DiskError, DiskFull, SyncFailed


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.EROFS, "mounted read-only"),
        (errno.EACCES, "chown -R"),
        (errno.ENOSPC, "make some"),
        (errno.ENOENT, "is the disk mounted"),
        (errno.EIO, "look at the kernel's log"),
        (errno.EMFILE, "ulimit -n"),
        (errno.EADDRINUSE, "ss -ltnp"),
    ],
)
def test_an_error_of_the_system_is_told_with_file_and_remedy(number: int, said: str) -> None:
    error = OSError(number, os.strerror(number), "/srv/n1/data/lock")
    text = explain(error)
    assert text.startswith(f"/srv/n1/data/lock: {os.strerror(number)}; ")
    assert said in text
    assert "\n" not in text
    assert is_foreseen(error)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (DiskError("x/data.mdb: Read-only file system"), "mounted read-only"),
        (DiskFull("x: No space left on device"), "make some"),
        (SyncFailed("x: fdatasync failed: Input/output error"), "replace the disk"),
        (TlsError("tls/node.key: Permission denied"), "chown -R"),
        (ConfigError("node.toml: cannot listen on a:1: Address already in use"), "ss -ltnp"),
    ],
)
def test_an_error_of_a_room_keeps_its_text(error: Exception, said: str) -> None:
    assert explain(error).startswith(str(error))
    assert said in explain(error)
    assert is_foreseen(error)


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("can't start new thread")])
def test_a_lack_of_memory_or_threads_is_told_with_the_limits_that_are_set(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def limit(which: int) -> tuple[int, int]:
        return (99, 99) if which == resource.RLIMIT_NPROC else (resource.RLIM_INFINITY,) * 2

    monkeypatch.setattr(resource, "getrlimit", limit)
    text = explain(error)
    assert text.startswith("the node gets no more ")
    assert "processes and threads (ulimit -u, LimitNPROC=, TasksMax=) is 99" in text
    assert is_foreseen(error)


def test_what_nobody_foresaw_is_told_with_its_place_and_how_to_report_it() -> None:
    try:
        dict[str, int]()["x"]
    except KeyError as error:
        text = explain(error)
        assert text.startswith("KeyError: 'x' (at ")
        assert f"{Path(__file__).name}:" in text
        assert "RAFTMAIL_TRACEBACK=1" in text
        assert not is_foreseen(error)
