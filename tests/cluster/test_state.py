"""The state of the cluster: genesis, following the root, users' shards, and the copy on the
disk."""

from __future__ import annotations

import json
import re
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftmail.cluster import records as rec
from raftmail.cluster.changes import ChangeDenied, change_of, repair_record
from raftmail.cluster.moves import plan
from raftmail.cluster.state import (
    NO_SHARD,
    BadState,
    ClusterState,
    genesis,
    genesis_command,
    hash_of,
)
from raftmail.mail.limits import validate
from raftmail.mail.queries import Configuration
from raftmail.mail.record_rules import FORMS
from tests.cluster.clusters import may_add_users

ID = "0" * 32


def _nodes(count: int, zones: int = 1) -> list[rec.NodeRecord]:
    return [
        rec.NodeRecord(f"n{at:02}", f"127.0.0.1:{7000 + at}", zone=f"z{at % zones}")
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
    pool = rec.PoolRecord("eu", (9, 10), 5, zones=("eu",))
    pinning = rec.RuleRecord("example.org", "eu", "main", rec.RuleState.PINNING)
    state = _put(state, pool, pinning)
    assert state.shard_of(user) == before and not may_add_users(state, "example.org")
    state = _put(state, rec.UserShardRecord(user, before), rec.RuleRecord("example.org", "eu"))
    assert state.shard_of(user) == before and may_add_users(state, "example.org")
    assert state.shard_of("bob@example.org") in (9, 10)
    assert state.shard_of("bob@example.com") <= 8


def test_a_root_that_has_nothing_leaves_genesis_as_it_is() -> None:
    state = genesis(ID, _nodes(3), 2)
    assert state.apply(Configuration(0, (), True, 0, False)) is state


def test_an_answer_with_everything_replaces_what_was_known() -> None:
    state = _put(genesis(ID, _nodes(3), 2), rec.AliasRecord("a@b", ("c@d",)))
    node = rec.NodeRecord("n9", "h:1")
    key, value = rec.key_of(node), rec.encode(node)
    first = state.apply(Configuration(5, ((key, 5, value),), True, 3, True))
    assert first.nodes == ["n9"] and not first.whole
    assert (first.question.since, first.question.floor) == (5, 3)
    last = first.apply(Configuration(8, ((key, 8, None),), False, 3, False))
    assert not last.nodes and last.whole and last.revision == 8


def test_a_record_of_a_kind_from_the_future_is_passed_over() -> None:
    state = ClusterState().with_puts([("planet/mars", b"{}")])
    assert state.revision_of("planet/mars") == 1


_SHARD = (
    b'{"next_id":3,"replicas":[{"id":1,"node":"n1","state":"voter"},'
    b'{"id":2,"node":"n2","state":"voter"}],"replication":3}'
)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("node/n1", b"[]"),
        ("node/n1", b"{"),
        ("node/n1", b"{}"),
        ("node/n1", b'{"peer":1}'),
        ("node/n1", b'{"peer":"a:1","name":"n2"}'),
        ("node/n1", b'{"peer":"a:1","state":"asleep"}'),
        ("node/n1", b"\xff\xfe"),
        ("node/n1", b"[" * 100_000),
        ("node/n 1", b'{"peer":"a:1"}'),
        ("node/n1", b'{"peer":"a:1","joined_s":253402300800}'),
        ("node/n1", b'{"peer":"a:1","capacity":1' + b"0" * 5000 + b"}"),
        ("node/n1", b'{"peer":"a:1","capacity":true}'),
        ("shard/01", b'{"next_id":1,"replicas":[],"replication":3}'),
        ("shard/x", b'{"next_id":1,"replicas":[],"replication":3}'),
        ("shard/1", b'{"next_id":1,"replicas":[{"id":1}],"replication":3}'),
        ("shard/1", b'{"next_id":1,"replicas":{},"replication":3}'),
        ("shard/1", b'{"next_id":-1,"replicas":[],"replication":3}'),
        ("shard/1", b'{"next_id":1,"replicas":[],"replication":3}'),
        ("shard/abc", b"junk"),
        ("shard/99999999999999999999", b"{}"),
        ("shard/4294967296", _SHARD),
        ("shard/1", _SHARD.replace(b'"id":2', b'"id":1')),
        ("shard/1", _SHARD.replace(b'"next_id":3', b'"next_id":2')),
        ("shard/1", _SHARD.replace(b'"n2"', b'"n\\n2"')),
        ("pool/main", b'{"replication":3,"shards":[]}'),
        ("pool/main", b'{"replication":3,"shards":[1,1]}'),
        ("pool/main", b'{"replication":3,"shards":[0]}'),
    ],
)
def test_a_record_that_is_not_as_it_should_be_is_refused(key: str, value: bytes) -> None:
    with pytest.raises(rec.BadRecord, match=re.escape(key)):
        rec.decode(key, value)


