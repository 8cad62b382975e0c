"""Which replicas a node runs: never one with an empty log that may have voted, never one that was
taken out of its group."""

from __future__ import annotations

from raftmail.cluster.records import ReplicaRecord, ReplicaState, ShardRecord, encode, key_of
from raftmail.cluster.state import ClusterState
from raftmail.consensus.membership import Membership
from raftmail.node.reconcile import Plan, first_membership, plan

VOTER, JOINING, LEAVING = ReplicaState.VOTER, ReplicaState.JOINING, ReplicaState.LEAVING


def _state(*shards: ShardRecord) -> ClusterState:
    return ClusterState(revision=7).with_records((key_of(s), 7, encode(s)) for s in shards)


def _shard(
    number: int, *replicas: ReplicaRecord, next_id: int, founding: bool = False
) -> ShardRecord:
    return ShardRecord(number, replicas, next_id, 3, founding=founding)


def test_a_founding_shard_is_begun_and_one_with_a_past_is_lost() -> None:
    state = _state(
        _shard(
            1, ReplicaRecord(1, "a", VOTER), ReplicaRecord(2, "b", VOTER), next_id=3, founding=True
        ),
        _shard(2, ReplicaRecord(1, "a", VOTER), ReplicaRecord(2, "b", VOTER), next_id=3),
        _shard(3, ReplicaRecord(1, "b", VOTER), next_id=2, founding=True),
    )
    assert plan(state, "a", {}) == Plan({1: 1}, (), (2,))


def test_a_joining_replica_is_begun_although_its_node_has_lost_another_one() -> None:
    """A lost disk: the old id leaves, the new one joins."""
    shard = _shard(
        1,
        ReplicaRecord(1, "a", LEAVING),
        ReplicaRecord(2, "b", VOTER),
        ReplicaRecord(3, "a", JOINING),
        next_id=4,
    )
    assert plan(_state(shard), "a", {}) == Plan({1: 3}, (), ())


def test_what_was_made_is_kept_whatever_its_state_is() -> None:
    for state in ReplicaState:
        shard = _shard(1, ReplicaRecord(5, "a", state), ReplicaRecord(2, "b", VOTER), next_id=6)
        assert plan(_state(shard), "a", {1: 5}) == Plan({1: 5}, (), ())


def test_a_replica_that_its_shard_names_no_more_is_given_up() -> None:
    shard = _shard(1, ReplicaRecord(2, "b", VOTER), next_id=3)
    assert plan(_state(shard), "a", {1: 1}) == Plan({}, (1,), ())


def test_a_record_that_is_older_than_the_replica_does_not_end_it() -> None:
    """A node that was killed may have kept a state from before its replica was made."""
    shard = _shard(1, ReplicaRecord(2, "b", VOTER), next_id=3)
    assert plan(_state(shard), "a", {1: 3}) == Plan({1: 3}, (), ())
    assert plan(_state(), "a", {1: 3}) == Plan({1: 3}, (), ())


def test_a_replica_under_a_new_id_waits_until_the_old_one_is_given_up() -> None:
    shard = _shard(1, ReplicaRecord(2, "b", VOTER), ReplicaRecord(4, "a", JOINING), next_id=5)
    assert plan(_state(shard), "a", {1: 1}) == Plan({}, (1,), ())
    assert plan(_state(shard), "a", {}) == Plan({1: 4}, (), ())


def test_a_joining_replica_waits_while_nobody_else_is_there() -> None:
    """Alone, it would elect itself, and answer for mail that it never had."""
    alone = _shard(1, ReplicaRecord(4, "a", JOINING), ReplicaRecord(5, "b", JOINING), next_id=6)
    assert plan(_state(alone), "a", {}) == Plan({}, (), ())


def test_founders_begin_with_the_same_members_and_a_joining_replica_as_a_learner() -> None:
    founding = _shard(
        1, ReplicaRecord(1, "a", VOTER), ReplicaRecord(2, "b", VOTER), next_id=3, founding=True
    )
    for replica, node in ((1, "a"), (2, "b")):
        made = first_membership(_state(founding), 1, replica, node)
        assert made == Membership.founding({1: "a", 2: "b"})
    joined = _shard(
        1,
        ReplicaRecord(1, "a", LEAVING),
        ReplicaRecord(2, "b", VOTER),
        ReplicaRecord(3, "c", JOINING),
        ReplicaRecord(4, "d", JOINING),
        next_id=5,
    )
    made = first_membership(_state(joined), 1, 3, "c")
    assert made == Membership({1: "a", 2: "b"}, {3: "c"}, 5)
