"""`raftmail demo`: a cluster that loses its master three times, and loses no mail.

Three nodes, each a process, in a temporary folder. Real messages go to them over LMTP. Half-way the
node that leads the mail is killed with SIGKILL, later the one that took its place; both are started
again. Then everything that was acknowledged is read back through every node and compared byte for
byte, and the replicas prove that they are equal. Every reply that was lost had the sender send the
same message again, which must not be there twice. In the end everything is read once more over
IMAP, from a node that stays, while the master dies for the third time.
"""

from __future__ import annotations

import asyncio
import random
import shlex
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from raftmail.admin.api.calls import Verify
from raftmail.admin.api.status import ClusterStatus
from raftmail.mail.endpoint import split_address
from raftmail.mail.uidset import UidSet
from raftmail.node.bootstrap import plan_loopback
from raftmail_cli import processes
from raftmail_cli.clusterfile import ClusterFile, NodeEntry
from raftmail_cli.demo_imap import mail_over_imap
from raftmail_cli.demo_load import DemoLedger, DemoLoad, DemoMessage, make_messages, number_of
from raftmail_cli.errors import CliError, TryLater
from raftmail_cli.output import Format, make_console, make_table, show
from raftmail_cli.processes import Process
from raftmail_cli.session import Opener

MAIL_SHARD = 1
USERS = tuple(f"{name}@demo.example" for name in ("anna", "bela", "carl", "dora"))
PASSWORD = "demo"

_NODES = 3
_MESSAGES_PER_S = 50
_SPAN_S_MAX = 12.0
_READY_S = 30.0
_SETTLE_S = 30.0
_DOWN_S = 1.5
"""How long a killed node stays away."""
_POLL_S = 0.05
_ALL = UidSet.parse("1:*")


@dataclass(frozen=True, slots=True)
class DemoVerdict:
    """What the demonstration found. Times in seconds."""

    messages: int
    acknowledged: int
    found: int
    read_over_imap: int
    lost: int
    doubled: int
    sent_again: int
    masters_killed: int
    longest_gap_s: float
    equal: bool
    refused: tuple[str, ...]

    @property
    def is_good(self) -> bool:
        return not (self.lost or self.doubled or self.refused) and self.equal


@dataclass(slots=True)
class _Reporter:
    """Progress: a bar where there is a terminal, lines where there is none."""

    console: Console
    began_s: float = field(default_factory=time.monotonic)

    def say(self, text: str) -> None:
        self.console.print(f"{time.monotonic() - self.began_s:6.1f} s  {text}")

    async def follow(self, ledger: DemoLedger, total: int) -> None:
        """Show how many messages are acknowledged, until cancelled."""
        if not self.console.is_terminal:
            told = 0
            while True:
                part = len(ledger.acknowledged) * 4 // total
                if part > told:
                    told = part
                    self.say(f"{len(ledger.acknowledged)} of {total} messages acknowledged")
                await asyncio.sleep(_POLL_S)
        columns = (TextColumn("          messages"), BarColumn(), MofNCompleteColumn())
        with Progress(*columns, console=self.console, transient=True) as bar:
            task = bar.add_task("", total=total)
            while True:
                bar.update(task, completed=len(ledger.acknowledged))
                await asyncio.sleep(_POLL_S)


