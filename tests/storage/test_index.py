"""The index by itself: formats and identities, durability, the expunge log, and the places of
bodies."""

from __future__ import annotations

import pytest

from raftmail.mail import commands as c
from raftmail.mail import queries as q
from raftmail.mail.uidset import UidSet
from raftmail.shard.machine import OutOfOrder
from raftmail.storage import messages
from raftmail.storage.check import check
from raftmail.storage.disk import DiskError, DiskFull
from raftmail.storage.index import TABLES, Index, IndexFailed, IndexIdentity
from raftmail.storage.mailboxes import name_key
from raftmail.storage.records import IndexDamaged, seal_packed
from tests.shard.machines import Feeder, body_hash, message, new_machine, save
from tests.simulation.kv import MemoryEngine


def test_an_index_opens_only_as_whose_it_is() -> None:
    engine = MemoryEngine(TABLES)
    Index(engine, IndexIdentity("c", 1, "n1")).commit()
    assert Index(engine).identity == IndexIdentity("c", 1, "n1")
    with pytest.raises(IndexFailed, match="n2"):
        Index(engine, IndexIdentity("c", 1, "n2"))


def test_an_index_of_another_format_is_refused() -> None:
    engine = MemoryEngine(TABLES)
    Index(engine).commit()
    engine.table("meta").put(b"format", seal_packed(b"format", 99))
    with pytest.raises(IndexFailed, match="format 99"):
        Index(engine)


def test_what_is_durable_survives_power_loss_and_is_not_overstated() -> None:
    engine = MemoryEngine(TABLES)
    machine = new_machine(engine)
    for index in range(1, 10):
        machine.apply(index, 1, b"")
        machine.commit(sync=index % 3 == 0)
        durable = machine.durable_index
        assert durable == (index if index % 3 == 0 else index - 1)
    engine.power_loss()
    assert Index(engine).applied_index == durable


def test_nothing_is_committed_after_a_failure_before_an_abort() -> None:
    engine = MemoryEngine(TABLES)
    machine = new_machine(engine)
    feeder = Feeder(machine)
    feeder.do(save())
    machine.commit()
    engine.fail_commit = DiskFull("no space")
    feeder.do(save())
    with pytest.raises(DiskFull):
        machine.commit()
    with pytest.raises(IndexFailed, match="no space"):
        machine.commit()
    machine.abort()
    assert machine.applied_index == 1
    assert check(machine.index) == []


def test_an_apply_that_fails_half_way_leaves_no_trace_after_an_abort() -> None:
    engine = MemoryEngine(TABLES)
    machine = new_machine(engine)
    feeder = Feeder(machine)
    feeder.do(save())
    machine.commit()
    before = machine.index.digest()
    engine.fail_put = DiskFull("no space")
    with pytest.raises(DiskFull):
        feeder.do(c.Expunge("a", "INBOX", UidSet.single(1)))
        machine.index.flush()
    machine.abort()
    assert machine.index.digest() == before


def test_what_a_read_could_not_write_is_not_passed_over() -> None:
    """A read settles what was held back: when there is no space for it, nobody goes on without
    it."""
    engine = MemoryEngine(TABLES)
    machine = new_machine(engine)
    feeder = Feeder(machine)
    feeder.do(save())
    machine.commit()
    feeder.do(c.Store("a", "INBOX", UidSet.single(1), c.StoreMode.ADD, ("\\Deleted",), -1))
    engine.fail_put = DiskFull("no space")
    with pytest.raises(DiskFull):
        machine.index.references(bytes(32))
    assert "no space" in machine.index.failed
    with pytest.raises(OutOfOrder, match="no space"):
        feeder.do(c.Expunge("a", "INBOX", UidSet.single(1), only_deleted=True))
    with pytest.raises(IndexFailed, match="no space"):
        machine.query(q.GetMailbox("a", "INBOX"))
    with pytest.raises(IndexFailed, match="no space"):
        machine.commit()
    machine.abort()
    assert machine.index.failed == ""
    assert machine.applied_index == 1
    assert check(machine.index) == []


