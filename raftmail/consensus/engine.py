"""PySyncObj's SyncObj, bent into a core without sockets, clock, threads, pickle or files of its
own.

This is the only module that imports pysyncobj. The package is not patched on disk: its module-level
hooks (time, journal, poller, pipe) are replaced once, and its private methods overridden in a
subclass. That is bound to one exact version, which `check_version` enforces.

What stays the engine's: terms, votes, roles, the log matching of appends, match and next indices,
the commit index.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Iterable
from typing import Any, Protocol

import pysyncobj.syncobj as stock
from pysyncobj import SyncObj, SyncObjConf
from pysyncobj.node import Node
from pysyncobj.transport import Transport
from pysyncobj.version import VERSION

from raftmail.consensus.journal import Entry, Journal
from raftmail.consensus.timing import Timing
from raftmail.storage.disk import DiskFull

logger = logging.getLogger(__name__)

ENGINE_VERSION = "0.3.17"

FOLLOWER, CANDIDATE, LEADER = 0, 1, 2

NO_OP = b"\x01"
REGULAR = b"\x00"

NODES_MAX = 256
"""Replicas that are remembered before those that are no members are forgotten."""

TERM = "_SyncObj__raftCurrentTerm"
COMMIT_INDEX = "_SyncObj__raftCommitIndex"
APPLIED_INDEX = "_SyncObj__raftLastApplied"
"""The attributes of `Engine` that hold them, for who reads them all the time."""

_NEVER = 1e18


class WrongEngine(Exception):
    """Another PySyncObj than the one the guards were proved with is installed."""


def check_version() -> None:
    """Raises `WrongEngine` unless PySyncObj is exactly the version that the guards were written
    for."""
    if VERSION != ENGINE_VERSION:
        raise WrongEngine(
            f"PySyncObj {VERSION} is installed, but raftmail's guards are proved for "
            f"{ENGINE_VERSION} only: "
            f"install pysyncobj=={ENGINE_VERSION}"
        )


class _Clock:
    """The engine's idea of now, in seconds; set by whoever enters it. One engine runs at a time."""

    now = 0.0


clock = _Clock()


class _NullPoller:
    def poll(self, timeout: float) -> None: ...


def _install_hooks() -> None:
    check_version()
    stock.monotonicTime = lambda: clock.now
    stock.createJournal = lambda journal: journal
    stock.createPoller = lambda kind: _NullPoller()
    stock.PIPE_NOTIFIER_ENABLED = False


_install_hooks()


class EngineOwner(Protocol):
    """What the engine calls back: implemented by `group.Group`."""

    def engine_send(self, peer: int, message: dict[str, Any]) -> None: ...

    def engine_replicate(self) -> None: ...

    def engine_apply(self) -> None: ...


class _Transport(Transport):
    """Hands the engine's messages to the group; always ready, owns no connection."""

    def __init__(self, owner: EngineOwner) -> None:
        super().__init__(None, None, [])
        self._owner = owner

    ready = True

    def send(self, node: Node, message: dict[str, Any]) -> None:
        self._owner.engine_send(node.id, message)

    def addNode(self, node: Node) -> None: ...

    def dropNode(self, node: Node) -> None: ...

    def destroy(self) -> None: ...

    def connected(self, node: Node) -> None:
        self._onNodeConnected(node)

    def disconnected(self, node: Node) -> None:
        self._onNodeDisconnected(node)


class _Member(int, Node):
    """A node that is its id. PySyncObj's own are compared and hashed by methods in Python, which
    its tables call all the time."""

    def __init__(self, replica: int) -> None:
        Node.__init__(self, replica)


