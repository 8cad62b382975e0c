"""Terms, votes, PreVote, stickiness and the transfer of mastership: guards G3, G5 and G11."""

from __future__ import annotations

import pytest

from raftmail.consensus import messages as m
from raftmail.consensus.group import NotLeader
from tests.consensus.cluster import Cluster
from tests.consensus.planted import FAULTS
from tests.consensus.planting import Claim, claims_of, fails_with, finds


def of_kind(c: Cluster, kind: m.Kind, sender: int | None = None) -> list[m.Message]:
    return [x for a, _, x in c.sent if x.kind is kind and sender in (None, a)]


def candidate(size: int) -> Cluster:
    """Replica 1 has asked everyone for votes in term 1; nobody has answered."""
    c = Cluster(size)
    c.now += 1
    c.tick(1)
    for voter in range(2, size + 1):
        c.forge(m.Kind.PREVOTE_GRANTED, voter, 1, 1)
    c.sync(1)
    for link in c.links.values():
        link.clear()
    assert len(of_kind(c, m.Kind.VOTE, 1)) == size - 1 and not c.group(1).is_leader
    return c


@fails_with("late-messages")
def test_a_late_acknowledgement_of_an_earlier_term_does_not_count() -> None:
    c = Cluster()
    c.elect(1)
    c.isolate(1)
    c.elect(2)
    c.propose(2, b"theirs")
    c.sync(2)  # on one disk of three
    c.isolate(2)
    c.heal()
    c.cut(1, 2)
    c.cut(2, 3)
    c.run(3.0, only=[1, 3])
    leader = 1 if c.group(1).is_leader else 3
    c.isolate(leader)
    c.propose(leader, b"mine")
    c.sync(leader)
    group = c.group(leader)
    before = group.commit_index
    c.forge(m.Kind.ACK, 2, leader, group.term - 1, group.last_index + 1, 1)
    group.advance(c.now)
    assert group.match_index(2) < group.last_index
    assert group.commit_index == before, "an entry on one disk of three is committed"


def test_a_late_vote_of_an_earlier_term_does_not_count() -> None:
    c = candidate(3)
    c.now += 2
    c.tick(1)
    for voter in (2, 3):
        c.forge(m.Kind.PREVOTE_GRANTED, voter, 1, 2)
    assert c.group(1).term == 2
    c.forge(m.Kind.VOTE_GRANTED, 2, 1, 1)
    assert not c.group(1).is_leader


@fails_with("votes-counted-twice")
def test_a_vote_counts_once_however_often_it_is_repeated() -> None:
    c = candidate(5)
    for _ in range(5):
        c.forge(m.Kind.VOTE_GRANTED, 2, 1, 1)
    assert not c.group(1).is_leader
    c.forge(m.Kind.VOTE_GRANTED, 3, 1, 1)
    assert c.group(1).is_leader


def test_a_prevote_counts_once_however_often_it_is_repeated() -> None:
    c = Cluster(5)
    c.now += 1
    c.tick(1)
    for _ in range(5):
        c.forge(m.Kind.PREVOTE_GRANTED, 2, 1, 1)
    assert c.group(1).term == 0
    c.forge(m.Kind.PREVOTE_GRANTED, 3, 1, 1)
    assert c.group(1).term == 1


@fails_with("second-leader")
def test_a_second_leader_in_a_term_is_ignored() -> None:
    c = Cluster()
    c.now += 1
    c.append(1, 2, 1, (1, 0), [(1, b"first")])
    c.append(3, 2, 1, (1, 0), [(1, b"second")], commit=2)
    c.forge(m.Kind.TICKET, 3, 2, 1, 50)
    assert c.log(2)[1:] == [(1, b"first")]
    assert c.group(2).leader == 1 and c.group(2).commit_index == 1
    assert c.group(2).resync_wanted is None and c.group(2).refused == 2


@fails_with("second-leader")
def test_a_leader_does_not_follow_another_one_of_its_term() -> None:
    c = Cluster()
    c.elect(1)
    c.append(3, 1, 1, (1, 0), [(1, b"x")])
    assert c.group(1).is_leader and c.group(1).last_index == 2


