"""A cluster of real node processes on loopback, for tests."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from click.testing import CliRunner, Result

from raftmail.client import SyncClient
from raftmail.mail.program_addresses import PROTOCOLS, ProgramAddresses
from raftmail.net.tls import client_context
from raftmail.node.bootstrap import NewCluster, NodePlan, make_cluster
from raftmail.storage.kv import LmdbReader
from raftmail_cli import clusterfile
from raftmail_cli.clusterfile import NodeEntry
from raftmail_cli.main import main

WAIT_S = 60.0
"""How long anything is waited for on a slow machine; nothing should take as long."""


_RANDOM = random.SystemRandom()

_PORTS = range(10_000, 32_000)
"""Those that the kernel gives to no outgoing connection."""


def own_ports() -> range:
    """The share of this process of parallel tests: another must not take a port between the moment
    that it is found free and the start of who is to listen there."""
    count = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    each = len(_PORTS) // count
    return _PORTS[number * each : (number + 1) * each]


def free_ports(count: int) -> list[int]:
    """Different ports that nobody listened on a moment ago, and that nobody else takes before they
    are used."""
    own = own_ports()
    ports: list[int] = []
    with ExitStack() as stack:
        while len(ports) < count:
            port = _RANDOM.choice(own)
            held = stack.enter_context(socket.socket())
            try:
                held.bind(("127.0.0.1", port))
            except OSError:
                continue
            ports.append(port)
    return ports


def wait_for(what: str, condition: Callable[[], Any], timeout_s: float = WAIT_S) -> Any:
    """The condition's first true value. Fails naming `what`."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError(f"waited {timeout_s:.0f} s in vain for: {what}")


def client_of(made: NewCluster, *addresses: str) -> SyncClient:
    """A client with the cluster's token."""
    return SyncClient(addresses, token=made.token_file.read_text().strip(), ca=made.ca)


def connect_to(made: NewCluster, address: str, *, auth: bool = True) -> ssl.SSLSocket:
    """See `Cluster.connection`."""
    host, port = address.split(":")
    plain = socket.create_connection((host, int(port)), timeout=30)
    connection = client_context(made.ca).wrap_socket(plain)
    _read_line(connection)
    if auth:
        connection.sendall(b"a AUTH TOKEN %b\r\n" % made.token_file.read_bytes().strip())
        assert _read_line(connection) == b"a OK\r\n"
    return connection


def _read_line(connection: ssl.SSLSocket) -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        got = connection.recv(1)
        assert got, line
        line += got
    return line


