"""A raftmail cluster of real processes on 127.0.0.1, for as long as a measurement takes."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from bench.access import Access
from bench.runtime import BenchError, session_cpu_s, stop_session
from raftmail.admin.api.arguments import write_arguments
from raftmail.admin.api.calls import Call, GetNodeStatus, GetStatus, TransferMaster, Verify, kind_of
from raftmail.admin.api.codec import BadAnswer, decode
from raftmail.admin.api.status import ClusterStatus
from raftmail.client import SyncClient
from raftmail.mail.endpoint import split_address
from raftmail.node.bootstrap import NodePlan, make_cluster, plan_loopback
from raftmail_cli import clusterfile
from raftmail_cli.clusterfile import NodeEntry

R = TypeVar("R")
ROOT = Path(__file__).resolve().parent.parent
START_S = 60.0
ANSWER_S = 60.0
COMMAND_S = 300.0
MAIL_SHARD = 1
_TRANSFERS_AT_ONCE = 16
_POLL_S = 0.05
_LOG_BYTES = 3000


class TextClient:
    """One blocking connection over the text protocol, for what is not measured."""

    def __init__(self, address: str, access: Access, timeout_s: float = ANSWER_S) -> None:
        """Raises OSError."""
        plain = socket.create_connection(split_address(address), timeout=timeout_s)
        self._socket = access.context().wrap_socket(plain)
        self._lines = self._socket.makefile("rb")
        self._lines.readline()  # the greeting
        self._socket.sendall(access.line())
        self._lines.readline()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._lines.close()
        self._socket.close()

    def ask(self, command: bytes) -> bytes:
        """The answer to one command: what follows OK, or the bytes of its literal.

        Raises BenchError with any other answer, OSError."""
        return self.ask_all([command])[0]

    def ask_all(self, commands: Sequence[bytes]) -> list[bytes]:
        """Send all at once; the answers in the order of the commands."""
        self._socket.sendall(b"".join(b"q%d %b\r\n" % item for item in enumerate(commands)))
        answers: dict[bytes, bytes] = {}
        while len(answers) < len(commands):
            line = self._lines.readline()
            if not line:
                raise ConnectionError("the node closed the connection")
            tag, _, rest = line.rstrip(b"\r\n").partition(b" ")
            if tag == b"*":
                continue
            if not rest.startswith(b"OK"):
                shown = commands[int(tag[1:])][:60]
                raise BenchError(f"{shown.decode()}: {rest.decode('utf-8', 'replace')}")
            answer = rest[3:]
            if answer.endswith(b"}"):
                answer = self._lines.read(int(answer[answer.rindex(b"{") + 1 : -1]))
                self._lines.readline()
            answers[tag] = answer
        return [answers[b"q%d" % at] for at in range(len(commands))]


class Raftmail:
    """A running cluster: ``with Raftmail(nodes=3, users=["ann@example.org"]) as c``.

    Entering waits until every node is up and every shard has a master. It raises BenchError with
    the end of the logs when that does not come about. ``parent`` is the folder to put everything in
    (default: the system's temporary folder) and decides which disk is measured. ``replicas`` is of
    each shard for mail; ``workers`` are the processes of a node. Leaving stops the nodes and
    removes the folder; a node that ended by itself meanwhile makes it raise BenchError.
    """

    def __init__(
        self,
        nodes: int = 3,
        users: Iterable[str] = (),
        shards: int = 1,
        parent: Path | None = None,
        *,
        replicas: int = 3,
        workers: int = 1,
        config: str = "",
    ) -> None:
        """`config` is added to every node's configuration."""
        self._config = config
        self.users = tuple(users)
        self._replicas = replicas
        self._workers = workers
        self._nodes = nodes
        self._shards = shards
        self._parent = parent
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        self.folder = Path(tempfile.mkdtemp(prefix="bench-raftmail-", dir=self._parent))
        try:
            self._base_port = free_base_port(self._nodes + 1)  # one may be added
            plans = plan_loopback(self._nodes, self._base_port, self._workers)
            made = make_cluster(
                self.folder / "nodes",
                plans,
                shards=self._shards,
                replicas=self._replicas,
                now=datetime.now(UTC),
            )
            self.access = Access(made.ca, made.token_file)
            entries = [NodeEntry(p.name, p.peer, p.client, p.lmtp, p.programs) for p in plans]
            known = made.folder / "cluster.json"
            clusterfile.save(known, made.id, Path("ca/ca.pem"), Path("ca/token"), entries)
            self._by_name: dict[str, NodePlan] = {plan.name: plan for plan in plans}
            for name in self._by_name:
                with (self.folder / "nodes" / name / "node.toml").open("a") as file:
                    file.write(self._config)
            for name in self._by_name:
                self._start(name)
            self.wait_until_ready()
            with TextClient(self.client_addresses[0], self.access) as client:
                client.ask_all([f"USER ADD {user} bench".encode() for user in self.users])
            self._wait_until_users_are_everywhere()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        ended = self._ended_by_itself()
        self._stop()
        if ended and (kind is None or issubclass(kind, BenchError)):
            raise BenchError(ended)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._by_name)

    @property
    def client_addresses(self) -> tuple[str, ...]:
        """``host:port`` of the text protocol, in the order of ``names``; ``access`` lets clients
        in."""
        return tuple(plan.client for plan in self._by_name.values())

    @property
    def lmtp_addresses(self) -> tuple[str, ...]:
        return tuple(plan.lmtp for plan in self._by_name.values())

    def client_address_of(self, name: str) -> str:
        return self._by_name[name].client

    @property
    def imap_addresses(self) -> tuple[str, ...]:
        """Where the nodes serve IMAP, in the order of ``names``."""
        return tuple(plan.programs.imap for plan in self._by_name.values())

    def imaps_address_of(self, name: str) -> str:
        """Where a node serves IMAP from the first byte over TLS."""
        return self._by_name[name].programs.imaps

    def lmtp_address_of(self, name: str) -> str:
        return self._by_name[name].lmtp

    def pid_of(self, name: str) -> int:
        return self._processes[name].pid

    def data_of(self, name: str) -> Path:
        """The folder with what the node keeps on disk."""
        return self.folder / "nodes" / name / "data"

    def client(self, *names: str) -> SyncClient:
        """A client of these nodes."""
        addresses = [self._by_name[name].client for name in names]
        token = self.access.token_file.read_text().strip()
        return SyncClient(addresses, token=token, ca=self.access.ca)

    # What the nodes say

    def admin(self, call: Call[R], node: str | None = None) -> R:
        """What is answered to a call, asked of a node or of any that answers.

        Raises BenchError when none does."""
        last: Exception | None = None
        kind = kind_of(call)
        named = [f" {name}={value}" for name, value in write_arguments(call).items()]
        request = f"ADMIN {kind.name}{''.join(named)}".encode()
        for name in [node] if node else [n for n in self.names if self._runs(n)]:
            try:
                with TextClient(self._by_name[name].client, self.access) as client:
                    found: R = decode(kind.answer, json.loads(client.ask(request)))
                    return found
            except (OSError, BenchError, BadAnswer) as error:
                last = error
        raise BenchError(f"ADMIN {kind.name}: no node answers: {last}")

    def master_of(self, shard: int = MAIL_SHARD) -> str:
        """The node that leads the shard; waits for one if there is none just now."""
        deadline_s = time.monotonic() + START_S
        while time.monotonic() < deadline_s:
            with contextlib.suppress(BenchError):
                found = self.admin(GetStatus()).shard(shard)
                if found is not None and found.master:
                    return found.master
            time.sleep(_POLL_S)
        raise BenchError(f"shard {shard} has no master after {START_S:.0f} s:\n{self.logs()}")

    def wait_until_ready(self, timeout_s: float = START_S, lag_max: int = 0) -> None:
        """Until all nodes are up and every shard has a master.

        And every replica has applied all but ``lag_max`` entries of what the master had written
        when it was asked.
        """
        deadline_s = time.monotonic() + timeout_s
        status: ClusterStatus | None = None
        while time.monotonic() < deadline_s:
            if ended := self._ended_by_itself():
                raise BenchError(ended)
            with contextlib.suppress(BenchError):
                status = self.admin(GetStatus())
                if _is_ready(status, lag_max):
                    return
            time.sleep(_POLL_S)
        raise BenchError(f"not ready after {timeout_s:.0f} s: {status}\n{self.logs()}")

    def messages_of(self, users: Iterable[str], mailbox: str = "INBOX") -> int:
        """How many messages the mailboxes of users hold together; they must exist."""
        return sum(self.messages_of_each(users, mailbox))

    def messages_of_each(self, users: Iterable[str], mailbox: str = "INBOX") -> list[int]:
        """How many messages the mailbox of each user holds; it must exist."""
        with TextClient(self.client_addresses[0], self.access) as client:
            asked = [f"MAILBOX {at} {user} {mailbox}".encode() for at, user in enumerate(users, 1)]
            answers = client.ask_all(asked)
        counts = [re.search(rb"\bmessages=([0-9]+)", answer) for answer in answers]
        return [int(count[1]) if count else 0 for count in counts]

    def lead_all(self, name: str) -> None:
        """Have a node lead every shard that it has a replica of. Those that it leads already are
        asked for as well, so that the root's master, which balances masters, leaves them for a
        while. Raises BenchError."""
        wanted = [
            one.shard
            for one in self.admin(GetStatus()).shards
            if any(row.node == name for row in one.replicas)
        ]
        with ThreadPoolExecutor(_TRANSFERS_AT_ONCE) as threads:
            asked = [TransferMaster(shard, name) for shard in wanted]
            list(threads.map(self.admin, asked, [name] * len(asked)))

    def led_by(self, name: str) -> frozenset[int]:
        """The shards that a node leads by its own word. Raises BenchError."""
        return self.admin(GetNodeStatus(), name).led

    def is_equal(self) -> bool:
        """Whether all replicas prove to be equal (``raftmail verify``)."""
        return self.admin(Verify()).equal

    def logs(self) -> str:
        """The end of every node's log."""
        return "\n".join(f"--- {name}\n{self._log_tail(name)}" for name in self.names)

    # What is done to the nodes

    def kill(self, name: str) -> None:
        """SIGKILL, and wait until it is gone."""
        process = self._processes.pop(name)
        process.kill()
        process.wait()

    def stop(self, name: str) -> None:
        """SIGTERM, and wait until it is gone."""
        stop_session(self._processes.pop(name))

    def raftmail(self, *arguments: str) -> str:
        """What a command of the command line says to this cluster. Raises BenchError when it
        fails."""
        where = str(self.folder / "nodes" / "cluster.json")
        ended = subprocess.run(
            [sys.executable, "-m", "raftmail_cli", "--cluster", where, *arguments],
            capture_output=True,
            env=_environment(),
            timeout=COMMAND_S,
            check=False,
        )
        if ended.returncode:
            said = (ended.stderr or ended.stdout).decode(errors="replace").strip()
            raise BenchError(f"raftmail {' '.join(arguments[:2])}: {said}\n{self.logs()}")
        return ended.stdout.decode()

    def add_node(self) -> str:
        """Invite one more node, have it join, and wait until it answers. Returns its name."""
        at = len(self._by_name)
        peer, client, lmtp = (f"127.0.0.1:{self._base_port + 10 * at + kind}" for kind in range(3))
        plan = NodePlan(f"n{at + 1}", peer, client, lmtp)
        invited = self.raftmail("member", "invite", f"{plan.name}={peer}", "-o", "json")
        folder = self.folder / "nodes" / plan.name
        self.raftmail("node", "join", json.loads(invited)["token"], str(folder), "--no-run")
        self._by_name[plan.name] = plan
        self._start(plan.name)
        deadline_s = time.monotonic() + START_S
        while time.monotonic() < deadline_s:
            with contextlib.suppress(BenchError):
                self.admin(GetNodeStatus(), plan.name)
                return plan.name
            time.sleep(_POLL_S)
        raise BenchError(f"{plan.name} does not answer after {START_S:.0f} s:\n{self.logs()}")

    def restart(self, name: str) -> None:
        """Start a node that was killed or stopped; ``wait_until_ready`` waits for it."""
        self._start(name)

    # What the nodes cost

    def cpu_s(self, name: str | None = None) -> float:
        """CPU seconds so far of a node, or of all that run; nodes that were killed are not in
        it."""
        names = [name] if name else list(self._processes)
        return sum(session_cpu_s(self._processes[one].pid) for one in names)

    def rss_bytes(self, name: str) -> tuple[int, int]:
        """Resident bytes of a node: without, and of, the mapped index (LMDB's data.mdb).

        Pages of the index are the system's file cache, seen through the map."""
        return resident_bytes(Path(f"/proc/{self.pid_of(name)}/smaps").read_text())

    def index_bytes(self, name: str) -> int:
        """Bytes that the indexes of a node take on its disk."""
        return sum(path.stat().st_blocks * 512 for path in self.data_of(name).rglob("data.mdb"))

    def _start(self, name: str) -> None:
        folder = self.folder / "nodes" / name
        with (folder / "node.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [sys.executable, "-m", "raftmail_cli", "node", str(folder)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=_environment(),
                start_new_session=True,
            )

    def _runs(self, name: str) -> bool:
        process = self._processes.get(name)
        return process is not None and process.poll() is None

    def _wait_until_users_are_everywhere(self) -> None:
        for address in self.client_addresses if self.users else ():
            with TextClient(address, self.access) as client:
                client.ask(f"USER GET {self.users[-1]}".encode())

    def _ended_by_itself(self) -> str:
        for name, process in self._processes.items():
            if process.poll() is not None:
                tail = self._log_tail(name)
                return f"node {name} ended with status {process.returncode}:\n{tail}"
        return ""

    def _log_tail(self, name: str) -> str:
        log = self.folder / "nodes" / name / "node.log"
        text = log.read_text(errors="replace") if log.exists() else ""
        return text[-_LOG_BYTES:]

    def _stop(self) -> None:
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            stop_session(process)
        self._processes.clear()
        shutil.rmtree(self.folder, ignore_errors=True)


