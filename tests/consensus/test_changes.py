"""Members that come and go: guard G12 (Raft dissertation, chapter 4)."""

from __future__ import annotations

import pytest

from raftmail.consensus import messages as m
from raftmail.consensus.change import CAUGHT_UP_ENTRIES, ChangeRefused
from raftmail.consensus.membership import KIND, Membership
from raftmail.consensus.read_index import voucher
from tests.consensus.cluster import Cluster
from tests.consensus.memberships import with_learner as joined_by
from tests.consensus.planted import FAULTS
from tests.consensus.planting import Claim, claims_of, fails_with, finds


def elected(size: int = 3) -> Cluster:
    """Replica 1 leads, and everything is committed everywhere."""
    c = Cluster(size)
    c.elect(1)
    c.run(0.3)
    return c


def with_learner(size: int = 3) -> tuple[Cluster, int]:
    c = elected(size)
    return c, c.add_learner(1)


def of_kind(c: Cluster, kind: m.Kind, sender: int) -> list[m.Message]:
    return [x for a, _, x in c.sent if x.kind is kind and a == sender]


# -- when it is in force


@fails_with("in-force-when-committed")
def test_a_membership_is_in_force_from_when_it_is_appended() -> None:
    c, learner = with_learner()
    index = c.change(1, c.group(1).membership.promoted(learner))
    for replica in (3, learner):
        c.isolate(replica)
    c.settle()
    c.run(0.2)
    assert c.group(1).match_index(2) >= index, "two of four have it"
    assert c.group(1).commit_index < index, "two of four are no majority"
    assert c.group(2).membership.voters == {1: "n1", 2: "n2", 3: "n3", learner: f"n{learner}"}
    assert c.group(2).committed_membership.learners == {learner: f"n{learner}"}


@fails_with("cut-keeps-membership")
def test_when_the_log_is_cut_the_membership_before_is_in_force_again() -> None:
    c, learner = with_learner()
    before = c.group(1).membership
    c.change(1, before.promoted(learner))
    c.isolate(1)
    assert c.group(1).membership != before
    c.run(3.0, only=[2, 3, learner])
    leader = next(n for n in (2, 3) if c.group(n).is_leader)
    c.propose(leader, b"theirs")
    c.heal()
    c.run(1.0)
    assert c.group(1).membership == before == c.group(1).committed_membership
    assert c.converged()


@fails_with("restart-forgets-membership")
def test_a_membership_that_is_not_committed_outlives_a_restart() -> None:
    c, learner = with_learner()
    c[1].persist()
    promoted = c.group(1).membership.promoted(learner)
    c.change(1, promoted)
    c.isolate(1)
    c.sync(1)
    c[1].power_loss()
    c[1].start()
    assert c.group(1).membership == promoted
    assert c.group(1).committed_membership != promoted


def test_a_membership_outlives_the_entry_that_brought_it() -> None:
    c, learner = with_learner()
    for _ in range(40):
        c.propose(1, b"." * 900)
        c.settle()
    c[1].persist()
    c.group(1).journal.trim(c.group(1).applied_index)
    c.sync(1)
    c.isolate(1)
    c[1].power_loss()
    c[1].start()
    assert c.group(1).journal.first_index > c.group(1).members.index
    assert c.group(1).membership.learners == {learner: f"n{learner}"}


@fails_with("forget-keeps-membership")
def test_an_entry_that_is_forgotten_at_the_start_takes_its_membership_along() -> None:
    c, learner = with_learner()
    before = c.group(1).membership
    c[1].persist()
    index = c.change(1, before.promoted(learner))
    c.isolate(1)
    c.sync(1)
    c[1].power_loss()
    c[1].start()
    c.group(1).forget_from(index)
    assert c.group(1).membership == before


@fails_with("jump-keeps-membership")
def test_a_replica_that_jumps_knows_the_membership_where_it_stands() -> None:
    c, learner = with_learner()
    c.isolate(3)
    c.change(1, c.group(1).membership.promoted(learner))
    c.settle()
    for _ in range(40):
        c.propose(1, b"." * 900)
        c.settle()
    c.group(1).journal.trim(c.group(1).applied_index)
    c.sync(1)
    c.heal()
    c.run(0.3)
    assert c.group(3).resync_wanted is not None
    c.resync(3, 1)
    assert c.group(3).membership == c.group(1).membership
    c.run(0.5)
    assert c.converged()


