"""Rules, users' places, domains and aliases."""

from __future__ import annotations

import pytest

from raftmail.cluster import records as rec
from raftmail.cluster import rules
from raftmail.cluster import steps as s
from raftmail.cluster.changes import Change, ChangeDenied
from raftmail.cluster.controller import next_steps
from raftmail.cluster.moves import plan
from raftmail.cluster.rules import Wish
from raftmail.cluster.state import ClusterState
from tests.cluster.clusters import cluster, may_add_users, put

DOMAIN = "example.org"
USERS = tuple(f"u{at}@{DOMAIN}" for at in range(30))


def _after(state: ClusterState, change: Change) -> ClusterState:
    assert all(state.revision_of(key) == revision for key, revision in change.expected)
    return state.with_puts(change.puts)


def _observed(
    state: ClusterState, *, users: bool = True, behind: str = "", silent_s: float = -1.0
) -> s.Observed:
    nodes = {
        name: s.ObservedNode(
            not (name == behind and silent_s >= 0),
            silent_s if name == behind else 0.0,
            0 if name == behind else state.revision,
        )
        for name in state.nodes
    }
    known = dict.fromkeys(rules.to_pin(state), USERS) if users else {}
    return s.Observed({}, nodes, users=known)


def _until_rest(state: ClusterState) -> ClusterState:
    for _ in range(20):
        steps = next_steps(state, _observed(state), 0)
        if not steps:
            return state
        for step in steps:
            assert isinstance(step, s.WriteRecords)
            state = _after(state, step.change)
    raise AssertionError("no rest")


def test_a_rule_gives_new_users_a_pool_and_leaves_the_others_where_they_are() -> None:
    state = cluster(9, 3)
    before = {user: state.shard_of(user) for user in USERS}
    state = _after(state, rules.set_rule(state, DOMAIN, Wish(zones=("z1",), replicas=3, shards=2)))
    assert not may_add_users(state, DOMAIN) and may_add_users(state, "other.org")
    state = _until_rest(state)
    assert may_add_users(state, DOMAIN)
    assert {user: state.shard_of(user) for user in USERS} == before
    pool = state.find(rec.PoolRecord, DOMAIN)
    assert pool is not None and pool.shards == (9, 10)
    assert {state.shard_of(f"new{at}@{DOMAIN}") for at in range(20)} == {9, 10}
    for number in pool.shards:
        assert state.members(number) == ("n01", "n04", "n07")
    assert plan(state) == []


def test_nobody_is_moved_at_any_step_of_a_rule_that_changes() -> None:
    state = cluster(9, 3)
    before = {user: state.shard_of(user) for user in USERS}
    state = _after(state, rules.set_rule(state, DOMAIN, Wish(shards=3)))
    state = _until_rest(state)
    state = _after(state, rules.remove_rule(state, DOMAIN))
    newer = f"new@{DOMAIN}"
    place = state.shard_of(newer)
    while steps := next_steps(state, _observed(state), 0):
        for step in steps:
            assert isinstance(step, s.WriteRecords)
            state = _after(state, step.change)
            assert {user: state.shard_of(user) for user in USERS} == before
            if not may_add_users(state, DOMAIN):
                assert state.shard_of(newer) in (place, cluster(9, 3).shard_of(newer))
    assert state.find(rec.RuleRecord, DOMAIN) is None
    assert state.shard_of(newer) == cluster(9, 3).shard_of(newer)


def test_a_rule_waits_until_the_users_are_known_and_every_node_follows() -> None:
    state = cluster(4)
    state = _after(state, rules.set_rule(state, DOMAIN, Wish()))
    assert next_steps(state, _observed(state, users=False), 0) == []
    while state.table(rec.RuleRecord)[f"rule/{DOMAIN}"].state is rec.RuleState.PINNING:
        for step in next_steps(state, _observed(state), 0):
            assert isinstance(step, s.WriteRecords)
            state = _after(state, step.change)
    assert next_steps(state, _observed(state, behind="n02"), 0) == []
    assert next_steps(state, _observed(state, behind="n02", silent_s=5.0), 0) == []
    assert next_steps(state, _observed(state, behind="n02", silent_s=rules.FORGOTTEN_S), 0) != []