def test_a_record_that_cannot_be_read_leaves_what_was_known_and_is_told_until_it_is_mended() -> (
    None
):
    state = genesis(ID, _nodes(3), 2)
    bad = state.with_puts([("shard/1", b"junk"), ("shard/abc", b"\xff")])
    assert bad.tables == state.tables
    assert list(bad.unreadable) == ["shard/1", "shard/abc"]
    assert bad.revision_of("shard/abc") == 1, "who mends it expects this revision"
    again = ClusterState.from_bytes(bad.to_bytes())
    assert again == bad, "also after a restart"
    good = rec.encode(state.every_shard[1])
    assert not again.with_puts([("shard/1", good), ("shard/abc", None)]).unreadable


def test_a_record_that_cannot_be_read_leaves_what_was_known_also_when_everything_is_told() -> None:
    state = replace(genesis(ID, _nodes(3), 2), revision=1)
    told = [(key, 5, rec.encode(one)) for key, one in state.tables[rec.NodeRecord].items()]
    half = state.apply(Configuration(5, (("shard/1", 5, b"junk"),), True, 4, True))
    whole = half.apply(Configuration(6, tuple(told), False, 4, False))
    assert whole.every_shard.keys() == {1}
    assert whole.every_shard[1] == state.every_shard[1]
    assert len(whole.nodes) == 3


def test_fields_of_a_later_release_mean_nothing_and_stay_when_the_record_is_written_anew() -> None:
    node = b'{"peer":"a:1","colour":"red"}'
    shard = _SHARD.replace(b'"id":1,', b'"id":1,"heat":[7],')
    state = ClusterState().with_puts([("node/n1", node), ("shard/1", shard)])
    state = ClusterState.from_bytes(state.to_bytes())
    assert not state.unreadable
    change = change_of(
        state,
        [replace(state.every_node["n1"], zone="eu"), replace(state.every_shard[1], replication=5)],
    )
    written = {key: json.loads(value or b"") for key, value in change.puts}
    assert written["node/n1"] == {"peer": "a:1", "colour": "red", "zone": "eu"}
    assert written["shard/1"]["replicas"][0]["heat"] == [7]
    assert written["shard/1"]["replication"] == 5


def test_a_record_that_cannot_be_read_is_written_as_it_was_or_taken_away() -> None:
    state = genesis(ID, _nodes(3), 2).with_puts([("shard/1", b"junk"), ("shard/abc", b"junk")])
    mended = state.with_puts(repair_record(state, "shard/1").puts)
    assert list(mended.unreadable) == ["shard/abc"]
    mended = mended.with_puts(repair_record(mended, "shard/abc").puts)
    assert not mended.unreadable
    assert mended.every_shard == state.every_shard
    with pytest.raises(ChangeDenied, match="no record that cannot be read"):
        repair_record(mended, "shard/1")


def test_records_of_kinds_from_the_future_are_in_a_kept_state() -> None:
    state = ClusterState().with_puts([("planet/mars", b"\xff")])
    again = ClusterState.from_bytes(state.to_bytes())
    assert again.kept["planet/mars"].value == b"\xff"
    assert not again.unreadable and again.revision_of("planet/mars") == 1


