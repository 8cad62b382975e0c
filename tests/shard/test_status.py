"""The one rule of what a replica may do under what it is under (`shard.status`)."""

from __future__ import annotations

import pytest

from raftmail.consensus.fitness import Fitness
from raftmail.resync.missing import AWAITED_US
from raftmail.shard.status import (
    CAPABILITIES,
    LACKING_GRACE_S,
    Capability,
    Condition,
    allowed,
    describe,
    fitness_under,
)
from raftmail.storage.records import IndexDamaged
from tests.shard.test_rescue import TEXTS, Machinery


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


def test_who_could_not_be_followed_or_counted_on_never_stands() -> None:
    never = {c for c in Condition if fitness_under(c) is Fitness.UNFIT}
    assert never == {Condition.REMOVED, Condition.RESYNCING, Condition.WITHHOLDING}


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


def test_a_replica_is_under_what_its_parts_say() -> None:
    replica = _made().replica
    replica.disk_full = True
    assert replica.conditions == Condition.DISK_FULL
    replica.disk_slow = True
    assert replica.conditions == Condition.DISK_FULL | Condition.DISK_SLOW
    replica.disk_full = replica.disk_slow = False
    replica.group.elections.removed = True
    assert replica.conditions == Condition.REMOVED
    replica.group.elections.removed = False
    replica.recovery.suspect = True
    assert replica.conditions == Condition.SUSPECT


def test_a_replica_with_a_damaged_record_is_not_read_and_leads_as_a_last_resort() -> None:
    replica = _made().replica
    replica.index_damaged(IndexDamaged("messages", bytes(12)))
    assert replica.conditions & Condition.DAMAGED
    assert not replica.may(Capability.READ) and not replica.may(Capability.APPLY)
    assert replica.fitness() is Fitness.LAST_RESORT


def test_a_body_that_is_fetched_at_once_costs_nobody_the_leaders_place() -> None:
    machinery = _made()
    replica = machinery.replica
    replica.recovery.desk.missing.add(b"b" * 32, 10, AWAITED_US)
    machinery.turn()
    replica._look_for_bodies()
    assert replica.lacks_bodies() and replica.may(Capability.LEAD)
    replica._now += LACKING_GRACE_S + 0.1
    assert replica.conditions == Condition.LACKS_BODIES
    replica.recovery.desk.missing.remove(b"b" * 32)
    replica._look_for_bodies()
    assert replica.conditions == 0
