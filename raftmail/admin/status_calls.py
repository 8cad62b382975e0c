"""The condition of this node and of the whole cluster.

A call is answered from this node's own replicas and, for the cluster, from what the other nodes
answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from raftmail.admin.admin_calls import AdminCalls, Handlers, NotUnderstood
from raftmail.admin.api.between_nodes import WholeState
from raftmail.admin.api.calls import Call, GetNodeStatus, GetStateHere, GetStatus, GetWaitsHere
from raftmail.admin.api.status import (
    MASTER,
    Alarm,
    ClusterStatus,
    MemberStatus,
    NodeReport,
    NodeStatus,
    ReplicaNotOpen,
    ReplicaRow,
    ShardStatus,
    Verified,
)
from raftmail.admin.config_writer import ConfigSource
from raftmail.admin.replica_status import status_of
from raftmail.cluster.state import ClusterState
from raftmail.cluster.view import ROOT_SHARD
from raftmail.mail.failures import Unavailable

R = TypeVar("R")
PEER_ANSWER_S = 2.0
RELAYED_ANSWER_S = 0.5
CONTRADICTED_S = 600.0
"""For so long status tells of an append that contradicted what is committed. A leader that keeps to
it sends others meanwhile."""
ALARMS_MAX = 100
"""Alarms that one node tells at once."""


class OwnNode(Protocol):
    """What a node tells of itself, and the replicas that are not in the router do not."""

    def report(self) -> NodeReport:
        """Its process and machine."""

    def index_bytes(self, shard: int) -> int:
        """What the index of an open replica takes."""

    def count_users(self) -> int | None:
        """How many users there are, by a plain look at the own replica of the root; None without
        one."""

    def changed_files(self, shard: int) -> Sequence[str]:
        """What somebody did to a replica's files, in words."""

    def aside(self) -> Mapping[int, str]:
        """Why replicas cannot be opened, by shard."""

    def lost(self) -> Mapping[int, ReplicaNotOpen]:
        """The replicas that were set aside, by shard."""

    def verified(self) -> Mapping[int, Verified]:
        """The last comparisons that were made here, by shard."""

    def alarms(self) -> Sequence[str]:
        """What is wrong with its disk and its links."""

    def waited_for(self) -> Mapping[str, str]:
        """What it waits for as the root's master (`ControllerLoop.waits`)."""


@dataclass(frozen=True, slots=True)
class ShardReport:
    """What the nodes say of a shard."""

    bytes: int
    master: str | None


