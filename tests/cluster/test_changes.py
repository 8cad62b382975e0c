"""What operators ask for: done whole, or refused with the reason."""

from __future__ import annotations

from dataclasses import replace

import pytest

from raftmail.cluster import changes
from raftmail.cluster import records as rec
from raftmail.cluster.changes import Change, ChangeDenied
from raftmail.cluster.state import ClusterState
from raftmail.mail.limits import validate
from tests.cluster.clusters import cluster, put

NOW = 1_000_000
INVITE = rec.InviteRecord("i1", "n9", "10.0.0.9:7000", NOW + 3600, "c2VhbGVk")
NEW = rec.NodeRecord("n9", "10.0.0.9:7000", client="10.0.0.9:7001", zone="z1")


def _after(state: ClusterState, change: Change) -> ClusterState:
    """The state after a change that the root takes."""
    validate(change.command)
    assert all(state.revision_of(key) == revision for key, revision in change.expected)
    return state.with_puts(change.puts)


def test_an_invited_node_joins_once() -> None:
    state = _after(cluster(3), changes.invite(cluster(3), INVITE, NOW))
    joined = _after(state, changes.join(state, "i1", NEW, NOW + 10))
    node = joined.every_node["n9"]
    assert (node.state, node.joined_s) == (rec.NodeState.ACTIVE, NOW + 10)
    used = joined.find(rec.InviteRecord, "i1")
    assert used is not None and used.used and used.bundle == "", "what was sealed is not kept"
    with pytest.raises(ChangeDenied, match="was used already"):
        changes.join(joined, "i1", NEW, NOW + 20)
    assert changes.already_joined(joined, "i1", NEW)
    assert not changes.already_joined(joined, "i1", replace(NEW, peer="10.0.0.8:7000"))


@pytest.mark.parametrize(
    ("invite_id", "node", "now_s", "reason"),
    [
        ("i2", NEW, NOW, "there is no invitation i2"),
        ("i1", NEW, NOW + 4000, "expired 400 s ago"),
        ("i1", replace(NEW, name="n8"), NOW, "is for n9 at 10.0.0.9:7000, not for n8"),
        ("i1", replace(NEW, peer="10.0.0.8:7000"), NOW, "not for n9 at 10.0.0.8:7000"),
        ("i1", replace(NEW, client="127.0.0.1:7001"), NOW, "127.0.0.1:7001 is that of node n01"),
    ],
)
def test_a_node_that_was_not_invited_like_this_is_refused(
    invite_id: str, node: rec.NodeRecord, now_s: int, reason: str
) -> None:
    state = _after(cluster(3), changes.invite(cluster(3), INVITE, NOW))
    with pytest.raises(ChangeDenied, match=reason):
        changes.join(state, invite_id, node, now_s)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"name": "n01"}, "there is a node n01 already"),
        ({"peer": "127.0.0.1:7002"}, "is that of node n02 already"),
        ({"expires_s": NOW}, "would have expired"),
        ({"bundle": "x" * (changes.INVITE_BYTES_MAX + 1)}, "larger than"),
        ({"name": "gone"}, "its name is not used again"),
        ({"id": "i0", "name": "n9"}, r"is invited already, for .*raftmail member withdraw n9"),
    ],
)
def test_an_invitation_that_could_not_be_used_is_not_made(
    fields: dict[str, object], reason: str
) -> None:
    state = put(
        cluster(3),
        rec.NodeRecord("gone", "h:9", state=rec.NodeState.REMOVED),
        replace(INVITE, id="old"),
    )
    with pytest.raises(ChangeDenied, match=reason):
        changes.invite(state, replace(replace(INVITE, name="n7", peer="h:7"), **fields), NOW)  # type: ignore[arg-type]


def test_old_invitations_are_cleared_away() -> None:
    state = put(
        cluster(3), replace(INVITE, id="used", used=True), replace(INVITE, id="old", expires_s=NOW)
    )
    state = _after(state, changes.invite(state, INVITE, NOW))
    assert list(state.table(rec.InviteRecord)) == ["invite/i1"]
    state = _after(state, changes.withdraw(state, "i1"))
    with pytest.raises(ChangeDenied, match="no open invitation"):
        changes.withdraw(state, "i1")


def test_a_drain_that_leaves_too_few_nodes_is_refused_and_says_what_is_missing() -> None:
    with pytest.raises(
        ChangeDenied, match=r"shard 1 is to have 3 replicas, and there are 2 nodes .*1 more needed"
    ):
        changes.drain(cluster(3), "n01", NOW)


def test_of_two_operators_who_drain_at_once_the_second_is_refused() -> None:
    state = cluster(4)
    first, second = (changes.drain(state, name, NOW, by=name) for name in ("n01", "n02"))
    after = _after(state, first)
    assert any(after.revision_of(key) != revision for key, revision in second.expected)
    with pytest.raises(ChangeDenied, match="n01 is being drained already"):
        changes.drain(after, "n02", NOW)


