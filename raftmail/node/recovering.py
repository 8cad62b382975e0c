"""A shard that lost its majority for good, put on its feet with the best replica that is left.

It is asked in two calls: `recover-look` shows what is left and what may be lost, and `recover` does it. It is refused while a majority can
be reached: then the shard recovers by itself. First the group is forced, on the node that has the replica, and then it is written down
in the root; what is broken off between the two is finished by asking again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from raftmail.cluster import changes
from raftmail.cluster.changes import Refused
from raftmail.cluster.records import Shard
from raftmail.cluster.router import Router
from raftmail.consensus.membership import Membership
from raftmail.mail.service import JSON, Failure, Unavailable
from raftmail.node.desk import Desk
from raftmail.node.following import Following

Arguments = Mapping[str, str]
Handler = Callable[[Arguments, float], Awaitable[JSON]]
ASK_S = 1.0
POLL_S = 0.2


@dataclass(slots=True)
class Recovering:
    """`force(shard, next_id)` makes this node's replica the only voter of its group."""

    router: Router
    following: Following
    desk: Desk
    force: Callable[[int, int], Awaitable[None]]

    @property
    def handlers(self) -> dict[str, Handler]:
        """By the names of the calls."""
        return {
            "recover-look": self._look_at,
            "recover": self._recover,
            "replica-here": self._replica_here,
            "recover-here": self._recover_here,
        }

    # -- on each node --------------------------------------------------------------------------------

    async def _replica_here(self, arguments: Arguments, deadline: float) -> JSON:
        """What this node has of a shard; {} when it has nothing."""
        replica = self.router.own(_number(arguments, "shard"))
        if replica is None:
            return {}
        group = replica.group
        last = group.last_index
        return {
            "id": group.self_id,
            "members": group.membership.encode().hex(),
            "last_index": last,
            "last_term": group.journal.term_of(last),
            "applied_index": group.applied_index,
            "lacks_bodies": replica.lacks_bodies() or replica.recovery.unreadable,
            "leads": group.is_leader,
            "hears_master": group.elections.hears_leader(self.router.clock()),
        }

    async def _recover_here(self, arguments: Arguments, deadline: float) -> JSON:
        shard, id = _number(arguments, "shard"), _number(arguments, "id")
        replica = self.router.own(shard)
        if replica is None or replica.group.self_id != id:
            raise ValueError(f"{self.router.node} has no replica {id} of shard {shard}")
        if replica.group.elections.hears_leader(self.router.clock()):
            raise ValueError(f"shard {shard} has a master: there is nothing to recover")
        if replica.recovery.unreadable:
            raise ValueError(
                f"replica {id} of shard {shard} is itself being brought back: its records are not complete"
            )
        await self.force(shard, _number(arguments, "next_id"))
        return {}

    # -- on the node that is asked -------------------------------------------------------------------

    async def _look_at(self, arguments: Arguments, deadline: float) -> JSON:
        return await self._look(_number(arguments, "shard"))

    async def _look(self, number: int) -> dict[str, Any]:
        """What is left of a shard. Raises ValueError when there is no such shard, or nothing is left."""
        state = self.following.state
        shard = state.find(Shard, number)
        if shard is None:
            raise ValueError(f"there is no shard {number}")
        nodes = list(state.nodes)
        answers = await asyncio.gather(*[self._ask(n, "replica-here", number) for n in nodes])
        rows = {n: a for n, a in zip(nodes, answers, strict=True) if a}
        if not rows:
            raise ValueError(
                f"no node that can be reached has a replica of shard {number}: there is nothing to recover it from"
            )
        newest = max(rows.values(), key=_newness)
        members = Membership.decode(bytes.fromhex(newest["members"]))
        left = {
            row["id"]: {"node": node, **row}
            for node, row in rows.items()
            if members.voters.get(row["id"]) == node
        }
        # One that lacks bodies would never get those that only the others had; entries that it alone has may be newer, though.
        best = max(
            left.values(), key=lambda row: (not row["lacks_bodies"], _newness(row)), default=None
        )
        return {
            "shard": number,
            "voters": {str(id): node for id, node in members.voters.items()},
            "left": list(left.values()),
            "lost": {str(id): node for id, node in members.voters.items() if id not in left},
            "has_majority": 2 * len(left) > len(members.voters),
            "kept": None if best is None else best["id"],
            "node": None if best is None else best["node"],
            "written_down": [r.id for r in shard.replicas]
            == ([] if best is None else [best["id"]]),
        }

    async def _recover(self, arguments: Arguments, deadline: float) -> JSON:
        number, kept = _number(arguments, "shard"), _number(arguments, "kept")
        by = arguments.get("by", "")
        look = await self._look(number)
        nodes = {row["id"]: row["node"] for row in look["left"]}
        if kept not in nodes:
            raise ValueError(
                f"replica {kept} of shard {number} is none of those that are left: look again"
            )
        # It was forced before, and is to be written down.
        alone = list(look["voters"]) == [str(kept)]
        if look["has_majority"] and (not alone or look["written_down"]):
            raise ValueError(
                f"shard {number} has a majority: {len(look['left'])} of {len(look['voters'])} voters can be reached. It elects a master by "
                "itself; nothing is forced"
            )
        if not alone:
            next_id = self.following.state.every_shard[number].next_id
            extra = {"id": str(kept), "next_id": str(next_id)}
            await self._tell(nodes[kept], "recover-here", number, extra)
        await self._wait_for_master(number, nodes[kept], deadline)
        voters = [int(id) for id in look["voters"]]
        try:
            await self.desk.change(
                lambda state, now: changes.recover(state, number, kept, voters, now, by), deadline
            )
        except Refused as e:
            raise ValueError(str(e)) from None
        return look

    async def _wait_for_master(self, number: int, node: str, deadline: float) -> None:
        while True:
            answer = await self._ask(node, "replica-here", number)
            if answer and answer["leads"]:
                return
            if self.router.clock() + POLL_S >= deadline:
                raise Unavailable(
                    Failure(
                        f"shard {number} is forced, and {node} does not lead it yet: ask again",
                        unknown=True,
                    )
                )
            await asyncio.sleep(POLL_S)

    async def _ask(self, node: str, what: str, shard: int) -> Any:
        try:
            return await self._tell(node, what, shard, {})
        except Unavailable:
            return None

    async def _tell(self, node: str, what: str, shard: int, more: Arguments) -> Any:
        arguments = {"shard": str(shard), **more}
        if node == self.router.node:
            return await self.handlers[what](arguments, self.router.clock() + ASK_S)
        wait_s = 10.0 if more else ASK_S
        return await self.router.ask(node, what, arguments, wait_s)


def _newness(row: Mapping[str, Any]) -> tuple[int, int]:
    return row["last_term"], row["last_index"]


def _number(arguments: Arguments, name: str) -> int:
    text = arguments.get(name, "")
    if not text.isdecimal() or len(text) > 10:
        raise ValueError(f"{name}: {text!r} is no whole number")
    return int(text)
