"""A node of several workers: one folder, one command, a process for each."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from raftmail.node.bootstrap import NodePlan, make_cluster
from raftmail.node.config import ConfigError, load
from raftmail_cli.main import main
from tests.node.cluster import WAIT_S, client_of, free_ports, wait_for

USER = "anna@example.org"


def _ports() -> list[int]:
    """Of a node of two workers: peer, client, LMTP; the second's peer port is free, too."""
    while True:
        ports = free_ports(3)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", ports[0] + 3))
            except (OSError, OverflowError):
                continue
        return ports


class Node:
    """The one node of a cluster, as a process that may have others below it."""

    def __init__(self, folder: Path, workers: int) -> None:
        plan = NodePlan("n1", *[f"127.0.0.1:{p}" for p in _ports()], workers=workers)
        self.made = make_cluster(folder, [plan], shards=3, now=datetime.now(UTC))
        self.folder = self.made.folders[0]
        self.address = plan.client
        self.process = self.start()

    def start(self) -> subprocess.Popen[bytes]:
        with (self.folder / "node.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "raftmail_cli", "node", str(self.folder)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        return self.process

    def status(self) -> Any:
        """What is said of the cluster; None while nothing answers, or a worker or master is
        missing."""
        try:
            with client_of(self.made, self.address) as client:
                found = client.admin("status")
        except Exception:  # it may be starting
            return None
        ready = all(n["up"] for n in found["nodes"]) and all(s["master"] for s in found["shards"])
        return found if ready else None

    def pids(self) -> dict[str, int]:
        """The processes by worker, once all are up and every shard has a master."""
        status = wait_for("all workers and masters", self.status)
        return {node["name"]: node["pid"] for node in status["nodes"]}


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Node]:
    node = Node(tmp_path / "c", 2)
    yield node
    node.process.kill()
    node.process.wait()


def _is_gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state == "Z"


def test_replicas_are_spread_over_the_workers_and_one_that_is_killed_is_started_again(
    two: Node,
) -> None:
    pids = two.pids()
    assert set(pids) == {"n1", "n1.2"}
    assert two.process.pid not in pids.values()
    for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP):
        two.process.send_signal(number)
    log = two.folder / "node.log"
    wait_for("both to reload", lambda: log.read_text().count("reloaded: certificates") == 2)
    with client_of(two.made, two.address) as client:
        client.add_user(USER, "x")
        client.save(USER, "INBOX", b"Subject: one\r\n\r\n1\r\n")
    assert (two.folder / "data.2" / "replicas.json").exists()
    os.kill(pids["n1.2"], signal.SIGKILL)
    again = wait_for(
        "the worker to come back",
        lambda: (status := two.status()) is not None and status["nodes"][1]["pid"] != pids["n1.2"],
    )
    assert again
    assert two.pids()["n1"] == pids["n1"]
    with client_of(two.made, two.address) as client:
        client.save(USER, "INBOX", b"Subject: two\r\n\r\n2\r\n")
        assert client.body(USER, "INBOX", 1) == b"Subject: one\r\n\r\n1\r\n"
    two.process.terminate()
    assert two.process.wait(WAIT_S) == 0
    assert all(_is_gone(pid) for pid in pids.values())
    _looks_at_all_workers(two.folder)


def _looks_at_all_workers(folder: Path) -> None:
    """`fsck` and `log show` of the node's folder, or of its configuration, cover the data of each
    worker."""
    for named in (folder, folder / "node.toml"):
        found = _json("fsck", str(named))
        assert {Path(one["data"]).name for one in found} == {"data", "data.2"}
        assert {one["shard"] for one in found} == {0, 1, 2, 3}
    assert {Path(one["data"]).name for one in _json("fsck", str(folder / "data.2"))} == {"data.2"}
    shown = CliRunner().invoke(main, ["log", "show", str(folder)])
    assert shown.exit_code == 0, shown.output
    assert {line.split()[0] for line in shown.stdout.splitlines() if "term" in line} == {
        "data",
        "data.2",
    }
    assert {one["shard"] for one in _json("log", "show", str(folder), "--shard", "2")} == {2}
    missing = CliRunner().invoke(main, ["log", "show", str(folder), "--shard", "9"])
    assert missing.exit_code == 1 and "no replica of shard 9" in missing.output


def _json(*arguments: str) -> Any:
    result = CliRunner().invoke(main, [*arguments, "-o", "json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_workers_are_killed_with_the_process_that_was_started(two: Node) -> None:
    pids = two.pids()
    two.process.kill()
    two.process.wait()
    wait_for("the workers to be gone", lambda: all(_is_gone(pid) for pid in pids.values()))


def test_a_worker_that_refuses_to_start_ends_the_node(two: Node) -> None:
    pids = two.pids()
    two.process.terminate()
    two.process.wait(WAIT_S)
    (two.folder / "data.2" / "node.json").write_text("{}")
    assert two.start().wait(WAIT_S) == 1
    assert all(_is_gone(pid) for pid in pids.values())
    assert "data.2: belongs to" in (two.folder / "node.log").read_text()


def test_a_worker_that_a_node_is_given_later_is_told_to_the_cluster(tmp_path: Path) -> None:
    node = Node(tmp_path / "c", 1)
    try:
        assert set(node.pids()) == {"n1"}
        node.process.terminate()
        assert node.process.wait(WAIT_S) == 0
        config = node.folder / "node.toml"
        config.write_text(config.read_text().replace("workers = 1", "workers = 2", 1))
        node.start()
        wait_for("the second worker", lambda: set(node.pids()) == {"n1", "n1.2"})
    finally:
        node.process.kill()
        node.process.wait()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("workers = 2", "workers = 0", r"node.workers: 0 is not allowed; .* from 1 to 8"),
        ("workers = 2", 'workers = "many"', r"node.workers: 'many' is not a whole number"),
        ('client = "127.0.0.1:7001"', 'client = "127.0.0.1:7003"', "which is listen.client"),
    ],
)
def test_workers_that_cannot_be_are_refused(tmp_path: Path, old: str, new: str, said: str) -> None:
    plan = NodePlan("n1", "127.0.0.1:7000", "127.0.0.1:7001", "", workers=2)
    folder = make_cluster(tmp_path / "c", [plan], shards=1, now=datetime.now(UTC)).folders[0]
    path = folder / "node.toml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(ConfigError, match=said):
        load(folder)


def test_auto_is_a_worker_for_each_core(tmp_path: Path) -> None:
    plan = NodePlan("n1", "127.0.0.1:7000", "127.0.0.1:7001", "")
    folder = make_cluster(tmp_path / "c", [plan], shards=1, now=datetime.now(UTC)).folders[0]
    path = folder / "node.toml"
    path.write_text(path.read_text().replace("workers = 1", 'workers = "auto"', 1))
    assert load(folder).node.workers == min(8, len(os.sched_getaffinity(0)))
