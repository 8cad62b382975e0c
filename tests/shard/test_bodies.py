"""Bodies in the journal and in the blob store: which of them a loss of power may take, and when."""

from __future__ import annotations

import os
from hashlib import sha256
from zlib import crc32

import pytest

from raftmail.consensus.journal import Identity, Journal, JournalLimits
from raftmail.mail.codec import encode_entry
from raftmail.shard.bodies import BadBodies, Bodies, BodyLimits, BodyState, restore_bodies
from raftmail.shard.frames import Frame
from raftmail.shard.lending import Lending
from raftmail.shard.memory import Memory
from raftmail.shard.streams import Streams
from raftmail.storage.blobs import BlobLimits, BlobStore
from raftmail.storage.index import TABLES, Index
from tests.simulation.disk import SimDisk
from tests.simulation.kv import MemoryEngine

IDENTITY = Identity(b"0123456789abcdef", 1, 1)
LIMITS = JournalLimits(segment_bytes_max=4096, prealloc_bytes_min=1024, reserve_bytes=512)


class Kept:
    """A journal, a blob store and the bodies in them, on a disk whose power can be cut."""

    def __init__(self) -> None:
        self.disk = SimDisk()
        self.engine = MemoryEngine(TABLES)
        self.open(create=True)

    def open(self, *, create: bool = False) -> None:
        self.index = Index(self.engine)
        self.journal = Journal.open(self.disk, "journal", IDENTITY, LIMITS, create=create)
        self.store = BlobStore.open(self.disk, "blobs", self.index, BlobLimits(free_bytes_min=0))
        restore_bodies(self.journal, self.store)
        self.bodies = Bodies(self.store, self.index, BodyLimits(journal_bytes_max=1000))
        self.bodies.journal = self.journal

    def ask(self, payload: bytes, applied_index: int) -> list[Frame]:
        """As "n2" does."""
        streams = Streams(print, print, print, Memory(), 1.0, 1.0)
        return Lending(self.bodies, streams).ask(0.0, "n2", payload, applied_index)

    def add(self, size: int) -> bytes:
        body = os.urandom(size)
        digest = sha256(body).digest()
        assert self.bodies.add(digest, body)
        return digest

    def sync_journal(self) -> None:
        job = self.journal.begin_sync()
        assert job is not None
        job.run()
        self.journal.end_sync(job)

    def lose_power(self) -> None:
        self.disk.power_off()
        self.disk.restart()
        self.engine.power_loss(lucky=False)
        self.open()


def test_a_short_body_is_safe_with_the_sync_of_the_journal_alone() -> None:
    kept = Kept()
    one = kept.add(900)
    assert not kept.store.pressing()
    kept.sync_journal()
    assert not kept.store.durable(one)
    kept.lose_power()
    assert len(kept.store.get(one)) == 900
    assert kept.store.durable(one)


def test_what_an_entry_lacks_is_missing_also_when_the_log_is_cut_behind_it() -> None:
    kept = Kept()
    committed, never_acknowledged = sha256(b"one").digest(), sha256(b"two").digest()
    log = [
        (7, 1, entry_naming(committed)),
        (8, 1, entry_naming(never_acknowledged)),
        (9, 1, entry_naming(committed)),
    ]
    assert kept.bodies.pin_log(log, 7, 0, may_cut=True) == 8
    assert kept.bodies.missing == kept.bodies.unheld == {committed}
    assert kept.bodies.take_unheld(log[0][2]) == [committed]
    assert kept.bodies.state_of(never_acknowledged) is BodyState.ABSENT


def test_an_entry_that_may_have_been_acknowledged_since_the_start_is_withheld_and_not_cut() -> None:
    kept = Kept()
    lost = sha256(b"found to be damaged since").digest()
    assert kept.bodies.pin_log([(8, 1, entry_naming(lost))], 7, 0, may_cut=False) == 0
    assert list(kept.bodies.withheld) == [8]


def test_a_long_body_presses_for_a_sync_of_the_store() -> None:
    kept = Kept()
    kept.add(1001)
    assert kept.store.pressing()
    job = kept.store.begin_sync()
    assert job is not None
    assert not kept.store.pressing()
    assert not list(kept.journal.bodies())


