"""A delivery that is sent again (P9): the apply gives its first result, and does nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from raftmail.mail import commands as c
from raftmail.mail import queries as q
from raftmail.mail.codec import decode_request, encode_request
from raftmail.mail.results import Refused, SaveResult
from raftmail.mail.uidset import UidSet
from raftmail.shard.machine import Machine
from raftmail.storage.check import check
from raftmail.storage.index import TABLES
from tests.shard.machines import Feeder, entry_of, guid_of, message, new_machine, rows_of
from tests.simulation.kv import MemoryEngine

KEY = b"key of a delivery".ljust(32, b".")
OTHER = b"key of another delivery".ljust(32, b".")
WEEK_S = 7 * 86_400
INBOX = c.Target("a", "INBOX")


def delivery(*keys: bytes, text: str = "a", targets: tuple[c.Target, ...] = ()) -> c.Save:
    """One message, as LMTP saves it; each try has trace fields, and so a body, of its own."""
    where = targets or (INBOX,) * len(keys)
    new = replace(message(text, *where), delivery_keys=keys)
    return c.Save("a", (new,), 1000, (), WEEK_S)


def uids(feeder: Feeder, command: c.Command) -> list[tuple[str, int]]:
    result = feeder.do(command)
    assert isinstance(result, SaveResult), result
    return [(saved.user, saved.uid) for saved in result.saved]


def in_inbox(machine: Machine, user: str = "a") -> int:
    mailbox = machine.index.mailboxes.named(user, "INBOX")
    return mailbox.messages if mailbox is not None else 0


def test_a_delivery_that_is_sent_again_has_its_first_result_and_no_effect() -> None:
    feeder = Feeder(new_machine())
    machine = feeder.machine
    first = feeder.do(delivery(KEY))
    before = rows_of(machine)
    again = feeder.do(delivery(KEY, text="with other trace fields"))
    assert again == first
    after = rows_of(machine)
    assert {name for name in after if after[name] != before[name]} == {"clients"}
    assert uids(feeder, delivery(OTHER)) == [("a", 2)]


def test_another_client_that_sends_it_again_has_the_first_result() -> None:
    machine = new_machine()
    payloads = [
        entry_of((bytes([number]) * 16, 1, 0, delivery(KEY, text=str(number))))
        for number in range(3)
    ]
    results = [machine.apply(at, 1, payload)[0][2] for at, payload in enumerate(payloads, 1)]
    assert results[0] == results[1] == results[2]
    assert in_inbox(machine) == 1


def test_both_in_one_entry_and_twice_in_one_command_are_one() -> None:
    machine = new_machine()
    requests = [(bytes([number]) * 16, 1, 0, delivery(KEY, KEY)) for number in range(2)]
    (_, _, one), (_, _, other) = machine.apply(1, 1, entry_of(*requests))
    assert one == other
    assert isinstance(one, SaveResult)
    assert one.saved[0] == one.saved[1]
    assert in_inbox(machine) == 1
    assert check(machine.index) == []


@pytest.mark.parametrize(
    "meanwhile",
    [
        c.Expunge("a", "INBOX", UidSet.single(1)),
        c.Copy("a", "INBOX", UidSet.single(1), c.Target("a", "x"), 5, True),
        c.RenameMailbox("a", "INBOX", "old", 5, guid_of("old")),
    ],
    ids=["expunged", "moved", "renamed"],
)
def test_what_was_taken_out_of_the_mailbox_is_not_delivered_again(meanwhile: c.Command) -> None:
    feeder = Feeder(new_machine())
    feeder.do(c.CreateMailbox("a", "x", 5, bytes(16)))
    first = feeder.do(delivery(KEY))
    feeder.do(meanwhile)
    assert feeder.do(delivery(KEY)) == first
    assert in_inbox(feeder.machine) == 0


def test_a_delivery_whose_mailbox_is_gone_has_its_first_result() -> None:
    feeder = Feeder(new_machine())
    feeder.do(c.CreateMailbox("a", "x", 5, bytes(16)))
    to_x = delivery(KEY, targets=(c.Target("a", "x"),))
    first = feeder.do(to_x)
    feeder.do(c.DeleteMailbox("a", "x"))
    assert feeder.do(to_x) == first


def test_only_those_get_it_who_have_it_not() -> None:
    feeder = Feeder(new_machine())
    assert uids(feeder, delivery(KEY)) == [("a", 1)]
    both = delivery(KEY, KEY, targets=(INBOX, c.Target("b", "INBOX")))
    assert uids(feeder, both) == [("a", 1), ("b", 1)]
    assert uids(feeder, both) == [("a", 1), ("b", 1)]
    assert (in_inbox(feeder.machine), in_inbox(feeder.machine, "b")) == (1, 1)
    assert check(feeder.machine.index) == []


def test_all_or_none_is_of_those_who_have_it_not() -> None:
    feeder = Feeder(new_machine())
    feeder.do(delivery(KEY))
    three = delivery(
        KEY, KEY, KEY, targets=(INBOX, c.Target("b", "INBOX"), c.Target("c", "nowhere"))
    )
    assert feeder.refused(three) == "NONEXISTENT"
    assert in_inbox(feeder.machine, "b") == 0
    assert uids(feeder, delivery(KEY, KEY, targets=(INBOX, c.Target("b", "INBOX")))) == [
        ("a", 1),
        ("b", 1),
    ]


def test_what_is_there_counts_for_no_quota_again() -> None:
    feeder = Feeder(new_machine())
    feeder.do(delivery(KEY, text="0123456789"))
    limited = replace(delivery(KEY, text="0123456789"), quotas=(("a", 15),))
    assert uids(feeder, limited) == [("a", 1)]
    assert feeder.refused(
        replace(limited, messages=delivery(OTHER, text="0123456789").messages)
    ) == ("OVERQUOTA")


def test_a_delivery_that_was_refused_is_tried_again() -> None:
    feeder = Feeder(new_machine())
    command = delivery(KEY, targets=(c.Target("a", "x"),))
    assert feeder.refused(command) == "NONEXISTENT"
    feeder.do(c.CreateMailbox("a", "x", 5, bytes(16)))
    assert uids(feeder, command) == [("a", 1)]


def test_a_user_who_is_purged_gets_it_again() -> None:
    feeder = Feeder(new_machine())
    feeder.do(delivery(KEY))
    feeder.do(c.PurgeUser("a"))
    assert uids(feeder, delivery(KEY)) == [("a", 1)]
    assert in_inbox(feeder.machine) == 1


def test_a_delivery_is_known_after_an_abort_and_a_power_loss() -> None:
    engine = MemoryEngine(TABLES)
    feeder = Feeder(new_machine(engine))
    first = feeder.do(delivery(KEY))
    feeder.machine.commit()
    feeder.machine.abort()
    assert feeder.do(delivery(KEY)) == first
    feeder.machine.commit()
    engine.power_loss()
    feeder.machine = new_machine(engine)
    assert feeder.do(delivery(KEY)) == first
    assert in_inbox(feeder.machine) == 1


def test_the_digest_differs_when_what_was_delivered_does() -> None:
    one, other = Feeder(new_machine()), Feeder(new_machine())
    one.do(delivery(KEY))
    other.do(delivery(OTHER))
    assert one.machine.index.digest() != other.machine.index.digest()


def test_a_command_without_keys_is_encoded_as_it_always_was() -> None:
    plain = c.Save("a", (message(),), 1000)
    keyed = encode_request(bytes(16), 1, 0, delivery(KEY))
    assert KEY in keyed
    assert len(decode_request(encode_request(bytes(16), 1, 0, plain)).command.messages) == 1  # type: ignore[union-attr]
    assert encode_request(bytes(16), 1, 0, plain).endswith(b"\xc4\x07summary\xcd\x03\xe8")


@pytest.mark.parametrize(
    "wrong",
    [
        replace(delivery(KEY), delivered_once_s=0),
        replace(delivery(KEY), delivered_once_s=400 * 86_400),
        delivery(KEY, KEY, targets=(INBOX,)),
        delivery(b"short"),
        delivery("text of 32 characters ..........."),  # type: ignore[arg-type]
    ],
    ids=["no time", "too long a time", "a key too many", "a short key", "text"],
)
def test_keys_that_are_none_are_refused_and_change_nothing(wrong: c.Save) -> None:
    feeder = Feeder(new_machine())
    assert feeder.refused(wrong) == "BAD"
    assert in_inbox(feeder.machine) == 0


def test_a_copy_has_no_delivery_keys() -> None:
    feeder = Feeder(new_machine())
    new = replace(message("a", INBOX), delivery_keys=(KEY,))
    result = feeder.do(c.CopyIn("a", (new,), 5, INBOX, UidSet.single(1)))
    assert isinstance(result, Refused)
    assert "delivery keys" in result.text


def filed(*mailboxes: str, marks: tuple[bytes, ...] = (), text: str = "a") -> c.Save:
    """A delivery that rules file into several mailboxes."""
    new = [
        replace(
            message(text, c.Target("a", name)),
            delivery_keys=(KEY,),
            is_further=at > 0,
            marks=() if at else marks,
            flags=(f"k{at}",),
        )
        for at, name in enumerate(mailboxes)
    ]
    return c.Save("a", tuple(new), 1000, (), WEEK_S)


def boxes(feeder: Feeder) -> list[int]:
    found = [feeder.machine.index.mailboxes.named("a", name) for name in ("INBOX", "x", "y")]
    return [0 if one is None else one.messages for one in found]


def test_a_delivery_into_several_mailboxes_is_one_and_again_goes_into_no_other() -> None:
    feeder = Feeder(new_machine())
    for name in ("x", "y"):
        feeder.do(c.CreateMailbox("a", name, 5, guid_of(name)))
    assert len(uids(feeder, filed("x", "y"))) == 2
    assert boxes(feeder) == [0, 1, 1]
    again = uids(feeder, filed("INBOX", "y", "x", text="as a changed script files it"))
    assert again == [("a", 1)] * 3 and boxes(feeder) == [0, 1, 1]
    assert feeder.machine.index.delivered.find("a", KEY) is not None
    assert len(feeder.machine.index.delivered) == 1
    assert check(feeder.machine.index) == []


def test_a_further_message_without_a_first_is_refused() -> None:
    feeder = Feeder(new_machine())
    alone = replace(message("a", INBOX), delivery_keys=(KEY,), is_further=True)
    assert feeder.refused(c.Save("a", (alone,), 1000, (), WEEK_S)) == "BAD"
    other = replace(message("a", INBOX), delivery_keys=(OTHER,))
    assert feeder.refused(c.Save("a", (other, alone), 1000, (), WEEK_S)) == "BAD"
    assert in_inbox(feeder.machine) == 0


def test_marks_tell_when_a_message_was_there_and_are_renewed() -> None:
    feeder = Feeder(new_machine())
    first = filed("INBOX", marks=(OTHER,))
    feeder.do(first)
    asked = q.GetDelivery("a", OTHER)
    assert feeder.machine.query(asked) == q.KnownDelivery(first.messages[0].received_us)
    later = first.messages[0].received_us + 5
    key = b"of a third delivery".ljust(32, b".")
    new = replace(first.messages[0], delivery_keys=(key,), received_us=later)
    feeder.do(c.Save("a", (new,), 1000, (), WEEK_S))
    assert feeder.machine.query(asked) == q.KnownDelivery(later)
    assert len(feeder.machine.index.delivered) == 3
    assert check(feeder.machine.index) == []
    assert feeder.machine.query(q.GetDelivery("a", bytes(32))) is None


@pytest.mark.parametrize("marks", [(b"short",), (OTHER,) * 33, "text", OTHER])
def test_marks_that_are_none_are_refused(marks: object) -> None:
    feeder = Feeder(new_machine())
    assert feeder.refused(filed("INBOX", marks=marks)) == "BAD"  # type: ignore[arg-type]
    assert in_inbox(feeder.machine) == 0
