"""A shard that lost its majority for good, put on its feet with the best replica that is left.

It is asked in two calls: `recover-look` shows what is left and what may be lost, and `recover` does
it. It is refused in three cases:

- while a majority can be reached: then the shard recovers by itself;
- while a node is there that does not tell what it has;
- for a replica when another one that is left has more.

First the group is forced, on the node that has the replica, and then it is written down in the
root. What is broken off between the two is finished by asking again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass

from raftmail.admin.admin_calls import AdminCalls, Handlers
from raftmail.admin.api.between_nodes import ReplicaHere
from raftmail.admin.api.calls import GetReplicaHere, LookAtRecovery, RecoverHere, RecoverShard
from raftmail.admin.api.members import LeftReplica, LeftVoter, Nothing, OtherReplica, RecoveryLook
from raftmail.admin.config_writer import ConfigSource, ConfigWriter
from raftmail.cluster import changes
from raftmail.cluster.changes import ChangeDenied
from raftmail.cluster.records import ShardRecord
from raftmail.consensus.membership import Membership
from raftmail.mail.failures import Failure, Unavailable
from raftmail.shard.status import Capability

ASK_S = 1.0
ASK_AGAIN_S = 3.0
"""For nodes that did not answer at first: a busy node must not be taken for a lost one."""

POLL_S = 0.2
RECOVER_S = 10.0
"""How long a node may take to force its replica."""


@dataclass(slots=True, repr=False)
class ForceRecovery:
    """`force(shard, next_id)` makes this node's replica the only voter of its group; `is_up` tells
    whether there is a link to a node."""

    calls: AdminCalls
    config_source: ConfigSource
    writer: ConfigWriter
    force: Callable[[int, int], Awaitable[None]]
    is_up: Callable[[str], bool]

    @property
    def handlers(self) -> Handlers:
        return {
            LookAtRecovery: self._look_at,
            RecoverShard: self._recover,
            GetReplicaHere: self._replica_here,
            RecoverHere: self._recover_here,
        }

    # -- on each node ------------------------------------------------------------------------------

    async def _replica_here(self, call: GetReplicaHere, deadline: float) -> ReplicaHere:
        router = self.calls.router
        replica = router.own(call.shard)
        if replica is None:
            return ReplicaHere(None)
        return ReplicaHere(
            LeftReplica(
                id=replica.replica_id,
                members=replica.membership.encode().hex(),
                last_index=replica.last_index,
                last_term=replica.last_term,
                applied_index=replica.applied_index,
                lacks_bodies=replica.lacks_bodies() or not replica.may(Capability.READ),
                leads=replica.is_leader,
                hears_master=replica.hears_leader(router.clock()),
            )
        )

    async def _recover_here(self, call: RecoverHere, deadline: float) -> Nothing:
        router, shard, id = self.calls.router, call.shard, call.id
        replica = router.own(shard)
        if replica is None or replica.replica_id != id:
            raise ValueError(f"{router.node} has no replica {id} of shard {shard}")
        if replica.hears_leader(router.clock()):
            raise ValueError(f"shard {shard} has a master: there is nothing to recover")
        if not replica.may(Capability.READ):
            raise ValueError(
                f"replica {id} of shard {shard} is itself being brought back: its records are not "
                f"complete"
            )
        await self.force(shard, call.next_id)
        return Nothing()

    # -- on the node that is asked -----------------------------------------------------------------

    async def _look_at(self, call: LookAtRecovery, deadline: float) -> RecoveryLook:
        return await self._look(call.shard)

    async def _look(self, number: int) -> RecoveryLook:
        """What is left of a shard. Raises ValueError when there is no such shard, or nothing is
        left."""
        state = self.config_source.state
        shard = state.find(ShardRecord, number)
        if shard is None:
            raise ValueError(f"there is no shard {number}")
        answers = await self._ask_all(state.nodes, number, ASK_S)
        quiet = [node for node in state.nodes if answers[node] is None]
        answers |= await self._ask_all(quiet, number, ASK_AGAIN_S)
        rows = {n: a.replica for n, a in answers.items() if a is not None and a.replica is not None}
        if not rows:
            raise ValueError(
                f"no node that can be reached has a replica of shard {number}: there is nothing "
                f"to recover it from"
            )
        newest = max(rows.values(), key=lambda row: row.newness)
        members = Membership.decode(bytes.fromhex(newest.members))
        left = {
            row.id: LeftVoter(node, row)
            for node, row in rows.items()
            if members.voters.get(row.id) == node
        }
        # One that lacks bodies would never get those that only the others had; entries that it
        # alone has may be newer, though.
        best = max(
            left.values(),
            key=lambda row: (not row.has.lacks_bodies, row.has.newness),
            default=None,
        )
        lost = {id: node for id, node in members.voters.items() if id not in left}
        return RecoveryLook(
            shard=number,
            voters=dict(members.voters),
            left=tuple(left.values()),
            others=tuple(
                OtherReplica(node, row, row.id in members.learners)
                for node, row in rows.items()
                if row.id not in left
            ),
            lost=lost,
            why_lost={id: self._why_lost(node, answers.get(node)) for id, node in lost.items()},
            silent=tuple(
                sorted(
                    node for node in lost.values() if answers.get(node) is None and self.is_up(node)
                )
            ),
            has_majority=2 * len(left) > len(members.voters),
            kept=None if best is None else best.has.id,
            node=None if best is None else best.node,
            written_down=[r.id for r in shard.replicas] == ([] if best is None else [best.has.id]),
        )

    def _why_lost(self, node: str, answer: ReplicaHere | None) -> str:
        if answer is None:
            return (
                "there is a link to it, but it does not answer" if self.is_up(node) else "no link"
            )
        return "it answers, and has no such replica"

    async def _recover(self, call: RecoverShard, deadline: float) -> RecoveryLook:
        number, kept = call.shard, call.kept
        look = await self._look(number)
        nodes = {row.has.id: row.node for row in look.left}
        if kept not in nodes:
            raise ValueError(
                f"replica {kept} of shard {number} is none of those that are left: look again"
            )
        # It was forced before, and is to be written down.
        alone = list(look.voters) == [kept]
        if look.has_majority and (not alone or look.written_down):
            raise ValueError(
                f"shard {number} has a majority: {len(look.left)} of {len(look.voters)} voters "
                f"can be reached. It elects a master by "
                "itself; nothing is forced"
            )
        if look.silent:
            raise ValueError(
                f"{', '.join(look.silent)} can be reached, but does not tell what it has of shard "
                f"{number}: it may have more, or make a "
                "majority. Ask again in a moment; if it stays so, stop that node, or wait until "
                "it runs"
            )
        if better := _better(look.left, kept):
            raise ValueError(
                f"replica {better.has.id} on {better.node} has more than replica {kept} on "
                f"{nodes[kept]}: it ends with "
                f"entry {better.has.last_index} of term {better.has.last_term}, and lacks no more "
                f"bodies. Go on with that one"
            )
        if not alone:
            next_id = self.config_source.state.every_shard[number].next_id
            forced = RecoverHere(number, kept, next_id)
            await self.calls.ask(nodes[kept], forced, RECOVER_S)
        await self._wait_for_master(number, nodes[kept], deadline)
        voters = list(look.voters)
        try:
            await self.writer.change(
                lambda state, now: changes.recover(state, number, kept, voters, now, call.by),
                deadline,
            )
        except ChangeDenied as e:
            raise ValueError(str(e)) from None
        return look

    async def _wait_for_master(self, number: int, node: str, deadline: float) -> None:
        while True:
            answer = await self._ask(node, number)
            if answer is not None and answer.replica is not None and answer.replica.leads:
                return
            if self.calls.router.clock() + POLL_S >= deadline:
                raise Unavailable(
                    Failure(
                        f"shard {number} is forced, and {node} does not lead it yet: ask again",
                        unknown=True,
                    )
                )
            await asyncio.sleep(POLL_S)

    async def _ask_all(
        self, nodes: Iterable[str], shard: int, wait_s: float
    ) -> dict[str, ReplicaHere | None]:
        """What each of the nodes has of a shard; None of one that does not answer."""
        names = list(nodes)
        asked = [self._ask(node, shard, wait_s) for node in names]
        return dict(zip(names, await asyncio.gather(*asked), strict=True))

    async def _ask(self, node: str, shard: int, wait_s: float = ASK_S) -> ReplicaHere | None:
        try:
            return await self.calls.ask(node, GetReplicaHere(shard), wait_s)
        except Unavailable:
            return None


def _better(left: Sequence[LeftVoter], kept: int) -> LeftVoter | None:
    """A replica that is left with a newer log than the one to be kept, and no less whole."""
    mine = next(row.has for row in left if row.has.id == kept)
    for row in sorted(left, key=lambda row: row.has.newness, reverse=True):
        if row.has.newness > mine.newness and row.has.lacks_bodies <= mine.lacks_bodies:
            return row
    return None