def resident_bytes(smaps: str) -> tuple[int, int]:
    """Of the text of /proc/PID/smaps: what is resident without, and of, maps of data.mdb."""
    outside = index = 0
    in_index = False
    for line in smaps.splitlines():
        if line.startswith("Rss:"):
            kib = int(line.split()[1])
            if in_index:
                index += kib
            else:
                outside += kib
        elif not line.partition(" ")[0].endswith(":"):  # an address range: another mapping begins
            in_index = line.endswith("/data.mdb")
    return outside * 1024, index * 1024


def _is_ready(status: ClusterStatus, lag_max: int) -> bool:
    return status.is_ready and all(
        row.lag is not None and row.lag <= lag_max
        for shard in status.shards
        for row in shard.replicas
    )


def _environment() -> dict[str, str]:
    before = os.environ.get("PYTHONPATH", "")
    path = os.pathsep.join(filter(None, (str(ROOT), str(ROOT / "cli"), before)))
    return {**os.environ, "PYTHONPATH": path}


def free_base_port(nodes: int) -> int:
    """Below the ports that the system gives to clients: there a node that redials one that is down
    could be given that very port, and find itself."""
    for base_port in _ports_in_random_order():
        addresses = [
            split_address(address)
            for plan in plan_loopback(nodes, base_port)
            for address in plan.addresses
        ]
        if all(map(_is_free, addresses)):
            return base_port
    raise BenchError("no free ports between 10000 and 32000 on 127.0.0.1")


def _ports_in_random_order() -> Iterator[int]:
    ports = list(range(10_000, 32_000, 100))
    random.shuffle(ports)
    return iter(ports)


def _is_free(address: tuple[str, int]) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError:
            return False
        return True