def test_a_membership_that_no_log_told_makes_no_candidate() -> None:
    c = elected()
    c.isolate(3)
    group = c.group(3)
    group.restate((0, c.group(1).membership))
    c.sent.clear()
    c.run(3.0, only=[3])
    assert not of_kind(c, m.Kind.PREVOTE, 3)
    group.restate(c.founding)
    c.run(3.0, only=[3])
    assert of_kind(c, m.Kind.PREVOTE, 3)


# -- who counts


@fails_with("learners-counted")
def test_learners_do_not_make_a_majority() -> None:
    c, first = with_learner()
    second = c.add_learner(1)
    c.cut(1, 2)
    c.cut(1, 3)
    index = c.propose(1, b"on one voter's disk")
    c.settle(only=[1, first, second])
    assert c.group(1).match_index(first) == c.group(1).match_index(second) == index
    assert c.group(1).commit_index < index


@fails_with("leads-before-sync")
def test_an_only_voter_sends_nothing_of_a_term_that_its_disk_does_not_know() -> None:
    c = elected(1)
    learner = c.add_learner(1)
    c.isolate(1)
    c[1].power_loss()
    c[1].start()
    c.heal()
    c.sent.clear()
    c.now += 2
    c.tick(1)
    assert c.group(1).is_leader and c.group(1).term == 2
    assert not of_kind(c, m.Kind.APPEND, 1)
    c.settle()
    c.sync(1)
    c.settle()
    assert c.log(learner) == c.log(1)


def test_learners_get_everything() -> None:
    c, learner = with_learner()
    index = c.propose(1, b"a", b"b")
    c.settle()
    c.run(0.2)
    assert c.group(1).progress()[learner] == index
    assert c[learner].machine.payloads == c[1].machine.payloads == [b"a", b"b"]


@fails_with("no-voter-stands")
def test_a_learner_never_stands() -> None:
    c, learner = with_learner()
    c.isolate(learner)
    c.sent.clear()
    c.run(5.0, only=[learner])
    assert not of_kind(c, m.Kind.PREVOTE, learner) and not of_kind(c, m.Kind.VOTE, learner)
    assert c.group(learner).term == c.group(1).term


@fails_with("no-voter-stands")
def test_a_replica_that_was_removed_never_stands() -> None:
    c = elected()
    c.change(1, c.group(1).membership.without(3))
    c.cut(1, 3)
    c.cut(2, 3)
    c.settle()
    membership = c.group(1).membership
    c.append(1, 3, 1, (2, 1), [(1, KIND + membership.encode())])
    c.sent.clear()
    c.run(3.0, only=[3])
    assert not of_kind(c, m.Kind.PREVOTE, 3)


@fails_with("learner-votes-count")
def test_the_vote_of_a_learner_does_not_count() -> None:
    c, learner = with_learner()
    c.cut(1, 2)
    group = c.group(2)
    c.now += 5
    c.tick(2)
    c.forge(m.Kind.PREVOTE_GRANTED, 3, 2, group.term + 1)
    assert group.term == 2
    c.forge(m.Kind.VOTE_GRANTED, learner, 2, 2)
    assert not group.is_leader
    c.forge(m.Kind.VOTE_GRANTED, 3, 2, 2)
    assert group.is_leader


@fails_with("learners-counted-as-voters")
def test_the_prevote_of_a_learner_does_not_count() -> None:
    c, learner = with_learner()
    c.cut(1, 2)
    c.now += 5
    c.tick(2)
    c.forge(m.Kind.PREVOTE_GRANTED, learner, 2, 2)
    assert c.group(2).term == 1
    c.forge(m.Kind.PREVOTE_GRANTED, 3, 2, 2)
    assert c.group(2).term == 2


def test_a_learner_answers_who_asks_for_its_vote() -> None:
    """It may be a voter already by a log that is ahead of its own."""
    c, learner = with_learner()
    c.isolate(learner)
    c.now += 5
    last = c.group(learner).last_index
    c.sent.clear()
    c.forge(m.Kind.VOTE, 2, learner, 5, last, 1, 0)
    c.sync(learner)
    assert [x.term for x in of_kind(c, m.Kind.VOTE_GRANTED, learner)] == [5]


