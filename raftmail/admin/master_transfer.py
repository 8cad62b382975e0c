"""Handing a shard over to another node, because an operator wants it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from raftmail.admin.admin_calls import AdminCalls, Handlers
from raftmail.admin.api.between_nodes import Held
from raftmail.admin.api.calls import HoldHere, TransferHere, TransferMaster
from raftmail.admin.api.members import MasterPlaced, Nothing
from raftmail.admin.config_writer import ConfigSource
from raftmail.admin.status_calls import PEER_ANSWER_S, StatusCalls
from raftmail.consensus.group import NotLeader
from raftmail.mail.failures import Failure, Unavailable

POLL_S = 0.05


@dataclass(slots=True, repr=False)
class MasterTransfer:
    """Answers "transfer" and, between nodes, "transfer-here"."""

    calls: AdminCalls
    config_source: ConfigSource
    status: StatusCalls

    @property
    def handlers(self) -> Handlers:
        return {TransferMaster: self._transfer, TransferHere: self._transfer_here}

    async def _transfer(self, call: TransferMaster, deadline: float) -> MasterPlaced:
        router = self.calls.router
        shard, node = call.shard, call.node
        self._check(shard, node)
        held: Held | None = None
        master = None
        while router.clock() < deadline:
            # Before it leads: no round of the balancer may come between.
            held = held or await self.status.ask_or_none(node, HoldHere(shard))
            left_s = deadline - router.clock()
            master = await router.master_of(shard, min(PEER_ANSWER_S, left_s))
            if master == node and held is not None:
                return MasterPlaced(shard, master, held.hold_s)
            if master == router.node:
                self._begin(shard, node)
            elif master is not None:
                await self.status.ask_or_none(master, TransferHere(shard, node))
            await asyncio.sleep(POLL_S)
        if master is None:
            raise Unavailable(Failure(router.no_master(shard)))
        why = "does not answer" if held is None else "did not take it in time; does it lag behind?"
        raise Unavailable(Failure(f"shard {shard} is still led by {master}: {node} {why}"))

    def _check(self, shard: int, node: str) -> None:
        """Raises ValueError when a node must not lead a shard."""
        self._check_shard(shard)
        members = self.calls.router.view.members(shard)
        if node not in members:
            raise ValueError(
                f"node: {node!r} has no replica of shard {shard}; {', '.join(members)} have"
            )
        if self.config_source.state.every_node[node].cordoned:
            raise ValueError(
                f"node: {node} is cordoned, and gets no masters; `raftmail member uncordon "
                f"{node}` lifts it"
            )

    def _check_shard(self, shard: int) -> None:
        shards = self.calls.router.view.shards
        if shard not in shards:
            raise ValueError(f"shard: '{shard}' is no shard of this cluster (0 to {max(shards)})")

    async def _transfer_here(self, call: TransferHere, deadline: float) -> Nothing:
        self._check_shard(call.shard)
        self._begin(call.shard, call.node)
        return Nothing()

    def _begin(self, shard: int, node: str) -> None:
        router = self.calls.router
        replica = router.replicas.get(shard)
        if replica is None:
            raise Unavailable(Failure(f"this node has no replica of shard {shard}"))
        targets = {name: number for number, name in replica.membership.voters.items()}
        if node not in targets:
            raise ValueError(f"node: {node!r} has no replica of shard {shard}")
        try:
            replica.transfer(router.clock(), targets[node])
        except NotLeader:
            raise Unavailable(Failure(f"this node does not lead shard {shard}")) from None
        router.links.wake(shard)
