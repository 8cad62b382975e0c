"""The table of dates: exact, summed up, and absent where a release did not know it."""

from __future__ import annotations

from pathlib import Path

import lmdb
import pytest

from raftmail.storage import dates
from raftmail.storage.dates import Dates, MessageDates, dates_to_keep
from raftmail.storage.index import TABLES, Index, IndexIdentity
from raftmail.storage.kv import LmdbEngine
from raftmail.storage.records import MESSAGE_KEY, IndexDamaged, seal, seal_packed
from tests.simulation.kv import MemoryEngine

KEYS = [MESSAGE_KEY.pack(2, uid) for uid in range(1, 6)]
NEAR, FAR = MessageDates(-480, 5), MessageDates(0, 2**60)


def _filled() -> tuple[MemoryEngine, Dates]:
    engine = MemoryEngine(TABLES)
    table = Dates(engine)
    table.put(KEYS[0], NEAR)
    table.put(KEYS[3], FAR)
    table.flush()
    return engine, table


def test_dates_are_found_by_message_one_by_one_and_together() -> None:
    _, table = _filled()
    assert [table.get(key) for key in KEYS] == [NEAR, None, None, FAR, None]
    assert table.of([(key, b"") for key in KEYS]) == {KEYS[0]: NEAR, KEYS[3]: FAR}
    assert table.of([(KEYS[1], b""), (KEYS[2], b"")]) == {}
    far = MESSAGE_KEY.pack(2, 90_000)
    assert table.of([(KEYS[0], b""), (far, b"")]) == {KEYS[0]: NEAR}


def test_the_usual_needs_no_row() -> None:
    assert dates_to_keep(7, 0, None) is None
    assert dates_to_keep(7, 0, 7) is None
    assert dates_to_keep(7, 60, None) == MessageDates(60, 7)
    assert dates_to_keep(7, 0, 9) == MessageDates(0, 9)


def test_what_is_removed_is_gone_and_the_sum_goes_back() -> None:
    engine, table = _filled()
    before = engine.table(dates.TABLE).get(dates.STATE)
    table.put(KEYS[1], NEAR)
    table.flush()
    assert engine.table(dates.TABLE).get(dates.STATE) != before
    table.remove(KEYS[1])
    table.remove(KEYS[2])
    table.flush()
    assert engine.table(dates.TABLE).get(dates.STATE) == before
    assert len(Dates(engine)) == 2


@pytest.mark.parametrize(
    ("key", "record", "said"),
    [
        (KEYS[0], seal(KEYS[0], bytes(11)), "no dates of a message"),
        (KEYS[0], b"rotten", "checksum"),
        (b"short", seal(b"short", b"\x01" + bytes(10)), "no dates of a message"),
        (dates.STATE, seal_packed(dates.STATE, (-1, b"")), "count and a digest"),
        (dates.STATE, seal_packed(dates.STATE, 5), "count and a digest"),
    ],
)
def test_a_row_that_is_none_is_damage(key: bytes, record: bytes, said: str) -> None:
    with pytest.raises(IndexDamaged, match=said):
        dates.check_row(key, record)


def test_fsck_tells_of_a_row_too_many_or_too_few_and_of_one_without_a_message() -> None:
    engine, _ = _filled()
    messages = engine.table("messages")
    for key in KEYS:
        messages.put(key, b"")
    assert list(dates.check(engine)) == []
    messages.delete(KEYS[3])
    assert [problem.key for problem in dates.check(engine)] == [KEYS[3]]
    messages.put(KEYS[3], b"")
    engine.table(dates.TABLE).delete(KEYS[0])
    assert [problem.key for problem in dates.check(engine)] == [dates.STATE]


def test_an_index_of_a_release_that_had_no_dates_opens_and_its_digest_is_the_same(
    tmp_path: Path,
) -> None:
    known = [name for name in TABLES if name != dates.TABLE]
    engine = LmdbEngine(tmp_path / "index", TABLES)
    index = Index(engine, IndexIdentity("c", 1, "1"))
    index.new_mailbox("a", "INBOX", bytes(16), 1, "")
    digest = index.digest()
    index.commit()
    index.close()
    _drop(tmp_path / "index", dates.TABLE)
    older = LmdbEngine(tmp_path / "index", known)
    older.commit(True)
    older.close()
    index = Index(LmdbEngine(tmp_path / "index", TABLES))
    assert index.digest() == digest
    mailbox = index.mailboxes.named("a", "INBOX")
    assert mailbox is not None
    index.messages.dates.put(MESSAGE_KEY.pack(mailbox.number, 1), NEAR)
    assert index.digest() != digest
    index.close()


def _drop(folder: Path, name: str) -> None:
    env = lmdb.open(str(folder), max_dbs=len(TABLES), map_size=1 << 26)
    with env.begin(write=True) as txn:
        txn.drop(env.open_db(name.encode(), txn=txn), delete=True)
    env.close()
