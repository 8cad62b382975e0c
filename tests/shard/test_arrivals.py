"""What comes into mailboxes is told where the replica leads, each message once."""

from __future__ import annotations

from dataclasses import replace

from raftmail.mail import commands as c
from raftmail.mail.arrivals import Arrival
from raftmail.mail.codec import encode_request
from raftmail.mail.failures import Failure
from raftmail.mail.flags import SEEN
from raftmail.mail.results import Executed
from raftmail.mail.uidset import UidSet
from tests.shard.machines import CLIENT, Feeder, entry_of, message, new_machine
from tests.shard.test_members import Shard

KEY = bytes(32)


def test_each_message_that_is_saved_is_told_with_where_it_is() -> None:
    feeder = Feeder(new_machine())
    feeder.machine.note_arrivals()
    feeder.do(c.CreateMailbox("a", "Junk", 1, bytes(16), "\\Junk"))
    targets = c.Target("a", "INBOX"), c.Target("a", "Junk")
    feeder.do(c.Save("a", (message("one", *targets, flags=("\\Seen",)),), 5))
    assert feeder.machine.take_arrivals() == [
        Arrival("a", 2, "INBOX", "", 5, 1, SEEN),
        Arrival("a", 1, "Junk", "\\Junk", 1, 1, SEEN),
    ]
    assert feeder.machine.take_arrivals() == []


def test_what_is_copied_or_repeated_or_refused_did_not_come() -> None:
    feeder = Feeder(new_machine())
    feeder.machine.note_arrivals()
    delivered = c.Save("a", (replace(message(), delivery_keys=(KEY,)),), 5, (), 86_400)
    feeder.do(delivered)
    assert len(feeder.machine.take_arrivals()) == 1
    feeder.do(delivered)
    feeder.do(c.CreateMailbox("a", "x", 1, bytes(16)))
    feeder.do(c.Copy("a", "INBOX", UidSet.single(1), c.Target("a", "x"), 1))
    target = c.Target("a", "x")
    copied = (message("other", target),)
    feeder.do(c.CopyIn("a", copied, 1, target, UidSet.single(7)))
    feeder.refused(c.Save("a", (message("y", c.Target("a", "nowhere")),), 5))
    assert feeder.machine.take_arrivals() == []


def test_who_asks_for_none_keeps_none() -> None:
    feeder = Feeder(new_machine())
    feeder.do(c.Save("a", (message(),), 5))
    assert feeder.machine.take_arrivals() == []


def test_the_leader_alone_tells_and_an_entry_that_is_applied_again_is_not_told_again() -> None:
    shard = Shard()
    told: dict[str, list[Arrival]] = {}
    for one in shard.all.values():
        told[one.replica.node] = []
        one.replica.tell_arrivals(told[one.replica.node].extend)
    leader = shard.leader()
    done: list[Executed | Failure] = []
    new = message()
    request = encode_request(CLIENT, 1, 0, c.Save("a", (new,), 5))
    leader.submit(shard.now, request, ((new.blob, b"a"),), done.append)
    shard.until(lambda: bool(done))
    for _ in range(3):
        shard.turn()
    assert {node: len(found) for node, found in told.items() if found} == {leader.node: 1}
    payload = entry_of((CLIENT, 1, 0, c.Save("a", (new,), 5)))
    leader.machine.abort()
    leader._apply(leader.machine.applied_index + 1, 1, payload)
    assert len(told[leader.node]) == 1


def test_who_hears_and_breaks_stops_no_apply() -> None:
    shard = Shard()
    leader = shard.leader()

    def broken(arrivals: object) -> None:
        raise RuntimeError("a fault")

    leader.tell_arrivals(broken)
    done: list[Executed | Failure] = []
    new = message()
    request = encode_request(CLIENT, 1, 0, c.Save("a", (new,), 5))
    leader.submit(shard.now, request, ((new.blob, b"a"),), done.append)
    shard.until(lambda: bool(done))
    assert isinstance(done[0], Executed)
