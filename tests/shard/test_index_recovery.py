"""A replica whose index is lost promises nothing that its journal does not have, and forgets
nothing that it has."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import pytest

from raftmail.consensus import messages as m
from raftmail.consensus.engine import REGULAR
from raftmail.consensus.journal import Identity as JournalIdentity
from raftmail.consensus.journal import Journal, JournalLimits
from raftmail.consensus.membership import Membership
from raftmail.mail import commands as c
from raftmail.mail.codec import encode_request
from raftmail.mail.failures import Failure
from raftmail.mail.results import Executed
from raftmail.mail.uidset import UidSet
from raftmail.resync.frames import Decoder, Link, session_of
from raftmail.resync.requests import RequestKind, ResyncHello, decode_hello
from raftmail.resync.state import Mark
from raftmail.shard.bodies import BodyLimits
from raftmail.shard.driver import Driver
from raftmail.shard.events import Observer
from raftmail.shard.frames import FrameKind
from raftmail.shard.limits import ReplicaLimits
from raftmail.shard.opening import Repairs
from raftmail.shard.replica import Replica
from raftmail.storage.blobs import BlobLimits
from raftmail.storage.disk import DiskFull
from raftmail.storage.index import TABLES
from tests.shard.machines import body_hash, entry_of, message, save
from tests.shard.opened import MemoryIndex, open_on
from tests.simulation.disk import SimDisk
from tests.simulation.kv import MemoryEngine

TEXTS = [f"text number {n}" for n in range(12)]
SMALL = JournalLimits(
    segment_bytes_max=512, prealloc_bytes_min=256, prealloc_bytes_max=256, reserve_bytes=64
)

IN_THE_STORE_ALONE = ReplicaLimits(bodies=BodyLimits(journal_bytes_max=0))
"""No second copy of a body in the journal mends what rots."""


class Machinery:
    """A replica, alone in its group or not, on a disk and an index that stay when it is opened
    again."""

    blob_limits = BlobLimits(free_bytes_min=0)

    def __init__(self, members: int = 1) -> None:
        self.disk = SimDisk()
        self.index = MemoryIndex(1)
        self.observer: Observer | None = None
        self.now = 0.0
        self.replica = self.open(made=False, members=members)

    @property
    def engine(self) -> MemoryEngine:
        return self.index.engine

    def open(
        self,
        *,
        made: bool = True,
        index_lost: bool = False,
        own_lost: bool = False,
        ordered: bool = False,
        members: int = 1,
    ) -> Replica:
        """`ordered`: the index says what is to be repaired."""
        if not ordered:
            self.index.ordered = Repairs(
                rebuild="lost" if index_lost else "", own="lost" if own_lost else ""
            )
        self.replica = replica = open_on(
            self.disk,
            self.index,
            1,
            "n1",
            Membership.founding({number: f"n{number}" for number in range(1, members + 1)}),
            self.now,
            is_new=not made,
            is_founding=True,
            limits=IN_THE_STORE_ALONE,
            journal=SMALL,
            blobs=self.blob_limits,
            observer=self.observer,
        )
        self.driver = Driver(replica, lambda frames: None)
        proof = replica.group.proof
        proof.may_follow = proof.may_vote = True  # as if the others had told what it promised
        return replica

    def turn(self, seconds: float = 0.05) -> None:
        self.now += seconds
        self.driver.turn(self.now)

    def save(self, texts: Iterable[str]) -> None:
        while not self.replica.group.accepts:
            self.turn()
        for number, text in enumerate(texts):
            done: list[Executed | Failure] = []
            request = encode_request(
                b"client of tests!", number + 1, number, c.Save("a", (message(text),), 1000)
            )
            self.replica.submit(self.now, request, [(body_hash(text), text.encode())], done.append)
            while not done:
                self.turn()
            assert isinstance(done[0], Executed)

    def trim(self) -> None:
        """Cut most of the log off, and let the files go."""
        machine = self.replica.machine
        machine.commit()
        machine.commit()
        self.replica.group.journal.trim(machine.durable_index - 3)
        for _ in range(20):
            self.turn()

    def rot(self, text: str) -> None:
        """The body changes on the disk."""
        for name in self.disk.listdir("blobs"):
            data = self.disk.content(f"blobs/{name}")
            at = data.find(text.encode())
            if at >= 0:
                self.disk.flip_bit(f"blobs/{name}", 8 * at)

    def close(self) -> None:
        self.replica.close()


def test_a_lost_index_is_made_again_from_a_log_that_has_everything() -> None:
    machinery = Machinery()
    machinery.save(TEXTS)
    before = machinery.replica.machine.index
    before.flush()
    known = [(m.number, m.digest, m.uidnext) for m in before.mailboxes.of("a")]
    applied = machinery.replica.group.applied_index
    machinery.close()
    replica = machinery.open(index_lost=True)
    assert not replica.recovery.frozen
    while replica.group.applied_index < applied:
        machinery.turn()
    index = replica.machine.index
    index.flush()
    assert [(m.number, m.digest, m.uidnext) for m in index.mailboxes.of("a")] == known
    assert all(replica.body(body_hash(text)) == text.encode() for text in TEXTS)
    assert replica.is_whole


def test_the_log_is_not_cut_for_a_body_that_rotted_when_the_index_was_lost() -> None:
    machinery = Machinery()
    machinery.save(TEXTS)
    last = machinery.replica.group.last_index
    machinery.close()
    machinery.rot(TEXTS[5])
    for lost in (True, False):  # and when it stops before all is applied again, neither
        replica = machinery.open(index_lost=lost)
        assert replica.group.last_index == last
        machinery.replica.group.journal.abandon()
        machinery.replica.blobs.abandon()
    replica = machinery.open()
    while replica.group.applied_index < last:
        machinery.turn()
    assert not replica.is_whole
    assert replica.recovery.manager.missing.has(body_hash(TEXTS[5]))


def test_places_of_unneeded_bodies_are_forgotten_when_the_disk_may_be_older() -> None:
    """A message that comes later may have such a body again. It was taken to be there, and counted,
    though the disk had it no more."""
    machinery = Machinery()
    machinery.save(TEXTS)
    replica = machinery.replica
    request = encode_request(
        b"client of tests!",
        len(TEXTS) + 1,
        len(TEXTS),
        c.Expunge("a", "INBOX", UidSet.parse("1")),
    )
    replica.submit(machinery.now, request, [], lambda answer: None)
    for _ in range(100):
        machinery.turn()
    assert replica.blobs.has(body_hash(TEXTS[0]))
    machinery.close()
    machinery.index.ordered = Repairs(bodies=True)
    replica = machinery.open(ordered=True)
    assert not replica.blobs.has(body_hash(TEXTS[0]))
    assert all(replica.blobs.has(body_hash(text)) for text in TEXTS[1:])
    assert replica.is_whole


def follower_with_an_entry(text: str) -> Machinery:
    """One of three replicas, which a leader gave an entry that it does not know to be committed."""
    machinery = Machinery(members=3)
    replica = machinery.replica
    replica.connected(machinery.now, "n2")
    body = text.encode()
    replica.receive(machinery.now, "n2", FrameKind.BLOB, body_hash(text) + body)
    entry = entry_of((b"client of tests!", 1, 1, save(message(text))))
    last = replica.group.last_index
    fields = [0, 0, last, replica.group.journal.term_of(last), [9], [REGULAR + entry]]
    append = m.header(m.Kind.APPEND, 1, 2, 1, 9) + m.encode_fields(fields)
    replica.receive(machinery.now, "n2", FrameKind.RAFT, append)
    assert replica.group.last_index == last + 1
    for _ in range(12):
        machinery.turn()
    machinery.close()
    return machinery


def test_an_entry_whose_body_may_never_have_been_here_is_acknowledged_only_with_it() -> None:
    """Index and body go at once: whether the entry was acknowledged before nobody can tell, so it
    is kept, and does not count."""
    text = "a text that a loss of power takes"
    machinery = follower_with_an_entry(text)
    machinery.rot(text)
    for lost in (True, False):  # and a restart does not forget it
        replica = machinery.open(index_lost=lost, members=3)
        last = replica.group.last_index
        assert replica.group.engine.held_index() == last - 1
        for _ in range(60):
            machinery.turn()
        assert not replica.group.is_leader and replica.group.last_index == last
        assert replica.group.engine.held_index() == last - 1
        if lost:
            machinery.close()
    replica.receive(machinery.now, "n2", FrameKind.BLOB, body_hash(text) + text.encode())
    replica.step(machinery.now)
    assert replica.group.engine.held_index() == last - 1, "the body is not on the disk yet"
    for _ in range(20):
        machinery.turn()
    assert replica.group.engine.held_index() == last


def test_an_entry_whose_body_was_in_a_segment_that_is_gone_is_acknowledged_only_with_it() -> None:
    text = "a text in a file that somebody removes"
    machinery = follower_with_an_entry(text)
    for name in machinery.disk.listdir("blobs"):
        machinery.disk.remove(f"blobs/{name}")
    machinery.disk.sync_folder("blobs")
    replica = machinery.open(members=3)
    last = replica.group.last_index
    assert replica.group.engine.held_index() == last - 1
    replica.receive(machinery.now, "n2", FrameKind.BLOB, body_hash(text) + text.encode())
    for _ in range(20):
        machinery.turn()
    assert replica.group.engine.held_index() == last


def test_an_entry_whose_body_is_found_damaged_when_it_is_asked_for_counts_no_more() -> None:
    """Else a master would go on to lead with an entry that nobody can take from it, and nothing
    would ever be committed again."""
    text = "a text that rots before others have it"
    machinery = follower_with_an_entry(text)
    replica = machinery.open(members=3)
    last = replica.group.last_index
    assert replica.group.engine.held_index() == last
    replica.receive(machinery.now, "n3", FrameKind.WANT, body_hash(text))
    assert replica.group.engine.held_index() == last
    machinery.rot(text)
    replica.receive(machinery.now, "n3", FrameKind.WANT, body_hash(text))
    assert replica.group.engine.held_index() == last - 1
    replica.receive(machinery.now, "n2", FrameKind.BLOB, body_hash(text) + text.encode())
    for _ in range(20):
        machinery.turn()
    assert replica.group.engine.held_index() == last


def test_a_committed_entry_is_not_cut_off_for_a_body_that_rotted_before_its_place_was_known() -> (
    None
):
    """The body lies behind what the index has on the disk, where a loss of power may have torn
    things.

    But the log says that more than this replica had it. It may be one of two that have the entry,
    and the other may be away.
    """
    machinery = Machinery()
    machinery.save(TEXTS)
    last = machinery.replica.group.last_index
    replica = machinery.replica
    replica.group.journal.abandon()  # as a kill does: the index is behind
    replica.blobs.abandon()
    machinery.engine.power_loss()
    machinery.rot(TEXTS[-3])
    replica = machinery.open()
    assert replica.group.last_index == last
    for _ in range(40):
        machinery.turn()
    assert replica.group.applied_index >= last
    assert replica.recovery.manager.lost() == [body_hash(TEXTS[-3])]  # there is nobody to ask


def withholding(text: str) -> Machinery:
    """One of three replicas, which lost its index and the body of its last entry, and asked for it
    when nobody was there."""
    machinery = follower_with_an_entry(text)
    machinery.rot(text)
    machinery.open(index_lost=True, members=3)
    for _ in range(100):
        machinery.turn()
    machinery.replica.connected(machinery.now, "n2")
    return machinery


def test_a_body_for_which_an_entry_is_withheld_is_asked_for_until_it_comes() -> None:
    text = "a text that nobody could give at first"
    machinery = withholding(text)
    replica = machinery.replica
    asked = []
    for _ in range(60):
        machinery.now += 0.1
        replica.tick(machinery.now)
        replica.step(machinery.now)
        asked += [f for f in replica.take_frames() if f[1] == FrameKind.WANT]
    assert asked and all(body_hash(text) in parts[0] for _, _, parts in asked)


def test_an_entry_is_withheld_no_more_when_no_message_has_its_body_any_more() -> None:
    text = "a text that is expunged later"
    machinery = withholding(text)
    replica = machinery.replica
    last = replica.group.last_index
    assert replica.group.engine.held_index() == last - 1
    replica.receive(machinery.now, "n2", FrameKind.GONE, (99).to_bytes(8, "big") + body_hash(text))
    machinery.turn()
    assert replica.group.engine.held_index() == last


def test_an_entry_is_withheld_no_more_when_it_was_cut_off() -> None:
    text = "a text that a loss of power takes"
    machinery = follower_with_an_entry(text)
    machinery.rot(text)
    replica = machinery.open(index_lost=True, members=3)
    assert replica.bodies.withheld
    replica.group.forget_from(replica.group.last_index)
    machinery.turn()
    assert not replica.bodies.withheld
    assert replica.group.engine.held_index() == replica.group.last_index


def test_a_replica_whose_log_begins_after_what_its_index_lost_takes_no_part() -> None:
    machinery = Machinery()
    machinery.save(TEXTS)
    journal = machinery.replica.group.journal
    machinery.trim()
    hard, first, last = journal.synced_hard_state, journal.begins_at, journal.last_index
    assert 0 < first < last
    machinery.close()
    replica = machinery.open(index_lost=True, members=3)
    for _ in range(100):
        machinery.turn()
    assert replica.recovery.frozen and not replica.is_whole
    assert replica.group.term == hard[0] and not replica.group.is_leader
    journal = replica.group.journal
    assert (journal.begins_at, journal.last_index) == (first, last)
    assert replica.recovery.manager.at_least >= first
    assert all(replica.blobs.has(body_hash(text)) for text in TEXTS)


def test_what_a_source_must_have_at_least_outlives_a_restart_in_the_middle_of_the_resync() -> None:
    machinery = Machinery()
    machinery.save(TEXTS)
    machinery.trim()
    first = machinery.replica.group.journal.begins_at
    machinery.close()
    replica = machinery.open(index_lost=True, members=3)
    index = replica.machine.index
    Mark("n2", 1, first + 1, 1).write(index)  # as a session that was accepted leaves it
    index.commit(sync=True)
    replica.abandon()
    replica = machinery.open(members=3)
    replica.connected(machinery.now, "n3")
    hellos: list[ResyncHello] = []
    while not hellos:
        machinery.now += 0.05
        replica.tick(machinery.now)
        replica.step(machinery.now)
        for _, kind, parts in replica.take_frames():
            only_asks = kind == FrameKind.RAFT and m.is_of_start(b"".join(parts))
            assert only_asks or kind != FrameKind.RAFT, "it takes no part"
            if kind == FrameKind.SYNC:
                decoder = Decoder(Link("tests", 1, "n1"), session_of(parts[0]), 1 << 20)
                message_ = decoder.feed(parts[0])
                assert message_ is not None and message_[0] == RequestKind.HELLO
                hellos.append(decode_hello(message_[1]))
    assert hellos[0].records and hellos[0].applied_index >= first


def test_a_new_link_ends_the_resync_over_an_older_one_of_whose_end_nothing_was_heard() -> None:
    machinery = Machinery()
    machinery.save(TEXTS)
    machinery.trim()
    machinery.close()
    replica = machinery.open(index_lost=True, members=3)
    replica.connected(machinery.now, "n2")
    sink = replica.recovery.manager.sink
    while not sink.active:
        machinery.turn()
    replica.connected(machinery.now, "n2")
    assert not sink.active, "its request may have been lost with that link"


def test_an_index_that_was_put_back_from_an_old_copy_takes_no_part_either() -> None:
    machinery = Machinery()
    machinery.save(TEXTS[:2])
    machinery.replica.machine.commit()
    machinery.replica.machine.commit()
    old = machinery.engine.snapshot()
    machinery.save(TEXTS[2:])
    journal = machinery.replica.group.journal
    machinery.trim()
    assert journal.begins_at > 6
    machinery.close()
    for name in TABLES:
        table, rows = machinery.engine.table(name), old.table(name).rows
        for key in [*table.rows]:
            table.delete(key)
        table.put_many(sorted(rows.items()))
    machinery.engine.commit()
    replica = machinery.open()
    assert 0 < replica.machine.applied_index < replica.group.journal.begins_at
    assert replica.recovery.frozen


def test_a_disk_that_fills_up_before_the_resync_lets_it_come_from_no_older_source() -> None:
    """The replica would forget what it acknowledged, between where that source stands and where its
    log begins."""
    machinery = Machinery()
    machinery.save(TEXTS)
    machinery.trim()
    begins_at = machinery.replica.group.journal.begins_at
    assert begins_at > 5
    machinery.close()
    replica = machinery.open(index_lost=True, members=3)
    machinery.turn(2.0)
    assert replica.recovery.frozen and replica.recovery.manager.at_least == begins_at
    machinery.engine.fail_put = DiskFull("no space for a row")
    with pytest.raises(DiskFull):
        replica.machine.index.engine.table("meta").put(b"x", b"y")
    replica._note_full(DiskFull("no space for a row"))
    assert replica.group.applied_index == begins_at
    machinery.turn(2.0)
    assert replica.recovery.manager.at_least == begins_at


def test_a_log_that_lost_what_the_index_does_not_have_takes_no_part_until_a_source_has_it() -> None:
    machinery = Machinery()
    machinery.save(TEXTS[:6])
    replica = machinery.replica
    replica.recovery.damaged = True
    for number, text in enumerate(TEXTS[6:]):
        request = encode_request(
            b"client of tests?", number + 1, number, c.Save("a", (message(text),), 1000)
        )
        replica.submit(machinery.now, request, [(body_hash(text), text.encode())], lambda _: None)
        machinery.turn()
    journal = replica.group.journal
    last, hard = journal.last_index, journal.synced_hard_state
    assert journal.synced_index == last > replica.group.applied_index
    journal._cache.drop(len(journal._cache.entries))
    for name in machinery.disk.listdir("journal"):
        machinery.disk.remove(f"journal/{name}")
    machinery.disk.open("journal/0000000000000001.log", create=True)
    assert not replica.mend_journal()
    replica.abandon()
    replica = machinery.open(members=3)
    assert replica.recovery.frozen
    assert (replica.group.journal.begins_at, replica.group.journal.synced_hard_state) == (
        last,
        hard,
    )
    machinery.turn(2.0)
    assert replica.recovery.manager.at_least == last
    for _ in range(100):
        machinery.turn()
    assert replica.group.term == hard[0], "it stands for no election"


def test_a_disk_that_fills_up_is_told_once_and_once_that_there_is_space_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The free space that is known may be a second old, and some writes still fit: yet the operator
    is not told in turns."""

    def told(words: str) -> int:
        return sum(words in record.getMessage() for record in caplog.records)

    caplog.set_level(logging.INFO)
    machinery = Machinery()
    machinery.save(TEXTS)
    replica = machinery.replica
    text = "a long text " * 4000
    machinery.disk.capacity_bytes = machinery.disk.used_bytes() + len(text) // 2
    refused = 0
    for number in range(60):
        request = encode_request(
            b"client of tests?", number + 1, number, c.Save("a", (message(text),), 1000)
        )
        done: list[Executed | Failure] = []
        replica.submit(machinery.now, request, [(body_hash(text), text.encode())], done.append)
        machinery.turn()
        refused += bool(done) and isinstance(done[0], Failure) and done[0].full
    assert refused
    assert (told("writes are refused"), told("there is space again")) == (1, 0)
    machinery.disk.capacity_bytes *= 4
    for _ in range(100):
        machinery.turn()
    machinery.save(["there is space"])
    assert (told("writes are refused"), told("there is space again")) == (1, 1)