def test_places_and_local_values_are_kept_and_are_in_no_digest() -> None:
    engine = MemoryEngine(TABLES)
    index = Index(engine)
    before = index.digest()
    index.put_places([(bytes(32), b"place")])
    index.put_local(b"checkpoint", b"here")
    assert index.digest() == before
    index.commit_durable()
    engine.power_loss()
    index = Index(engine)
    assert index.get_place(bytes(32)) == b"place"
    assert index.get_local(b"checkpoint") == b"here"
    index.delete_place(bytes(32))
    assert index.get_place(bytes(32)) is None
    assert index.get_local(b"other") is None


def test_how_many_messages_have_a_body_can_be_told() -> None:
    machine = new_machine()
    feeder = Feeder(machine)
    feeder.do(save(message("one"), message("two"), message("one")))
    assert machine.index.references(body_hash("one")) == 2
    assert machine.index.references(body_hash("three")) == 0


def test_the_expunge_log_is_bounded_and_never_tells_too_little(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(messages, "EXPUNGE_ROWS_MAX", 8)
    monkeypatch.setattr(messages, "EXPUNGE_RANGES_MAX", 6)
    machine = new_machine()
    feeder = Feeder(machine)
    feeder.do(save(*[message()] * 80))
    left: list[tuple[int, int]] = []
    for uid in range(1, 70, 2):
        result = feeder.do(c.Expunge("a", "INBOX", UidSet.single(uid)))
        left.append((result.highestmodseq, uid))  # type: ignore[union-attr]
        assert machine.index.engine.table("expunges").count() <= 8
        exact = 0
        for since in range(left[-1][0] + 1):
            told = machine.query(q.FetchVanished("a", "INBOX", since))
            assert isinstance(told, UidSet)
            vanished = {uid for modseq, uid in left if modseq > since}
            assert vanished <= set(told) <= {uid for _, uid in left}
            exact += vanished == set(told)
        assert exact >= min(len(left), 4)
    info = machine.query(q.GetMailbox("a", "INBOX"))
    assert isinstance(info, q.MailboxInfo)
    mailbox = machine.index.mailboxes.get(info.number)
    assert mailbox is not None
    assert mailbox.expunge_floor > 0
    assert check(machine.index) == []


def test_names_longer_than_a_key_can_be_are_told_apart() -> None:
    machine = new_machine()
    feeder = Feeder(machine)
    stem = "/".join(["x" * 200] * 4)
    feeder.do(c.CreateMailbox("a", stem + "/1", 1, bytes(16)))
    feeder.do(c.CreateMailbox("a", stem + "/2", 1, bytes(16)))
    assert len(name_key("a", stem + "/1")) <= 511
    feeder.do(c.RenameMailbox("a", "x" * 200, "y", 1, bytes(16)))
    infos = machine.query(q.ListMailboxes("a"))
    assert isinstance(infos, tuple)
    rest = "/".join(["x" * 200] * 3)
    assert [info.name for info in infos][-2:] == [  # type: ignore[union-attr]
        f"y/{rest}/1",
        f"y/{rest}/2",
    ]
    assert check(machine.index) == []


def test_damage_found_while_applying_stops_the_apply_until_an_abort() -> None:
    engine = MemoryEngine(TABLES)
    machine = new_machine(engine)
    feeder = Feeder(machine)
    feeder.do(save())
    machine.commit()
    key, record = engine.table("messages").page(b"", None)[0]
    engine.table("messages").put(key, record[:-1] + bytes([record[-1] ^ 1]))
    engine.commit()
    store = c.Store("a", "INBOX", UidSet.single(1), c.StoreMode.ADD, ("\\Seen",))
    with pytest.raises(IndexDamaged, match="messages"):
        feeder.do(store)
    with pytest.raises(DiskError, match="abort"):
        machine.commit()
    machine.abort()
    assert machine.applied_index == 1


def test_what_a_killed_process_committed_last_is_durable_once_the_index_is_open_again() -> None:
    """Found by the simulator: the log was trimmed by it, and a loss of power took the index back to
    before where the log began."""
    engine = MemoryEngine(TABLES)
    index = Index(engine)
    index.applied_index = 7
    index.commit(sync=False)
    engine.abort()
    durable = Index(engine).durable_index
    engine.power_loss()
    assert Index(engine).applied_index == durable == 7
