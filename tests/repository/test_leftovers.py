"""The check that no test leaves a process behind finds what it is meant to find."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.repository import leftovers

pytestmark = pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="needs Linux /proc")

_UNTIL_STDIN_CLOSES = "import sys; print('up', flush=True); sys.stdin.read()"


@contextmanager
def child(environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(
        [sys.executable, "-c", _UNTIL_STDIN_CLOSES],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, **environment},
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process


def test_a_child_that_still_runs_is_found() -> None:
    with child({}) as process:
        found = {one.pid: one.command for one in leftovers.find("no such token")}
        assert process.pid in found
        assert _UNTIL_STDIN_CLOSES in found[process.pid]


def test_a_process_whose_parent_has_gone_is_found_by_its_token() -> None:
    token = uuid.uuid4().hex
    orphan = (
        "import subprocess, sys\n"
        f"command = [sys.executable, '-c', {_UNTIL_STDIN_CLOSES!r}]\n"
        "p = subprocess.Popen(command, stdout=subprocess.PIPE)\n"
        "p.stdout.readline(); print(p.pid)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", orphan],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, leftovers.TOKEN_NAME: token},
    ) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        process.wait()
        assert pid in {one.pid for one in leftovers.find(token)}
        leftovers.end(leftovers.find(token))


def test_a_child_that_has_ended_is_no_leftover() -> None:
    with child({}) as process:
        process.communicate()
        assert process.pid not in {one.pid for one in leftovers.find("no such token")}
