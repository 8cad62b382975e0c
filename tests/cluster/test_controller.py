"""The controller against a dumb twin of a cluster: whatever fails, comes late or is done twice, no
step costs safety, and in the end everything is as it was planned."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftmail.cluster import changes, rules
from raftmail.cluster import records as rec
from raftmail.cluster import steps as s
from raftmail.cluster.changes import ChangeDenied
from raftmail.cluster.controller import next_steps
from raftmail.cluster.moves import counts, missing, plan
from raftmail.consensus.membership import Membership
from tests.cluster.cluster_twin import Twin
from tests.cluster.clusters import cluster, put
from tests.consensus.memberships import ids_of

NOW = 1_000_000


def _run(twin: Twin, rounds: int = 400, silent_s: float = 0.0) -> list[s.Step]:
    """Rounds in which everything works, until nothing is left to do; the steps that were done."""
    before = len(twin.done)
    for _ in range(rounds):
        twin.fill()
        steps = next_steps(twin.state, twin.observe(silent_s=silent_s), NOW)
        if not [step for step in steps if twin.carry_out(step)]:
            return twin.done[before:]
    raise AssertionError(f"no rest after {rounds} rounds: {steps}")


def _moves(done: list[s.Step]) -> Counter[str]:
    return Counter(type(step).__name__ for step in done)


def test_nothing_is_done_when_everything_is_as_it_should_be() -> None:
    twin = Twin(cluster(5, shards=10))
    _run(twin)
    assert next_steps(twin.state, twin.observe(), NOW) == []
    assert not any(shard.founding for shard in twin.state.every_shard.values())


def test_a_drained_node_ends_empty_and_adds_come_before_removals() -> None:
    twin = Twin(cluster(5, shards=10))
    _run(twin)
    held = [n for n, shard in twin.state.every_shard.items() if "n01" in shard.nodes and n]
    assert twin.change(changes.drain(twin.state, "n01", NOW))
    done = _run(twin)
    assert _moves(done)["AddLearner"] == _moves(done)["Promote"] == len(held)
    for number in held:
        kinds = [
            type(x).__name__
            for x in done
            if getattr(x, "shard", 0) == number and not isinstance(x, s.Transfer)
        ]
        assert kinds == ["AddLearner", "Promote", "RemoveReplica"]
    twin.assert_as_recorded()
    assert not any(shard.on("n01") for shard in twin.state.every_shard.values())
    operation = twin.state.find(rec.OperationRecord, "drain-n01")
    assert operation is not None and operation.state == "done"
    assert twin.change(changes.remove(twin.state, "n01", NOW))


def test_masters_leave_a_drained_node_first() -> None:
    twin = Twin(cluster(5, shards=10))
    _run(twin)
    led = {n for n, o in twin.observe().shards.items() if o.master == "n00"}
    assert led and twin.change(changes.drain(twin.state, "n00", NOW))
    steps = next_steps(twin.state, twin.observe(), NOW)
    assert {x.shard for x in steps if isinstance(x, s.Transfer)} >= led - {
        n
        for n, shard in twin.state.every_shard.items()
        if any(
            x
            for x in steps
            if isinstance(x, s.WriteRecords) and f"shard/{n}" in dict(x.change.puts)
        )
    }


def test_a_drain_can_be_undone_half_way() -> None:
    twin = Twin(cluster(6, shards=12))
    _run(twin)
    before = {n: shard.nodes for n, shard in twin.state.every_shard.items()}
    twin.change(changes.drain(twin.state, "n02", NOW))
    for _ in range(3):  # some replicas are joining, some are learners; none has left
        for step in next_steps(twin.state, twin.observe(), NOW):
            twin.carry_out(step)
    assert twin.change(changes.undrain(twin.state, "n02"))
    _run(twin)
    twin.assert_as_recorded()
    assert {n: set(x.nodes) for n, x in twin.state.every_shard.items()} == {
        n: set(names) for n, names in before.items()
    }


def test_a_dead_node_that_is_removed_by_force_is_replaced_everywhere() -> None:
    twin = Twin(cluster(5, 3, shards=10))
    _run(twin)
    twin.kill("n03")
    assert _moves(_run(twin))["AddLearner"] == 0, (
        "a node may come back: only an operator gives it up"
    )
    with pytest.raises(ChangeDenied, match="still holds"):
        changes.remove(twin.state, "n03", NOW)
    with pytest.raises(ChangeDenied, match="is alive"):
        changes.remove(twin.state, "n03", NOW, force=True, alive=True)
    assert changes.at_risk(twin.state, "n03", set(twin.state.nodes) - {"n03"}) == []
    assert twin.change(changes.remove(twin.state, "n03", NOW, force=True, alive=False))
    _run(twin)
    twin.assert_as_recorded()
    assert not any(shard.on("n03") for shard in twin.state.every_shard.values())
    assert plan(twin.state) == []


def test_a_lost_disk_comes_back_under_new_ids() -> None:
    twin = Twin(cluster(3, shards=4))
    _run(twin)
    twin.lose_disk("n01")
    assert twin.change(changes.replace_disk(twin.state, "n01", NOW))
    _run(twin)
    twin.assert_as_recorded()
    for group in twin.groups.values():
        assert ids_of(group.membership, "n01") == [4]


def test_a_joiner_that_dies_for_long_is_given_up_for_another() -> None:
    twin = Twin(cluster(5, shards=1))
    _run(twin)
    source = twin.state.every_shard[1].nodes[0]
    target = next(n for n in twin.state.nodes if not twin.state.every_shard[1].on(n))
    assert twin.change(changes.move_shard(twin.state, 1, source, target))
    twin.kill(target)
    assert _moves(_run(twin))["AddLearner"] == 0
    done = _run(twin, silent_s=s.StepLimits().give_up_s)
    twin.assert_as_recorded()
    assert not twin.state.every_shard[1].on(target) and len(twin.state.every_shard[1].nodes) == 3
    assert all(step.id != 4 for step in done if isinstance(step, s.AddLearner))


@pytest.mark.parametrize("added", [False, True], ids=["not yet in the group", "a learner"])
def test_a_lost_disk_is_replaced_though_its_node_was_away_for_long(added: bool) -> None:
    """What was to come in its place is given up; that the disk is lost is not forgotten."""
    twin = Twin(cluster(3, shards=1))
    _run(twin)
    twin.lose_disk("n01")
    assert twin.change(changes.replace_disk(twin.state, "n01", NOW))
    for step in next_steps(twin.state, twin.observe(), NOW) if added else []:
        twin.carry_out(step)
    twin.kill("n01")
    seen = twin.observe(silent_s=s.StepLimits().give_up_s)
    for step in next_steps(twin.state, seen, NOW):
        if isinstance(step, s.WriteRecords):
            twin.carry_out(step)
    twin.revive("n01")
    _run(twin)
    twin.assert_as_recorded()
    assert plan(twin.state) == []


@pytest.mark.parametrize("added", [False, True], ids=["not yet in the group", "a learner"])
def test_a_dead_node_that_only_was_to_get_replicas_is_removed_at_once(added: bool) -> None:
    twin = Twin(cluster(3, shards=1))
    _run(twin)
    twin.state = put(twin.state, rec.NodeRecord("new", "h:1"))
    for step in next_steps(twin.state, twin.observe(), NOW):
        twin.carry_out(step)
    if added:
        (step,) = (
            x for x in next_steps(twin.state, twin.observe(), NOW) if isinstance(x, s.AddLearner)
        )
        twin.carry_out(step)
    assert [r.state for r in twin.state.every_shard[0].on("new")] == [rec.ReplicaState.JOINING]
    with pytest.raises(ChangeDenied, match="new still holds shard 0"):
        changes.remove(twin.state, "new", NOW, alive=True)
    twin.kill("new")
    assert twin.change(changes.remove(twin.state, "new", NOW, alive=False))
    _run(twin)
    twin.assert_as_recorded()
    assert not twin.state.every_shard[0].on("new")
    assert all(o.state != "running" for o in twin.state.table(rec.OperationRecord).values())


def test_a_rebalance_fills_a_new_node_and_ends() -> None:
    twin = Twin(cluster(5, shards=30))
    _run(twin)
    twin.state = put(twin.state, rec.NodeRecord("new", "h:1"))
    _run(twin)
    assert counts(twin.state)["new"] == 0, "nothing moves for balance without an operator"
    assert twin.change(changes.rebalance(twin.state, NOW))
    _run(twin)
    twin.assert_as_recorded()
    held = counts(twin.state)
    assert 14 <= held["new"] <= 15 and max(held.values()) <= 17
    with pytest.raises(ChangeDenied, match="evenly already"):
        changes.rebalance(twin.state, NOW)


def test_moves_at_once_are_bounded() -> None:
    twin = Twin(cluster(8, shards=60))
    _run(twin)
    twin.change(changes.drain(twin.state, "n01", NOW))
    limits = s.StepLimits(moves_max=5, moves_per_node_max=2)
    for _ in range(4):
        for step in next_steps(twin.state, twin.observe(), NOW, limits):
            twin.carry_out(step)
        joining = [
            r for x in twin.state.every_shard.values() for r in x.replicas if r.state == "joining"
        ]
        assert len(joining) == 2, "each move has the drained node at one end"


def test_masters_are_spread_evenly_and_then_left_alone() -> None:
    twin = Twin(cluster(6, shards=60))
    _run(twin)
    leads = Counter(o.master for n, o in twin.observe().shards.items() if n)
    assert max(leads.values()) - min(leads[n] for n in twin.state.nodes) <= 3
    twin.kill("n00")
    twin.revive("n00")
    _run(twin)
    assert next_steps(twin.state, twin.observe(), NOW) == []


def test_a_node_that_may_not_lead_is_given_no_master_until_it_may_again() -> None:
    """Neither for load nor for the zone that a shard prefers."""
    twin = Twin(cluster(3, 3, shards=9))
    first = twin.state.every_shard[1]
    zone = twin.state.every_node["n00"].zone
    twin.state = put(twin.state, replace(first, master=f"zone:{zone}"))
    for group in twin.groups.values():
        group.unable = {id for id, node in group.membership.voters.items() if node == "n00"}
        group.master = min(set(group.membership.voters) - group.unable)
    _run(twin)
    observed = twin.observe().shards
    assert not any(seen.master == "n00" for seen in observed.values())
    for group in twin.groups.values():
        group.unable = set()
    _run(twin)
    assert twin.observe().shards[1].master == "n00"


def test_a_master_goes_to_the_zone_that_its_shard_prefers() -> None:
    twin = Twin(cluster(6, 3, shards=12))
    shards = twin.state.every_shard
    twin.state = put(twin.state, *(replace(shards[n], master="zone:z2") for n in (1, 2, 3)))
    _run(twin)
    masters = {n: twin.state.every_node[o.master].zone for n, o in twin.observe().shards.items()}
    assert {masters[n] for n in (1, 2, 3)} == {"z2"}


def test_a_master_goes_near_its_clients_and_does_not_swing() -> None:
    twin = Twin(cluster(3, 3, shards=1))
    twin.state = put(twin.state, replace(twin.state.every_shard[1], master="near-clients"))
    _run(twin)
    now = twin.observe().shards[1].master
    other, third = (n for n in twin.state.nodes if n != now)

    def asked(**commands: int) -> list[s.Transfer]:
        seen = replace(twin.observe(), commands={1: commands})
        return [
            x
            for x in next_steps(twin.state, seen, NOW)
            if isinstance(x, s.Transfer) and x.shard == 1
        ]

    assert asked(**{other: 100}) == [], "too few to say"
    assert asked(**{now: 500, other: 900}) == [], "not twice as many"
    assert [x.node for x in asked(**{now: 500, other: 1001, third: 10})] == [other]


def test_a_step_that_is_done_again_does_nothing() -> None:
    twin = Twin(cluster(5, shards=6))
    _run(twin)
    twin.change(changes.drain(twin.state, "n01", NOW))
    for _ in range(60):
        twin.fill()
        for step in next_steps(twin.state, twin.observe(), NOW):
            if twin.carry_out(step) and not isinstance(step, s.Transfer):
                assert not twin.carry_out(step)
    twin.assert_as_recorded()


def _one_shard(
    replicas: dict[int, str], voters: dict[int, str], whole: set[int], next_id: int = 9
) -> list[s.Step]:
    """The steps for shard 1 whose record has replica ids in some states, and whose group has
    voters.

    (1 to 6 are on n00 to n05.)
    """
    state = cluster(6, shards=1)
    made = tuple(
        rec.ReplicaRecord(id, f"n{id - 1:02}", rec.ReplicaState(to)) for id, to in replicas.items()
    )
    shard = replace(state.every_shard[1], replicas=made, next_id=9, founding=False)
    state = put(state, shard)
    seen = s.ObservedShard(
        "n01", 2, Membership(voters, {}, next_id), whole=frozenset(whole), able=frozenset(whole)
    )
    nodes = {name: s.ObservedNode(True) for name in state.nodes}
    return next_steps(state, s.Observed({1: seen}, nodes), NOW)


_SIX = {id: f"n{id - 1:02}" for id in range(1, 7)}


def test_a_whole_voter_stays_while_the_group_could_not_do_without() -> None:
    record = {1: "leaving", 2: "voter", 3: "voter", 4: "voter", 5: "voter"}
    voters = {id: _SIX[id] for id in record}
    assert s.RemoveReplica not in map(type, _one_shard(record, voters, {1, 2, 3}))
    assert [type(x) for x in _one_shard(record, voters, {1, 2, 3, 4})] == [s.RemoveReplica]


def test_a_lost_disk_is_out_of_its_group_before_the_new_one_is_a_voter() -> None:
    """With both in, three of four would have to be there, and only three are: one more loss would
    stop the group for good."""
    twin = Twin(cluster(3, shards=4))
    _run(twin)
    twin.lose_disk("n01")
    assert twin.change(changes.replace_disk(twin.state, "n01", NOW))
    before = len(twin.done)
    _run(twin)
    twin.assert_as_recorded()
    for number in twin.state.shards:
        kinds = [type(x) for x in twin.done[before:] if getattr(x, "shard", None) == number]
        assert kinds.index(s.RemoveReplica) < kinds.index(s.Promote)


def test_a_voter_that_was_taken_out_by_a_late_step_is_written_down_as_gone() -> None:
    record = {1: "voter", 2: "voter", 3: "voter"}
    (step,) = _one_shard(record, {2: "n01", 3: "n02"}, {2, 3})
    assert isinstance(step, s.WriteRecords)
    ((key, value),) = step.change.puts
    assert value is not None
    shard = rec.decode(key, value)
    assert isinstance(shard, rec.ShardRecord) and [r.id for r in shard.replicas] == [2, 3]


def test_nothing_is_done_to_a_group_whose_membership_is_changing() -> None:
    twin = Twin(cluster(5, shards=1))
    _run(twin)
    twin.change(changes.drain(twin.state, twin.state.every_shard[1].nodes[1], NOW))
    seen = twin.observe()
    changing = {n: replace(shard, changing=True) for n, shard in seen.shards.items()}
    steps = next_steps(twin.state, replace(seen, shards=changing), NOW)
    assert steps == []


# -- histories -------------------------------------------------------------------------------------

_KINDS = """
    steps steps steps steps fill late drain undrain remove join kill revive move rebalance stop
    replace pool
