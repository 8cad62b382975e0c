"""IMAP: three nodes, as `raftmail init` makes them, beside one Dovecot without a replica.

The same clients do the same to both, in turns. Clients of raftmail are dealt to all nodes, so most
of them talk to a node that does not lead. Figures of raftmail alone follow: SELECT of a mailbox of
a million messages, NOOP while others fetch, and what sessions cost that do nothing.

Without Dovecot (Debian's packages dovecot-imapd and dovecot-lmtpd) raftmail is measured alone.
"""

from __future__ import annotations

import multiprocessing
import ssl
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from bench.cluster import Raftmail
from bench.imap_client import BenchImapClient
from bench.imap_mail import make_message
from bench.million import grow
from bench.peers.dovecot import Dovecot
from bench.report import BenchOptions, BenchReport, BenchTarget, Runs, main_of
from bench.runtime import BenchError
from bench.stats import Cell

SHARDS = 16
USERS = tuple(f"user{number}@example.org" for number in range(8))
LARGE = "large@example.org"
PASSWORD = "bench"
FILL_BATCH = 50
APPENDERS = 32
MIXED = 20
IDLE_SETTLE_S = 3.0

_FETCHES = {
    "fetch_flags": "FETCH 1:* (FLAGS)",
    "fetch_envelope": "FETCH 1:* (UID FLAGS ENVELOPE)",
    "fetch_structure": "FETCH 1:* (BODYSTRUCTURE)",
}
_SEARCHES = {
    "search_flags": "SEARCH UNSEEN",
    "search_date": "SEARCH SINCE 1-Jan-2020",
    "search_size": "SEARCH LARGER 3000",
    "search_subject": "SEARCH SUBJECT budget",
    "search_text": "SEARCH TEXT holidayx",
    "search_body": "SEARCH BODY holidayx",
}


@dataclass(frozen=True, slots=True)
class _Server:
    """One of those that are measured: `connect(number, user)` gives a client of its own."""

    name: str
    connect: Callable[[int, str], BenchImapClient]


def measure(options: BenchOptions) -> BenchReport:
    """Medians of ``options.runs`` alternated runs. Raises BenchError."""
    messages = options.count(10_000, 1_000)
    runs = Runs()
    report = BenchReport("imap")
    with ExitStack() as stack:
        cluster = stack.enter_context(
            Raftmail(users=[*USERS, LARGE], shards=SHARDS, parent=options.parent)
        )
        servers = [_raftmail(cluster)]
        try:
            dovecot = Dovecot(USERS, options.parent, imap=True)
            servers.append(_dovecot(stack.enter_context(dovecot)))
        except BenchError as error:
            report.notes.append(f"alone: {error}")
        for server in servers:
            _fill(server, messages)
        for turn in range(options.runs):
            for server in servers if turn % 2 == 0 else reversed(servers):
                runs.add(server.name, _figures(server, options, messages))
        report.tables.append(_beside(runs))
        report.targets = _ratios(runs) if len(servers) > 1 else []
        report.targets += _alone(cluster, options, report)
    return report


def _raftmail(cluster: Raftmail) -> _Server:
    def connect(number: int, user: str) -> BenchImapClient:
        addresses = cluster.imap_addresses
        return BenchImapClient(addresses[number % len(addresses)], user, PASSWORD)

    return _Server("raftmail", connect)


def _dovecot(dovecot: Dovecot) -> _Server:
    return _Server("dovecot", lambda _, user: BenchImapClient(dovecot.imap_address, user, PASSWORD))


def _fill(server: _Server, messages: int) -> None:
    with server.connect(0, USERS[0]) as client:
        for at in range(0, messages, FILL_BATCH):
            batch = range(at, min(at + FILL_BATCH, messages))
            client.append("INBOX", [make_message(number) for number in batch])
        client.ask("SELECT INBOX")
        client.ask(f"STORE 1:{messages // 2} +FLAGS.SILENT (\\Seen)")
        for command in _FETCHES.values():  # whoever caches has done so
            client.ask(command)


def _figures(server: _Server, options: BenchOptions, messages: int) -> dict[str, float]:
    """Milliseconds of commands, and rates."""
    figures: dict[str, float] = {}
    with server.connect(1, USERS[0]) as client:
        client.ask("SELECT INBOX")
        for name, command in {**_FETCHES, **_SEARCHES}.items():
            figures[f"{name}_ms"] = (
                statistics.median(client.time_s(command) for _ in range(3)) * 1e3
            )
        count = options.count(300, 50)
        figures["noop_ms"] = statistics.median(client.time_s("NOOP") for _ in range(count)) * 1e3
        one = [f"FETCH {1 + at * 37 % messages} (BODY.PEEK[])" for at in range(count)]
        figures["fetch_one_ms"] = statistics.median(map(client.time_s, one)) * 1e3
    figures["append_per_s"] = _appends_per_s(server, options.seconds(5.0, 2.0))
    figures["mixed_per_s"] = _mixed_per_s(server, options.seconds(5.0, 2.0))
    return figures


def _appends_per_s(server: _Server, seconds: float) -> float:
    message = make_message(0)

    def append(client: BenchImapClient, _: int) -> int:
        client.append("INBOX", [message])
        return 1

    return _together(server, APPENDERS, USERS[1:], seconds, append)


def _mixed_per_s(server: _Server, seconds: float) -> float:
    """Commands a second of sessions that do what mail programs do."""

    def work(client: BenchImapClient, number: int) -> int:
        client.ask("SELECT INBOX")
        client.append("INBOX", [make_message(number), make_message(number + 1)])
        client.ask("NOOP")
        client.ask("FETCH 1:20 (UID FLAGS ENVELOPE)")
        client.ask("STORE 1:5 +FLAGS (\\Seen)")
        client.ask("SEARCH UNSEEN SUBJECT report")
        client.ask("STORE 1 +FLAGS.SILENT (\\Deleted)")
        client.ask("EXPUNGE")
        client.ask("FETCH * (BODY.PEEK[])")
        return 9

    return _together(server, MIXED, USERS[4:], seconds, work)