@dataclass(slots=True, repr=False)
class _Demo:
    opener: Opener
    cluster: ClusterFile
    reporter: _Reporter
    folder: Path
    running: dict[str, Process] = field(default_factory=dict)
    killed: int = 0
    cancelled: bool = False
    """Threads look at this: nobody waits for what they do any more."""

    async def run(self, count: int) -> DemoVerdict:
        say = self.reporter.say
        for entry in self.cluster.nodes:
            self._start(entry)
        say(f"started {', '.join(self.running)}, each a process of its own, in {self.folder}")
        status = await self._ready(_READY_S)
        say(f"node {_master(status)} leads the mail")
        await asyncio.to_thread(self._add_users)
        messages = await asyncio.to_thread(make_messages, count, USERS)
        ledger = await self._send(messages)
        await self._ready(_SETTLE_S)
        say("all nodes are up; reading everything back through each of them")
        counts = await asyncio.gather(
            *[asyncio.to_thread(self._read_back, e, messages) for e in self.cluster.nodes]
        )
        say("comparing the replicas")
        equal = await asyncio.to_thread(self._verify)
        over_imap = await asyncio.to_thread(self._read_over_imap, messages)
        return judge(ledger, counts, len(messages), self.killed, equal=equal, over_imap=over_imap)

    def _start(self, entry: NodeEntry) -> None:
        self.running[entry.name] = Process.start(entry)
        processes.write_file(self.folder, self.cluster, self.running.values())

    def start_again(self) -> None:
        """Start the nodes that do not run."""
        for process in [one for one in self.running.values() if not one.running]:
            self._start(process.entry)

    async def _ready(self, timeout_s: float) -> ClusterStatus | None:
        return await asyncio.to_thread(
            processes.wait_until_ready,
            self.opener,
            self.cluster,
            list(self.running.values()),
            timeout_s,
            lambda: self.cancelled,
        )

    def _add_users(self) -> None:
        with self.opener(processes.where(self.cluster)) as session:
            for user in USERS:
                session.add_user(user, PASSWORD)

    async def _send(self, messages: Sequence[DemoMessage]) -> DemoLedger:
        addresses = [split_address(entry.lmtp) for entry in self.cluster.nodes]
        span_s = min(_SPAN_S_MAX, len(messages) / _MESSAGES_PER_S)
        first, second = len(messages) // 2, len(messages) * 3 // 4
        load = DemoLoad(addresses, messages, span_s, held_from=second)
        ledger = load.ledger
        follower = asyncio.create_task(self.reporter.follow(ledger, len(messages)))
        tasks = [
            asyncio.create_task(load.run()),
            asyncio.create_task(self._harm(load, first, second)),
        ]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in (*tasks, follower):
                task.cancel()
            await asyncio.gather(*tasks, follower, return_exceptions=True)
        self.reporter.say(
            f"{len(ledger.acknowledged)} of {len(messages)} messages acknowledged, in "
            f"{ledger.attempts} attempts"
        )
        return ledger

    async def _harm(self, load: DemoLoad, first: int, second: int) -> None:
        """Kill the master after `first` messages, and the next one after `second`, when the first
        is back; the messages after these are held for it."""
        for count in (first, second):
            while load.ledger.settled < count:  # noqa: ASYNC110
                await asyncio.sleep(_POLL_S)
            status = await self._ready(_SETTLE_S)
            master = _master(status)
            if master is None:
                raise CliError("the demonstration's cluster has no shard for mail")
            process = self.running[master]
            process.kill()
            if count == second:
                load.release()
            self.killed += 1
            self.reporter.say(f"killed {master} (pid {process.entry.pid}), which led the mail")
            others = [entry for entry in self.cluster.nodes if entry.name != master]
            await asyncio.sleep(_DOWN_S)
            status = await asyncio.to_thread(
                processes.read_status, self.opener, self.cluster, others
            )
            now = _master(status)
            self.reporter.say(
                f"node {now} leads the mail; starting {master} again"
                if now
                else f"nobody leads the mail; starting {master} again"
            )
            self._start(process.entry)

    def _read_back(self, entry: NodeEntry, messages: Sequence[DemoMessage]) -> Counter[int]:
        """How often each message is there, unchanged, as this node shows it."""
        found: Counter[int] = Counter()
        deadline = processes.where(self.cluster, [entry], deadline_s=_SETTLE_S)
        with self.opener(deadline) as session:
            for user in USERS:
                for info in session.messages(user, "INBOX", _ALL):
                    if self.cancelled:
                        return found
                    _count(found, user, session.body(user, "INBOX", info.uid), messages)
        return found

    def _read_over_imap(self, messages: Sequence[DemoMessage]) -> Counter[int]:
        """How often each message is there, as a mail program reads it from a node that stays; half-
        way the master is killed."""
        master = _master(processes.read_status(self.opener, self.cluster))
        leads = next((e for e in self.cluster.nodes if e.name == master), self.cluster.nodes[0])
        stays = next(entry for entry in self.cluster.nodes if entry is not leads)
        self.reporter.say(f"reading everything over IMAP through {stays.name}, which does not lead")
        found: Counter[int] = Counter()
        for user in USERS:
            for body in mail_over_imap(stays.programs.imaps, self.cluster.ca, user, PASSWORD):
                _count(found, user, body, messages, as_text=True)
                if found.total() == len(messages) // 2:
                    process = self.running[leads.name]
                    process.kill()
                    self.killed += 1
                    self.reporter.say(
                        f"killed {leads.name} (pid {process.entry.pid}), which led the mail; "
                        f"{stays.name} goes on"
                    )
                if self.cancelled:
                    return found
        self.reporter.say(f"{len(found)} messages read over IMAP through {stays.name}")
        return found

    def _verify(self) -> bool:
        deadline_s = time.monotonic() + _SETTLE_S
        while True:
            try:
                with self.opener(processes.where(self.cluster)) as session:
                    is_equal = session.admin(Verify()).equal
            except TryLater:
                is_equal = False
            if is_equal or self.cancelled or time.monotonic() > deadline_s:
                return is_equal
            time.sleep(_POLL_S)


def _count(
    found: Counter[int],
    user: str,
    body: bytes,
    messages: Sequence[DemoMessage],
    *,
    as_text: bool = False,
) -> None:
    """Note a message of a user. One that is not what was sent is not noted: it will be missing.
    `as_text`: as IMAP's literals have it, which carry no NUL (RFC 9051 section 4.3), but a
    space."""
    number = number_of(body)
    if number is None:
        return
    sent = messages[number].body
    if not body.endswith(sent.replace(b"\0", b" ") if as_text else sent):
        return
    if messages[number].user == user:
        found[number] += 1


