"""Which UIDs a mailbox has, told by the expunge log or by its messages."""

from __future__ import annotations

import random

import pytest

from raftmail.mail import commands as c
from raftmail.mail import queries as q
from raftmail.mail.uidset import UidSet
from raftmail.shard.machine import Machine
from raftmail.storage import known_uids, messages
from raftmail.storage.kv import scan
from raftmail.storage.records import MESSAGE_KEY
from tests.shard.machines import Feeder, message, new_machine, save

INBOX = q.FetchContents("a", "INBOX")


def contents(machine: Machine) -> q.MailboxContents:
    """Asked for until it is whole."""
    for _ in range(100):
        found = machine.query(INBOX)
        assert isinstance(found, q.MailboxContents)
        if found.whole:
            return found
    raise AssertionError("it never becomes whole")


def there_are(machine: Machine, number: int) -> list[int]:
    machine.index.flush()
    keys = [MESSAGE_KEY.unpack(key) for key, _ in scan(machine.index.engine.table("messages"))]
    return [uid for mailbox, uid in keys if mailbox == number]


def change(feeder: Feeder, rng: random.Random) -> None:
    kind = rng.random()
    uid = rng.randrange(1, 120)
    uids = UidSet.from_ranges([(uid, uid + rng.choice((0, 0, 5)))])
    if kind < 0.3:
        feeder.do(save(*[message()] * rng.randrange(1, 6)))
    elif kind < 0.7:
        feeder.do(c.Expunge("a", "INBOX", uids))
    elif kind < 0.8:
        feeder.do(c.Store("a", "INBOX", uids, c.StoreMode.ADD, ("\\Seen",)))
    elif kind < 0.9:
        feeder.do(c.Copy("a", "INBOX", uids, c.Target("a", "Other"), 1, move=True))
    else:
        feeder.do(c.Copy("a", "Other", uids, c.Target("a", "INBOX"), 1, move=True))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("log_is_cut", [False, True])
def test_the_uids_are_those_of_the_messages(
    seed: int, log_is_cut: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if log_is_cut:
        monkeypatch.setattr(messages, "EXPUNGE_ROWS_MAX", 4)
        monkeypatch.setattr(messages, "EXPUNGE_RANGES_MAX", 2)
        monkeypatch.setattr(known_uids, "READ_ROWS", 7)
    rng = random.Random(seed)
    machine = new_machine()
    feeder = Feeder(machine)
    feeder.do(save(*[message()] * 40))
    feeder.do(c.CreateMailbox("a", "Other", 1, bytes(16)))
    for _ in range(150):
        change(feeder, rng)
        if rng.random() < 0.5:
            found = contents(machine)
            assert list(found.uids) == there_are(machine, found.mailbox.number)
    mailbox = machine.index.mailboxes.named("a", "INBOX")
    assert mailbox is not None and (mailbox.expunge_floor > 0) == log_is_cut


def test_a_mailbox_whose_log_tells_all_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = new_machine()
    feeder = Feeder(machine)
    feeder.do(save(*[message(flags=("\\Seen",))] * 50))
    feeder.do(c.Expunge("a", "INBOX", UidSet.parse("3:5,50")))
    machine.index.flush()
    monkeypatch.setattr(machine.index.messages.records, "page", None)
    assert contents(machine).uids.format() == "1:2,6:49"


def test_what_changes_while_a_mailbox_is_read_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "EXPUNGE_ROWS_MAX", 4)
    monkeypatch.setattr(messages, "EXPUNGE_RANGES_MAX", 1)
    monkeypatch.setattr(known_uids, "READ_ROWS", 10)
    machine = new_machine()
    feeder = Feeder(machine)
    feeder.do(save(*[message()] * 35))
    for uid in (2, 4, 6, 8, 10):
        feeder.do(c.Expunge("a", "INBOX", UidSet.single(uid)))
    first = machine.query(INBOX)
    assert isinstance(first, q.MailboxContents) and not first.whole and not first.uids
    feeder.do(c.Expunge("a", "INBOX", UidSet.parse("3,30")))
    feeder.do(save(message()))
    assert contents(machine).uids.format() == "1,5,7,9,11:29,31:36"


def test_a_log_that_does_not_fit_the_messages_is_not_believed() -> None:
    machine = new_machine()
    feeder = Feeder(machine)
    feeder.do(save(*[message()] * 9))
    feeder.do(c.Expunge("a", "INBOX", UidSet.single(4)))
    machine.index.flush()
    table = machine.index.engine.table("expunges")
    for key, _ in list(scan(table)):
        table.delete(key)
    assert contents(machine).uids.format() == "1:3,5:9"


def test_what_was_known_of_a_transaction_goes_with_it() -> None:
    machine = new_machine()
    feeder = Feeder(machine)
    feeder.do(save(*[message()] * 3))
    machine.commit()
    feeder.do(save(*[message()] * 3))
    assert contents(machine).uids.format() == "1:6"
    machine.abort()
    assert contents(machine).uids.format() == "1:3"


def test_sets_that_are_kept_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_uids, "KNOWN_RANGES_MAX", 3)
    machine = new_machine()
    feeder = Feeder(machine)
    feeder.do(save(*[message()] * 20))
    for uid in (2, 4, 6, 8, 10):
        feeder.do(c.Expunge("a", "INBOX", UidSet.single(uid)))
    assert contents(machine).uids.format() == "1,3,5,7,9,11:20"
    known = machine.index.known_uids
    assert not known._known and not known._ranges


@pytest.mark.parametrize(
    ("seen", "first"),
    [
        ("1:30", 0),
        ("1:29", 30),
        ("2:30", 1),
        ("1:4,6:30", 5),
        ("1:25,27:30", 26),
        ("1:14,16:30", 0),
    ],
)
def test_the_first_unseen_is_found_near_either_end(
    seen: str, first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_uids, "UNSEEN_ROWS", 6)
    machine = new_machine()
    feeder = Feeder(machine)
    feeder.do(save(*[message()] * 32))
    feeder.do(c.Store("a", "INBOX", UidSet.parse(seen), c.StoreMode.ADD, ("\\Seen",)))
    feeder.do(c.Expunge("a", "INBOX", UidSet.parse("31:32")))
    assert contents(machine).first_unseen == first