@fails_with("foreign-messages")
def test_a_message_of_another_group_is_refused() -> None:
    c = Cluster()
    data = m.header(m.Kind.VOTE, 8, 1, 2, 9) + m.encode_fields([1, 0, 0])
    with pytest.raises(m.BadMessage, match="group 8"):
        c.group(2).receive(c.now, data, "n1")
    assert c.group(2).term == 0


@fails_with("borrowed-name")
def test_a_message_in_the_name_of_another_member_is_refused() -> None:
    c = Cluster()
    data = m.header(m.Kind.VOTE, 7, 1, 2, 9) + m.encode_fields([1, 0, 0])
    with pytest.raises(m.BadMessage, match="in the name of replica 1"):
        c.group(2).receive(c.now, data, "n3")
    assert c.group(2).term == 0


@pytest.mark.parametrize("cut", [0, 1, 10, 21, 22, 23, -1])
def test_a_message_that_is_cut_off_is_refused(cut: int) -> None:
    c = Cluster()
    data = m.header(m.Kind.APPEND, 7, 1, 2, 9) + m.encode_fields([0, 0, 1, 0, [9], [b"\0x"]])
    with pytest.raises(m.BadMessage):
        c.group(2).receive(c.now, data[:cut], "n1")
    assert c.group(2).term == 0


@fails_with("no-prevote")
def test_a_replica_that_reaches_no_majority_raises_no_term_and_deposes_nobody_when_it_returns() -> (
    None
):
    c = Cluster()
    c.elect(1)
    c.run(0.5)
    c.isolate(3)
    for _ in range(10):
        c.run(1.0)
    assert c.group(3).term == 1
    c.heal()
    c.run(3.0)
    assert c.group(1).is_leader and c.group(1).term == 1


@fails_with("prevote-not-sticky")
def test_a_replica_that_cannot_hear_the_leader_does_not_depose_it() -> None:
    c = Cluster()
    c.elect(1)
    c.run(0.5)
    c.cut(1, 3)
    c.run(5.0)
    assert c.group(1).is_leader and {c.group(n).term for n in c.ids} == {1}


@fails_with("vote-not-sticky")
def test_a_candidate_gets_no_vote_and_raises_no_term_while_the_leader_is_alive() -> None:
    c = Cluster()
    c.elect(1)
    c.run(0.5)
    c.forge(m.Kind.VOTE, 3, 2, 5, 50, 4, 0)
    c.forge(m.Kind.VOTE, 3, 1, 5, 50, 4, 0)
    assert c.group(2).term == 1 and c.group(1).is_leader


@fails_with("prevote-any-log")
def test_a_prevote_is_not_granted_to_a_log_that_lacks_entries() -> None:
    c = Cluster()
    c.elect(1)
    c.isolate(3)
    c.propose(1, b"x")
    c.settle([1, 2])
    c.isolate(1)
    c.heal()
    c.isolate(1)
    c.now += 5
    c.sent.clear()
    c.forge(m.Kind.PREVOTE, 3, 2, 2, 2, 1, 0)
    assert not of_kind(c, m.Kind.PREVOTE_GRANTED)
    c.forge(m.Kind.PREVOTE, 3, 2, 2, 3, 1, 0)
    assert of_kind(c, m.Kind.PREVOTE_GRANTED)


def test_a_vote_is_not_given_to_a_log_that_lacks_entries() -> None:
    c = Cluster()
    c.elect(1)
    c.propose(1, b"x")
    c.settle()
    c.now += 5
    c.sent.clear()
    c.forge(m.Kind.VOTE, 3, 2, 2, 2, 1, 0)
    c.sync(2)
    assert not of_kind(c, m.Kind.VOTE_GRANTED)


@fails_with("no-fallback")
def test_a_leader_that_reaches_no_majority_steps_down() -> None:
    c = Cluster()
    c.elect(1)
    c.run(0.5)
    c.isolate(1)
    c.run(1.0)
    assert not c.group(1).is_leader and c.group(1).term == 1
    with pytest.raises(NotLeader):
        c.group(1).propose(b"x")
    assert c.group(2).is_leader or c.group(3).is_leader


