"""What the root's master wants to know of each node: the groups that it leads, and what its clients
ask for; and changing these groups."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from raftmail.cluster.router import Router
from raftmail.cluster.steps import ObservedNode, ObservedShard, Seen
from raftmail.consensus.group import ChangeRefused, NotLeader
from raftmail.consensus.membership import Membership
from raftmail.mail.admin import JSON
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
    clock: Callable[[], float]
    _held: dict[int, float] = field(default_factory=dict)
    """Until when the mastership of a shard stays here, if it is here."""

    async def hold_here(self, arguments: Mapping[str, str], deadline: float) -> JSON:
        """An operator wants this node to lead a shard: the balancer shall not undo it. Raises
        ValueError."""
        shard = int(arguments["shard"])
        if shard not in self.router.replicas:
            raise ValueError(f"shard: this node has no replica of shard {shard}")
        self._held[shard] = self.clock() + HOLD_S
        return {"hold_s": HOLD_S}

    async def observe_here(self, arguments: Mapping[str, str], deadline: float) -> JSON:
        """The revision that this node follows, and what it knows of the groups that it leads."""
        led = [r for r in self.router.replicas.values() if r.is_leader]
        proved = await asyncio.gather(*[self._leads(replica) for replica in led])
        return {
            "revision": self.router.view.revision,
            "shards": {
                str(replica.shard): _of_group(replica)
                | {"held": self.clock() < self._held.get(replica.shard, 0.0)}
                for replica, leads in zip(led, proved, strict=True)
                if leads and replica.is_leader
            },
            "commands": {
                str(shard): dict(counts) for shard, counts in self.router.commands.items()
            },
        }

    async def _leads(self, replica: Replica) -> bool:
        """Whether a replica leads its group, by a round of answers that began now."""
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

        def done(index: int | None) -> None:
            if not future.done():
                future.set_result(index is not None)

        replica.barrier(self.clock(), done)
        self.router.links.wake(replica.shard)
        try:
            return await asyncio.wait_for(future, PROOF_S)
        except TimeoutError:
            return False

    async def change_here(self, arguments: Mapping[str, str], deadline: float) -> JSON:
        """Change the membership of a group that this node leads, if it still is what the change was
        decided by: `voters` and `learners` are ids with commas, `action` is add (with `node`),
        promote or remove, `id` the replica. Raises ValueError for bad arguments, `Unavailable` when
        the change may not be made now."""
        shard, id = int(arguments["shard"]), int(arguments["id"])
        replica = self.router.replicas.get(shard)
        if replica is None:
            raise Unavailable(Failure(f"this node has no replica of shard {shard}"))
        newest = replica.membership
        seen = _ids(arguments["voters"]), _ids(arguments["learners"])
        if seen != seen_of(newest):
            raise Unavailable(Failure(f"the members of shard {shard} are others by now: {newest}"))
        action = arguments["action"]
        if action == "add":
            learners = {**newest.learners, id: arguments["node"]}
            wanted = replace(newest, learners=learners, next_id=max(newest.next_id, id + 1))
        elif action == "promote":
            wanted = newest.promoted(id)
        elif action == "remove":
            wanted = newest.without(id)
        else:
            raise ValueError(f"action: {action!r} is none of add, promote, remove")
        try:
            replica.change(self.router.clock(), wanted)
        except (ChangeRefused, NotLeader, DiskFull) as e:
            raise Unavailable(Failure(f"shard {shard}: {e}")) from None
        self.router.links.wake(shard)
        return {}


def seen_of(membership: Membership) -> Seen:
    """A membership as a step names it."""
    return tuple(sorted(membership.voters)), tuple(sorted(membership.learners))


def _ids(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(",") if part)


def _of_group(replica: Replica) -> dict[str, Any]:
    committed = replica.committed_membership
    return {
        "id": replica.replica_id,
        "membership": committed.encode(),
        "changing": replica.membership != committed,
        "whole": sorted(replica.complete_members()),
        "able": sorted(replica.able_members()),
        "bytes": replica.body_bytes,
    }


def read_shards(node: str, answer: Any) -> dict[int, ObservedShard]:
    """The groups that a node says it leads, of its answer to "observe-here". Raises KeyError,
    ValueError and TypeError for what no node of this release answers."""
    return {
        int(number): ObservedShard(
            node,
            int(row["id"]),
            Membership.decode(row["membership"]),
            bool(row["changing"]),
            frozenset(map(int, row["whole"])),
            frozenset(map(int, row["able"])),
            int(row["bytes"]),
            bool(row.get("held", False)),
        )
        for number, row in answer["shards"].items()
    }


@dataclass(slots=True, repr=False)
class LastHeard:
    """When each node was last heard of."""

    began: float
    _heard: dict[str, float]

    def note(self, node: str, now: float, answer: Any) -> ObservedNode:
        """A node has answered, or with None it has not."""
        if answer is not None:
            self._heard[node] = now
            return ObservedNode(True, 0.0, int(answer["revision"]))
        return ObservedNode(False, now - self._heard.get(node, self.began))