class Engine(SyncObj):
    """One Raft participant.

    Replica ids are integers; `nodes` maps the ids of other replicas that were met to PySyncObj
    nodes. The voters among them are its "other nodes", which alone it counts; learners are its
    "read-only" ones, of which it keeps next and match index. Times are seconds. Every method that
    enters the engine expects `clock.now` to be set.
    """

    _SyncObj__raftState: int
    _SyncObj__raftCurrentTerm: int
    _SyncObj__raftCommitIndex: int
    _SyncObj__raftLastApplied: int
    leads = False
    """Whether `role` is `LEADER`."""

    def __init__(
        self,
        owner: EngineOwner,
        self_id: int,
        journal: Journal,
        rng: random.Random,
        timing: Timing,
    ) -> None:
        self.owner = owner
        self.self_id = self_id
        self.rng = rng
        self.election_min_s = timing.election_min_s
        self.election_max_s = timing.election_max_s
        self.count_only_synced = False
        self.withheld_from = 0
        """See `group.Group.withhold`."""
        self._standing = False
        self.nodes: dict[int, _Member] = {}
        self.link = _Transport(owner)
        self.journal = journal
        conf = SyncObjConf(
            autoTick=False,
            appendEntriesUseBatch=False,  # L4: batching is done above the engine
            appendEntriesPeriod=timing.heartbeat_s,
            raftMinTimeout=timing.election_min_s,
            raftMaxTimeout=timing.election_max_s,
            leaderFallbackTimeout=timing.fallback_s,  # G5
            connectionTimeout=max(3.5, timing.election_max_s),
            appendEntriesBatchSizeBytes=1 << 62,  # L3: never split an entry
            commandsWaitLeader=False,  # G11
            dynamicMembershipChange=False,  # G12: `set_members` instead
            journalFile=journal,
        )
        super().__init__(
            Node(self_id),
            [],  # see `set_members`
            conf,
            nodeClass=Node,
            transport=self.link,
        )

    def __dir__(self) -> list[str]:
        # PySyncObj looks through all names for replicated methods, twice for every engine that is
        # made. There are none (G10).
        return []

    # -- state, under names of the field -----------------------------------------------------------

    def role(self) -> int:
        return self._SyncObj__raftState

    def term(self) -> int:
        return self._SyncObj__raftCurrentTerm

    def leader(self) -> int | None:
        node = self._SyncObj__raftLeader
        return None if node is None else int(node.id)

    def commit_index(self) -> int:
        return self._SyncObj__raftCommitIndex

    def applied_index(self) -> int:
        return self._SyncObj__raftLastApplied

    def set_applied(self, index: int) -> None:
        """Tell where the state machine stands; everything up to there is committed (D5: the
        journal's hint is not believed)."""
        self._SyncObj__raftLastApplied = index
        if self._SyncObj__raftCommitIndex < index:
            self._SyncObj__raftCommitIndex = index

    def held_index(self) -> int:
        """Up to here this replica may say that it holds the log: what is on its disk, and not
        withheld."""
        synced = self.journal.synced_index
        return min(synced, self.withheld_from - 1) if self.withheld_from else synced

    def rewind_applied(self, index: int) -> None:
        self._SyncObj__raftLastApplied = index

    def next_index(self, peer: int) -> int:
        index: int = self._SyncObj__raftNextIndex[peer]  # a node is its id
        return index

    def set_next_index(self, peer: int, index: int) -> None:
        self._SyncObj__raftNextIndex[self.nodes[peer]] = index

    def match_index(self, peer: int) -> int:
        index: int = self._SyncObj__raftMatchIndex.get(peer, 0)
        return index

    def forget_match(self, peer: int) -> None:
        """Of a leader: a replica has lost what it was known to hold."""
        if peer in self._SyncObj__raftMatchIndex:
            self._SyncObj__raftMatchIndex[self.nodes[peer]] = 0

    def first_index_of_term(self) -> int:
        """Of a leader: the index of the no-op with which its term began."""
        return int(self._SyncObj__noopIDx or 0)

    def election_deadline(self) -> float:
        return float(self._SyncObj__raftElectionDeadline)

    def set_election_deadline(self, deadline: float) -> None:
        self._SyncObj__raftElectionDeadline = deadline

    def next_deadline(self) -> float:
        """When `tick` has something to do, unless something comes in before."""
        if self.leads:
            return float(self._SyncObj__newAppendEntriesTime)
        return -_NEVER if self.transfer_pending() else self.election_deadline()

    def transfer_pending(self) -> bool:
        return bool(self._SyncObj__transferInProgress)

    # -- who is there (G12) ------------------------------------------------------------------------

    def meet(self, peer: int) -> None:
        """Have a node for a replica that a message came from, or is to go to."""
        if peer not in self.nodes:
            if len(self.nodes) >= NODES_MAX:
                known = self._SyncObj__otherNodes | self._SyncObj__readonlyNodes
                self.nodes = {node.id: node for node in known}
            self.nodes[peer] = _Member(peer)

    def set_members(self, other_voters: Iterable[int], learners: Iterable[int]) -> None:
        """Count these, and keep match and next index of these and those. A leader begins with a new
        one as with all when it was elected."""
        voters, others = set(other_voters), set(learners)
        for peer in voters | others:
            self.meet(peer)
        self._SyncObj__otherNodes = {self.nodes[peer] for peer in voters}
        self._SyncObj__readonlyNodes = {self.nodes[peer] for peer in others}
        known = self._SyncObj__otherNodes | self._SyncObj__readonlyNodes
        following = self.journal.last_index + 1
        for kept, first in (
            (self._SyncObj__raftNextIndex, following),
            (self._SyncObj__raftMatchIndex, 0),
            (self._SyncObj__lastResponseTime, clock.now),
        ):
            for node in [node for node in kept if node not in known]:
                del kept[node]
            for node in known:
                kept.setdefault(node, first)

    # -- entering the engine -----------------------------------------------------------------------

    def deliver(self, peer: int, message: dict[str, Any]) -> None:
        self._SyncObj__onMessageReceived(self.nodes[peer], message)
        self.count_only_synced = False

    def follows(self, leader: int, term: int) -> bool:
        """Whether this is a follower in `term` of the leader, and not asked to take over from
        it."""
        node = self._SyncObj__raftLeader
        return (
            node is not None
            and node.id == leader
            and self._SyncObj__raftState == FOLLOWER
            and self._SyncObj__raftCurrentTerm == term
            and not self._SyncObj__transferInProgress
        )

    def heard_leader(self) -> None:
        """Of a follower: the leader of the term, which it knows, lives."""
        self._SyncObj__raftElectionDeadline = clock.now + self._SyncObj__generateRaftTimeout()

    def heard_from(self, peer: int) -> None:
        """Of a leader: a follower lives."""
        self._SyncObj__lastResponseTime[self.nodes[peer]] = clock.now

    def take_entries(
        self, leader: int, term: int, base: int, entries: list[Entry], commit: int
    ) -> None:
        """Of a follower: entries that follow `base`, which is verified and after which nothing is
        kept."""
        self.deliver(
            leader,
            {
                "type": "append_entries",
                "term": term,
                "commit_index": commit,
                "prevLogIdx": base,
                "prevLogTerm": self.journal.term_of(base),
                "entries": entries,
            },
        )

    def start_election(self) -> None:
        """Have the next tick begin an election. Without this none ever begins (G5)."""
        self._standing = True

    def step_down(self, term: int) -> None:
        """Adopt a higher term that was seen in any message (Raft paper, section 5.1)."""
        self._SyncObj__setCurrentTerm(term, None)
        self.resign()

    def resign(self) -> None:
        """Of a leader: follow whoever is elected next."""
        self._SyncObj__raftLeader = None
        self._SyncObj__setState(FOLLOWER)

    def stand_down(self) -> None:
        """Of a candidate: wait for the next election, whatever votes still come."""
        if self.role() == CANDIDATE:
            self._SyncObj__setState(FOLLOWER)

    def tick(self) -> None:
        if not (self.leads or self._standing):
            # all that is ever due of a replica that neither leads nor begins an election
            self.owner.engine_apply()
            return
        self.count_only_synced = self.leads
        deadline = self._SyncObj__raftElectionDeadline
        held_back = -_NEVER if self._standing else _NEVER
        self._SyncObj__raftElectionDeadline = held_back
        self._standing = False
        try:
            self._onTick(0.0)
        finally:
            self.count_only_synced = False
            if self._SyncObj__raftElectionDeadline == held_back:
                self._SyncObj__raftElectionDeadline = deadline

    def append(self, command: bytes) -> tuple[int, int]:
        """Of a leader: put a command at the end of the log. Returns (term, index)."""
        index = self.journal.last_index + 1
        term = self.term()
        self.journal.add(command, index, term)
        return term, index

    # -- overridden parts of the engine ------------------------------------------------------------

    def _SyncObj__setState(self, newState: int) -> None:
        self._SyncObj__raftState = newState
        self.leads = newState == LEADER

    def _SyncObj__getEntries(
        self, fromIDx: int, count: int | None = None, maxSizeBytes: int | None = None
    ) -> list[Entry]:
        # What the engine still does with entries of the log is to look at their terms: the commands
        # need not be read.
        journal = self.journal
        if fromIDx < journal.first_index:
            return []
        end = journal.last_index + 1
        if count is not None:
            end = min(end, fromIDx + count)
        return [(b"", index, journal.term_of(index)) for index in range(fromIDx, end)]

    def _SyncObj__generateRaftTimeout(self) -> float:
        spread = self.election_max_s - self.election_min_s
        return self.election_min_s + spread * self.rng.random()

    def _SyncObj__getCurrentLogIndex(self) -> int:
        # G8: in the tick of a leader this bounds the search for the commit index. So the leader
        # counts itself only for what its own disk holds.
        if self.count_only_synced:
            return self.held_index()
        return self.journal.last_index

    def _SyncObj__getCurrentLogTerm(self) -> int:
        return self.journal.term_of(self.journal.last_index)

    def _SyncObj__onBecomeLeader(self) -> None:
        index = self.journal.last_index + 1
        try:
            SyncObj._SyncObj__onBecomeLeader(self)
        except DiskFull as e:
            # Without the entry that begins its term a leader would answer reads from before it.
            logger.error("replica %d was elected and cannot lead: %s", self.self_id, e)
            self.resign()
            return
        self._SyncObj__noopIDx = index
        self.count_only_synced = True

    def _SyncObj__sendAppendEntries(self) -> None:
        # At multiples of the period: heartbeats of all groups that a node leads come together, to
        # leave in one frame.
        period = self.conf.appendEntriesPeriod
        self._SyncObj__newAppendEntriesTime = (clock.now // period + 1) * period
        self.owner.engine_replicate()

    def _SyncObj__applyLogEntries(self) -> bool:
        self.owner.engine_apply()
        return False

    def _checkCommandsToApply(self) -> None: ...

    def _SyncObj__tryLogCompaction(self) -> None: ...

    def _SyncObj__loadDumpFile(self, clearJournal: bool) -> None: ...
