"""The nodes of a run: real processes on 127.0.0.1, or each in a network of its own, started, hurt
and ended by pid."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from raftmail.admin.api.calls import GetNodeStatus
from raftmail.admin.api.status import OK, NodeStatus
from raftmail.client import Client, ClientError
from raftmail.mail.program_addresses import PROTOCOLS
from raftmail_chaos.disks import FOLDER, NodeDisk
from raftmail_chaos.errors import ChaosError
from raftmail_chaos.leash import leashed
from raftmail_chaos.networks import Networks

MAIL_SHARD = 1
STOP_S = 15.0
STATUS_S = 1.0
_POLL_S = 0.1
_INIT_S = 60.0
_LOG_BYTES = 2000
_BLOCK = 200
"""Ports are taken in blocks of so many, below those that the system gives to clients: there a
client could be given the port of a node that is down."""


LOOPBACK = "127.0.0.1"


class Ports:
    """Free ports of this machine's, or namespace's, `host`, all from one block, which is nobody
    else's while this object is there: also not that of a run beside this one while a node is
    down."""

    def __init__(self, count: int, host: str = LOOPBACK) -> None:
        """Raises `ChaosError`."""
        self.host = host
        blocks = list(range(10_000, 32_000, _BLOCK))
        random.shuffle(blocks)
        for block in blocks:
            claim = _listening(host, block)
            if claim is None:
                continue
            weakref.finalize(self, claim.close)
            ports = range(block + 1, block + _BLOCK)
            self._free = [port for port in ports if _is_free(host, port)]
            if len(self._free) >= count:
                return
        raise ChaosError(f"there are no {count} free ports between 10000 and 32000 on {host}")

    def take(self) -> str:
        """An address nobody else is given."""
        return f"{self.host}:{self._free.pop(0)}"


def _listening(host: str, port: int) -> socket.socket | None:
    """A socket that listens there; None when the port is taken."""
    probe = socket.socket()
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        probe.bind((host, port))
        probe.listen()
    except OSError:
        probe.close()
        return None
    return probe


def _is_free(host: str, port: int) -> bool:
    probe = _listening(host, port)
    if probe is not None:
        probe.close()
    return probe is not None


@dataclass(slots=True)
class NodeProcess:
    """One node. Whoever does something to its process holds `lock` until that is undone."""

    name: str
    folder: Path
    peer: str
    client: str
    lmtp: str
    imaps: str
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    process: subprocess.Popen[bytes] | None = None
    status: NodeStatus | None = None
    """Its own view of itself at the last look; None when it did not answer."""
    started_at: float = 0.0
    damaged: bool = False
    """A body on its disk was damaged, and is not restored."""
    network: str = ""
    """The network namespace that it runs in; "" for this process's."""
    disk: NodeDisk | None = None
    """None when it shares this machine's."""
    memory_peak_bytes: int = 0
    """The most that any process of it had resident so far, as the system counts it."""
    memory_budget_bytes: int = 0
    """What it says that it needs at most; 0: it did not say."""
    is_gone: bool = False
    """It was removed from the cluster, and must not be started again."""

    @property
    def programs(self) -> list[tuple[str, str]]:
        """Options of `raftmail` for where mail programs come in: by IMAP over TLS alone."""
        given = {"imaps": self.imaps}
        return [(f"--{protocol}", given.get(protocol, "")) for protocol in PROTOCOLS]

    @property
    def log(self) -> Path:
        return self.folder / "node.log"

    @property
    def data(self) -> Path:
        return self.folder / _DATA[self.disk is not None]

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def masters(self) -> frozenset[int]:
        """The shards that it said it leads."""
        return frozenset() if self.status is None else self.status.led

    def note_memory(self) -> None:
        """Take in the peak of its process, and the budget that its status tells."""
        if self.process is not None:
            try:
                text = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
            except OSError:
                return
            for line in text.splitlines():
                if line.startswith("VmHWM:"):
                    peak = int(line.split()[1]) << 10
                    self.memory_peak_bytes = max(self.memory_peak_bytes, peak)
        if self.status is not None:
            self.memory_budget_bytes = self.status.node.memory_budget_bytes

    def give_disk(self, size_bytes: int) -> None:
        """Make it a disk of its own. Before it is started. Raises `ChaosError`."""
        path = self.folder / "node.toml"
        text = path.read_text(encoding="utf-8")
        disk = NodeDisk(self.folder)
        disk.make(size_bytes)
        before, after = (f'data = "{data}"' for data in _DATA)
        path.write_text(text.replace(before, after), encoding="utf-8")
        begun = self.data  # by a node that has joined
        self.disk = disk
        if begun.exists():
            shutil.copytree(begun, self.data)
            disk.sync()  # the node believes that it did
            shutil.rmtree(begun)

    def start(self, *options: str) -> None:
        """Start the process; what it says goes to the end of its log. Nothing is done for a node
        that is gone."""
        if self.is_gone:
            return
        argv = [sys.executable, "-m", "raftmail_cli", "node", *options, str(self.folder)]
        argv = leashed(argv, self.network)
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self.started_at = time.monotonic()

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone. Harmless when it is not there."""
        process, self.process, self.status = self.process, None, None
        if process is not None:
            process.kill()
            process.wait()

    async def stop(self) -> str:
        """SIGTERM, and SIGKILL when that takes too long: what was not as it should be, or ""."""
        # Before it answers it may not have come so far as to take SIGTERM for more than a signal.
        fine = (0,) if self.status is not None else (0, -signal.SIGTERM)
        process, self.process, self.status = self.process, None, None
        if process is None:
            return ""
        if process.poll() is None:
            process.terminate()
        deadline = time.monotonic() + STOP_S
        try:
            while process.poll() is None and time.monotonic() < deadline:  # noqa: ASYNC110
                await asyncio.sleep(_POLL_S)
            if process.poll() is None:
                return f"node {self.name} did not stop within {STOP_S:.0f} s after SIGTERM"
            if process.returncode not in fine:
                end = self.log_tail()[-800:]
                return f"node {self.name} stopped with status {process.returncode}: {end}"
            return ""
        finally:
            process.kill()
            process.wait()

    def signal(self, number: signal.Signals) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    def log_tail(self) -> str:
        """The end of what it said."""
        try:
            with open(self.log, "rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - _LOG_BYTES))
                return file.read().decode("utf-8", "replace").strip()
        except OSError:
            return ""

    def tracebacks(self) -> list[str]:
        """The errors that it did not foresee, in all its log."""
        text = self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""
        return [part[:1500] for part in text.split("Traceback (most recent call last):\n")[1:]]

    def log_size(self) -> int:
        return self.log.stat().st_size if self.log.exists() else 0

    def log_since(self, offset: int) -> str:
        with open(self.log, "rb") as file:
            file.seek(offset)
            return file.read().decode("utf-8", "replace").strip()


_LOG_SECTION = "\n[log]\nbytes_max = 1048576\n"
"""The shortest log that a node may have, so that logs are cut, and replicas brought back without
them, within a run."""

_LAG_MAX = 16
"""Entries that a replica may not have applied yet that counts as whole."""

_DATA = ("data", f"{FOLDER}/data")
"""Where a node keeps its data: without and with a disk of its own."""

_PORTS = (7000, 7001, 7002, 7003)
"""Of a node in a network of its own: for peers, clients, LMTP, IMAP over TLS."""

NODE_PORTS = len(_PORTS)


def _addresses(name: str, ports: Ports, networks: Networks | None) -> tuple[str, str, str, str]:
    if networks is None:
        return ports.take(), ports.take(), ports.take(), ports.take()
    host = networks.add(name)
    peer, client, lmtp, imaps = (f"{host}:{port}" for port in _PORTS)
    return peer, client, lmtp, imaps


@dataclass(slots=True, repr=False)
class ChaosCluster:
    """All nodes of a run."""

    folder: Path
    nodes: dict[str, NodeProcess]
    disk_bytes: int = 0
    copies: int = 3
    """How many replicas the mail shard has."""
    spares: list[NodeProcess] = field(default_factory=list)
    """Nodes that have addresses, and are no members yet."""
    clients: dict[str, Client] = field(default_factory=dict)
    ways: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """Where node `i` dials node `j`; elsewhere it dials where the cluster says."""

    @classmethod
    def make(
        cls,
        folder: Path,
        count: int,
        ports: Ports,
        networks: Networks | None = None,
        disk_bytes: int = 0,
        spares: int = 0,
    ) -> ChaosCluster:
        """Make the nodes' folders with `raftmail init`, and think of `spares` more nodes. With
        `networks` each gets a network of its own, with `disk_bytes` a disk of that size. To be
        furnished before they are started. Raises `ChaosError`."""
        all_nodes = []
        for at in range(1, count + spares + 1):
            name = f"n{at}"
            node = NodeProcess(name, folder / name, *_addresses(name, ports, networks))
            if networks is not None:
                node.network = networks.path(name)
            all_nodes.append(node)
        nodes = {node.name: node for node in all_nodes[:count]}
        argv = [sys.executable, "-m", "raftmail_cli", "init", str(folder), "-o", "json"]
        argv += ["--shards", "1", "--replicas", str(count)]
        for node in nodes.values():
            for option, address in (
                ("--node", node.peer),
                ("--client", node.client),
                ("--lmtp", node.lmtp),
                *node.programs,
            ):
                argv += [option, f"{node.name}={address}"]
        try:
            made = subprocess.run(
                argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_INIT_S
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ChaosError(f"raftmail init: {error}") from None
        if made.returncode != 0:
            raise ChaosError(f"raftmail init: {made.stderr.strip()}")
        return cls(folder, nodes, disk_bytes, count, all_nodes[count:])

    def furnish(self, ways: Mapping[tuple[str, str], str]) -> None:
        """Give the nodes what every node of a run has, beyond what raftmail gives it. Raises
        `ChaosError`."""
        self.ways = ways
        for node in self.nodes.values():
            self._furnish(node)

    def _furnish(self, node: NodeProcess) -> None:
        dial = [f'{j} = "{address}"\n' for (i, j), address in self.ways.items() if i == node.name]
        with open(node.folder / "node.toml", "a", encoding="utf-8") as config:
            config.write(_LOG_SECTION)
            if dial:
                config.write(f"\n[dial]\n{''.join(dial)}")
        if self.disk_bytes:
            node.give_disk(self.disk_bytes)

    def admit(self, node: NodeProcess) -> None:
        """Start a node that has become a member. Raises `ChaosError`."""
        self._furnish(node)
        self.clients[node.name] = self.client(node, STATUS_S)
        self.nodes[node.name] = node
        node.start()

    async def dismiss(self, node: NodeProcess) -> None:
        """End a node that is a member no more."""
        node.is_gone = True
        node.kill()
        self.nodes.pop(node.name, None)
        client = self.clients.pop(node.name, None)
        if client is not None:
            await client.close()

    @property
    def ca(self) -> Path:
        """Whom clients trust."""
        return self.folder / "ca" / "ca.pem"

    @property
    def token(self) -> str:
        """What clients have to know."""
        return (self.folder / "ca" / "token").read_text(encoding="ascii").strip()

    def client(self, node: NodeProcess, timeout_s: float) -> Client:
        """A client of one node."""
        return Client(node.client, timeout_s=timeout_s, ca=self.ca, token=self.token)

    @contextlib.contextmanager
    def asking(self) -> Iterator[None]:
        """While inside, the nodes can be asked for their status."""
        self.clients = {name: self.client(node, STATUS_S) for name, node in self.nodes.items()}
        try:
            yield
        finally:
            self.clients = {}

    async def close(self) -> None:
        """End the connections that status is asked over."""
        for client in self.clients.values():
            await client.close()

    async def look(self) -> None:
        """Ask every node how it is."""
        await asyncio.gather(*map(self._look, self.nodes.values()))

    async def _look(self, node: NodeProcess) -> None:
        process = node.process
        client = self.clients.get(node.name)
        if process is None or client is None:
            node.status = None
            return
        try:
            status = await client.operate(GetNodeStatus(), timeout_s=STATUS_S)
        except ClientError:
            status = None
        if node.process is process:
            node.status = status

    def master(self, shard: int = MAIL_SHARD) -> str | None:
        """The node that says it leads the shard, in the highest term if several do."""
        best, name = -1, None
        for node in self.nodes.values():
            if node.status is not None and shard in node.status.led:
                term = node.status.shards[shard].term
                if term > best:
                    best, name = term, node.name
        return name

    def can_lose(self, node: NodeProcess) -> bool:
        """Whether a majority of the mail shard's replicas is on other nodes and whole, by the last
        look.

        Else what this node loses, all of it or one body, may be the last copy of mail that was
        acknowledged by a majority. No store keeps that.
        """
        rows = [
            other.status.shards.get(MAIL_SHARD)
            for other in self.nodes.values()
            if other is not node and other.status is not None
        ]
        there = [row for row in rows if row is not None and row.state == OK]
        newest = max((row.commit_index for row in there), default=0)
        near = [row for row in there if row.applied_index >= newest - _LAG_MAX]
        return 2 * len(near) > self.copies

    @property
    def is_ready(self) -> bool:
        """Whether every node answers, every link is up and every shard has a master."""
        told = [node.status for node in self.nodes.values() if node.status is not None]
        led = frozenset().union(*[one.led for one in told])
        return len(told) == len(self.nodes) and all(
            all(one.node.links.values()) and one.shards.keys() <= led for one in told
        )

    async def wait_until_ready(self, timeout_s: float) -> str:
        """ "" once all is well, or what is not when the time is over."""
        deadline = time.monotonic() + timeout_s
        while True:
            await self.look()
            if self.is_ready:
                return ""
            for node in self.nodes.values():
                if node.process is not None and node.process.poll() is not None:
                    tail = node.log_tail().replace("\n", " | ")
                    return f"node {node.name} ended by itself ({node.log}): {tail}"
            if time.monotonic() > deadline:
                break
            await asyncio.sleep(_POLL_S)
        silent = [node.name for node in self.nodes.values() if node.status is None]
        links = [
            f"{node.name} has no link to {other}"
            for node in self.nodes.values()
            if node.status is not None
            for other, up in node.status.node.links.items()
            if not up
        ]
        said = [f"{name} does not answer" for name in silent] + links
        return f"{'; '.join(said) or 'not every shard has a master'} after {timeout_s:.0f} s"

    async def wait_until_apart(self, timeout_s: float) -> str:
        """ "" once no node has a link to another, or which has when the time is over."""
        deadline = time.monotonic() + timeout_s
        while True:
            await self.look()
            silent = [name for name, node in self.nodes.items() if node.status is None]
            up = [
                f"{node.name} has a link to {other}"
                for node in self.nodes.values()
                if node.status is not None
                for other, is_up in node.status.node.links.items()
                if is_up
            ]
            if not silent and not up:
                return ""
            if time.monotonic() > deadline:
                return "; ".join([*up, *[f"{name} does not answer" for name in silent]])
            await asyncio.sleep(_POLL_S)

    def kill_all(self) -> None:
        """End every process at once."""
        for node in self.nodes.values():
            node.kill()