@fails_with("learner-confirms-reads")
def test_a_learner_confirms_no_read() -> None:
    c, learner = with_learner()
    c.cut(1, 2)
    c.cut(1, 3)
    answers: list[int | None] = []
    c.group(1).barrier(c.now, answers.append)
    c.collect(1)
    c.settle(only=[1, learner])
    assert answers == []


@fails_with("learner-vouches")
def test_a_learner_vouches_for_no_read() -> None:
    c, learner = with_learner()
    answers: list[int | None] = []
    c.forge(m.Kind.ROUND, learner, 1, c.group(1).term, voucher(7))
    c.group(1).barrier(c.now, answers.append, voucher(7))
    assert answers == []


@fails_with("reads-wait-for-removed")
def test_reads_that_wait_for_a_voter_go_on_when_it_is_removed() -> None:
    c = elected(2)
    c.cut(1, 2)
    answers: list[int | None] = []
    c.group(1).barrier(c.now, answers.append)
    c.collect(1)
    assert answers == []
    c.change(1, c.group(1).membership.without(2))
    assert answers == [c.group(1).commit_index]


def test_mastership_goes_to_no_learner() -> None:
    c, learner = with_learner()
    with pytest.raises(ValueError, match=f"replica {learner} is no connected voter"):
        c.group(1).transfer(c.now, learner)
    c.cut(1, 2)
    c.cut(1, 3)
    assert c.group(1).best_successor() is None


# -- what a leader refuses


def refused(c: Cluster, membership: Membership, leader: int = 1) -> str:
    before = c.group(leader).membership, c.group(leader).last_index
    with pytest.raises(ChangeRefused) as caught:
        c.group(leader).change(c.now, membership)
    assert (c.group(leader).membership, c.group(leader).last_index) == before
    return caught.value.reason


@fails_with("change-while-pending")
def test_a_second_change_waits_until_the_first_is_committed() -> None:
    c = elected()
    joined, _ = joined_by(c.group(1).membership, "n4")
    index = c.change(1, joined)
    more, _ = joined_by(joined, "n5")
    assert refused(c, more) == f"the change at entry {index} is not committed yet"
    c.settle()
    c.change(1, more)


@fails_with("change-before-own-entry")
def test_a_new_leader_changes_nothing_before_an_entry_of_its_own_is_committed() -> None:
    c = elected()
    c.isolate(1)
    c.now += 2
    c.group(2).engine.set_election_deadline(c.now - 1)
    c.tick(2)
    c.deliver(2, 3)
    c.sync(3)
    c.deliver(3, 2)
    c.sync(2)
    c.deliver(2, 3)
    c.sync(3)
    c.deliver(3, 2)
    assert c.group(2).is_leader
    joined, _ = joined_by(c.group(2).membership, "n4")
    assert refused(c, joined, 2) == "no entry of this master's own term is committed yet"
    c.settle()
    c.change(2, joined)


@fails_with("late-wholeness")
def test_an_answer_that_was_long_on_its_way_says_nothing_of_bodies_that_a_follower_has_now() -> (
    None
):
    c = elected()
    followers = c.group(1).followers
    matched = c.group(1).engine.match_index(2)
    assert followers.is_whole(2)
    c.forge(m.Kind.ACK, 2, 1, c.group(1).term, matched + 1, m.ACK_LACKS)
    c.forge(m.Kind.ACK, 2, 1, c.group(1).term, matched, m.ACK_WHOLE)
    assert not followers.is_whole(2)
    c.forge(m.Kind.ACK, 2, 1, c.group(1).term, matched + 1, m.ACK_WHOLE)
    assert followers.is_whole(2)


@fails_with("two-voters-at-once")
def test_one_voter_at_a_time() -> None:
    c = elected(5)
    assert "more than one server" in refused(c, c.group(1).membership.without(4).without(5))


@fails_with("master-removes-itself")
def test_a_master_does_not_remove_itself() -> None:
    c = elected()
    assert "transfer mastership first" in refused(c, c.group(1).membership.without(1))


