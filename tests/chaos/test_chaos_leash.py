"""Nothing outlives the run that started it."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

_PARENT = """
import subprocess, sys, time
from raftmail_chaos.leash import leashed
sleeper = "import time; print('up', flush=True); time.sleep(60)"
child = subprocess.Popen(leashed([sys.executable, "-c", sleeper]), stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
time.sleep(60)
"""


def _is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_a_leashed_process_ends_when_its_starter_is_killed() -> None:
    parent = subprocess.Popen([sys.executable, "-c", _PARENT], stdout=subprocess.PIPE)
    try:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert not _is_gone(pid)
    finally:
        parent.kill()
        parent.wait()
        if parent.stdout is not None:
            parent.stdout.close()
    for _ in range(500):
        if _is_gone(pid):
            return
        time.sleep(0.02)
    raise AssertionError(f"process {pid} is still there")