@dataclass(slots=True, repr=False)
class StatusCalls:
    """Answers "status" and, between nodes, "status-here", "state-here" and "waits-here"."""

    calls: AdminCalls
    config_source: ConfigSource
    own: OwnNode
    cluster: str
    """The cluster's id."""

    @property
    def handlers(self) -> Handlers:
        return {
            GetStatus: self._status,
            GetNodeStatus: self._node_status,
            GetStateHere: self._state,
            GetWaitsHere: self._waits,
        }

    # -- of the cluster ----------------------------------------------------------------------------

    async def _status(self, call: GetStatus, deadline: float) -> ClusterStatus:
        router = self.calls.router
        nodes = router.view.nodes
        answers = await asyncio.gather(*map(self._answer_of, nodes))
        by_node = dict(zip(nodes, answers, strict=True))
        told = {name: a for name, a in by_node.items() if isinstance(a, NodeStatus)}
        odd = {name: str(a) for name, a in by_node.items() if isinstance(a, NotUnderstood)}
        return ClusterStatus(
            self.cluster,
            router.node,
            tuple(self._member(name, told.get(name), is_up=bool(by_node[name])) for name in nodes),
            tuple(self._shard(shard, told) for shard in router.view.shards),
            self.own.count_users(),
            (*_alarms(told), *(Alarm(text, (router.node,)) for text in odd.values())),
        )

    async def _answer_of(self, node: str) -> NodeStatus | NotUnderstood | None:
        try:
            return await self._ask(node, GetNodeStatus())
        except NotUnderstood as e:
            return e
        except Unavailable:
            return None

    def _member(self, name: str, answer: NodeStatus | None, *, is_up: bool) -> MemberStatus:
        record = self.config_source.state.every_node[name]
        return MemberStatus(
            name,
            is_up,
            record.peer,
            record.state.value,
            record.cordoned,
            None if answer is None else answer.node,
        )

    def _shard(self, shard: int, told: Mapping[str, NodeStatus]) -> ShardStatus:
        rows = [
            ReplicaRow(name, told[name].replica(shard) if name in told else ReplicaNotOpen())
            for name in self.calls.router.view.members(shard)
        ]
        opened = [(row.node, row.opened) for row in rows if row.opened is not None]
        leading = [(node, one) for node, one in opened if one.role == MASTER]
        term = max((one.term for _, one in opened), default=0)
        last = max((one.last_index for _, one in leading), default=0)
        last = last or max((one.last_index for _, one in opened), default=0)
        rows = [
            row if row.opened is None else replace(row, lag=max(0, last - row.opened.applied_index))
            for row in rows
        ]
        found = [one.verified[shard] for one in told.values() if shard in one.verified]
        return ShardStatus(
            shard,
            next((node for node, one in leading if one.term == term), None),
            term,
            tuple(rows),
            max(found, key=lambda one: one.at, default=None),
        )

    # -- of this node ------------------------------------------------------------------------------

    async def _node_status(self, call: GetNodeStatus, deadline: float) -> NodeStatus:
        return self._here()

    def _here(self) -> NodeStatus:
        router = self.calls.router
        now = router.clock()
        return NodeStatus(
            self.own.report(),
            {
                shard: status_of(
                    replica, now, self.own.index_bytes(shard), self.own.changed_files(shard)
                )
                for shard, replica in router.replicas.items()
            },
            self.own.aside(),
            self.own.verified(),
            self.own.lost(),
            tuple(self._alarms_here(now)[:ALARMS_MAX]),
        )

    def _alarms_here(self, now: float) -> list[str]:
        """What of the cluster's records this node cannot use, and what is wrong with the node."""
        found = [
            f"{why}; what was known before stays in force; `raftmail record repair` mends it"
            for why in self.config_source.state.unreadable.values()
        ]
        found += self.own.alarms()
        found += [
            f"shard {shard}: an append was refused: {one[1]}"
            for shard, replica in self.calls.router.replicas.items()
            if (one := replica.contradiction) is not None and now < one[0] + CONTRADICTED_S
        ]
        return found

    async def _state(self, call: GetStateHere, deadline: float) -> WholeState:
        return WholeState(self.config_source.state.to_bytes())

    async def _waits(self, call: GetWaitsHere, deadline: float) -> Mapping[str, str]:
        return self.own.waited_for()

    # -- for other calls ---------------------------------------------------------------------------

    async def _ask(self, node: str, call: Call[R]) -> R:
        """Without a link of its own a node may still be reached through a third one; a dead one is
        not waited for long."""
        wait_s = PEER_ANSWER_S if self._is_up(node) else RELAYED_ANSWER_S
        return await self.calls.ask(node, call, wait_s)

    def _is_up(self, node: str) -> bool:
        return node == self.calls.router.node or self.calls.router.links.is_up(node)

    async def ask_or_none(self, node: str, call: Call[R]) -> R | None:
        """What a node answers; None when it does not. Raises ValueError for what this node itself
        refuses."""
        try:
            return await self._ask(node, call)
        except Unavailable:
            return None

    async def is_alive(self, node: str) -> bool:
        """Whether a node answers, through whichever other."""
        return node == self.calls.router.node or await self._answer_of(node) is not None

    async def waits(self) -> Mapping[str, str]:
        """What the root's master waits for; nothing while there is none."""
        router = self.calls.router
        master = await router.master_of(ROOT_SHARD, PEER_ANSWER_S)
        return await self.ask_or_none(master or router.node, GetWaitsHere()) or {}

    async def shard_reports(self, state: ClusterState) -> Mapping[int, ShardReport]:
        """The bytes of bodies and the master of each shard, by what all nodes say."""
        nodes = [self.calls.router.node]
        nodes += [name for name in state.nodes if name not in nodes]
        answers = await asyncio.gather(*[self.ask_or_none(n, GetNodeStatus()) for n in nodes])
        found: dict[int, ShardReport] = {}
        terms: dict[int, int] = {}
        for node, answer in zip(nodes, answers, strict=True):
            for shard, row in {} if answer is None else answer.shards.items():
                known = found.get(shard, ShardReport(0, None))
                master = known.master
                if row.role == MASTER and row.term >= terms.get(shard, 0):
                    terms[shard], master = row.term, node
                found[shard] = ShardReport(max(known.bytes, row.blob_bytes), master)
        return found


def _alarms(told: Mapping[str, NodeStatus]) -> Iterable[Alarm]:
    """Each alarm once, with the nodes that raise it."""
    found: dict[str, list[str]] = {}
    for name, answer in told.items():
        for text in answer.alarms:
            found.setdefault(text, []).append(name)
    return [Alarm(text, tuple(nodes)) for text, nodes in found.items()]
