"""Read barriers (P5): a read is answered only by a replica that still leads."""

from __future__ import annotations

import pytest

from raftmail.consensus import messages as m
from raftmail.consensus.read_index import WAITING_MAX, ReadRounds
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


@fails_with("read-before-own-entry")
def test_a_new_leader_answers_no_read_before_an_entry_of_its_own_term_is_committed() -> None:
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
    answers: list[int | None] = []
    c.tick(2)
    for _ in range(30):
        c.deliver(2, 3)
        c.sync(3)
        c.deliver(3, 2, 1)
        if c.group(2).is_leader:
            break
        c.sync(2)
    assert c.group(2).is_leader and c.group(2).commit_index < index
    c.group(2).barrier(c.now, answers.append)
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


@pytest.mark.parametrize("claim", claims_of(__name__), ids=lambda claim: claim.fault)
def test_a_removed_guard_is_noticed(claim: Claim) -> None:
    assert finds(claim, FAULTS[claim.fault]), FAULTS[claim.fault].does
