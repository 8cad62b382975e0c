"""`raftmail node`, `up`, `down` and `demo` as processes."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner

from raftmail.node.bootstrap import make_cluster, plan_loopback
from raftmail_cli import clusterfile
from raftmail_cli.clusterfile import ClusterFile, NodeEntry
from raftmail_cli.errors import CliError
from raftmail_cli.main import main
from raftmail_cli.processes import check_ports, is_node
from tests.node.cluster import own_ports
from tests.repository.source_tree import ROOT, SHIPPED

PATHS = [str(ROOT), *(str(ROOT / base) for base in SHIPPED.values() if base != ".")]
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(PATHS)}
RAFTMAIL = [sys.executable, "-m", "raftmail_cli"]
WAIT_S = 60.0


def raftmail(*arguments: str, stdin: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*RAFTMAIL, *arguments],
        env=ENVIRONMENT,
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        timeout=WAIT_S,
        check=False,
    )


def free_base_port(nodes: int) -> int:
    """A port from which `nodes` nodes find all theirs free."""
    own = own_ports()
    while True:
        port = random.SystemRandom().choice(own[: -10 * nodes])
        plans = plan_loopback(nodes, port)
        try:
            check_ports([NodeEntry(p.name, p.peer, p.client, p.lmtp, p.programs) for p in plans])
        except CliError:
            continue
        return port


def until(met: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not met():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.05)


@contextmanager
def up(folder: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[bytes], ClusterFile]]:
    """`raftmail up`, ready; ended by SIGTERM."""
    out = folder.with_name("up.out")
    with open(out, "wb") as sink:
        process = subprocess.Popen(
            [*RAFTMAIL, "up", str(folder), *arguments],
            env=ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
        )
    try:
        until(
            lambda: b"All nodes are ready" in out.read_bytes() or process.poll() is not None,
            "up is ready",
        )
        assert process.poll() is None, out.read_text()
        yield process, clusterfile.load(folder)
    finally:
        process.terminate()
        process.wait(WAIT_S)


def test_a_cluster_comes_up_is_used_and_comes_up_again_with_its_mail(tmp_path: Path) -> None:
    folder = tmp_path / "cluster"
    port = free_base_port(3)
    with up(folder, "--nodes", "3", "--base-port", str(port), "--shards", "2") as (_, cluster):
        at = ["--cluster", str(folder)]
        assert all(is_node(node) and node.data and node.data.is_dir() for node in cluster.nodes)
        assert raftmail(*at, "user", "add", "anna@x.org", "--password", "x").returncode == 0
        saved = raftmail(*at, "save", "anna@x.org", "INBOX", stdin=b"Subject: a\r\n\r\nb\r\n")
        assert saved.returncode == 0, saved.stderr
        for node in cluster.nodes:
            let_in = ("--ca", str(cluster.ca), "--token-file", str(cluster.token_file))
            fetched = raftmail(
                "--cluster", node.client, *let_in, "fetch", "anna@x.org", "INBOX", "1"
            )
            assert fetched.stdout == b"Subject: a\r\n\r\nb\r\n"
        verified = raftmail(*at, "verify", "-o", "json")
        assert json.loads(verified.stdout)["equal"]
        status = json.loads(raftmail(*at, "-o", "json", "status").stdout)
        assert [shard["shard"] for shard in status["shards"]] == [0, 1, 2]
        assert raftmail("up", str(folder)).returncode == 1
    assert not any(map(is_node, cluster.nodes))
    shown = raftmail("log", "show", "--node", "n2", *at)
    assert shown.returncode == 0
    # By its number, or by its name where that was used before anybody had made the mailbox.
    assert re.search(rb"save anna@x.org (mailbox \d|INBOX) ", shown.stdout)
    assert b"mark" in shown.stdout
    for node in cluster.nodes:
        examined = raftmail("fsck", str(folder / node.name))
        assert examined.returncode == 0, examined.stdout
    with up(folder) as (_, again):
        assert [n.client for n in again.nodes] == [n.client for n in cluster.nodes]
        assert raftmail(*at, "list", "anna@x.org", "INBOX").stdout.count(b"\n") == 3
        ended = raftmail("down", str(folder))
        assert ended.stdout == b"Ended n1, n2, n3.\n"
    assert b"None of its nodes was running" in raftmail("down", str(folder)).stdout


def test_a_node_that_dies_is_told_and_not_started_again(tmp_path: Path) -> None:
    folder = tmp_path / "cluster"
    with up(folder, "--nodes", "1", "--base-port", str(free_base_port(1))) as (process, cluster):
        (node,) = cluster.nodes
        os.kill(node.pid, signal.SIGKILL)
        out = folder.with_name("up.out")
        until(lambda: b"node n1 was ended by SIGKILL" in out.read_bytes(), "the end is told")
        assert " ".join(node.start).encode() in out.read_bytes()
        assert process.poll() is None


def test_a_port_in_use_is_told_before_anything_starts(tmp_path: Path) -> None:
    port = free_base_port(2)
    with socket.create_server(("127.0.0.1", port + 11)):
        arguments = ["up", str(tmp_path / "c"), "--nodes", "2", "--base-port", str(port)]
        result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 1
    assert f"127.0.0.1:{port + 11}: cannot be the client address of node n2" in result.stderr
    assert not list((tmp_path / "c").glob("*/node.log"))


def test_what_keeps_a_node_from_starting_ends_up_with_its_words(tmp_path: Path) -> None:
    folder = tmp_path / "c"
    port = str(free_base_port(1))
    with up(folder, "--nodes", "1", "--base-port", port):
        pass
    (folder / "n1" / "tls" / "node.key").unlink()
    result = raftmail("up", str(folder))
    assert result.returncode == 1
    assert b"node n1 ended with exit status 1" in result.stderr
    assert b"node.key" in result.stderr
    assert result.stderr.count(b"\n") == 1


@pytest.mark.parametrize(
    "arguments", [["--nodes", "2"], ["--base-port", "9999"], ["--shards", "7"]]
)
def test_a_folder_keeps_its_nodes_ports_and_shards(tmp_path: Path, arguments: list[str]) -> None:
    folder = tmp_path / "c"
    make_cluster(folder, plan_loopback(1, 9000), shards=1, now=datetime.now(UTC))
    result = CliRunner().invoke(main, ["up", str(folder), *arguments])
    assert result.exit_code == 1
    assert f"leave {arguments[0]} out" in result.stderr


def test_a_node_without_a_configuration_says_so_in_one_line(tmp_path: Path) -> None:
    result = raftmail("node", str(tmp_path))
    assert (result.returncode, result.stdout) == (1, b"")
    assert result.stderr.startswith(b"raftmail: ") and result.stderr.count(b"\n") == 1


def test_the_demonstration_loses_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    result = raftmail("demo", "--messages", "80", "--dir", str(folder), "-o", "json")
    assert result.returncode == 0, result.stderr
    verdict = json.loads(result.stdout)
    assert (verdict["messages"], verdict["acknowledged"], verdict["found"]) == (80, 80, 80)
    assert (verdict["lost"], verdict["doubled"], verdict["equal"]) == (0, 0, True)
    assert verdict["masters_killed"] == 3
    cluster = clusterfile.load(folder)
    assert not any(map(is_node, cluster.nodes))
    for node in cluster.nodes:
        examined = raftmail("fsck", str(folder / node.name))
        assert examined.returncode == 0, examined.stdout