def test_two_operators_do_not_drain_each_others_nodes() -> None:
    state = cluster(9)
    state = _after(state, changes.drain(state, "n01", NOW, by="anna", via="n02"))
    with pytest.raises(
        ChangeDenied, match=r"n01, through which this is asked, .*by anna through n02"
    ):
        changes.drain(state, "n02", NOW, via="n01")
    with pytest.raises(ChangeDenied, match="through which this is asked"):
        changes.drain(state, "n02", NOW, by="bob", via="n01")
    _after(state, changes.drain(state, "n02", NOW, by="anna", via="n01"))
    _after(state, changes.drain(state, "n02", NOW, via="n03"))
    with pytest.raises(ChangeDenied, match="is being drained already"):
        changes.drain(state, "n01", NOW)


def test_a_node_that_holds_something_is_not_removed() -> None:
    state = cluster(4)
    with pytest.raises(ChangeDenied, match=r"n01 still holds .* drain it first"):
        changes.remove(state, "n01", NOW)
    with pytest.raises(ChangeDenied, match="force is for dead nodes"):
        changes.remove(state, "n01", NOW, force=True, alive=True)
    with pytest.raises(ChangeDenied, match="there is no node n77"):
        changes.remove(state, "n77", NOW)


def test_the_last_replica_is_never_removed_not_even_by_force() -> None:
    state = cluster(4, shards=4, replication=1)
    holder = state.every_shard[1].nodes[0]
    with pytest.raises(ChangeDenied, match="the last replica of"):
        changes.remove(state, holder, NOW, force=True, alive=False)
    with pytest.raises(ChangeDenied, match="last replica"):
        changes.remove(
            put(cluster(1), rec.NodeRecord("n9", "h:9")), "n00", NOW, force=True, alive=False
        )


def test_the_last_node_is_never_removed() -> None:
    with pytest.raises(ChangeDenied, match="last node"):
        changes.remove(cluster(1), "n00", NOW, force=True, alive=False)


def test_what_is_at_risk_is_said_by_shard() -> None:
    state = cluster(3, shards=1)
    assert changes.at_risk(state, "n00", ["n01", "n02"]) == []
    (root, mail) = changes.at_risk(state, "n00", ["n02"])
    assert root.startswith("shard 0: 1 of 3 replicas are left (n02), which is no majority")
    assert mail.startswith("shard 1:")


def test_a_lost_disk_with_nothing_to_fill_it_from_is_not_replaced() -> None:
    with pytest.raises(ChangeDenied, match="nothing to fill a new one from"):
        changes.replace_disk(cluster(1), "n00", NOW)


@pytest.mark.parametrize(
    ("number", "source", "target", "reason"),
    [
        (77, "n00", "n05", "there is no shard 77"),
        (1, "n00", "n77", "there is no node n77"),
        (1, None, None, "has a replica of shard 1 already"),
        (1, "x", None, "x has no replica of shard 1 that could move"),
    ],
)
def test_a_move_that_makes_no_sense_is_refused(
    number: int, source: str | None, target: str | None, reason: str
) -> None:
    state = cluster(6, shards=2)
    on = state.every_shard[1].nodes
    free = next(name for name in state.nodes if name not in on)
    default = free if source == "x" else on[1]
    with pytest.raises(ChangeDenied, match=reason):
        changes.move_shard(state, number, source or on[0], target or default)


def test_a_shard_moves_once_at_a_time_and_stays_in_its_pool() -> None:
    state = cluster(6, shards=2)
    on = state.every_shard[1].nodes
    free = [name for name in state.nodes if name not in on]
    moving = _after(state, changes.move_shard(state, 1, on[0], free[0]))
    with pytest.raises(ChangeDenied, match="is being moved already"):
        changes.move_shard(moving, 1, on[1], free[1])
    pool = replace(state.table(rec.PoolRecord)["pool/main"], nodes=on)
    with pytest.raises(ChangeDenied, match=f"for nodes among .*{free[0]} is none"):
        changes.move_shard(put(state, pool), 1, on[0], free[0])


def test_a_recovered_shard_goes_on_with_one_replica_and_ids_that_were_never_used() -> None:
    state = cluster(5, shards=1)
    state = _after(state, changes.recover(state, 1, 2, [1, 2, 3, 7], NOW, "anna"))
    shard = state.every_shard[1]
    assert [r.id for r in shard.replicas] == [2] and shard.next_id == 8
    kept = state.find(rec.RecoveryRecord, 1)
    assert kept is not None and kept.lost == (1, 3, 7)
    with pytest.raises(ChangeDenied, match="has no replica 9"):
        changes.recover(state, 1, 9, [], NOW, "anna")


@pytest.mark.parametrize(
    "peer", ["0.0.0.0:9", "[::]:9", "255.255.255.255:1", "224.0.0.1:1", "garbage", "h:0"]
)
def test_an_address_that_is_not_of_one_machine_is_not_invited(peer: str) -> None:
    with pytest.raises(changes.ChangeDenied, match=r"address"):
        changes.invite(cluster(3), replace(INVITE, peer=peer), NOW)
