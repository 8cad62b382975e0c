"""A disk that goes back in time: the replica on it asks what it promised, and takes no part with
less (guard G13)."""

from __future__ import annotations

import copy

import pytest

from raftmail.consensus import messages as m
from raftmail.consensus.members import Members
from raftmail.consensus.membership import Membership
from raftmail.consensus.promises import REPLICAS_MAX, Given, Promises
from raftmail.consensus.proof import AHEAD, LEADS, VOTER, Proof
from tests.consensus.cluster import Cluster, ListMachine
from tests.consensus.planted import FAULTS
from tests.consensus.planting import Claim, claims_of, fails_with, finds
from tests.simulation.disk import SimDisk

Old = tuple[SimDisk, list[tuple[int, int, bytes]]]

PROMISING = (m.Kind.ACK, m.Kind.VOTE, m.Kind.VOTE_GRANTED, m.Kind.PREVOTE_GRANTED, m.Kind.APPEND)


def three_that_ask() -> Cluster:
    """Replica 1 leads; all have one entry."""
    c = Cluster(asks=True)
    c.settle()
    c.elect(1)
    c.propose(1, b"first")
    c.run(1.0)
    return c


def copied(c: Cluster, replica: int) -> Old:
    """A copy of a replica's disk, as a power loss would leave it, and of its state machine's."""
    disk: SimDisk = copy.deepcopy(c[replica].disk)
    disk.power_off()
    disk.restart()
    return disk, list(c[replica].durable)


def stop(c: Cluster, *replicas: int) -> None:
    for replica in replicas:
        for other in c.ids:
            if other != replica:
                c.cut(other, replica)
        c[replica].power_loss()


def start(c: Cluster, replica: int) -> None:
    c[replica].machine = ListMachine()
    c[replica].start()
    for other in c.ids:
        if other != replica and c[other].alive:
            c.connect(other, replica)


def put_back(c: Cluster, replica: int, old: Old) -> None:
    c[replica].disk, c[replica].durable = copy.deepcopy(old[0]), list(old[1])
    start(c, replica)


def promises_by(c: Cluster, replica: int, since: int) -> list[m.Message]:
    return [x for a, _, x in c.sent[since:] if a == replica and x.kind in PROMISING]


@fails_with("promises-not-compared", "lost-acknowledges")
def test_a_replica_whose_disk_went_back_behind_what_it_acknowledged_takes_no_part() -> None:
    c = three_that_ask()
    old = copied(c, 2)
    stop(c, 3)
    c.propose(1, b"acknowledged by 1 and 2 alone")
    c.run(1.0, [1, 2])
    assert c[1].machine.payloads[-1] == b"acknowledged by 1 and 2 alone"
    stop(c, 2)
    since = len(c.sent)
    put_back(c, 2, old)
    c.settle()
    c.isolate(1)
    start(c, 3)
    c.run(3.0, [2, 3])
    c.heal()
    c.run(2.0)
    assert "replica 1 on n1 remembers" in c.group(2).proof.lost
    assert not promises_by(c, 2, since)
    assert c[3].machine.payloads[-1] == b"acknowledged by 1 and 2 alone"


@fails_with("promises-not-kept")
def test_the_memory_of_what_others_promised_outlives_a_restart() -> None:
    c = three_that_ask()
    old = copied(c, 2)
    stop(c, 3)
    c.propose(1, b"acknowledged by 1 and 2 alone")
    c.run(2.5, [1, 2])
    stop(c, 1, 2)
    start(c, 1)
    put_back(c, 2, old)
    c.run(0.2, [1, 2])
    assert "replica 1 on n1 remembers" in c.group(2).proof.lost
    stop(c, 1)
    start(c, 3)
    c.run(5.0, [2, 3])
    assert not c.group(3).is_leader and not c.group(2).is_leader


