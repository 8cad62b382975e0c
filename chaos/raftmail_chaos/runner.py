"""One run from start to end: cluster, links, load, faults, and then the reckoning.

Whatever is started here is ended here, by pid, however the run ends; the leash (`leash`) does it
when this process is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from raftmail.admin.api.calls import Verify
from raftmail.admin.api.codec import encode
from raftmail.client import ClientError
from raftmail_chaos import members, page, toxiproxy
from raftmail_chaos.cluster import LOOPBACK, NODE_PORTS, ChaosCluster, Ports
from raftmail_chaos.diskfaults import fsck, fsck_problems
from raftmail_chaos.errors import ChaosError
from raftmail_chaos.faults import Arena
from raftmail_chaos.ground import Ground
from raftmail_chaos.judge import HistoryVerdict, RuleFinding, verdict_from_json
from raftmail_chaos.leash import leashed
from raftmail_chaos.load import LIVE_FILE, ChaosLoad, tell_live
from raftmail_chaos.networks import HUB, Networks
from raftmail_chaos.profiles import Pace, Profile
from raftmail_chaos.readback import TIMEOUT_S, ReadBack
from raftmail_chaos.report import ChaosReport, MemoryPeak, figures_of, to_json, to_text
from raftmail_chaos.series import STALL_S, ClusterLook, Series
from raftmail_chaos.toxiproxy import ProxyLinks
from raftmail_chaos.view import RunView, Shown

LOADS = 2
READY_S = 60.0
SETTLE_S = 120.0
CALL_S = 15.0
_LOOK_S = 0.3
_SHOW_S = 0.5
_PROBE_S = 0.25
_SHOWN_S = 5.0
_FIRST_WRITE_S = 60.0
_LOAD_END_S = CALL_S + 30
_VERIFY_S = 60.0
_SPARE_S = 600.0
_LINE_BYTES_MAX = 16 << 20
_RULE_OF_NODES = "P6"
_RULE_OF_IMAP = "IMAP"
_DISK_BYTES = 2 << 30
_BYTES_FOR_OPERATION = 64 << 10
_COPIES = 2
"""Of a large message on one node: while a segment is emptied, or a replica made anew, it is there
twice."""


@dataclass(frozen=True, slots=True)
class ChaosOptions:
    """What is asked for. `rate` is operations a second of all load processes together; `folder`
    must be new or empty."""

    nodes: int
    seconds: float
    profiles: tuple[Profile, ...]
    pace: Pace
    rate: float
    seed: int
    folder: Path
    ground: Ground = field(default_factory=Ground)
    mass_bytes: int = 0
    """What large messages and those for many recipients may come to together, every try counted."""


@dataclass(slots=True)
class _Load:
    process: asyncio.subprocess.Process
    number: int


@dataclass(slots=True, repr=False)
class ChaosRunner:
    """Makes a run. `run` may be cancelled at any time."""

    options: ChaosOptions
    view: RunView
    series: Series = field(init=False)
    arena: Arena = field(init=False)
    loads: list[_Load] = field(default_factory=list)
    undecided: str = ""
    links_text: str = ""
    _told: list[str] = field(default_factory=list)

    async def run(self) -> ChaosReport:
        """Raises `ChaosError` when no run can be made, or when it takes far longer than it
        should."""
        options = self.options
        try:
            async with asyncio.timeout(2 * options.seconds + _SPARE_S):
                return await self._run()
        except TimeoutError:
            raise ChaosError(
                f"the run did not end within {2 * options.seconds + _SPARE_S:.0f} s; see "
                f"{options.folder}"
            ) from None

    async def _run(self) -> ChaosReport:
        options = self.options
        async with self._standing():
            arena = self.arena
            self.series = Series(time.monotonic(), options.rate)
            watch = asyncio.create_task(self._watch())
            probe = asyncio.create_task(self._probe())
            readers: list[asyncio.Task[None]] = []
            try:
                readers = await self._start_load()
                await self._harm([watch, probe, *readers])
                await self._settle()
                await self._end_load(readers)
            finally:
                for task in (watch, probe, *readers):
                    task.cancel()
                await asyncio.gather(watch, probe, *readers, return_exceptions=True)
            read_back = await self._read_back()
            await self._verify()
            await self._stop_nodes()
        self.view.say("checking the histories")
        verdict = await self._judge()
        now = time.monotonic()
        memory = self._memory()
        for name, used in memory.items():
            if used.is_over:
                arena.blame("P7", f"node {name} had {used}")
        findings = [RuleFinding(rule, "", text) for rule, text in arena.problems] + verdict.findings
        report = ChaosReport(
            tuple(profile.name for profile in options.profiles),
            options.nodes,
            options.rate,
            options.seed,
            str(options.folder),
            self.links_text,
            figures_of(
                self.series,
                arena.faults,
                verdict,
                read_back,
                now,
                self._packets_lost(),
                sum(rule == _RULE_OF_IMAP for rule, _ in arena.problems),
            ),
            tuple(findings),
            self.undecided,
            options.ground.notes,
            dict(verdict.kinds),
            memory,
            tuple(arena.ended),
        )
        self._write(report)
        return report

    def _write(self, report: ChaosReport) -> None:
        folder = self.options.folder
        (folder / "report.json").write_text(to_json(report) + "\n", encoding="utf-8")
        (folder / "report.txt").write_text(to_text(report) + "\n", encoding="utf-8")
        text = page.render(report, self.series, self.arena.faults)
        (folder / "report.html").write_text(text, encoding="utf-8")
        faults = "".join(json.dumps(asdict(fault)) + "\n" for fault in self.arena.faults)
        (folder / "faults.jsonl").write_text(faults, encoding="utf-8")

    # -- what stands while the run goes on

    @contextlib.asynccontextmanager
    async def _standing(self) -> AsyncIterator[None]:
        """The cluster, its links and the connections that ask it; all gone at the end."""
        options = self.options
        program = self._find_proxy()
        (options.folder / "history").mkdir(parents=True)
        self._check_room()
        networks = Networks.make() if options.ground.networks else None
        host = HUB if networks is not None else LOOPBACK
        spares = sum(profile.needs_spares for profile in options.profiles)
        every = options.nodes + spares
        ports = Ports(NODE_PORTS * every + every * (every - 1) + 1, host)
        disk_bytes = self._disk_bytes() if options.ground.disks else 0
        place = options.folder / "nodes"
        cluster = ChaosCluster.make(place, options.nodes, ports, networks, disk_bytes, spares)
        links: ProxyLinks | None = None
        try:
            if program is not None:
                nodes = [*cluster.nodes.values(), *cluster.spares]
                peers = {node.name: node.peer for node in nodes}
                log = options.folder / "toxiproxy.log"
                links = ProxyLinks.start(program, log, peers, ports.take)
            cluster.furnish({} if links is None else links.addresses)
            self.arena = Arena(cluster, links, random.Random(options.seed), networks)
            for note in options.ground.notes:
                self.view.say(note)
            for node in cluster.nodes.values():
                node.start()
            self.view.say(f"started {', '.join(cluster.nodes)} in {options.folder}")
            with cluster.asking():
                try:
                    wrong = await cluster.wait_until_ready(READY_S)
                    if wrong:
                        raise ChaosError(f"the cluster does not come up: {wrong}")
                    if links is not None:
                        await self._prove(links)
                    yield
                finally:
                    await cluster.close()
        finally:
            for load in self.loads:
                with contextlib.suppress(ProcessLookupError):
                    load.process.kill()
                await load.process.wait()
            cluster.kill_all()
            if links is not None:
                links.stop()
            if networks is not None:
                networks.close()

    def _memory(self) -> dict[str, MemoryPeak]:
        """The peaks of all nodes that there are, and their budgets."""
        nodes = self.arena.cluster.nodes.values()
        return {
            node.name: MemoryPeak(node.memory_peak_bytes, node.memory_budget_bytes)
            for node in nodes
        }

    def _packets_lost(self) -> int:
        networks = self.arena.networks
        return 0 if networks is None else networks.lost

    def _disk_bytes(self) -> int:
        """Room for all mail of the run, whatever its rate; what is not written takes no space."""
        options = self.options
        ordinary = int(options.seconds * options.rate * _BYTES_FOR_OPERATION)
        return _DISK_BYTES + ordinary + _COPIES * options.mass_bytes

    def _check_room(self) -> None:
        """Raises `ChaosError` when the disk might not hold what large messages come to, on every
        node."""
        options = self.options
        needed = options.nodes * _COPIES * options.mass_bytes
        free = shutil.disk_usage(options.folder).free
        if needed > free:
            raise ChaosError(
                f"{options.mass_bytes >> 20} MiB of large messages may need {needed >> 20} MiB "
                f"below "
                f"{options.folder}, and {free >> 20} MiB are free: give --mass-mib less, or --dir "
                f"elsewhere"
            )

    async def _prove(self, links: ProxyLinks) -> None:
        """See that no link between nodes goes around Toxiproxy: faults would not meet it. Raises
        `ChaosError`."""
        cluster = self.arena.cluster
        ways = list(links.proxies)
        await links.close(ways)
        try:
            around = await cluster.wait_until_apart(READY_S)
        finally:
            await links.open(ways)
        if around:
            raise ChaosError(f"links go around {toxiproxy.PROGRAM}: {around}")
        wrong = await cluster.wait_until_ready(READY_S)
        if wrong:
            raise ChaosError(f"the cluster does not come back after its links were cut: {wrong}")

    def _find_proxy(self) -> Path | None:
        """The Toxiproxy server; None when there is none, and none is needed. Raises
        `ChaosError`."""
        needy = [profile.name for profile in self.options.profiles if profile.needs_links]
        program = toxiproxy.find_server()
        if program is None:
            text = (
                f"{toxiproxy.PROGRAM} is neither on PATH nor beside {sys.executable}: make "
                f"toxiproxy"
            )
            if needy:
                raise ChaosError(f"{text}, which {' and '.join(needy)} cannot do without")
            if os.environ.get("CI") == "true":
                raise ChaosError(text)
            self.links_text = "direct links"
            self.view.say(f"{text}; the links are direct")
            return None
        said = toxiproxy.check_version(program)
        self.links_text = f"links through {said}"
        return program

    async def _watch(self) -> None:
        """Look at the nodes, note who leads, show it, and start again what ended by itself."""
        cluster = self.arena.cluster
        shown_at = 0.0
        while True:
            await cluster.look()
            now = time.monotonic()
            up = frozenset(name for name, node in cluster.nodes.items() if node.status is not None)
            self.series.looks.append(ClusterLook(now, cluster.master(), up))
            self._note_look(now)
            self._tell_nodes()
            for node in cluster.nodes.values():
                node.note_memory()
                if not node.lock.locked() and self.arena.blame_end(node):
                    node.start()
            links = self.arena.links
            if links is not None and not links.is_running:
                raise ChaosError(f"Toxiproxy ended by itself: {self.options.folder}/toxiproxy.log")
            while not self.arena.news.empty():
                self.view.say(self.arena.news.get_nowait())
            if now - shown_at >= _SHOW_S:
                shown_at = now
                self.view.show(self._shown(now))
            await asyncio.sleep(_LOOK_S)

    async def _probe(self) -> None:
        """Sync a file of one's own and pause, again and again: what takes too long of that is not
        the cluster's."""
        fd = _appending(self.options.folder / "probe")
        try:
            while True:
                began = time.monotonic()
                await asyncio.to_thread(_write_and_sync, fd)
                synced = time.monotonic()
                self.series.syncs.append((began, synced - began))
                await asyncio.sleep(_PROBE_S)
                now = time.monotonic()
                if now - began > _PROBE_S + STALL_S:  # in the sync or in the pause, as it happens
                    self.series.stalls.append((began, now))
                    self.arena.tell(
                        f"the machine, or its disk, stood still for {now - began:.1f} s"
                    )
        finally:
            os.close(fd)

    def _tell_nodes(self) -> None:
        """Have the load know who is a member."""
        nodes = list(self.arena.cluster.nodes.values())
        if self._told != [node.name for node in nodes]:
            self._told = [node.name for node in nodes]
            addresses = [(node.client, node.lmtp, node.imaps) for node in nodes]
            tell_live(self.options.folder / LIVE_FILE, addresses)

    def _note_look(self, now: float) -> None:
        """One line for each look, to look into stalls with."""
        keys = ("role", "term", "commit_index", "applied_index", "last_index", "sync_ms", "state")
        nodes = {
            name: None
            if node.status is None
            else {
                str(shard): {key: getattr(row, key) for key in keys}
                for shard, row in node.status.shards.items()
            }
            for name, node in self.arena.cluster.nodes.items()
        }
        with open(self.options.folder / "looks.jsonl", "a", encoding="utf-8") as out:
            out.write(json.dumps({"at": round(now, 3), "nodes": nodes}) + "\n")

    def _shown(self, now: float) -> Shown:
        series, arena = self.series, self.arena
        elapsed = max(now - series.began, 0.001)
        master = arena.cluster.master()
        states = {
            name: "down" if node.status is None else "master" if name == master else "up"
            for name, node in arena.cluster.nodes.items()
        }
        gaps = series.gaps(now)
        return Shown(
            elapsed,
            self.options.seconds,
            master,
            states,
            [str(fault) for fault in arena.in_force],
            series.asked / elapsed,
            series.since(now - _SHOWN_S),
            min(elapsed, _SHOWN_S),
            series.messages,
            sum(series.outstanding.values()),
            series.lost,
            max((to - begun for begun, to in gaps), default=0.0),
            [f"{rule}: {text}" for rule, text in arena.problems],
        )

    # -- load

    async def _start_load(self) -> list[asyncio.Task[None]]:
        options = self.options
        cluster = self.arena.cluster
        nodes = list(cluster.nodes.values())
        readers = []
        for number in range(LOADS):
            plan = ChaosLoad(
                number,
                options.seed * 1000 + number,
                options.rate / LOADS,
                tuple(node.client for node in nodes),
                tuple(node.lmtp for node in nodes),
                str(options.folder / "history"),
                CALL_S,
                None if cluster.ca is None else str(cluster.ca),
                cluster.token,
                str(options.folder / LIVE_FILE),
                options.mass_bytes // LOADS,
                options.seconds,
                tuple(node.imaps for node in nodes),
            )
            path = options.folder / f"load{number}.json"
            plan.save(path)
            process = await self._python("raftmail_chaos.load", str(path), log=f"load{number}.log")
            load = _Load(process, number)
            self.loads.append(load)
            readers.append(asyncio.create_task(self._read_load(load)))
        deadline = time.monotonic() + _FIRST_WRITE_S
        while not self.series.writes:
            if time.monotonic() > deadline:
                raise ChaosError(f"nothing was acknowledged within {_FIRST_WRITE_S:.0f} s")
            for reader in readers:
                if reader.done():
                    reader.result()
            await asyncio.sleep(0.05)
        self.series.began = time.monotonic()
        self.series.writes.clear()
        self.view.say("the load runs")
        return readers

    async def _python(self, module: str, argument: str, log: str) -> asyncio.subprocess.Process:
        """A module of this package as a process; its standard error goes to a file of the run's
        folder."""
        errors = _appending(self.options.folder / log)
        try:
            return await asyncio.create_subprocess_exec(
                *leashed([sys.executable, "-m", module, argument]),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                limit=_LINE_BYTES_MAX,
                start_new_session=True,
            )
        finally:
            os.close(errors)

    async def _read_load(self, load: _Load) -> None:
        """Take in what a load process tells, until it ends."""
        stdout = load.process.stdout
        assert stdout is not None
        while line := await stdout.readline():
            told = json.loads(line)
            self.series.add(load.number, told)
            for problem in told["problems"]:
                self.arena.blame("load", problem)
            for problem in told["broken"]:
                self.arena.blame(_RULE_OF_IMAP, problem)
        code = await load.process.wait()
        if code != 0:
            log = self.options.folder / f"load{load.number}.log"
            raise ChaosError(f"load process {load.number} ended with status {code}: {log}")

    async def _end_load(self, readers: list[asyncio.Task[None]]) -> None:
        """Let what is under way be answered."""
        self.view.say("ending the load")
        self.series.ended = time.monotonic()
        for load in self.loads:
            with contextlib.suppress(ProcessLookupError):
                load.process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(_LOAD_END_S):
                await asyncio.gather(*readers)
        except TimeoutError:
            raise ChaosError(f"the load processes did not end within {_LOAD_END_S:.0f} s") from None

    # -- faults

    async def _harm(self, others: list[asyncio.Task[None]]) -> None:
        """Let the profiles act for as long as the run lasts; all faults are undone after it."""
        options = self.options
        acts = [
            asyncio.create_task(_acting(profile, self.arena, options.pace))
            for profile in options.profiles
        ]
        try:
            done, _ = await asyncio.wait(
                [*acts, *others], timeout=options.seconds, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                task.result()
                raise ChaosError("a part of the run ended before its time")
        finally:
            for act in acts:
                act.cancel()
            await asyncio.gather(*acts, return_exceptions=True)
            if self.arena.links is not None and self.arena.links.is_running:
                await self.arena.links.heal()

    async def _settle(self) -> None:
        """Whatever was done, the cluster must be well again once it is undone."""
        self.view.say("faults are over; waiting for all nodes")
        cluster = self.arena.cluster
        for node in cluster.nodes.values():
            if node.process is None:
                node.start()
        wrong = await cluster.wait_until_ready(READY_S)
        if not wrong and any(profile.needs_spares for profile in self.options.profiles):
            wrong = await members.settle(self.arena, SETTLE_S)
        if wrong:
            self.arena.blame(_RULE_OF_NODES, f"the cluster does not come back: {wrong}")

    # -- the reckoning

    async def _read_back(self) -> int:
        self.view.say("reading everything back through every node")
        cluster = self.arena.cluster
        reading = ReadBack(self.options.folder / "history")
        await reading.run(
            {name: cluster.client(node, TIMEOUT_S) for name, node in cluster.nodes.items()}
        )
        for problem in reading.problems[:20]:
            self.arena.blame("unreadable", problem)
        return reading.messages

    async def _verify(self) -> None:
        self.view.say("comparing the replicas")
        node = next(iter(self.arena.cluster.nodes.values()))
        try:
            async with self.arena.cluster.client(node, _VERIFY_S) as client:
                answer = await client.operate(Verify(), timeout_s=_VERIFY_S)
        except ClientError as error:
            self.arena.blame("P4", f"the replicas cannot be compared: {error}")
            return
        if not answer.equal:
            self.arena.blame("P4", f"the replicas differ: {json.dumps(encode(answer))}")

    async def _stop_nodes(self) -> None:
        """Stop in order, and examine what is on the disks."""
        self.view.say("stopping the nodes, and examining what they keep")
        for node in self.arena.cluster.nodes.values():
            wrong = await node.stop()
            if wrong:
                self.arena.blame(_RULE_OF_NODES, wrong)
            for said in node.tracebacks():
                self.arena.blame(
                    _RULE_OF_NODES, f"node {node.name} met an error that it does not know: {said}"
                )
            code, said = await fsck(node)
            if code != 0 and not node.damaged:
                for problem in fsck_problems(said)[:10]:
                    self.arena.blame("fsck", f"node {node.name}: {problem}")

    async def _judge(self) -> HistoryVerdict:
        history = str(self.options.folder / "history")
        process = await self._python("raftmail_chaos.judge", history, log="judge.log")
        limit_s = max(120.0, self.options.seconds)
        try:
            async with asyncio.timeout(limit_s):
                out, _ = await process.communicate()
            if process.returncode != 0:
                raise ChaosError(
                    f"the checker failed: {self.options.folder / 'judge.log'} tells why"
                )
            verdict = verdict_from_json(out.decode())
            if verdict.undecided:
                users = ", ".join(verdict.undecided)
                self.undecided = f"too many possible orders in the histories of {users}"
            elif verdict.passed_over:
                self.undecided = f"{verdict.passed_over} messages have too many unanswered writes"
            return verdict
        except TimeoutError:
            self.undecided = f"the checker was not done within {limit_s:.0f} s"
            return HistoryVerdict()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


async def _acting(profile: Profile, arena: Arena, pace: Pace) -> None:
    await profile.act(arena, pace)


def _write_and_sync(fd: int) -> None:
    os.pwrite(fd, os.urandom(4096), 0)
    os.fdatasync(fd)


def _appending(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)


def tidy(folder: Path) -> None:
    """Remove what nobody looks at after a good run: data, logs and histories; reports stay."""
    for name in ("nodes", "history"):
        shutil.rmtree(folder / name, ignore_errors=True)
    for pattern in ("load*.json", "*.log", "looks.jsonl", "probe"):
        for path in folder.glob(pattern):
            path.unlink()
