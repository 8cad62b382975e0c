"""Runs that are broken off: nothing of them goes on."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

_WAIT_S = 90.0


def _descendants(pid: int) -> set[int]:
    parents: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {pid}


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _heed_interrupts() -> None:
    """As in a terminal, also where the tests run in the background of a shell that has it ignore
    them."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_is_broken_off_ends_all_that_it_started(
    tmp_path: Path, number: signal.Signals
) -> None:
    argv = [sys.executable, "-m", "raftmail_cli", "chaos", "run", "--seconds", "600"]
    argv += ["--profile", "pause,disk", "--rate", "20", "--dir", str(tmp_path / "run")]
    run = subprocess.Popen(
        argv,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=_heed_interrupts,
    )
    try:
        assert run.stdout is not None
        for line in run.stdout:
            if "the load runs" in line:
                break
        started = _descendants(run.pid)
        assert len(started) >= 5, "three nodes and two that load them"
        run.send_signal(number)
        _, errors = run.communicate(timeout=_WAIT_S)
    finally:
        run.kill()
        run.wait()
    assert run.returncode != 0
    if number is not signal.SIGKILL:
        assert f"stays in {tmp_path / 'run'}" in errors
        assert "Traceback" not in errors
    deadline = time.monotonic() + _WAIT_S
    while any(map(_lives, started)):
        assert time.monotonic() < deadline, [pid for pid in started if _lives(pid)]
        time.sleep(0.05)
    assert os.path.isdir(tmp_path / "run" / "history")
    assert str(tmp_path) not in Path("/proc/self/mounts").read_text()
