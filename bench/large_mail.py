"""One message of the largest configured size to many recipients, while a hundred other clients
work.

Three nodes at the default configuration, 16 shards; one of them leads most. The message goes
through that node, and through another one, while it lives, is stopped (SIGSTOP) in the middle, or
is killed. Every recipient must get 250 or 4xx; those without 250 get the same bytes again, until
all have it. Then everybody must have it once. What the nodes need of memory is compared with what
they say they may need. What the others wait until all recipients have it is compared with what
they waited before.
"""

from __future__ import annotations

import asyncio
import base64
import os
import re
import secrets
import signal
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from bench.cluster import Raftmail
from bench.large_clients import MailClient, SteadyClient, TextUser, Timings
from bench.report import BenchOptions, BenchReport, BenchTarget, main_of
from bench.runtime import BenchError, first_of_group
from bench.stats import Cell
from bench.store_load import StorePlan, fill
from raftmail.admin.api.calls import GetNodeStatus, GetStatus
from raftmail.mail.endpoint import split_address

SHARDS = 16
MESSAGE_BYTES = 50 << 20
RECIPIENTS = 1000
RECIPIENTS_QUICK = 50
CLIENTS = 100
INTERVAL_S = 2.0
"""Of each client: fifty commands a second together, a small part of what two cores can do."""
BEFORE_S = 10.0
MIDDLE_S = 2.0
"""After the last byte of the message was sent, the node that leads is stopped or killed."""
STOPPED_S = 10.0
REPLIES_S = 330.0
AGAIN_S = 400.0
BACK_S = 300.0
"""A node that was killed has long bodies of all shards to fetch, which give way to all else."""
WAITS_MAX = 2.0
"""How much longer than before the median of the others may wait."""

_READ_S = 0.05
_LINE = 76
_ASKED_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class Case:
    """Through which node the message goes, and what becomes of the node that leads."""

    via: str
    fate: str

    @property
    def may_hang_up(self) -> bool:
        """The very node that has the message is killed."""
        return self == Case("master", "killed")


CASES = [Case(via, fate) for fate in ("alive", "stopped", "killed") for via in ("master", "other")]


@dataclass(slots=True)
class Sent:
    """What became of one attempt. Replies are in the order of the recipients; "" where there was
    none."""

    replies: list[str]
    took_s: float

    def counts(self) -> Counter[str]:
        return Counter(reply[:3] or "none" for reply in self.replies)

    def without(self, recipients: Sequence[str]) -> list[str]:
        """The recipients who were not told 250."""
        pairs = zip(recipients, self.replies, strict=True)
        return [one for one, reply in pairs if not reply.startswith("250")]


@dataclass(slots=True)
class Watcher:
    """The most memory that processes have, read every 50 ms: what is theirs alone (RssAnon),
    without the files that they have mapped, which are the system's cache."""

    peaks: dict[str, int] = field(default_factory=dict)
    _stopping: threading.Event = field(default_factory=threading.Event)

    def watch(self, pids: Callable[[], dict[str, int]]) -> None:
        """Until `stop`, in a thread."""
        while not self._stopping.wait(_READ_S):
            for name, pid in pids().items():
                self.peaks[name] = max(self.peaks.get(name, 0), private_bytes(pid))

    def stop(self) -> None:
        self._stopping.set()


