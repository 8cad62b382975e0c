"""Three etcd nodes on 127.0.0.1, with etcd's own defaults.

etcd's log is synced before a put is acknowledged, on a majority, as raftmail's is. The load comes
over the JSON gateway, which costs etcd more CPU than gRPC would: the figure is what an HTTP client
gets, not the most that etcd can do.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.peers.etcd_load import PutPlan, run_puts
from bench.runtime import (
    BenchError,
    CpuMeter,
    free_ports,
    require_program,
    session_cpu_s,
    stop_session,
)
from bench.stats import Cell, describe_machine, format_table, medians

NODES = 3
START_S = 20.0


class Etcd:
    """A running cluster: ``with Etcd() as e: e.addresses, e.leader_address``.

    ``parent`` is the folder to put everything in (default: the system's temporary folder) and
    decides which disk is measured. Entering raises BenchError when etcd is not installed or does
    not come up; the nodes' log is then part of the text.
    """

    def __init__(self, parent: Path | None = None) -> None:
        self._parent = parent

    def __enter__(self) -> Self:
        program = require_program("etcd", "etcd-server")
        self._folder = Path(tempfile.mkdtemp(prefix="bench-etcd-", dir=self._parent))
        self._processes: list[subprocess.Popen[bytes]] = []
        ports = free_ports(2 * NODES)
        self.addresses = tuple(f"127.0.0.1:{port}" for port in ports[:NODES])
        peers = [f"http://127.0.0.1:{port}" for port in ports[NODES:]]
        cluster = ",".join(f"n{number}={peer}" for number, peer in enumerate(peers))
        try:
            for number, peer in enumerate(peers):
                self._processes.append(self._start(program, number, peer, cluster))
            self.leader_address = self._wait_for_leader()
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
        self._stop()

    def cpu_s(self) -> float:
        """CPU seconds that the three nodes have used so far."""
        return sum(session_cpu_s(process.pid) for process in self._processes)

    def _start(
        self, program: Path, number: int, peer: str, cluster: str
    ) -> subprocess.Popen[bytes]:
        client = f"http://{self.addresses[number]}"
        command = [str(program), "--name", f"n{number}"]
        command += ["--data-dir", str(self._folder / f"n{number}")]
        command += ["--listen-client-urls", client, "--advertise-client-urls", client]
        command += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]
        command += ["--initial-cluster", cluster, "--initial-cluster-state", "new"]
        command += ["--initial-cluster-token", "bench", "--logger", "zap", "--log-level", "warn"]
        with (self._folder / "etcd.log").open("ab") as log:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _wait_for_leader(self) -> str:
        """The address of the node that all three call their leader."""
        deadline_s = time.monotonic() + START_S
        while time.monotonic() < deadline_s:
            if any(process.poll() is not None for process in self._processes):
                break
            try:
                statuses = [_status(address) for address in self.addresses]
            except OSError:
                time.sleep(0.1)
                continue
            leaders = {leader for _, leader in statuses}
            if len(leaders) == 1:
                for address, (member, leader) in zip(self.addresses, statuses, strict=True):
                    if member == leader:
                        return address
            time.sleep(0.1)
        log = (self._folder / "etcd.log").read_text(errors="replace")
        raise BenchError(f"etcd had no leader within {START_S:.0f} s:\n{log[-4000:]}")

    def _stop(self) -> None:
        for process in self._processes:
            # Asked nicely, a leader looks for a successor for 7 s among nodes that also leave.
            process.kill()
        for process in self._processes:
            stop_session(process)
        shutil.rmtree(self._folder, ignore_errors=True)


def _status(address: str) -> tuple[str, str]:
    """Member id of the node and of the leader it knows; OSError when it does not answer yet."""
    request = urllib.request.Request(
        f"http://{address}/v3/maintenance/status", data=b"{}", method="POST"
    )
    with urllib.request.urlopen(request, timeout=2.0) as answer:
        status = json.load(answer)
    return status["header"]["member_id"], status.get("leader", "")


def measure(
    connections: int, seconds: float, runs: int, to_leader: bool = True, parent: Path | None = None
) -> dict[str, Cell]:
    """Medians of ``runs`` runs, each on a fresh cluster, with its CPU per put beside them."""
    figures: list[dict[str, float]] = []
    for _ in range(runs):
        with Etcd(parent) as etcd:
            addresses = (etcd.leader_address,) if to_leader else etcd.addresses
            meter = CpuMeter(etcd.cpu_s)
            result = run_puts(PutPlan(addresses, connections, seconds))
            cpu = meter.read()
            figures.append(
                {
                    **result.figures(),
                    "server_cpu_us": cpu.server_s / result.accepted_total * 1e6,
                    "other_cores": cpu.other_cores,
                }
            )
    rates = [run["per_s"] for run in figures]
    return {
        "to": "leader" if to_leader else "all nodes",
        "connections": connections,
        **medians(figures),
        "lowest_per_s": min(rates),
        "highest_per_s": max(rates),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Print etcd's figures for puts to the leader and to all nodes in turn."""
    parser = argparse.ArgumentParser(prog="bench.peers.etcd", description=__doc__)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--connections", type=int, default=128)
    given = parser.parse_args(arguments)
    try:
        rows = [
            measure(given.connections, given.seconds, given.runs, to_leader)
            for to_leader in (True, False)
        ]
    except BenchError as error:
        print(f"etcd: {error}", file=sys.stderr)
        return 1
    print(describe_machine(Path(tempfile.gettempdir())).line())
    print(format_table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
