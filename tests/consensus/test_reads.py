"""Read barriers (P5): a read is answered only by a replica that still leads."""

from __future__ import annotations

import pytest

from raftmail.consensus import messages as m
from raftmail.consensus.read_index import VOUCHERS_MAX, WAITING_MAX, ReadRounds, voucher
from raftmail.storage.disk import DiskFull
from tests.consensus.cluster import Cluster
from tests.consensus.planted import FAULTS
from tests.consensus.planting import Claim, claims_of, fails_with, finds


def led() -> Cluster:
    c = Cluster()
    c.elect(1)
    c.run(0.3)
    return c


@fails_with("read-without-round")
def test_a_read_on_a_deposed_leader_is_refused() -> None:
    c = led()
    c.isolate(1)
    answers: list[int | None] = []
    c.group(1).barrier(c.now, answers.append)
    c.run(1.5, only=[2, 3])
    leader = 2 if c.group(2).is_leader else 3
    c.propose(leader, b"newer")
    c.settle([2, 3])
    c.group(1).barrier(c.now, answers.append)
    assert answers == [], "answered without a majority"
    c.run(1.0, only=[1])
    assert answers == [None, None]


@fails_with("reads-forgotten")
def test_reads_that_wait_are_answered_when_leadership_is_lost() -> None:
    c = led()
    c.isolate(1)
    answers: list[int | None] = []
    for _ in range(5):
        c.group(1).barrier(c.now, answers.append)
    c.run(2.0, only=[1])
    assert answers == [None] * 5
    c.group(1).barrier(c.now, answers.append)
    assert answers == [None] * 6


def test_a_read_on_a_follower_is_refused_at_once() -> None:
    c = led()
    answers: list[int | None] = []
    c.group(2).barrier(c.now, answers.append)
    assert answers == [None]


def test_a_read_waits_for_what_was_committed_before_it() -> None:
    c = led()
    index = c.propose(1, b"x")
    c.settle()
    answers: list[int | None] = []
    c.group(1).barrier(c.now, answers.append)
    assert answers == []
    c.settle()
    c.collect(1)
    c.settle()
    assert answers == [index]


@fails_with("round-for-each-read")
def test_one_round_serves_all_reads_that_wait() -> None:
    c = led()
    answers: list[int | None] = []
    c.group(1).barrier(c.now, answers.append)
    for _ in range(500):
        c.group(1).barrier(c.now, answers.append)
    c.sent.clear()
    for _ in range(6):
        c.collect(1)
        c.settle()
    rounds = {x.fields[0] for a, _, x in c.sent if a == 1 and x.kind is m.Kind.APPEND} - {0}
    assert len(answers) == 501 and None not in answers
    assert len(rounds) <= 2


@fails_with("read-joins-round")
def test_a_read_is_not_served_by_a_round_that_began_before_it() -> None:
    c = led()
    answers: list[str] = []
    c.group(1).barrier(c.now, lambda index: answers.append("first"))
    c.collect(1)
    c.deliver(1, 2)
    c.group(1).barrier(c.now, lambda index: answers.append("second"))
    c.deliver(2, 1)
    assert answers == ["first"]
    c.settle()
    c.collect(1)
    c.settle()
    assert answers == ["first", "second"]


@fails_with("read-any-round")
def test_a_late_answer_to_an_earlier_round_confirms_nothing() -> None:
    c = led()
    answers: list[int | None] = []
    c.group(1).barrier(c.now, answers.append)
    c.collect(1)
    c.deliver(1, 2)
    c.deliver(1, 3)
    c.deliver(2, 1)
    assert len(answers) == 1
    c.isolate(2)
    c.group(1).barrier(c.now, answers.append)
    c.deliver(3, 1)  # of the first round
    assert len(answers) == 1


@fails_with("late-messages")
def test_an_answer_to_a_round_of_an_earlier_term_confirms_nothing() -> None:
    c = led()
    answers: list[int | None] = []
    c.group(1).transfer(c.now, 2)
    c.run(0.5)
    c.group(2).transfer(c.now, 1)
    c.run(0.5)
    assert c.group(1).is_leader and c.group(1).term == 3
    c.group(1).barrier(c.now, answers.append)
    c.collect(1)
    round = max(x.fields[0] for a, _, x in c.sent if a == 1 and x.kind is m.Kind.APPEND)
    c.forge(m.Kind.ROUND, 2, 1, 1, round)
    assert answers == []


def newly_led() -> tuple[Cluster, int]:
    """Replica 2 leads, and has committed nothing of its own term. Nor does it know that the entry
    of the index that is given was acknowledged."""
    c = led()
    index = c.propose(1, b"x")
    c.deliver(1, 2)
    c.deliver(1, 3)
    for n in (2, 3, 1):
        c.sync(n)
    c.deliver(2, 1)
    c.sync(1)
    assert c[1].machine.payloads == [b"x"], "acknowledged"
    c.isolate(1)
    c.now += 2
    c.tick(2)
    for _ in range(30):
        c.deliver(2, 3)
        c.sync(3)
        c.deliver(3, 2, 1)
        if c.group(2).is_leader:
            break
        c.sync(2)
    assert c.group(2).is_leader and c.group(2).commit_index < index
    return c, index