def test_a_log_whose_files_are_gone_is_written_anew_from_memory() -> None:
    machinery = Machinery()
    machinery.save(TEXTS)
    replica = machinery.replica
    last, hard = replica.group.last_index, replica.group.journal.synced_hard_state
    for name in machinery.disk.listdir("journal"):
        machinery.disk.remove(f"journal/{name}")
    assert replica.mend_journal()
    replica.abandon()
    machinery.disk.power_off()
    machinery.disk.restart()
    machinery.engine.power_loss()
    replica = machinery.open()
    journal = replica.group.journal
    assert not replica.recovery.frozen
    assert (journal.last_index, journal.synced_hard_state) == (last, hard)
    machinery.save(["one more"])
    assert all(replica.blobs.has(body_hash(text)) for text in TEXTS)


def test_a_replica_that_is_not_whole_tells_of_no_body_that_it_is_gone() -> None:
    machinery = Machinery()
    machinery.save(TEXTS)
    machinery.trim()
    unknown = body_hash("nobody ever saved this")
    replica = machinery.replica
    told = replica.lending.ask(machinery.now, "n2", unknown, replica.group.applied_index)
    assert [frame[1] for frame in told] == [FrameKind.GONE]
    machinery.close()
    replica = machinery.open(index_lost=True, members=2)
    replica.connected(machinery.now, "n2")
    replica.receive(machinery.now, "n2", FrameKind.WANT, unknown)
    assert FrameKind.GONE not in [frame[1] for frame in replica.take_frames()]


