"""Members that come and go at random, under crashes, cuts of links, lost messages, transfers and
elections (guard G12).

A cluster of real groups is moved at random from a seed, and looked at after every move:

1. In a term one replica leads.
2. What a replica commits at an index is what every other commits there, and nothing that was
   committed is lost.
3. The majorities of the newest committed membership and of the one that a leader goes by always
   meet.
4. A replica's machine applies every index once and in order, or jumps ahead.

In the end everything is healed, and all members have to agree.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable

import pytest

from raftmail.consensus.change import ChangeRefused
from raftmail.consensus.group import Flow, NotLeader
from raftmail.consensus.membership import Membership
from tests.consensus.cluster import Cluster
from tests.consensus.memberships import with_learner
from tests.consensus.planted import FAULTS
from tests.consensus.planting import planted

STEPS = 900
SEEDS = range(16)


class Broken(Exception):
    """What must always hold does not."""


def meet(one: Iterable[int], other: Iterable[int]) -> bool:
    """Whether any majority of the one meets any majority of the other."""
    a, b = set(one), set(other)
    need_a, need_b = len(a) // 2 + 1, len(b) // 2 + 1
    shared = len(a & b)
    # The two majorities avoid each other as far as they can: what they take outside of what is
    # shared is free.
    taken = max(need_a - len(a - b), 0) + max(need_b - len(b - a), 0)
    return taken > shared


class Walk:
    """One random run."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.c = Cluster(self.rng.choice([1, 2, 3, 3, 3, 5]), flow=Flow(message_bytes_max=2048))
        self.leaders: dict[int, int] = {}
        self.committed: dict[int, tuple[int, bytes]] = {}
        self.newest: tuple[int, Membership] = self.c.founding
        self.seen: dict[int, int] = {}
        self.gone: set[int] = set()
        self.proposed = 0
        self.done: Counter[str] = Counter()

    # -- what must hold

    def look(self) -> None:
        for replica, node in self.c.nodes.items():
            if not node.alive:
                continue
            group = node.group
            if group.is_leader and self.leaders.setdefault(group.term, replica) != replica:
                raise Broken(f"{replica} and {self.leaders[group.term]} lead {group.term}")
            self._look_at_log(replica)
        top = max(
            (n.group for n in self.c.nodes.values() if n.alive and n.group.is_leader),
            key=lambda group: group.term,
            default=None,
        )
        if top is None or top.members.index < self.newest[0]:
            return
        if not meet(top.membership.voters, self.newest[1].voters):
            raise Broken(f"{top.membership} and {self.newest[1]} need not meet")

    def _look_at_log(self, replica: int) -> None:
        group = self.c.group(replica)
        start = max(self.seen.get(replica, 0), group.journal.first_index) + 1
        for command, index, term in group.entries(start, group.commit_index):
            if self.committed.setdefault(index, (term, command)) != (term, command):
                raise Broken(f"{replica} commits {term}, {command!r} at {index}")
        self.seen[replica] = max(group.commit_index, self.seen.get(replica, 0))
        at, membership = group.members.committed(group.commit_index)
        if at > self.newest[0]:
            self.newest = at, membership
        elif at == self.newest[0] and membership != self.newest[1]:
            raise Broken(f"{replica} knows another membership of {at}")

    # -- moves

    def running(self) -> list[int]:
        return [n for n, node in self.c.nodes.items() if node.alive]

    def leader(self) -> int | None:
        leading = [n for n in self.running() if self.c.group(n).is_leader]
        return max(leading, key=lambda n: self.c.group(n).term, default=None)

    def step(self) -> None:
        c, rng = self.c, self.rng
        move = rng.random()
        running = self.running()
        if not running:
            self.start()
            return
        here = rng.choice(running)
        if move < 0.45:
            pairs = [pair for pair, link in c.links.items() if link and c[pair[1]].alive]
            if pairs:
                c.deliver(*rng.choice(pairs), rng.choice([1, 1, 2, 5, 100]))
        elif move < 0.65:
            c.sync(here)
        elif move < 0.78:
            c.now += rng.choice([0.01, 0.05, 0.1])
            for replica in running:
                if rng.random() < 0.8:
                    c.tick(replica)
        elif move < 0.84:
            self.propose()
        elif move < 0.90:
            self.change()
        elif move < 0.93:
            other = rng.choice(running)
            if other != here:
                (c.cut if frozenset((here, other)) in c.up else c.connect)(here, other)
        elif move < 0.94:
            c.heal()
        elif move < 0.95:
            c.run(0.3)
        elif move < 0.965:
            self.crash(here)
        elif move < 0.985:
            self.start()
        elif move < 0.988:
            self.transfer()
        else:
            self.forget_some(here)
        self.resync()
        self.look()

    def propose(self) -> None:
        leader = self.leader()
        if leader is not None and self.c.group(leader).accepts:
            self.proposed += 1
            self.c.propose(leader, b"%d" % self.proposed + b"." * self.rng.choice([0, 0, 300]))

    def change(self) -> None:
        """Any change that makes sense by itself, asked of the leader."""
        c, rng = self.c, self.rng
        leader = self.leader()
        if leader is None:
            return
        now = c.group(leader).membership
        steps: list[Membership] = [now.promoted(replica) for replica in now.learners] * 2
        steps += [now.without(r) for r in now.nodes if list(now.voters) != [r]]
        if len(now.nodes) < 6:
            replica = max([*c.nodes, now.next_id - 1]) + 1
            used = {c[n].name for n in c.nodes if n not in self.gone} | {*now.learners.values()}
            free = [c[n].name for n in sorted(self.gone) if c[n].name not in used]
            steps += [with_learner(now, rng.choice([f"n{replica}", *free]), replica)[0]] * 3
        try:
            c.change(leader, rng.choice(steps))
        except ChangeRefused:
            self.done["refused"] += 1
            return
        new = c.group(leader).membership
        for replica in new.nodes.keys() - c.nodes.keys():
            c.join(replica, new)
            self.done["joined"] += 1
        self.done["changed"] += 1

    def crash(self, replica: int) -> None:
        self.c.isolate(replica)
        self.c[replica].power_loss()
        self.seen[replica] = 0
        if replica not in self.newest[1] or self.rng.random() < 0.05:
            self.lose(replica)

    def lose(self, replica: int) -> None:
        """The disk is gone, if so few were lost that the group lives.

        The node may come back with a new one, under a new id.
        """
        gone = {*self.gone, replica}
        known = [self.newest[1], *(self.c.group(n).membership for n in self.c.nodes)]
        if all(2 * len(gone & m.voters.keys()) < len(m.voters) for m in known):
            self.gone = gone
            self.done["lost disks"] += 1

    def start(self) -> None:
        down = [n for n, node in self.c.nodes.items() if not node.alive and n not in self.gone]
        if down:
            replica = self.rng.choice(down)
            self.c[replica].start()
            for other in self.running():
                if other != replica and self.rng.random() < 0.9:
                    self.c.connect(replica, other)

    def transfer(self) -> None:
        leader = self.leader()
        if leader is not None:
            try:
                target = self.rng.choice(sorted(self.c.group(leader).voters))
                self.c.group(leader).transfer(self.c.now, target)
            except (NotLeader, ValueError):
                return
            self.c.collect(leader)

    def forget_some(self, replica: int) -> None:
        """Have the machine's state on the disk, and the log without what it needs no more."""
        node = self.c[replica]
        node.persist()
        node.group.journal.trim(node.machine.index)
        self.done["trimmed"] += 1

    def resync(self) -> None:
        for replica in self.running():
            wanted = self.c.group(replica).resync_wanted
            if wanted is not None and self.c[wanted[0]].alive:
                self.c.group(replica).take_resync_wanted()
                self.c.resync(replica, wanted[0])
                self.done["jumped"] += 1

    # -- the end

    def heal(self) -> None:
        c = self.c
        for replica, node in c.nodes.items():
            if not node.alive and replica not in self.gone:
                node.start()
        c.heal()
        for _ in range(100):
            c.run(0.2)
            self.resync()
            self.look()
            leader = self.leader()
            if leader is not None and self.agreed(leader):
                return
        raise Broken("the members do not agree")

    def agreed(self, leader: int) -> bool:
        c = self.c
        group = c.group(leader)
        if group.membership != group.committed_membership:
            return False
        members = [n for n in group.membership.nodes if n in c.nodes and n not in self.gone]
        applied = {(c[n].machine.index, c.group(n).commit_index) for n in members}
        same = {tuple(c[n].machine.applied) for n in members}
        known = {str(c.group(n).committed_membership) for n in members}
        return len(applied) == len(same) == len(known) == 1