def test_a_pool_that_is_changed_keeps_its_shards_and_its_users() -> None:
    state = cluster(9, 3)
    state = _until_rest(_after(state, rules.set_rule(state, DOMAIN, Wish(zones=("z1",)))))
    places = {f"new{at}@{DOMAIN}": state.shard_of(f"new{at}@{DOMAIN}") for at in range(9)}
    state = _after(state, rules.set_rule(state, DOMAIN, Wish(zones=("z2",), master="zone:z2")))
    assert may_add_users(state, DOMAIN), "no user changes the shard, so none has to be pinned"
    assert {user: state.shard_of(user) for user in places} == places
    pool = state.table(rec.PoolRecord)[f"pool/{DOMAIN}"]
    assert {move.shard for move in plan(state)} == set(pool.shards)
    assert {state.every_node[move.target].zone for move in plan(state)} == {"z2"}


def test_a_rule_for_nodes_by_name_or_label_or_for_a_pool_that_is_there() -> None:
    state = put(
        cluster(6),
        rec.NodeRecord("ssd0", "h:1", labels=("ssd",)),
        rec.NodeRecord("ssd1", "h:2", labels=("ssd",)),
    )
    state = _after(state, rules.set_rule(state, "a.org", Wish(labels=("ssd",), replicas=2)))
    assert set(state.members(9)) == {"ssd0", "ssd1"}
    state = _after(state, rules.set_rule(state, "b.org", Wish(nodes=("n00", "n01"), replicas=2)))
    assert set(state.members(13)) == {"n00", "n01"}
    state = _after(state, rules.set_rule(state, "c.org", Wish(), pool="a.org"))
    assert state.table(rec.RuleRecord)["rule/c.org"].pool == "a.org"


@pytest.mark.parametrize(
    ("wish", "pool", "reason"),
    [
        (Wish(zones=("z1",), replicas=4), "", r"4 replicas need .*in zone z1; there are 2 \(n01, "
                                              r"n04\): 2 more"),
        (Wish(zones=("mars",)), "", "no active node is in zone mars; zones are z0, z1, z2"),
        (Wish(labels=("ssd",)), "", "no active node has the label ssd"),
        (Wish(nodes=("n77",)), "", "no active node n77"),
        (Wish(replicas=9), "", "from 1 to 7"),
        (Wish(shards=0), "", "at least 1"),
        (Wish(shards=5000), "", "at most 4096 in all; there are 8"),
        (Wish(zones=("z1",), replicas=2, master="zone:z2"), "",
         "no active node in zone z1 is in zone z2, where the masters"),
        (Wish(master="zone:mars"), "", "no active node is in zone mars, where the masters are to "
                                       "be"),
        (Wish(master="moon"), "", "balanced, near-clients or zone:NAME"),
        (Wish(), "nope", "there is no pool nope; there are main"),
        (Wish(replicas=2), "main", "not both"),
        (Wish(), "main", "just that already"),
    ],
)  # fmt: skip
def test_a_rule_that_cannot_be_met_says_what_is_missing(wish: Wish, pool: str, reason: str) -> None:
    with pytest.raises(ChangeDenied, match=reason):
        rules.set_rule(cluster(6, 3), DOMAIN, wish, pool)


def test_a_rule_is_not_changed_while_it_is_being_changed() -> None:
    state = _after(cluster(4), rules.set_rule(cluster(4), DOMAIN, Wish()))
    with pytest.raises(ChangeDenied, match="being changed already"):
        rules.set_rule(state, DOMAIN, Wish(replicas=2))
    with pytest.raises(ChangeDenied, match="being changed"):
        rules.remove_rule(state, DOMAIN)
    with pytest.raises(ChangeDenied, match="no rule for other"):
        rules.remove_rule(state, "other.org")