def test_the_memory_outlives_the_segments_that_it_was_written_into() -> None:
    c = three_that_ask()
    old = copied(c, 2)
    for _ in range(6):
        c.propose(1, *[b"x" * 500] * 6)
        c.run(0.3)
    c.group(1).journal.trim(c.group(1).applied_index)
    c.run(2.5)
    c[1].persist()
    assert c.group(1).journal.first_index > 10
    stop(c, 1, 2)
    start(c, 1)
    put_back(c, 2, old)
    c.run(0.2, [1, 2])
    assert c.group(2).proof.lost


def test_a_vote_that_was_forgotten_is_not_given_again_in_its_term() -> None:
    c = three_that_ask()
    stop(c, 3)
    old = copied(c, 2)
    stop(c, 1)
    start(c, 1)
    c.run(2.0, [1, 2])
    leader = 1 if c.group(1).is_leader else 2
    term = c.group(leader).term
    assert term > 1
    stop(c, 2)
    put_back(c, 2, old)
    c.run(0.2, [1, 2])
    since = len(c.sent)
    c.forge(m.Kind.VOTE, 3, 2, term, 100, term, 1)
    c.sync(2)
    assert not promises_by(c, 2, since)


def test_a_leader_whose_disk_went_back_behind_what_it_called_committed_is_lost() -> None:
    c = three_that_ask()
    old = copied(c, 1)
    c.propose(1, b"second")
    c.run(1.0)
    stop(c, 1)
    put_back(c, 1, old)
    c.run(0.2)
    assert c.group(1).proof.lost


def test_a_replica_that_lost_nothing_follows_after_one_round_trip() -> None:
    c = three_that_ask()
    stop(c, 3)
    c.propose(1, b"while 3 was away")
    c.run(1.0, [1, 2])
    c[3].machine = ListMachine()
    start(c, 3)
    c.settle()  # no time passes
    assert c[3].machine.payloads[-1] == b"while 3 was away"
    assert not c.group(3).proof.lost


def test_questions_that_are_asked_again_in_the_same_life_take_nothing_for_lost() -> None:
    c = three_that_ask()
    proof = c.group(2).proof
    c.propose(1, b"promised in this life")
    c.run(2.5)
    stop(c, 1)
    start(c, 1)
    c.run(1.0)
    c.forge(m.Kind.ASK, 2, 1, c.group(2).term, proof.nonce, *proof.had)
    c.settle()
    assert not c.group(2).proof.lost


def test_an_acknowledgement_that_overtakes_the_question_takes_nothing_for_lost() -> None:
    """The memory of the one that is asked knows lives by questions, so it takes it for an earlier
    life's."""
    c = three_that_ask()
    stop(c, 2)
    start(c, 2)
    c.run(1.0, [1, 2])
    c.propose(1, b"promised in this life")
    c.run(1.0)
    group, asked = c.group(2), c.group(3)
    promise = asked.promises.begin_life(2, group.proof.nonce) or (0, 0)
    early = (group.term, group.last_index)
    assert promise < early
    c.forge(m.Kind.TELL, 3, 2, group.term, group.proof.nonce, *early, 1, 1, 0)
    assert not group.proof.lost


def test_who_was_away_while_all_that_it_knew_were_replaced_follows_one_whose_log_is_ahead() -> None:
    """Replica 4 knows the voters 1 to 4, of which none is left. Replica 5, of which 4 only knows
    that it learns, needs its vote."""
    members = Members(4, Membership({1: "n1", 2: "n2", 3: "n3", 4: "n4"}, {5: "n5"}, 6), 1)
    proof = Proof(members, (1, 12), 7, started_at=0.0, patience_s=0.4)
    proof.told(5, (0, 0), 1, (1, 49), AHEAD)
    proof.look(0.3, set())
    assert not proof.may_follow
    proof.look(0.5, set())
    assert proof.may_vote


def test_who_missed_that_a_voter_was_removed_does_not_wait_for_its_answer() -> None:
    """Replica 1 knows the voters 1, 2, 3 and 7. Replica 7 was removed meanwhile, the disk of 2 is
    lost: 3, which has all that was committed, needs its vote."""
    members = Members(1, Membership({1: "n1", 2: "n2", 3: "n3", 7: "n5"}, {}, 8), 33)
    proof = Proof(members, (1, 36), 7, started_at=0.0, patience_s=0.4)
    proof.told(3, (1, 36), 1, (1, 46), AHEAD | 3 * VOTER)
    assert proof.look(0.1, {3})
    proof.look(0.5, {3})
    assert proof.may_vote