class Cluster:
    """Processes by node name. As a context manager it ends them all, by pid."""

    def __init__(
        self,
        folder: Path,
        nodes: int = 3,
        shards: int = 1,
        config: str = "",
        replicas: int = 3,
        programs: bool = False,
    ) -> None:
        """`config` is added to every node's configuration. With `programs` they listen for mail
        programs, too."""
        kinds = 3 + (len(PROTOCOLS) if programs else 0)
        addresses = [f"127.0.0.1:{port}" for port in free_ports(kinds * nodes)]
        self.plans = []
        for i in range(nodes):
            peer, client, lmtp, *rest = addresses[kinds * i : kinds * (i + 1)]
            plan = NodePlan(f"n{i + 1}", peer, client, lmtp, programs=ProgramAddresses(*rest))
            self.plans.append(plan)
        self.made = make_cluster(
            folder, self.plans, shards=shards, replicas=replicas, now=datetime.now(UTC)
        )
        self.folders = {p.name: f for p, f in zip(self.plans, self.made.folders, strict=True)}
        for home in self.made.folders:
            with (home / "node.toml").open("a") as file:
                file.write(config)
        self.clients = {p.name: p.client for p in self.plans}
        self.lmtp = {p.name: p.lmtp for p in self.plans}
        self.programs = {p.name: p.programs for p in self.plans}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.file = folder / "cluster.json"
        entries = [NodeEntry(p.name, p.peer, p.client, p.lmtp, p.programs) for p in self.plans]
        clusterfile.save(self.file, self.made.id, Path("ca/ca.pem"), Path("ca/token"), entries)

    def __enter__(self) -> Self:
        for name in self.folders:
            self.start(name)
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes.values():
            process.send_signal(signal.SIGCONT)
            process.kill()
        for process in self.processes.values():
            process.wait()

    def run(self, *arguments: str) -> Result:
        """Run a command of the command line against this cluster, in this process."""
        return CliRunner().invoke(main, ["--cluster", str(self.file), *arguments])

    def ask(self, *arguments: str) -> Any:
        """What a command that must succeed says, as JSON."""
        result = self.run(*arguments, "-o", "json")
        assert result.exit_code == 0, f"{arguments}: {result.output}"
        return json.loads(result.stdout)

    def invite(self, name: str, *options: str) -> str:
        """A token for a new node, for which there are free ports."""
        peer, client, lmtp = (f"127.0.0.1:{port}" for port in free_ports(3))
        made = self.ask(
            "member", "invite", f"{name}={peer}", "--client", client, "--lmtp", lmtp,
            *(word for protocol in PROTOCOLS for word in (f"--{protocol}", "")), *options
        )  # fmt: skip
        self.clients[name], self.lmtp[name] = client, lmtp
        token: str = made["token"]
        return token

    def join(self, name: str) -> None:
        """Have a new node join, and start it."""
        folder = self.file.parent / name
        result = self.run("node", "join", self.invite(name), str(folder), "--no-run")
        assert result.exit_code == 0, result.output
        self.folders[name] = folder
        self.start(name)

    def start(self, name: str, *options: str) -> subprocess.Popen[bytes]:
        """Start a node; its output is added to node.log in its folder."""
        with (self.folders[name] / "node.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "raftmail_cli", "node", *options, str(self.folders[name])],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )
        self.processes[name] = process
        return process

    def start_other(self, name: str, *options: str) -> int:
        """Start a second process on a node's folder, which is expected to refuse; its exit code."""
        running = self.processes[name]
        try:
            return self.start(name, *options).wait(WAIT_S)
        finally:
            self.processes[name] = running

    def kill(self, name: str) -> None:
        self.processes[name].kill()
        self.processes[name].wait()

    def terminate(self, name: str) -> int:
        self.processes[name].terminate()
        return self.processes[name].wait(WAIT_S)

    def log(self, name: str) -> str:
        return (self.folders[name] / "node.log").read_text(errors="replace")

    def client(self, *names: str) -> SyncClient:
        """A client of these nodes (all, when none is named)."""
        return client_of(self.made, *[self.clients[n] for n in names or self.clients])

    def connection(self, name: str, *, auth: bool = True) -> ssl.SSLSocket:
        """A connection over TLS to a node's client port, whose greeting was read, and with `auth`
        also the answer to AUTH."""
        return connect_to(self.made, self.clients[name], auth=auth)

    def status(self, name: str | None = None) -> Any:
        """What a node that runs says of the cluster; None while none answers."""
        names = [name] if name else [n for n, p in self.processes.items() if p.poll() is None]
        for n in names:
            try:
                with self.client(n) as client:
                    return client.admin("status")
            except Exception:  # it may be starting, or dying
                continue
        return None

    def master(self, shard: int = 1) -> str:
        """The node that leads a shard and runs, once there is one."""

        def find() -> str | None:
            status = self.status()
            if status is None:
                return None
            name = status["shards"][shard]["master"]
            return name if name and self.processes[name].poll() is None else None

        found: str = wait_for(f"a master of shard {shard}", find)
        return found

    def placed_bodies(self, name: str, shard: int = 1) -> int:
        """How many bodies a node's index has the place of: those are in the blob store, and not in
        the journal alone."""
        folder = self.folders[name] / "data" / "shards" / str(shard) / "index"
        reader = LmdbReader(folder, ("places",))
        try:
            snapshot = reader.snapshot()
            count = snapshot.table("places").count()
            snapshot.close()
        finally:
            reader.close()
        return count