"""


def _quorums_without(twin: Twin, node: str) -> bool:
    """Whether every group keeps its majority when a node is lost too."""
    for group in twin.groups.values():
        left = [id for id in twin.standing(group) if group.membership.voters[id] != node]
        if len(left) * 2 <= len(group.membership.voters):
            return False
    return True


def _act(twin: Twin, kind: str, rng: random.Random, late: list[s.Step]) -> None:
    state = twin.state
    node = rng.choice(sorted(state.nodes))
    blind = [n for n in state.shards if rng.random() < 0.2]
    if kind == "steps":
        for step in next_steps(state, twin.observe(blind, rng.choice([0.0, 900.0])), NOW):
            fate = rng.random()
            if fate < 0.7:
                twin.carry_out(step)
            if fate > 0.5:
                late.append(step)
    elif kind == "late":
        rng.shuffle(late)
        for _ in range(min(len(late), 5)):
            twin.carry_out(late.pop())
    elif kind == "fill":
        twin.fill(n for n in state.shards if rng.random() < 0.7)
    elif kind == "kill":
        if not twin.dead and _quorums_without(twin, node):
            twin.kill(node)
    elif kind == "revive":
        twin.revive(node)
    elif kind == "drain":
        twin.change(changes.drain(state, node, NOW, via=rng.choice(sorted(state.nodes))))
    elif kind == "undrain":
        twin.change(changes.undrain(state, node))
    elif kind == "remove":
        dead = sorted(twin.dead & set(state.nodes))
        if dead and _quorums_without(twin, dead[0]):
            twin.change(changes.remove(state, dead[0], NOW, force=True, alive=False))
        else:
            twin.change(changes.remove(state, node, NOW))
    elif kind == "join":
        name = f"x{len(state.every_node)}"
        invite = rec.InviteRecord(name, name, f"{name}:1", NOW + 60, "sealed")
        twin.change(changes.invite(state, invite, NOW))
        joined = rec.NodeRecord(name, f"{name}:1", zone=rng.choice(["", "z0", "z1"]))
        twin.change(changes.join(twin.state, name, joined, NOW))
    elif kind == "move":
        number = rng.choice(list(state.shards))
        source = rng.choice(state.members(number))
        twin.change(changes.move_shard(state, number, source, node))
    elif kind == "rebalance":
        twin.change(changes.rebalance(state, NOW))
    elif kind == "stop":
        twin.change(changes.stop_rebalance(state))
    elif kind == "replace":
        if not twin.dead and _quorums_without(twin, node):
            change = changes.replace_disk(state, node, NOW)
            twin.lose_disk(node)
            twin.change(change)
    elif kind == "pool":
        wish = rules.Wish(nodes=tuple(rng.sample(sorted(state.nodes), 2)), replicas=2, shards=1)
        twin.change(rules.set_rule(state, f"d{rng.randrange(2)}.example", wish))


@settings(max_examples=100)
@given(
    st.integers(4, 7),
    st.integers(0, 3),
    st.integers(1, 6),
    st.lists(st.sampled_from(_KINDS.split()), max_size=60),
    st.randoms(use_true_random=False),
)
def test_whatever_happens_no_step_costs_safety_and_it_ends_as_planned(
    count: int, zones: int, shards: int, kinds: list[str], rng: random.Random
) -> None:
    twin = Twin(cluster(count, zones, shards))
    late: list[s.Step] = []
    for kind in kinds:
        try:
            _act(twin, kind, rng, late)
        except ChangeDenied:
            pass
    for step in late:
        twin.carry_out(step)
    for node in sorted(twin.dead & set(twin.state.nodes)):
        twin.revive(node)
    _run(twin, silent_s=900.0)
    assert plan(twin.state) == []
    if any(missing(twin.state, shard) for shard in twin.state.every_shard.values()):
        return  # there are too few nodes to end
    twin.assert_as_recorded()
    for shard in twin.state.every_shard.values():
        for name in shard.nodes:
            assert twin.state.every_node[name].state is rec.NodeState.ACTIVE
    assert all(o.state != "running" for o in twin.state.table(rec.OperationRecord).values())