def test_the_journal_keeps_a_body_until_the_store_has_it_on_the_disk() -> None:
    kept = Kept()
    first = kept.add(900)
    kept.sync_journal()
    job = kept.bodies.begin_sync(1.0)
    assert job is not None
    second = kept.add(901)  # not in the sync that is under way
    for index in range(1, 30):
        kept.journal.add(bytes(900), index, 1)
        kept.sync_journal()
    kept.journal.trim(29)
    assert kept.journal.first_index <= 1
    job()
    kept.bodies.end_sync()
    kept.journal.trim(29)
    kept.lose_power()
    assert len(kept.store.get(first)) == 900
    assert len(kept.store.get(second)) == 901
    kept.journal.trim(29)
    assert kept.journal.first_index > 20


def test_a_journal_tells_whether_bodies_are_not_on_the_disk() -> None:
    kept = Kept()
    kept.add(900)
    assert kept.journal.has_unsynced_bodies
    job = kept.journal.begin_sync()
    assert job is not None
    kept.add(901)
    job.run()
    kept.journal.end_sync(job)
    assert kept.journal.has_unsynced_bodies, "one came after the sync had begun"
    kept.sync_journal()
    assert not kept.journal.has_unsynced_bodies


def test_a_sync_in_the_background_begins_once_in_a_while_and_one_at_a_time() -> None:
    kept = Kept()
    assert kept.bodies.next_deadline() > 1e9, "there is nothing to sync"
    kept.add(10)
    assert kept.bodies.wants_sync(1.0) and kept.bodies.next_deadline() <= 1.0
    job = kept.bodies.begin_sync(1.0)
    assert job is not None and kept.bodies.syncing
    kept.add(11)
    assert kept.bodies.begin_sync(9.0) is None and not kept.bodies.wants_sync(9.0)
    assert kept.bodies.next_deadline() > 1e9, "its end tells"
    job()
    kept.bodies.end_sync()
    assert kept.bodies.begin_sync(1.1) is None and not kept.bodies.wants_sync(1.1)
    again_at = 1.0 + kept.bodies.limits.sync_s
    assert kept.bodies.next_deadline() == again_at
    assert kept.bodies.begin_sync(again_at) is not None


def test_a_log_that_keeps_bodies_is_not_begun_anew() -> None:
    kept = Kept()
    kept.add(10)
    with pytest.raises(RuntimeError, match="bodies"):
        kept.journal.reset(5, 1)
    kept.bodies.sync_now()
    kept.journal.reset(5, 1)
    assert kept.journal.first_index == 5


def test_a_body_whose_bytes_are_not_those_of_its_hash_is_not_restored() -> None:
    kept = Kept()
    body = b"another body"
    kept.journal.add_body(bytes(32), body, crc32(body))
    kept.sync_journal()
    kept.lose_power()
    assert not kept.store.has(bytes(32))


@pytest.mark.parametrize("size", [0, 1, 900, 5000])
def test_a_body_from_a_peer_that_does_not_have_its_hash_is_refused_and_not_stored(
    size: int,
) -> None:
    kept = Kept()
    body = os.urandom(size)
    digest = sha256(body).digest()
    kept.bodies.missing.add(digest)
    for sent in (
        digest + body + b"x",
        digest + body[:-1] if size else digest + b"x",
        bytes(32) + body,
        digest[:31],
        b"",
        digest[:31] + bytes([digest[31] ^ 1]) + body,
        digest + body[:-1] + bytes([body[-1] ^ 1]) if size else digest + b"y",
    ):
        with pytest.raises(BadBodies):
            kept.bodies.take(sent)
        assert digest in kept.bodies.missing
        assert not kept.store.has(digest) and not kept.store.has(sent[:32])
    assert kept.bodies.take(digest + body) and kept.store.get(digest) == body


def _gone(index: int, *digests: bytes) -> bytes:
    return index.to_bytes(8, "big") + b"".join(digests)


def test_bodies_that_are_gone_are_noted_with_the_index_and_forgotten_once_it_is_applied() -> None:
    kept = Kept()
    lost, other = sha256(b"lost").digest(), sha256(b"other").digest()
    kept.bodies.missing.add(lost)
    assert kept.bodies.note_gone(_gone(40, lost, other)), "nothing else is missing"
    kept.index.commit()
    kept.lose_power()
    assert kept.bodies._gone == {lost: 40}, "only what is waited for, and over a loss of power"
    kept.bodies.tick(1.0, 39, waiting=True)
    assert kept.bodies._gone == {lost: 40}
    kept.bodies.tick(2.0, 40, waiting=True)
    assert kept.bodies._gone == {}


