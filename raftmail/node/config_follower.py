"""What a node knows of the cluster, kept as new as the root's.

It begins with what it kept in a file, or with what a new cluster begins with. A node with a replica
of the root reads what that has applied. The others are told of changes by those, and ask for what
is new. When nobody tells them anything, they ask now and then. The root is not on the path of any
command.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path

from raftmail.admin.api.between_nodes import WholeState
from raftmail.admin.api.calls import GetStateHere, kind_of
from raftmail.admin.api.codec import decode
from raftmail.cluster.records import NodeRecord, NodeState
from raftmail.cluster.router import Router
from raftmail.cluster.rpc import CallKind
from raftmail.cluster.state import BadState, ClusterState, genesis
from raftmail.cluster.view import ROOT_SHARD
from raftmail.mail.codec import decode_answer, encode_query
from raftmail.mail.failures import Unavailable
from raftmail.mail.queries import Configuration
from raftmail.net.errors import start_task, tell
from raftmail.node.config import Config, worker_name, worker_peer
from raftmail.shard.status import Capability
from raftmail.storage.disk import RealDisk
from raftmail.storage.records import IndexDamaged
from raftmail.storage.spares import SPARES

logger = logging.getLogger(__name__)

STATE_FILE = "cluster.json"
POLL_S = 5.0
RETRY_S = 0.5
LAGGING_S = 0.3
FETCH_S = 5.0
REACHED_S = 0.02
SAVE_S = 0.2
"""A changed state is written after so long, so that a row of changes is written once."""


def load_state(config: Config, *, founding: bool) -> ClusterState:
    """The state that was kept.

    Without one, what a new cluster begins with for a node that is `founding` it, and nothing for
    one that came later.
    """
    path = config.data / STATE_FILE
    try:
        return ClusterState.from_bytes(path.read_bytes())
    except FileNotFoundError:
        pass
    except (OSError, BadState) as e:
        logger.warning("%s: %s; it is fetched again", path, e)
    return first_state(config) if founding else ClusterState()


def first_state(config: Config) -> ClusterState:
    """What a new cluster begins with: alike on every node that has the same [cluster] in its
    configuration."""
    cluster = config.cluster
    nodes = [
        worker_record(name, member.peer, worker, member.workers)
        for name, member in cluster.nodes.items()
        for worker in range(1, member.workers + 1)
    ]
    return genesis(cluster.id, nodes, cluster.shards, cluster.replicas or len(cluster.nodes))


def worker_record(node: str, peer: str, worker: int, workers: int) -> NodeRecord:
    """What the cluster knows of a worker of a node; those of one node share its host."""
    host = node if workers > 1 else ""
    return NodeRecord(worker_name(node, worker), worker_peer(peer, worker), host=host)


def save_state(data: Path, state: ClusterState) -> None:
    """Keep a state, durably and in one step."""
    temporary = data / f".{STATE_FILE}.new"
    disk = RealDisk(data)
    with SPARES.opening(lambda: open(temporary, "wb")) as f:
        f.write(state.to_bytes())
        f.flush()
    file = disk.open(temporary.name)
    try:
        file.sync()
    finally:
        file.close()
    disk.rename(temporary.name, STATE_FILE)
    disk.sync_folder("")


@dataclass(slots=True, repr=False)
class ConfigFollower:
    """Keeps `state` new. `changed` is called with every new state, on the event loop; `tell` sends
    a revision to a node.

    Invariant: the revision of `state` never goes back."""

    config: Config
    loop: asyncio.AbstractEventLoop
    executor: Executor
    router: Router
    state: ClusterState
    changed: Callable[[ClusterState], None]
    peers_up: Callable[[], Iterable[str]]
    known: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once the cluster is known at all."""
    _task: asyncio.Task[None] | None = None
    _saving: asyncio.TimerHandle | None = None
    _saved: set[asyncio.Future[None]] = field(default_factory=set)
    _next_poll: float = 0.0
    _source: str = ""
    _again: bool = False
    _said: str = ""
    _told: int = 0

    def tick(self, now: float) -> None:
        """Let time pass: look at the own replica of the root, or ask for what is new when it is
        time to."""
        if self._read_own() and self.state.revision >= self._told:
            self._next_poll = now + POLL_S
        elif now >= self._next_poll:
            self._fetch_soon("")

    def heard(self, node: str, revision: int) -> None:
        """A node has told the revision that it knows."""
        self._told = max(self._told, revision)
        if self._read_own():
            if self.state.revision < revision:
                # The own replica of the root will know it in a moment, unless it was taken out of
                # the group.
                self._next_poll = min(self._next_poll, self.loop.time() + LAGGING_S)
        elif self.state.revision < revision:
            self._fetch_soon(node)

    async def close(self) -> None:
        """Stop following, and keep what is known."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await asyncio.gather(*self._saved, return_exceptions=True)
        if self._saving is not None:
            self._saving.cancel()
            self._save()
        await asyncio.gather(*self._saved, return_exceptions=True)

    async def newest(self, deadline_s: float) -> ClusterState:
        """The state of now: everything that the root had acknowledged when this was asked. Raises
        `Unavailable`."""
        state = self.state
        while True:
            answer = await self.router.query(state.question, deadline_s=deadline_s)
            assert isinstance(answer, Configuration)
            state = state.apply(answer)
            if state.whole:
                break
        if state.revision > self.state.revision:
            self.take(state)
        return state

    async def reached(self, revision: int, deadline_s: float) -> None:
        """Wait until this node knows a revision, within the deadline."""
        deadline = self.loop.time() + deadline_s
        while self.state.revision < revision and self.loop.time() < deadline:
            self._read_own()
            if self.state.revision < revision:
                self._fetch_soon("")
                await asyncio.sleep(REACHED_S)

    def _read_own(self) -> bool:
        """Take over what the own replica of the root has applied; False when there is none that can
        be read."""
        replica = self.router.replicas.get(ROOT_SHARD)
        if replica is None or not replica.may(Capability.READ):
            return False
        try:
            revision = replica.config_revision
            if revision > self.state.revision:
                state = self.state
                while state.revision < revision or not state.whole:
                    answer = replica.query(state.question)
                    assert isinstance(answer, Configuration)
                    state = state.apply(answer)
                self.take(state)
        except IndexDamaged as e:
            replica.index_damaged(e)
            return False
        # A replica that was away may lag behind what was kept, and one that hears no master behind
        # everybody: others are asked then.
        return replica.hears_leader(self.loop.time()) and revision >= self.state.revision

    def _fetch_soon(self, source: str) -> None:
        self._source = source
        if self._task is None:
            self._task = start_task(self.loop, self._fetch(), self._failed)
        else:
            self._again = True

    async def _fetch(self) -> None:
        wait_s = POLL_S
        try:
            state = await self._asked(self._source)
            if state.revision > self.state.revision:
                self.take(state)
            self._said = ""
        except Unavailable as e:
            wait_s = RETRY_S
            if str(e) != self._said:
                self._said = str(e)
                logger.info("the root cannot be asked what is new: %s", e)
        except (BadState, ValueError) as e:
            logger.warning("what the root answers cannot be read: %s", e)
        finally:
            self._task = None
            self._next_poll = self.loop.time() + (wait_s if self.state.revision else RETRY_S)
            if self._again:
                self._again = False
                self._next_poll = self.loop.time() + RETRY_S / 5

    def _failed(self, error: Exception) -> None:
        tell(logger, "what the root answers cannot be used, and it is asked again", error)

    async def _asked(self, source: str) -> ClusterState:
        """The newest state that can be had. Raises `Unavailable`, `BadState`."""
        router = self.router
        state = self.state
        if not state.revision:
            # Which nodes have the root is not known: anybody who knows more may tell.
            for node in [source] if source else list(self.peers_up()):
                answer = await router.ask(node, kind_of(GetStateHere()).name, {}, FETCH_S)
                found = ClusterState.from_bytes(decode(WholeState, answer).state)
                if found.revision:
                    return found
            return state
        while True:
            data = (encode_query(state.question),)
            target = source if source in state.members(ROOT_SHARD) else ""
            answer = decode_answer(
                await router.call(CallKind.QUERY, ROOT_SHARD, FETCH_S, data, target=target)
            )
            if not isinstance(answer, Configuration):
                raise BadState("the answer is no configuration")
            state = state.apply(answer)
            if state.whole:
                return state

    def take(self, state: ClusterState) -> None:
        """A newer state."""
        for key, why in state.unreadable.items():
            if self.state.unreadable.get(key) != why:
                logger.error("%s; what was known before stays in force", why)
        self.state = state
        self.known.set()
        if self._saving is None:
            self._saving = self.loop.call_later(SAVE_S, self._save)
        self.changed(state)

    def _save(self) -> None:
        self._saving = None
        if self._saved:  # the disk is slow: one after the other
            self._saving = self.loop.call_later(SAVE_S, self._save)
            return
        future = self.loop.run_in_executor(self.executor, save_state, self.config.data, self.state)
        self._saved.add(future)
        future.add_done_callback(self._note_saved)

    def _note_saved(self, future: asyncio.Future[None]) -> None:
        self._saved.discard(future)
        if not future.cancelled() and future.exception() is not None:
            logger.error("the cluster's state could not be kept: %s", future.exception())


def peers_of(state: ClusterState, config: Config) -> tuple[dict[str, str], set[str]]:
    """The addresses at which to reach the other nodes, and the names of those that were removed."""
    known = state.every_node
    removed = {name for name, node in known.items() if node.state is NodeState.REMOVED}
    peers = {name: node.peer for name, node in known.items() if name not in removed}
    if not state.revision:
        # Not heard of the cluster yet: the configuration says by whom to find it.
        peers |= {name: member.peer for name, member in config.cluster.nodes.items()}
    peers.pop(config.node.name, None)
    return {name: config.dial.get(name, peer) for name, peer in peers.items()}, removed
