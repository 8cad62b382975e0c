"""Faults that wait for their moment, or lead up to one.

What strikes at random times seldom hits what lasts for milliseconds: the time between the end of a resync and the jump of the log, two
changes of members that a parted master makes in a row, a body that the log needs while its segment is given back. Each fault of this
module goes there. Some are traps (`node.Trap`), others little plays: one thing is done, then, once something has come of it,
the next; what does not come in time is left, and all ends with the faults.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from raftmail.resync.sink import Phase
from raftmail.storage.disk import DiskFull
from tests.simulation.faults import Injector
from tests.simulation.node import TURN_S, SimNode, Trap

LOOK_S = 0.01
"""How often it is looked whether what a play waits for has come."""

TRAPS_MAX = 4
CROWD = (8, 24)
"""How many requests are given to a master that is alone."""

Crowd = Callable[[SimNode, int], None]
"""Has so many requests arrive at a node at once, from clients of their own that ask once and wait for no answer."""


def _is_half(node: SimNode) -> bool:
    sink = node.replica.recovery.desk.sink
    return sink.active and sink.mark is not None


def _is_proving(node: SimNode) -> bool:
    return node.replica.recovery.desk.sink.phase == Phase.VERIFY


def _is_to_jump(node: SimNode) -> bool:
    return node.replica.recovery.desk.has_finished


def _fetches_bodies(node: SimNode) -> bool:
    sink = node.replica.recovery.desk.sink
    return sink.phase == Phase.BODIES and sink.missing.total()[0] > 0


_MOMENTS = (_is_half, _is_half, _is_proving, _is_to_jump, _is_to_jump, _fetches_bodies)
"""Of a resync, at its sink: records are half exchanged, are compared for the last time, are whole while the log has not jumped yet."""


class Corners(Injector):
    """The injector, with these faults as well."""

    crowd: Crowd

    # -- plays

    def _once(
        self,
        is_so: Callable[[], bool],
        then: Callable[[], None],
        within_s: float,
        otherwise: Callable[[], None] = lambda: None,
    ) -> None:
        """Do something as soon as it is so; or something else when it has not become so."""
        end = self.world.now + within_s

        def look() -> None:
            if not self.active:
                return
            if is_so():
                then()
            elif self.world.now < end:
                self.world.after(LOOK_S, look)
            else:
                otherwise()

        look()

    def _again(self, act: Callable[[], None], every_s: float, for_s: float) -> None:
        """Do something again and again."""
        end = self.world.now + for_s

        def once_more() -> None:
            if self.active and self.world.now < end:
                act()
                self.world.after(every_s, once_more)

        once_more()

    def _part(self, some: Sequence[SimNode], others: Sequence[SimNode]) -> Callable[[], None]:
        """Hold back everything between two sides. Returns what heals it."""
        pairs = [(a.name, b.name) for a in some for b in others if a is not b]
        pairs += [(b, a) for a, b in pairs]
        sides = [[n.name for n in side] for side in (some, others)]
        self.world.log(f"fault: {sides[0]} and {sides[1]} are parted")
        for source, target in pairs:
            self.network.block(source, target)

        def heal() -> None:
            if self.active:
                for source, target in pairs:
                    self.network.unblock(source, target)

        return heal

    def _others(self, *some: SimNode) -> list[SimNode]:
        return [node for node in self.nodes if node not in some]

    def _followers(self, leader: SimNode) -> list[SimNode]:
        """Voters that run, in any order."""
        found = [n for n in self._others(leader) if n.running and n.number in leader.group.voters]
        self.rng.shuffle(found)
        return found

    def _die(self, node: SimNode) -> None:
        if node.running:
            if self.rng.random() < 0.5:
                node.kill()
            else:
                node.power_off()

    # -- resyncs

    def _strike_resync(self) -> None:
        """Whoever is brought back next is struck at one moment of it."""
        moment, wait = self.rng.choice(_MOMENTS), self.rng.choice((0, 0, 1, 4, 12))
        for node in self.nodes:
            if len(node.traps) < TRAPS_MAX:
                node.traps.append(self._trap(moment, wait))

    def _trap(self, moment: Callable[[SimNode], bool], wait: int) -> Trap:
        left = wait

        def trap(node: SimNode) -> bool:
            nonlocal left
            if not moment(node):
                return False
            left -= 1
            if left < 0:
                self._hit(node)
            return left < 0

        return trap

    def _hit(self, node: SimNode) -> None:
        """The node itself, or what brings it back."""
        self.world.reached["resyncs that were struck"] += 1
        self.world.log(f"fault: {node.name} is struck in a resync")
        source = next(n for n in self.nodes if n.name == node.replica.recovery.desk.sink.link.peer)
        how = self.rng.random()
        if how < 0.5:
            self._die(node)
        elif how < 0.7:
            if node.disk.cut_at is None:
                node.disk.cut_at = node.disk.operations + self.rng.randint(1, 6)
        elif how < 0.9:
            self._for(0.3, 5.0, self._part([node], [source]))
        else:
            self.world.after(0.0, partial(self._die, source))

    def _compare_at_start(self) -> None:
        """A follower dies, and has to compare everything as soon as it is back, while others are ahead by what it had not committed."""
        leader = self.operator.leader()
        followers = self._followers(leader) if leader else []
        if followers:
            self._dies_and_compares(followers[0])

    def _dies_and_compares(self, node: SimNode) -> None:
        life = node.life

        def order(node: SimNode) -> bool:
            if node.life == life:
                return False
            if not self.operator.may_lose(node):
                return True  # the command is refused
            self.world.log(f"fault: {node.name} is ordered to resync in full at its start")
            node.replica.recovery.desk.need(full=True)
            return True

        node.traps.append(order)
        self._die(node)

    def _half_source(self) -> None:
        """One is left behind by the log; when it comes back, the one that it would ask first is half resynced itself, and its source is
        out of reach."""
        leader = self.operator.leader()
        followers = self._followers(leader) if leader else []
        if leader is None or len(followers) < 2:
            return
        half, behind = followers[:2]
        come_back = self._part([behind], self._others(behind))

        def stall(node: SimNode) -> bool:
            if not _is_half(node):
                return False
            self.world.reached["sources that were half resynced"] += 1
            peer = node.replica.recovery.desk.sink.link.peer
            self._for(1.0, 4.5, self._part([node], [n for n in self.nodes if n.name == peer]))
            come_back()
            return True

        def go_on() -> None:
            if half.running and half.number:
                half.traps.append(stall)
                self._dies_and_compares(half)

        self._once(lambda: _is_left_behind(behind, leader), go_on, 6.0)
        self.world.after(12.0, come_back)

    # -- masters that are alone

    def _lonely_master(self) -> None:
        """The master goes on alone, with a lot to write; when it comes back the others' log has just been trimmed beyond where theirs and
        its own part, and is shorter than its own."""
        leader = self.operator.leader()
        if leader is None or len(leader.group.voters) < 2:
            return
        heal = self._part([leader], self._others(leader))
        self.crowd(leader, self.rng.randint(*CROWD))
        committed = leader.group.commit_index

        def others_went_on() -> bool:
            other = self.operator.leader()
            if not leader.running or other is None or other is leader:
                return False
            if self.conditions.limits.log.bytes_max > 1:
                return other.group.commit_index > committed
            return other.group.journal.begins_at > committed

        self._once(others_went_on, heal, 8.0, heal)

    def _hiccup(self) -> None:
        """The master reaches nobody for less time than others take to stand for election: what it writes meanwhile is committed later."""
        leader = self.operator.leader()
        if leader is not None:
            heal = self._part([leader], self._others(leader))
            self.crowd(leader, self.rng.randint(0, 8))
            self.world.after(self.rng.uniform(0.2, 0.7), heal)

    # -- members

    def _members_at_odds(self) -> None:
        """A master makes changes of the members, as many as it will take, while it is parted from most of the other voters."""
        for node in self.operator.spare():
            leader = self.operator.leader()
            if leader is not None:
                self.operator._add(leader, node)

        def learners() -> list[SimNode]:
            leader = self.operator.leader()
            if leader is None:
                return []
            holders = map(self.operator.holder, leader.group.membership.learners)
            return [n for n in holders if n is not None and n.running and n.replica.is_whole]

        def part() -> None:
            leader = self.operator.leader()
            if leader is None:
                return
            self.world.reached["changes of members by parted masters"] += 1
            friends = learners() if self.rng.random() < 0.7 else []
            side = [leader, *friends]
            self.world.after(self.rng.uniform(1.5, 5.0), self._part(side, self._others(*side)))
            self._again(partial(self._change_by, leader), 0.1, 1.5)

        self._once(lambda: len(learners()) > 1, part, 6.0, part)

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

    def _eager_operator(self) -> None:
        """A machine joins while a voter is left behind, and is promoted as soon as it can be; bodies come to it slowly."""
        leader = self.operator.leader()
        spare = self.operator.spare()
        followers = self._followers(leader) if leader else []
        if leader is None or not spare or not followers:
            return
        behind, new = followers[0], self.rng.choice(spare)
        come_back = self._part([behind], self._others(behind))

        def join() -> None:
            master = self.operator.leader()
            if master is not None and not new.number:
                self.operator._add(master, new)
                new.traps.append(self._slow_to_fetch)
                self._again(self._promote_any, LOOK_S, 4.0)

        self._once(lambda: _is_left_behind(behind, leader), join, 6.0)
        self.world.after(self.rng.uniform(8.0, 12.0), come_back)

    def _slow_to_fetch(self, node: SimNode) -> bool:
        """A trap: records are whole, and bodies lack."""
        if not _fetches_bodies(node):
            return False
        self.world.reached["resyncs whose bodies are slow"] += 1
        node.turn_s = 0.05
        self._for(0.5, 3.0, partial(setattr, node, "turn_s", TURN_S))
        return True

    def _promote_any(self) -> None:
        leader = self.operator.leader()
        if leader is not None and leader.group.membership.learners:
            self.operator._promote(leader, max(leader.group.membership.learners))

    def _needed_voter(self) -> None:
        """A voter comes back from where the log left it behind when another's disk is lost, which is taken out as soon as it can be."""
        leader = self.operator.leader()
        followers = self._followers(leader) if leader else []
        if leader is None or len(followers) < 2:
            return
        lost, behind = followers[:2]
        come_back = self._part([behind], self._others(behind))
        number = lost.number

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

        self._once(lambda: _is_left_behind(behind, leader), lose, 6.0)
        self.world.after(12.0, come_back)

    # -- disks

    def _full_in_apply(self) -> None:
        """There is no space for the next row of the index that an apply writes."""
        node = self._node()
        if node.running:
            self.world.log(f"fault: {node.name} has no space for what it applies")
            node.fail_apply = DiskFull("no space for a row of the simulated index, in an apply")


def _is_left_behind(node: SimNode, leader: SimNode) -> bool:
    """Whether the leader's log does not reach back to what a node has."""
    if not (node.running and leader.running):
        return False
    return leader.group.journal.begins_at > node.group.last_index
