"""What operators ask of the cluster as a whole: who is in it, what is to come and to go, and how
far that is.

A change is decided by the newest state, written by the root, and carried out by the root's master.
So every call here returns at once; `node`, `shard` and `operations` tell how far things are, to
whoever asks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, fields
from typing import Any

from raftmail.admin.admin_calls import Handlers
from raftmail.admin.api.calls import (
    CordonMember,
    DrainMember,
    GetMember,
    GetShard,
    InviteMember,
    JoinMember,
    ListInvitations,
    ListMembers,
    ListOperations,
    ListRecords,
    ListShards,
    MoveReplica,
    Rebalance,
    RemoveMember,
    RepairRecord,
    ReplaceDisk,
    StopRebalance,
    UncordonMember,
    UndrainMember,
    WithdrawInvitation,
)
from raftmail.admin.api.members import (
    HeldReplica,
    Invitation,
    Invitations,
    Invited,
    Joined,
    LeadingMember,
    MemberDetails,
    MemberList,
    MemberRow,
    Moves,
    MovingReplica,
    Nothing,
    OperationRow,
    Operations,
    PlannedMove,
    RepairedRecord,
    ReplacedMember,
    ReplicaPlace,
    Shard,
    ShardDetails,
    Shards,
    UnreadableRecord,
    UnreadableRecords,
    Withdrawn,
)
from raftmail.admin.config_writer import ConfigSource, ConfigWriter
from raftmail.admin.status_calls import ShardReport, StatusCalls
from raftmail.cluster import changes
from raftmail.cluster.changes import Change, ChangeDenied
from raftmail.cluster.moves import plan
from raftmail.cluster.records import (
    InviteRecord,
    NodeRecord,
    OperationRecord,
    ReplicaState,
    ShardRecord,
)
from raftmail.cluster.router import Router
from raftmail.cluster.state import ClusterState

RECORDS_MAX = 1000
"""Records that cannot be read, in one answer."""


@dataclass(slots=True, repr=False)
class ClusterCalls:
    """Answers calls about nodes, shards and records."""

    router: Router
    config_source: ConfigSource
    writer: ConfigWriter
    status: StatusCalls

    @property
    def handlers(self) -> Handlers:
        return {
            ListMembers: self._nodes,
            GetMember: self._node,
            InviteMember: self._invite,
            ListInvitations: self._invitations,
            WithdrawInvitation: self._withdraw,
            JoinMember: self._join,
            DrainMember: self._drain,
            UndrainMember: self._undrain,
            CordonMember: self._cordon,
            UncordonMember: self._uncordon,
            RemoveMember: self._remove,
            ReplaceDisk: self._replace,
            ListShards: self._shards,
            GetShard: self._shard,
            MoveReplica: self._move,
            Rebalance: self._rebalance,
            StopRebalance: self._stop_rebalance,
            ListOperations: self._operations,
            ListRecords: self._records,
            RepairRecord: self._repair_record,
        }

    async def _newest(self, deadline: float) -> ClusterState:
        return await self.config_source.newest(deadline - self.router.clock())

    async def _make(
        self, decide: Callable[[ClusterState, int], Change], deadline: float
    ) -> ClusterState:
        try:
            return await self.writer.change(decide, deadline)
        except ChangeDenied as e:
            raise ValueError(str(e)) from None

    # -- nodes -------------------------------------------------------------------------------------

    async def _nodes(self, call: ListMembers, deadline: float) -> MemberList:
        state = await self._newest(deadline)
        return MemberList(
            state.revision,
            state.cluster.id,
            len(state.shards) - 1,
            state.cluster.replication,
            tuple(_member(state, node.name) for node in state.every_node.values()),
        )

    async def _node(self, call: GetMember, deadline: float) -> MemberDetails:
        state = await self._newest(deadline)
        name = _known(state, call.name).name
        mine = [shard for shard in state.every_shard.values() if shard.on(name)]
        risk: list[str] = []
        if call.risk:
            alive = [n for n in state.nodes if await self.status.is_alive(n)]
            risk = changes.at_risk(state, name, alive)
        return MemberDetails(
            **_fields_of(await self._leading(state, name)),
            held=tuple(
                HeldReplica(shard.number, r.id, r.state.value)
                for shard in mine
                for r in shard.on(name)
            ),
            operations=tuple(
                _operation(state, operation)
                for operation in state.table(OperationRecord).values()
                if operation.subject == name
            ),
            at_risk=tuple(risk),
            waits_for=tuple(await self._waits_for(mine)),
        )

    async def _invite(self, call: InviteMember, deadline: float) -> Invited:
        invitation = InviteRecord(call.id, call.name, call.peer, call.expires_s, call.bundle)
        await self._make(lambda state, now: changes.invite(state, invitation, now), deadline)
        return Invited(call.id, call.name, call.expires_s)

    async def _invitations(self, call: ListInvitations, deadline: float) -> Invitations:
        state = await self._newest(deadline)
        now = int(self.writer.wall())
        return Invitations(
            tuple(
                Invitation(
                    one.id,
                    one.name,
                    one.peer,
                    one.expires_s,
                    "used" if one.used else "expired" if one.expires_s <= now else "open",
                )
                for one in state.table(InviteRecord).values()
            )
        )

    async def _withdraw(self, call: WithdrawInvitation, deadline: float) -> Withdrawn:
        await self._make(lambda state, now: changes.withdraw(state, call.id), deadline)
        return Withdrawn(call.id)

    async def _join(self, call: JoinMember, deadline: float) -> Joined:
        node = NodeRecord(
            call.name,
            call.peer,
            call.client,
            call.lmtp,
            call.host,
            call.zone,
            call.labels,
            call.capacity,
        )
        state = await self._newest(deadline)
        # A token is for one machine: only who has begun with it may say so again.
        if not (call.again and changes.already_joined(state, call.id, node)):
            state = await self._make(
                lambda now_state, now: changes.join(now_state, call.id, node, now), deadline
            )
        return Joined(state.revision, {n: state.every_node[n].peer for n in state.nodes})

    async def _drain(self, call: DrainMember, deadline: float) -> MemberRow:
        state = await self._make(
            lambda state, now: changes.drain(state, call.name, now, call.by, self.router.node),
            deadline,
        )
        return _member(state, call.name)

    async def _undrain(self, call: UndrainMember, deadline: float) -> MemberRow:
        state = await self._make(lambda state, now: changes.undrain(state, call.name), deadline)
        return _member(state, call.name)

    async def _cordon(self, call: CordonMember, deadline: float) -> LeadingMember:
        state = await self._make(lambda state, now: changes.cordon(state, call.name), deadline)
        return await self._leading(state, call.name)

    async def _uncordon(self, call: UncordonMember, deadline: float) -> LeadingMember:
        state = await self._make(lambda state, now: changes.uncordon(state, call.name), deadline)
        return await self._leading(state, call.name)

    async def _leading(self, state: ClusterState, name: str) -> LeadingMember:
        """A node, and the shards that it leads now."""
        reports = await self.status.shard_reports(state)
        led = sorted(number for number, one in reports.items() if one.master == name)
        return LeadingMember(**_fields_of(_member(state, name)), leads=tuple(led))

    async def _remove(self, call: RemoveMember, deadline: float) -> MemberRow:
        name, force, by = call.name, call.force, call.by
        alive = await self.status.is_alive(name)
        state = await self._make(
            lambda state, now: changes.remove(state, name, now, force=force, alive=alive, by=by),
            deadline,
        )
        return _member(state, name)

    async def _replace(self, call: ReplaceDisk, deadline: float) -> ReplacedMember:
        state = await self._make(
            lambda state, now: changes.replace_disk(state, call.name, now, call.by, call.only),
            deadline,
        )
        return ReplacedMember(**_fields_of(_member(state, call.name)), revision=state.revision)

    # -- shards ------------------------------------------------------------------------------------

    async def _shards(self, call: ListShards, deadline: float) -> Shards:
        state = await self._newest(deadline)
        reports = await self.status.shard_reports(state)
        return Shards(
            tuple(_shard(one, reports.get(one.number)) for one in state.every_shard.values())
        )

    async def _shard(self, call: GetShard, deadline: float) -> ShardDetails:
        state = await self._newest(deadline)
        shard = state.find(ShardRecord, call.shard)
        if shard is None:
            raise ValueError(f"there is no shard {call.shard} (0 to {state.shards[-1]})")
        reports = await self.status.shard_reports(state)
        waits = await self._waits_for([shard])
        found = _fields_of(_shard(shard, reports.get(call.shard)))
        return ShardDetails(**found, waits_for=tuple(waits))

    async def _waits_for(self, shards: Iterable[ShardRecord]) -> list[str]:
        """What replicas of these shards that come or go wait for, in words, each once."""
        moving = [
            (shard.number, replica.id)
            for shard in shards
            for replica in shard.replicas
            if replica.state is not ReplicaState.VOTER
        ]
        waits = await self.status.waits() if moving else {}
        found = ((shard, waits.get(f"{shard} {id}", "")) for shard, id in moving)
        return [f"shard {shard}: {text}" for shard, text in dict.fromkeys(found) if text]

    async def _move(self, call: MoveReplica, deadline: float) -> Shard:
        state = await self._make(
            lambda state, now: changes.move_shard(state, call.shard, call.source, call.target),
            deadline,
        )
        return _shard(state.every_shard[call.shard], None)

    async def _rebalance(self, call: Rebalance, deadline: float) -> Moves:
        state = await self._newest(deadline)
        planned = plan(state, balance=True)
        reports = await self.status.shard_reports(state) if planned else {}
        moves = tuple(
            PlannedMove(
                one.shard,
                one.source,
                one.target,
                one.why,
                reports[one.shard].bytes if one.target and one.shard in reports else 0,
            )
            for one in planned
        )
        if not call.dry_run:
            await self._make(lambda state, now: changes.rebalance(state, now, call.by), deadline)
        return Moves(moves, sum(one.bytes for one in moves), not call.dry_run)

    async def _stop_rebalance(self, call: StopRebalance, deadline: float) -> Nothing:
        await self._make(lambda state, now: changes.stop_rebalance(state), deadline)
        return Nothing()

    async def _operations(self, call: ListOperations, deadline: float) -> Operations:
        state = await self._newest(deadline)
        found = sorted(state.table(OperationRecord).values(), key=lambda o: (o.began_s, o.id))
        coming = [
            (s.number, r)
            for s in state.every_shard.values()
            for r in s.replicas
            if r.state is not ReplicaState.VOTER
        ]
        waits = await self.status.waits() if coming else {}
        moving = tuple(
            MovingReplica(shard, r.id, r.node, r.state.value, waits.get(f"{shard} {r.id}", ""))
            for shard, r in coming
        )
        texts = [f"shard {one.shard}: {one.waits_for}" for one in moving if one.waits_for]
        return Operations(
            tuple(_operation(state, one) for one in found), moving, tuple(dict.fromkeys(texts))
        )

    # -- records that cannot be read ---------------------------------------------------------------

    async def _records(self, call: ListRecords, deadline: float) -> UnreadableRecords:
        state = await self._newest(deadline)
        rows = [
            UnreadableRecord(key, why, state.revision_of(key))
            for key, why in state.unreadable.items()
        ]
        return UnreadableRecords(tuple(rows[:RECORDS_MAX]), len(rows) > RECORDS_MAX)

    async def _repair_record(self, call: RepairRecord, deadline: float) -> RepairedRecord:
        known = False

        def decide(state: ClusterState, now: int) -> Change:
            nonlocal known
            change = changes.repair_record(state, call.key)
            known = change.puts[0][1] is not None
            return change

        await self._make(decide, deadline)
        return RepairedRecord(call.key, known)


def _fields_of(value: MemberRow | Shard) -> dict[str, Any]:
    """The fields of an answer, for one that has more."""
    return {one.name: getattr(value, one.name) for one in fields(value)}


def _shard(shard: ShardRecord, report: ShardReport | None) -> Shard:
    return Shard(
        shard=shard.number,
        pool=shard.pool,
        replication=shard.replication,
        master=None if report is None else report.master,
        master_preference=shard.master,
        bytes=None if report is None else report.bytes,
        replicas=tuple(ReplicaPlace(r.id, r.node, r.state.value) for r in shard.replicas),
    )


def _member(state: ClusterState, name: str) -> MemberRow:
    """A node as operators see it. Raises ValueError when there is none of the name."""
    node = _known(state, name)
    held = [r for shard in state.every_shard.values() for r in shard.on(name)]
    return MemberRow(
        name=node.name,
        peer=node.peer,
        client=node.client,
        lmtp=node.lmtp,
        host=node.host,
        zone=node.zone,
        labels=node.labels,
        capacity=node.capacity,
        state=node.state.value,
        joined_s=node.joined_s,
        cordoned=node.cordoned,
        replicas=len(held),
        joining=sum(r.state is ReplicaState.JOINING for r in held),
        leaving=sum(r.state is ReplicaState.LEAVING for r in held),
    )


def _operation(state: ClusterState, operation: OperationRecord) -> OperationRow:
    """An operation, with how many replicas are left to deal with."""
    replicas = [r for shard in state.every_shard.values() for r in shard.replicas]
    if operation.kind in ("drain", "remove"):
        left = sum(r.node == operation.subject for r in replicas)
    elif operation.kind == "replace":
        left = sum(
            r.node == operation.subject and r.state is not ReplicaState.VOTER for r in replicas
        )
    else:
        left = sum(r.state is ReplicaState.JOINING for r in replicas)
        left += len(plan(state, balance=True)) if operation.state == "running" else 0
    return OperationRow(**asdict(operation), left=left if operation.state == "running" else 0)


def _known(state: ClusterState, name: str) -> NodeRecord:
    node = state.find(NodeRecord, name)
    if node is None:
        raise ValueError(f"there is no node {name!r}; there are {', '.join(state.nodes)}")
    return node
