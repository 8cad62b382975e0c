"""What the root's master wants to know of each node: the groups that it leads, and what its clients
ask for; and changing these groups."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from raftmail.admin.admin_calls import Handlers
from raftmail.admin.api.between_nodes import GroupReport, Held, NodeObservation
from raftmail.admin.api.calls import ChangeHere, HoldHere, ObserveHere
from raftmail.admin.api.members import Nothing
from raftmail.cluster.router import Router
from raftmail.cluster.steps import ObservedNode, ObservedShard, Seen
from raftmail.consensus.group import ChangeRefused, NotLeader
from raftmail.consensus.membership import Membership
from raftmail.mail.failures import Failure, Unavailable
from raftmail.shard.replica import Replica
from raftmail.storage.disk import DiskFull

PROOF_S = 1.0
"""A master that cannot prove within this that it leads is passed over."""

HOLD_S = 600.0
"""For so long after an operator's transfer the balancer leaves a shard's master where it is."""


@dataclass(slots=True, repr=False)
class GroupReports:
    """The answering side, on every node."""

    router: Router
    wall: Callable[[], float]
    """Unix time."""
    _held: dict[int, float] = field(default_factory=dict)
    """Until when the mastership of a shard stays here, if it is here."""

    @property
    def handlers(self) -> Handlers:
        return {
            HoldHere: self._hold_here,
            ObserveHere: self._observe_here,
            ChangeHere: self._change_here,
        }

    async def _hold_here(self, call: HoldHere, deadline: float) -> Held:
        """An operator wants this node to lead a shard: the balancer shall not undo it. Raises
        ValueError."""
        if call.shard not in self.router.replicas:
            raise ValueError(f"shard: this node has no replica of shard {call.shard}")
        self._held[call.shard] = self.router.clock() + HOLD_S
        return Held(HOLD_S)

    async def _observe_here(self, call: ObserveHere, deadline: float) -> NodeObservation:
        """The revision that this node follows, and what it knows of the groups that it leads."""
        led = [r for r in self.router.replicas.values() if r.is_leader]
        proved = await asyncio.gather(*[self._leads(replica) for replica in led])
        return NodeObservation(
            self.router.view.revision,
            {
                replica.shard: self._of_group(replica)
                for replica, leads in zip(led, proved, strict=True)
                if leads and replica.is_leader
            },
            {shard: dict(counts) for shard, counts in self.router.commands.items()},
            self.wall(),
        )

    def _of_group(self, replica: Replica) -> GroupReport:
        committed = replica.committed_membership
        return GroupReport(
            id=replica.replica_id,
            membership=committed.encode(),
            changing=replica.membership != committed,
            whole=tuple(sorted(replica.complete_members())),
            able=tuple(sorted(replica.able_members())),
            bytes=replica.body_bytes,
            held=self.router.clock() < self._held.get(replica.shard, 0.0),
        )

    async def _leads(self, replica: Replica) -> bool:
        """Whether a replica leads its group, by a round of answers that began now."""
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

        def done(index: int | None) -> None:
            if not future.done():
                future.set_result(index is not None)

        replica.barrier(self.router.clock(), done)
        self.router.links.wake(replica.shard)
        try:
            return await asyncio.wait_for(future, PROOF_S)
        except TimeoutError:
            return False

    async def _change_here(self, call: ChangeHere, deadline: float) -> Nothing:
        """Raises ValueError for bad arguments, `Unavailable` when the change may not be made
        now."""
        shard, id = call.shard, call.id
        replica = self.router.replicas.get(shard)
        if replica is None:
            raise Unavailable(Failure(f"this node has no replica of shard {shard}"))
        newest = replica.membership
        if (call.voters, call.learners) != seen_of(newest):
            raise Unavailable(Failure(f"the members of shard {shard} are others by now: {newest}"))
        if call.action == "add":
            if not call.node:
                raise ValueError("change-here: node: must be given")
            learners = {**newest.learners, id: call.node}
            wanted = replace(newest, learners=learners, next_id=max(newest.next_id, id + 1))
        elif call.action == "promote":
            wanted = newest.promoted(id)
        else:
            wanted = newest.without(id)
        try:
            replica.change(self.router.clock(), wanted)
        except (ChangeRefused, NotLeader, DiskFull) as e:
            raise Unavailable(Failure(f"shard {shard}: {e}")) from None
        self.router.links.wake(shard)
        return Nothing()


def seen_of(membership: Membership) -> Seen:
    """A membership as a step names it."""
    return tuple(sorted(membership.voters)), tuple(sorted(membership.learners))


def observed_shards(node: str, answer: NodeObservation) -> dict[int, ObservedShard]:
    """The groups that a node says it leads. Raises ValueError for a membership that cannot be
    read."""
    return {
        number: ObservedShard(
            node,
            one.id,
            Membership.decode(one.membership),
            one.changing,
            frozenset(one.whole),
            frozenset(one.able),
            one.bytes,
            one.held,
        )
        for number, one in answer.shards.items()
    }


@dataclass(slots=True, repr=False)
class LastHeard:
    """When each node was last heard of."""

    began: float
    _heard: dict[str, float]

    def note(self, node: str, now: float, answer: NodeObservation | None) -> ObservedNode:
        """A node has answered, or with None it has not."""
        if answer is not None:
            self._heard[node] = now
            return ObservedNode(True, 0.0, answer.revision)
        return ObservedNode(False, now - self._heard.get(node, self.began))
