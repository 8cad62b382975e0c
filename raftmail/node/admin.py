"""What operators ask of a node: status, transfer of mastership, verification.

A call is answered from this node's own replicas and, for the whole cluster, from what the other nodes answer. Names that end in "-here" are
what nodes ask each other.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from raftmail import __version__
from raftmail.admin.cluster_calls import ClusterCalls, ShardReport
from raftmail.admin.config_writer import ConfigWriter
from raftmail.admin.force_recovery import ForceRecovery
from raftmail.admin.policy_calls import PolicyCalls
from raftmail.cluster.records import NodeState
from raftmail.cluster.router import Router
from raftmail.cluster.state import ClusterState
from raftmail.cluster.view import ROOT_SHARD
from raftmail.consensus.group import NotLeader
from raftmail.mail.admin import JSON
from raftmail.mail.failures import Failure, Unavailable
from raftmail.node.budget import memory_of
from raftmail.node.config import Config
from raftmail.node.config_follower import ConfigFollower
from raftmail.admin.consistency_check import ConsistencyCheck
from raftmail.node.disk_watch import HANG_S, DiskWatch
from raftmail.node.file_watch import FileWatch
from raftmail.admin.group_reports import GroupReports
from raftmail.node.lost_disks import LostDisk, status_of
from raftmail.node.replica_table import Aside
from raftmail.node.replicas import Opened
from raftmail.admin.resync_calls import ResyncCalls, care_status
from raftmail.node.table import Aside
from raftmail.peering.peers import address_problem
from raftmail.shard.replica import Replica
from raftmail.shard.status import Capability, conditions_of

PEER_ANSWER_S = 2.0
RELAYED_ANSWER_S = 0.5
CONTRADICTED_S = 600.0
"""For so long status tells of an append that contradicted what is committed. A leader that keeps to it sends others meanwhile."""
ALARMS_MAX = 100
"""Alarms that one node tells at once."""

Handler = Callable[[Mapping[str, str], float], Awaitable[JSON]]


class _Given(dict[str, str]):
    """Arguments of a call: one that is needed and was not given is refused by its name."""

    def __missing__(self, name: str) -> str:
        raise ValueError(f"{name}: must be given")


@dataclass(slots=True, repr=False)
class Admin:
    """Answers administrative calls. `is_up` tells whether the link to a node is up."""

    config: Config
    router: Router
    config_source: ConfigFollower
    opened: Mapping[int, Opened]
    aside: Mapping[int, Aside]
    disk: DiskWatch
    is_up: Callable[[str], bool]
    clock: Callable[[], float]
    started_at: float
    wall: Callable[[], float]
    force_alone: Callable[[int, int], Awaitable[None]]
    mend_journal: Callable[[int, str], None]
    resync: ResyncCalls = field(init=False)
    verifying: ConsistencyCheck = field(init=False)
    files: FileWatch = field(init=False)
    observing: GroupReports = field(init=False)
    operators: ClusterCalls = field(init=False)
    recovering: ForceRecovery = field(init=False)
    policies: PolicyCalls = field(init=False)
    lost: Callable[[], Mapping[int, LostDisk]] = field(default=dict, init=False)
    """The replicas that were set aside, by shard."""
    outlaws: Callable[[], dict[str, str]] = field(default=dict, init=False)
    """Why processes that call themselves a peer were refused lately (`PeerNet.outlaws`)."""
    waits: Callable[[], dict[str, str]] = field(default=dict, init=False)
    """What this node waits for as the root's master (`ControllerLoop.waits`)."""

    def __post_init__(self) -> None:
        name = self.config.node.name
        self.resync = ResyncCalls(name, self.router, self.opened)
        self.files = FileWatch(self.config.data / "shards", self.opened, self.mend_journal)
        self.verifying = ConsistencyCheck(
            name,
            self.router,
            self.opened,
            self.clock,
            self.wall,
            float(self.config.verify.period_s),
        )
        self.observing = GroupReports(self.router, self.clock)
        writer = ConfigWriter(self.router, self.config_source, self.wall)
        self.recovering = ForceRecovery(
            self.router, self.config_source, writer, self.force_alone, self.is_up
        )
        self.policies = PolicyCalls(self.router, self.config_source, writer, self._waits)
        self.operators = ClusterCalls(
            self.router, self.config_source, writer, self._is_alive, self._looks, self._waits
        )

    async def answer(self, what: str, arguments: Mapping[str, str], deadline: float) -> JSON:
        """Raises ValueError for a call that does not exist or bad arguments, `Unavailable`."""
        handlers: dict[str, Handler] = {
            **self.operators.handlers,
            **self.recovering.handlers,
            **self.policies.handlers,
            "status": self._status,
            "status-here": self._status_here,
            "transfer": self._transfer,
            "transfer-here": self._transfer_here,
            "state-here": self._state_here,
            **self.resync.handlers(),
            **self.verifying.handlers(),
            "waits-here": self._waits_here,
            "observe-here": self.observing.observe_here,
            "hold-here": self.observing.hold_here,
            "change-here": self.observing.change_here,
        }
        handler = handlers.get(what)
        if handler is None:
            known = ", ".join(n for n in handlers if not n.endswith("-here"))
            raise ValueError(f"there is no administrative call {what!r}; there are {known}")
        return await handler(_Given(arguments), deadline)

    def tick(self, now: float) -> None:
        """What is looked at without being asked."""
        self.verifying.tick(now)
        self.files.tick(now)

    # -- status --------------------------------------------------------------------------------------

    async def _status(self, arguments: Mapping[str, str], deadline: float) -> JSON:
        here = self.config.node.name
        others = [n for n in self.router.view.nodes if n != here]
        answers = await asyncio.gather(
            self._status_here({}, deadline),
            *[self._ask_or_none(n, "status-here", {}) for n in others],
        )
        by_node = dict(zip([here, *others], answers, strict=True))
        nodes = []
        for name in self.router.view.nodes:
            answer = by_node[name]
            node: dict[str, Any] = {
                "name": name,
                "up": answer is not None,
                "peer": self.config_source.state.every_node[name].peer,
                "membership": self.config_source.state.every_node[name].state.value,
                "cordoned": self.config_source.state.every_node[name].cordoned,
            }
            if answer is not None:
                node |= answer["node"]
            nodes.append(node)
        shards = []
        for shard in self.router.view.shards:
            shards.append(self._shard_status(shard, by_node))
        return {
            "cluster": self.config.cluster.id,
            "asked": here,
            "nodes": nodes,
            "shards": shards,
            "users": await self._count_users(),
            "alarms": _alarms(by_node),
        }

    def _shard_status(self, shard: int, by_node: Mapping[str, Any]) -> dict[str, Any]:
        replicas: list[Any] = []
        for name in self.router.view.members(shard):
            answer = by_node.get(name)
            replicas.append({"node": name, **_row_of(answer, shard)})
        term = max([r.get("term", 0) for r in replicas], default=0)
        masters = [r["node"] for r in replicas if r.get("role") == "master" and r["term"] == term]
        last = max(
            [r.get("last_index", 0) for r in replicas if r.get("role") == "master"], default=0
        )
        last = last or max([r.get("last_index", 0) for r in replicas], default=0)
        for replica in replicas:
            if "applied_index" in replica:
                replica["lag"] = max(0, last - replica["applied_index"])
        return {
            "shard": shard,
            "master": masters[0] if masters else None,
            "term": term,
            "replicas": replicas,
            "verified": max(
                [
                    a["verified"][str(shard)]
                    for a in by_node.values()
                    if a and str(shard) in a["verified"]
                ],
                key=lambda found: found["at"],
                default=None,
            ),
        }

    async def _status_here(self, arguments: Mapping[str, str], deadline: float) -> JSON:
        disk = shutil.disk_usage(self.config.data)
        node = {
            "version": __version__,
            "pid": os.getpid(),
            "uptime_s": round(self.clock() - self.started_at, 1),
            "disk_free_bytes": disk.free,
            "disk": self.disk.status(),
            "memory_budget_bytes": sum(memory_of(self.config).values()),
            "links": {
                n: self.is_up(n) for n in self.router.view.nodes if n != self.config.node.name
            },
        }
        return {
            "node": node,
            "shards": {
                str(s): _replica_status(o, self.clock()) | {"files": self.files.found.get(s, [])}
                for s, o in self.opened.items()
            },
            "aside": {str(s): str(one.error) for s, one in self.aside.items()},
            "verified": {str(s): found for s, found in self.verifying.found.items()},
            "lost": {str(s): status_of(one) for s, one in self.lost().items()},
            "alarms": self._alarms_here(),
        }

    def _alarms_here(self) -> list[str]:
        """What of the cluster's records this node cannot use."""
        unreadable = self.config_source.state.unreadable.values()
        found = [
            f"{why}; what was known before stays in force; `raftmail record repair` mends it"
            for why in unreadable
        ]
        found += [
            f"node {node.name} cannot be reached: {problem}; remove it, or have it join with the right address"
            for node in self.config_source.state.every_node.values()
            if node.state is not NodeState.REMOVED and (problem := address_problem(node.peer))
        ]
        if self.disk.slow or self.disk.hangs_s() >= HANG_S:
            found.append(f"{self.disk.what} is slow: {self.disk.text()}")
        found += self.outlaws().values()
        found += [
            f"shard {shard}: an append was refused: {one[1]}"
            for shard, opened in self.opened.items()
            if (one := opened.replica.contradiction) is not None
            and self.clock() < one[0] + CONTRADICTED_S
        ]
        return found[:ALARMS_MAX]

    async def _state_here(self, arguments: Mapping[str, str], deadline: float) -> JSON:
        """All that this node knows of the cluster, for a node that knows nothing yet."""
        return {"state": self.config_source.state.to_bytes()}

    async def _count_users(self) -> int | None:
        """How many users there are, by a plain look at the local root replica; None without one."""
        root = self.opened.get(ROOT_SHARD)
        return None if root is None else root.engine.table("users").count()

    async def _ask_or_none(self, node: str, what: str, arguments: Mapping[str, str]) -> Any:
        # Without a link of its own a node may still be reached through a third one; a dead one is not waited for long.
        wait_s = PEER_ANSWER_S if self.is_up(node) else RELAYED_ANSWER_S
        try:
            return await self.router.ask(node, what, arguments, wait_s)
        except Unavailable:
            return None

    async def _is_alive(self, node: str) -> bool:
        if node == self.config.node.name:
            return True
        return await self._ask_or_none(node, "status-here", {}) is not None

    async def _waits_here(self, arguments: Mapping[str, str], deadline: float) -> JSON:
        return self.waits()

    async def _waits(self, deadline: float) -> Mapping[str, str]:
        """What the root's master waits for; nothing while there is none."""
        master = await self.router.master_of(ROOT_SHARD, PEER_ANSWER_S)
        if master is None or master == self.config.node.name:
            return self.waits()
        return await self._ask_or_none(master, "waits-here", {}) or {}

    async def _looks(self, state: ClusterState) -> Mapping[int, ShardReport]:
        """The bytes of bodies and the master of each shard, by what all nodes say."""
        here = self.config.node.name
        others = [n for n in state.nodes if n != here]
        answers = await asyncio.gather(
            self._status_here({}, 0.0),
            *[self._ask_or_none(n, "status-here", {}) for n in others],
        )
        looks: dict[int, ShardReport] = {}
        terms: dict[int, int] = {}
        for node, answer in zip([here, *others], answers, strict=True):
            for number, row in {} if answer is None else answer["shards"].items():
                shard = int(number)
                size, master = looks.get(shard, ShardReport(0, None))
                if row["role"] == "master" and row["term"] >= terms.get(shard, 0):
                    terms[shard], master = row["term"], node
                looks[shard] = ShardReport(max(size, row["blob_bytes"]), master)
        return looks

    # -- transfer ------------------------------------------------------------------------------------

    def _shard_argument(self, arguments: Mapping[str, str]) -> int:
        text = arguments.get("shard", "")
        if not text.isdecimal() or int(text) not in self.router.view.shards:
            raise ValueError(
                f"shard: {text!r} is no shard of this cluster (0 to {max(self.router.view.shards)})"
            )
        return int(text)

    def _replica(self, shard: int) -> Replica:
        opened = self.opened.get(shard)
        if opened is None:
            raise Unavailable(Failure(f"this node has no replica of shard {shard}"))
        return opened.replica

    async def _transfer(self, arguments: Mapping[str, str], deadline: float) -> JSON:
        shard = self._shard_argument(arguments)
        node = arguments.get("node", "")
        if node not in self.router.view.members(shard):
            raise ValueError(
                f"node: {node!r} has no replica of shard {shard}; {', '.join(self.router.view.members(shard))} have"
            )
        cordoned = self.config_source.state.every_node[node].cordoned
        if cordoned:
            raise ValueError(
                f"node: {node} is cordoned, and gets no masters; `raftmail member uncordon {node}` lifts it"
            )
        held: Any = None
        master = None
        while self.clock() < deadline:
            # Before it leads: no round of the balancer may come between.
            held = held or await self._have_held(shard, node)
            master = await self.router.master_of(shard, min(PEER_ANSWER_S, deadline - self.clock()))
            if master == node and held is not None:
                return {"shard": shard, "master": node, "hold_s": held["hold_s"]}
            if master == self.config.node.name:
                self._begin_transfer(shard, node)
            elif master is not None:
                await self._ask_or_none(
                    master, "transfer-here", {"shard": str(shard), "node": node}
                )
            await asyncio.sleep(0.05)
        if master is None:
            raise Unavailable(Failure(self.router.no_master(shard)))
        why = "does not answer" if held is None else "did not take it in time; does it lag behind?"
        raise Unavailable(Failure(f"shard {shard} is still led by {master}: {node} {why}"))

    async def _have_held(self, shard: int, node: str) -> Any:
        arguments = {"shard": str(shard)}
        if node == self.config.node.name:
            return await self.observing.hold_here(arguments, self.clock())
        return await self._ask_or_none(node, "hold-here", arguments)

    async def _transfer_here(self, arguments: Mapping[str, str], deadline: float) -> JSON:
        self._begin_transfer(self._shard_argument(arguments), arguments.get("node", ""))
        return {}

    def _begin_transfer(self, shard: int, node: str) -> None:
        replica = self._replica(shard)
        targets = {name: number for number, name in replica.membership.voters.items()}
        if node not in targets:
            raise ValueError(f"node: {node!r} has no replica of shard {shard}")
        try:
            replica.transfer(self.clock(), targets[node])
        except NotLeader:
            raise Unavailable(Failure(f"this node does not lead shard {shard}")) from None
        self.router.links.wake(shard)