def _master(status: ClusterStatus | None) -> str | None:
    shard = None if status is None else status.shard(MAIL_SHARD)
    return None if shard is None else shard.master


def judge(
    ledger: DemoLedger,
    counts: Sequence[Counter[int]],
    total: int,
    killed: int,
    *,
    equal: bool,
    over_imap: Counter[int],
) -> DemoVerdict:
    """Compare what was acknowledged with what each node has: a message is found when every node
    shows it, and IMAP too. It is doubled when any of them shows it twice, however often it was
    sent."""
    shown = [*counts, over_imap]
    found = {n for n in ledger.acknowledged if all(count[n] for count in shown)}
    twice = {n for count in shown for n, times in count.items() if times > 1}
    return DemoVerdict(
        messages=total,
        acknowledged=len(ledger.acknowledged),
        found=len(found),
        read_over_imap=sum(1 for n in ledger.acknowledged if over_imap[n]),
        lost=len(ledger.acknowledged - found),
        doubled=len(twice),
        sent_again=len(ledger.unknown),
        masters_killed=killed,
        longest_gap_s=round(ledger.longest_gap_s, 2),
        equal=equal,
        refused=tuple(ledger.refused[:10]),
    )


def run_demo(opener: Opener, output: Format, folder: Path | None, count: int, keep: bool) -> bool:
    """Run it, and print what was found; whether all is well. Raises `CliError`."""
    reporter = _Reporter(make_console(stderr=output is Format.JSON))
    home = folder or Path(tempfile.mkdtemp(prefix="raftmail-demo-"))
    made: _Demo | None = None
    finished = False
    try:
        cluster = _make_cluster(home)
        made = _Demo(opener, cluster, reporter, home)
        verdict = asyncio.run(_until_signalled(made, count))
        if keep:
            made.start_again()
        finished = True
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    finally:
        if made is not None and not (keep and finished):
            processes.stop(list(made.running.values()))
        if folder is None and not (keep and finished):
            shutil.rmtree(home, ignore_errors=True)
    show(output, verdict, lambda console: _render(console, verdict))
    if keep:
        reporter.console.print(_hints(home))
    return verdict.is_good


def _make_cluster(home: Path) -> ClusterFile:
    for _ in range(20):
        base_port = random.randrange(20_000, 32_000)
        try:
            processes.check_ports(_at(base_port))
        except CliError:
            continue
        return processes.loopback_cluster(home, _NODES, base_port, 1)
    raise CliError("no free ports were found for the demonstration's nodes on 127.0.0.1")


def _at(base_port: int) -> list[NodeEntry]:
    plans = plan_loopback(_NODES, base_port)
    return [
        NodeEntry(plan.name, plan.peer, plan.client, plan.lmtp, plan.programs) for plan in plans
    ]


async def _until_signalled(made: _Demo, count: int) -> DemoVerdict:
    """Run it; SIGTERM and SIGHUP cancel it, as SIGINT does."""
    task = asyncio.ensure_future(made.run(count))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, task.cancel)
    try:
        return await task
    finally:
        made.cancelled = True


def _render(console: Console, verdict: DemoVerdict) -> None:
    rows = [
        ("messages sent", verdict.messages),
        ("acknowledged", verdict.acknowledged),
        ("found on every node, byte for byte", verdict.found),
        ("read over IMAP while the master died", verdict.read_over_imap),
        ("LOST", verdict.lost),
        ("DOUBLED", verdict.doubled),
        ("reply lost, sent again", verdict.sent_again),
        ("masters killed", verdict.masters_killed),
        ("longest time without an acknowledgement", f"{verdict.longest_gap_s:.2f} s"),
        ("replicas equal", "yes" if verdict.equal else "NO"),
    ]
    console.print()
    console.print(make_table(("", "count"), rows, right=("count",)))
    console.print()
    for text in verdict.refused:
        console.print(f"not taken: {text}")
    console.print(
        "Nothing acknowledged was lost, and nothing is there twice."
        if verdict.is_good
        else "This must not happen. Run it again with --keep, and look at the nodes' logs."
    )


def _hints(home: Path) -> str:
    q = shlex.quote
    raftmail = f"raftmail --cluster {q(str(home))}"
    return (
        f"\nThe cluster is still running in {home}. Try:\n"
        f"  {raftmail} status\n"
        f"  {raftmail} mailbox list {USERS[0]}\n"
        f"  {raftmail} list {USERS[0]} INBOX 1:10\n"
        f"  {raftmail} verify\n"
        f"  raftmail log show {q(str(home / 'n1'))} --shard {MAIL_SHARD} --from 1 --to 20\n"
        f"and to end it: raftmail down {q(str(home))}; rm -r {q(str(home))}"
    )