def test_a_user_is_looked_for_nowhere_while_the_pool_cannot_be_read() -> None:
    state = ClusterState().with_puts([("pool/main", b"junk")])
    assert state.shard_of("anna@example.org") == NO_SHARD
    assert not state.members(NO_SHARD)


def test_no_replica_is_moved_while_a_record_of_places_cannot_be_read() -> None:
    state = genesis(ID, _nodes(3), 2)
    state = _put(state, replace(state.every_node["n01"], state=rec.NodeState.DRAINING))
    state = _put(state, rec.NodeRecord("n9", "n9:1"))
    assert plan(state)
    assert not plan(state.with_puts([("node/n9", b"junk")]))


@given(st.text(max_size=12), st.binary(max_size=40))
def test_no_record_keeps_a_state_from_being_read_kept_and_used(name: str, value: bytes) -> None:
    state = genesis(ID, _nodes(3), 2)
    for kind in ("cluster", "node", "shard", "pool", "rule", "alias", "invite", "planet"):
        state = state.with_puts([(f"{kind}/{name}", value), (kind, value)])
    assert ClusterState.from_bytes(state.to_bytes()) == state
    state.shard_of("anna@example.org")
    state.delivered_to("anna@example.org")
    plan(state, balance=True)


_names = st.sampled_from(["n1", "n2", "n-3.2"])
_texts = st.sampled_from(["", "a", "z:1"])
_records = st.one_of(
    st.builds(
        rec.NodeRecord, _names, _texts, _texts, _texts, _texts, _texts,
        st.lists(_texts, max_size=2).map(tuple), st.integers(0, 9), st.sampled_from(rec.NodeState),
        st.integers(0, 9),
    ),
    st.builds(
        rec.ShardRecord, st.integers(0, 99),
        st.lists(
            st.builds(rec.ReplicaRecord, st.integers(1, 9), _names,
                      st.sampled_from(rec.ReplicaState)),
            min_size=1, max_size=3, unique_by=lambda replica: replica.id,
        ).map(tuple),
        st.integers(10, 19), st.integers(1, 5), _texts, _texts, st.booleans(),
    ),
    st.builds(rec.PoolRecord, _names, st.just((1, 2)), st.integers(1, 5), st.just(("eu",))),
    st.builds(rec.RuleRecord, _names, _texts, _texts, st.sampled_from(rec.RuleState)),
    st.builds(rec.AliasRecord, _names, st.lists(_names, max_size=2).map(tuple)),
    st.builds(rec.ClusterRecord, _texts, st.integers(1, 5)),
    st.builds(rec.InviteRecord, _names, _texts, _texts, st.integers(0, 9), _texts, st.booleans()),
    st.builds(rec.RecoveryRecord, st.integers(0, 9), st.integers(0, 9), _texts, st.just(1),
              st.just((2,))),
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
        rec.AliasRecord("all@x", ("team@x", "boss@x")),
        rec.AliasRecord("team@x", ("a@x", "b@x", "team@x")),
        rec.AliasRecord("loop@x", ("pool@x",)),
        rec.AliasRecord("pool@x", ("loop@x",)),
    )
    assert set(state.delivered_to("all@x")) == {"a@x", "b@x", "boss@x", "team@x"}
    assert state.delivered_to("c@x") == ("c@x",)
    assert state.delivered_to("loop@x") == ()


@pytest.mark.parametrize("kind", [rec.ClusterRecord, *rec._KINDS.values()])
def test_the_rules_for_writing_know_each_field_of_each_record(kind: type[rec.Record]) -> None:
    form = FORMS["cluster" if kind is rec.ClusterRecord else rec._PREFIXES[kind]]
    names = {one.name for one in fields(kind)}
    assert names - {form.key_field} == form.fields.keys()
    assert form.needed == rec._REQUIRED[kind] - {form.key_field}