def _alarms(by_node: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Each alarm once, with the nodes that raise it."""
    found: dict[str, list[str]] = {}
    for name, answer in by_node.items():
        for text in (answer or {}).get("alarms", ()):
            found.setdefault(str(text), []).append(name)
    return [{"text": text, "nodes": nodes} for text, nodes in found.items()]


def _row_of(answer: Any, shard: int) -> dict[str, Any]:
    """What a node says of its replica of a shard; `answer` is None when it says nothing."""
    if answer is None:
        return {"state": "unreachable"}
    if row := answer["shards"].get(str(shard)):
        return dict(row)
    if lost := answer["lost"].get(str(shard)):
        return dict(lost)
    why = answer["aside"].get(str(shard))
    return {"state": "unreachable"} if why is None else {"state": "cannot be opened", "why": why}


def _replica_status(opened: Opened, now: float) -> dict[str, Any]:
    replica = opened.replica
    if replica.is_leader:
        role = "master"
    else:
        role = "replica" if replica.hears_leader(now) else "electing"
    counters = replica.counters
    return {
        "replica": replica.replica_id,
        "role": role,
        "term": replica.term,
        "commit_index": replica.commit_index,
        "applied_index": replica.applied_index,
        "last_index": replica.last_index,
        "log_bytes": replica.log_bytes,
        "index_bytes": opened.engine.used_bytes(),
        "blob_bytes": replica.body_bytes,
        "deliveries_known": replica.deliveries_known,
        "state": replica.state_text,
        "conditions": [condition.text for condition in conditions_of(replica.conditions)],
        "may_lead": replica.may(Capability.LEAD),
        **care_status(replica, now),
        "requests": counters.requests,
        "entries": counters.entries,
        "sync_ms": round(counters.sync_ms, 3),
    }
