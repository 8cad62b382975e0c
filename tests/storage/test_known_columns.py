"""Columns that are kept in memory are what the tables have."""

from __future__ import annotations

import random

import pytest

from raftmail.mail import commands as c
from raftmail.mail import queries as q
from raftmail.mail.uidset import STAR, UidSet
from raftmail.shard.machine import Machine
from raftmail.storage import known_columns, messages
from raftmail.storage.column_pool import ColumnPool
from raftmail.storage.index import TABLES, Index, IndexDamaged
from raftmail.storage.kv import KvEngine, Row, scan
from raftmail.storage.records import MailboxRecord
from tests.resync.ends import History, Node, resync
from tests.shard.machines import Feeder, message, new_machine, save
from tests.simulation.kv import MemoryEngine

ALL = UidSet.from_ranges([(1, STAR)])
BOXES = ("INBOX", "Other", "Third")


def in_columns(machine: Machine, name: str, uids: UidSet, limit: int) -> list[object] | None:
    found: list[object] = []
    while True:
        page = machine.query(q.FetchColumns("a", name, uids, True, limit))
        if page is None:
            return None
        assert isinstance(page, q.MessageColumns) and len(page.uids) <= limit
        assert sorted(set(page.flags_of)) == list(range(len(page.flags)))
        flags = [page.flags[place] for place in page.flags_of]
        columns = (page.uids, page.modseqs, page.sizes, page.received_us, flags, page.summaries)
        found += zip(*columns, strict=True)
        if not page.more or not page.uids:
            return found
        uids = uids.part(page.uids[-1] + 1, STAR)


def one_by_one(machine: Machine, name: str, uids: UidSet) -> list[object] | None:
    page = machine.query(q.FetchMessages("a", name, uids, 0, True))
    if page is None:
        return None
    assert isinstance(page, q.MessagePage)
    return [
        (m.uid, m.modseq, m.size_bytes, m.received_us, m.flags, m.summary) for m in page.messages
    ]


def rows_read(machine: Machine, uids: UidSet = ALL) -> int:
    """How many records are read to answer."""
    of_tables, count = machine.index.messages, 0
    read = of_tables.rows

    def counted(mailbox: MailboxRecord, uids: UidSet, limit: int) -> list[Row]:
        nonlocal count
        rows = read(mailbox, uids, limit)
        count += len(rows)
        return rows

    of_tables.rows = counted  # type: ignore[method-assign]
    try:
        assert in_columns(machine, "INBOX", uids, 1000) is not None
    finally:
        of_tables.rows = read  # type: ignore[method-assign]
    return count


def change(feeder: Feeder, rng: random.Random) -> None:
    kind = rng.random()
    name, other = rng.sample(BOXES, 2)
    uid = rng.randrange(1, 60)
    uids = UidSet.from_ranges([(uid, uid + rng.choice((0, 0, 7)))])
    if kind < 0.25:
        texts = ["x" * rng.randrange(9) for _ in range(rng.randrange(1, 9))]
        feeder.do(save(*[message(text, c.Target("a", name, True)) for text in texts]))
    elif kind < 0.5:
        flag = rng.choice(("\\Seen", "\\Deleted", "$one", "Two"))
        mode = rng.choice((c.StoreMode.ADD, c.StoreMode.REMOVE, c.StoreMode.REPLACE))
        feeder.do(c.Store("a", name, uids, mode, (flag,)))
    elif kind < 0.65:
        feeder.do(c.Expunge("a", name, uids))
    elif kind < 0.85:
        target = c.Target("a", other, True)
        feeder.do(c.Copy("a", name, uids, target, 1, move=rng.random() < 0.5))
    elif kind < 0.9:
        feeder.do(c.DeleteMailbox("a", name))
    elif kind < 0.95:
        feeder.do(c.RenameMailbox("a", name, other, 5, rng.randbytes(16)))
    else:
        feeder.do(c.CreateMailbox("a", name, 1, rng.randbytes(16)))


@pytest.mark.parametrize("room", [0, 3000, 1 << 20])
@pytest.mark.parametrize("seed", range(4))
def test_columns_are_the_messages_whatever_was_changed_between(
    seed: int, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_columns, "BLOCK_UIDS", 10)
    monkeypatch.setattr(messages, "BLOCK_UIDS", 10)
    rng = random.Random(seed)
    machine = new_machine()
    pool = ColumnPool(room)
    machine.index.share(pool)
    feeder = Feeder(machine)
    for step in range(250):
        change(feeder, rng)
        if step % 40 == 39:
            if rng.random() < 0.5:
                machine.commit()
            else:
                machine.abort()
                feeder.seq = step * 1000
        for name in rng.sample(BOXES, 2):
            low = rng.randrange(1, 40)
            some = UidSet.from_uids(rng.sample(range(1, 90), rng.randrange(1, 30)))
            uids = rng.choice((ALL, ALL, UidSet.from_ranges([(low, low + 25)]), some))
            limit = rng.choice((1, 7, 1000))
            assert in_columns(machine, name, uids, limit) == one_by_one(machine, name, uids)
        assert pool.used_bytes <= room


