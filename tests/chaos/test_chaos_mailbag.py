"""What the load asks stays within what can be checked."""

from __future__ import annotations

import random
from collections import Counter

from raftmail.mail import commands as c
from raftmail.mail import results as r
from raftmail.mail.uidset import UidSet
from raftmail_chaos.mailbag import DELIVERIES, WORKED, MailBag, Mailbag

USER = "w0u1@chaos.test"
BODIES = MailBag(random.Random(1))


def _bag(seed: int) -> Mailbag:
    bag = Mailbag(USER, random.Random(seed), BODIES)
    for number, name in enumerate(WORKED, 1):
        saved = tuple(r.Saved(USER, number, 3, uid, uid + 1) for uid in range(1, 6))
        message = c.NewMessage((c.Target(USER, name),) * 5, b"", 0, b"", 0)
        bag.learn(c.Save(USER, (message,), 0), r.SaveResult(saved))
    return bag


def test_no_message_has_more_open_changes_than_can_be_put_in_order() -> None:
    bag = _bag(2)
    for _ in range(2000):
        bag.next()  # and no answer ever comes
    assert max(bag.open.values()) <= 6


def test_what_is_settled_is_open_no_more_and_what_is_lost_stays_open() -> None:
    bag = _bag(3)
    lost: Counter[tuple[str, int]] = Counter()
    for at in range(500):
        asked = bag.next()
        bag.settle(asked, lost=at % 10 == 0)
        if at % 10 == 0:
            lost.update(asked.places)
    assert +bag.open == +lost


def test_nothing_is_changed_in_the_mailbox_of_deliveries() -> None:
    bag = _bag(4)
    bag.uids[DELIVERIES].update(range(1, 20))
    calls = [bag.next().call for _ in range(3000)]
    changes = [one for one in calls if isinstance(one, c.Store | c.Expunge | c.Copy)]
    of_deliveries = [one for one in changes if one.mailbox == DELIVERIES]
    assert of_deliveries
    assert all(isinstance(one, c.Copy) and not one.move for one in of_deliveries)


def test_uids_that_are_gone_are_not_asked_for_again() -> None:
    bag = _bag(5)
    gone = UidSet.from_uids([1, 2])
    bag.learn(c.Expunge(USER, "Work", gone), r.ExpungeResult(gone, 9))
    late = c.NewMessage((c.Target(USER, "Work"),), b"", 0, b"", 0)
    bag.learn(c.Save(USER, (late,), 0), r.SaveResult((r.Saved(USER, 2, 3, 2, 3),)))
    assert bag.uids["Work"] == {3, 4, 5}


def test_every_operation_is_asked_for_sooner_or_later() -> None:
    bag = _bag(6)
    bag.uids[DELIVERIES].add(1)
    verbs = set()
    for _ in range(500):
        asked = bag.next()
        bag.settle(asked, lost=False)
        verbs.add(asked.verb)
    assert verbs == {
        "deliver", "save", "store", "copy", "move", "expunge", "list", "state", "body",
        "create", "rename", "delete", "names", "look",
    }  # fmt: skip


def test_bodies_are_lines_of_a_message_with_their_token_and_of_mixed_sizes() -> None:
    made = [BODIES.make(f"t-{at}") for at in range(400)]
    for at, body in enumerate(made):
        assert b"\r\nX-Chaos-Token: t-%d\r\n" % at in body
        assert body.endswith(b"\r\n") and b"\n" not in body.replace(b"\r\n", b"")
    assert min(map(len, made)) < 4096 < 64 << 10 < max(map(len, made)) <= 4200 << 10
