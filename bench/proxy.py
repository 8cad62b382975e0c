"""What the proxy costs: the same IMAP commands straight to the master, and through a proxy before
it, over TLS both times.

NOOP shows what a short answer waits longer, and FETCH of a large body what throughput is lost. The
proxy's own CPU time is read besides, which a busy machine changes little.
"""

from __future__ import annotations

import imaplib
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from socket import create_connection

from bench.cluster import Raftmail, free_base_port
from bench.report import BenchOptions, BenchReport, BenchTarget, Runs, main_of
from bench.runtime import BenchError
from raftmail.mail.endpoint import split_address

USER, PASSWORD = "anna@example.org", "bench"
BODY_BYTES = 8 << 20
LOST_PERCENT = 15.0
LATER_MS = 1.0
_START_S = 30.0
_SUBJECTS = ("straight", "through the proxy")


@contextmanager
def _proxy(cluster: Raftmail) -> Iterator[tuple[str, int]]:
    """A proxy before a cluster: its address with TLS, and the process. Raises BenchError."""
    folder = cluster.folder / "nodes"
    home = folder / cluster.names[0]
    address = f"127.0.0.1:{free_base_port(1)}"
    file = cluster.folder / "proxy.toml"
    file.write_text(
        f'[cluster]\nfile = "{folder / "cluster.json"}"\n[listen]\nimaps = "{address}"\n'
        f'[tls]\ncertificate = "{home / "tls/node.pem"}"\nkey = "{home / "tls/node.key"}"\n'
        "[nodes]\nproxy_protocol = false\nconnect_ms = 10000\n"
    )
    with (cluster.folder / "proxy.log").open("wb") as log:
        command = [sys.executable, "-m", "raftmail_cli", "proxy", str(file)]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        _wait_for(address)
        yield address, process.pid
    finally:
        process.terminate()
        process.wait()


def _wait_for(address: str) -> None:
    end = time.monotonic() + _START_S
    while time.monotonic() < end:
        with suppress(OSError), create_connection(split_address(address), timeout=1):
            return
        time.sleep(0.1)
    raise BenchError(f"no proxy listens on {address}")


def _cpu_s(pid: int) -> float:
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[11:13]
    return (int(user) + int(system)) / 100


def _figures(
    address: str, trust: ssl.SSLContext, pid: int, options: BenchOptions
) -> dict[str, float]:
    host, port = split_address(address)
    noops, fetches = options.count(2000, 300), options.count(30, 5)
    with imaplib.IMAP4_SSL(host, port, ssl_context=trust, timeout=120) as box:
        box.login(USER, PASSWORD)
        box.select("INBOX")
        took = []
        before_s = _cpu_s(pid)
        for _ in range(noops):
            begun = time.perf_counter()
            box.noop()
            took.append(time.perf_counter() - begun)
        noop_cpu_s = _cpu_s(pid) - before_s
        before_s, begun = _cpu_s(pid), time.perf_counter()
        for _ in range(fetches):
            row = box.fetch("1", "BODY.PEEK[]")[1][0]
            if not isinstance(row, tuple) or len(row[1]) < BODY_BYTES:
                raise BenchError("a body came short")
        fetch_s = time.perf_counter() - begun
        fetch_cpu_s = _cpu_s(pid) - before_s
    mib = fetches * BODY_BYTES / 2**20
    return {
        "noop_p50_ms": sorted(took)[noops // 2] * 1000,
        "noop_proxy_cpu_us": noop_cpu_s / noops * 1e6,
        "mib_per_s": mib / fetch_s,
        "fetch_proxy_cpu_ms_mib": fetch_cpu_s / mib * 1000,
    }


def measure(options: BenchOptions) -> BenchReport:
    """Medians of ``options.runs`` alternated runs on one cluster. Raises BenchError."""
    runs = Runs()
    with Raftmail(users=[USER], parent=options.parent) as cluster, _proxy(cluster) as (found, pid):
        with cluster.client(*cluster.names) as client:
            client.save(
                USER, "INBOX", b"Subject: large\r\n\r\n" + b"x" * 70 * (BODY_BYTES // 70 + 1)
            )
        trust = ssl.create_default_context(cafile=str(cluster.access.ca))
        trust.check_hostname = False
        straight = cluster.imaps_address_of(cluster.master_of())
        for _ in range(options.runs):
            for subject, address in zip(_SUBJECTS, (straight, found), strict=True):
                runs.add(subject, _figures(address, trust, pid, options))
    own, proxied = _SUBJECTS
    later_ms = runs.median(proxied, "noop_p50_ms") - runs.median(own, "noop_p50_ms")
    kept = runs.median(proxied, "mib_per_s") / runs.median(own, "mib_per_s")
    return BenchReport(
        "proxy",
        [runs.table()],
        [
            BenchTarget("NOOP later through the proxy, ms", later_ms, at_most=LATER_MS),
            BenchTarget("throughput lost, percent", (1 - kept) * 100, at_most=LOST_PERCENT),
        ],
    )


if __name__ == "__main__":
    sys.exit(main_of("proxy", measure, __doc__))