def walk(seed: int) -> Walk:
    """Raises `Broken`, and what the groups raise."""
    run = Walk(seed)
    for _ in range(STEPS):
        run.step()
    run.heal()
    final = next(n for n in run.running() if run.c.group(n).is_leader)
    applied = {index: (term, payload) for index, term, payload in run.c[final].machine.applied}
    for index, (term, command) in run.committed.items():
        if applied[index] != (term, command[1:] if command[:1] == b"\0" else b""):
            raise Broken(f"entry {index} was committed and is lost")
    return run


@pytest.mark.parametrize("seed", SEEDS)
def test_members_come_and_go_and_nothing_that_was_committed_is_lost(seed: int) -> None:
    walk(seed)


def test_the_walks_reach_what_they_are_made_for() -> None:
    done: Counter[str] = Counter()
    for seed in SEEDS:
        done.update(walk(seed).done)
    reached = ("joined", "changed", "trimmed", "jumped", "lost disks")
    assert {what for what in reached if not done[what]} == set(), done


@pytest.mark.parametrize(
    "fault", ["in-force-when-committed", "restart-forgets-membership", "change-while-pending"]
)
def test_a_removed_guard_is_noticed(fault: str) -> None:
    with planted(FAULTS[fault]), pytest.raises(Exception):  # noqa: B017  or what the broken code raised itself
        for seed in range(20):
            walk(seed)


def test_majorities_meet_when_one_voter_differs_and_need_not_when_two_do() -> None:
    assert meet({1, 2, 3}, {1, 2, 3, 4}) and meet({1}, {1, 2}) and meet({1, 2, 3}, {1, 2})
    assert not meet({1, 2, 3}, {1, 4, 5}) and not meet({1, 2}, {3}) and not meet({1}, {1, 2, 3})