@fails_with("id-used-again")
def test_an_id_is_not_used_again() -> None:
    c, learner = with_learner()
    gone = c.group(1).membership.without(learner)
    c.change(1, gone)
    c.settle()
    again = Membership(gone.voters, {learner: "n9"}, gone.next_id)
    assert f"the id {learner} was used before" in refused(c, again)


@fails_with("promoted-behind")
def test_a_learner_that_lags_does_not_become_a_voter() -> None:
    c, learner = with_learner()
    c.deliver(1, learner)
    for _ in range(CAUGHT_UP_ENTRIES + 1):
        c.propose(1, b"x")
    promoted = c.group(1).membership.promoted(learner)
    assert f"replica {learner} lacks {CAUGHT_UP_ENTRIES + 1} entries" in refused(c, promoted)
    c.settle()
    c.change(1, promoted)


@fails_with("promoted-without-bodies")
def test_a_learner_that_lacks_bodies_does_not_become_a_voter() -> None:
    c, learner = with_learner()
    c[learner].machine.lacks = True
    c.run(0.2)
    promoted = c.group(1).membership.promoted(learner)
    assert refused(c, promoted) == f"replica {learner} has not said that it has all bodies"
    c[learner].machine.lacks = False
    c.run(0.2)
    c.change(1, promoted)


def test_what_a_learner_said_on_an_older_link_is_not_believed() -> None:
    c, learner = with_learner()
    c.cut(1, learner)
    promoted = c.group(1).membership.promoted(learner)
    assert refused(c, promoted) == f"replica {learner} is not connected"
    c.connect(1, learner)
    assert refused(c, promoted) == f"replica {learner} has not said that it has all bodies"
    c.run(0.3)
    c.change(1, promoted)


@fails_with("silence-unnoticed")
def test_a_replica_that_is_silent_on_a_link_that_is_up_does_not_become_a_voter() -> None:
    """Found by the simulator: the node had lost the learner's disk, was up again with a new
    replica, and the old one was promoted."""
    c, learner = with_learner()
    c.run(0.3)
    c[learner].alive = False
    c.run(0.5)
    promoted = c.group(1).membership.promoted(learner)
    assert refused(c, promoted) == f"replica {learner} has not answered lately"
    c[learner].alive = True
    c.run(0.3)
    c.change(1, promoted)


@fails_with("removed-although-needed")
def test_a_voter_stays_while_those_that_would_be_left_lack_something() -> None:
    c = elected()
    c.isolate(3)
    c.propose(1, b"on 1 and 2")
    c.settle()
    text = refused(c, c.group(1).membership.without(2))
    assert text == "no majority of those that stay has everything: replica 3 is not connected"
    c.change(1, c.group(1).membership.without(3))


@fails_with("behind-the-log-counts")
def test_a_voter_stays_while_one_of_those_that_would_be_left_needs_a_resync() -> None:
    """Found by the simulator: few entries were lacking, and the log did not have them any more. A
    resync brought them, without their bodies, so that the master alone had those when the other
    that had acknowledged them was out."""
    c = elected()
    c.isolate(3)
    for _ in range(40):
        c.propose(1, b"." * 900)
        c.settle()
    c.group(1).journal.trim(c.group(1).applied_index)
    c.sync(1)
    c.heal()
    c.run(0.3)
    assert c.group(1).last_index - c.group(1).match_index(3) < CAUGHT_UP_ENTRIES
    text = refused(c, c.group(1).membership.without(2))
    assert text.endswith("replica 3 lacks entries that the log does not have any more")
    c.resync(3, 1)
    c.run(0.5)
    c.change(1, c.group(1).membership.without(2))


def test_a_replica_that_does_not_lead_changes_nothing() -> None:
    c = elected()
    joined, _ = joined_by(c.group(1).membership, "n4")
    assert "does not lead" in refused(c, joined, 2)
    c.cut(1, 3)
    c.propose(1, b"x")
    c.group(1).transfer(c.now, 2)
    assert "handing mastership over" in refused(c, joined)


def test_what_is_in_force_already_is_no_change() -> None:
    c = elected()
    assert refused(c, c.group(1).membership) == "nothing would change"


def test_only_a_change_puts_a_membership_into_the_log() -> None:
    c = elected()
    with pytest.raises(ValueError, match="by `change` alone"):
        c.group(1).propose(KIND + c.group(1).membership.encode())


