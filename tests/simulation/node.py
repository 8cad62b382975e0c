"""A node of the simulated cluster: the real journal, blob store, index, state machine, replica and
group of one shard, on a simulated disk, driven as a node drives them (`raftmail.shard.driver`).

A crash is one of two: the process is killed (what was written stays, synced or not), or the power
goes (`disk.SimDisk`). After a failed sync the machine is restarted, since a kernel may show as
written what is not on the disk.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from raftmail.consensus.group import Group, JournalBehind
from raftmail.consensus.heartbeats import unpack
from raftmail.consensus.journal import Identity as JournalIdentity
from raftmail.consensus.journal import JournalDamaged
from raftmail.consensus.membership import Membership
from raftmail.consensus.messages import Kind, decode
from raftmail.mail.commands import Blob
from raftmail.mail.failures import Failure
from raftmail.mail.queries import FetchBodies, FetchBody, Query
from raftmail.mail.results import Executed
from raftmail.shard.driver import Driver
from raftmail.shard.events import (
    Applied,
    Applying,
    IndexCommitted,
    Jumped,
    LogOpened,
    LogTrimmed,
    NotApplied,
    OwnTablesForgotten,
    ReplicaEvent,
    Restated,
    WentBack,
)
from raftmail.shard.opening import Repairs, ReplicaSpec, open_replica
from raftmail.shard.replica import BackgroundJob, Frame, FrameKind, Replica
from raftmail.shard.status import Capability
from raftmail.storage.blobs import BlobDamaged, BlobMissing
from raftmail.storage.disk import DiskError, DiskFull, SyncFailed
from raftmail.storage.index import TABLES, Index, IndexIdentity
from raftmail.storage.kv import Row, TableDamaged, scan
from raftmail.storage.records import IndexDamaged
from tests.simulation.disk import PowerCut
from tests.simulation.engines import LmdbSimEngine, MemorySimEngine, SimEngine
from tests.simulation.network import Network, Payload
from tests.simulation.nodedisk import NodeDisk
from tests.simulation.rot import log_before_rot, log_of
from tests.simulation.swarm import Conditions
from tests.simulation.watched import Watcher
from tests.simulation.world import Event, World

SHARD = 1
CLUSTER_ID = b"simulated shard."
TICK_S = 0.1
_VOTES = (Kind.VOTE, Kind.VOTE_GRANTED)
TURN_S = 0.0001

Trap = Callable[["SimNode"], bool]
"""Looks at a node after each piece of its work; True: what it waited for has come, and it did what
it was for."""


@dataclass(frozen=True, slots=True)
class DiskCopy:
    """What was durable on a replica's disk at some moment: files by path (None: a folder), and the
    rows of the index's tables."""

    replica: int
    files: dict[str, bytes | None]
    rows: dict[str, dict[bytes, bytes]]


class Broken(Exception):
    """A promise does not hold."""