def private_bytes(pid: int) -> int:
    """What a process has of memory now that is no file's; 0 when it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    found = re.search(r"^RssAnon:\s+(\d+) kB$", status, re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def message_of(size_bytes: int) -> bytes:
    """A message of this size that does not compress well, and is no other's."""
    head = b"Message-ID: <%b@large.example.net>\r\n\r\n" % secrets.token_hex(12).encode()
    left = size_bytes - len(head)
    text = base64.b64encode(os.urandom(left * 3 // 4 + _LINE))
    lines = b"\r\n".join(text[at : at + _LINE] for at in range(0, left, _LINE + 2))
    return head + lines[: left - 2] + b"\r\n"


def send(
    address: str,
    recipients: Sequence[str],
    message: bytes,
    *,
    sent: Callable[[], None] = lambda: None,
    replies_s: float = REPLIES_S,
) -> Sent:
    """Deliver by LMTP; `sent` is called when the last byte is on its way. Raises nothing over a
    connection that ends, or replies that do not come: they are missing then."""
    replies = [""] * len(recipients)
    began = time.monotonic()
    with suppress(OSError, EOFError):
        _dialogue(address, recipients, message, sent, replies_s, replies)
    return Sent(replies, time.monotonic() - began)


def _dialogue(
    address: str,
    recipients: Sequence[str],
    message: bytes,
    sent: Callable[[], None],
    replies_s: float,
    replies: list[str],
) -> None:
    with (
        socket.create_connection(split_address(address), timeout=replies_s) as connection,
        connection.makefile("rb") as lines,
    ):

        def reply() -> str:
            while (line := lines.readline())[3:4] == b"-":
                pass
            if not line.endswith(b"\n"):
                raise EOFError
            return line.decode("ascii", "replace").strip()

        reply()
        connection.sendall(b"LHLO large.example.net\r\n")
        reply()
        offered = b"".join(b"RCPT TO:<%b>\r\n" % one.encode() for one in recipients)
        connection.sendall(b"MAIL FROM:<large@example.net>\r\n" + offered + b"DATA\r\n")
        reply()
        accepted = []
        for at in range(len(recipients)):
            replies[at] = reply()
            if replies[at].startswith("250"):
                replies[at] = ""
                accepted.append(at)
        if not reply().startswith("354"):
            return
        connection.sendall(message + b".\r\n")
        sent()
        for at in accepted:
            replies[at] = reply()


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one case; what others waited is in milliseconds."""

    case: Case
    first: Sent
    rounds: int
    lost: int
    doubled: int
    peaks: dict[str, int]
    before_ms: tuple[float, float]
    during_ms: tuple[float, float]
    terms: int

    def row(self) -> dict[str, Cell]:
        told = ", ".join(f"{n} x {code}" for code, n in sorted(self.first.counts().items()))
        return {
            "via": self.case.via,
            "master": self.case.fate,
            "replies": told,
            "seconds": self.first.took_s,
            "rounds": self.rounds,
            "lost": self.lost,
            "doubled": self.doubled,
            "peak MiB": " ".join(f"{n}:{b >> 20}" for n, b in sorted(self.peaks.items())),
            "p50 before": self.before_ms[0],
            "during": self.during_ms[0],
            "p99 before": self.before_ms[1],
            "p99 during": self.during_ms[1],
            "elections": self.terms,
        }

    @property
    def wrong(self) -> int:
        """Recipients with a reply that is neither 250 nor 4xx, or with none."""
        return sum(
            not (reply.startswith(("250", "4")) or (not reply and self.case.may_hang_up))
            for reply in self.first.replies
        )


@dataclass(slots=True)
class Trial:
    """All cases on one cluster. `delivered` is how often each recipient must have got mail so
    far."""

    cluster: Raftmail
    recipients: Sequence[str]
    message_bytes: int
    delivered: int = 0

    async def run(self, case: Case, others: Sequence[str]) -> Outcome:
        cluster = self.cluster
        victim, *rest = cluster.names
        await asyncio.to_thread(cluster.wait_until_ready)
        await asyncio.to_thread(cluster.lead_all, victim)
        via = victim if case.via == "master" else rest[0]
        timings, watcher = Timings(), Watcher()
        terms = await asyncio.to_thread(self._terms)
        async with asyncio.TaskGroup() as group:
            for client in _clients(cluster, others, rest, timings):
                group.create_task(client.run())
            watching = group.create_task(asyncio.to_thread(watcher.watch, self._pids))
            try:
                await asyncio.sleep(2 * INTERVAL_S)
                began = time.monotonic()
                await asyncio.sleep(BEFORE_S)
                message = await asyncio.to_thread(message_of, self.message_bytes)
                middle = time.monotonic()
                first = await self._send_first(case, victim, via, message)
                left = first.without(self.recipients)
                rounds = await asyncio.to_thread(self._send_rest, rest, left, message)
                ended = time.monotonic()
                terms = await asyncio.to_thread(self._terms) - terms
            finally:
                timings.stopping = True
                watcher.stop()
            await watching
        if case.fate == "killed":
            cluster.restart(victim)
            await asyncio.to_thread(cluster.wait_until_ready, BACK_S)
        self.delivered += 1
        lost, doubled = await asyncio.to_thread(self._count)
        for why, times in timings.failures.items():
            print(f"others, {case.via}, {case.fate}: {times} x {why}", file=sys.stderr, flush=True)
        return Outcome(
            case,
            first,
            rounds,
            lost,
            doubled,
            watcher.peaks,
            (timings.p(0.5, began, middle), timings.p(0.99, began, middle)),
            (timings.p(0.5, middle, ended), timings.p(0.99, middle, ended)),
            terms,
        )

    def _pids(self) -> dict[str, int]:
        found = {}
        for name in self.cluster.names:
            with suppress(KeyError):  # it was killed
                found[name] = self.cluster.pid_of(name)
        return found

    def _terms(self) -> int:
        """Of all shards together: as many more later were elections, or hand-overs."""
        return sum(one.term for one in self.cluster.admin(GetStatus()).shards)

    async def _send_first(self, case: Case, victim: str, via: str, message: bytes) -> Sent:
        sent = threading.Event()
        address = self.cluster.lmtp_address_of(via)
        sending = asyncio.create_task(
            asyncio.to_thread(send, address, self.recipients, message, sent=sent.set)
        )
        await asyncio.to_thread(sent.wait, REPLIES_S)
        if case.fate != "alive":
            await asyncio.sleep(MIDDLE_S)
        if case.fate == "killed":
            await asyncio.to_thread(self.cluster.kill, victim)
        if case.fate == "stopped":
            pid = self.cluster.pid_of(victim)
            os.kill(pid, signal.SIGSTOP)
            try:
                await asyncio.wait([sending], timeout=STOPPED_S)
            finally:
                os.kill(pid, signal.SIGCONT)
        return await sending

    def _send_rest(self, names: Sequence[str], left: Sequence[str], message: bytes) -> int:
        """The same bytes again, to those who did not get them. Returns how often. Raises
        BenchError."""
        until, rounds = time.monotonic() + AGAIN_S, 0
        while left:
            if time.monotonic() > until:
                raise BenchError(f"{len(left)} recipients never got 250:\n{self.cluster.logs()}")
            rounds += 1
            address = self.cluster.lmtp_address_of(names[rounds % len(names)])
            left = send(address, left, message).without(left)
        return rounds

    def _count(self) -> tuple[int, int]:
        """How many messages recipients lack, and have more than once."""
        counts: list[int] = []
        for at in range(0, len(self.recipients), _ASKED_AT_ONCE):
            counts += self.cluster.messages_of_each(self.recipients[at : at + _ASKED_AT_ONCE])
        more = [count - self.delivered for count in counts]
        return sum(-n for n in more if n < 0), sum(n for n in more if n > 0)


def _clients(
    cluster: Raftmail, users: Sequence[str], names: Sequence[str], timings: Timings
) -> list[SteadyClient]:
    """Half deliver, half use the text protocol; they are at nodes that stay alive."""
    mail = [cluster.lmtp_address_of(name) for name in names]
    text = [cluster.client_address_of(name) for name in names]
    clients: list[SteadyClient] = []
    for at, user in enumerate(users):
        if at % 2:
            clients.append(MailClient(mail, at // 2, user, INTERVAL_S, timings))
        else:
            clients.append(TextUser(text, at // 2, user, INTERVAL_S, timings, cluster.access))
    return clients


def measure(options: BenchOptions) -> BenchReport:
    """Raises BenchError when a node ends by itself, or a message cannot be delivered at all."""
    return measure_with(options, options.count(RECIPIENTS, RECIPIENTS_QUICK), MESSAGE_BYTES, CASES)


def measure_with(
    options: BenchOptions,
    recipients: int,
    message_bytes: int,
    cases: Sequence[Case],
    config: str = "",
) -> BenchReport:
    """`config` is added to every node's configuration. Raises as `measure`."""
    to = [f"large{n}@example.org" for n in range(recipients)]
    others = [f"other{n}@example.org" for n in range(CLIENTS)]
    outcomes: list[Outcome] = []
    with Raftmail(
        users=[*to, *others], shards=SHARDS, parent=options.parent, config=config
    ) as cluster:
        plan = StorePlan(cluster.client_addresses, tuple(others), messages=1, access=cluster.access)
        asyncio.run(fill(plan))
        status = cluster.admin(GetNodeStatus(), cluster.names[0])
        budget = status.node.memory_budget_bytes
        trial = Trial(cluster, to, message_bytes)
        for case in cases:
            with first_of_group():
                outcomes.append(asyncio.run(trial.run(case, others)))
            print(outcomes[-1].row(), file=sys.stderr, flush=True)
        equal = cluster.is_equal()
    if not equal:
        raise BenchError("the replicas are not equal")
    return report_of(outcomes, budget, f"{message_bytes >> 20} MiB for {recipients} recipients")


def report_of(outcomes: Sequence[Outcome], budget: int, what: str) -> BenchReport:
    """The figures of all cases, and what was wanted of them."""
    report = BenchReport("large-mail", [[outcome.row() for outcome in outcomes]])
    report.notes.append(
        f"{what}, {CLIENTS} other clients, {CLIENTS / INTERVAL_S:.0f} commands a second; peaks "
        f"are of "
        f"memory that is no file's (RssAnon); a node says that it may need {budget >> 20} MiB"
    )
    peak = max(max(outcome.peaks.values()) for outcome in outcomes)
    report.targets += [
        BenchTarget("recipients without 250 or 4xx", sum(o.wrong for o in outcomes), at_most=0),
        BenchTarget("lost", sum(o.lost for o in outcomes), at_most=0),
        BenchTarget("doubled", sum(o.doubled for o in outcomes), at_most=0),
        BenchTarget("highest memory, MiB", peak >> 20, at_most=budget >> 20),
    ]
    for outcome in outcomes:
        ratio = outcome.during_ms[0] / outcome.before_ms[0]
        case = outcome.case
        what = f"median of the others, via {case.via}, master {case.fate}: times that before"
        report.targets.append(BenchTarget(what, ratio, at_most=WAITS_MAX))
    return report


if __name__ == "__main__":
    sys.exit(main_of("large-mail", measure, __doc__))
