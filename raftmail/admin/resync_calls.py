"""What operators ask about resyncs, scrub and lost bodies, and what they order.

While a replica's records are exchanged it votes and acknowledges nothing. So a resync by order is
refused when a majority of the shard's voters would not be whole beside it. Orders may come to
several nodes at once: each notes its own first and asks the others then, so of two that together
would be too many at least one sees the other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from raftmail.admin.admin_calls import AdminCalls, Handlers
from raftmail.admin.api.between_nodes import Wholeness
from raftmail.admin.api.calls import ResyncHere, StartResync, WholeHere
from raftmail.admin.api.verification import OrderedShard, ResyncOrdered
from raftmail.cluster.router import Router
from raftmail.mail.failures import Unavailable
from raftmail.shard.replica import Replica
from raftmail.shard.status import Capability
from raftmail.storage.records import IndexDamaged

ANSWER_S = 8.0
LOOK_S = 2.0
"""How long a node that is asked whether it is whole may take."""


@dataclass(slots=True, repr=False)
class ResyncCalls:
    """Answers "resync-start" and, between nodes, "resync-here" and "whole-here"."""

    calls: AdminCalls
    _ordering: set[int] = field(default_factory=set)
    """Shards whose replica here is about to be resynced, if the others' state allows it."""
    _one_by_one: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def handlers(self) -> Handlers:
        return {
            StartResync: self._start,
            ResyncHere: self._here,
            WholeHere: self._whole_here,
        }

    @property
    def _router(self) -> Router:
        return self.calls.router

    async def _start(self, call: StartResync, deadline: float) -> ResyncOrdered:
        view = self._router.view
        if call.node not in view.nodes:
            raise ValueError(
                f"node: there is no node {call.node!r}; there are {', '.join(view.nodes)}"
            )
        if call.mailbox and not call.user:
            raise ValueError("mailbox: name the user whose mailbox it is, too")
        shard = self._router.shard_of(call.user) if call.user else call.shard
        here = ResyncHere(shard, call.user, call.mailbox, call.full, call.only)
        if call.node == self._router.node:
            return await self._here(here, deadline)
        try:
            patience_s = min(ANSWER_S, deadline - self._router.clock())
            return await self.calls.ask(call.node, here, patience_s)
        except Unavailable as e:
            if e.failure.final:  # it refuses, and asking again would not help
                raise ValueError(e.failure.text) from None
            raise

    async def _here(self, call: ResyncHere, deadline: float) -> ResyncOrdered:
        replicas, node = self._router.replicas, self._router.node
        if call.shard is not None and call.shard not in replicas:
            held = ", ".join(map(str, sorted(replicas)))
            raise ValueError(f"shard: {node} has no replica of shard {call.shard}; it has {held}")
        shards = sorted(replicas) if call.shard is None else [call.shard]
        started = []
        async with self._one_by_one:
            with self._about_to(shards):
                await self._check_majorities(shards)
                for shard in shards:
                    if shard not in replicas:
                        raise ValueError(f"shard: {node} has no replica of shard {shard} now")
                    replica = replicas[shard]
                    numbers = _numbers(replica, call.user, call.mailbox)
                    replica.order_resync(numbers, full=call.full, only=call.only)
                    self._router.links.wake(shard)
                    started.append(OrderedShard(shard, len(numbers), call.full))
        return ResyncOrdered(node, tuple(started))

    @contextmanager
    def _about_to(self, shards: Sequence[int]) -> Iterator[None]:
        self._ordering.update(shards)
        try:
            yield
        finally:
            self._ordering.difference_update(shards)

    async def _check_majorities(self, shards: Sequence[int]) -> None:
        """Raises ValueError, with the reasons, when a shard would be left without a majority of
        whole voters."""
        refused = [why for why in await asyncio.gather(*map(self._why_not, shards)) if why]
        if refused:
            raise ValueError("node: " + "; ".join(refused))

    async def _why_not(self, shard: int) -> str:
        """Why the replica of a shard here must not be resynced by order now; "": it may be."""
        replica = self._router.replicas[shard]
        voters = replica.membership.voters
        if replica.replica_id not in voters or not replica.is_whole:
            return ""  # it is none of those that a majority can be made of as it is
        others = sorted(node for id_, node in voters.items() if id_ != replica.replica_id)
        told = await asyncio.gather(*[self._not_whole(node, shard) for node in others])
        lacking = [f"{node} {why}" for node, why in zip(others, told, strict=True) if why]
        whole, needed = len(others) - len(lacking), len(voters) // 2 + 1
        if whole >= needed:
            return ""
        return (
            f"shard {shard} needs {needed} whole voters, and {whole} would be left without "
            f"{self._router.node}: {', '.join(lacking) or 'it has no others'}"
        )

    async def _not_whole(self, node: str, shard: int) -> str:
        """What is under way at another voter; "": nothing, it is whole."""
        try:
            return (await self.calls.ask(node, WholeHere(shard), LOOK_S)).not_whole
        except (Unavailable, ValueError):
            return "does not answer"

    async def _whole_here(self, call: WholeHere, deadline: float) -> Wholeness:
        replica = self._router.replicas.get(call.shard)
        if replica is None:
            return Wholeness("has no replica that is open")
        if call.shard in self._ordering:
            return Wholeness("is ordered to be resynced, too")
        return Wholeness(replica.why_incomplete)


def _numbers(replica: Replica, user: str, name: str) -> list[int]:
    """The mailboxes of a user, or one of them. Raises ValueError when there are none, or it cannot
    be told."""
    if not user:
        return []
    if not replica.may(Capability.READ):
        raise ValueError(
            f"shard: the replica of shard {replica.shard} is being resynced, and cannot tell the "
            f"mailboxes of {user}"
        )
    try:
        found = replica.mailbox_numbers(user, name)
    except IndexDamaged as e:
        raise ValueError(f"shard: {e}; start it for the whole shard") from None
    if not found:
        raise ValueError(
            f"mailbox: {user} has no mailbox {name!r}" if name else f"user: {user} has no mailbox"
        )
    return found
