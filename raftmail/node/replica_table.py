"""The replicas of a node, each with the runner that drives it: they come and go while it runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from struct import error as StructError
from typing import Any

from raftmail.cluster.state import ClusterState
from raftmail.consensus.force_membership import force_alone
from raftmail.consensus.group import JournalBehind
from raftmail.consensus.heartbeats import unpack
from raftmail.consensus.journal import JournalDamaged, JournalError
from raftmail.consensus.membership import Membership
from raftmail.consensus.messages import BadMessage
from raftmail.mail.arrivals import HearArrivals
from raftmail.net.errors import describe, start_task, tell
from raftmail.node.budget import LONG_BODIES_AT_ONCE, memory_of_replicas
from raftmail.node.config import Config
from raftmail.node.exit_message import is_foreseen
from raftmail.node.folder import DataFolder
from raftmail.node.index_folder import note_closed, order
from raftmail.node.reconcile import first_membership
from raftmail.node.replicas import Opened, open_journal, open_replica
from raftmail.node.runner import Runner
from raftmail.node.turn_scheduler import TurnScheduler
from raftmail.shard.frames import FrameKind
from raftmail.shard.memory import Memory
from raftmail.shard.opening import Repairs, repair_of
from raftmail.shard.replica import SAY_BAD_S, Frame, Replica
from raftmail.storage.blobs import BlobsDamaged
from raftmail.storage.disk import DiskError, DiskFull, LaterRelease, SyncFailed
from raftmail.storage.kv import TableDamaged
from raftmail.storage.records import IndexDamaged

logger = logging.getLogger(__name__)

MEND_AGAIN_S = 2.0
"""How often it is tried again to mend a log that there is no space for."""

ASIDE_MIN_S, ASIDE_MAX_S = 5.0, 60.0
"""How long it is before a replica that could not be opened is tried again: twice as long after each
try."""

ENDED_LATELY_S = 300.0
"""An error that nobody foresaw and that comes again within this is likely to come with the same
entry: the replica waits longer before it is opened again."""

REPAIR_HELPED_S = 60.0
"""Damage that is met within this after a repair was not mended by it, and the next one goes
further."""

CANNOT_BE_OPENED = (JournalError, BlobsDamaged, DiskError, OSError, ValueError, StructError)
"""What keeps one replica from being opened, and no other."""

BEATS_ROUTE = 0
"""The shard that frames with the beats of all shards go under."""


class ReplicaEnded(Exception):
    """An error that nobody foresaw ended a replica; the text says which, and where in the code."""


@dataclass(frozen=True, slots=True)
class Aside:
    """A replica that could not be opened, or was ended by an error that nobody foresaw: why, and
    when it is tried again."""

    replica_id: int
    told: Membership
    error: BaseException
    wait_s: float
    again_at: float


@dataclass(slots=True, repr=False)
class ReplicaTable:
    """See the module's docstring.

    Invariants:

    1. A replica is noted in the folder before its runner takes the first step.
    2. `replicas`, `opened` and `runners` have the same shards; one that is being closed, or is set
       `aside`, is in none of them."""

    config: Config
    folder: DataFolder
    loop: asyncio.AbstractEventLoop
    executor: ThreadPoolExecutor
    send_frame: Callable[[int, Frame], None]
    fatal: Callable[[BaseException], None]
    flush_links: Callable[[], None]
    after: Callable[[], None]
    role_changed: Callable[[int], None]
    peers_up: Callable[[], Iterable[str]]
    changed: Callable[[], None]
    opened: dict[int, Opened] = field(default_factory=dict)
    replicas: dict[int, Replica] = field(default_factory=dict)
    runners: dict[int, Runner] = field(default_factory=dict)
    turns: TurnScheduler = field(init=False)
    memory: Memory = field(init=False)
    """What all replicas hold together."""
    aside: dict[int, Aside] = field(default_factory=dict)
    """Replicas that are not open, and are tried again."""

    hear_arrivals: HearArrivals | None = None
    """Hears what comes into the shards that this node leads; to be set before any is opened."""

    _long_executor: ThreadPoolExecutor = field(init=False)
    _say_bad_at: float = -1e18
    _slow: bool = False
    _tried: dict[int, tuple[float, Repairs]] = field(default_factory=dict)
    _closing: set[int] = field(default_factory=set)
    _ended: dict[int, tuple[float, float]] = field(default_factory=dict)
    """When an error that nobody foresaw ended a replica last, and how long it waited then."""
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.memory = memory_of_replicas(self.config)
        self._long_executor = ThreadPoolExecutor(LONG_BODIES_AT_ONCE, "long")
        self.turns = TurnScheduler(self.loop, self.executor, self.flush_links, self.after)
        self.turns.disk.what = f"the disk of {self.config.data}"

    def open_all(
        self, wanted: Mapping[int, int], state: ClusterState, *, starting: bool = False
    ) -> list[int]:
        """Open replicas (shard to id), making those that are new, and start them. One that cannot
        be opened is set aside: it is shown in `aside`, and tried again; the others serve. Returns
        the shards for which none could be made, which this does not try again.

        Raises the reason when the node is `starting` and none could be opened or one is a later
        release's, and `SyncFailed`: then none of them is open."""
        opened: dict[int, Opened] = {}
        failed: dict[int, BaseException] = {}
        try:
            for shard, replica_id in wanted.items():
                assert shard not in self.opened and shard not in self._closing
                told = first_membership(state, shard, replica_id, self.config.node.name)
                try:
                    if shard not in self.folder.made and not self.folder.is_new:
                        self.folder.clear(shard)
                    opened[shard] = self._open(shard, replica_id, told)
                except SyncFailed:
                    raise
                except JournalBehind as e:
                    self._lost(shard, replica_id, str(e))
                except CANNOT_BE_OPENED as e:
                    if starting and isinstance(e, LaterRelease):
                        raise
                    failed[shard] = e
                    if shard in self.folder.made:
                        self._set_aside(shard, replica_id, told, e)
                    else:
                        logger.error("shard %d: no replica can be made here yet: %s", shard, e)
            if starting and failed and len(failed) == len(wanted):
                raise next(iter(failed.values()))
            new = {shard: wanted[shard] for shard in opened if shard not in self.folder.made}
            if new or self.folder.is_new:
                self.folder.note_made(new)
        except BaseException:
            for one in opened.values():
                one.replica.close()
                one.index.close()
            raise
        self.opened |= opened
        for shard in opened:
            self._start(shard)
        return [shard for shard in failed if shard not in self.aside]

    def _open(self, shard: int, replica_id: int, told: Membership) -> Opened:
        """Raises as `open_replica`."""
        now = self.loop.time()
        return open_replica(self.config, self.folder, shard, replica_id, told, now, self.memory)

    def _set_aside(
        self, shard: int, replica_id: int, told: Membership, error: BaseException
    ) -> None:
        before = self.aside.get(shard)
        wait_s = ASIDE_MIN_S if before is None else min(2 * before.wait_s, ASIDE_MAX_S)
        if before is None or str(before.error) != str(error):
            logger.error(
                "shard %d: this node's replica cannot be opened, and is set aside: %s", shard, error
            )
        self.aside[shard] = Aside(replica_id, told, error, wait_s, self.loop.time() + wait_s)

    def _try_again(self, now: float) -> None:
        """Open what was set aside, when it is time to."""
        for shard, aside in list(self.aside.items()):
            if now < aside.again_at or shard in self._closing:
                continue
            try:
                opened = self._open(shard, aside.replica_id, aside.told)
            except SyncFailed as e:
                self.fatal(e)
            except JournalBehind as e:
                del self.aside[shard]
                self._lost(shard, aside.replica_id, str(e))
            except CANNOT_BE_OPENED as e:
                self._set_aside(shard, aside.replica_id, aside.told, e)
            else:
                del self.aside[shard]
                self.opened[shard] = opened
                self._start(shard)
                logger.warning("shard %d: this node's replica is open again", shard)

    def _start(self, shard: int) -> None:
        replica = self.opened[shard].replica
        replica.note_disk(is_slow=self._slow)
        if self.hear_arrivals is not None:
            replica.tell_arrivals(self.hear_arrivals)
        self.opened[shard].engine.observer = self.turns.disk
        self.replicas[shard] = replica
        self.runners[shard] = Runner(
            replica,
            self.loop,
            self.executor,
            self.turns.wake,
            self.send_frame,
            partial(self.failed, shard),
            self.role_changed,
            self._long_executor,
        )
        for node in self.peers_up():
            replica.connected(self.loop.time(), node)

    def is_busy(self, shard: int) -> bool:
        """Whether a shard's replica is being closed, or opened anew, or waits to be opened."""
        return shard in self._closing or shard in self.aside

    def tick(self) -> None:
        """Let time pass for every replica."""
        now = self.loop.time()
        if self.aside:
            self._try_again(now)
        if self.turns.disk.look() != self._slow:
            self._slow = not self._slow
            for replica in self.replicas.values():
                replica.note_disk(is_slow=self._slow)
        beats: list[tuple[str, bytes]] = []
        for runner in list(self.runners.values()):
            if runner.replica.must_help_itself and not runner.has_failed:
                runner.fail(TableDamaged("a record is damaged, and the log has all"))
            beats += runner.tick(now)
        for shard, replica in list(self.replicas.items()):
            if replica.lost_disk and shard not in self._closing:
                self._begin(shard, self._lose(shard, replica.lost_disk))
        self._send_beats(beats)

    def take_beats(self, node: str, payload: bytes) -> None:
        """Give the beats of a frame to the replicas that they are for."""
        now = self.loop.time()
        answers: list[tuple[str, bytes]] = []
        try:
            for beat in unpack(payload):
                runner = self.runners.get(beat[2])
                if runner is not None:
                    answers += runner.beat(now, node, beat)
        except BadMessage as e:
            if now >= self._say_bad_at:
                self._say_bad_at = now + SAY_BAD_S
                logger.warning("from %s: %s", node, e)
        self._send_beats(answers)

    def _send_beats(self, beats: Iterable[tuple[str, bytes]]) -> None:
        """Send beats of any replicas, to each node in one frame."""
        packed: dict[str, list[bytes]] = {}
        for node, beat in beats:
            packed.setdefault(node, []).append(beat)
        for node, records in packed.items():
            self.send_frame(BEATS_ROUTE, (node, FrameKind.BEATS, records))
        if packed:
            self.flush_links()

    async def close(self, shard: int) -> None:
        """Take a replica out of the table, end what it does, and close its files."""
        opened = self.opened.pop(shard, None)
        if opened is None:
            return
        self.replicas.pop(shard, None)
        runner = self.runners.pop(shard, None)
        self._closing.add(shard)
        try:
            if runner is not None:
                runner.stop()
                await runner.idle()
            self._close_files(shard, opened)
        finally:
            self._closing.discard(shard)

    def _close_files(self, shard: int, opened: Opened) -> None:
        """An index that cannot be committed any more is left as it is: the next opening repairs it,
        from a log that has the rest."""
        disk = self.folder.shard_disk(shard)
        try:
            opened.replica.close()
        except (TableDamaged, IndexDamaged) as e:
            logger.error("shard %d: %s; the next start repairs it", shard, e)
            order(disk, self._repair_of(shard, e))
            opened.replica.abandon()
            opened.index.close()
        else:
            opened.index.close()
            note_closed(disk.root)

    def failed(self, shard: int, error: BaseException) -> None:
        """An error that a replica must not go on after. Of an index that cannot be used it is
        opened anew, without. Of a log that somebody was at, it is opened anew with what this
        process knows of it. One that nobody foresaw ends this replica, as a crash would. Others
        that can be foreseen are the machine's, and end the process.
        """
        if isinstance(error, JournalDamaged):
            self.mend_journal(shard, str(error))
        elif not isinstance(error, TableDamaged | IndexDamaged):
            if is_foreseen(error):
                self.fatal(error)
            elif shard in self.opened and shard not in self._closing:
                self._begin(shard, self._end(shard, error))
        elif shard in self.opened and shard not in self._closing:
            logger.error("shard %d: %s; the replica is opened anew, to repair it", shard, error)
            order(self.folder.shard_disk(shard), self._repair_of(shard, error))
            self._begin(shard, self._open_anew(shard))

    def _repair_of(self, shard: int, error: TableDamaged | IndexDamaged) -> Repairs:
        """What the next opening shall repair: more than the last, when that was a moment ago and
        did not help."""
        now = self.loop.time()
        at, tried = self._tried.get(shard, (-REPAIR_HELPED_S, Repairs()))
        if now - at >= REPAIR_HELPED_S:
            tried = Repairs()
        orders = repair_of(error, tried)
        self._tried[shard] = (now, orders)
        return orders

    def mend_journal(self, shard: int, what: str) -> None:
        """Somebody was at the files of a replica's log: have files again that a start can read.
        Until then it takes no part."""
        if shard in self.opened and shard not in self._closing:
            logger.error("shard %d: %s; the log is written anew", shard, what)
            self._begin(shard, self._open_anew(shard, mend=True))

    def _lost(self, shard: int, replica_id: int, why: str) -> None:
        """A replica that is open no more has lost its disk."""
        self.folder.set_aside(shard, replica_id, why)
        logger.error(
            "shard %d: the disk went back in time, and replica %d is none any more: %s",
            shard,
            replica_id,
            why,
        )
        self.loop.call_soon(self.changed)

    async def _lose(self, shard: int, why: str) -> None:
        """A replica's disk went back in time: it is none any more. What it held is kept, and never
        read."""
        opened = self.opened.pop(shard)
        self.replicas.pop(shard, None)
        runner = self.runners.pop(shard)
        try:
            runner.stop()
            await runner.idle()
            opened.replica.abandon()
            opened.index.close()
            self._lost(shard, opened.replica.replica_id, why)
        finally:
            self._closing.discard(shard)

    async def _end(self, shard: int, error: BaseException) -> None:
        """A replica met an error that nobody foresaw, perhaps with an entry that it would meet
        again: the node's other replicas go on (P10), and this one is opened again after a while."""
        opened = self.opened.pop(shard)
        self.replicas.pop(shard, None)
        runner = self.runners.pop(shard)
        now = self.loop.time()
        at, wait_s = self._ended.get(shard, (-ENDED_LATELY_S, 0.0))
        lately = now - at < ENDED_LATELY_S
        wait_s = min(2 * wait_s, ASIDE_MAX_S) if lately else ASIDE_MIN_S
        self._ended[shard] = (now, wait_s)
        replica = opened.replica
        what = f"shard {shard}: this node's replica ends, and is opened again in {wait_s:.0f} s"
        tell(logger, what, error)
        try:
            await runner.failed()
            replica.abandon()
            opened.index.close()
            ended = ReplicaEnded(
                f"an error that nobody foresaw ended it, please report it: {describe(error)}"
            )
            again_at = self.loop.time() + wait_s
            self.aside[shard] = Aside(
                replica.replica_id, replica.membership, ended, wait_s, again_at
            )
        finally:
            self._closing.discard(shard)

    def _begin(self, shard: int, work: Coroutine[Any, Any, None]) -> None:
        self._closing.add(shard)
        task = start_task(self.loop, work, self.fatal)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _open_anew(self, shard: int, *, mend: bool = False) -> None:
        opened = self.opened.pop(shard)
        self.replicas.pop(shard, None)
        runner = self.runners.pop(shard)
        try:
            if not runner.has_failed:
                runner.stop()
                await runner.idle()
            await runner.failed()
            while mend and not self._mended(shard, opened.replica):  # noqa: ASYNC110  nothing tells of space
                await asyncio.sleep(MEND_AGAIN_S)
            opened.replica.abandon()
            opened.index.close()
        finally:
            self._closing.discard(shard)
        replica_id, membership = opened.replica.replica_id, opened.replica.membership
        try:
            self.opened[shard] = self._open(shard, replica_id, membership)
        except SyncFailed:
            raise
        except CANNOT_BE_OPENED as e:
            self._set_aside(shard, replica_id, membership, e)
        else:
            self._start(shard)

    def _mended(self, shard: int, replica: Replica) -> bool:
        """Whether the log's files could be mended."""
        try:
            whole = replica.mend_journal()
        except DiskFull as e:
            logger.error("shard %d: the log cannot be mended until there is space: %s", shard, e)
            return False
        if whole:
            logger.warning("shard %d: the log is mended; nothing of it is lost", shard)
        else:
            logger.error(
                "shard %d: some of the log is lost here; this replica takes no part until a "
                "resync has brought it to entry %d",
                shard,
                replica.log_begins_at,
            )
        return True

    async def force_alone(self, shard: int, next_id: int) -> None:
        """Make a replica the only voter of its group (`consensus.force_membership`): it is closed,
        its log gets the entry, and it is opened again. Raises ValueError, and the rooms' errors of
        the disk."""
        opened = self.opened[shard]
        replica_id, before = opened.replica.replica_id, opened.replica.membership
        await self.close(shard)
        self._closing.add(shard)
        try:
            journal = open_journal(self.config, self.folder, shard, replica_id)
            try:
                alone = force_alone(journal, replica_id, before, next_id)
            finally:
                journal.close()
        finally:
            self._closing.discard(shard)
            self.opened[shard] = self._open(shard, replica_id, before)
            self._start(shard)
        logger.warning(
            "shard %d: by an operator's order this replica goes on alone: %s", shard, alone
        )

    async def give_up(self, shard: int) -> None:
        """Close a replica that this node shall not have any more, and remove what it kept."""
        self.aside.pop(shard, None)
        await self.close(shard)
        self.folder.forget(shard)
        self._closing.add(shard)
        try:
            await self.loop.run_in_executor(self.executor, self.folder.clear, shard)
        finally:
            self._closing.discard(shard)
        logger.info("shard %d: this node's replica is given up and its data removed", shard)

    async def idle(self) -> None:
        """Let all runners end their turns, and begin no more; a replica that waits to be mended
        stays as it is."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for runner in self.runners.values():
            runner.stop()
        for runner in list(self.runners.values()):
            await runner.idle()

    async def close_all(self) -> None:
        """Close every replica."""
        self.turns.disk.stop()
        for shard in list(self.opened):
            await self.close(shard)
        self._long_executor.shutdown(wait=False)