# -- logs that lag behind


def left_with_a_stale_master() -> tuple[Cluster, int, int]:
    """A learner that has not heard of a later term, and whose leader has not either."""
    c, learner = with_learner()
    for a in (1, learner):
        for b in (2, 3):
            c.cut(a, b)
    c.cut(1, learner)
    c.propose(1, b"of a master that is alone")
    c.run(3.0, only=[2, 3])
    master = next(n for n in (2, 3) if c.group(n).is_leader)
    c.propose(master, b"theirs")
    c.settle()
    c.run(0.3, only=[2, 3])
    assert c.group(learner).term == c.group(1).term < c.group(master).term
    return c, learner, master


@fails_with("jump-keeps-term")
def test_a_replica_that_jumps_to_an_entry_of_a_later_term_does_not_follow_an_earlier_leader() -> (
    None
):
    """Found by the simulator: the replica took the old leader's appends, saw that they differ from
    what is committed, and stopped."""
    c, learner, master = left_with_a_stale_master()
    c.resync(learner, master)
    c.connect(1, learner)
    c.run(0.3, only=[1, learner])
    assert c.group(learner).term == c.group(master).term
    assert not c.group(1).is_leader


def test_a_replica_that_stopped_between_a_jump_and_its_term_knows_the_term_at_the_start() -> None:
    c, learner, master = left_with_a_stale_master()
    index, term, _ = c[master].machine.applied[-1]
    c[learner].durable = list(c[master].machine.applied)
    c.group(learner).journal.reset(index, term)
    c[learner].power_loss()
    c[learner].start()
    assert c.group(learner).term == term == c.group(master).term


@fails_with("strangers-refused")
def test_a_leader_that_the_own_log_does_not_name_is_followed() -> None:
    c = elected()
    c.isolate(3)
    learner = c.add_learner(1)
    c.cut(3, learner)
    c.change(1, c.group(1).membership.promoted(learner))
    c.settle()
    c.run(0.3)
    c.group(1).transfer(c.now, learner)
    c.run(1.0, only=[1, 2, learner])
    assert c.group(learner).is_leader
    c.isolate(1)
    assert learner not in c.group(3).membership.voters
    c.heal()
    c.isolate(1)
    c.propose(learner, b"from a stranger")
    c.run(0.5)
    assert b"from a stranger" in c[3].machine.payloads
    assert c.group(3).membership == c.group(learner).membership


@fails_with("strangers-refused")
def test_a_candidate_that_the_own_log_does_not_name_gets_its_vote() -> None:
    c = elected()
    c.isolate(3)
    learner = c.add_learner(1)
    c.cut(3, learner)
    c.change(1, c.group(1).membership.promoted(learner))
    c.settle()
    c.run(0.3)
    c.isolate(1)
    c.connect(3, learner)
    c.now += 2
    c.sent.clear()
    c.elect(learner)
    assert c.group(learner).is_leader, "with 2 and 3, of four"
    assert [x.receiver for x in of_kind(c, m.Kind.VOTE_GRANTED, 3)] == [learner]


def test_a_replica_that_was_removed_deposes_nobody_and_is_told() -> None:
    c = elected()
    c.isolate(3)
    c.change(1, c.group(1).membership.without(3))
    c.settle()
    c.run(0.5, only=[1, 2])
    assert not c.group(3).removed
    c.heal()
    c.run(5.0)
    assert c.group(1).is_leader and c.group(1).term == 1
    assert c.group(3).removed
    c.sent.clear()
    c.run(2.0)
    assert not of_kind(c, m.Kind.PREVOTE, 3)


def test_a_message_for_an_older_replica_of_the_node_is_dropped() -> None:
    c = elected()
    data = m.header(m.Kind.VOTE, 7, 1, 9, 9) + m.encode_fields([1, 0, 0])
    c.group(2).receive(c.now, data, "n1")
    assert c.group(2).term == 1 and c.group(2).refused == 1


@pytest.mark.parametrize("claim", claims_of(__name__), ids=lambda claim: claim.fault)
def test_a_removed_guard_is_noticed(claim: Claim) -> None:
    assert finds(claim, FAULTS[claim.fault]), FAULTS[claim.fault].does
