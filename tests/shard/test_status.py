"""The one rule of what a replica may do under what it is under (`shard.status`)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from raftmail.consensus.fitness import Fitness
from raftmail.mail import commands as c
from raftmail.mail.codec import encode_request
from raftmail.resync.missing import AWAITED_US
from raftmail.shard.events import ReplicaEvent, StatusChanged
from raftmail.shard.replica import Replica
from raftmail.shard.status import (
    CAPABILITIES,
    LACKING_GRACE_S,
    Capability,
    Condition,
    allowed,
    describe,
    fitness_under,
)
from raftmail.storage.kv import TableDamaged
from raftmail.storage.records import IndexDamaged
from tests.shard.test_index_recovery import TEXTS, Machinery


def test_under_nothing_a_replica_may_do_everything_and_under_anything_it_does_not_lead() -> None:
    assert all(allowed(0) & capability for capability in Capability)
    assert fitness_under(0) is Fitness.ABLE and describe(0) == "ok"
    for condition in Condition:
        assert not allowed(condition) & Capability.LEAD
        assert fitness_under(condition) is not Fitness.ABLE
        assert describe(condition) == condition.text


def test_under_several_conditions_a_replica_may_do_what_each_allows() -> None:
    for one in Condition:
        for other in Condition:
            assert allowed(one | other) == CAPABILITIES[one] & CAPABILITIES[other]


TABLE = """
                take_part vote acknowledge stand lead apply read keep_index source