def test_what_did_not_change_is_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_columns, "BLOCK_UIDS", 10)
    monkeypatch.setattr(messages, "BLOCK_UIDS", 10)
    machine = new_machine()
    feeder = Feeder(machine)
    feeder.do(save(*[message()] * 35))
    assert rows_read(machine) == 35
    assert rows_read(machine) == 0
    feeder.do(c.Store("a", "INBOX", UidSet.single(12), c.StoreMode.ADD, ("\\Seen",)))
    assert rows_read(machine) == 10, "one block has changed"
    feeder.do(save(message()))
    assert rows_read(machine) == 6
    feeder.do(c.Expunge("a", "INBOX", UidSet.parse("1,40")))
    assert rows_read(machine) == 9


def test_a_block_is_not_read_for_a_few_of_its_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_columns, "BLOCK_UIDS", 100)
    monkeypatch.setattr(messages, "BLOCK_UIDS", 100)
    machine = new_machine()
    Feeder(machine).do(save(*[message()] * 100))
    assert rows_read(machine, UidSet.parse("5:9")) == 5
    assert rows_read(machine, UidSet.parse("5:9")) == 5
    assert rows_read(machine) == 100
    assert rows_read(machine, UidSet.parse("5:9")) == 0


def test_what_was_applied_and_is_lost_by_an_abort_is_not_shown() -> None:
    machine = new_machine()
    feeder = Feeder(machine)
    feeder.do(save(*[message()] * 3))
    machine.commit()
    assert one_by_one(machine, "INBOX", ALL) == in_columns(machine, "INBOX", ALL, 9)
    feeder.do(c.Store("a", "INBOX", ALL, c.StoreMode.ADD, ("\\Seen",)))
    seen = in_columns(machine, "INBOX", ALL, 9)
    machine.abort()
    found = in_columns(machine, "INBOX", ALL, 9)
    assert found == one_by_one(machine, "INBOX", ALL) != seen


def test_a_damaged_record_is_not_kept() -> None:
    machine = new_machine()
    Feeder(machine).do(save(*[message()] * 9))
    machine.index.flush()
    rows = machine.index.engine.table("messages")
    key, record = next(iter(scan(rows)))
    rows.put(key, record[:-1] + bytes((record[-1] ^ 1,)))
    for _ in range(2):
        with pytest.raises(IndexDamaged):
            machine.query(q.FetchColumns("a", "INBOX", ALL))
    rows.put(key, record)
    assert len(in_columns(machine, "INBOX", ALL, 9) or ()) == 9


def test_a_resync_leaves_nothing_of_what_was_kept_before() -> None:
    log = History()
    log.save("INBOX", *[f"m{number}" for number in range(30)])
    giver, target = Node("giver"), Node("target")
    giver.apply(log.entries)
    target.apply(log.entries)
    before = in_columns(target.machine, "INBOX", ALL, 1000)
    log.flag("INBOX", 3, 9, "\\Seen")
    log.expunge("INBOX", 20, 22)
    log.save("INBOX", "later")
    giver.apply(log.entries[1:])
    resync(target, giver)
    after = in_columns(target.machine, "INBOX", ALL, 1000)
    assert after == one_by_one(giver.machine, "INBOX", ALL) != before


def test_replicas_that_share_a_pool_do_not_see_each_others_mail() -> None:
    pool = ColumnPool()

    def opened(engine: KvEngine, texts: int) -> Machine:
        machine = Machine(Index(engine))
        machine.index.share(pool)
        Feeder(machine).do(save(*[message("x" * number) for number in range(texts)]))
        return machine

    first, second = opened(MemoryEngine(TABLES), 4), opened(MemoryEngine(TABLES), 7)
    for machine in (first, second, first):
        assert in_columns(machine, "INBOX", ALL, 9) == one_by_one(machine, "INBOX", ALL)
    aside = opened(MemoryEngine(TABLES), 2)
    assert in_columns(aside, "INBOX", ALL, 9) == one_by_one(aside, "INBOX", ALL)


def test_mailboxes_that_are_kept_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_columns, "KEPT_MAILBOXES_MAX", 2)
    machine = new_machine()
    feeder = Feeder(machine)
    for name in BOXES:
        feeder.do(save(message("x", c.Target("a", name, True))))
    for name in (*BOXES, *BOXES):
        assert in_columns(machine, name, ALL, 9) == one_by_one(machine, name, ALL)
        assert len(machine.index.messages.kept) <= 2
