"""What operators do to nodes and shards, each as a pure function of the state.

Each gives a `Change`, or raises `ChangeDenied` with the reason.

A change is one `Configure`: all of it or nothing. It expects every record that it was decided by to
be as it was read. So of two operators who decide at once one is refused by the root, reads again,
and is then told the reason here.

A drain, a removal and a rebalance only write down what is wanted. What has to be done for it
follows from the records alone (`controller.next_steps`), by whoever leads the root. So it can be
left, watched, and undone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from raftmail.cluster.moves import missing, plan
from raftmail.cluster.records import (
    ROOT_SHARD,
    InviteRecord,
    NodeRecord,
    NodeState,
    OperationRecord,
    Record,
    RecoveryRecord,
    ReplicaRecord,
    ReplicaState,
    ShardRecord,
    encode,
    key_of,
)
from raftmail.cluster.state import ClusterState
from raftmail.mail.commands import Configure
from raftmail.mail.endpoint import dialled

INVITE_BYTES_MAX = 128 << 10
INVITES_MAX = 100


class ChangeDenied(Exception):
    """The change is not made; the text says why, and what can be done."""


@dataclass(frozen=True, slots=True)
class Change:
    """Records to write, and the revisions that what it was decided by must still have."""

    puts: tuple[tuple[str, bytes | None], ...]
    expected: tuple[tuple[str, int], ...]

    @property
    def command(self) -> Configure:
        return Configure(self.puts, self.expected)


def change_of(
    state: ClusterState, puts: Iterable[Record], gone: Iterable[str] = (), by: Iterable[str] = ()
) -> Change:
    """A change that writes records and takes others away; it expects those, and the keys `by`, to
    be as `state` has them."""
    made: dict[str, bytes | None] = {key_of(record): state.encoded(record) for record in puts}
    made.update(dict.fromkeys(gone))
    keys = dict.fromkeys([*made, *by])
    return Change(tuple(made.items()), tuple((key, state.revision_of(key)) for key in keys))


def every_node(state: ClusterState) -> list[str]:
    """The keys of all nodes: what a change expects that was decided by who is there."""
    return [key_of(node) for node in state.every_node.values()]


# -- coming ----------------------------------------------------------------------------------------


def invite(state: ClusterState, invitation: InviteRecord, now_s: int) -> Change:
    """Prepare for a node. Raises `ChangeDenied`. Invitations that are used or too old are cleared
    away."""
    if not invitation.name or not invitation.peer:
        raise ChangeDenied(
            "an invitation names the node and the address that the others reach it by"
        )
    try:
        dialled(invitation.peer)
    except ValueError as e:
        raise ChangeDenied(str(e)) from None
    if invitation.expires_s <= now_s:
        raise ChangeDenied("the invitation would have expired already")
    if len(encode(invitation)) > INVITE_BYTES_MAX:
        raise ChangeDenied(f"the invitation is larger than {INVITE_BYTES_MAX >> 10} KiB")
    _check_free(state, invitation.name, (invitation.peer,))
    gone = []
    live = 0
    for other in state.table(InviteRecord).values():
        if other.used or other.expires_s <= now_s:
            gone.append(key_of(other))
        elif other.id == invitation.id:
            raise ChangeDenied(f"there is an invitation {invitation.id} already")
        elif other.name == invitation.name or other.peer == invitation.peer:
            raise ChangeDenied(
                f"node {other.name} ({other.peer}) is invited already, for "
                f"{_span(other.expires_s - now_s)} more; let it join, or withdraw "
                f"that invitation (`raftmail member withdraw {other.name}`)"
            )
        else:
            live += 1
    if live >= INVITES_MAX:
        raise ChangeDenied(
            f"there are {live} invitations open, and no more are kept; withdraw some"
        )
    return change_of(state, [invitation], gone, every_node(state))


def _span(seconds: int) -> str:
    return f"{seconds // 3600} h" if seconds >= 7200 else f"{max(1, seconds // 60)} min"


def withdraw(state: ClusterState, invite_id: str) -> Change:
    """Take an invitation back. Raises `ChangeDenied`."""
    found = state.find(InviteRecord, invite_id)
    if found is None or found.used:
        raise ChangeDenied(f"there is no open invitation {invite_id}")
    return change_of(state, [], [key_of(found)])


def find_invite(state: ClusterState, invite_id: str, now_s: int) -> InviteRecord:
    """An invitation that may be used now. Raises `ChangeDenied`."""
    found = state.find(InviteRecord, invite_id)
    if found is None:
        raise ChangeDenied(
            f"there is no invitation {invite_id}: it was withdrawn, or has expired; ask for a new "
            f"one"
        )
    if found.used:
        raise ChangeDenied(
            f"the invitation {invite_id} was used already; each is for one node, ask for a new one"
        )
    if found.expires_s <= now_s:
        raise ChangeDenied(
            f"the invitation {invite_id} expired {now_s - found.expires_s} s ago; ask for a new one"
        )
    return found


def join(state: ClusterState, invite_id: str, node: NodeRecord, now_s: int) -> Change:
    """Take an invited node in. It holds nothing until shards are moved to it. A node that asks
    again because it had no answer is taken for what it is (`already_joined`). Raises
    `ChangeDenied`."""
    found = find_invite(state, invite_id, now_s)
    if (node.name, node.peer) != (found.name, found.peer):
        raise ChangeDenied(
            f"the invitation {invite_id} is for {found.name} at {found.peer}, not for {node.name} "
            f"at {node.peer}"
        )
    _check_free(state, node.name, [a for a in (node.peer, node.client, node.lmtp) if a])
    joined = replace(node, state=NodeState.ACTIVE, joined_s=now_s)
    used = replace(found, used=True, bundle="")
    return change_of(state, [joined, used], by=every_node(state))


def already_joined(state: ClusterState, invite_id: str, node: NodeRecord) -> bool:
    """Whether this very node has joined by this very invitation: its answer got lost."""
    found = state.find(InviteRecord, invite_id)
    there = state.find(NodeRecord, node.name)
    return (
        found is not None
        and found.used
        and there is not None
        and (found.name, found.peer) == (there.name, there.peer) == (node.name, node.peer)
    )


def _check_free(state: ClusterState, name: str, addresses: Iterable[str]) -> None:
    for other in state.every_node.values():
        if other.name == name:
            if other.state is NodeState.REMOVED:
                raise ChangeDenied(
                    f"a node {name} was removed, and its name is not used again; choose another "
                    f"name"
                )
            raise ChangeDenied(f"there is a node {name} already")
        if other.state is NodeState.REMOVED:
            continue
        for address in addresses:
            if address in (other.peer, other.client, other.lmtp):
                raise ChangeDenied(f"the address {address} is that of node {other.name} already")


# -- going -----------------------------------------------------------------------------------------


def drain(state: ClusterState, name: str, now_s: int, by: str = "", via: str = "") -> Change:
    """Have a node emptied: its masters go first, then its replicas. `via` is the node through which
    it was asked. Raises `ChangeDenied` when what it holds could not go anywhere, and when somebody
    else has `via` emptied."""
    node = _node(state, name)
    if node.state is NodeState.DRAINING:
        raise ChangeDenied(f"{name} is being drained already{_begun(state, name)}")
    asking = state.find(NodeRecord, via) if via else None
    began = state.find(OperationRecord, f"drain-{via}")
    by_the_same = bool(by) and began is not None and began.by == by
    if (
        asking is not None
        and asking.state is NodeState.DRAINING
        and via != name
        and not by_the_same
    ):
        raise ChangeDenied(
            f"{via}, through which this is asked, is itself being drained{_begun(state, via)}: "
            f"two operators would empty each other's "
            f"nodes; undrain {via} first, or ask through another node"
        )
    after = _with(state, replace(node, state=NodeState.DRAINING))
    _check_room(state, after, f"{name} cannot be drained")
    operation = OperationRecord(f"drain-{name}", "drain", name, now_s, by, via)
    return change_of(
        state, [replace(node, state=NodeState.DRAINING), operation], by=every_node(state)
    )


def undrain(state: ClusterState, name: str) -> Change:
    """Keep a node after all. What has left stays where it is; what was about to leave stays here,
    and what was to replace it goes. Raises `ChangeDenied`."""
    node = _node(state, name)
    if node.state is not NodeState.DRAINING:
        raise ChangeDenied(f"{name} is not being drained")
    puts: list[Record] = [replace(node, state=NodeState.ACTIVE)]
    operation = state.find(OperationRecord, f"drain-{name}")
    if operation is not None:
        puts.append(replace(operation, state="undone"))
    for shard in state.every_shard.values():
        kept = _kept(shard, name)
        if kept is not shard:
            puts.append(kept)
    return change_of(state, puts, by=every_node(state))


def _kept(shard: ShardRecord, name: str) -> ShardRecord:
    """The shard with a replica that was to leave a node staying there, and the one that was to
    replace it leaving.

    It is left as it is when enough others have become voters.
    """
    voters = [r for r in shard.replicas if r.state is ReplicaState.VOTER]
    going = [r for r in shard.on(name) if r.state is ReplicaState.LEAVING]
    if len(going) != 1 or len(shard.on(name)) != 1 or len(voters) >= shard.replication:
        return shard
    joining = [r for r in shard.replicas if r.state is ReplicaState.JOINING]
    states = {going[0].id: ReplicaState.VOTER}
    if joining:
        states[joining[-1].id] = ReplicaState.LEAVING
    return replace(
        shard, replicas=tuple(replace(r, state=states.get(r.id, r.state)) for r in shard.replicas)
    )


def cordon(state: ClusterState, name: str) -> Change:
    """Have a node get no masters and no new replicas until `uncordon`; what it holds stays. Raises
    `ChangeDenied`."""
    node = _node(state, name)
    if node.cordoned:
        raise ChangeDenied(f"{name} is cordoned already")
    return change_of(state, [replace(node, cordoned=True)])


def uncordon(state: ClusterState, name: str) -> Change:
    """Lift a `cordon`. Raises `ChangeDenied`."""
    node = _node(state, name)
    if not node.cordoned:
        raise ChangeDenied(f"{name} is not cordoned")
    return change_of(state, [replace(node, cordoned=False)])


def remove(
    state: ClusterState,
    name: str,
    now_s: int,
    *,
    force: bool = False,
    alive: bool = True,
    by: str = "",
) -> Change:
    """Take a node out for ever. Without `force` only one whose replicas count for nothing: an empty
    one, or a dead one (`alive` says what the others see) to which some were only to come. With it
    any dead one, whose replicas are then made anew elsewhere. What was to come is given up at once.
    Raises `ChangeDenied`, saying which shards are at risk.
    """
    node = state.find(NodeRecord, name)
    if node is None:
        raise ChangeDenied(f"there is no node {name}")
    if node.state is NodeState.REMOVED:
        raise ChangeDenied(f"{name} is removed already")
    held = [shard for shard in state.every_shard.values() if shard.on(name)]
    empty = all(r.state is ReplicaState.JOINING for shard in held for r in shard.on(name))
    if held and not force and (alive or not empty):
        raise ChangeDenied(
            f"{name} still holds {_listed(held)}; drain it first, or if it is dead and will not "
            f"come back, remove it by force"
        )
    if held and alive:
        raise ChangeDenied(
            f"{name} is alive and holds {_listed(held)}: force is for dead nodes; drain it, or "
            f"stop it if it is broken"
        )
    others = [
        n for n in state.every_node.values() if n.name != name and n.state is not NodeState.REMOVED
    ]
    if not others:
        raise ChangeDenied(f"{name} is the last node")
    last = [
        s
        for s in held
        if not any(r.node != name for r in s.replicas if r.state is not ReplicaState.JOINING)
    ]
    if last:
        raise ChangeDenied(
            f"{name} has the last replica of {_listed(last)}; what is in there would be lost for "
            f"ever"
        )
    puts: list[Record] = [replace(node, state=NodeState.REMOVED)]
    gone = []
    operation = state.find(OperationRecord, f"drain-{name}")
    if operation is not None and operation.state != "running":
        gone.append(key_of(operation))
    elif operation is not None:
        puts.append(replace(operation, state="done"))
    for shard in held:
        given_up = tuple(
            replace(r, state=ReplicaState.LEAVING)
            if r.node == name and r.state is ReplicaState.JOINING
            else r
            for r in shard.replicas
        )
        if given_up != shard.replicas:
            puts.append(replace(shard, replicas=given_up))
    if held:
        puts.append(OperationRecord(f"remove-{name}", "remove", name, now_s, by))
    return change_of(state, puts, gone, [*every_node(state), *(key_of(shard) for shard in held)])


def at_risk(state: ClusterState, name: str, alive: Iterable[str]) -> list[str]:
    """What removing a dead node by force may cost, in words, a line for each shard: those that have
    no majority among the living."""
    living = set(alive)
    lines = []
    for shard in state.every_shard.values():
        voters = [r for r in shard.replicas if r.state is not ReplicaState.JOINING]
        left = [r.node for r in voters if r.node in living and r.node != name]
        if any(r.node == name for r in voters) and len(left) * 2 <= len(voters):
            lines.append(
                f"shard {shard.number}: {len(left)} of {len(voters)} replicas are left"
                f"{' (' + ', '.join(left) + ')' if left else ''}, which is no majority: it cannot "
                f"be changed or written until more come "
                "back, or it is recovered by force"
            )
    return lines


def replace_disk(
    state: ClusterState,
    name: str,
    now_s: int,
    by: str = "",
    only: Mapping[int, int] | None = None,
) -> Change:
    """A node lost its disk: all its replicas are given up, and new ones under new ids fill
    themselves from the others. `only`: those of these shards, if they have these ids. Raises
    `ChangeDenied` when a shard has nothing to be filled from."""
    if _node(state, name).cordoned:
        raise ChangeDenied(
            f"{name} is cordoned, and gets no new replicas; `raftmail member uncordon {name}` "
            f"lifts it"
        )
    puts: list[Record] = []
    for shard in state.every_shard.values():
        mine = [r for r in shard.on(name) if r.state is not ReplicaState.LEAVING]
        if only is not None:
            mine = [r for r in mine if r.id == only.get(shard.number)]
        if not mine:
            continue
        if not any(r.node != name and r.state is ReplicaState.VOTER for r in shard.replicas):
            raise ChangeDenied(
                f"shard {shard.number} has no replica but that of {name}: there is nothing to "
                f"fill a new one from; restore its disk"
            )
        replicas = tuple(
            replace(r, state=ReplicaState.LEAVING) if r in mine else r for r in shard.replicas
        )
        new = ReplicaRecord(shard.next_id, name, ReplicaState.JOINING)
        puts.append(
            replace(shard, replicas=(*replicas, new), next_id=shard.next_id + 1, founding=False)
        )
    puts.append(OperationRecord(f"replace-{name}", "replace", name, now_s, by))
    return change_of(state, puts, by=every_node(state))


# -- moving ----------------------------------------------------------------------------------------


def move_shard(state: ClusterState, number: int, source: str, target: str) -> Change:
    """Have a replica of a shard moved from one node to another. Raises `ChangeDenied`."""
    shard = state.find(ShardRecord, number)
    if shard is None:
        raise ChangeDenied(f"there is no shard {number}")
    to = _node(state, target)
    if to.state is not NodeState.ACTIVE:
        raise ChangeDenied(f"{target} is being drained, and takes nothing")
    if to.cordoned:
        raise ChangeDenied(
            f"{target} is cordoned, and gets no new replicas; `raftmail member uncordon {target}` "
            f"lifts it"
        )
    if shard.on(target):
        raise ChangeDenied(f"{target} has a replica of shard {number} already")
    pool = state.pool_of(shard)
    if not pool.allows(to):
        raise ChangeDenied(
            f"shard {number} belongs to pool {pool.name}, which is for nodes {pool.wanted}; "
            f"{target} is none"
        )
    leaving = [r for r in shard.on(source) if r.state is ReplicaState.VOTER]
    if not leaving:
        raise ChangeDenied(
            f"{source} has no replica of shard {number} that could move; it is on "
            f"{', '.join(shard.nodes)}"
        )
    if any(r.state is not ReplicaState.VOTER for r in shard.replicas):
        raise ChangeDenied(f"shard {number} is being moved already; wait until that is done")
    return change_of(state, [moved(shard, leaving[0].id, target)], by=[key_of(to)])


def moved(shard: ShardRecord, source_id: int, target: str, next_id: int = 0) -> ShardRecord:
    """A shard with a new replica joining on `target` ("": none) and one leaving (0: none).
    `next_id` is at least the new id."""
    id = max(shard.next_id, next_id)
    replicas = [
        replace(r, state=ReplicaState.LEAVING) if r.id == source_id else r for r in shard.replicas
    ]
    if not target:
        return replace(shard, replicas=tuple(replicas))
    replicas.append(ReplicaRecord(id, target, ReplicaState.JOINING))
    return replace(shard, replicas=tuple(replicas), next_id=id + 1, founding=False)


def rebalance(state: ClusterState, now_s: int, by: str = "") -> Change:
    """Have replicas moved from full nodes to empty ones. Raises `ChangeDenied` when there is
    nothing to move (`moves.plan` with `balance` lists what would be)."""
    running = state.find(OperationRecord, "rebalance")
    if running is not None and running.state == "running":
        raise ChangeDenied(f"a rebalance is under way{_said(running)}")
    if not plan(state, balance=True):
        raise ChangeDenied("replicas are spread evenly already: there is nothing to move")
    return change_of(state, [OperationRecord("rebalance", "rebalance", "", now_s, by)])


def stop_rebalance(state: ClusterState) -> Change:
    """Begin no more moves; those that have begun are finished. Raises `ChangeDenied`."""
    running = state.find(OperationRecord, "rebalance")
    if running is None or running.state != "running":
        raise ChangeDenied("no rebalance is under way")
    return change_of(state, [replace(running, state="undone")])


def recover(
    state: ClusterState, number: int, kept: int, voters: Iterable[int], now_s: int, by: str
) -> Change:
    """Write down that a shard was put on its feet with one replica (`kept`) of those that its group
    had: the others are given up, and made anew. To be asked after the group itself was forced.
    Raises `ChangeDenied`."""
    shard = state.find(ShardRecord, number)
    if shard is None:
        raise ChangeDenied(f"there is no shard {number}")
    mine = [r for r in shard.replicas if r.id == kept]
    if not mine:
        raise ChangeDenied(
            f"shard {number} has no replica {kept}; it has "
            f"{', '.join(str(r.id) for r in shard.replicas)}"
        )
    lost = tuple(sorted({*voters} - {kept}))
    next_id = max([shard.next_id, *(id + 1 for id in lost)])
    alone = replace(
        shard,
        replicas=(replace(mine[0], state=ReplicaState.VOTER),),
        next_id=next_id,
        founding=False,
    )
    return change_of(state, [alone, RecoveryRecord(number, now_s, by, kept, lost)])


# -- mending ---------------------------------------------------------------------------------------


def repair_record(state: ClusterState, key: str) -> Change:
    """Write a record that cannot be read as it was before, or take it away when nothing was known
    of it. Raises `ChangeDenied` for any other: those have commands of their own."""
    if key not in state.unreadable:
        found = ", ".join(state.unreadable) or "none"
        raise ChangeDenied(f"{key!r} is no record that cannot be read; there are: {found}")
    before = [table[key] for table in state.tables.values() if key in table]
    return change_of(state, before, [] if before else [key])


# -- what they share -------------------------------------------------------------------------------


def _node(state: ClusterState, name: str) -> NodeRecord:
    node = state.find(NodeRecord, name)
    if node is None:
        raise ChangeDenied(f"there is no node {name}; there are {', '.join(state.nodes)}")
    if node.state is NodeState.REMOVED:
        raise ChangeDenied(f"{name} was removed")
    return node


def _with(state: ClusterState, record: Record) -> ClusterState:
    return state.with_puts([(key_of(record), state.encoded(record))])


def _check_room(before: ClusterState, after: ClusterState, what: str) -> None:
    """Raises `ChangeDenied` when shards cannot have their replicas after a change, and could
    before."""
    worse: list[tuple[ShardRecord, str]] = []
    for shard in after.every_shard.values():
        lack = missing(after, shard)
        if lack and lack != missing(before, shard):
            worse.append((shard, lack))
    if not worse and any(n.state is NodeState.ACTIVE for n in after.every_node.values()):
        return
    if not worse:
        raise ChangeDenied(f"{what}: no node would be left")
    draining = [n.name for n in before.every_node.values() if n.state is NodeState.DRAINING]
    also = (
        f" ({', '.join(draining)} {'is' if len(draining) == 1 else 'are'} being drained already)"
        if draining
        else ""
    )
    more = f", and {len(worse) - 1} shards more likewise" if len(worse) > 1 else ""
    raise ChangeDenied(f"{what}: {worse[0][1]}{more}{also}; add nodes first")


def _begun(state: ClusterState, name: str) -> str:
    found = state.find(OperationRecord, f"drain-{name}")
    return "" if found is None or found.state != "running" else _said(found)


def _said(operation: OperationRecord) -> str:
    by = f", by {operation.by}" if operation.by else ""
    via = f" through {operation.via}" if operation.via else ""
    began = datetime.fromtimestamp(operation.began_s, UTC)
    return f" (since {began:%Y-%m-%d %H:%M} UTC{by}{via})"


def _listed(shards: list[ShardRecord]) -> str:
    numbers = [str(shard.number) for shard in shards]
    if len(numbers) == 1:
        return f"shard {numbers[0]}" + (" (the root)" if shards[0].number == ROOT_SHARD else "")
    shown = ", ".join(numbers[:10]) + (
        f" and {len(numbers) - 10} more" if len(numbers) > 10 else ""
    )
    return f"{len(numbers)} shards ({shown})"
