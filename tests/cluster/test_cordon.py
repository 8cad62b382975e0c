"""Nodes that get no masters and no new replicas until an operator lifts it, and masters that stay
where one has put them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from raftmail.cluster import changes, leader_balancing, rules
from raftmail.cluster import records as rec
from raftmail.cluster import steps as s
from raftmail.cluster.changes import ChangeDenied
from raftmail.cluster.controller import next_steps
from raftmail.cluster.moves import plan
from raftmail.cluster.state import ClusterState
from tests.cluster.cluster_twin import Twin
from tests.cluster.clusters import cluster, put

NOW = 1_000_000


def settled(count: int, shards: int = 8) -> Twin:
    twin = Twin(cluster(count, shards=shards))
    _run(twin)
    return twin


def _run(twin: Twin) -> list[s.Step]:
    before = len(twin.done)
    for _ in range(400):
        twin.fill()
        steps = next_steps(twin.state, twin.observe(), NOW)
        if not [step for step in steps if twin.carry_out(step)]:
            return twin.done[before:]
    raise AssertionError(f"no rest: {steps}")


def led_by(twin: Twin, node: str) -> set[int]:
    return {number for number, seen in twin.observe().shards.items() if seen.master == node}


def replicas_on(state: ClusterState, node: str) -> set[tuple[int, int]]:
    return {(n, r.id) for n, shard in state.every_shard.items() for r in shard.on(node)}


def test_a_cordoned_node_hands_over_all_masters_and_keeps_its_replicas() -> None:
    twin = settled(4)
    assert led_by(twin, "n01")
    before = replicas_on(twin.state, "n01")
    assert twin.change(changes.cordon(twin.state, "n01"))
    steps = _run(twin)
    assert not led_by(twin, "n01")
    assert {type(step) for step in steps} == {s.Transfer}
    assert replicas_on(twin.state, "n01") == before
    assert "n01 is cordoned" in {step.why for step in steps if isinstance(step, s.Transfer)}


def test_it_gets_masters_again_when_the_cordon_is_lifted() -> None:
    twin = settled(3)
    twin.change(changes.cordon(twin.state, "n01"))
    _run(twin)
    assert twin.change(changes.uncordon(twin.state, "n01"))
    _run(twin)
    assert led_by(twin, "n01")


def test_a_cordoned_node_leads_what_no_other_can() -> None:
    twin = settled(3)
    for name in ("n00", "n01", "n02"):
        twin.change(changes.cordon(twin.state, name))
    _run(twin)
    assert all(seen.master for seen in twin.observe().shards.values())
    twin.change(changes.uncordon(twin.state, "n00"))
    _run(twin)
    assert not led_by(twin, "n01") and not led_by(twin, "n02")


def test_a_shard_that_leaves_its_master_goes_to_a_cordoned_node_rather_than_nowhere() -> None:
    state = cluster(3, shards=1)
    twin = Twin(state)
    _run(twin)
    seen = twin.observe().shards[1]
    others = [n for n in twin.state.nodes if n != seen.master]
    for name in others:
        twin.change(changes.cordon(twin.state, name))
    assert leader_balancing.heir(twin.state, twin.state.every_shard[1], seen) in others


@pytest.mark.parametrize("balance", [False, True])
def test_no_plan_moves_anything_to_a_cordoned_node(balance: bool) -> None:
    twin = settled(4, shards=12)
    newcomer = rec.NodeRecord("n09", "127.0.0.1:7900", cordoned=True)
    state = put(twin.state, newcomer, replace(twin.state.every_node["n02"], cordoned=True))
    drained = put(state, replace(state.every_node["n00"], state=rec.NodeState.DRAINING))
    for one in (state, drained):
        assert not [move for move in plan(one, balance=balance) if move.target in ("n02", "n09")]
    assert plan(put(state, replace(newcomer, cordoned=False)), balance=True)


def test_what_operators_ask_for_obeys_the_cordon_and_says_so() -> None:
    twin = settled(5)
    shard = next(s for s in twin.state.every_shard.values() if s.number and not s.on("n01"))
    assert twin.change(changes.cordon(twin.state, "n01"))
    with pytest.raises(ChangeDenied, match="uncordon n01"):
        changes.move_shard(twin.state, shard.number, shard.nodes[0], "n01")
    with pytest.raises(ChangeDenied, match="uncordon n01"):
        changes.replace_disk(twin.state, "n01", NOW)
    with pytest.raises(ChangeDenied, match="n01 is cordoned"):
        list(rules._fitting(twin.state, rec.PoolRecord("p", (), 1, nodes=("n01",))))
    with pytest.raises(ChangeDenied, match="cordoned already"):
        changes.cordon(twin.state, "n01")
    with pytest.raises(ChangeDenied, match="n02 is not cordoned"):
        changes.uncordon(twin.state, "n02")
    with pytest.raises(ChangeDenied, match="no node n77"):
        changes.cordon(twin.state, "n77")


def test_a_drain_is_refused_that_only_cordoned_nodes_could_take_in() -> None:
    twin = settled(4)
    held = next(n for n in twin.state.nodes if replicas_on(twin.state, n))
    for name in twin.state.nodes:
        if name != held:
            twin.change(changes.cordon(twin.state, name))
    with pytest.raises(ChangeDenied, match="cannot be drained"):
        changes.drain(twin.state, held, NOW)


def test_a_record_without_the_field_is_of_a_node_that_is_not_cordoned() -> None:
    node = rec.NodeRecord("n01", "127.0.0.1:7001")
    assert b"cordoned" not in rec.encode(node)
    assert rec.decode("node/n01", rec.encode(replace(node, cordoned=True))) == replace(
        node, cordoned=True
    )


def test_a_held_master_stays_until_it_has_to_go() -> None:
    twin = settled(3, shards=9)
    observed = twin.observe()
    target = "n00"
    # An operator has put all masters on one node, which the balancer would not leave so.
    seen = {n: _led_by(twin, n, target) for n in observed.shards}
    held = {n: replace(one, held=True) for n, one in seen.items()}
    limits = s.StepLimits()
    free = list(
        leader_balancing.transfers(twin.state, replace(observed, shards=seen), set(), limits)
    )
    assert free, "it is not even"
    assert not list(
        leader_balancing.transfers(twin.state, replace(observed, shards=held), set(), limits)
    )
    cordoned = put(twin.state, replace(twin.state.every_node[target], cordoned=True))
    assert list(leader_balancing.transfers(cordoned, replace(observed, shards=held), set(), limits))


def _led_by(twin: Twin, shard: int, node: str) -> s.ObservedShard:
    seen = twin.observe().shards[shard]
    mine = [id for id, name in seen.membership.voters.items() if name == node]
    return replace(seen, master=node, master_id=mine[0]) if mine else seen