class SimNode:
    """A machine with a disk, and a replica on it, whose id is `number`; 0: it has none. `told` is
    what a new replica is told of its group; `replica` is there while `running`."""

    def __init__(
        self,
        world: World,
        network: Network,
        watcher: Watcher,
        name: str,
        number: int,
        told: Membership,
        conditions: Conditions,
        *,
        on_lmdb: bool = False,
    ) -> None:
        self.world = world
        self.network = network
        self.watcher = watcher
        self.number = number
        self.name = name
        self.told = told
        self.make_engine = LmdbSimEngine if on_lmdb else MemorySimEngine
        self._new_disk()
        self.replica: Replica
        self.group: Group
        self.driver: Driver
        self.index: Index
        self.conditions = conditions
        self.traps: list[Trap] = []
        self.fail_apply: DiskError | None = None
        self.on_stop: Callable[[SimNode], None] = lambda node: None
        self.sync_s = (0.0005, 0.004)
        self.turn_s = TURN_S
        self.clock_offset = world.between(0.0, 1000.0)
        self.running = False
        self.opened = False
        """Whether there is, or was, a replica with a group."""
        self.life = 0
        self.paused = False
        self._log_before_rot: object = None
        self._backlog: list[Event] = []
        self._turn_due = False

    def _new_disk(self) -> None:
        self.disk = NodeDisk(self.world.rng.getrandbits(32), self.world.reached)
        self.engine: SimEngine = self.make_engine(TABLES, self.disk)
        self._made = False
        self._rotten: dict[tuple[str, bytes], bytes] = {}
        self._written: dict[bytes, bytes] = {}
        """What rotten records were."""
        self.index_lost = False
        self.went_back = self.doubtful = False
        """An older disk was put back, of which it is not known yet that nothing is lost; and
        whether it looks like a copy."""
        self.own_damaged = False
        """A record of a table of its own was found damaged, and the next start makes those
        again."""

    # -- replicas come and go

    def settle(self, number: int, told: Membership) -> None:
        """Have a replica where none is."""
        self.number = number
        self.told = told
        self.start()

    def rot(self, table: str, key: bytes, record: bytes) -> None:
        """Have a record of the index be something else than what was written."""
        written = self.engine.table(table).get(key)
        assert written is not None
        self.engine.table(table).put(key, record)
        self._rotten[table, key] = record
        self._written[record] = written

    def is_rotten(self, table: str, row: Row) -> bool:
        """Whether a record is one that rotted. A second time might make it what it was."""
        key, record = row
        return self._rotten.get((table, key)) == record

    @property
    def has_rot(self) -> bool:
        """Whether a record is still there that rotted."""
        for (table, key), record in list(self._rotten.items()):
            if self.engine.table(table).get(key) != record:
                del self._rotten[table, key]
        return bool(self._rotten)

    def stable_index(self) -> Index:
        """What would be left if the power went now, at worst, and nothing had rotted."""
        engine = self.engine.stable()
        for (name, key), record in self._rotten.items():
            table = engine.table(name)
            if table.get(key) == record:
                table.put(key, self._written[record])
        return Index(engine)

    def copy_disk(self) -> DiskCopy:
        """What would be left if the power went now."""
        stable = self.engine.stable()
        rows = {name: dict(scan(stable.table(name))) for name in TABLES}
        return DiskCopy(self.number, self.disk.stable_files(), rows)

    def go_back(self, copy: DiskCopy, parts: Sequence[str], *, doubtful: bool) -> None:
        """The power goes, and `parts` of an older disk of the same replica are put in the place of
        the present ones."""
        self._stop(None)
        self._lose_power()
        now = self.copy_disk()
        self.engine.close()
        self._new_disk()
        self._made, self.went_back, self.doubtful = True, True, doubtful
        for folder in ("journal", "blobs"):
            self.disk.mkdir(folder)
        self.disk.sync_folder("")
        for files, wanted in ((now.files, False), (copy.files, True)):
            for path, content in files.items():
                if "/" in path and (path.partition("/")[0] in parts) is wanted:
                    assert content is not None
                    self.disk.put(path, content)
        for name, rows in (copy if "index" in parts else now).rows.items():
            self.engine.table(name).put_many(list(rows.items()))
        self.engine.commit(sync=True)

    def _look_at_proof(self) -> None:
        """As `node.replica_table` does: a replica whose disk went back is given up; one that lost
        nothing goes on like any other."""
        if self.group.proof.lost:
            self.world.reached["disks that went back and were recognised"] += 1
            self.lose_disk()
        elif self.group.is_settled:
            self.went_back = self.doubtful = False

    def lose_disk(self) -> None:
        """Everything that the replica kept is gone, for ever: it was the disk that its id stood
        for."""
        self._stop(None)
        self.engine.close()
        self.number = 0
        self.opened = False
        self._new_disk()

    def give_up(self) -> None:
        """The replica was taken out of the group: what it kept is removed."""
        self.lose_disk()

    # -- starting and stopping

    @property
    def now(self) -> float:
        """The node's own clock: never goes back, and may jump ahead."""
        return self.world.now + self.clock_offset

    def orders(self, work: Callable[[], bool | None]) -> None:
        """An operator's order, or a program's, which gives False when nothing came of it."""
        if self.running:

            def run() -> None:
                if work() is not False:
                    self._wake()

            self._now_or_later(run)

    def start(self) -> None:
        """Open everything from the disk, as a node does, and join the others."""
        if self.running or not self.number:
            return
        self.life += 1
        try:
            self._open()
        except (PowerCut, Exception) as e:
            self._stop(e)
            return
        self.running = True
        self._turn_due = False
        self.world.log(
            f"{self.name} up, applied {self.group.applied_index}, log to {self.group.last_index}"
        )
        self.network.up(self.name, self)
        self._tick(self.life)

    def _open(self) -> None:
        conditions = self.conditions
        identity = JournalIdentity(CLUSTER_ID, SHARD, self.number)
        self._log_before_rot = (
            log_before_rot(self.disk, identity, conditions.journal) if self.disk.has_rot else None
        )
        keeper = _IndexKeeper(self)
        replica = open_replica(
            self.disk,
            keeper,
            ReplicaSpec(
                identity,
                self.name,
                "simulated",
                self.told,
                is_new=not self._made,
                is_founding=True,
                is_doubtful=self.doubtful,
                journal=conditions.journal,
                blobs=conditions.blobs,
                limits=conditions.limits,
                timing=conditions.timing,
                flow=conditions.flow,
            ),
            self.now,
            observer=self._happened,
            make_rng=lambda: random.Random(self.world.rng.getrandbits(32)),
        )
        self.replica, self.group, self.index = replica, replica.group, keeper.index
        self.driver = Driver(replica, self._flush)
        self.opened = self._made = True
        self.watcher.started(self)

    def _happened(self, event: ReplicaEvent) -> None:
        """Tell the judge what the replica does, and have some of it go wrong."""
        reached = self.world.reached
        match event:
            case Applying():
                if self.fail_apply is not None:
                    self.engine.fail_put = self.fail_apply
            case Applied(index, term, payload):
                self._end_apply()
                self.watcher.applied(self, index, term, payload)
            case NotApplied():
                self._end_apply()
            case WentBack(index) | Restated(index):
                self.watcher.stands_at(self, index)
            case Jumped(index):
                reached["jumps of the log"] += 1
                self.watcher.stands_at(self, index)
            case IndexCommitted():
                reached["commits of the index"] += 1
            case LogTrimmed():
                reached["trims of the log"] += 1
            case OwnTablesForgotten():
                reached["own tables that were made again"] += 1
            case LogOpened(journal):
                log = self._log_before_rot
                if log is not None and log_of(journal) != log:
                    raise Broken(
                        f"{self.name} starts from a rotten journal as if nothing were wrong"
                    )

    def _end_apply(self) -> None:
        """The first put of an apply fails, when that was asked for; when there was none, one of the
        next apply that makes any."""
        if self.fail_apply is None:
            return
        if self.engine.fail_put is None:
            self.fail_apply = None
            self.world.reached["applies that found no space"] += 1
        self.engine.fail_put = None

    def kill(self) -> None:
        """SIGKILL: what was written stays."""
        self._stop(None)
        self.engine.killed()

    def lose_index(self) -> None:
        """The index cannot be opened any more; journal and bodies can."""
        self.engine.close()
        self.engine = self.make_engine(TABLES, self.disk)
        self.index_lost = True
        self.world.reached["lost indices"] += 1

    def power_off(self) -> None:
        self._stop(None)
        self._lose_power()

    def _lose_power(self) -> None:
        self.disk.power_off()
        self.disk.restart()
        self.engine.power_loss(lucky=self.world.chance(0.5))

    def _stop(self, error: BaseException | None) -> None:
        was_running = self.running
        if was_running:
            self.network.down(self.name)
        self.running = self.paused = False
        self._backlog.clear()
        self.life += 1
        self.on_stop(self)
        if error is None:
            return
        self.world.log(f"{self.name} stops: {type(error).__name__} {error}")
        if isinstance(error, Broken):
            raise error
        if isinstance(error, PowerCut | SyncFailed):
            self._lose_power()
        elif isinstance(error, JournalDamaged) and self.disk.has_rot:
            self._mend() if was_running else self._give_disk_up()
        elif isinstance(error, JournalBehind | JournalDamaged) and self.went_back:
            self.world.reached["older journals that cannot be opened"] += 1
            self.lose_disk()
        elif isinstance(error, TableDamaged):
            self.engine.killed()
            self.lose_index()
        elif isinstance(error, IndexDamaged) and error.is_local and self._rotten:
            self.engine.killed()
            self.own_damaged = True
        elif isinstance(error, DiskFull) or (isinstance(error, DiskError) and self.engine.broken):
            self.engine.killed()
        else:
            self.watcher.stopped(self, error)

    def _mend(self) -> None:
        """As `node.replica_table` does with a log whose files are not what they were: only the
        process knows what they said."""
        replica = self.replica
        try:
            for job in (replica._blob_job, replica._journal_job, replica.bodies._job):
                if job is not None and not job.finished:
                    job.run()
            replica.mend_journal()
            replica.abandon()
        except (PowerCut, SyncFailed):
            self._lose_power()
            return
        except DiskFull:
            pass  # it is killed while it waits for space
        else:
            self.world.reached["journals that were mended"] += 1
        self.engine.killed()

    def _give_disk_up(self) -> None:
        """As an operator does with one whose journal cannot be read."""
        self.world.reached["journals that were rotten at a start"] += 1
        self.watcher.disk_lost(self)
        self.lose_disk()

    def look_at_journal(self) -> None:
        """As `node.filewatch` does now and then."""

        def work() -> None:
            if what := self.group.journal.check_next():
                raise JournalDamaged("journal", 0, what)

        if self.running:
            self._now_or_later(work)

    def _guard(self, work: Callable[[], None]) -> None:
        """Do some work as a process does: what it raises ends it. So does an append that
        contradicts what is committed, which a process refuses and survives: here somebody broke the
        rules."""
        try:
            work()
            if self.running and self.group.contradiction is not None:
                raise self.group.contradiction[1]
        except (PowerCut, Exception) as e:
            self._stop(e)
            return
        if self.running:
            self.watcher.stepped(self)
            if self.went_back or self.group.proof.lost:
                self._look_at_proof()
                if not self.running:
                    return
            if self.traps:
                self._spring()

    def _spring(self) -> None:
        for trap in list(self.traps):
            if self.running and trap(self):
                self.traps.remove(trap)

    def _later(self, delay: float, work: Callable[[], None]) -> None:
        """Do some work later, in this life; when the node is paused then, when it goes on."""
        life = self.life

        def run() -> None:
            if self.life == life:
                if self.paused:
                    self._backlog.append(run)
                else:
                    self._guard(work)

        self.world.after(delay, run)

    def pause(self) -> None:
        """SIGSTOP, or a virtual machine that is not scheduled."""
        self.paused = self.running

    def resume(self) -> None:
        if self.paused:
            self.paused = False
            backlog, self._backlog = self._backlog, []
            for run in backlog:
                run()

    def _now_or_later(self, work: Callable[[], None]) -> None:
        if self.paused:
            self._later(0.0, work)
        else:
            self._guard(work)

    # -- the network's side

    def connected(self, peer: str) -> None:
        def work() -> None:
            self.replica.connected(self.now, peer)
            self._heard()

        self._now_or_later(work)

    def disconnected(self, peer: str) -> None:
        def work() -> None:
            self.replica.disconnected(self.now, peer)
            self._heard()

        self._now_or_later(work)

    def receive(self, peer: str, frames: Sequence[Payload]) -> None:
        def work() -> None:
            receive, now = self.replica.receive, self.now
            loud = heard = told = False
            for kind, content in frames:
                if kind == FrameKind.BEATS:
                    for beat in unpack(content):
                        told = not self.replica.receive_beat(now, peer, beat) or told
                else:
                    receive(now, peer, kind, content)
                    heard = True
                    loud = loud or kind != FrameKind.RAFT
            self._send_beats(self.replica.take_beats())
            if loud:
                self._wake()
            elif heard:
                self._heard()
            elif told and self.replica.needs_turn:
                self._wake()

        self._now_or_later(work)

    def _heard(self) -> None:
        """Something that may leave the replica nothing to do."""
        if self.driver.heard():
            self._wake()

    # -- the runner's loop

    def _tick(self, life: int) -> None:
        if self.life != life:
            return
        if not self.paused and self.driver.tick_is_due(self.now):
            self._guard(self._tick_now)
        self.world.after(TICK_S, lambda: self._tick(life))

    def _tick_now(self) -> None:
        self._send_beats(self.driver.tick(self.now))
        if self.replica.needs_turn:
            self._wake()

    def _send_beats(self, beats: Sequence[tuple[str, bytes]]) -> None:
        """Beats wait for no turn."""
        for target, beat in beats:
            self.network.send(self.name, target, [(FrameKind.BEATS, beat)])

    def _wake(self) -> None:
        if not self._turn_due:
            self._turn_due = True
            self._later(self.turn_s, self._turn)

    def _turn(self) -> None:
        self._turn_due = False
        self.driver.step(self.now)
        if not self.driver.begin():
            return
        jobs = self.driver.begin_sync()
        if not jobs:
            self._synced()
            return
        world = self.world
        world.rng.shuffle(jobs)

        def end(job: Callable[[], None], early: bool) -> Callable[[], None]:
            def run() -> None:
                if not early:
                    job()
                if self.driver.job_done():
                    self._synced()

            return run

        for job in jobs:
            early = world.chance(0.3)
            if early:
                job()
            self._later(world.between(*self.sync_s), end(job, early))

    def _synced(self) -> None:
        """Acknowledgements leave before anything is applied; what comes in meanwhile is taken
        first."""
        if self.driver.end_sync(self.now):
            self._later(self.turn_s, self._advance)
        else:
            self._advance()

    def _advance(self) -> None:
        self.driver.advance(self.now)
        for job in self.driver.begin_background(self.now):
            self._run_beside(job)
        if self.driver.end():
            self._wake()

    def _run_beside(self, job: BackgroundJob) -> None:
        """Bodies go to the disk while turns go on."""

        def end() -> None:
            if not early:
                job.run()
            if self.driver.end_background(job):
                self._wake()

        early = self.world.chance(0.3)
        if early:
            job.run()
        self._later(self.world.between(*self.sync_s) * 10, end)

    def _flush(self, frames: Sequence[Frame]) -> None:
        batches: dict[str, list[Payload]] = {}
        for target, kind, parts in frames:
            content = b"".join(parts)
            if kind == FrameKind.RAFT and content[1] in _VOTES:
                self.watcher.voted(self, decode(content))
            batches.setdefault(target, []).append((kind, content))
        for target, sent in batches.items():
            self.network.send(self.name, target, sent)

    # -- requests

    def submit(
        self, request: bytes, blobs: Sequence[Blob], done: Callable[[Executed | Failure], None]
    ) -> None:
        """A request has arrived. When the node is down, nothing is answered."""
        if not self.running:
            return

        def work() -> None:
            self.replica.submit(self.now, request, blobs, done)
            if self.driver.submitted():
                self._wake()

        self._now_or_later(work)

    def vouch(self, number: int) -> None:
        """Vouch for a barrier that this node is about to ask for."""
        frame = self.replica.vouch(number)
        if frame is not None:
            self._flush([frame])

    def barrier(self, done: Callable[[int | None], None], number: int = 0) -> None:
        """A read barrier, asked for by this node or another."""
        if not self.running:
            return

        def work() -> None:
            self.replica.barrier(self.now, done, number)
            self._wake()

        self._now_or_later(work)

    def read(self, index: int, query: Query, done: Callable[[tuple[object] | None], None]) -> None:
        """Answer a query once `index` is applied; None when it cannot be answered here."""
        if not self.running:
            return

        def answer(applied: bool) -> None:
            readable = applied and self.replica.may(Capability.READ)
            done((self._answer(query),) if readable else None)

        self._now_or_later(lambda: self.replica.when_applied(index, answer))

    def _answer(self, query: Query) -> object:
        machine = self.replica.machine
        try:
            if isinstance(query, FetchBodies):
                return self.replica.bodies_of(query)
            if not isinstance(query, FetchBody):
                return machine.query(query)
            digest = machine.body_of(query)
            return None if digest is None else self.replica.body(digest)
        except (BlobMissing, BlobDamaged, DiskFull) as e:
            return e
        except IndexDamaged as e:
            self.replica.index_damaged(e)
            return e

    def transfer(self, number: int) -> None:
        def work() -> None:
            if self.group.is_leader and number != self.number:
                with suppress(ValueError):
                    self.group.transfer(self.now, number)

        self.orders(work)


class _IndexKeeper:
    """The index of a simulated node's replica (`shard.opening.IndexKeeper`), whose engine stays
    when the replica goes."""

    def __init__(self, node: SimNode) -> None:
        self._node = node
        self.index: Index

    def repairs(self) -> Repairs:
        node = self._node
        return Repairs(
            rebuild="lost" if node.index_lost else "",
            own="damaged" if node.own_damaged else "",
            check_own=True,
        )

    def open(self) -> Index:
        node = self._node
        self.index = Index(node.engine, IndexIdentity("simulated", SHARD, str(node.number)))
        return self.index

    def set_aside(self) -> None:
        if not self._node.index_lost:
            self._node.lose_index()

    def repaired(self) -> None:
        self._node.index_lost = self._node.own_damaged = False

    def close(self) -> None:
        """What was not committed is lost with the process."""
