"""Commands as processes: bad input of each kind, and output that goes nowhere. Never a
traceback."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from raftmail.net import tls
from tests.repository.source_tree import ROOT

PROGRAM = (sys.executable, "-m", "raftmail_cli")


def run(*arguments: str | bytes, shell: str = "", cwd: Path | None = None) -> tuple[int, str]:
    """The exit code and what stands on stderr; `shell` is put behind the command."""
    command = [*map(os.fsencode, PROGRAM), *map(os.fsencode, arguments)]
    if shell:
        quoted = b" ".join(b"'%b'" % word for word in command)
        command = [b"sh", b"-c", quoted + b" " + shell.encode()]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False, cwd=cwd)
    stderr = done.stderr.decode("utf-8", "replace")
    assert "Traceback" not in stderr and "Exception ignored" not in stderr, stderr
    return done.returncode, stderr


@pytest.mark.parametrize(("shell", "code"), [(">&-", 0), ("2>&-", 0), (">/dev/full", 1)])
def test_output_that_nobody_takes_is_no_fault(shell: str, code: int) -> None:
    assert run("completion", "bash", shell=shell)[0] == code


def run_into_a_closed_pipe(argv: Sequence[str], unbuffered: str) -> tuple[int, bytes]:
    """The exit code and what stands on stderr; nobody reads stdout from the beginning."""
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            [*argv],
            stdout=write,
            stderr=subprocess.PIPE,
            timeout=60,
            check=False,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
            cwd=ROOT,
        )
    finally:
        os.close(write)
    return done.returncode, done.stderr


@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["at the end", "in between"])
@pytest.mark.parametrize(
    "arguments",
    [("completion", "bash"), ("--help",), ("--version",), ("chaos", "--help")],
    ids=" ".join,
)
def test_a_pipe_that_nobody_reads_ends_a_command_that_prints_quietly_with_0(
    arguments: tuple[str, ...], unbuffered: str
) -> None:
    assert run_into_a_closed_pipe([*PROGRAM, *arguments], unbuffered) == (0, b"")


ASKING = """
import sys
from raftmail_cli.main import main
from raftmail_cli.settings import Settings
from tests.cli.cluster_twin import Twin
from tests.cli.test_cli_cluster import STATUS

twin = Twin({"status": STATUS, "records": {"records": [], "more": False}})
main(sys.argv[1:], obj=Settings(cluster="127.0.0.1:1", opener=twin.open))
"""


@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["at the end", "in between"])
@pytest.mark.parametrize(
    "arguments",
    [("status",), ("status", "-o", "json"), ("record", "list"), ("user", "list")],
    ids=" ".join,
)
def test_so_does_a_command_that_shows_what_a_node_answers(
    arguments: tuple[str, ...], unbuffered: str
) -> None:
    argv = (sys.executable, "-c", ASKING, *arguments)
    assert run_into_a_closed_pipe(argv, unbuffered) == (0, b"")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_output_of_another_encoding_is_printed_as_far_as_it_goes(
    encoding: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", encoding)
    code, stderr = run("fsck", str(tmp_path / "no-such-\u00e9\u4e2d"))
    assert code == 2 and "no-such" in stderr


def test_an_argument_that_is_no_text_is_named(tmp_path: Path) -> None:
    for arguments in (
        (b"fsck", b"/no-such-\xe9"),
        (b"status", b"--cluster", b"no-such-\xe9/cluster.json"),
        (b"status", b"--cluster", b"caf\xe9:9001"),
        (b"init", os.fsencode(tmp_path / "x"), b"--node", b"a=caf\xe9:9000"),
        (b"caf\xe9",),
    ):
        code, stderr = run(*arguments, cwd=tmp_path)
        assert code in (1, 2), stderr
        assert stderr.count("\n") == 1 and "codec" not in stderr, stderr


@pytest.mark.parametrize("kind", ["missing", "folder", "empty", "binary", "device"])
def test_a_cluster_file_of_each_wrong_kind_is_one_line(tmp_path: Path, kind: str) -> None:
    tmp_path.chmod(0o755)
    path = tmp_path / "cluster.json"
    if kind == "folder":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind != "missing":
        path.write_bytes(b"" if kind == "empty" else bytes(range(256)))
        path.chmod(0o644)
    code, stderr = run("status", "--cluster", str(path))
    assert code == 1 and stderr.count("\n") == 1, stderr


def test_an_interrupt_is_one_line(tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_bytes(tls.create_ca("c" * 32, datetime.now(UTC)).certificate)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        process = subprocess.Popen(
            [*PROGRAM, "status", "--cluster", address, "--ca", str(ca)], stderr=subprocess.PIPE
        )
        silent.settimeout(60)
        connection, _ = silent.accept()  # it asks, and waits
        with connection:
            process.send_signal(signal.SIGINT)
            _, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr.strip()) == (130, b"raftmail: interrupted")