LOST_DISK       yes       -    -           -     -    -     -    yes        -
PROVING         yes       -    -           -     -    yes   yes  yes        yes
REMOVED         yes       yes  yes         -     -    yes   -    yes        yes
FAILED          -         -    -           -     -    -     -    -          -
RESYNCING       -         -    -           -     -    -     -    -          -
DAMAGED         yes       yes  yes         yes   -    -     -    yes        yes
WITHHOLDING     yes       yes  yes         -     -    yes   yes  yes        yes
LACKS_BODIES    yes       yes  yes         yes   -    yes   yes  yes        -
SUSPECT         yes       yes  yes         yes   -    yes   yes  yes        yes
DISK_FULL       yes       yes  yes         yes   -    yes   yes  yes        yes
DISK_SLOW       yes       yes  yes         yes   -    yes   yes  yes        yes
"""

HEAD, *ROWS = [line.split() for line in TABLE.strip().splitlines()]


def test_the_table_has_every_condition_and_every_capability() -> None:
    assert [row[0] for row in ROWS] == [condition.name for condition in Condition]
    assert [name.upper() for name in HEAD] == [capability.name for capability in Capability]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_a_condition_allows_what_the_table_says(row: list[str]) -> None:
    may = CAPABILITIES[Condition[row[0]]]
    told = {name for name, word in zip(HEAD, row[1:], strict=True) if word == "yes"}
    assert {c.name.lower() for c in Capability if may & c} == told


def test_who_takes_no_part_does_nothing_that_raft_asks_for() -> None:
    for condition in Condition:
        may = CAPABILITIES[condition]
        if not may & Capability.TAKE_PART:
            assert not may & (Capability.VOTE | Capability.ACKNOWLEDGE | Capability.STAND)


def test_who_could_not_be_followed_or_counted_on_never_stands() -> None:
    able = {c for c in Condition if fitness_under(c) is not Fitness.UNFIT}
    assert able == {
        Condition.DAMAGED,
        Condition.LACKS_BODIES,
        Condition.SUSPECT,
        Condition.DISK_FULL,
        Condition.DISK_SLOW,
    }


@pytest.mark.parametrize("condition", [Condition.DISK_FULL, Condition.DISK_SLOW])
def test_who_has_everything_is_read_and_is_a_source_whatever_its_disk_does(
    condition: Condition,
) -> None:
    assert allowed(condition) & Capability.READ and allowed(condition) & Capability.SOURCE


def _made() -> Machinery:
    machinery = Machinery()
    machinery.save(TEXTS)
    machinery.turn()
    assert machinery.replica.conditions == 0
    return machinery


Fact = Callable[[Replica], None]


def _suspect(replica: Replica) -> None:
    replica.recovery.suspect = True


def _lost_disk(replica: Replica) -> None:
    replica.group.proof.lost, replica.group.proof.may_follow = "it went back", False


def _proving(replica: Replica) -> None:
    replica.group.proof.may_follow = False


def _removed(replica: Replica) -> None:
    replica.group.elections.removed = True


def _resyncing(replica: Replica) -> None:
    replica.recovery.manager.sink._finished = (1, 1)


def _withholding(replica: Replica) -> None:
    replica.bodies.withheld[9] = (1, ())


def _disk_full(replica: Replica) -> None:
    replica.disk_full = True


def _lacks_bodies(replica: Replica) -> None:
    replica.recovery.manager.missing.add(b"b" * 32, 10, AWAITED_US)
    replica._look_for_bodies()
    replica._now += LACKING_GRACE_S + 0.1


FACTS: dict[Condition, Fact] = {
    Condition.LOST_DISK: _lost_disk,
    Condition.PROVING: _proving,
    Condition.REMOVED: _removed,
    Condition.FAILED: lambda replica: replica.index_broken(TableDamaged("a page is none")),
    Condition.RESYNCING: _resyncing,
    Condition.DAMAGED: lambda replica: replica.index_damaged(IndexDamaged("messages", bytes(12))),
    Condition.WITHHOLDING: _withholding,
    Condition.LACKS_BODIES: _lacks_bodies,
    Condition.SUSPECT: _suspect,
    Condition.DISK_FULL: _disk_full,
    Condition.DISK_SLOW: lambda replica: replica.note_disk(is_slow=True),
}


@pytest.mark.parametrize("condition", Condition)
def test_each_condition_follows_from_one_fact_and_decides_what_a_replica_may(
    condition: Condition,
) -> None:
    replica = _made().replica
    FACTS[condition](replica)
    assert replica.conditions == condition
    assert replica.state_text == condition.text
    for capability in Capability:
        assert replica.may(capability) == bool(CAPABILITIES[condition] & capability)
    assert replica.takes_part == replica.may(Capability.TAKE_PART), "the short way says the same"
    assert replica.fitness() is fitness_under(condition)


def test_several_facts_are_several_conditions_and_the_worst_is_told() -> None:
    replica = _made().replica
    _disk_full(replica)
    _suspect(replica)
    assert replica.conditions == Condition.DISK_FULL | Condition.SUSPECT
    assert replica.state_text == Condition.SUSPECT.text


def test_an_observer_hears_of_another_status_with_the_next_tick() -> None:
    machinery = _made()
    told: list[ReplicaEvent] = []
    machinery.replica.observer = told.append
    machinery.replica.note_disk(is_slow=True)
    machinery.turn(1.1)
    assert StatusChanged(0, Condition.DISK_SLOW) in told


def test_no_committed_entry_is_applied_while_a_record_is_damaged() -> None:
    machinery = _made()
    replica = machinery.replica
    applied = replica.applied_index
    replica.recovery.damaged = True
    request = encode_request(b"another client!!", 1, 0, c.CreateMailbox("a", "new", 1, b"g" * 16))
    replica.submit(machinery.now, request, [], lambda answer: None)
    for _ in range(10):
        machinery.turn()
    assert replica.commit_index > applied == replica.applied_index
    replica.recovery.damaged = False
    machinery.turn()
    assert replica.applied_index == replica.commit_index


def test_a_replica_with_a_damaged_record_is_not_read_and_leads_as_a_last_resort() -> None:
    replica = _made().replica
    replica.index_damaged(IndexDamaged("messages", bytes(12)))
    assert replica.conditions & Condition.DAMAGED
    assert not replica.may(Capability.READ) and not replica.may(Capability.APPLY)
    assert replica.fitness() is Fitness.LAST_RESORT


def test_a_body_that_is_fetched_at_once_costs_nobody_the_leaders_place() -> None:
    machinery = _made()
    replica = machinery.replica
    replica.recovery.manager.missing.add(b"b" * 32, 10, AWAITED_US)
    machinery.turn()
    replica._look_for_bodies()
    assert replica.lacks_bodies() and replica.may(Capability.LEAD)
    replica._now += LACKING_GRACE_S + 0.1
    assert replica.conditions == Condition.LACKS_BODIES
    replica.recovery.manager.missing.remove(b"b" * 32)
    replica._look_for_bodies()
    assert replica.conditions == 0
