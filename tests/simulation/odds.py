"""Changes of members at the moments when they can do harm.

These are two that a parted master makes in a row, and those of two masters that know nothing of
each other's. Another is a voter taken out while others lack what it has.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from tests.simulation.node import TURN_S, SimNode
from tests.simulation.plays import CROWD, LOOK_S, Plays, fetches_bodies, is_left_behind


class MembersAtOdds(Plays):
    """The plays about members."""

    def _fill_up(self) -> None:
        """All machines that have no replica join."""
        for node in self.operator.spare():
            leader = self.operator.leader()
            if leader is not None:
                self.operator._add(leader, node)

    def _learners(self) -> list[SimNode]:
        """Those that have everything."""
        leader = self.operator.leader()
        if leader is None:
            return []
        holders = map(self.operator.holder, leader.group.membership.learners)
        return [n for n in holders if n is not None and n.running and n.replica.is_whole]

    def _members_at_odds(self) -> None:
        """A master makes changes of the members, as many as it will take, while it is parted from
        most of the other voters."""
        self._fill_up()

        def part() -> None:
            leader = self.operator.leader()
            if leader is None:
                return
            self.world.reached["changes of members by parted masters"] += 1
            friends = self._learners() if self.rng.random() < 0.7 else []
            side = [leader, *friends]
            self.world.after(self.rng.uniform(1.5, 5.0), self._part(side, self._others(*side)))
            self._again(partial(self._change_by, leader), 0.1, 1.5)

        self._once(lambda: len(self._learners()) > 1, part, 6.0, part)

    def _change_by(self, leader: SimNode) -> None:
        if not leader.running or not leader.group.is_leader:
            return
        now = leader.group.membership
        if now.learners:
            self.operator._promote(leader, min(now.learners))
        else:
            voters = [i for i in now.voters if i != leader.number]
            if len(voters) > self.operator.voters_wanted - 2 and len(voters) > 1:
                self.operator._remove(leader, self.rng.choice(voters))

    def _crossed_changes(self) -> None:
        """The master, of an even number of voters, is parted and takes one out. Who is elected next
        reaches only so many that they are a majority once another is out. It takes one out as early
        as it can. Then the first comes back to those who were left over.
        """
        if self.is_playing:
            return
        self.is_playing = leads_up = True

        def step() -> None:
            if leads_up:
                self._towards_even()

        def cross() -> None:
            nonlocal leads_up
            leads_up = False
            self._cross()

        self._again(step, 0.1, 6.0)
        self._once(self._is_even, cross, 6.0, self._play_ends)

    def _is_even(self) -> bool:
        leader = self.operator.leader()
        if leader is None:
            return False
        now = leader.group.membership
        holders = [self.operator.holder(i) for i in now.voters]
        return len(holders) in (4, 6) and all(
            n and n.running and n.group.committed_membership == now for n in holders
        )

    def _towards_even(self) -> None:
        leader = self.operator.leader()
        if leader is None:
            return
        now = leader.group.membership
        strays = [n for n in self.nodes if n.number and n.number not in now]
        if strays:
            self.operator._joins_or_goes(leader, strays[0], now)
        elif len(now.voters) % 2 == 0:
            return
        elif now.learners:
            self._promote_any()
        elif self.operator.spare():
            self.operator._add(leader, self.operator.spare()[0])

    def _cross(self) -> None:
        first = self.operator.leader()
        assert first is not None
        others = self._followers(first)
        majority_less_one = len(first.group.voters) // 2
        term, out = first.group.term, others[0]
        self._part([first], self._others(first))
        self.operator._remove(first, out.number)
        elected: list[SimNode] = []

        def part_again(second: SimNode) -> bool:
            """A trap: who is elected is parted before it tells anybody."""
            if not elected and second.group.is_leader and second.group.term > term:
                elected.append(second)
                left_over = [n for n in others if n not in (second, out)][: majority_less_one - 1]
                kept = [n for n in self._others(first) if n not in left_over]
                self._part(left_over, kept)
                self._go_on_crossed(first, second, left_over, kept)
            return bool(elected)

        def heal() -> None:
            self._heal([first], self._others(first))
            self._play_ends()

        for node in others:
            node.traps.append(part_again)
        self._once(lambda: bool(elected), lambda: None, 5.0, heal)

    def _go_on_crossed(
        self,
        first: SimNode,
        second: SimNode,
        left_over: Sequence[SimNode],
        kept: Sequence[SimNode],
    ) -> None:
        self.world.reached["changes of members by masters in a row"] += 1
        number = first.number

        def is_out() -> bool:
            return second.running and number not in second.group.committed_membership.voters

        def take_out() -> None:
            if second.running and second.group.is_leader and number in second.group.voters:
                self.operator._remove(second, number)

        def heal() -> None:
            self._heal([first, *left_over], kept)
            self._heal([first], left_over)
            self._play_ends()

        def come_back() -> None:
            self._heal([first], left_over)
            self._for(3.0, 4.0, heal)

        self.world.after(0.0, partial(self._again, take_out, 0.05, 3.0))
        self._once(is_out, come_back, 3.0, heal)

    def _eager_operator(self) -> None:
        """A machine joins while a voter is left behind, and is promoted as soon as it can be;
        bodies come to it slowly."""
        leader = self.operator.leader()
        spare = self.operator.spare()
        followers = self._followers(leader) if leader else []
        if leader is None or not spare or not followers:
            return
        behind, new = followers[0], self.rng.choice(spare)
        come_back = self._part([behind], self._others(behind))
        self.crowd(leader, self.rng.randint(*CROWD))  # bodies that come to it one by one

        def join() -> None:
            master = self.operator.leader()
            if master is not None and not new.number:
                self.operator._add(master, new)
                new.traps.append(self._slow_to_fetch)
                self._again(self._promote_any, LOOK_S, 4.0)

        self._once(lambda: is_left_behind(behind, leader), join, 6.0)
        self.world.after(self.rng.uniform(8.0, 12.0), come_back)

    def _slow_to_fetch(self, node: SimNode) -> bool:
        """A trap."""
        if not fetches_bodies(node):
            return False
        self.world.reached["resyncs whose bodies are slow"] += 1
        node.turn_s = 0.05
        self._for(0.5, 3.0, partial(setattr, node, "turn_s", TURN_S))
        return True

    def _promote_any(self) -> None:
        leader = self.operator.leader()
        if leader is not None and leader.group.membership.learners:
            self.operator._promote(leader, max(leader.group.membership.learners))

    def _lost_voter(self) -> None:
        """There are as many voters as in the beginning, and nothing else; then the same as
        `_needed_voter`."""
        if self.is_playing:
            return
        self.is_playing = True
        settled = False

        def settle() -> None:
            nonlocal settled
            settled = settled or self.operator.settle()

        def go_on() -> None:
            self._needed_voter()
            self.world.after(7.0, self._play_ends)

        self._again(settle, 0.3, 6.0)
        self._once(lambda: settled, go_on, 6.0, self._play_ends)

    def _needed_voter(self) -> None:
        """A voter comes back from where the log left it behind when another's disk is lost.

        That one is taken out as soon as it can be.
        """
        leader = self.operator.leader()
        followers = self._followers(leader) if leader else []
        if leader is None or len(followers) < 2:
            return
        lost, behind = followers[:2]
        come_back = self._cut(behind)
        if self.rng.random() < 0.7:
            # Who leads anew does not know what others acknowledged to the one before.
            leader.transfer(lost.number)
            leader, lost = lost, leader
        number = lost.number

        def save() -> None:
            if leader.running:
                self.crowd(leader, self.rng.randint(*CROWD))

        self.world.after(0.5, save)

        def lose() -> None:
            if lost.running and lost.number == number and self.operator.may_lose(lost):
                self.world.log(f"fault: {lost.name} loses its disk, and replica {number}")
                self.world.reached["disks lost"] += 1
                self.operator.judge.disk_lost(lost)
                lost.lose_disk()
                behind.traps.append(self._slow_to_fetch)
                come_back()
                self._again(remove, LOOK_S, 5.0)

        def remove() -> None:
            master = self.operator.leader()
            if master is not None and number in master.group.membership.voters:
                self.operator._remove(master, number)

        self._once(partial(is_left_behind, behind, leader), lose, 6.0)
        self.world.after(12.0, come_back)
