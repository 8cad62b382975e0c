"""A dumb twin of a cluster: groups are sets of ids, a replica is whole or not, and a step takes
effect at once or not at all.

After every step it looks whether the step cost safety (`Twin.carry_out`)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from raftmail.cluster import records as rec
from raftmail.cluster import steps as s
from raftmail.cluster.changes import Change
from raftmail.cluster.moves import wanted
from raftmail.cluster.state import ClusterState
from raftmail.consensus.membership import Membership


@dataclass
class Group:
    """`whole` are ids whose replica has everything, `unable` those that may not lead. `used` are
    all ids that ever were in it."""

    membership: Membership
    whole: set[int]
    master: int
    used: set[int] = field(default_factory=set)
    unable: set[int] = field(default_factory=set)


class Twin:
    def __init__(self, state: ClusterState) -> None:
        self.state = state
        self.dead: set[str] = set()
        self.groups: dict[int, Group] = {}
        self.done: list[s.Step] = []
        self._found()

    def _found(self) -> None:
        """Nodes open the replicas of new shards."""
        for shard in self.state.every_shard.values():
            if shard.number not in self.groups:
                voters = {replica.id: replica.node for replica in shard.replicas}
                group = Group(Membership.founding(voters), set(voters), min(voters), set(voters))
                self.groups[shard.number] = group

    # -- what the world does ---------------------------------------------------------------------

    def kill(self, node: str) -> None:
        self.dead.add(node)
        self.elect()

    def revive(self, node: str) -> None:
        self.dead.discard(node)
        self.elect()

    def lose_disk(self, node: str) -> None:
        for group in self.groups.values():
            group.whole -= {id for id, name in group.membership.nodes.items() if name == node}
        self.elect()

    def elect(self) -> None:
        for group in self.groups.values():
            if group.master not in self.standing(group):
                heirs = self.standing(group)
                group.master = min(heirs) if self.has_quorum(group) else 0

    def standing(self, group: Group) -> set[int]:
        """Voters that are alive and whole."""
        voters = group.membership.voters.items()
        return {id for id, node in voters if node not in self.dead and id in group.whole}

    def has_quorum(self, group: Group) -> bool:
        return len(self.standing(group)) * 2 > len(group.membership.voters)

    def fill(self, shards: Iterable[int] | None = None) -> None:
        """Learners, and voters that lag, become whole."""
        for number in self.groups if shards is None else shards:
            group = self.groups[number]
            record = self.state.every_shard[number]
            if self.has_quorum(group):
                for id, node in group.membership.learners.items():
                    if node not in self.dead and any(r.id == id for r in record.replicas):
                        group.whole.add(id)
        self.elect()

    def observe(self, blind: Iterable[int] = (), silent_s: float = 0.0) -> s.Observed:
        hidden = set(blind)
        self.elect()
        seen = {}
        for number, group in self.groups.items():
            if number in hidden or not group.master or not self.has_quorum(group):
                continue
            members = group.membership.nodes.items()
            whole = {id for id, node in members if node not in self.dead and id in group.whole}
            seen[number] = s.ObservedShard(
                group.membership.nodes[group.master],
                group.master,
                group.membership,
                False,
                frozenset(whole),
                frozenset(whole) - group.unable,
            )
        nodes = {
            name: s.ObservedNode(
                name not in self.dead, silent_s if name in self.dead else 0.0, self.state.revision
            )
            for name in self.state.nodes
        }
        return s.Observed(seen, nodes)

    # -- what the controller has done ------------------------------------------------------------

    def change(self, change: Change) -> bool:
        if any(self.state.revision_of(key) != revision for key, revision in change.expected):
            return False
        self.state = self.state.with_puts(change.puts)
        self._found()
        return True

    def carry_out(self, step: s.Step) -> bool:
        """Whether the step took effect. Asserts that it cost no safety."""
        if isinstance(step, s.WriteRecords):
            done = self.change(step.change)
        else:
            done = self._for_group(step)
        if done:
            self.done.append(step)
        return done

    def _for_group(self, step: s.AddLearner | s.Promote | s.RemoveReplica | s.Transfer) -> bool:
        group = self.groups[step.shard]
        before = group.membership
        if not group.master or not self.has_quorum(group):
            return False
        if isinstance(step, s.Transfer):
            heirs = [id for id in self.standing(group) if before.voters[id] == step.node]
            if not heirs:
                return False
            group.master = heirs[0]
            return True
        if step.seen != (tuple(sorted(before.voters)), tuple(sorted(before.learners))):
            return False
        whole = len(self.standing(group))
        if isinstance(step, s.AddLearner):
            if step.id < before.next_id or step.node in self.dead:
                return False
            assert step.id not in group.used, f"{step}: the id was used before"
            learners = {**before.learners, step.id: step.node}
            after = Membership(before.voters, learners, step.id + 1)
            group.used.add(step.id)
        elif isinstance(step, s.Promote):
            if step.id not in group.whole:
                return False
            after = before.promoted(step.id)
        else:
            assert step.id != group.master, f"{step}: the master cannot remove itself"
            after = before.without(step.id)
            self._check_removal(step, group, after)
            group.whole.discard(step.id)
        before.check_successor(after)
        group.membership = after
        if self.has_quorum(group):
            return True
        raise AssertionError(
            f"{step}: {len(self.standing(group))} of {after} are whole, {whole} were before"
        )

    def _check_removal(self, step: s.RemoveReplica, group: Group, after: Membership) -> None:
        if step.id not in self.standing(group):
            return
        left = len(self.standing(group) - {step.id})
        quorum = wanted(self.state, self.state.every_shard[step.shard]) // 2 + 1
        assert left >= min(quorum, len(self.standing(group))), (
            f"{step}: {left} whole voters would be left"
        )
        record = self.state.every_shard[step.shard]
        assert (
            len(after.voters) >= min(record.replication, len(self.state.nodes))
            or record.number == 0
        ), f"{step}: removed before enough were added: {after}"

    # -- whether it is as planned -----------------------------------------------------------------

    def assert_as_recorded(self) -> None:
        for number, shard in self.state.every_shard.items():
            group = self.groups[number]
            recorded = {replica.id: replica.node for replica in shard.replicas}
            assert dict(group.membership.voters) == recorded, (number, shard, group)
            assert not group.membership.learners
            assert all(r.state is rec.ReplicaState.VOTER for r in shard.replicas), shard
