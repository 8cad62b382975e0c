"""Columns say of messages what their records say one by one."""

from __future__ import annotations

import random

import pytest

from raftmail.mail import commands as c
from raftmail.mail import queries as q
from raftmail.mail.uidset import STAR, UidSet
from raftmail.shard.machine import Machine
from raftmail.storage.records import IndexDamaged
from tests.shard.machines import Feeder, message, new_machine, save

ALL = UidSet.from_ranges([(1, STAR)])


def filled(rng: random.Random) -> Machine:
    machine = new_machine()
    feeder = Feeder(machine)
    for count in range(60):
        feeder.do(save(message("x" * count, summary=b"summary %d" % count)))
    for _ in range(30):
        uid = rng.randrange(1, 60)
        feeder.do(c.Expunge("a", "INBOX", UidSet.from_ranges([(uid, uid + rng.randrange(2))])))
        uids = UidSet.from_uids(rng.randrange(1, 61) for _ in range(3))
        flags = (rng.choice(("\\Seen", "\\Deleted", "$one", "Two")),)
        feeder.do(c.Store("a", "INBOX", uids, c.StoreMode.ADD, flags))
    return machine


def one_by_one(machine: Machine, uids: UidSet) -> list[tuple[object, ...]]:
    page = machine.query(q.FetchMessages("a", "INBOX", uids, 0, True))
    assert isinstance(page, q.MessagePage)
    return [
        (m.uid, m.modseq, m.size_bytes, m.received_us, m.flags, m.summary) for m in page.messages
    ]


def in_columns(machine: Machine, uids: UidSet, limit: int) -> list[tuple[object, ...]]:
    found: list[tuple[object, ...]] = []
    while uids:
        page = machine.query(q.FetchColumns("a", "INBOX", uids, True, limit))
        assert isinstance(page, q.MessageColumns) and len(page.uids) <= limit
        flags = [page.flags[place] for place in page.flags_of]
        columns = (page.uids, page.modseqs, page.sizes, page.received_us, flags, page.summaries)
        found += zip(*columns, strict=True)
        if not page.more:
            break
        uids = uids.part(page.uids[-1] + 1, STAR)
    return found


@pytest.mark.parametrize("seed", range(5))
def test_columns_have_what_the_messages_have(seed: int) -> None:
    rng = random.Random(seed)
    machine = filled(rng)
    sets = [ALL, UidSet(), UidSet.parse("7:*"), UidSet.parse("70:80"), UidSet.parse("1,59")]
    sets += [UidSet.from_uids(rng.sample(range(1, 70), rng.randrange(1, 30))) for _ in range(20)]
    for uids in sets:
        for limit in (1, 7, 1000):
            assert in_columns(machine, uids, limit) == one_by_one(machine, uids)
        machine.index.flush()


@pytest.mark.parametrize("table", ["messages", "summaries"])
def test_a_damaged_row_is_told(table: str) -> None:
    machine = filled(random.Random(1))
    machine.index.flush()
    rows = machine.index.engine.table(table)
    key, value = rows.page(b"", None)[3]
    rows.put(key, bytes((value[0] ^ 1,)) + value[1:])
    with pytest.raises(IndexDamaged) as e:
        machine.query(q.FetchColumns("a", "INBOX", ALL, True))
    assert e.value.key == key and e.value.table == table


def test_a_row_under_the_key_of_another_is_told() -> None:
    machine = filled(random.Random(1))
    machine.index.flush()
    rows = machine.index.engine.table("messages")
    (key, _), (_, value) = rows.page(b"", None)[3:5]
    rows.put(key, value)
    with pytest.raises(IndexDamaged) as e:
        machine.query(q.FetchColumns("a", "INBOX", ALL))
    assert e.value.key == key