def test_a_users_shard_is_chosen_when_the_user_is_made_and_not_later() -> None:
    state = cluster(4)
    user = "Anna@example.org"
    state = _after(state, rules.place_user(state, user, 7, exists=False))
    assert state.shard_of("anna@example.org") == 7
    _after(state, rules.place_user(state, user, 7, exists=True))
    with pytest.raises(ChangeDenied, match="mail in shard 7, which would be left behind"):
        rules.place_user(state, user, 3, exists=True)
    for number in (0, 99):
        with pytest.raises(ChangeDenied, match=f"no shard {number} for mail"):
            rules.place_user(state, user, number, exists=False)


def test_aliases_make_no_loops() -> None:
    state = cluster(1)
    state = _after(state, rules.set_alias(state, "a@x", ["b@x", "B@x", "a@x"]))
    assert state.table(rec.AliasRecord)["alias/a@x"].to == ("b@x", "a@x")
    state = _after(state, rules.set_alias(state, "b@x", ["c@x"]))
    with pytest.raises(ChangeDenied, match="it would be a loop: c@x to a@x to b@x to c@x"):
        rules.set_alias(state, "c@x", ["d@x", "a@x"])
    for to in ([], ["z@x"], ["@"]):
        with pytest.raises(ChangeDenied):
            rules.set_alias(state, "z@x", to)
    state = _after(state, rules.remove_alias(state, "a@x"))
    with pytest.raises(ChangeDenied, match="no alias a@x"):
        rules.remove_alias(state, "a@x")


def test_a_domain_with_aliases_or_a_rule_is_not_removed() -> None:
    state = cluster(3)
    state = _after(state, rules.set_domain(state, "Example.org", "Post@example.org"))
    assert state.table(rec.DomainRecord)["domain/example.org"].catch_all == "post@example.org"
    state = _after(state, rules.set_alias(state, "a@example.org", ["b@x"]))
    with pytest.raises(ChangeDenied, match=r"has the aliases a@example\.org"):
        rules.remove_domain(state, "example.org")
    state = _after(state, rules.remove_alias(state, "a@example.org"))
    ruled = _after(state, rules.set_rule(state, "example.org", Wish()))
    with pytest.raises(ChangeDenied, match="has a rule"):
        rules.remove_domain(ruled, "example.org")
    state = _after(state, rules.remove_domain(state, "example.org"))
    with pytest.raises(ChangeDenied, match="no domain"):
        rules.remove_domain(state, "example.org")
    with pytest.raises(ChangeDenied, match="is no domain"):
        rules.set_domain(state, "a@b")


def test_a_quota_of_a_user_goes_before_that_of_the_domain() -> None:
    state = cluster(1)
    assert state.quota_of("a@x") == 0
    state = _after(state, rules.set_domain(state, "x", "post@x"))
    state = _after(state, rules.set_domain(state, "x", quota_bytes=1000))
    assert state.table(rec.DomainRecord)["domain/x"] == rec.DomainRecord("x", "post@x", 1000)
    assert (state.quota_of("a@x"), state.quota_of("a@y")) == (1000, 0)
    state = _after(state, rules.set_quota(state, "A@x", 5))
    assert (state.quota_of("a@x"), state.quota_of("b@x")) == (5, 1000)
    with pytest.raises(ChangeDenied, match="just that already"):
        rules.set_quota(state, "a@x", 5)
    state = _after(state, rules.set_quota(state, "a@x", 0))
    assert state.quota_of("a@x") == 0, "no limit, whatever the domain says"
    state = _after(state, rules.set_quota(state, "a@x", None))
    assert state.quota_of("a@x") == 1000
    with pytest.raises(ChangeDenied, match="just that already"):
        rules.set_quota(state, "a@x", None)
