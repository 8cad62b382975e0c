"""Replicas that join and go: real replicas of one shard in one process, whose frames are handed
over at once (guard G12)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import pytest

from raftmail.consensus.change import ChangeRefused
from raftmail.consensus.journal import JournalLimits
from raftmail.consensus.membership import Membership
from raftmail.mail import commands as c
from raftmail.mail.codec import encode_request
from raftmail.mail.failures import Failure
from raftmail.mail.results import Executed
from raftmail.resync.frames import Encoder, Link, kind_of
from raftmail.resync.requests import ANSWER, RequestKind, ResyncHello, encode_hello
from raftmail.shard.driver import Driver
from raftmail.shard.limits import ReplicaLimits
from raftmail.shard.log_retention import LogLimits
from raftmail.shard.membership_store import kept, standing_at_start
from raftmail.shard.replica import BackgroundJob, Frame, FrameKind, Replica
from raftmail.storage.index import TABLES, Index
from raftmail.storage.kv import TableDamaged
from tests.consensus.memberships import ids_of, with_learner
from tests.shard.machines import guid_of
from tests.shard.opened import MemoryIndex, open_on
from tests.simulation.disk import SimDisk
from tests.simulation.kv import MemoryEngine

SMALL = JournalLimits(
    segment_bytes_max=8 << 10, prealloc_bytes_min=4 << 10, prealloc_bytes_max=8 << 10
)
TURN_S = 0.05


class One:
    """A replica on a node of its own, with its disk; `told` is what it was made with."""

    def __init__(self, number: int, node: str, told: Membership, limits: ReplicaLimits) -> None:
        self.number = number
        self.node = node
        self.told = told
        self.limits = limits
        self.disk = SimDisk()
        self.index = MemoryIndex(number)
        self.made = False
        self.held: list[BackgroundJob] = []
        self.replica: Replica
        self.driver: Driver

    def start(self, now: float, carry: Callable[[list[Frame]], None]) -> None:
        self.replica = open_on(
            self.disk,
            self.index,
            self.number,
            self.node,
            self.told,
            now,
            is_new=not self.made,
            is_founding=False,
            limits=self.limits,
            journal=SMALL,
        )
        self.driver = Driver(self.replica, carry)
        self.made = True


class Shard:
    """Replicas by number; all links up."""

    def __init__(self, size: int = 3, log_bytes_max: int = 1 << 20) -> None:
        self.now = 100.0
        self.limits = ReplicaLimits(log=LogLimits(log_bytes_max, 1 << 20, 1e9))
        self.all: dict[int, One] = {}
        self.seq = 0
        self.frames: list[tuple[str, str, str]] = []
        self.slow: set[int] = set()
        """Replicas whose background sync of bodies, once it has begun, does not end."""
        founders = Membership.founding({n: f"n{n}" for n in range(1, size + 1)})
        for number, node in founders.nodes.items():
            self.begin(number, node, founders)
        self.until(lambda: self.master is not None)

    def begin(self, number: int, node: str, told: Membership) -> One:
        one = One(number, node, told, self.limits)
        self.start(one)
        return one

    def start(self, one: One) -> None:
        """Open a replica, again or for the first time."""
        self.all[one.number] = one
        one.start(self.now, partial(self.carry, one))
        self.link(one)

    def link(self, one: One) -> None:
        for other in self.all.values():
            if other is not one:
                one.replica.connected(self.now, other.node)
                other.replica.connected(self.now, one.node)

    def end(self, number: int) -> One:
        """Close a replica as a node that stops does."""
        one = self.all.pop(number)
        for other in self.all.values():
            other.replica.disconnected(self.now, one.node)
        one.replica.close()
        return one

    @property
    def master(self) -> One | None:
        return next((one for one in self.all.values() if one.replica.group.is_leader), None)

    def leader(self) -> Replica:
        self.until(lambda: self.master is not None)
        assert self.master is not None
        return self.master.replica

    def turn(self) -> None:
        self.now += TURN_S
        for one in list(self.all.values()):
            if not any(self.holds_back(one, job) for job in one.held):
                self.release(one)
            one.driver.turn(self.now, partial(self.in_background, one))

    def holds_back(self, one: One, job: BackgroundJob) -> bool:
        """Whether a job of a replica does not get done for now."""
        return one.number in self.slow and job.long_body is None

    def in_background(self, one: One, job: BackgroundJob) -> None:
        one.held.append(job)
        if not self.holds_back(one, job):
            self.release(one)

    def release(self, one: One) -> None:
        """Get done with what was held back."""
        held, one.held = one.held, []
        for job in held:
            job.run()
            one.driver.end_background(job)

    def carry(self, one: One, frames: Sequence[Frame]) -> None:
        for node, kind, parts in frames:
            self.frames.append((one.node, node, kind))
            for other in list(self.all.values()):
                if other.node == node:
                    other.replica.receive(self.now, one.node, kind, b"".join(parts))

    def until(self, done: object, turns: int = 400) -> None:
        for _ in range(turns):
            if done():  # type: ignore[operator]
                return
            self.turn()
        raise AssertionError("waited in vain")

    def save(self, text: str) -> None:
        """Save a message, and wait until it is acknowledged."""
        self.seq += 1
        body = text.encode() * 50
        digest = hashlib.sha256(body).digest()
        message = c.NewMessage(
            (c.Target("a", "INBOX"),), digest, len(body), guid_of(text), 7, (), b"summary"
        )
        request = encode_request(
            b"client of tests!", self.seq, self.seq - 1, c.Save("a", (message,), 1)
        )
        answers: list[Executed | Failure] = []
        self.leader().submit(self.now, request, [(digest, body)], answers.append)
        self.until(lambda: answers)
        assert isinstance(answers[0], Executed), answers

    def change(self, new: Membership) -> None:
        """Have the master change the membership, as soon as it may, and wait until it is
        committed."""
        why = ""
        for _ in range(200):
            try:
                self.leader().change(self.now, new)
                break
            except ChangeRefused as e:
                why = e.reason
                self.turn()
        else:
            raise AssertionError(why)
        self.until(lambda: self.leader().committed_membership == new)

    def add(self, node: str) -> int:
        """A new replica as a learner."""
        new, number = with_learner(self.leader().membership, node)
        self.change(new)
        self.begin(number, node, new)
        return number

    def digests(self) -> set[bytes]:
        self.until(lambda: len({one.replica.group.applied_index for one in self.all.values()}) == 1)
        return {one.replica.machine.index.digest() for one in self.all.values()}


def test_a_replica_joins_learns_everything_and_becomes_a_voter() -> None:
    shard = Shard()
    for n in range(5):
        shard.save(f"before {n}")
    number = shard.add("n4")
    shard.save("while it learns")
    shard.change(shard.leader().membership.promoted(number))
    shard.save("after")
    assert len(shard.digests()) == 1
    assert shard.all[number].replica.is_whole
    assert {str(one.replica.committed_membership) for one in shard.all.values()} == {
        "voters 1=n1 2=n2 3=n3 4=n4"
    }


def test_a_learner_beyond_the_log_is_resynced_and_knows_the_membership() -> None:
    shard = Shard(log_bytes_max=16 << 10)
    for n in range(60):
        shard.save(f"message {n} " + "." * 20)
    shard.until(lambda: shard.leader().group.journal.first_index > 10)
    number = shard.add("n4")
    shard.until(lambda: shard.all[number].replica.is_whole, 2000)
    shard.until(lambda: shard.all[number].replica.group.applied_index > 10, 2000)
    joined = shard.all[number].replica
    assert joined.group.journal.first_index > 1, "it jumped"
    shard.until(lambda: joined.membership == shard.leader().membership)
    shard.until(lambda: joined.group.applied_index >= joined.group.members.index)
    assert kept(joined.machine.index) == (joined.group.members.index, joined.membership)
    shard.change(shard.leader().membership.promoted(number))
    assert len(shard.digests()) == 1


def test_what_a_resync_brought_is_not_applied_again_while_bodies_are_synced() -> None:
    """Found by the simulator, between the end of the records' exchange and the jump of the log,
    which waits for the sync.

    Entries that the records held already were applied from a log that had been trimmed by what the
    records held.
    """
    shard = Shard(log_bytes_max=16 << 10)
    shard.save("first")
    number = next(n for n, one in shard.all.items() if one is not shard.master)
    replica = shard.all[number].replica
    shard.until(lambda: replica.group.applied_index == shard.leader().group.applied_index)
    shard.slow.add(number)
    replica.bodies.add(hashlib.sha256(b"body").digest(), b"body")
    shard.until(lambda: replica.bodies.syncing)
    replica.recovery.manager.need(full=True)
    shard.until(lambda: replica.recovery.manager.holds)
    shard.save("while it is frozen")
    shard.until(lambda: replica.recovery.manager.has_finished, 2000)
    stood = replica.group.applied_index
    for n in range(30):
        shard.save(f"while it waits {n} " + "." * 20)
    assert replica.recovery.frozen and replica.group.applied_index == stood
    shard.slow.clear()
    shard.until(lambda: replica.group.applied_index == shard.leader().group.applied_index, 2000)
    assert len(shard.digests()) == 1


def test_where_bodies_are_is_entered_though_nothing_comes_after_their_sync() -> None:
    """The index was committed while the sync ran, and nothing is applied any more."""
    shard = Shard(size=1)
    shard.save("first")
    replica = shard.leader()
    shard.slow.add(1)
    shard.until(lambda: replica.bodies.syncing, 2000)
    commits = replica.counters.index_commits
    shard.until(lambda: replica.counters.index_commits > commits, 2000)
    later = shard.now + 3 * shard.limits.index_commit_s
    shard.until(lambda: shard.now > later, 5000)
    assert replica.blobs.pending
    shard.slow.clear()
    shard.until(lambda: not replica.blobs.pending, 2000)


def test_the_log_is_not_trimmed_while_a_change_is_not_committed() -> None:
    """Who was counted as having everything, but for a few entries of the log, would get those by a
    resync, which brings no bodies."""
    shard = Shard()
    for n in range(20):
        shard.save(f"before {n}")
    master = shard.leader()
    shard.until(lambda: master.machine.durable_index > 15)
    others = [shard.end(n) for n, one in list(shard.all.items()) if one is not shard.master]
    master.change(shard.now, with_learner(master.membership, "n4")[0])
    master.compaction.limits = LogLimits(bytes_max=1)
    for _ in range(60):
        shard.turn()
    assert master.group.keeps_log and master.group.journal.first_index == 1
    for one in others:
        shard.start(one)
    shard.until(lambda: not master.group.keeps_log)
    shard.until(lambda: master.group.journal.first_index > 10)


def test_bodies_go_to_learners_ahead_of_their_entry() -> None:
    shard = Shard()
    shard.add("n4")
    shard.until(lambda: shard.leader().progress()[4] == shard.leader().group.last_index)
    shard.frames.clear()
    shard.save("new")
    master = shard.leader().node
    assert (master, "n4", FrameKind.BLOB) in shard.frames
    assert not [f for f in shard.frames if f[2] == FrameKind.WANT]


def test_a_membership_outlives_restarts_and_the_log_that_brought_it() -> None:
    shard = Shard()
    shard.add("n4")
    before = shard.leader().membership
    shard.until(lambda: len(shard.digests()) == 1)
    for number in (1, 2, 3, 4):
        one = shard.end(number)
        shard.start(one)
        assert one.replica.membership == one.replica.committed_membership == before
        shard.leader()
    shard.save("afterwards")


def test_a_lost_disk_comes_back_under_a_new_id() -> None:
    shard = Shard()
    shard.save("kept by all")
    lost = next(n for n, one in shard.all.items() if one is not shard.master)
    node = shard.end(lost).node
    number = shard.add(node)
    assert ids_of(shard.leader().membership, node) == [lost, number]
    shard.change(shard.leader().membership.promoted(number))
    shard.change(shard.leader().membership.without(lost))
    shard.save("with the new one")
    assert len(shard.digests()) == 1
    assert shard.all[number].replica.is_whole


def test_a_replica_that_was_removed_learns_of_it_and_disturbs_nobody() -> None:
    shard = Shard()
    gone = next(n for n, one in shard.all.items() if one is not shard.master)
    shard.change(shard.leader().membership.without(gone))
    term = shard.leader().group.term
    shard.until(lambda: shard.all[gone].replica.removed)
    for _ in range(60):
        shard.turn()
    assert shard.leader().group.term == term
    shard.save("without it")


def test_a_node_that_holds_no_replica_is_given_nothing() -> None:
    shard = Shard()
    shard.save("x")
    replica = shard.leader()
    before = replica.counters.bad_frames
    replica.receive(shard.now, "n9", FrameKind.WANT, bytes(32))
    replica.receive(shard.now, "n9", FrameKind.GONE, bytes(40))
    assert replica.counters.bad_frames == before + 2
    assert not [f for f in replica.take_frames() if f[0] == "n9"]


def test_a_node_that_holds_no_replica_and_asks_for_a_resync_is_told_that_there_is_none() -> None:
    shard = Shard()
    shard.save("x")
    replica = shard.leader()
    encoder = Encoder(Link("", 1, "n9"), 3)
    for frame in encoder.frames(RequestKind.HELLO, encode_hello(ResyncHello(0, True, True, False))):
        replica.receive(shard.now, "n9", FrameKind.SYNC, frame)
    replica.step(shard.now)
    ((_, kind, (answer,)),) = [f for f in replica.take_frames() if f[0] == "n9"]
    assert (kind, kind_of(answer)) == (FrameKind.SYNC, ANSWER + RequestKind.REFUSED)
    assert not replica.recovery.manager.served()


def test_an_index_without_a_membership_makes_no_candidate_of_a_replica_that_has_a_log() -> None:
    shard = Shard()
    shard.save("x")
    one = shard.all[1]
    told = shard.leader().membership
    journal = one.replica.group.journal
    assert standing_at_start(Index(MemoryEngine(TABLES)), journal, 1, told) == (0, told)


def test_an_idle_replica_is_stepped_when_its_scrub_is_behind() -> None:
    shard = Shard()
    shard.save("x")
    for _ in range(100):
        shard.turn()
    replica = next(one.replica for one in shard.all.values() if not one.replica.group.is_leader)
    scrub = replica.recovery.manager.scrub
    scrub.behind_at = shard.now + 1e-3
    now = shard.now + 2e-3
    assert replica.next_deadline(shard.now) <= now
    replica.tick(now)
    assert replica.needs_turn


def test_an_idle_replica_asks_to_be_ticked_for_heartbeats_and_elections_alone() -> None:
    shard = Shard()
    shard.save("x")
    for _ in range(40):
        shard.turn()
    for one in shard.all.values():
        assert one.replica.next_deadline(shard.now) > shard.now
    follower = next(one for one in shard.all.values() if one is not shard.master)
    assert follower.replica.next_deadline(shard.now) > shard.now + 0.2
    shard.seq += 1
    request = encode_request(
        b"client of tests!", shard.seq, 0, c.CreateMailbox("a", "Box", 2, guid=guid_of("b"))
    )
    master = shard.leader()
    master.submit(shard.now, request, [], lambda answer: None)
    assert master.next_deadline(shard.now) == shard.now


def test_a_replica_that_took_an_entry_asks_to_be_ticked_when_its_index_is_to_be_committed() -> None:
    shard = Shard()
    for one in shard.all.values():
        one.replica.bodies.limits = replace(one.replica.bodies.limits, sync_s=0.5)
    shard.save("x")
    replica = next(one for one in shard.all.values() if one is not shard.master).replica
    shard.until(lambda: not replica.blobs.dirty())
    shard.save("y")
    shard.until(lambda: not replica.blobs.dirty())
    since = replica._index_dirty_since
    assert since is not None
    at = replica.next_deadline(shard.now)
    assert shard.now < at <= since + shard.limits.index_commit_s
    replica._chores_at = replica.recovery.manager.scrub.behind_at = 1e9
    at = replica.next_deadline(shard.now)
    assert at == since + shard.limits.index_commit_s
    before = replica.counters.index_commits
    replica.tick(at)
    assert replica.needs_turn
    replica.step(at)
    assert replica.begin_sync() == []
    replica.end_sync(at)
    replica.advance(at)
    assert replica.counters.index_commits == before + 1


def test_a_replica_with_bodies_in_the_journal_alone_asks_for_a_tick_when_they_go_to_the_store() -> (
    None
):
    shard = Shard()
    shard.slow = set(shard.all)  # the store's sync does not end, and the next one has to wait
    shard.save("x")
    one = next(one for one in shard.all.values() if one is not shard.master)
    replica = one.replica
    shard.until(lambda: replica.bodies.syncing)
    shard.release(one)
    shard.save("y")
    assert replica.blobs.dirty() and not replica.bodies.syncing
    replica._chores_at = replica.recovery.manager.scrub.behind_at = 1e9
    replica._index_dirty_since = None
    replica.group.engine.set_election_deadline(1e9)
    assert replica.next_deadline(shard.now) == replica.bodies.next_deadline() < 1e9


def test_a_replica_that_reads_everything_for_a_mark_goes_on_at_every_tick() -> None:
    shard = Shard()
    shard.save("x")
    master = shard.leader()
    at = master.mark(deep=True)
    shard.until(lambda: master.group.applied_index >= at)
    assert master.marks.deep is not None
    master.marks.deep._done = False
    assert master.next_deadline(shard.now) == shard.now
    shard.until(lambda: not master.marks.reads)
    shard.until(lambda: master.next_deadline(shard.now) > shard.now)


def test_an_index_that_a_read_found_broken_ends_the_replica_also_where_nothing_else_happens() -> (
    None
):
    shard = Shard()
    shard.save("x")
    replica = next(one for one in shard.all.values() if one is not shard.master).replica
    shard.until(lambda: not replica.needs_turn)
    replica._chores_at = shard.now
    replica.recovery.manager.scrub._next_round = 1e9
    replica.index_broken(TableDamaged("a page is none"))
    replica.tick(shard.now)
    assert replica.needs_turn
    with pytest.raises(TableDamaged):
        replica.step(shard.now)


def test_a_resync_that_ended_while_bodies_were_synced_gets_a_turn_when_that_is_done() -> None:
    """Nothing else may come to wake the replica, which does nothing until the end is taken."""
    shard = Shard()
    shard.save("x")
    replica = next(one for one in shard.all.values() if one is not shard.master).replica
    shard.until(lambda: not replica.needs_turn)
    replica.recovery.manager.sink._finished = (1, 1)
    assert replica.needs_turn


def test_a_replica_says_that_it_has_all_bodies_only_when_they_are_on_its_disk() -> None:
    """A body that came ahead of its entry may be named by records that a resync brings.

    Then no entry brings a sync to it.
    """
    shard = Shard()
    shard.save("x")
    shard.until(lambda: not any(one.replica.lacks_bodies() for one in shard.all.values()))
    follower = next(one for one in shard.all.values() if one is not shard.master).replica
    leader = shard.leader()
    body = b"ahead" * 50
    frame = hashlib.sha256(body).digest() + body
    follower._lacks_bodies = True  # as a resync leaves it
    follower._chores_at = shard.now
    follower.receive(shard.now, leader.node, FrameKind.BLOB, frame)
    assert follower.group.journal.has_unsynced_bodies
    follower.tick(shard.now)
    assert follower.lacks_bodies()
    for job in follower.begin_sync():
        job()
    follower.tick(shard.now)
    assert follower.lacks_bodies()
    follower.end_sync(shard.now)
    follower.tick(shard.now)
    assert not follower.lacks_bodies()


@pytest.mark.parametrize("payload", [b"", b"\0" * 53, b"\0" * 54])
def test_beats_that_are_none_are_counted_and_dropped(payload: bytes) -> None:
    shard = Shard()
    replica = shard.leader()
    before = replica.counters.bad_frames
    replica.receive(shard.now, "n2", FrameKind.BEATS, payload)
    assert replica.counters.bad_frames == before + bool(payload)


def test_frames_that_make_no_sense_are_told_of_now_and_then_only(
    caplog: pytest.LogCaptureFixture,
) -> None:
    shard = Shard()
    replica = shard.leader()
    before = replica.counters.bad_frames
    with caplog.at_level("WARNING"):
        for _ in range(100):
            replica.receive(shard.now, "n2", FrameKind.RAFT, b"junk")
    assert replica.counters.bad_frames == before + 100
    assert sum("shorter than its header" in line for line in caplog.messages) == 1
