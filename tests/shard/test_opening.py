"""Opening a replica: what is repaired on the way, what is told, and what is left open when it
fails."""

from __future__ import annotations

import pytest

from raftmail.resync.state import RESYNC_KEYS, Suspects
from raftmail.shard.events import LogOpened, OwnTablesForgotten, ReplicaEvent
from raftmail.shard.opening import Repairs
from raftmail.shard.replica import Replica
from raftmail.storage.disk import DiskFull
from tests.shard.machines import body_hash
from tests.shard.test_damaged_records import rot
from tests.shard.test_index_recovery import TEXTS, Machinery


def closed_with_rot(table: str) -> Machinery:
    """A replica that has saved `TEXTS`, was closed, and has a bad record in a table of its
    index."""
    machinery = Machinery()
    machinery.save(TEXTS)
    machinery.close()
    rot(machinery.engine, table)
    return machinery


def events_of_opening(machinery: Machinery, repairs: Repairs) -> tuple[Replica, list[ReplicaEvent]]:
    told: list[ReplicaEvent] = []
    machinery.observer = told.append
    machinery.index.ordered = repairs
    return machinery.open(ordered=True), told


def test_own_tables_are_made_again_when_reading_them_finds_damage() -> None:
    machinery = closed_with_rot("places")
    replica, told = events_of_opening(machinery, Repairs(check_own=True))
    assert [e for e in told if isinstance(e, OwnTablesForgotten)]
    assert not machinery.index.made_anew
    assert all(replica.body(body_hash(text)) == text.encode() for text in TEXTS)


def test_own_tables_are_not_read_where_nobody_asks_for_it() -> None:
    _, told = events_of_opening(closed_with_rot("places"), Repairs())
    assert not [e for e in told if isinstance(e, OwnTablesForgotten)]


def test_an_index_of_which_a_resync_cannot_be_told_any_more_is_made_anew() -> None:
    machinery = Machinery()
    machinery.save(TEXTS)
    index = machinery.replica.machine.index
    Suspects(names=True).write(index)
    machinery.close()
    local = machinery.engine.table("local")
    for key in RESYNC_KEYS:
        if (record := local.get(key)) is not None:
            local.put(key, record[:-1] + bytes((record[-1] ^ 1,)))
    replica, told = events_of_opening(machinery, Repairs(own="damaged"))
    assert machinery.index.made_anew == 1
    assert not [e for e in told if isinstance(e, OwnTablesForgotten)]
    assert replica.machine.applied_index == 1, "the log is applied again"


def test_an_index_that_cannot_be_used_is_set_aside_once() -> None:
    machinery = closed_with_rot("messages")
    replica, _ = events_of_opening(machinery, Repairs(rebuild="somebody said so"))
    assert machinery.index.made_anew == 1 and machinery.index.ordered == Repairs()
    applied = replica.group.last_index
    while replica.group.applied_index < applied:
        machinery.turn()
    assert replica.is_whole


def test_the_log_is_told_before_anything_else_is_looked_at() -> None:
    machinery = closed_with_rot("places")
    _, told = events_of_opening(machinery, Repairs(check_own=True))
    assert isinstance(told[0], LogOpened)


def test_a_replica_that_cannot_be_opened_leaves_what_was_ordered_and_opens_later() -> None:
    machinery = closed_with_rot("messages")
    machinery.engine.fail_commit = DiskFull("no space")
    machinery.index.ordered = Repairs(compare=True)
    with pytest.raises(DiskFull):
        machinery.open(ordered=True)
    assert machinery.index.ordered == Repairs(compare=True) and machinery.index.closed
    machinery.engine.fail_commit = None
    replica = machinery.open(ordered=True)
    assert Suspects.read(replica.machine.index).everything
