"""Where replicas go, and what moves when nodes come and go."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftmail.cluster import records as rec
from raftmail.cluster.moves import counts, missing, plan, wanted
from raftmail.cluster.placement import PlacementNode, place
from raftmail.cluster.state import ClusterState
from tests.cluster.clusters import carried_out, cluster, put, zones_of


@pytest.mark.parametrize("zones", [0, 3, 5])
def test_replicas_are_spread_evenly(zones: int) -> None:
    held = counts(cluster(15, zones, shards=100))
    assert max(held.values()) - min(held.values()) <= 2


@pytest.mark.parametrize("zones", [3, 4, 7])
def test_replicas_are_in_different_zones_when_there_are_enough(zones: int) -> None:
    state = cluster(13, zones, shards=60)
    for shard in state.every_shard.values():
        if shard.number:
            assert len(set(zones_of(state, shard.nodes))) == 3


def test_two_zones_have_two_and_one() -> None:
    state = cluster(8, 2, shards=60)
    for shard in state.every_shard.values():
        if shard.number:
            assert sorted(Counter(zones_of(state, shard.nodes)).values()) == [1, 2]


def test_no_two_replicas_are_on_one_host_when_there_are_enough() -> None:
    places = [PlacementNode(f"n{at}", "", ("", f"h{at // 4}"), 100) for at in range(12)]
    for names in place(places, range(1, 41), 3).values():
        assert len({places[int(name[1:])].machine for name in names}) == 3


def test_a_node_with_twice_the_capacity_holds_twice_as_much() -> None:
    places = [
        PlacementNode(f"n{at}", "", ("", f"n{at}"), 200 if at < 3 else 100) for at in range(12)
    ]
    held = Counter(name for names in place(places, range(1, 301), 3).values() for name in names)
    assert all(abs(held[f"n{at}"] - (120 if at < 3 else 60)) <= 3 for at in range(12))


@pytest.mark.parametrize("zones", [0, 3, 5])
@pytest.mark.parametrize("count", [5, 12, 20])
def test_a_node_more_takes_at_most_its_share_and_nothing_moves_between_the_others(
    count: int, zones: int
) -> None:
    state = cluster(count, zones, shards=120)
    assert plan(state, balance=True) == []
    new = rec.NodeRecord("new", "h:1", zone=f"z{count % zones}" if zones else "")
    state = put(state, new)
    moves = [move for move in plan(state, balance=True) if move.shard]
    assert 0 < len(moves) <= 1.15 * 360 / (count + 1)
    assert {move.target for move in moves} == {"new"}
    after = carried_out(state, moves)
    assert [m for m in plan(after, balance=True) if m.shard] == []


def test_what_a_node_led_is_spread_over_all_others_when_it_fails() -> None:
    state = cluster(30, shards=1000)
    shared: Counter[str] = Counter()
    for shard in state.every_shard.values():
        if shard.number and "n07" in shard.nodes:
            shared.update(name for name in shard.nodes if name != "n07")
    assert len(shared) == 29 and max(shared.values()) <= 1.3 * 200 / 29


def test_a_drained_node_is_emptied_and_nothing_else_moves() -> None:
    state = cluster(6, 3, shards=40)
    assert plan(state) == []
    state = put(state, replace(state.every_node["n01"], state=rec.NodeState.DRAINING))
    moves = plan(state)
    held = {s.number for s in state.every_shard.values() if "n01" in s.nodes}
    assert {m.shard for m in moves} == held and {m.source for m in moves} == {"n01"}
    after = carried_out(state, moves)
    assert plan(after) == []
    for shard in after.every_shard.values():
        if shard.number:
            assert len(set(zones_of(after, shard.nodes))) == 3


def test_a_shard_that_cannot_be_placed_keeps_what_it_has_and_tells_what_is_missing() -> None:
    state = cluster(3, shards=2)
    state = put(state, replace(state.every_node["n02"], state=rec.NodeState.DRAINING))
    assert [m for m in plan(state) if m.shard and m.target] == []
    assert "shard 1 is to have 3 replicas, and there are 2 nodes" in missing(
        state, state.every_shard[1]
    )


def test_a_pool_holds_only_what_its_rule_allows() -> None:
    state = put(
        cluster(6, 3, shards=4),
        rec.PoolRecord("eu", (5,), 2, zones=("z1",)),
        rec.ShardRecord(5, (rec.ReplicaRecord(1, "n00", rec.ReplicaState.VOTER),), 2, 2, "eu"),
    )
    moves = plan(state)
    assert {(m.shard, m.target) for m in moves} == {(5, "n01"), (5, "n04")}
    assert {m.source for m in moves} == {"n00", ""}


_counts = st.integers(1, 9)


@st.composite
def _states(draw: st.DrawFn) -> ClusterState:
    zones = draw(st.integers(0, 4))
    made = cluster(draw(_counts), zones, draw(st.integers(1, 12)), draw(st.integers(1, 5)))
    for at in range(draw(st.integers(0, 3))):
        new = rec.NodeRecord(f"x{at}", "h:1", zone=f"z{draw(st.integers(0, 4))}" if zones else "")
        made = put(made, replace(new, capacity=draw(st.sampled_from([50, 100, 400]))))
    for name in draw(st.lists(st.sampled_from(sorted(made.every_node)), max_size=3)):
        state = draw(st.sampled_from(rec.NodeState))
        made = put(made, replace(made.every_node[name], state=state))
    return made


@settings(max_examples=150)
@given(_states(), st.booleans())
def test_every_plan_comes_to_rest_and_never_leaves_too_few(
    state: ClusterState, balance: bool
) -> None:
    for _ in range(6):
        moves = plan(state, balance=balance)
        if not moves:
            break
        before = state
        state = carried_out(state, moves)
        for shard in state.every_shard.values():
            names = [replica.node for replica in shard.replicas]
            had = len(before.every_shard[shard.number].replicas)
            assert len(names) == len(set(names))
            assert len(names) >= min(had, wanted(state, shard))
    else:
        raise AssertionError(f"no rest: {moves}")
