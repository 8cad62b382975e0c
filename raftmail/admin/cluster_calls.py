"""What operators ask of the cluster as a whole: who is in it, what is to come and to go, and how far that is.

A change is decided by the newest state, written by the root, and carried out by the root's master. So every call here returns at once;
`node`, `shard` and `operations` tell how far things are, to whoever asks.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from raftmail.admin.config_writer import ConfigSource, ConfigWriter
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
from raftmail.mail.admin import JSON

Arguments = Mapping[str, str]
Handler = Callable[[Arguments, float], Awaitable[JSON]]
RECORDS_MAX = 1000
"""Records that cannot be read, in one answer."""
_INVITE = re.compile(r"[0-9a-f]{32}")
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?(\.[2-9])?")


class ShardReport(NamedTuple):
    """What the nodes say of a shard."""

    bytes: int
    master: str | None


@dataclass(slots=True, repr=False)
class ClusterCalls:
    """`is_alive` tells whether a node answers, through whichever other; `looks` asks all nodes; `waits` asks the root's master what it
    waits for."""

    router: Router
    config_source: ConfigSource
    writer: ConfigWriter
    is_alive: Callable[[str], Awaitable[bool]]
    looks: Callable[[ClusterState], Awaitable[Mapping[int, ShardReport]]]
    waits: Callable[[float], Awaitable[Mapping[str, str]]]

    @property
    def handlers(self) -> dict[str, Handler]:
        """By the names of the calls."""
        return {
            "nodes": self._nodes,
            "node": self._node,
            "invite": self._invite,
            "invitations": self._invitations,
            "withdraw": self._withdraw,
            "join": self._join,
            "drain": self._drain,
            "undrain": self._undrain,
            "cordon": self._cordon,
            "uncordon": self._uncordon,
            "remove": self._remove,
            "replace": self._replace,
            "shards": self._shards,
            "shard": self._shard,
            "move": self._move,
            "rebalance": self._rebalance,
            "rebalance-stop": self._stop_rebalance,
            "operations": self._operations,
            "records": self._records,
            "record-repair": self._repair_record,
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

    # -- nodes ---------------------------------------------------------------------------------------

    async def _nodes(self, arguments: Arguments, deadline: float) -> JSON:
        state = await self._newest(deadline)
        return {
            "revision": state.revision,
            "cluster": state.cluster.id,
            "shards": len(state.shards) - 1,
            "replicas": state.cluster.replication,
            "nodes": [node_row(state, node) for node in state.every_node.values()],
        }

    async def _node(self, arguments: Arguments, deadline: float) -> JSON:
        state = await self._newest(deadline)
        node = _known(state, arguments.get("name", ""))
        rows = []
        for shard in state.every_shard.values():
            rows += [
                {"shard": shard.number, "id": r.id, "state": r.state.value}
                for r in shard.on(node.name)
            ]
        risk: list[str] = []
        if arguments.get("risk"):
            alive = [n for n in state.nodes if await self.is_alive(n)]
            risk = changes.at_risk(state, node.name, alive)
        operations = [
            operation_row(state, operation)
            for operation in state.table(OperationRecord).values()
            if operation.subject == node.name
        ]
        mine = [shard for shard in state.every_shard.values() if shard.on(node.name)]
        return {
            **await self._leading(state, node.name),
            "held": rows,
            "operations": operations,
            "at_risk": risk,
            "waits_for": await self._waits_for(mine, deadline),
        }

    async def _invite(self, arguments: Arguments, deadline: float) -> JSON:
        name = _node_name(arguments)
        invitation = InviteRecord(
            _required(arguments, "id", _INVITE, "32 hexadecimal digits"),
            name,
            _required(arguments, "peer"),
            _whole_number(arguments, "expires_s"),
            _required(arguments, "bundle"),
        )
        await self._make(lambda state, now: changes.invite(state, invitation, now), deadline)
        return {"id": invitation.id, "name": name, "expires_s": invitation.expires_s}

    async def _invitations(self, arguments: Arguments, deadline: float) -> JSON:
        state = await self._newest(deadline)
        now = int(self.writer.wall())
        rows = []
        for one in state.table(InviteRecord).values():
            status = "used" if one.used else "expired" if one.expires_s <= now else "open"
            row = {"id": one.id, "name": one.name, "peer": one.peer, "expires_s": one.expires_s}
            rows.append({**row, "state": status})
        return {"invitations": rows}

    async def _withdraw(self, arguments: Arguments, deadline: float) -> JSON:
        invite = _required(arguments, "id", _INVITE, "32 hexadecimal digits")
        await self._make(lambda state, now: changes.withdraw(state, invite), deadline)
        return {"id": invite}

    async def _join(self, arguments: Arguments, deadline: float) -> JSON:
        invite = _required(arguments, "id", _INVITE, "32 hexadecimal digits")
        node = NodeRecord(
            _node_name(arguments),
            _required(arguments, "peer"),
            arguments.get("client", ""),
            arguments.get("lmtp", ""),
            arguments.get("host", ""),
            arguments.get("zone", ""),
            tuple(filter(None, arguments.get("labels", "").split(","))),
            _whole_number(arguments, "capacity", 100),
        )
        state = await self._newest(deadline)
        # A token is for one machine: only who has begun with it may say so again.
        again = arguments.get("again") == "yes" and changes.already_joined(state, invite, node)
        if not again:
            state = await self._make(
                lambda now_state, now: changes.join(now_state, invite, node, now), deadline
            )
        return {
            "revision": state.revision,
            "nodes": {n: state.every_node[n].peer for n in state.nodes},
        }

    async def _drain(self, arguments: Arguments, deadline: float) -> JSON:
        name, by = _node_name(arguments), arguments.get("by", "")
        state = await self._make(
            lambda state, now: changes.drain(state, name, now, by, self.router.node), deadline
        )
        return node_row(state, _known(state, name))

    async def _undrain(self, arguments: Arguments, deadline: float) -> JSON:
        name = _node_name(arguments)
        state = await self._make(lambda state, now: changes.undrain(state, name), deadline)
        return node_row(state, _known(state, name))

    async def _cordon(self, arguments: Arguments, deadline: float) -> JSON:
        name = _node_name(arguments)
        state = await self._make(lambda state, now: changes.cordon(state, name), deadline)
        return await self._leading(state, name)

    async def _uncordon(self, arguments: Arguments, deadline: float) -> JSON:
        name = _node_name(arguments)
        state = await self._make(lambda state, now: changes.uncordon(state, name), deadline)
        return await self._leading(state, name)

    async def _leading(self, state: ClusterState, name: str) -> dict[str, Any]:
        """A node, and the shards that it leads now."""
        looks = await self.looks(state)
        led = sorted(number for number, look in looks.items() if look.master == name)
        return {**node_row(state, _known(state, name)), "leads": led}

    async def _remove(self, arguments: Arguments, deadline: float) -> JSON:
        name, by = _node_name(arguments), arguments.get("by", "")
        force = arguments.get("force") == "yes"
        alive = await self.is_alive(name)
        state = await self._make(
            lambda state, now: changes.remove(state, name, now, force=force, alive=alive, by=by),
            deadline,
        )
        return node_row(state, _known(state, name))

    async def _replace(self, arguments: Arguments, deadline: float) -> JSON:
        name, by = _node_name(arguments), arguments.get("by", "")
        only = _replicas_of(arguments["only"]) if "only" in arguments else None
        state = await self._make(
            lambda state, now: changes.replace_disk(state, name, now, by, only), deadline
        )
        return {**node_row(state, _known(state, name)), "revision": state.revision}

    # -- shards --------------------------------------------------------------------------------------

    async def _shards(self, arguments: Arguments, deadline: float) -> JSON:
        state = await self._newest(deadline)
        looks = await self.looks(state)
        return {
            "shards": [
                _shard_row(shard, looks.get(shard.number)) for shard in state.every_shard.values()
            ]
        }

    async def _shard(self, arguments: Arguments, deadline: float) -> JSON:
        state = await self._newest(deadline)
        number = _whole_number(arguments, "shard")
        shard = state.find(ShardRecord, number)
        if shard is None:
            raise ValueError(f"there is no shard {number} (0 to {state.shards[-1]})")
        looks = await self.looks(state)
        waits = await self._waits_for([shard], deadline)
        return {**_shard_row(shard, looks.get(number)), "waits_for": waits}

    async def _waits_for(self, shards: Iterable[ShardRecord], deadline: float) -> list[str]:
        """What replicas of these shards that come or go wait for, in words, each once."""
        moving = [
            (shard.number, replica.id)
            for shard in shards
            for replica in shard.replicas
            if replica.state is not ReplicaState.VOTER
        ]
        waits = await self.waits(deadline) if moving else {}
        found = ((shard, waits.get(f"{shard} {id}", "")) for shard, id in moving)
        return [f"shard {shard}: {text}" for shard, text in dict.fromkeys(found) if text]

    async def _move(self, arguments: Arguments, deadline: float) -> JSON:
        number = _whole_number(arguments, "shard")
        source, target = _required(arguments, "source"), _required(arguments, "target")
        state = await self._make(
            lambda state, now: changes.move_shard(state, number, source, target), deadline
        )
        return _shard_row(state.every_shard[number], None)

    async def _rebalance(self, arguments: Arguments, deadline: float) -> JSON:
        state = await self._newest(deadline)
        moves = plan(state, balance=True)
        looks = await self.looks(state) if moves else {}
        rows = [
            {
                "shard": move.shard,
                "source": move.source,
                "target": move.target,
                "why": move.why,
                "bytes": looks[move.shard].bytes if move.target and move.shard in looks else 0,
            }
            for move in moves
        ]
        dry_run = arguments.get("dry_run") == "yes"
        if not dry_run:
            by = arguments.get("by", "")
            await self._make(lambda state, now: changes.rebalance(state, now, by), deadline)
        return {"moves": rows, "bytes": sum(row["bytes"] for row in rows), "begun": not dry_run}

    async def _stop_rebalance(self, arguments: Arguments, deadline: float) -> JSON:
        await self._make(lambda state, now: changes.stop_rebalance(state), deadline)
        return {}

    async def _operations(self, arguments: Arguments, deadline: float) -> JSON:
        state = await self._newest(deadline)
        found = sorted(state.table(OperationRecord).values(), key=lambda o: (o.began_s, o.id))
        moving: list[dict[str, Any]] = [
            {"shard": s.number, "id": r.id, "node": r.node, "state": r.state.value}
            for s in state.every_shard.values()
            for r in s.replicas
            if r.state is not ReplicaState.VOTER
        ]
        waits = await self.waits(deadline) if moving else {}
        for row in moving:
            row["waits_for"] = waits.get(f"{row['shard']} {row['id']}", "")
        texts = [f"shard {row['shard']}: {row['waits_for']}" for row in moving if row["waits_for"]]
        return {
            "operations": [operation_row(state, one) for one in found],
            "moving": moving,
            "waits_for": list(dict.fromkeys(texts)),
        }

    # -- records that cannot be read -------------------------------------------------------------------

    async def _records(self, arguments: Arguments, deadline: float) -> JSON:
        state = await self._newest(deadline)
        rows = [
            {"key": key, "why": why, "revision": state.revision_of(key)}
            for key, why in state.unreadable.items()
        ]
        return {"records": rows[:RECORDS_MAX], "more": len(rows) > RECORDS_MAX}

    async def _repair_record(self, arguments: Arguments, deadline: float) -> JSON:
        key = _required(arguments, "key")
        known = False

        def decide(state: ClusterState, now: int) -> Change:
            nonlocal known
            change = changes.repair_record(state, key)
            known = change.puts[0][1] is not None
            return change

        await self._make(decide, deadline)
        return {"key": key, "written": known}


def _shard_row(shard: ShardRecord, look: ShardReport | None) -> dict[str, Any]:
    return {
        "shard": shard.number,
        "pool": shard.pool,
        "replication": shard.replication,
        "master": None if look is None else look.master,
        "master_preference": shard.master,
        "bytes": None if look is None else look.bytes,
        "replicas": [{"id": r.id, "node": r.node, "state": r.state.value} for r in shard.replicas],
    }


def node_row(state: ClusterState, node: NodeRecord) -> dict[str, Any]:
    """A node as operators see it."""
    held = [r for shard in state.every_shard.values() for r in shard.on(node.name)]
    return {
        **asdict(node),
        "labels": list(node.labels),
        "state": node.state.value,
        "replicas": len(held),
        "joining": sum(r.state is ReplicaState.JOINING for r in held),
        "leaving": sum(r.state is ReplicaState.LEAVING for r in held),
    }


def operation_row(state: ClusterState, operation: OperationRecord) -> dict[str, Any]:
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
    return {**asdict(operation), "left": left if operation.state == "running" else 0}


def _known(state: ClusterState, name: str) -> NodeRecord:
    node = state.find(NodeRecord, name)
    if node is None:
        raise ValueError(f"there is no node {name!r}; there are {', '.join(state.nodes)}")
    return node


def _required(
    arguments: Arguments, name: str, form: re.Pattern[str] | None = None, allowed: str = ""
) -> str:
    value = arguments.get(name, "")
    if not value:
        raise ValueError(f"{name}: must be given")
    if form is not None and form.fullmatch(value) is None:
        raise ValueError(f"{name}: {value!r} is not {allowed}")
    return value


def _node_name(arguments: Arguments) -> str:
    return _required(
        arguments, "name", _NAME, "1 to 32 of a-z, 0-9 and -, not beginning or ending with -"
    )


def _whole_number(arguments: Arguments, name: str, default: int | None = None) -> int:
    value = arguments.get(name, "")
    if not value and default is not None:
        return default
    if not value.isdecimal() or len(value) > 18:
        raise ValueError(f"{name}: {value!r} is no whole number")
    return int(value)


def _replicas_of(text: str) -> dict[int, int]:
    """`SHARD:REPLICA,SHARD:REPLICA,…` as shards and replica ids. Raises ValueError."""
    try:
        pairs = [one.split(":") for one in text.split(",")]
        return {int(shard): int(replica) for shard, replica in pairs}
    except ValueError:
        raise ValueError(f"only: {text!r} is no list of SHARD:REPLICA") from None
