"""The state of the cluster: genesis, following the root, users' shards, and the copy on the disk."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftmail.cluster import records as rec
from raftmail.cluster.state import (
    BadState,
    ClusterState,
    genesis,
    genesis_command,
    hash_of,
)
from raftmail.mail.limits import validate
from raftmail.mail.queries import Configuration

ID = "0" * 32


def _nodes(count: int, zones: int = 1) -> list[rec.Node]:
    return [
        rec.Node(f"n{at:02}", f"127.0.0.1:{7000 + at}", zone=f"z{at % zones}")
        for at in range(count)
    ]


def _put(state: ClusterState, *made: rec.Record) -> ClusterState:
    return state.with_puts([(rec.key_of(record), rec.encode(record)) for record in made])


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_small_cluster_has_every_shard_on_every_node_under_ids_in_the_order_of_names(
    count: int,
) -> None:
    state = genesis(ID, reversed(_nodes(count)), 8)
    assert state.shards == list(range(9))
    for shard in state.every_shard.values():
        assert [(r.id, r.node) for r in shard.replicas] == [
            (at + 1, f"n{at:02}") for at in range(count)
        ]
        assert shard.next_id == count + 1 and shard.founding


def test_the_root_is_on_up_to_five_nodes_in_different_zones() -> None:
    assert len(genesis(ID, _nodes(4), 4).members(0)) == 4
    state = genesis(ID, _nodes(30, zones=10), 4)
    assert len({state.every_node[name].zone for name in state.members(0)}) == 5


def test_genesis_does_not_depend_on_the_order_of_the_configuration() -> None:
    assert (
        genesis(ID, _nodes(7, 3), 20).to_bytes()
        == genesis(ID, reversed(_nodes(7, 3)), 20).to_bytes()
    )


def test_genesis_is_a_valid_command_that_an_empty_root_takes() -> None:
    state = genesis(ID, _nodes(30, 3), 500)
    command = genesis_command(state)
    validate(command)
    followed = ClusterState().apply(
        Configuration(1, tuple((key, 1, value) for key, value in command.puts), True, 0, False)
    )
    assert followed.every_shard == state.every_shard and followed.every_node == state.every_node


def test_a_users_shard_is_the_hash_among_the_main_pools() -> None:
    state = genesis(ID, _nodes(3), 8)
    assert state.shard_of("alice@example.org") == 1 + hash_of("alice@example.org") % 8


def test_a_pinned_user_stays_and_a_rule_moves_only_who_is_not_pinned() -> None:
    state = genesis(ID, _nodes(5), 8)
    user = "alice@example.org"
    before = state.shard_of(user)
    pool = rec.Pool("eu", (9, 10), 5, zones=("eu",))
    pinning = rec.Rule("example.org", "eu", "main", rec.RuleState.PINNING)
    state = _put(state, pool, pinning)
    assert state.shard_of(user) == before and not state.may_add_users("example.org")
    state = _put(state, rec.UserShard(user, before), rec.Rule("example.org", "eu"))
    assert state.shard_of(user) == before and state.may_add_users("example.org")
    assert state.shard_of("bob@example.org") in (9, 10)
    assert state.shard_of("bob@example.com") <= 8


def test_a_root_that_has_nothing_leaves_genesis_as_it_is() -> None:
    state = genesis(ID, _nodes(3), 2)
    assert state.apply(Configuration(0, (), True, 0, False)) is state


def test_an_answer_with_everything_replaces_what_was_known() -> None:
    state = _put(genesis(ID, _nodes(3), 2), rec.Alias("a@b", ("c@d",)))
    node = rec.Node("n9", "h:1")
    key, value = rec.key_of(node), rec.encode(node)
    first = state.apply(Configuration(5, ((key, 5, value),), True, 3, True))
    assert first.nodes == ["n9"] and not first.whole
    assert (first.question.since, first.question.floor) == (5, 3)
    last = first.apply(Configuration(8, ((key, 8, None),), False, 3, False))
    assert not last.nodes and last.whole and last.revision == 8


def test_a_record_of_a_kind_from_the_future_is_passed_over() -> None:
    state = ClusterState().with_puts([("planet/mars", b"{}")])
    assert state.revision_of("planet/mars") == 1


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("node/n1", b"[]"),
        ("node/n1", b"{"),
        ("node/n1", b"{}"),
        ("node/n1", b'{"peer":1}'),
        ("node/n1", b'{"peer":"a:1","name":"n2"}'),
        ("node/n1", b'{"peer":"a:1","state":"asleep"}'),
        ("node/n1", b'{"peer":"a:1","colour":"red"}'),
        ("node/n1", b'{"peer":"a:1","capacity":true}'),
        ("shard/01", b'{"next_id":1,"replicas":[],"replication":3}'),
        ("shard/x", b'{"next_id":1,"replicas":[],"replication":3}'),
        ("shard/1", b'{"next_id":1,"replicas":[{"id":1}],"replication":3}'),
        ("shard/1", b'{"next_id":1,"replicas":{},"replication":3}'),
        ("shard/1", b'{"next_id":-1,"replicas":[],"replication":3}'),
    ],
)
def test_a_record_that_is_not_as_it_should_be_is_refused(key: str, value: bytes) -> None:
    with pytest.raises(rec.BadRecord, match=key):
        rec.decode(key, value)


_names = st.sampled_from(["n1", "n2", "jörg@example.org"])
_texts = st.sampled_from(["", "a", "z:1"])
_records = st.one_of(
    st.builds(
        rec.Node, _names, _texts, _texts, _texts, _texts, _texts,
        st.lists(_texts, max_size=2).map(tuple), st.integers(0, 9), st.sampled_from(rec.NodeState),
        st.integers(0, 9),
    ),
    st.builds(
        rec.Shard, st.integers(0, 99),
        st.lists(
            st.builds(rec.Replica, st.integers(1, 9), _names, st.sampled_from(rec.ReplicaState)),
            max_size=3,
        ).map(tuple),
        st.integers(1, 9), st.integers(1, 5), _texts, _texts, st.booleans(),
    ),
    st.builds(rec.Pool, _names, st.just((1, 2)), st.integers(1, 5), st.just(("eu",))),
    st.builds(rec.Rule, _names, _texts, _texts, st.sampled_from(rec.RuleState)),
    st.builds(rec.Alias, _names, st.lists(_names, max_size=2).map(tuple)),
    st.builds(rec.Cluster, _texts, st.integers(1, 5)),
    st.builds(rec.Invite, _names, _texts, _texts, st.integers(0, 9), _texts, st.booleans()),
    st.builds(rec.Recovered, st.integers(0, 9), st.integers(0, 9), _texts, st.just(1), st.just((2,))),
)  # fmt: skip


@given(_records)
def test_a_record_is_read_as_it_was_written(record: rec.Record) -> None:
    assert rec.decode(rec.key_of(record), rec.encode(record)) == record


@given(st.lists(_records, max_size=5), st.data())
def test_a_kept_state_is_read_as_it_was_written_or_refused(
    made: list[rec.Record], data: st.DataObject
) -> None:
    state = _put(genesis(ID, _nodes(3), 2), *made)
    kept = state.to_bytes()
    assert ClusterState.from_bytes(kept) == state
    at = data.draw(st.integers(0, len(kept) - 1))
    with pytest.raises(BadState):
        ClusterState.from_bytes(kept[:at] + bytes([kept[at] ^ 1]) + kept[at + 1 :])
    with pytest.raises(BadState):
        ClusterState.from_bytes(kept[:at])


def test_aliases_are_followed_and_may_name_themselves() -> None:
    state = _put(
        ClusterState(),
        rec.Alias("all@x", ("team@x", "boss@x")),
        rec.Alias("team@x", ("a@x", "b@x", "team@x")),
        rec.Alias("loop@x", ("pool@x",)),
        rec.Alias("pool@x", ("loop@x",)),
    )
    assert set(state.delivered_to("all@x")) == {"a@x", "b@x", "boss@x", "team@x"}
    assert state.delivered_to("c@x") == ("c@x",)
    assert state.delivered_to("loop@x") == ()
