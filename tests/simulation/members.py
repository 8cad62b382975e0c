"""Who changes the group's members: what the root's records, the planner and the nodes that follow
them do in a cluster of real processes.

An id is handed out once and stands for one disk. A machine has one replica at most, or none: it is
spare, or has lost its disk. Nobody takes more disks away than the members can do without until the
lost ones are out of the group again.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

from raftmail.consensus.group import ChangeRefused
from raftmail.consensus.membership import Membership
from raftmail.storage.disk import DiskFull
from raftmail.storage.kv import scan
from raftmail.storage.records import IndexDamaged
from tests.simulation.judge import Judge
from tests.simulation.node import SimNode
from tests.simulation.world import World

MEMBERS_MAX = 7


class Operator:
    """Changes the members at random (`act`), and brings them to where they should be (`settle`)."""

    def __init__(self, world: World, nodes: Sequence[SimNode], judge: Judge) -> None:
        self.world = world
        self.nodes = list(nodes)
        self.judge = judge
        self.rng = random.Random(world.rng.getrandbits(32))
        founding = judge.memberships[0][1]
        self.voters_wanted = len(founding.voters)
        self.next_id = founding.next_id

    # -- what there is

    def leader(self) -> SimNode | None:
        """Who leads, by the newest term; None while nobody does, or it is paused."""
        leaders = [n for n in self.nodes if n.running and not n.paused and n.group.is_leader]
        return max(leaders, key=lambda n: n.group.term, default=None)

    def holder(self, replica: int) -> SimNode | None:
        """The machine that has a replica; None when it lost it."""
        return next((node for node in self.nodes if node.number == replica), None)

    def spare(self) -> list[SimNode]:
        return [node for node in self.nodes if not node.number]

    # -- changes

    def act(self) -> None:
        """One change at random, right now or not."""
        leader = self.leader()
        if leader is None:
            return
        changes = list(self._possible(leader, leader.group.membership))
        if changes:
            self.rng.choice(changes)()

    def _possible(self, leader: SimNode, now: Membership) -> Iterator[Callable[[], None]]:
        for node in self.nodes:
            if node.number and node.number not in now:
                yield partial(self._joins_or_goes, leader, node, now)
        if len(now.nodes) < MEMBERS_MAX:
            for node in self.spare():
                yield partial(self._add, leader, node)
        for replica in now.learners:
            if not self._lost_voters(now):
                yield from 2 * [partial(self._promote, leader, replica)]
        removable = list(now.learners)
        # As the operator of a real cluster: one is added before another is taken out, but for one
        # that is lost.
        if len(now.voters) > self.voters_wanted:
            removable += now.voters
        elif len(now.voters) > 2:
            removable += self._lost_voters(now)
        for replica in removable:
            if self.holder(replica) is None or self.rng.random() < 0.3:
                yield partial(self._remove, leader, replica)

    def _joins_or_goes(self, leader: SimNode, node: SimNode, now: Membership) -> None:
        """A machine has a replica that is no member: its joining was lost with a leader, or it was
        taken out."""
        replica = node.number
        if replica >= now.next_id:
            self._join(leader, node, replica)
        elif leader.group.members.was_removed(replica, leader.group.commit_index):
            self.world.log(f"{node.name} gives its replica {replica} up")
            node.give_up()

    def _add(self, leader: SimNode, node: SimNode) -> None:
        self.next_id = new = max(self.next_id, leader.group.membership.next_id)
        self.next_id += 1
        self._join(leader, node, new)

        def settle() -> None:
            if not node.number:
                members = leader.group.membership
                others = {i: name for i, name in members.voters.items() if i != new}
                node.settle(
                    new, Membership(others, {new: node.name}, max(members.next_id, new + 1))
                )

        self.world.after(self.rng.choice((0.0, 0.3)) * self.rng.random(), settle)

    def _join(self, leader: SimNode, node: SimNode, replica: int) -> None:
        def joined(now: Membership) -> Membership:
            learners = {**now.learners, replica: node.name}
            return replace(now, learners=learners, next_id=max(now.next_id, replica + 1))

        self._change(leader, f"{replica} on {node.name} is added", joined)

    def _promote(self, leader: SimNode, replica: int) -> None:
        def promoted(now: Membership) -> Membership:
            if lost := self._lost_voters(now):
                raise ValueError(f"{lost} are lost, and voters still")  # since it was ordered
            return now.promoted(replica)

        self._change(leader, f"{replica} is promoted", promoted)

    def _lost_voters(self, now: Membership) -> list[int]:
        """They go before others come, as long as any stay: with a voter more, majorities would need
        one more of those that are left."""
        lost = [replica for replica in now.voters if self.holder(replica) is None]
        return lost if len(now.voters) > 2 else []

    def _remove(self, leader: SimNode, replica: int) -> None:
        if replica == leader.number:
            others = [i for i in leader.group.voters if i != replica]
            if others:
                self.world.reached["masters that hand over to be removed"] += 1
                leader.transfer(self.rng.choice(others))
        else:
            self._change(leader, f"{replica} is removed", lambda now: self._without(now, replica))

    def _without(self, now: Membership, replica: int) -> Membership:
        """The master counts on whoever answered a moment ago; the operator knows whose disk was
        lost since."""
        left = now.without(replica)
        lost = [i for i in left.voters if self.holder(i) is None]
        if 2 * len(lost) >= len(left.voters):
            raise ValueError(f"of those that would be left {lost} are lost")
        return left

    def _change(
        self, leader: SimNode, what: str, change: Callable[[Membership], Membership]
    ) -> None:
        def order() -> bool:
            reached = self.world.reached
            try:
                leader.replica.change(leader.now, change(leader.group.membership))
            except (ChangeRefused, ValueError, DiskFull) as e:
                self.world.log(f"{leader.name} refuses that replica {what}: {e}")
                reached["changes of members that are refused"] += 1
                return False
            self.world.log(f"{leader.name} takes that replica {what}")
            reached[f"replicas {what.rpartition('is ')[2]}"] += 1
            return True

        leader.orders(order)

    # -- losses

    def may_lose(self, node: SimNode) -> bool:
        """Whether the members can do without what this machine has, whichever membership comes to
        be the committed one."""
        if not node.opened:
            return False
        for members in self.judge.possible_memberships():
            able = [i for i in members.voters if self._is_able(self.holder(i), node)]
            if 2 * len(able) <= len(members.voters):
                return False
        return True

    def _is_able(self, node: SimNode | None, lost: SimNode) -> bool:
        """Whether a machine has everything that its replica ever acknowledged. One that has lost
        its index, or compares all that it has with others, has only part of it until that ends: if
        others were lost meanwhile, it might have nobody to end it with."""
        if node is None or node is lost or not node.opened or node.index_lost or node.disk.has_rot:
            return False
        if node.went_back:
            return False
        replica = node.replica
        is_rescued = replica.keep_to > replica.group.applied_index or replica.bodies.withheld
        try:
            if not all(replica.blobs.has(body) for body, _ in scan(node.engine.table("blobrefs"))):
                return False  # nor has one whose bodies are of an older disk, which nobody told it
        except IndexDamaged:
            return False  # a row that says where a body is has rotted, and nobody has read it yet
        return not (replica.recovery.frozen or replica.recovery.manager.needs_records or is_rescued)

    # -- in the end

    def settle(self) -> bool:
        """A step towards as many voters as there were in the beginning, each on its disk, and
        nothing else; whether all is so."""
        leader = self.leader()
        if leader is None:
            return False
        now = leader.group.membership
        strays = [n for n in self.nodes if n.number and n.number not in now]
        gone = [i for i in now.nodes if self.holder(i) is None]
        voters = [i for i in now.voters if i != leader.number]
        if strays:
            stray = strays[0]
            if stray.number >= now.next_id:
                stray.give_up()
            else:
                self._joins_or_goes(leader, stray, now)
        elif gone:
            learners = [i for i in gone if i in now.learners]
            if learners or (self._lost_voters(now) and self._others_are_whole(now, gone)):
                self._remove(leader, (learners or gone)[0])
            else:
                self._more(leader, now)
        elif len(now.voters) < self.voters_wanted:
            self._more(leader, now)
        elif len(now.voters) > self.voters_wanted:
            self._remove(leader, self.rng.choice(voters))
        elif now.learners:
            self._remove(leader, next(iter(now.learners)))
        else:
            return leader.group.committed_membership == now
        return False

    def _others_are_whole(self, now: Membership, gone: Sequence[int]) -> bool:
        """As `cluster.controller` asks before a voter that is lost goes without one in its place:
        others may need the new one to tell that it does not have what they lack, either."""
        others = [self.holder(i) for i in now.voters if i not in gone]
        return all(node is not None and node.opened and node.replica.is_whole for node in others)

    def _more(self, leader: SimNode, now: Membership) -> None:
        there = [i for i in now.learners if self.holder(i) is not None]
        if there:
            self._promote(leader, self.rng.choice(there))
        elif self.spare():
            self._add(leader, self.rng.choice(self.spare()))
