"""A small cluster of real groups and journals on simulated disks, moved by hand: nothing happens by
itself.

Links keep order and lose what is on its way when they are cut, as TCP does.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from raftmail.consensus import heartbeats
from raftmail.consensus import messages as m
from raftmail.consensus.fitness import Fitness
from raftmail.consensus.group import Flow, Group, Timing
from raftmail.consensus.journal import Identity, Journal, JournalLimits
from raftmail.consensus.membership import KIND, Membership
from tests.consensus.memberships import with_learner
from tests.simulation.disk import SimDisk

GROUP = 7
CLUSTER_ID = b"c" * 16
LIMITS = JournalLimits(segment_bytes_max=4096, prealloc_bytes_min=4096, prealloc_bytes_max=8192)


@dataclass(slots=True)
class ListMachine:
    """A state machine that keeps what it was given; `missing` are payloads whose blobs are not
    here, `lacks` tells that it lacks others."""

    applied: list[tuple[int, int, bytes]] = field(default_factory=list)
    missing: set[bytes] = field(default_factory=set)
    raises: Exception | None = None
    lacks: bool = False
    fit: Fitness = Fitness.ABLE
    wanted: list[bytes] = field(default_factory=list)

    def apply(self, index: int, term: int, payload: bytes) -> None:
        if self.raises is not None:
            raise self.raises
        self.applied.append((index, term, payload))

    def want_blobs(self, payload: bytes) -> None:
        self.wanted.append(payload)

    def may_apply(self) -> bool:
        return True

    def lacks_bodies(self) -> bool:
        return self.lacks

    def fitness(self) -> Fitness:
        return self.fit

    def holds_blobs(self, payload: bytes, index: int) -> bool:
        return payload not in self.missing

    @property
    def payloads(self) -> list[bytes]:
        return [payload for _, _, payload in self.applied if payload and payload[:1] != KIND]

    def membership(self, first: tuple[int, Membership]) -> tuple[int, Membership]:
        """Index and value of the newest that was applied; `first` is what the replica was made
        with."""
        for index, _, payload in reversed(self.applied):
            if payload[:1] == KIND:
                return index, Membership.decode(payload[1:])
        return first

    @property
    def index(self) -> int:
        return self.applied[-1][0] if self.applied else 0


def told_by(record: bytes) -> list[m.Message]:
    """The messages that a beat stands for."""
    (beat,) = heartbeats.unpack(record)
    kind, success, group, sender, receiver, term, index, index_term, commit, round = beat
    if kind == heartbeats.BEAT:
        fields = [round, commit, index, index_term, [], []]
        return [m.Message(m.Kind.APPEND, group, sender, receiver, term, fields)]
    ack = m.Message(m.Kind.ACK, group, sender, receiver, term, [index + 1, success])
    if not round:
        return [ack]
    return [m.Message(m.Kind.ROUND, group, sender, receiver, term, [round]), ack]


class Node:
    """A replica; `group` is there while it runs."""

    def __init__(self, cluster: Cluster, replica: int, membership: Membership) -> None:
        self.cluster = cluster
        self.id = replica
        self.name = membership.nodes[replica]
        self.first = (int(replica in membership.voters), membership)
        self.disk = SimDisk(seed=replica)
        self.machine = ListMachine()
        self.durable: list[tuple[int, int, bytes]] = []
        self.alive = False
        self.lives = 0
        self.group: Group
        self.start(create=True)

    def start(self, *, create: bool = False) -> None:
        """Begin, or begin again from what is on the disk."""
        self.lives += 1
        cluster = self.cluster
        identity = Identity(CLUSTER_ID, GROUP, self.id)
        journal = Journal.open(self.disk, "log", identity, LIMITS, create=create)
        self.machine.applied = list(self.durable)
        index, membership = self.machine.membership(self.first)
        self.group = Group(
            GROUP,
            self.id,
            membership,
            journal,
            self.machine,
            self.machine.index,
            random.Random(1000 + self.id + 100 * self.lives * cluster.asks),
            cluster.now,
            cluster.timing,
            cluster.flow,
            membership_index=index,
        )
        if not cluster.asks:
            self.group.proof.may_follow = self.group.proof.may_vote = True
        self.alive = True

    def persist(self) -> None:
        """Have the state machine's state on the disk."""
        self.durable = list(self.machine.applied)

    def power_loss(self) -> None:
        """Lose what was not synced."""
        self.disk.power_off()
        self.disk.restart()
        self.alive = False


