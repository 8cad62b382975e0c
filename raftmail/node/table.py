"""The replicas of a node, each with the runner that drives it: they come and go while it runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from raftmail.cluster.state import ClusterState
from raftmail.consensus.beats import unpack
from raftmail.consensus.forcing import force_alone
from raftmail.consensus.journal import JournalDamaged
from raftmail.consensus.messages import BadMessage
from raftmail.doors.errors import start_task
from raftmail.node.config import Config
from raftmail.node.folder import DataFolder
from raftmail.node.kept import Orders, note_closed, order
from raftmail.node.reconcile import first_membership
from raftmail.node.replicas import Opened, open_journal, open_replica
from raftmail.node.runner import Runner
from raftmail.node.turns import Turns
from raftmail.shard.frames import FrameKind
from raftmail.shard.replica import Frame, Replica
from raftmail.storage.disk import DiskFull
from raftmail.storage.kv import TableDamaged

logger = logging.getLogger(__name__)

MEND_AGAIN_S = 2.0
"""How often it is tried again to mend a log that there is no space for."""

BEATS_ROUTE = 0
"""The shard that frames with the beats of all shards go under."""


@dataclass(slots=True, repr=False)
class Table:
    """See the module's docstring.

    Invariants:

    1. A replica is noted in the folder before its runner takes the first step.
    2. `replicas`, `opened` and `runners` have the same shards; one that is being closed is in none of them."""

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
    opened: dict[int, Opened] = field(default_factory=dict)
    replicas: dict[int, Replica] = field(default_factory=dict)
    runners: dict[int, Runner] = field(default_factory=dict)
    turns: Turns = field(init=False)
    _closing: set[int] = field(default_factory=set)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.turns = Turns(self.loop, self.executor, self.flush_links, self.after)

    def open_all(self, wanted: Mapping[int, int], state: ClusterState) -> None:
        """Open replicas (shard to id), making those that are new, and start them.

        Raises the rooms' errors of damage and of the disk: then none of them is open."""
        opened: dict[int, Opened] = {}
        try:
            for shard, replica_id in wanted.items():
                assert shard not in self.opened and shard not in self._closing
                if shard not in self.folder.made and not self.folder.is_new:
                    self.folder.clear(shard)
                told = first_membership(state, shard, replica_id, self.config.node.name)
                opened[shard] = open_replica(
                    self.config, self.folder, shard, replica_id, told, self.loop.time()
                )
            new = {shard: wanted[shard] for shard in wanted if shard not in self.folder.made}
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

    def _start(self, shard: int) -> None:
        replica = self.opened[shard].replica
        self.replicas[shard] = replica
        self.runners[shard] = Runner(
            replica,
            self.loop,
            self.executor,
            self.turns.wake,
            self.send_frame,
            partial(self.failed, shard),
            self.role_changed,
        )
        for node in self.peers_up():
            replica.connected(self.loop.time(), node)

    def is_busy(self, shard: int) -> bool:
        """Whether a shard's replica is being closed, or opened anew."""
        return shard in self._closing

    def tick(self) -> None:
        """Let time pass for every replica."""
        now = self.loop.time()
        beats: list[tuple[str, bytes]] = []
        for runner in self.runners.values():
            beats += runner.tick(now)
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
            opened.replica.close()
            opened.index.close()
            note_closed(self.folder.shard_disk(shard).root)
        finally:
            self._closing.discard(shard)

    def failed(self, shard: int, error: BaseException) -> None:
        """An error that a replica must not go on after. Of an index that cannot be used it is opened anew, without, and of a log that
        somebody was at with what this process knows of it; any other ends the process."""
        if isinstance(error, JournalDamaged):
            self.mend_journal(shard, str(error))
        elif not isinstance(error, TableDamaged):
            self.fatal(error)
        elif shard in self.opened and shard not in self._closing:
            order(self.folder.shard_disk(shard), Orders(rebuild=str(error)))
            self._begin(shard, self._open_anew(shard))

    def mend_journal(self, shard: int, what: str) -> None:
        """Somebody was at the files of a replica's log: have files again that a start can read. Until then it takes no part."""
        if shard in self.opened and shard not in self._closing:
            logger.error("shard %d: %s; the log is written anew", shard, what)
            self._begin(shard, self._open_anew(shard, mend=True))

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
        group = opened.replica.group
        self.opened[shard] = open_replica(
            self.config, self.folder, shard, group.self_id, group.membership, self.loop.time()
        )
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
                "shard %d: some of the log is lost here; this replica takes no part until a resync has brought it to entry %d",
                shard,
                replica.group.journal.begins_at,
            )
        return True

    async def force_alone(self, shard: int, next_id: int) -> None:
        """Make a replica the only voter of its group (`consensus.forcing`): it is closed, its log gets the entry, and it is opened
        again. Raises ValueError, and the rooms' errors of the disk."""
        opened = self.opened[shard]
        group = opened.replica.group
        replica_id, before = group.self_id, group.membership
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
            self.opened[shard] = open_replica(
                self.config, self.folder, shard, replica_id, before, self.loop.time()
            )
            self._start(shard)
        logger.warning(
            "shard %d: by an operator's order this replica goes on alone: %s", shard, alone
        )

    async def give_up(self, shard: int) -> None:
        """Close a replica that this node shall not have any more, and remove what it kept."""
        await self.close(shard)
        self.folder.forget(shard)
        self._closing.add(shard)
        try:
            await self.loop.run_in_executor(self.executor, self.folder.clear, shard)
        finally:
            self._closing.discard(shard)
        logger.info("shard %d: this node's replica is given up and its data removed", shard)

    async def idle(self) -> None:
        """Let all runners end their turns, and begin no more; a replica that waits to be mended stays as it is."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for runner in self.runners.values():
            runner.stop()
        for runner in list(self.runners.values()):
            await runner.idle()

    async def close_all(self) -> None:
        """Close every replica."""
        for shard in list(self.opened):
            await self.close(shard)
