"""The controller of the root's master: what to do next, as a pure function of what is wanted and
what is seen.

It keeps nothing between rounds: whoever leads the root calls it again and again. Any step may fail,
come late, be done twice or be half of what a controller that died had begun. What is under way is
read from the records (a replica that is joining or leaving) and from the groups' memberships.

A replica that moves goes through these states, one change at a time for each group:

| record | group | step |
|---|---|---|
| – | – | `WriteRecords`: a new id, joining; the replica that it is for is leaving |
| joining | – | `AddLearner` |
| joining | learner, not whole | wait: it is being filled |
| joining | learner, whole | `Promote` |
| joining | voter | `WriteRecords`: it is a voter |
| leaving | voter, master | `Transfer` |
| leaving | voter | `RemoveReplica`, when all who stay are voters |
| leaving | – | `WriteRecords`: it is dropped, and its node deletes it |

So that no step costs safety:

1. Replicas are added before others are removed, but for those that are lost for ever while all
   others are whole. As long as the lost ones are voters, a voter more would need one more of the
   living for every majority. The loss of the new one could stop the group then.
2. After each removal of a whole voter, the whole ones that are left are a majority of the group.
   They are also a majority of the replicas that the shard is to have.
3. A step for a group is decided on a committed membership. It is carried out only while the group
   still has it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from raftmail.cluster import leader_balancing, rules
from raftmail.cluster.changes import Change, change_of, moved
from raftmail.cluster.moves import Move, allowed, planned, wanted
from raftmail.cluster.records import (
    NodeRecord,
    NodeState,
    OperationRecord,
    ReplicaRecord,
    ReplicaState,
    ShardRecord,
    key_for,
)
from raftmail.cluster.state import ClusterState
from raftmail.cluster.steps import (
    AddLearner,
    Observed,
    ObservedShard,
    Promote,
    RemoveReplica,
    Seen,
    Step,
    StepLimits,
    Transfer,
    WriteRecords,
)
from raftmail.consensus.membership import Membership

_LIMITS = StepLimits()
_JOINING, _VOTER, _LEAVING = ReplicaState.JOINING, ReplicaState.VOTER, ReplicaState.LEAVING


def next_steps(
    state: ClusterState, observed: Observed, now_s: float, limits: StepLimits = _LIMITS
) -> list[Step]:
    """What to do now: at most one step for a shard's group or record, within `limits`. Empty when
    everything is as it should be, or has to be waited for."""
    steps: list[Step] = []
    busy: set[int] = set()
    for shard in state.every_shard.values():
        seen = observed.shards.get(shard.number)
        if seen is None or not seen.master or seen.changing:
            busy.add(shard.number)
            continue
        step = _for_shard(state, observed, shard, seen, limits)
        if step is not None:
            busy.add(shard.number)
            steps.append(step)
    steps += _begin(state, observed, busy, limits)
    steps += leader_balancing.transfers(state, observed, busy, limits)
    steps += _operations(state)
    steps += [WriteRecords(change, why) for change, why in rules.next_changes(state, observed)]
    return _bounded(steps, limits)


def _bounded(steps: list[Step], limits: StepLimits) -> list[Step]:
    configures = 0
    kept = []
    for step in steps:
        configures += isinstance(step, WriteRecords)
        if not isinstance(step, WriteRecords) or configures <= limits.configures_max:
            kept.append(step)
    return kept


# -- one shard -------------------------------------------------------------------------------------


def _for_shard(
    state: ClusterState,
    observed: Observed,
    shard: ShardRecord,
    seen: ObservedShard,
    limits: StepLimits,
) -> Step | None:
    told = _as_seen(shard, seen)
    told = _given_up(told, seen, observed, limits)
    if told != shard:
        return WriteRecords(
            change_of(state, [told]), f"shard {shard.number}: written down as the group is"
        )
    return _shrink(state, shard, seen) or _grow(observed, shard, seen)


def _as_seen(shard: ShardRecord, seen: ObservedShard) -> ShardRecord:
    """The record, brought up to what the group has."""
    group = seen.membership
    replicas = []
    for replica in shard.replicas:
        if replica.id in group.voters:
            if replica.state is _JOINING:
                replica = replace(replica, state=_VOTER)
        elif replica.id in group.learners:
            if replica.state is _VOTER:
                replica = replace(replica, state=_JOINING)
        elif replica.state is _LEAVING or replica.id < group.next_id:
            if not _tells_of_a_loss(shard, replica, group):
                continue  # it was taken out; an id is never used again
            replica = replace(replica, state=_LEAVING)
        elif replica.state is _VOTER:
            replica = replace(replica, state=_JOINING)
        replicas.append(replica)
    founding = shard.founding and not all(r.id in seen.whole for r in shard.replicas)
    return replace(
        shard,
        replicas=tuple(replicas),
        next_id=max(shard.next_id, group.next_id),
        founding=founding,
    )


def _tells_of_a_loss(shard: ShardRecord, replica: ReplicaRecord, group: Membership) -> bool:
    """Whether the record of a replica that will not join is all that tells that an older one is
    lost (`_is_lost`).

    It was to come in that one's place. It stays until that one is out of the group: who does not
    know of the loss waits for a disk that never comes back.
    """
    return any(
        other.state is _LEAVING and other.id < replica.id and other.id in group.voters
        for other in shard.on(replica.node)
    )


def _given_up(
    shard: ShardRecord, seen: ObservedShard, observed: Observed, limits: StepLimits
) -> ShardRecord:
    """The record with replicas leaving that will never have joined, because their nodes are
    gone."""

    def hopeless(replica: ReplicaRecord) -> bool:
        node = observed.nodes.get(replica.node)
        silent = node is not None and not node.alive and node.silent_s >= limits.give_up_s
        return replica.state is _JOINING and replica.id not in seen.membership.voters and silent

    if not any(map(hopeless, shard.replicas)):
        return shard
    replicas = tuple(replace(r, state=_LEAVING) if hopeless(r) else r for r in shard.replicas)
    return replace(shard, replicas=replicas)


def _seen(seen: ObservedShard) -> Seen:
    return tuple(sorted(seen.membership.voters)), tuple(sorted(seen.membership.learners))


def _shrink(state: ClusterState, shard: ShardRecord, seen: ObservedShard) -> Step | None:
    """Take out one replica that is leaving, or that no record has."""
    group = seen.membership
    staying = {replica.id: replica for replica in shard.staying}
    for id in sorted(group.learners):
        if id not in staying:
            return RemoveReplica(shard.number, id, _seen(seen))
    leaving = [id for id in sorted(group.voters) if id not in staying]
    # First those that are of no use any more.
    for id in sorted(leaving, key=lambda id: (id in seen.whole, id == seen.master_id, id)):
        if not _may_go(state, shard, seen, id):
            continue
        if id != seen.master_id:
            return RemoveReplica(shard.number, id, _seen(seen))
        heir = leader_balancing.heir(state, shard, seen)
        if heir:
            return Transfer(shard.number, heir, f"{seen.master} leaves it")
    return None


def _may_go(state: ClusterState, shard: ShardRecord, seen: ObservedShard, id: int) -> bool:
    """Whether a voter can be taken out without cost to safety; see the head of this module."""
    voters = seen.membership.voters
    if _is_lost(state, shard, id) and seen.whole >= voters.keys() - {id} != set():
        return True
    if any(replica.id not in voters for replica in shard.staying):
        return False
    enough = wanted(state, shard)
    if id not in seen.whole:
        enough = min(enough, len(allowed(state, shard)))
    if len(shard.staying) < enough:
        return False
    left = [other for other in voters if other != id]
    whole = [other for other in left if other in seen.whole]
    if len(whole) <= len(left) // 2:
        return False
    return id not in seen.whole or len(whole) > wanted(state, shard) // 2


def _is_lost(state: ClusterState, shard: ShardRecord, id: int) -> bool:
    """Whether a replica that is leaving is known to be lost for ever: its node was removed, or has
    got another in its place."""
    for replica in shard.replicas:
        if replica.id == id and replica.state is _LEAVING:
            node = state.every_node.get(replica.node)
            if node is None and key_for(NodeRecord, replica.node) in state.unreadable:
                return False
            removed = node is None or node.state is NodeState.REMOVED
            return removed or any(other.id > id for other in shard.on(replica.node))
    return False


def _grow(observed: Observed, shard: ShardRecord, seen: ObservedShard) -> Step | None:
    """Promote a learner that is whole, or add one that is to join."""
    group = seen.membership
    joining = sorted((r for r in shard.replicas if r.state is _JOINING), key=lambda r: r.id)
    for replica in joining:
        if replica.id in group.learners and replica.id in seen.whole:
            whole = sum(id in seen.whole for id in group.voters) + 1
            if whole > (len(group.voters) + 1) // 2:
                return Promote(shard.number, replica.id, _seen(seen))
    if group.learners:
        return None
    for replica in joining:
        if replica.id >= group.next_id and observed.alive(replica.node):
            return AddLearner(shard.number, replica.id, replica.node, _seen(seen))
        if replica.id >= group.next_id:
            return None  # ids are added in their order, or never
    return None


# -- moves that begin ------------------------------------------------------------------------------


def _begin(
    state: ClusterState, observed: Observed, busy: set[int], limits: StepLimits
) -> Iterator[Step]:
    """Write down the moves that may begin now."""
    filling: Counter[str] = Counter()
    under_way = 0
    for shard in state.every_shard.values():
        # Nothing flows to or from the dead.
        moving = [r for r in shard.replicas if r.state is not _VOTER and observed.alive(r.node)]
        joining = sum(r.state is _JOINING for r in moving)
        under_way += joining
        if joining:
            filling.update({replica.node for replica in moving})
    if under_way >= limits.moves_max:
        return
    rebalance = state.find(OperationRecord, "rebalance")
    balance = rebalance is not None and rebalance.state == "running"
    dead = frozenset(name for name in state.nodes if not observed.alive(name))
    found = passed_over = 0
    for move in planned(state, balance=balance, avoid=dead):
        found += 1
        passed_over += not move.must
        if passed_over > limits.moves_max:
            break
        shard = state.every_shard[move.shard]
        # One replica joins at a time; one that is to join no more does not count.
        joining = any(r.state is _JOINING and r.id != move.source_id for r in shard.replicas)
        if move.shard in busy or joining:
            continue
        seen = observed.shards[move.shard]
        if not move.must and any(r.state is not _VOTER for r in shard.replicas):
            continue
        if move.target and shard.on(move.target):
            if (back := _back(shard, seen, move)) is not None:
                busy.add(move.shard)
                yield WriteRecords(_decided(state, back, move.target), str(move))
            continue
        if move.target:
            ends = {end for end in (move.target, move.source) if observed.alive(end)}
            if under_way >= limits.moves_max:
                continue
            if any(filling[end] >= limits.moves_per_node_max for end in ends):
                continue
            filling.update(ends)
            under_way += 1
        busy.add(move.shard)
        changed = moved(shard, move.source_id, move.target, seen.membership.next_id)
        yield WriteRecords(_decided(state, changed, move.target), str(move))
    if rebalance is not None and balance and not found and not _unsettled(state):
        yield WriteRecords(change_of(state, [replace(rebalance, state="done")]), "rebalanced")


def _back(shard: ShardRecord, seen: ObservedShard, move: Move) -> ShardRecord | None:
    """The record with a replica staying that was to leave the target; None: it is no good any more,
    and has to be gone first."""
    mine = [
        r for r in shard.on(move.target) if r.id in seen.whole and r.id in seen.membership.voters
    ]
    if not mine:
        return None
    kept = tuple(replace(r, state=_VOTER) if r is mine[0] else r for r in shard.replicas)
    return moved(replace(shard, replicas=kept), move.source_id, "")


def _decided(state: ClusterState, shard: ShardRecord, target: str) -> Change:
    """The record of a move that begins; it counts on the target to stay, or on the shard alone."""
    return change_of(state, [shard], by=[f"node/{target}"] if target else [])


def _unsettled(state: ClusterState) -> bool:
    return any(r.state is not _VOTER for s in state.every_shard.values() for r in s.replicas)


# -- operations that end ---------------------------------------------------------------------------


def _operations(state: ClusterState) -> Iterator[Step]:
    running = [o for o in state.table(OperationRecord).values() if o.state == "running"]
    if not running:
        return
    held = {r.node for shard in state.every_shard.values() for r in shard.replicas}
    for operation in running:
        name = operation.subject
        if operation.kind in ("drain", "remove"):
            node = state.find(NodeRecord, name)
            done = name not in held and node is not None and node.state is not NodeState.ACTIVE
        elif operation.kind == "replace":
            done = all(r.state is _VOTER for s in state.every_shard.values() for r in s.on(name))
        else:
            continue
        if done:
            change = change_of(state, [replace(operation, state="done")])
            yield WriteRecords(change, f"{operation.kind} of {name} is done")