def test_a_body_that_the_master_does_not_send_is_asked_of_all() -> None:
    bodies = Machinery().replica.bodies
    wanted = body_hash("somewhere")
    bodies.want(wanted)
    assert [f[0] for f in bodies.wants(0.0, "n2", ("n2", "n3"))] == ["n2"]
    bodies.tick(10.0, 1, waiting=False)
    bodies.want(wanted)
    assert [f[0] for f in bodies.wants(10.0, "n2", ("n2", "n3"))] == ["n2", "n3"]


@pytest.mark.parametrize("tables", [("blobrefs",), ("blobrefs", "clients")])
def test_a_log_whose_files_are_gone_is_written_anew_also_when_the_index_cannot_be_committed(
    tables: tuple[str, ...],
) -> None:
    """Both are on a disk that is a bad one. What the log holds counts, whatever becomes of the
    index."""
    machinery = Machinery()
    machinery.save(TEXTS[:4])
    replica = machinery.replica
    replica.machine.commit()
    for number, text in enumerate(TEXTS[:4]):  # once more, so that records change that are there
        request = encode_request(
            b"client of tests?", number + 1, number, c.Save("a", (message(text),), 1000)
        )
        replica.submit(machinery.now, request, [(body_hash(text), text.encode())], lambda _: None)
    while replica.machine.dirty_requests < 4:
        machinery.turn()
    for name in tables:
        table = machinery.engine.table(name)
        for key, record in list(table.rows.items()):
            table.set(key, record[:-1] + bytes([record[-1] ^ 1]))
    last, hard = replica.group.last_index, replica.group.journal.synced_hard_state
    for name in machinery.disk.listdir("journal"):
        machinery.disk.remove(f"journal/{name}")
    assert replica.mend_journal()
    replica.abandon()
    identity = JournalIdentity(bytes(16), 1, 1)
    journal = Journal.open(machinery.disk, "journal", identity, SMALL, create=False)
    assert (journal.last_index, journal.synced_hard_state) == (last, hard)
