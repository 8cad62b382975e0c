"""Puts together what answers operators' calls at this node (`raftmail.admin`), and tells it of this
process and its disk."""

from __future__ import annotations

import os
import shutil
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from raftmail import __version__
from raftmail.admin.admin_calls import AdminCalls
from raftmail.admin.api.status import BackgroundReport, NodeReport, ReplicaNotOpen, Verified
from raftmail.admin.app_password_calls import AppPasswordCalls
from raftmail.admin.cluster_calls import ClusterCalls
from raftmail.admin.config_writer import ConfigWriter
from raftmail.admin.consistency_check import ConsistencyCheck
from raftmail.admin.force_recovery import ForceRecovery
from raftmail.admin.group_reports import GroupReports
from raftmail.admin.master_transfer import MasterTransfer
from raftmail.admin.policy_calls import PolicyCalls
from raftmail.admin.resync_calls import ResyncCalls
from raftmail.admin.sharing_calls import SharingCalls
from raftmail.admin.status_calls import StatusCalls
from raftmail.cluster.records import NodeState
from raftmail.cluster.router import Router
from raftmail.cluster.view import ROOT_SHARD
from raftmail.node.budget import address_limits, check_memory, memory_limits, memory_needed
from raftmail.node.cluster_size import ClusterSize, size_in
from raftmail.node.config import Config, ConfigError
from raftmail.node.config_follower import ConfigFollower
from raftmail.node.disk_watch import HANG_S, DiskWatch
from raftmail.node.file_watch import FileWatch
from raftmail.node.lost_disks import LostDisk
from raftmail.node.replica_table import ReplicaTable
from raftmail.peering.peers import address_problem


def memory_alarm(
    config: Config, size: ClusterSize, memory: Mapping[str, int], address: Mapping[str, int]
) -> str:
    """What to tell when a node has come to have more of the cluster than it has memory for; "": it
    has not. Its workers are taken to be alike."""
    try:
        check_memory(config, [size] * config.node.workers, memory, address)
    except ConfigError as e:
        return f"node {config.node.name} has more of the cluster than it has memory for: {e}"
    return ""


@dataclass(slots=True, repr=False)
class ThisNode:
    """Implements `status_calls.OwnNode`. `is_up` tells whether the link to a node is up."""

    config: Config
    router: Router
    config_source: ConfigFollower
    table: ReplicaTable
    is_up: Callable[[str], bool]
    files: FileWatch
    verifying: ConsistencyCheck
    started_at: float
    lost_disks: Callable[[], Mapping[int, LostDisk]]
    """The replicas that were set aside, by shard."""
    outlaws: Callable[[], Mapping[str, str]] = field(default=dict, init=False)
    """Why processes that call themselves a peer were refused lately (`PeerNet.outlaws`)."""
    background: Callable[[], BackgroundReport] = field(default=BackgroundReport, init=False)
    """What this node did of itself (`BackgroundWork.report`)."""
    background_alarms: Callable[[], Sequence[str]] = field(default=tuple, init=False)
    """What of that operators have to hear of (`BackgroundWork.alarms`)."""
    waits_of_root: Callable[[], Mapping[str, str]] = field(default=dict, init=False)
    """What this node waits for as the root's master (`ControllerLoop.waits`)."""

    @property
    def _disk(self) -> DiskWatch:
        return self.table.turns.disk

    @property
    def _size(self) -> ClusterSize:
        return size_in(self.config_source.state, self.config)

    def report(self) -> NodeReport:
        own = self.config.node.name
        background = self.background()
        return NodeReport(
            version=__version__,
            pid=os.getpid(),
            uptime_s=round(self.router.clock() - self.started_at, 1),
            disk_free_bytes=shutil.disk_usage(self.config.data).free,
            disk=self._disk.status(),
            memory_budget_bytes=memory_needed(self.config, [self._size]),
            links={name: self.is_up(name) for name in self.router.view.nodes if name != own},
            programs=self.config.listen.programs.served,
            background=None if background == BackgroundReport() else background,
        )

    def index_bytes(self, shard: int) -> int:
        return self.table.opened[shard].engine.used_bytes()

    def count_users(self) -> int | None:
        root = self.table.opened.get(ROOT_SHARD)
        return None if root is None else root.engine.table("users").count()

    def changed_files(self, shard: int) -> Sequence[str]:
        return self.files.found.get(shard, ())

    def aside(self) -> Mapping[int, str]:
        return {shard: str(one.error) for shard, one in self.table.aside.items()}

    def lost(self) -> Mapping[int, ReplicaNotOpen]:
        return {
            shard: ReplicaNotOpen(one.replica, "disk went back", one.why)
            for shard, one in self.lost_disks().items()
        }

    def verified(self) -> Mapping[int, Verified]:
        return self.verifying.found

    def alarms(self) -> Sequence[str]:
        found = [
            f"node {node.name} cannot be reached: {problem}; remove it, or have it join with the "
            f"right address"
            for node in self.config_source.state.every_node.values()
            if node.state is not NodeState.REMOVED and (problem := address_problem(node.peer))
        ]
        if self._disk.slow or self._disk.hangs_s() >= HANG_S:
            found.append(f"{self._disk.what} is slow: {self._disk.text()}")
        if text := memory_alarm(self.config, self._size, memory_limits(), address_limits()):
            found.append(text)
        return [*found, *self.outlaws().values(), *self.background_alarms()]

    def waited_for(self) -> Mapping[str, str]:
        return self.waits_of_root()


@dataclass(slots=True, repr=False)
class Admin:
    """All that answers operators' calls at this node, wired together."""

    calls: AdminCalls
    own: ThisNode
    verifying: ConsistencyCheck
    files: FileWatch

    @staticmethod
    def of(
        config: Config,
        router: Router,
        config_source: ConfigFollower,
        table: ReplicaTable,
        is_up: Callable[[str], bool],
        wall: Callable[[], float],
        lost_disks: Callable[[], Mapping[int, LostDisk]],
        hash_made: Callable[[str, bytes], Awaitable[str]],
    ) -> Admin:
        """Wire it together; `wall` is Unix time, and `hash_made` gives what is kept of an app
        password."""
        calls = AdminCalls(router)
        files = FileWatch(config.data / "shards", table.opened, table.mend_journal)
        verifying = ConsistencyCheck(calls, wall, float(config.verify.period_s))
        now = router.clock()
        own = ThisNode(
            config, router, config_source, table, is_up, files, verifying, now, lost_disks
        )
        writer = ConfigWriter(router, config_source, wall)
        status = StatusCalls(calls, config_source, own, config.cluster.id)
        for part in (
            status,
            MasterTransfer(calls, config_source, status),
            ClusterCalls(router, config_source, writer, status),
            PolicyCalls(router, config_source, writer, status),
            AppPasswordCalls(router, hash_made, wall),
            SharingCalls(router),
            ForceRecovery(calls, config_source, writer, table.force_alone, is_up),
            ResyncCalls(calls),
            verifying,
            GroupReports(router, wall),
        ):
            calls.add(part.handlers)
        return Admin(calls, own, verifying, files)

    def tick(self, now: float) -> None:
        """What is looked at without being asked."""
        self.verifying.tick(now)
        self.files.tick(now)
