"""A shard that lost its majority for good, put on its feet with the best replica that is left.

It is asked in two calls: `recover-look` shows what is left and what may be lost, and `recover` does it. It is refused while a majority can
be reached: then the shard recovers by itself; while a node is there that does not tell what it has; and for a replica when another
one that is left has more. First the group is forced, on the node that has the replica, and then it is written down
in the root; what is broken off between the two is finished by asking again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from raftmail.admin.config_writer import ConfigSource, ConfigWriter
from raftmail.cluster import changes
from raftmail.cluster.changes import ChangeDenied
from raftmail.cluster.records import ShardRecord
from raftmail.cluster.router import Router
from raftmail.consensus.membership import Membership
from raftmail.mail.admin import JSON
from raftmail.mail.failures import Failure, Unavailable
from raftmail.shard.status import Capability

Arguments = Mapping[str, str]
Handler = Callable[[Arguments, float], Awaitable[JSON]]
ASK_S = 1.0
ASK_AGAIN_S = 3.0
"""For nodes that did not answer at first: a busy node must not be taken for a lost one."""

POLL_S = 0.2


@dataclass(slots=True, repr=False)
class ForceRecovery:
    """`force(shard, next_id)` makes this node's replica the only voter of its group; `is_up` tells whether there is a link to a node."""

    router: Router
    config_source: ConfigSource
    writer: ConfigWriter
    force: Callable[[int, int], Awaitable[None]]
    is_up: Callable[[str], bool]

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
        return {
            "id": replica.replica_id,
            "members": replica.membership.encode().hex(),
            "last_index": replica.last_index,
            "last_term": replica.last_term,
            "applied_index": replica.applied_index,
            "lacks_bodies": replica.lacks_bodies() or not replica.may(Capability.READ),
            "leads": replica.is_leader,
            "hears_master": replica.hears_leader(self.router.clock()),
        }

    async def _recover_here(self, arguments: Arguments, deadline: float) -> JSON:
        shard, id = _number(arguments, "shard"), _number(arguments, "id")
        replica = self.router.own(shard)
        if replica is None or replica.replica_id != id:
            raise ValueError(f"{self.router.node} has no replica {id} of shard {shard}")
        if replica.hears_leader(self.router.clock()):
            raise ValueError(f"shard {shard} has a master: there is nothing to recover")
        if not replica.may(Capability.READ):
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
        state = self.config_source.state
        shard = state.find(ShardRecord, number)
        if shard is None:
            raise ValueError(f"there is no shard {number}")
        answers = await self._ask_all(state.nodes, number, ASK_S)
        quiet = [node for node in state.nodes if answers[node] is None]
        answers |= await self._ask_all(quiet, number, ASK_AGAIN_S)
        rows = {node: answer for node, answer in answers.items() if answer}
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
            "others": [
                {"node": node, **row, "learner": row["id"] in members.learners}
                for node, row in rows.items()
                if row["id"] not in left
            ],
            "lost": {str(id): node for id, node in members.voters.items() if id not in left},
            "why_lost": {
                str(id): self._why_lost(node, answers.get(node))
                for id, node in members.voters.items()
                if id not in left
            },
            "silent": sorted(
                node
                for id, node in members.voters.items()
                if id not in left and answers.get(node) is None and self.is_up(node)
            ),
            "has_majority": 2 * len(left) > len(members.voters),
            "kept": None if best is None else best["id"],
            "node": None if best is None else best["node"],
            "written_down": [r.id for r in shard.replicas]
            == ([] if best is None else [best["id"]]),
        }

    def _why_lost(self, node: str, answer: Any) -> str:
        if answer is None:
            return (
                "there is a link to it, but it does not answer" if self.is_up(node) else "no link"
            )
        return "it answers, and has no such replica"

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
        if look["silent"]:
            raise ValueError(
                f"{', '.join(look['silent'])} can be reached, but does not tell what it has of shard {number}: it may have more, or make a "
                "majority. Ask again in a moment; if it stays so, stop that node, or wait until it runs"
            )
        if better := _better(look["left"], kept):
            raise ValueError(
                f"replica {better['id']} on {better['node']} has more than replica {kept} on {nodes[kept]}: it ends with "
                f"{_place(better)}, and lacks no more bodies. Go on with that one"
            )
        if not alone:
            next_id = self.config_source.state.every_shard[number].next_id
            extra = {"id": str(kept), "next_id": str(next_id)}
            await self._tell(nodes[kept], "recover-here", number, extra)
        await self._wait_for_master(number, nodes[kept], deadline)
        voters = [int(id) for id in look["voters"]]
        try:
            await self.writer.change(
                lambda state, now: changes.recover(state, number, kept, voters, now, by), deadline
            )
        except ChangeDenied as e:
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

    async def _ask_all(self, nodes: Iterable[str], shard: int, wait_s: float) -> dict[str, Any]:
        """What each of the nodes has of a shard; None of one that does not answer."""
        names = list(nodes)
        asked = [self._ask(node, "replica-here", shard, wait_s) for node in names]
        return dict(zip(names, await asyncio.gather(*asked), strict=True))

    async def _ask(self, node: str, what: str, shard: int, wait_s: float = ASK_S) -> Any:
        try:
            return await self._tell(node, what, shard, {}, wait_s)
        except Unavailable:
            return None

    async def _tell(
        self, node: str, what: str, shard: int, more: Arguments, wait_s: float = 10.0
    ) -> Any:
        arguments = {"shard": str(shard), **more}
        if node == self.router.node:
            return await self.handlers[what](arguments, self.router.clock() + wait_s)
        return await self.router.ask(node, what, arguments, wait_s)


def _better(left: Iterable[Mapping[str, Any]], kept: int) -> Mapping[str, Any] | None:
    """A replica that is left with a newer log than the one to be kept, and no less whole."""
    rows = {row["id"]: row for row in left}
    mine = rows[kept]
    for row in sorted(rows.values(), key=_newness, reverse=True):
        if _newness(row) > _newness(mine) and row["lacks_bodies"] <= mine["lacks_bodies"]:
            return row
    return None


def _place(row: Mapping[str, Any]) -> str:
    return f"entry {row['last_index']} of term {row['last_term']}"


def _newness(row: Mapping[str, Any]) -> tuple[int, int]:
    return row["last_term"], row["last_index"]


def _number(arguments: Arguments, name: str) -> int:
    text = arguments.get(name, "")
    if not text.isdecimal() or len(text) > 10:
        raise ValueError(f"{name}: {text!r} is no whole number")
    return int(text)