def test_as_many_have_to_answer_as_elect_by_the_latest_membership_that_was_told() -> None:
    seven = {1: "a", 2: "b", 3: "c", 4: "d", 5: "e", 6: "f", 7: "g"}
    proof = Proof(Members(1, Membership(seven, {}, 9), 33), (1, 36), 7, 0.0, patience_s=0.4)
    assert proof.needed == 3
    proof.told(2, (1, 36), 1, (1, 50), AHEAD | 5 * VOTER)
    proof.told(3, (1, 36), 1, (1, 40), AHEAD | 3 * VOTER)  # which 2 knows to be an older one
    assert proof.needed == 2


def test_who_missed_nothing_of_the_membership_waits_for_as_many_as_it_names() -> None:
    members = Members(1, Membership({1: "n1", 2: "n2", 3: "n3", 7: "n5"}, {}, 8), 33)
    proof = Proof(members, (1, 36), 7, started_at=0.0, patience_s=0.4)
    proof.told(3, (1, 36), 1, (1, 46), AHEAD | LEADS)
    assert not proof.look(9.0, {3})


def test_a_member_tells_of_a_membership_behind_the_log_of_who_asks() -> None:
    c = three_that_ask()
    index = c.group(1).members.index
    told: dict[int, int] = {}
    for last in (index - 1, index):
        since = len(c.sent)
        c.forge(m.Kind.ASK, 3, 1, c.group(1).term, 1000 + last, 0, last)
        c.sync(1)
        answer = next(x for _, _, x in c.sent[since:] if x.kind is m.Kind.TELL)
        told[last] = answer.fields[-1] // VOTER
    assert told == {index - 1: 3, index: 0}


def test_a_copy_asks_as_many_as_its_own_log_names() -> None:
    members = Members(1, Membership({1: "n1", 2: "n2", 3: "n3", 7: "n5"}, {}, 8), 33)
    proof = Proof(members, (1, 36), 7, started_at=0.0, patience_s=0.4, doubtful=True)
    before = proof.needed
    proof.told(3, (1, 36), 1, (1, 46), AHEAD | 3 * VOTER)
    assert proof.needed == before


def test_a_copy_and_one_that_nobody_ahead_answers_wait_for_the_voters_that_they_know() -> None:
    members = Members(4, Membership({1: "n1", 2: "n2", 3: "n3", 4: "n4"}, {5: "n5"}, 6), 1)
    for doubtful, flags in ((True, AHEAD), (False, 0)):
        proof = Proof(members, (1, 12), 7, started_at=0.0, patience_s=0.4, doubtful=doubtful)
        proof.told(5, (0, 0), 1, (1, 49), flags)
        proof.look(9.0, set())
        assert not proof.may_follow


def test_who_is_asked_again_and_again_and_stays_silent_holds_nobody_up() -> None:
    """Of a lost disk, the node may be there, and answer for the replica that came in its place."""
    members = Members(3, Membership({1: "a", 2: "b", 3: "c", 4: "d", 5: "e"}, {}, 9), 1)
    proof = Proof(members, (11, 91), 7, started_at=0.0, patience_s=0.4)
    for peer in (1, 2, 4, 5):
        assert proof.asks(peer, 0.0)
    proof.told(1, (0, 0), 11, (11, 89), 0)
    proof.told(5, (0, 0), 11, (11, 89), 0)
    now, linked = 0.0, {1, 2, 4, 5}
    while not proof.look(now, linked):
        now += 0.1
        for peer in (2, 4):
            proof.asks(peer, now)
        assert now < 1.0, "it waits for ever"
    assert proof.may_follow and proof.may_vote