def _together(
    server: _Server,
    connections: int,
    users: Sequence[str],
    seconds: float,
    work: Callable[[BenchImapClient, int], int],
) -> float:
    """What all connections do in a second, each again and again."""
    with ExitStack() as stack:
        clients = [
            stack.enter_context(server.connect(number, users[number % len(users)]))
            for number in range(connections)
        ]
        begun_s = time.perf_counter()

        def repeat(number: int) -> int:
            done = 0
            while time.perf_counter() - begun_s < seconds:
                done += work(clients[number], number * 1000 + done)
            return done

        with ThreadPoolExecutor(connections) as threads:
            total = sum(threads.map(repeat, range(connections)))
        return total / (time.perf_counter() - begun_s)


def _beside(runs: Runs) -> list[dict[str, Cell]]:
    """A row for each figure, a column for each server."""
    names = list(next(iter(runs.figures.values()))[0])
    return [
        {"figure": name, **{server: runs.median(server, name) for server in runs.figures}}
        for name in names
    ]


def _ratios(runs: Runs) -> list[BenchTarget]:
    targets: list[BenchTarget] = []
    for name in next(iter(runs.figures.values()))[0]:
        ratio = runs.median("raftmail", name) / runs.median("dovecot", name)
        what = f"{name}, raftmail to Dovecot"
        if name.endswith("_per_s"):
            least = 2.0 if name.startswith("append") else 1.0
            targets.append(BenchTarget(what, ratio, at_least=least))
        else:
            slow = name.startswith(("search_text", "search_body"))
            most = 2.0 if slow else 1.5 if name in ("noop_ms", "fetch_one_ms") else 1.0
            targets.append(BenchTarget(what, ratio, at_most=most))
    return targets


# -- raftmail alone ----------


def _alone(cluster: Raftmail, options: BenchOptions, report: BenchReport) -> list[BenchTarget]:
    messages = options.count(1_000_000, 50_000)
    fetched = options.count(100_000, 20_000)
    server = _raftmail(cluster)
    with server.connect(0, LARGE) as client:
        client.append("INBOX", [make_message(number) for number in range(1000)])
    grow(cluster.client_addresses[0], cluster.access, LARGE, 1000, messages)
    cluster.wait_until_ready(300.0)
    selects = [_select_ms(server, node) for node in range(3) for _ in range(3)]
    noops = _noops_ms(server, fetched)
    kib, percent, sessions = _idle(cluster, options)
    report.notes.append(f"{messages:,} messages, {fetched:,} fetched, {sessions:,} idle sessions")
    return [
        BenchTarget(f"SELECT of {messages:,} messages, ms", max(selects), at_most=50.0),
        BenchTarget(f"NOOP while {fetched:,} are fetched, slowest, ms", max(noops), at_most=20.0),
        BenchTarget("memory of an idle session with TLS, KiB", kib, at_most=60.0),
        BenchTarget(f"percent of a core, {sessions:,} idle sessions", percent, at_most=3.0),
    ]


def _select_ms(server: _Server, node: int) -> float:
    with server.connect(node, LARGE) as client:
        return client.time_s("SELECT INBOX") * 1e3


def _noops_ms(server: _Server, fetched: int) -> list[float]:
    """How long NOOPs of another user's session take on the node that is fetched from."""
    took_ms: list[float] = []
    with server.connect(0, LARGE) as busy, server.connect(0, USERS[1]) as other:
        busy.ask("SELECT INBOX")
        other.ask("SELECT INBOX")
        # A thread that reads as much would hold this one up.
        command = f"FETCH 1:{fetched} (UID FLAGS ENVELOPE)"
        fetching = multiprocessing.get_context("fork").Process(target=busy.ask, args=(command,))
        fetching.start()
        while fetching.is_alive():
            took_ms.append(other.time_s("NOOP") * 1e3)
            time.sleep(0.005)
        fetching.join()
    return took_ms


def _idle(cluster: Raftmail, options: BenchOptions) -> tuple[float, float, int]:
    """KiB of a session, percent of a core that all take more than none, and how many there are."""
    count = options.count(2000, 150)
    tls = ssl.create_default_context(cafile=str(cluster.access.ca))
    tls.check_hostname = False
    before_percent = _core_percent(cluster)
    before = _rss_bytes(cluster)
    with ExitStack() as stack:

        def connect(number: int) -> Any:
            address = cluster.imap_addresses[number % 3]
            client = BenchImapClient(address, USERS[number % len(USERS)], PASSWORD, tls=tls)
            client.ask("SELECT INBOX")
            return client

        with ThreadPoolExecutor(4) as threads:
            for client in threads.map(connect, range(count)):
                stack.enter_context(client)
        time.sleep(IDLE_SETTLE_S)
        after = _rss_bytes(cluster)
        percent = _core_percent(cluster) - before_percent
    return (after - before) / count / 1024, percent, count


def _core_percent(cluster: Raftmail) -> float:
    used_s, begun_s = cluster.cpu_s(), time.monotonic()
    time.sleep(IDLE_SETTLE_S)
    return (cluster.cpu_s() - used_s) / (time.monotonic() - begun_s) * 100


def _rss_bytes(cluster: Raftmail) -> int:
    return sum(cluster.rss_bytes(name)[0] for name in cluster.names)


if __name__ == "__main__":
    sys.exit(main_of("imap", measure, __doc__))