class Cluster:
    """`size` replicas with ids from 1 on nodes n1, n2 …, all links up. `join` makes others, which
    have yet to be added to the group. With `asks`, replicas that start take part only when they
    were told what they promised; else at once."""

    def __init__(
        self,
        size: int = 3,
        *,
        timing: Timing | None = None,
        flow: Flow | None = None,
        asks: bool = False,
    ) -> None:
        self.asks = asks
        self.now = 100.0
        self.timing = timing or Timing()
        self.flow = flow or Flow()
        self.ids = list(range(1, size + 1))
        # Messages, and beats as byte arrays.
        self.links: dict[tuple[int, int], deque[bytes | bytearray]] = {
            (a, b): deque() for a in self.ids for b in self.ids if a != b
        }
        self.up: set[frozenset[int]] = set()
        self.sent: list[tuple[int, int, m.Message]] = []
        founders = Membership.founding({n: f"n{n}" for n in self.ids})
        self.founding = (1, founders)
        self.nodes = {n: Node(self, n, founders) for n in self.ids}
        self.heal()

    def join(self, replica: int, membership: Membership) -> None:
        """Start a replica with an empty log, which was told this membership; its links to all come
        up."""
        for other in self.ids:
            self.links[other, replica] = deque()
            self.links[replica, other] = deque()
        self.ids.append(replica)
        self.nodes[replica] = Node(self, replica, membership)
        for other in self.ids[:-1]:
            self.connect(other, replica)

    def __getitem__(self, replica: int) -> Node:
        return self.nodes[replica]

    def group(self, replica: int) -> Group:
        return self.nodes[replica].group

    def add_learner(self, leader: int, node: str = "") -> int:
        """Have a replica join as a learner, and its entry committed. Returns its id."""
        membership = self.group(leader).membership
        membership, replica = with_learner(membership, node or f"n{membership.next_id}")
        self.group(leader).change(self.now, membership)
        self.collect(leader)
        self.settle()
        self.join(replica, membership)
        self.run(1.0)
        return replica

    def change(self, leader: int, membership: Membership) -> int:
        """Put a membership into the leader's log; the index of its entry."""
        _, index = self.group(leader).change(self.now, membership)
        self.collect(leader)
        return index

    def resync(self, replica: int, source: int) -> None:
        """What the shard does when a resync is wanted: take the state of another, and have the log
        jump to it."""
        mine, other = self.nodes[replica], self.nodes[source]
        index, term, _ = other.machine.applied[-1]
        if index > mine.group.applied_index and not mine.group.is_leader:
            mine.machine.applied = list(other.machine.applied)
            mine.durable = list(mine.machine.applied)
            mine.group.jump(index, term, mine.machine.membership(mine.first))

    # -- links

    def connect(self, a: int, b: int) -> None:
        pair = frozenset((a, b))
        if pair in self.up or not (self.nodes[a].alive and self.nodes[b].alive):
            return
        self.up.add(pair)
        for x, y in ((a, b), (b, a)):
            self.group(x).connected(self.now, self.nodes[y].name)
            self.collect(x)

    def cut(self, a: int, b: int) -> None:
        pair = frozenset((a, b))
        if pair not in self.up:
            return
        self.up.discard(pair)
        self.links[a, b].clear()
        self.links[b, a].clear()
        for x, y in ((a, b), (b, a)):
            if self.nodes[x].alive:
                self.group(x).disconnected(self.now, self.nodes[y].name)

    def isolate(self, replica: int) -> None:
        for other in self.ids:
            if other != replica:
                self.cut(replica, other)

    def heal(self) -> None:
        for a in self.ids:
            for b in self.ids:
                if a < b:
                    self.connect(a, b)

    # -- moving

    def collect(self, replica: int) -> list[m.Message]:
        """Put what a replica wants to send on the links; what is for a link that is down is
        lost."""
        out = []
        for peer, parts in self.group(replica).take_messages():
            data = b"".join(parts)
            message = m.decode(data)
            if message.kind is m.Kind.ASK and not self.asks:
                continue  # see `__init__`
            out.append(message)
            self.sent.append((replica, peer, message))
            if frozenset((replica, peer)) in self.up and self.group(replica).node_of(peer):
                self.links[replica, peer].append(data)
        for _, record in self.group(replica).take_beats():
            peer = heartbeats.RECORD.unpack(record)[4]
            self.sent.extend((replica, peer, message) for message in told_by(record))
            if frozenset((replica, peer)) in self.up:
                self.links[replica, peer].append(bytearray(record))
        return out

    def deliver(self, a: int, b: int, count: int = 1 << 30) -> int:
        """Hand over up to `count` messages from `a` to `b`."""
        link = self.links[a, b]
        done = 0
        while link and done < count and self.nodes[b].alive:
            data = link.popleft()
            if isinstance(data, bytearray):
                (beat,) = heartbeats.unpack(data)
                self.group(b).receive_beat(self.now, beat, self.nodes[a].name)
            else:
                self.group(b).receive(self.now, data, self.nodes[a].name)
            done += 1
        if done:
            self.collect(b)
        return done

    def sync(self, replica: int) -> None:
        """One turn of the driver's loop: sync, then release, commit and apply."""
        group = self.group(replica)
        job = group.begin_sync()
        if job is not None:
            job.run()
        group.end_sync(self.now, job)
        group.advance(self.now)
        self.collect(replica)

    def settle(self, only: Iterable[int] | None = None, turns: int = 200) -> None:
        """Deliver and sync until nothing is on its way."""
        members = [n for n in (only or self.ids) if self.nodes[n].alive]
        for _ in range(turns):
            moved = sum(self.deliver(a, b) for a in members for b in members if a != b)
            for n in members:
                if moved or self.group(n).has_held_messages:
                    self.sync(n)
                    moved += 1
            if not moved:
                return
        raise AssertionError(f"messages are still on their way after {turns} turns")

    def tick(self, replica: int) -> None:
        self.group(replica).tick(self.now)
        self.collect(replica)

    def run(self, seconds: float, only: Iterable[int] | None = None, step: float = 0.05) -> None:
        """Let time pass for these replicas (all): tick, deliver, sync."""
        members = [n for n in (only or self.ids) if self.nodes[n].alive]
        end = self.now + seconds
        while self.now < end:
            self.now += step
            for n in members:
                self.tick(n)
                self.sync(n)
            self.settle(members)

    def elect(self, replica: int) -> None:
        """Have a replica become leader, of those that it reaches."""
        self.now += self.timing.election_max_s
        group = self.group(replica)
        group.engine.set_election_deadline(self.now - 0.001)
        self.tick(replica)
        self.settle()
        assert group.is_leader, f"replica {replica} was not elected"

    def propose(self, replica: int, *payloads: bytes) -> int:
        """Put commands into the leader's log and on their way, one append each; returns the last
        index."""
        group = self.group(replica)
        index = 0
        for payload in payloads:
            _, index = group.propose(payload)
            group.replicate(self.now)
            self.collect(replica)
        return index

    def forge(self, kind: m.Kind, a: int, b: int, term: int, *fields: object) -> None:
        """Hand `b` a message as if from `a`."""
        head = m.header(kind, GROUP, a, b, term)
        self.group(b).receive(self.now, head + m.encode_fields(list(fields)), f"n{a}")
        self.collect(b)

    def append(
        self,
        a: int,
        b: int,
        term: int,
        prev: tuple[int, int],
        entries: Iterable[tuple[int, bytes]] = (),
        *,
        commit: int = 0,
        round: int = 0,
    ) -> None:
        """Forge an append: `prev` is (index, term), `entries` are (term, payload)."""
        listed = list(entries)
        terms = [t for t, _ in listed]
        commands = [b"\0" + payload for _, payload in listed]
        self.forge(m.Kind.APPEND, a, b, term, round, commit, *prev, terms, commands)

    def log(self, replica: int) -> list[tuple[int, bytes]]:
        """(term, payload) of the log; a no-op has an empty payload."""
        journal = self.group(replica).journal
        return [(e[2], e[0][1:]) for e in journal[:]]

    def converged(self) -> bool:
        """Whether all that run have applied the same, up to the leader's last entry."""
        groups = [n.group for n in self.nodes.values() if n.alive]
        return len({(g.applied_index, g.last_index, g.commit_index) for g in groups}) == 1