def test_a_link_that_is_new_gives_the_other_side_its_time_to_answer() -> None:
    members = Members(3, Membership({1: "a", 2: "b", 3: "c"}, {}, 4), 1)
    proof = Proof(members, (1, 5), 7, started_at=0.0, patience_s=0.4)
    proof.asks(1, 0.0)
    proof.asks(2, 0.0)
    proof.told(1, (0, 0), 1, (1, 5), 0)
    proof.linked_anew(2)
    proof.asks(2, 0.39)
    assert not proof.look(0.5, {1, 2})
    assert proof.look(0.8, {1, 2})


def test_what_this_life_promised_does_not_hide_what_an_earlier_one_did() -> None:
    given = Given()
    given.note(4, 20)
    given.note_vote(6)
    assert given.covers((4, 20)) and given.covers((3, 7)) and given.covers((6, 0))
    assert not given.covers((4, 21))
    assert not given.covers((5, 20))
    assert not given.covers((7, 0))


def test_two_of_three_that_start_together_elect_a_master() -> None:
    c = three_that_ask()
    stop(c, 1, 2, 3)
    start(c, 1)
    start(c, 2)
    c.run(3.0, [1, 2])
    assert c.group(1).is_leader or c.group(2).is_leader


@fails_with("votes-unasked")
def test_a_replica_that_was_told_nothing_votes_for_nobody_and_adopts_no_term() -> None:
    c = three_that_ask()
    stop(c, 1, 2)
    c[2].machine = ListMachine()
    c[2].start()
    term, since = c.group(2).term, len(c.sent)
    c.forge(m.Kind.VOTE, 3, 2, term + 5, 100, term, 1)
    c.sync(2)
    assert c.group(2).term == term
    assert not promises_by(c, 2, since)


def test_what_another_lost_is_not_counted_on_any_more() -> None:
    c = three_that_ask()
    old = copied(c, 2)
    stop(c, 3)
    c.propose(1, b"second")
    c.run(1.0, [1, 2])
    stop(c, 2)
    put_back(c, 2, old)
    c.settle()
    assert c.group(1).match_index(2) == 0


def doubtful(c: Cluster, replica: int) -> None:
    """Have a replica that started know that its files are a copy."""
    c.group(replica).proof.doubtful = True


@fails_with("doubtful-as-others")
def test_a_copy_takes_part_only_when_one_answered_that_knows_all_that_it_can_have_promised() -> (
    None
):
    c = three_that_ask()
    old = copied(c, 2)
    stop(c, 1)
    c.group(3).elections.leader_lost()
    c.group(2).elections.leader_lost()
    c.elect(3)
    c.propose(3, b"acknowledged by 2 and 3 alone")
    c.run(2.5, [2, 3])
    stop(c, 2, 3)
    start(c, 1)
    put_back(c, 2, old)
    doubtful(c, 2)
    c.run(5.0, [1, 2])
    assert not c.group(1).is_leader and not c.group(2).is_leader
    start(c, 3)
    c.run(3.0)
    assert c.group(2).proof.lost
    assert c[1].machine.payloads[-1] == b"acknowledged by 2 and 3 alone"


def test_a_copy_that_is_up_to_date_takes_part_when_the_others_have_answered() -> None:
    c = three_that_ask()
    stop(c, 2)
    start(c, 2)
    doubtful(c, 2)
    c.run(1.0)
    assert c.group(2).proof.may_vote


def test_promises_are_remembered_of_so_many_replicas_and_no_more() -> None:
    promises = Promises()
    for replica in range(1, REPLICAS_MAX + 10):
        promises.note(replica, replica, 5)
    again = Promises(promises.encode())
    assert again.begin_life(REPLICAS_MAX + 9, 1) == (REPLICAS_MAX + 9, 5)
    assert again.begin_life(3, 1) == (0, 0)


def test_promises_that_are_cut_short_are_refused() -> None:
    with pytest.raises(ValueError, match="cut short"):
        Promises(b"x")


@pytest.mark.parametrize("claim", claims_of(__name__), ids=lambda claim: claim.fault)
def test_a_removed_guard_is_noticed(claim: Claim) -> None:
    assert finds(claim, FAULTS[claim.fault]), FAULTS[claim.fault].does
