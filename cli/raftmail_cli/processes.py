"""Nodes as processes of this machine: making a loopback cluster, starting, watching and ending.

Used by `up`, `down` and `demo`. A node runs in a session of its own. So Ctrl-C in a terminal
reaches the command alone, which then ends the nodes in order. Nodes are ended by pid, and only
those that are what the pid was written down for.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from raftmail.admin.api.calls import GetStatus
from raftmail.admin.api.status import ClusterStatus
from raftmail.mail.endpoint import split_address
from raftmail.node.bootstrap import (
    BootstrapError,
    NodePlan,
    make_cluster,
    plan_loopback,
)
from raftmail.node.config import ConfigError, load
from raftmail_cli import clusterfile
from raftmail_cli.clusterfile import ClusterFile, NodeEntry
from raftmail_cli.errors import CliError
from raftmail_cli.session import Opener, Where

SHARDS = 1
"""On one machine, whose cores all nodes share, more shards only cost: what an entry of a log costs
by itself is paid for fewer commands each. A cluster of machines begins with more (`raftmail init`),
to be spread over those that come later."""

STOP_S = 15.0
"""How long a node may take to stop in order before it is killed."""

_POLL_S = 0.1
_LOG_LINES = 5
_LOG_TAIL_BYTES = 4096


def node_argv(folder: Path) -> tuple[str, ...]:
    """What starts the node of a folder."""
    return (sys.executable, "-m", "raftmail_cli", "node", str(folder))


def loopback_cluster(
    folder: Path,
    nodes: int | None,
    base_port: int | None,
    shards: int | None,
    workers: int | None = None,
) -> ClusterFile:
    """The cluster of a folder, made if the folder is empty or missing.

    None takes what is there, or else 3 nodes of one worker from port 9000 with one shard. Raises
    `CliError`, also when what is there differs from what is asked for."""
    folder = folder.absolute()
    plans = _existing(folder, shards)
    if plans:
        wanted = len(plans) if nodes is None else nodes
        if wanted != len(plans):
            raise CliError(
                f"{folder}: holds a cluster of {len(plans)} nodes, not {wanted}; leave --nodes "
                "out, or name another folder"
            )
        port = split_address(plans[0].peer)[1]
        if base_port not in (None, port):
            raise CliError(
                f"{folder}: holds a cluster from port {port} on, not {base_port}; leave "
                "--base-port out, or name another folder"
            )
        if any(workers not in (None, plan.workers) for plan in plans):
            raise CliError(
                f"{folder}: holds nodes of {plans[0].workers} workers, not {workers}; leave "
                f"--workers "
                "out, or change node.workers in each node.toml"
            )
    else:
        try:
            plans = plan_loopback(nodes or 3, base_port or 9000, workers or 1)
            make_cluster(folder, plans, shards=shards or SHARDS, now=datetime.now(UTC))
        except (BootstrapError, ValueError) as error:
            raise CliError(str(error)) from None
    entries = []
    for plan in plans:
        home = folder / plan.name
        found = load(home)
        argv = node_argv(home)
        entries.append(
            NodeEntry(
                plan.name,
                plan.peer,
                plan.client,
                plan.lmtp,
                plan.programs,
                found.data,
                argv,
            )
        )
    cluster = load(folder / plans[0].name).cluster.id
    return ClusterFile(cluster, folder / "ca" / "ca.pem", folder / "ca" / "token", tuple(entries))


def _existing(folder: Path, shards: int | None) -> list[NodePlan]:
    """The nodes whose folders are here, in the order of their peer ports."""
    plans = []
    try:
        for path in sorted(folder.glob("*/node.toml")):
            found = load(path)
            if shards not in (None, found.cluster.shards):
                raise CliError(
                    f"{folder}: holds a cluster of {found.cluster.shards} shards, not {shards}; "
                    "leave --shards out, or name another folder"
                )
            listen = found.listen
            plans.append(
                NodePlan(
                    found.node.name,
                    listen.peer,
                    listen.client,
                    listen.lmtp,
                    workers=found.node.workers,
                    programs=listen.programs,
                )
            )
    except ConfigError as error:
        raise CliError(str(error)) from None
    return sorted(plans, key=lambda plan: split_address(plan.peer))


def check_ports(nodes: Iterable[NodeEntry]) -> None:
    """Make sure that every address can be listened on. Raises `CliError` naming one that cannot."""
    for node in nodes:
        named = {"peer": node.peer, "client": node.client, "lmtp": node.lmtp}
        for kind, address in (named | node.programs.served).items():
            if not address:
                continue
            host, port = split_address(address)
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            with socket.socket(family) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((host, port))
                    probe.listen()  # a port that is bound without SO_REUSEPORT shows only here
                except OSError as error:
                    raise CliError(
                        f"{address}: cannot be the {kind} address of node {node.name}: "
                        f"{(error.strerror or str(error)).lower()}; stop what uses it, or take "
                        "another --base-port"
                    ) from None


@dataclass(slots=True)
class Process:
    """A node that this process started."""

    entry: NodeEntry
    popen: subprocess.Popen[bytes]
    log: Path

    @classmethod
    def start(cls, entry: NodeEntry) -> Process:
        """Start the node; what it says goes to the end of `node.log` in its folder."""
        folder = Path(entry.start[-1])
        log = folder / "node.log"
        with open(log, "ab") as out:
            popen = subprocess.Popen(
                entry.start,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return cls(replace(entry, pid=popen.pid), popen, log)

    @property
    def running(self) -> bool:
        return self.popen.poll() is None

    def reload(self) -> None:
        """SIGHUP: have it take over what changed in its configuration."""
        self.popen.send_signal(signal.SIGHUP)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.popen.kill()
        self.popen.wait()

    def ending(self) -> str:
        """How it ended, in words."""
        code = self.popen.returncode
        if code is None:
            return "is running"
        if code < 0:
            return f"was ended by {signal.Signals(-code).name}"
        return f"ended with exit status {code}"


def stop(processes: Sequence[Process]) -> list[str]:
    """SIGTERM to all, and SIGKILL to those that do not stop in time; the names of these."""
    for process in processes:
        if process.running:
            process.popen.terminate()
    deadline = time.monotonic() + STOP_S
    killed = []
    for process in processes:
        try:
            process.popen.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            killed.append(process.entry.name)
    return killed


def stop_by_file(cluster: ClusterFile) -> list[str]:
    """End the nodes that cluster.json names, if they still are what it names; their names."""
    found = [node for node in cluster.nodes if is_node(node)]
    for node in found:
        _signal(node, signal.SIGTERM)
    deadline = time.monotonic() + STOP_S
    while time.monotonic() < deadline and any(map(is_node, found)):
        time.sleep(_POLL_S)
    for node in filter(is_node, found):
        _signal(node, signal.SIGKILL)
    return [node.name for node in found]


def _signal(node: NodeEntry, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(node.pid, number)


def is_node(node: NodeEntry) -> bool:
    """Whether the process of `node.pid` runs, and was started to be this node."""
    if node.pid <= 0:
        return False
    try:
        command = Path(f"/proc/{node.pid}/cmdline").read_bytes()
    except OSError:
        return False
    return tuple(command.decode("utf-8", "replace").rstrip("\0").split("\0")) == node.start


def log_tail(log: Path) -> str:
    """The last lines of a node's log."""
    try:
        with open(log, "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _LOG_TAIL_BYTES))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-_LOG_LINES:])


def write_file(folder: Path, cluster: ClusterFile, processes: Iterable[Process]) -> Path:
    """Write DIR/cluster.json with the pids of now."""
    path = folder.absolute() / clusterfile.FILE
    nodes = [process.entry for process in processes]
    clusterfile.save(path, cluster.cluster, cluster.ca, cluster.token_file, nodes)
    return path


def where(cluster: ClusterFile, nodes: Sequence[NodeEntry] = (), deadline_s: float = 20.0) -> Where:
    """How to reach the cluster's nodes, or some of them."""
    token = cluster.token_file.read_text(encoding="ascii").strip()
    asked = nodes or cluster.nodes
    return Where(
        tuple(node.client for node in asked), cluster.ca, token, deadline_s, cluster.cluster
    )


def read_status(
    opener: Opener, cluster: ClusterFile, nodes: Sequence[NodeEntry] = ()
) -> ClusterStatus | None:
    """What a node says of the cluster now; None when none answers within a second."""
    try:
        with opener(where(cluster, nodes, deadline_s=1.0)) as session:
            return session.admin(GetStatus())
    except CliError:
        return None


def wait_until_ready(
    opener: Opener,
    cluster: ClusterFile,
    processes: Sequence[Process],
    timeout_s: float,
    is_cancelled: Callable[[], bool] = lambda: False,
) -> ClusterStatus | None:
    """Wait for all nodes and masters; the status then, or None when it is cancelled.

    Raises `CliError` when a node ends, with the end of its log, or when it takes too long."""
    deadline = time.monotonic() + timeout_s
    while not is_cancelled():
        for process in processes:
            if not process.running:
                tail = log_tail(process.log).strip().replace("\n", " | ")
                raise CliError(
                    f"node {process.entry.name} {process.ending()} ({process.log}): {tail}"
                )
        status = read_status(opener, cluster)
        if status is not None and status.is_ready:
            return status
        if time.monotonic() > deadline:
            logs = ", ".join(str(process.log) for process in processes)
            raise CliError(
                f"the nodes run, but not every shard has a master after {timeout_s:.0f} s; see "
                f"{logs}"
            )
        time.sleep(_POLL_S)
    return None