@fails_with("read-before-own-entry")
def test_a_new_leader_answers_no_read_before_an_entry_of_its_own_term_is_committed() -> None:
    c, index = newly_led()
    answers: list[int | None] = []
    c.group(2).barrier(c.now, answers.append)
    c.run(0.3, only=[2, 3])
    assert answers and answers[0] is not None and answers[0] >= index


@fails_with("vouched-before-own-entry")
def test_a_new_leader_needs_an_entry_of_its_own_also_for_a_read_that_is_vouched_for() -> None:
    c, index = newly_led()
    answers: list[int | None] = []
    c.forge(m.Kind.ROUND, 3, 2, c.group(2).term, voucher(7))
    c.group(2).barrier(c.now, answers.append, voucher(7))
    c.run(0.3, only=[2, 3])
    assert answers and answers[0] is not None and answers[0] >= index


@fails_with("leads-without-entry")
def test_a_replica_that_cannot_write_the_entry_of_its_term_does_not_lead() -> None:
    c = Cluster()
    c.now += 1
    c.tick(1)
    c.forge(m.Kind.PREVOTE_GRANTED, 2, 1, 1)

    def no_space(*_: object) -> None:
        raise DiskFull("no space")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(c.group(1).journal, "add", no_space)
        c.forge(m.Kind.VOTE_GRANTED, 2, 1, 1)
    answers: list[int | None] = []
    c.group(1).barrier(c.now, answers.append)
    assert answers == [None]
    c.run(3.0)
    assert any(c.group(n).is_leader for n in c.ids)


def test_one_replica_alone_answers_reads() -> None:
    c = Cluster(1)
    c.run(2.0)
    answers: list[int | None] = []
    c.group(1).barrier(c.now, answers.append)
    assert answers == [c.group(1).commit_index]


def test_every_reader_is_answered_once_and_the_line_is_bounded() -> None:
    answers: list[int | None] = []
    rounds = ReadRounds()
    rounds.add(answers.append)
    assert rounds.begin(7)
    for _ in range(WAITING_MAX + 3):
        rounds.add(answers.append)
    assert answers == [None] * 3
    for _, done in rounds.confirm(rounds.round, 2, {1, 2, 3}):
        done(7)
    rounds.fail_all()
    rounds.fail_all()
    assert len(answers) == WAITING_MAX + 4


def vouched(c: Cluster, voter: int, number: int) -> None:
    """A follower's word for a barrier reaches its leader."""
    word = c.group(voter).vouch(number)
    assert word is not None
    leader = c.group(voter).leader
    assert leader is not None and word[0] == f"n{leader}"
    c.group(leader).receive(c.now, b"".join(word[1]), f"n{voter}")


def test_a_follower_that_vouches_for_its_read_spares_the_leader_a_round() -> None:
    c = led()
    answers: list[int | None] = []
    number = voucher(7)
    vouched(c, 2, number)
    c.sent.clear()
    c.group(1).barrier(c.now, answers.append, number)
    assert answers == [c.group(1).commit_index]
    c.collect(1)
    assert not c.sent
    c.group(1).barrier(c.now, answers.append, number)
    assert len(answers) == 1, "it vouched for one read"
    c.group(1).barrier(c.now, answers.append, voucher(8))
    assert len(answers) == 1, "nobody vouched for this one"


def test_a_follower_that_vouches_hears_what_is_committed() -> None:
    c = led()
    index = c.propose(1, b"x")
    c.deliver(1, 2)
    for n in (2, 1):
        c.sync(n)
    c.deliver(2, 1)
    c.sync(1)
    assert c.group(1).commit_index == index > c.group(2).commit_index
    answers: list[int | None] = []
    vouched(c, 2, voucher(7))
    c.group(1).barrier(c.now, answers.append, voucher(7))
    assert answers == [index]
    c.collect(1)
    c.deliver(1, 2)
    assert c.group(2).commit_index == index


@fails_with("vouched-in-another-term")
def test_who_vouched_in_an_earlier_term_vouches_no_more() -> None:
    c = led()
    answers: list[int | None] = []
    vouched(c, 2, voucher(7))
    c.group(1).transfer(c.now, 2)
    c.run(0.5)
    c.group(2).transfer(c.now, 1)
    c.run(0.5)
    assert c.group(1).is_leader and c.group(1).term == 3
    c.group(1).barrier(c.now, answers.append, voucher(7))
    assert answers == []


@fails_with("vouched-by-a-few")
def test_one_follower_of_four_is_no_majority_with_the_leader() -> None:
    c = Cluster(5)
    c.elect(1)
    c.run(0.3)
    answers: list[int | None] = []
    vouched(c, 2, voucher(7))
    c.group(1).barrier(c.now, answers.append, voucher(7))
    assert answers == []


def test_what_was_vouched_for_and_never_asked_is_bounded() -> None:
    rounds = ReadRounds()
    for number in range(VOUCHERS_MAX + 3):
        rounds.vouch(voucher(number), 2, 1)
    rounds.vouch(12, 2, 1)  # a round
    assert len(rounds.vouchers) == VOUCHERS_MAX
    assert rounds.vouching(voucher(0), 1, {1, 2, 3}) == 0
    assert rounds.vouching(voucher(VOUCHERS_MAX), 1, {1, 2, 3}) == 2


@pytest.mark.parametrize("claim", claims_of(__name__), ids=lambda claim: claim.fault)
def test_a_removed_guard_is_noticed(claim: Claim) -> None:
    assert finds(claim, FAULTS[claim.fault]), FAULTS[claim.fault].does