def test_a_replica_whose_index_does_not_tell_says_of_no_body_that_it_is_gone() -> None:
    kept = Kept()
    lost = sha256(b"lost").digest()
    assert kept.ask(lost, 0) == []
    ((node, kind, parts),) = kept.ask(lost, 12)
    assert (node, kind, b"".join(parts)) == ("n2", "GONE", _gone(12, lost))


def test_a_body_that_came_after_a_sync_had_begun_is_not_released_with_it() -> None:
    kept = Kept()
    first = kept.add(900)
    kept.sync_journal()
    kept.journal.mark_bodies()
    kept.journal.roll()
    second = kept.add(901)
    kept.sync_journal()
    kept.journal.release_bodies()
    for index in range(1, 12):
        kept.journal.add(bytes(900), index, 1)
        kept.sync_journal()
    kept.journal.trim(11)
    while (job := kept.journal.begin_sync()) is not None:  # each removes one file
        job.run()
        kept.journal.end_sync(job)
    assert second in dict(kept.journal.bodies()) and first != second
    kept.lose_power()
    assert len(kept.store.get(second)) == 901


def _named_by_an_entry(kept: Kept, body: bytes) -> bytes:
    """An entry waits for a body that is not here."""
    digest = sha256(body).digest()
    assert not kept.bodies.hold(entry_naming(digest), 5)
    return digest


def entry_naming(digest: bytes) -> bytes:
    return encode_entry([b"a request"], [digest])


BODY = b"a body that others have" * 10


def test_a_body_is_to_be_asked_for_then_asked_for_and_then_here() -> None:
    kept = Kept()
    bodies = kept.bodies
    assert bodies.state_of(sha256(BODY).digest()) is BodyState.ABSENT
    digest = _named_by_an_entry(kept, BODY)
    assert bodies.state_of(digest) is BodyState.TO_ASK
    assert [node for node, _, _ in bodies.wants(1.0, "n2", ["n2", "n3"])] == ["n2"]
    assert bodies.state_of(digest) is BodyState.ASKED
    assert bodies.take(digest + BODY), "nothing is missing any more"
    assert bodies.state_of(digest) is BodyState.HERE
    assert bodies.hold(entry_naming(digest), 5)


@pytest.mark.parametrize("waits", [True, False])
def test_a_body_that_does_not_come_is_asked_for_again_of_everybody_while_an_entry_waits(
    waits: bool,
) -> None:
    kept = Kept()
    bodies = kept.bodies
    digest = _named_by_an_entry(kept, BODY)
    bodies.wants(1.0, "n2", ["n2", "n3"])
    bodies.tick(1.0 + bodies.limits.answer_s + 0.1, 4, waiting=waits)
    assert bodies.state_of(digest) is (BodyState.TO_ASK if waits else BodyState.ABSENT)
    bodies.want(digest)
    assert [node for node, _, _ in bodies.wants(9.0, "n2", ["n2", "n3"])] == ["n2", "n3"]


def test_a_body_that_is_gone_keeps_no_entry_waiting_up_to_the_one_that_says_so() -> None:
    kept = Kept()
    bodies = kept.bodies
    digest = _named_by_an_entry(kept, BODY)
    assert bodies.note_gone((8).to_bytes(8, "big") + digest)
    assert bodies.state_of(digest) is bodies.state_of(digest, 8) is BodyState.GONE
    assert bodies.state_of(digest, 9) is BodyState.ABSENT
    assert bodies.hold(entry_naming(digest), 7) and not bodies.hold(entry_naming(digest), 9)
    bodies.tick(2.0, 8, waiting=True)
    assert bodies.state_of(digest) is BodyState.TO_ASK, "entry 9 waits for it"


def test_a_long_body_has_arrived_before_it_is_here_and_is_not_asked_for_meanwhile() -> None:
    kept = Kept()
    bodies = kept.bodies
    digest = sha256(BODY).digest()
    done: list[bool] = []
    assert bodies.take_long(digest, BODY, done.append)
    assert bodies.state_of(digest) is BodyState.ARRIVED
    assert not bodies.hold(entry_naming(digest), 5) and not bodies.asking
    job = bodies.begin_long()
    assert job is not None
    job.run()
    bodies.end_long()
    assert done == [True] and bodies.state_of(digest) is BodyState.HERE
