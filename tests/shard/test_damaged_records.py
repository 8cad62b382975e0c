"""A record of the index that rots under a running replica: what comes across it asks others for it,
and nothing stops."""

from __future__ import annotations

from dataclasses import replace

import pytest

from raftmail.consensus.group import Group
from raftmail.mail import commands as c
from raftmail.mail.codec import encode_request
from raftmail.mail.uidset import UidSet
from raftmail.resync.missing import Missing
from raftmail.resync.state import RESYNC_KEYS, Suspects
from raftmail.shard import index_recovery
from raftmail.shard.catch_up import CatchUp
from raftmail.shard.status import Capability
from raftmail.storage.blobs import BlobLimits
from raftmail.storage.disk import DiskFull
from raftmail.storage.index import TABLES, Index
from raftmail.storage.kv import TableDamaged
from raftmail.storage.records import IndexDamaged
from tests.shard.machines import body_hash, message
from tests.shard.test_index_recovery import TEXTS, Machinery
from tests.simulation.kv import MemoryEngine


def rot(engine: MemoryEngine, table: str) -> bytes:
    """Change a bit of the last record of a table. The record's key."""
    row = engine.table(table).last(b"", None)
    assert row is not None
    key, record = row
    engine.table(table).set(key, record[:-1] + bytes((record[-1] ^ 1,)))
    return key


def do(machinery: Machinery, seq: int, command: c.Command) -> None:
    """Have the client whose command number `seq` this is, and whose earlier ones are answered, ask
    for something more."""
    request = encode_request(b"client of tests!", seq, seq - 1, command)
    machinery.replica.submit(machinery.now, request, [], lambda answer: None)
    for _ in range(100):
        machinery.turn()


class Small(Machinery):
    """Its segments of bodies are soon full, and given back as soon as a tenth of one is dead."""

    blob_limits = BlobLimits(
        segment_bytes_max=2 << 10,
        alloc_bytes_min=1 << 10,
        alloc_bytes_max=2 << 10,
        free_bytes_min=0,
        dead_percent_min=10,
    )


def test_a_damaged_count_of_messages_is_fetched_when_bodies_are_to_be_given_back() -> None:
    texts = [f"text number {n}" * 20 for n in range(20)]
    machinery = Small()
    machinery.save(texts)
    replica = machinery.replica
    odd = UidSet.from_uids(range(1, len(texts), 2))
    do(machinery, len(texts) + 1, c.Expunge("a", "INBOX", odd))
    replica.machine.commit()
    rot(machinery.engine, "blobrefs")
    for _ in range(600):
        machinery.turn(1.0)
        if replica.recovery.damaged:
            return
    raise AssertionError("nobody has looked")


def test_a_deep_reading_that_comes_across_damage_ends_and_says_why() -> None:
    """Else who asks for it would wait for ever: it has no result, and reads nothing more."""
    machinery = Machinery()
    machinery.save(TEXTS)
    replica = machinery.replica
    replica.machine.commit()
    table = machinery.engine.table("blobrefs")
    row = table.last(b"", None)
    assert row is not None
    table.set(row[0][:-1] + bytes((row[0][-1] ^ 1,)), row[1])
    assert replica.mark(deep=True)
    for _ in range(20):
        machinery.turn(0.1)
    assert replica.recovery.damaged
    deep = replica.marks.deep
    assert deep is not None and deep.closed and not deep.reads
    assert "blobrefs" in deep.failed


