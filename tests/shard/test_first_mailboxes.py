"""The mailboxes that a user begins with."""

from __future__ import annotations

from raftmail.mail import commands as c
from raftmail.mail import queries as q
from tests.shard.machines import Feeder, new_machine

FIRST = (("Sent", "\\Sent"), ("Mail/Junk", "\\Junk"), ("Trash", "\\Trash"))


def make(feeder: Feeder, user: str = "a") -> None:
    feeder.do(c.MakeFirstMailboxes(user, FIRST, 7, bytes(16)))


def listed(feeder: Feeder, user: str = "a") -> list[tuple[str, str, bool]]:
    found = feeder.machine.query(q.ListMailboxes(user))
    assert isinstance(found, tuple)
    return [
        (box.name, box.special_use, box.subscribed)
        for box in found
        if isinstance(box, q.MailboxInfo)
    ]


def test_a_new_user_has_all_of_them_at_once_and_subscribed() -> None:
    feeder = Feeder(new_machine())
    make(feeder)
    assert listed(feeder) == [
        ("INBOX", "", True),
        ("Mail", "", False),
        ("Mail/Junk", "\\Junk", True),
        ("Sent", "\\Sent", True),
        ("Trash", "\\Trash", True),
    ]
    guids = [box.guid for box in feeder.machine.query(q.ListMailboxes("a"))]  # type: ignore[union-attr]
    assert len(set(guids)) == len(guids)


def test_what_a_user_deleted_does_not_come_back() -> None:
    feeder = Feeder(new_machine())
    make(feeder)
    feeder.do(c.DeleteMailbox("a", "Sent"))
    feeder.do(c.Subscribe("a", "Trash", False))
    make(feeder)
    assert [name for name, _, _ in listed(feeder)] == ["INBOX", "Mail", "Mail/Junk", "Trash"]
    assert ("Trash", "\\Trash", False) in listed(feeder)


def test_a_user_with_mail_gets_no_more_than_an_inbox() -> None:
    feeder = Feeder(new_machine())
    feeder.do(c.CreateMailbox("a", "x", 1, bytes(16)))
    make(feeder)
    assert [name for name, _, _ in listed(feeder)] == ["INBOX", "x"]


def test_a_user_whose_mail_was_removed_begins_anew() -> None:
    feeder = Feeder(new_machine())
    make(feeder)
    feeder.do(c.PurgeUser("a"))
    make(feeder)
    assert len(listed(feeder)) == 5


def test_where_there_is_no_room_for_all_nothing_is_made() -> None:
    feeder = Feeder(new_machine())
    for number in range(4997):
        feeder.do(c.Subscribe("a", f"x{number}", True))
    assert feeder.refused(c.MakeFirstMailboxes("a", FIRST, 7, bytes(16))) == "LIMIT"
    assert listed(feeder) == []
