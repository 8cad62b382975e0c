"""Faults that wait for their moment, or lead up to one.

What strikes at random times seldom hits what lasts for milliseconds:

- the time between the end of a resync and the jump of the log;
- two changes of members that a parted master makes in a row (`odds`);
- a body that the log needs while its segment is given back.

Each fault of these modules goes there. Some are traps (`node.Trap`), others little plays (`plays`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from raftmail.mail.queries import ListMailboxes
from raftmail.resync.sink import SinkPhase
from raftmail.storage.disk import DiskFull
from tests.simulation.clients import USER
from tests.simulation.disk import PLENTY_BYTES
from tests.simulation.node import SimNode, Trap
from tests.simulation.odds import MembersAtOdds
from tests.simulation.plays import CROWD, fetches_bodies, is_left_behind

TRAPS_MAX = 4


def _is_half(node: SimNode) -> bool:
    sink = node.replica.recovery.manager.sink
    return sink.active and sink.mark is not None


def _is_proving(node: SimNode) -> bool:
    return node.replica.recovery.manager.sink.phase == SinkPhase.VERIFY


def _is_to_jump(node: SimNode) -> bool:
    return node.replica.recovery.manager.has_finished


def _mailboxes_done(node: SimNode) -> int:
    return node.replica.recovery.manager.sink.progress(node.now).mailboxes_done


_MOMENTS = (_is_half, _is_half, _is_proving, _is_to_jump, _is_to_jump, fetches_bodies)
"""Of a resync, at its sink: records are half exchanged, are compared for the last time, are whole
while the log has not jumped yet."""


class Corners(MembersAtOdds):
    """The injector, with all of these faults."""

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
        source = next(
            n for n in self.nodes if n.name == node.replica.recovery.manager.sink.link.peer
        )
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
        """A follower dies, and has to compare everything as soon as it is back, while others are
        ahead by what it had not committed."""
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
            node.replica.recovery.manager.need(full=True)
            return True

        node.traps.append(order)
        self._die(node)

    def _half_source(self) -> None:
        """One is left behind by the log.

        When it comes back, the one that it would ask first is half resynced itself, and its source
        is out of reach.
        """
        leader = self.operator.leader()
        followers = self._followers(leader) if leader else []
        if leader is None or len(followers) < 2:
            return
        half, behind = followers[:2]
        come_back = self._cut(behind)
        wanted = self.rng.choice((0, 1, 1))

        def is_time() -> bool:
            """What it comes back with is older than what it is to be given."""
            older = half.index.durable_index + 4 <= leader.index.committed_index
            return is_left_behind(behind, leader) and older and half.running

        def stall(node: SimNode) -> bool:
            if not _is_half(node) or _mailboxes_done(node) < wanted:
                return False
            self.world.reached["sources that were half resynced"] += 1
            peer = node.replica.recovery.manager.sink.link.peer
            self._for(1.0, 4.5, self._part([node], [n for n in self.nodes if n.name == peer]))
            come_back()
            return True

        def go_on() -> None:
            if half.running and half.number:
                half.traps.append(stall)
                self._dies_and_compares(half)

        self._once(is_time, go_on, 6.0, go_on)
        self.world.after(12.0, come_back)

    # -- masters that are alone

    def _lonely_master(self) -> None:
        """The master goes on alone, with a lot to write.

        When it comes back the others' log has just been trimmed beyond where theirs and its own
        part, and is shorter than its own.
        """
        leader = self.operator.leader()
        if leader is None or len(leader.group.voters) < 2:
            return
        heal = self._part([leader], self._others(leader))
        self.crowd(leader, self.rng.randint(*CROWD))
        went_on = self._others_went_on(leader)
        self._once(went_on, heal, 8.0, heal)

    def _others_went_on(self, leader: SimNode) -> Callable[[], bool]:
        """Whether another leads and commits, and where logs are trimmed at once, has trimmed its
        own beyond what this one had committed."""
        committed = leader.group.commit_index

        def look() -> bool:
            other = self.operator.leader()
            if not leader.running or other is None or other is leader:
                return False
            if self.conditions.limits.log.bytes_max > 1:
                return other.group.commit_index > committed
            return other.group.journal.begins_at > committed

        return look

    def _hiccup(self) -> None:
        """The master reaches nobody for less time than others take to stand for election: what it
        writes meanwhile is committed later."""
        leader = self.operator.leader()
        if leader is not None:
            heal = self._part([leader], self._others(leader))
            self.crowd(leader, self.rng.randint(0, 8))
            self.world.after(self.rng.uniform(0.2, 0.7), heal)

    def _deaf_master(self) -> None:
        """The master hears nobody until it makes way, while the others go on hearing it: what it
        has in flight is committed without it."""
        leader = self.operator.leader()
        if leader is None:
            return
        self.world.log(f"fault: {leader.name}, which leads, is deaf")
        others = self._others(leader)
        for node in others:
            self.network.block(node.name, leader.name)
        self.crowd(leader, self.rng.randint(1, 8))
        heal = partial(self._heal, [leader], others)
        self._once(lambda: not (leader.running and leader.group.is_leader), heal, 8.0, heal)

    def _needed_again(self) -> None:
        """The last message with a body goes.

        The master, which reaches nobody for a moment, is given another with it, while the segment
        that it is in is given back everywhere.
        """
        leader = self.operator.leader()
        if leader is None:
            return

        def gone() -> None:
            if self.active and leader.running and leader.group.is_leader:
                self.world.reached["bodies that are needed again"] += 1
                self.world.after(
                    self.rng.uniform(0.3, 0.75), self._part([leader], self._others(leader))
                )

        for _ in range(self.rng.randint(1, 3)):
            self.crowd.come_again(leader, gone)

    def _stuffed_master(self) -> None:
        """The master goes on alone until its disk is full, and comes back so: it cannot put what
        the others have in place of its own."""
        leader = self.operator.leader()
        if leader is None or leader.disk.capacity_bytes != PLENTY_BYTES:
            return
        disk = leader.disk
        self.world.log(f"fault: the disk of {leader.name} is going to be full")
        disk.capacity_bytes = disk.used_bytes() + self.rng.randint(0, 4_000)
        heal = self._part([leader], self._others(leader))
        self.crowd(leader, CROWD[1])

        def come_back() -> None:
            heal()
            self._for(0.5, 2.0, partial(setattr, disk, "capacity_bytes", PLENTY_BYTES))

        self._once(self._others_went_on(leader), come_back, 8.0, come_back)

    def _master_among_learners(self) -> None:
        """The master keeps the learners and reaches no other voter; they elect another, while it is
        still asked for what it has."""
        self._fill_up()

        def part() -> None:
            leader = self.operator.leader()
            learners = self._learners()
            if leader is not None:
                self.world.reached["masters among learners"] += bool(learners)
                side = [leader, *learners]
                self._for(2.0, 5.0, self._part(side, self._others(*side)))
                self._again(partial(self.crowd.look, leader), 0.3, 3.0)

        self._once(lambda: bool(self._learners()), part, 6.0)

    # -- disks

    def _torn_entries(self) -> None:
        """The power goes at followers while entries, and their bodies in other files, are on their
        way to the disk."""
        leader = self.operator.leader()
        for node in self._followers(leader) if leader else ():
            if len(node.traps) < TRAPS_MAX:
                node.traps.append(self._tear)

    def _tear(self, node: SimNode) -> bool:
        """A trap."""
        replica = node.replica
        if replica._blob_job is None or replica._journal_job is None:
            return False
        self.world.reached["entries that may be torn"] += 1
        self.world.log(f"fault: {node.name} is to lose power in the middle of its syncs")
        self.world.after(0.0, partial(self._loses_power, node))
        return True

    def _loses_power(self, node: SimNode) -> None:
        if self.active and node.running:
            node.power_off()

    def _full_in_apply(self) -> None:
        """There is no space for the next row of the index that an apply writes."""
        node = self._node()
        if node.running:
            self.world.log(f"fault: {node.name} has no space for what it applies")
            node.fail_apply = DiskFull("no space for a row of the simulated index, in an apply")

    def _full_in_read(self) -> None:
        """There is no space for what the index holds back, when a read has it written."""
        node = self._node()

        def read() -> None:
            if node.running and not node.paused and node.index.messages.unsettled:
                self.world.log(f"fault: {node.name} has no space for what a read has it write")
                node.engine.fail_put = DiskFull("no space for a row of the simulated index")
                node.read(0, ListMailboxes(USER), lambda _: None)
                self.world.reached["reads that found no space"] += node.engine.fail_put is None
                node.engine.fail_put = None

        def holds_back(node: SimNode) -> bool:
            if node.index.messages.unsettled:
                self.world.after(0.0, read)
            return bool(node.index.messages.unsettled)

        if len(node.traps) < TRAPS_MAX:
            node.traps.append(holds_back)
