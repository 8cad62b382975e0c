"""What has been in Trash or Junk for too long is found, and nothing else."""

from __future__ import annotations

import hashlib

from raftmail.mail import commands as c
from raftmail.mail.uidset import UidSet
from raftmail.shard import aged_mail
from raftmail.shard.aged_mail import AgedMail
from tests.shard.machines import Feeder, new_machine

DAY = 86_400_000_000
NOW = 20_000 * DAY
AGES = {"\\Trash": 30 * DAY}
BODY = hashlib.sha256(b"x").digest()


def mailbox(feeder: Feeder, name: str, use: str = "") -> None:
    feeder.do(c.CreateMailbox("a", name, 1, bytes(16), use))


def save(feeder: Feeder, name: str, received: int, saved: int | None = None) -> None:
    """A message with its dates in days before `NOW`."""
    saved_us = None if saved is None else NOW - saved * DAY
    message = c.NewMessage(
        (c.Target("a", name),), BODY, 1, bytes(16), NOW - received * DAY, saved_us=saved_us
    )
    feeder.do(c.Save("a", (message,), 1))


def look(feeder: Feeder, after: int = 0) -> AgedMail:
    feeder.machine.index.flush()
    return feeder.machine.aged(after, AGES, NOW)


def found(feeder: Feeder) -> str:
    return look(feeder).uids.format()


def test_what_was_saved_too_long_ago_is_found_in_mailboxes_of_that_use_alone() -> None:
    feeder = Feeder(new_machine())
    for name, use in (("Archive", "\\Archive"), ("Trash", ""), ("Bin", "\\Trash")):
        mailbox(feeder, name, use)
        for days in (40, 31, 29):
            save(feeder, name, days)
    assert look(feeder) == AgedMail(2, "a", 3, UidSet.parse("1:2"))


def test_what_was_moved_there_lately_is_kept_however_old_it_is() -> None:
    feeder = Feeder(new_machine())
    mailbox(feeder, "Trash", "\\Trash")
    mailbox(feeder, "x")
    for _ in range(2):
        save(feeder, "x", 4000)
    for uid, days in ((1, 31), (2, 1)):
        moved = UidSet.single(uid)
        target = c.Target("a", "Trash")
        saved_us = NOW - days * DAY
        feeder.do(c.Copy("a", "x", moved, target, 1, move=True, saved_us=saved_us))
    assert found(feeder) == "1"


def test_the_first_message_that_is_young_ends_its_mailbox() -> None:
    """A date that goes back is of a wrong clock, or of a copy that keeps the date of its source."""
    feeder = Feeder(new_machine())
    mailbox(feeder, "Trash", "\\Trash")
    for days in (50, 5, 50):
        save(feeder, "Trash", days)
    assert found(feeder) == "1"


def test_a_date_that_is_yet_to_come_keeps_its_message_and_no_other() -> None:
    feeder = Feeder(new_machine())
    mailbox(feeder, "Trash", "\\Trash")
    for days in (50, -400, 50):
        save(feeder, "Trash", days)
    assert found(feeder) == "1,3"


def test_a_look_is_bounded_and_the_next_goes_on() -> None:
    feeder = Feeder(new_machine())
    for number in range(aged_mail.MAILBOXES_MAX):
        mailbox(feeder, f"x{number}")
    mailbox(feeder, "Trash", "\\Trash")
    for _ in range(aged_mail.MESSAGES_MAX + 1):
        save(feeder, "Trash", 50)
    first = look(feeder)
    assert first == AgedMail(aged_mail.MAILBOXES_MAX)
    assert first.after is not None
    second = look(feeder, first.after)
    assert len(second.uids) == aged_mail.MESSAGES_MAX
    feeder.do(c.Expunge("a", second.mailbox, second.uids))
    assert second.after is not None
    third = look(feeder, second.after)
    assert third.uids.format() == f"{aged_mail.MESSAGES_MAX + 1}"
    feeder.do(c.Expunge("a", third.mailbox, third.uids))
    assert third.after is not None
    assert look(feeder, third.after) == AgedMail(None)
