"""Who may lead (`consensus.fitness`): elections and hand-overs for replicas that are able, a last
resort, or unfit."""

from __future__ import annotations

import pytest

from raftmail.consensus.fitness import PATIENCE_TIMEOUTS, Fitness
from raftmail.consensus.messages import Kind
from tests.consensus.cluster import Cluster
from tests.consensus.planting import fails_with

LAST_RESORT, UNFIT, ABLE = Fitness.LAST_RESORT, Fitness.UNFIT, Fitness.ABLE


def elected(size: int = 3, **fit: Fitness) -> Cluster:
    """A cluster that replica 1 leads, and whose others are as `fit` says (r2=...)."""
    c = Cluster(size)
    for name, fitness in fit.items():
        c[int(name[1:])].machine.fit = fitness
    c.elect(1)
    c.run(0.5)
    return c


def leaders(c: Cluster) -> list[int]:
    return [n for n in c.ids if c[n].alive and c.group(n).is_leader]


@pytest.mark.parametrize("fitness", [LAST_RESORT, UNFIT])
def test_of_two_that_are_left_the_able_one_is_elected(fitness: Fitness) -> None:
    for first in (2, 3):
        c = elected(3, **{f"r{first}": fitness})
        c.isolate(1)
        c.group(first).engine.set_election_deadline(c.now)  # it would be the first
        c.run(3.0, only=[2, 3])
        assert leaders(c) == [1, 5 - first] or leaders(c) == [5 - first]


@fails_with("unable-stands")
def test_where_nobody_is_able_a_last_resort_is_elected_after_some_patience() -> None:
    c = elected(3, r2=LAST_RESORT, r3=LAST_RESORT)
    c.isolate(1)
    c.run(PATIENCE_TIMEOUTS * c.timing.election_max_s, only=[2, 3])
    assert not c.group(2).is_leader and not c.group(3).is_leader
    c.run(4 * c.timing.election_max_s, only=[2, 3])
    assert c.group(2).is_leader or c.group(3).is_leader


def test_a_last_resort_that_alone_has_everything_is_elected_in_the_end() -> None:
    """The able one lacks an entry that is committed, and so cannot lead before it has got it from
    the other."""
    c = elected(3, r2=LAST_RESORT)
    c.cut(1, 3)
    c.cut(2, 3)
    index = c.propose(1, b"a")
    c.settle()
    assert c.group(1).commit_index == index
    c.isolate(1)
    c.connect(2, 3)
    c.run(12 * c.timing.election_max_s, only=[2, 3])
    assert c.group(2).is_leader
    assert c.group(2).best_successor() == 3


@fails_with("unfit-stands")
def test_who_is_unfit_never_stands() -> None:
    c = elected(3, r2=UNFIT, r3=UNFIT)
    term = c.group(2).term
    c.isolate(1)
    c.run(20.0, only=[2, 3])
    assert not c.group(2).is_leader and not c.group(3).is_leader
    assert c.group(2).term == term


def test_who_may_not_lead_votes_all_the_same() -> None:
    c = elected(3, r2=UNFIT)
    c.isolate(1)
    c.run(3.0, only=[2, 3])
    assert c.group(3).is_leader


@fails_with("ability-of-another-link")
def test_a_leader_knows_of_each_follower_whether_it_may_lead() -> None:
    c = elected(3, r2=LAST_RESORT)
    followers = c.group(1).followers
    assert not followers.is_able(2) and followers.is_able(3)
    c[2].machine.fit, c[3].machine.fit = ABLE, UNFIT
    c.run(0.3)
    assert followers.is_able(2) and not followers.is_able(3)
    assert followers.is_whole(2) and followers.is_whole(3)
    c.cut(1, 2)
    assert not followers.is_able(2)
    c.connect(1, 2)
    assert not followers.is_able(2), "it has to say so on the new link"
    c.run(0.3)
    assert followers.is_able(2)


def test_the_successor_is_one_that_may_lead_and_has_nearly_everything() -> None:
    c = elected(3, r2=LAST_RESORT)
    assert c.group(1).best_successor() == 3
    c[3].machine.fit = UNFIT
    c.run(0.3)
    assert c.group(1).best_successor() is None
    c[3].machine.fit = ABLE
    c.run(0.3)
    c.propose(1, *[b"entry"] * 100)
    assert c.group(1).best_successor() is None
    c.settle()
    assert c.group(1).best_successor() == 3


def test_nothing_is_handed_to_those_who_fell_silent_since_the_last_turn() -> None:
    """A node that stops hands over at once, however long its last turn of the loop was ago."""
    c = elected(3)
    assert c.group(1).best_successor() is not None
    later = c.now + 10 * c.timing.election_max_s
    assert c.group(1).hand_over(later) is None
    assert c.group(1).is_leader and c.group(1).accepts


def test_who_hands_over_tells_to_whom() -> None:
    c = elected(3, r2=LAST_RESORT)
    assert c.group(1).hand_over(c.now) == 3
    c.run(1.0)
    assert c.group(3).is_leader
    assert c.group(1).hand_over(c.now) is None, "it is another's to hand over"


@fails_with("unable-handed")
def test_a_hand_over_to_one_that_may_not_lead_is_refused_at_once() -> None:
    c = elected(3, r2=LAST_RESORT)
    with pytest.raises(ValueError, match="replica 2 of group 7 has not said that it may lead"):
        c.group(1).transfer(c.now, 2)
    assert c.group(1).accepts


@fails_with("unable-takes-over")
def test_one_that_may_lead_no_more_when_it_is_to_take_over_does_not() -> None:
    c = elected(3)
    c[2].machine.fit = LAST_RESORT  # the leader has not heard of it yet
    c.group(1).transfer(c.now, 2)
    c.collect(1)
    assert any(x[2].kind is Kind.TIMEOUT_NOW for x in c.sent)
    c.run(0.3)
    assert leaders(c) == [1]
    assert c.group(1).accepts, "it goes on as soon as the other has said so"


def test_a_leader_alone_among_voters_leads_whatever_it_is_under() -> None:
    c = Cluster(1)
    c[1].machine.fit = LAST_RESORT
    c.run(2.0)
    assert c.group(1).is_leader
