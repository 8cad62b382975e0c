"""A node that must not start says why in one line, and what to do."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from raftmail.node.bootstrap import NodePlan, make_cluster
from tests.node.cluster import WAIT_S, free_ports, wait_for


def _make(folder: Path) -> Path:
    ports = free_ports(3)
    plan = NodePlan("n1", *[f"127.0.0.1:{p}" for p in ports])
    return make_cluster(folder, [plan], shards=1, now=datetime.now(UTC)).folders[0]


def _run(folder: Path) -> tuple[int, str]:
    """Start a node that is expected to refuse; exit code and what it said."""
    ended = subprocess.run(
        [sys.executable, "-m", "raftmail_cli", "node", str(folder)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=WAIT_S,
        check=False,
    )
    return ended.returncode, ended.stderr.decode()


def _start(folder: Path) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-m", "raftmail_cli", "node", str(folder)],
        stdin=subprocess.DEVNULL,
        stderr=(folder / "node.log").open("wb"),
    )
    wait_for("the node to start", lambda: b"started" in (folder / "node.log").read_bytes())
    return process


def _edit(folder: Path, old: str, new: str) -> None:
    path = folder / "node.toml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.fixture
def node(tmp_path: Path) -> Path:
    return _make(tmp_path / "c")


@pytest.fixture
def used(node: Path) -> Iterator[Path]:
    """A node that has run, and was stopped."""
    process = _start(node)
    process.terminate()
    assert process.wait(WAIT_S) == 0
    yield node


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("shards = 1", "shards = 0", "cluster.shards: 0 is not allowed"),
        ("shards = 1", 'shards = "1"', "cluster.shards: '1' is not a whole number"),
        ("shards = 1", "shards = 1\nshard = 2", "cluster.shard: no such key"),
        ('name = "n1"', 'name = "n9"', "none of the cluster's nodes (n1)"),
        ("[listen]", "[mail]\nmessage_bytes_max = 1\n[listen]", "mail.message_bytes_max: 1"),
        ("[listen]", "[raft]\nheartbeat_ms = 500\n[listen]", "three heartbeats"),
        ("[listen]", "[lisen]\n[listen]", "[lisen]: no such section"),
        ("[node]", "[node", "cannot be read"),
    ],
)
def test_a_wrong_configuration_names_file_key_and_what_is_allowed(
    node: Path, old: str, new: str, said: str
) -> None:
    _edit(node, old, new)
    code, text = _run(node)
    assert code == 1
    assert said in text
    assert "node.toml" in text
    assert "Traceback" not in text


def test_a_port_in_use_is_told(node: Path) -> None:
    line = next(x for x in (node / "node.toml").read_text().splitlines() if x.startswith("client"))
    port = int(line.split('"')[1].rpartition(":")[2])
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        code, text = _run(node)
    assert code == 1
    assert f"cannot listen on 127.0.0.1:{port}" in text


def test_a_second_process_on_the_same_folder_is_refused(node: Path) -> None:
    process = _start(node)
    try:
        code, text = _run(node)
        assert code == 1
        assert f"in use by another process (pid {process.pid})" in text
    finally:
        process.terminate()
        process.wait(WAIT_S)


def test_a_data_folder_of_another_cluster_is_refused(used: Path, tmp_path: Path) -> None:
    other = _make(tmp_path / "other")
    shutil.copytree(used / "data", other / "data")
    code, text = _run(other)
    assert code == 1
    assert "belongs to node 'n1' of cluster" in text


def test_a_node_whose_disk_was_lost_does_not_vote_under_its_old_id(used: Path) -> None:
    shutil.rmtree(used / "data")
    code, text = _run(used)
    assert code == 1
    assert "they are gone" in text


def _set_aside(folder: Path) -> str:
    """Start a node that sets one replica aside and serves the others; what it says of that one."""
    process = _start(folder)
    try:
        lines = (folder / "node.log").read_text().splitlines()
        assert process.poll() is None
    finally:
        process.terminate()
        process.wait(WAIT_S)
    return next(line for line in lines if "shard 1" in line and "set aside" in line)


def test_a_lost_journal_is_not_taken_for_a_new_one(used: Path) -> None:
    shutil.rmtree(used / "data" / "shards" / "1" / "journal")
    assert "the journal is missing" in _set_aside(used)
    assert not (used / "data" / "shards" / "1" / "journal").exists()


def test_a_flipped_bit_in_the_journal_is_told_with_file_and_offset(used: Path) -> None:
    path = sorted((used / "data" / "shards" / "1" / "journal").iterdir())[0]
    data = bytearray(path.read_bytes())
    data[520] ^= 1
    path.write_bytes(data)
    said = _set_aside(used)
    assert path.name in said
    assert "offset" in said


def test_a_certificate_of_another_cluster_is_refused(used: Path, tmp_path: Path) -> None:
    other = _make(tmp_path / "other")
    shutil.copy(other / "tls" / "ca.pem", used / "tls" / "ca.pem")
    code, text = _run(used)
    assert code == 1
    assert "certificate" in text
