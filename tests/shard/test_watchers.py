"""Who watches a user's mail hears of every change in the turn in which the replica applies it."""

from __future__ import annotations

import pytest

from raftmail.mail import commands as c
from raftmail.mail.changes import (
    Change,
    MailboxChanged,
    MailboxesChanged,
    Missed,
    change_from_wire,
    change_to_wire,
)
from raftmail.mail.codec import CodecError, encode_request
from raftmail.mail.failures import Failure
from raftmail.mail.results import Executed
from raftmail.mail.uidset import UidSet
from raftmail.shard.replica import Replica
from tests.shard.machines import guid_of
from tests.shard.test_members import One, Shard

USER, OTHER = "anna@example.org", "bert@example.org"


def listen(replica: Replica, user: str = USER) -> list[Change]:
    heard: list[Change] = []
    replica.watchers.add(user, heard.append)
    return heard


def follower(shard: Shard) -> One:
    return next(one for one in shard.all.values() if not one.replica.group.is_leader)


def carry_out(shard: Shard, command: c.Command) -> None:
    shard.seq += 1
    done: list[Executed | Failure] = []
    request = encode_request(b"client of tests!", shard.seq, shard.seq - 1, command)
    shard.leader().submit(shard.now, request, (), done.append)
    shard.until(lambda: bool(done))
    assert isinstance(done[0], Executed), done
    for _ in range(3):
        shard.turn()


def make(shard: Shard, name: str, user: str = USER) -> None:
    carry_out(shard, c.CreateMailbox(user, name, 1_700_000_000, guid_of(name)))


def test_a_watcher_on_a_follower_hears_of_a_change_when_it_is_applied_there() -> None:
    shard = Shard()
    make(shard, "Work")
    replica = follower(shard).replica
    heard = listen(replica)
    before: list[int] = []
    replica.watchers.add(USER, lambda change: before.append(replica.group.applied_index))
    carry_out(shard, c.CreateMailbox(USER, "Play", 1_700_000_000, guid_of("Play")))
    assert MailboxesChanged(USER) in heard
    assert {type(change) for change in heard} == {MailboxChanged, MailboxesChanged}
    assert set(before) == {replica.group.applied_index}


def test_a_watcher_hears_nothing_of_other_users() -> None:
    shard = Shard()
    heard = listen(shard.leader())
    make(shard, "Work", OTHER)
    assert heard == []


def test_each_change_is_told_also_before_the_index_is_written() -> None:
    shard = Shard()
    make(shard, "Work")
    heard = listen(shard.leader())
    for name in ("One", "Two"):
        carry_out(shard, c.RenameMailbox(USER, "Work", name, 1, guid_of(name)))
        carry_out(shard, c.RenameMailbox(USER, name, "Work", 1, guid_of(name)))
    assert sum(isinstance(change, MailboxesChanged) for change in heard) == 4


def test_subscriptions_and_removed_mailboxes_are_told() -> None:
    shard = Shard()
    make(shard, "Work")
    heard = listen(shard.leader())
    carry_out(shard, c.Subscribe(USER, "Work", True))
    assert heard == [MailboxesChanged(USER)]
    heard.clear()
    carry_out(shard, c.DeleteMailbox(USER, "Work"))
    assert heard == [MailboxesChanged(USER)]


def test_a_command_that_changes_nothing_is_not_told() -> None:
    shard = Shard()
    make(shard, "Work")
    heard = listen(shard.leader())
    carry_out(shard, c.Expunge(USER, "Work", UidSet.from_uids([7]), False))
    assert heard == []


def test_who_stops_to_watch_hears_nothing_and_the_replica_keeps_nothing() -> None:
    shard = Shard()
    replica = shard.leader()
    heard: list[Change] = []
    replica.watchers.add(USER, heard.append)
    replica.watchers.remove(USER, heard.append)
    make(shard, "Work")
    assert heard == [] and not replica.watchers
    assert replica.machine.index.mailboxes.take_changes() == ([], set())


def test_an_index_that_goes_back_tells_that_changes_may_have_been_missed() -> None:
    shard = Shard()
    make(shard, "Work")
    replica = shard.leader()
    heard = listen(replica)
    replica.machine.abort()
    shard.turn()
    assert Missed(USER) in heard


def test_a_replica_that_closes_tells_its_watchers() -> None:
    shard = Shard()
    heard = listen(shard.all[1].replica)
    shard.end(1)
    assert heard == [Missed(USER)]


def test_a_watcher_that_raises_keeps_no_other_from_hearing() -> None:
    shard = Shard()

    def broken(change: Change) -> None:
        raise RuntimeError("a bug")

    shard.leader().watchers.add(USER, broken)
    heard = listen(shard.leader())
    make(shard, "Work")
    assert heard


@pytest.mark.parametrize(
    "change", [MailboxChanged(USER, 1, 2, 3, 4, 5), MailboxesChanged(USER), Missed(USER)]
)
def test_changes_survive_their_encoding(change: Change) -> None:
    assert change_from_wire(list(change_to_wire(change))) == change


@pytest.mark.parametrize("raw", [None, [], [1], [1, 2], [1, "u", 1], [2, "u", 1], [4, "u"], "ab"])
def test_changes_of_the_wrong_shape_are_refused(raw: object) -> None:
    with pytest.raises(CodecError):
        change_from_wire(raw)