def test_bodies_are_given_back_also_while_a_resync_finds_no_space_to_begin(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else a full disk would stay full."""

    def no_space(self: CatchUp, now: float, group: Group) -> None:
        raise DiskFull("there is no space")

    texts = [f"text number {n}" * 20 for n in range(20)]
    machinery = Small()
    machinery.save(texts)
    segments = machinery.disk.listdir("blobs")
    do(machinery, len(texts) + 1, c.Expunge("a", "INBOX", UidSet.parse("1:19")))
    monkeypatch.setattr(CatchUp, "tick", no_space)
    while segments[0] in machinery.disk.listdir("blobs"):
        machinery.turn(1.0)
        assert machinery.now < 3600.0


def test_a_damaged_count_of_messages_is_fetched_when_it_changes() -> None:
    machinery = Machinery()
    machinery.save(TEXTS)
    replica = machinery.replica
    replica.machine.commit()
    rotten = rot(machinery.engine, "blobrefs")
    uid = 1 + [body_hash(text) for text in TEXTS].index(rotten)
    do(machinery, len(TEXTS) + 1, c.Expunge("a", "INBOX", UidSet.from_uids([uid])))
    assert replica.recovery.damaged
    replica.close()


def test_a_damaged_count_of_messages_is_fetched_when_the_scrub_has_it_written() -> None:
    """Changes of it that the index holds back are written before the scrub reads."""
    machinery = Machinery()
    machinery.save(TEXTS)
    replica = machinery.replica
    replica.machine.commit()
    rotten = rot(machinery.engine, "blobrefs")
    text = next(text for text in TEXTS if body_hash(text) == rotten)
    request = encode_request(
        b"client of tests!", len(TEXTS) + 1, len(TEXTS), c.Save("a", (message(text),), 1000)
    )
    replica.submit(machinery.now, request, [(rotten, text.encode())], lambda answer: None)
    while not replica.machine.dirty_requests:
        machinery.turn()
    replica.recovery.manager.scrub.again()
    replica.step(machinery.now + 0.9)
    assert replica.recovery.damaged


def test_bodies_of_entries_that_are_to_be_applied_again_are_pinned_when_damage_is_found() -> None:
    """The index went back to before it knew them: without a pin, nothing would tell that they are
    needed."""
    machinery = Machinery()
    machinery.save(TEXTS[:4])
    replica = machinery.replica
    replica.machine.commit()
    machinery.save(TEXTS[:6])
    newest = body_hash(TEXTS[5])
    assert not replica.blobs.is_pinned(newest)
    replica.index_damaged(IndexDamaged("messages", b"of tests"))
    assert replica.blobs.is_pinned(newest) and replica.recovery.damaged


def test_an_index_that_cannot_be_read_again_after_an_abort_is_given_up() -> None:
    engine = MemoryEngine(TABLES)
    index = Index(engine)
    index.clients.use(b"client of tests!")
    index.commit()
    rot(engine, "clients")
    with pytest.raises(TableDamaged, match="clients"):
        index.abort()


def test_a_replica_whose_index_has_to_be_given_up_says_so_with_its_next_step() -> None:
    machinery = Machinery()
    machinery.save(TEXTS[:4])
    replica = machinery.replica
    replica.machine.commit()
    rot(machinery.engine, "clients")
    replica.index_damaged(IndexDamaged("messages", b"of tests"))
    assert replica.needs_turn
    with pytest.raises(TableDamaged):
        replica.step(machinery.now)


def test_what_is_to_be_compared_outlives_an_abort() -> None:
    """Else a replica that found no space goes on asking for records, and nobody would know of
    which."""
    machinery = Machinery()
    machinery.save(TEXTS[:4])
    replica = machinery.replica
    replica.machine.commit()
    replica.recovery.manager.compare([1])
    replica.machine.index.fail("there was no space")
    machinery.turn(1.0)
    machinery.turn(1.0)
    noted = Suspects.read(replica.machine.index)
    assert noted.mailboxes == {1} and replica.recovery.manager.needs_records
    replica.machine.commit()
    replica.recovery.manager.committed()
    replica.machine.abort()
    assert Suspects.read(replica.machine.index).mailboxes == {1}


@pytest.mark.parametrize("table", ["places", "local"])
def test_the_tables_of_a_replicas_own_are_made_again_from_its_files(table: str) -> None:
    machinery = Machinery()
    machinery.save(TEXTS)
    replica = machinery.replica
    replica.bodies.sync_now()
    replica.blobs.place_pending()
    replica.machine.commit()
    rot(machinery.engine, table)
    index = replica.machine.index
    assert f"table {table!r} is damaged" in index_recovery.own_damage(index)
    replica.abandon()
    replica = machinery.open(own_lost=True)
    assert not index_recovery.own_damage(replica.machine.index)
    for _ in range(20):
        machinery.turn()
    for text in TEXTS:
        assert replica.body(body_hash(text)) == text.encode()
    assert replica.is_whole


def test_a_replica_whose_index_cannot_say_what_is_missing_is_not_whole_and_is_opened_anew() -> None:
    machinery = Machinery()
    machinery.save(TEXTS)
    replica = machinery.replica
    assert replica.is_whole and not replica.why_incomplete
    Missing(replica.machine.index).add(bytes(32), 9, 0)
    assert not replica.is_whole and "damaged" not in replica.why_incomplete
    key = b"missing/total"
    table = machinery.engine.table("local")
    record = table.get(key)
    assert record is not None
    table.set(key, record[:-1] + bytes((record[-1] ^ 1,)))
    assert not replica.is_whole
    assert "'local' is damaged" in replica.why_incomplete
    with pytest.raises(IndexDamaged):
        machinery.turn()


def test_what_is_known_of_a_resync_outlives_the_other_rows_of_its_table_or_the_index_is_none() -> (
    None
):
    machinery = Machinery()
    machinery.save(TEXTS)
    index = machinery.replica.machine.index
    Suspects(names=True).write(index)
    index.put_local(b"scrub/at", b"")
    index_recovery.forget_own_tables(index)
    assert Suspects.read(index).names and index.get_local(b"scrub/at") is None
    local = machinery.engine.table("local")
    for key in RESYNC_KEYS:
        if (record := local.get(key)) is not None:
            local.put(key, record[:-1] + bytes((record[-1] ^ 1,)))
    with pytest.raises(IndexDamaged):
        index_recovery.forget_own_tables(index)


@pytest.mark.parametrize("table", ["places", "local"])
def test_damage_of_a_replicas_own_tables_is_raised_with_the_next_step(table: str) -> None:
    machinery = Machinery()
    machinery.save(TEXTS)
    replica = machinery.replica
    replica.index_damaged(IndexDamaged(table, b"key"))
    assert not replica.may(Capability.READ) and not replica.may(Capability.LEAD)
    with pytest.raises(IndexDamaged):
        machinery.turn()


def test_a_damaged_key_of_a_delivery_is_fetched_when_it_is_looked_for() -> None:
    """It is taken neither for a delivery that is known nor for one that is not."""
    machinery = Machinery()
    machinery.save(TEXTS)
    replica = machinery.replica
    key = b"k" * 32
    new = replace(message(TEXTS[0]), delivery_keys=(key,))
    command = c.Save("a", (new,), 1000, (), 60)
    do(machinery, len(TEXTS) + 1, command)
    replica.machine.commit()
    assert replica.machine.index.delivered.find("a", key) is not None
    rot(machinery.engine, "delivered")
    do(machinery, len(TEXTS) + 2, command)
    assert replica.recovery.damaged
    assert Suspects.read(replica.machine.index).others
    replica.close()