def test_a_leader_that_reaches_a_majority_stays() -> None:
    c = Cluster(5)
    c.elect(1)
    c.isolate(4)
    c.isolate(5)
    c.run(5.0)
    assert c.group(1).is_leader and c.group(1).term == 1


@fails_with("follower-proposes")
def test_a_replica_that_does_not_lead_takes_no_commands_and_names_the_leader() -> None:
    c = Cluster()
    c.elect(1)
    with pytest.raises(NotLeader) as caught:
        c.group(2).propose(b"x")
    assert caught.value.leader == 1
    c.run(1.0)
    assert c.group(2).last_index == 2 and not any(n.machine.payloads for n in c.nodes.values())


@fails_with("transfer-unmarked")
def test_mastership_moves_at_once_to_the_replica_that_is_asked_to_take_it() -> None:
    c = Cluster()
    c.elect(1)
    c.propose(1, b"x")
    c.run(0.3)
    c.group(1).transfer(c.now, 3)
    c.run(0.2)
    assert c.group(3).is_leader and {c.group(n).term for n in c.ids} == {2}
    assert {c.group(n).leader for n in c.ids} == {3}


@fails_with("propose-in-transfer")
def test_nothing_is_taken_while_mastership_moves_and_again_when_it_could_not() -> None:
    c = Cluster()
    c.elect(1)
    c.run(0.3)
    c.group(1).transfer(c.now, 3)
    c.isolate(3)
    with pytest.raises(NotLeader):
        c.group(1).propose(b"x")
    c.run(c.timing.transfer_s + 0.2, only=[1, 2])
    assert c.group(1).accepts
    c.propose(1, b"y")
    c.settle([1, 2])
    assert c[1].machine.payloads == [b"y"]


@fails_with("transfer-too-early")
def test_mastership_does_not_move_before_the_target_has_the_whole_log() -> None:
    c = Cluster()
    c.elect(1)
    c.run(0.3)
    c.propose(1, b"x")
    c.sent.clear()
    c.group(1).transfer(c.now, 3)
    c.collect(1)
    assert not of_kind(c, m.Kind.TIMEOUT_NOW)
    c.settle()
    c.run(0.2)
    assert c.group(3).is_leader


def test_mastership_moves_only_to_a_connected_voter_and_only_from_the_leader() -> None:
    c = Cluster()
    c.elect(1)
    with pytest.raises(ValueError, match="no connected voter"):
        c.group(1).transfer(c.now, 9)
    c.isolate(3)
    with pytest.raises(ValueError, match="no connected voter"):
        c.group(1).transfer(c.now, 3)
    with pytest.raises(NotLeader):
        c.group(2).transfer(c.now, 3)


def test_one_replica_alone_elects_itself() -> None:
    c = Cluster(1)
    c.run(2.0)
    assert c.group(1).is_leader
    c.propose(1, b"x")
    c.sync(1)
    assert c[1].machine.payloads == [b"x"]


@pytest.mark.parametrize("claim", claims_of(__name__), ids=lambda claim: claim.fault)
def test_a_removed_guard_is_noticed(claim: Claim) -> None:
    assert finds(claim, FAULTS[claim.fault]), FAULTS[claim.fault].does


def test_an_append_that_waits_for_blobs_is_no_sign_of_life_when_it_is_looked_at_again() -> None:
    """Else a follower that looks at it again and again votes for nobody, for a leader that is long
    gone."""
    c = Cluster()
    c.elect(1)
    c.settle()
    c[2].machine.missing.add(b"its blob never comes")
    c.propose(1, b"its blob never comes")
    c.deliver(1, 2)
    group = c.group(2)
    assert group.has_parked and group.elections.is_sticky(c.now)
    c.now += c.timing.election_min_s + 0.01
    group.retry_parked(c.now)
    assert group.has_parked
    assert not group.elections.is_sticky(c.now)
