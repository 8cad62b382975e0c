"""Beats: what idle groups say instead of empty appends. They promise no more, and are believed no
more, than those (G2, G3, G8)."""

from __future__ import annotations

import pytest

from raftmail.consensus import heartbeats
from raftmail.consensus import messages as m
from tests.consensus.cluster import GROUP, Cluster
from tests.consensus.planted import FAULTS
from tests.consensus.planting import Claim, claims_of, fails_with, finds


def idle() -> Cluster:
    c = Cluster()
    c.elect(1)
    c.propose(1, b"x")
    c.settle()
    c.run(0.3)
    return c


def beat(
    c: Cluster,
    a: int,
    b: int,
    term: int,
    last: tuple[int, int],
    *,
    commit: int = 0,
    round: int = 0,
    kind: int = heartbeats.BEAT,
) -> None:
    """Hand `b` a beat as if from `a`."""
    success = 0 if kind == heartbeats.BEAT else m.ACK_WHOLE
    record = (kind, success, GROUP, a, b, term, *last, commit, round)
    c.group(b).receive_beat(c.now, record, f"n{a}")


def answers(c: Cluster, replica: int) -> list[int]:
    """Up to where a replica answers by beats that it has everything."""
    taken = [heartbeats.RECORD.unpack(record) for _, record in c.group(replica).take_beats()]
    return [one[6] for one in taken if one[0] == heartbeats.ANSWER]


def test_an_idle_group_says_nothing_but_beats() -> None:
    c = idle()
    taken = 0
    for _ in range(10):
        c.now += 0.1
        for replica in (1, 2, 3):
            group = c.group(replica)
            group.tick(c.now)
            assert group.take_messages() == [] and not group.has_held_messages
            for node, record in group.take_beats():
                (one,) = heartbeats.unpack(record)
                assert node == f"n{one[4]}"
                c.group(one[4]).receive_beat(c.now, one, f"n{replica}")
                taken += 1
    assert taken > 30
    assert c.group(1).is_leader and c.group(1).term == 1


def test_beats_keep_the_leader_and_the_followers_as_appends_do() -> None:
    c = idle()
    c.run(5.0)
    assert c.group(1).is_leader and c.group(1).term == 1


@fails_with("beat-acks-unsynced")
def test_the_answer_to_a_beat_promises_only_what_is_on_the_disk() -> None:
    c = Cluster()
    c.sync(2)
    c.append(1, 2, 1, (1, 0), [(1, b"x")])
    assert c.group(2).last_index == 2
    c.sent.clear()
    beat(c, 1, 2, 1, (2, 1))
    assert answers(c, 2) == []
    acks = [x.fields for x in c.collect(2) if x.kind is m.Kind.ACK]
    assert acks == [[2, m.ACK_WHOLE]], "what was synced before"


@fails_with("beat-unverified")
def test_a_beat_is_answered_only_when_the_log_is_the_leaders() -> None:
    c = Cluster()
    c.sync(3)
    c.append(1, 3, 1, (1, 0), [(1, b"mine")])
    c.sync(3)
    c.append(2, 3, 2, (1, 0))
    c.collect(3)
    beat(c, 2, 3, 2, (2, 2), commit=1)
    assert answers(c, 3) == []
    assert c.group(3).commit_index < 2


def test_a_beat_of_a_second_leader_is_not_taken() -> None:
    c = Cluster()
    c.sync(3)
    c.append(1, 3, 5, (1, 0))
    beat(c, 2, 3, 5, (1, 0))
    assert answers(c, 3) == [] and c.group(3).refused == 1
    beat(c, 1, 3, 5, (1, 0))
    assert answers(c, 3) == [1]


def test_a_leader_of_an_earlier_term_is_told_so() -> None:
    c = Cluster()
    c.append(1, 3, 5, (1, 0))
    c.sync(3)
    beat(c, 2, 3, 4, (1, 0))
    c.sync(3)
    assert [x.kind for _, peer, x in c.sent if peer == 2] == [m.Kind.NEWER_TERM]


def test_a_beat_moves_the_commit_index_over_what_it_verifies_alone() -> None:
    c = idle()
    c.isolate(1)
    last = c.propose(1, b"y")
    for group in (c.group(2), c.group(3)):
        assert group.last_index == last - 1
    beat(c, 1, 2, 1, (last - 1, 1), commit=last)
    assert c.group(2).commit_index == last - 1


@fails_with("late-beats")
def test_a_late_answer_of_an_earlier_term_does_not_count() -> None:
    c = idle()
    c.isolate(1)
    c.elect(2)
    c.isolate(2)
    c.cut(1, 3)
    last = c.propose(2, b"on one disk")
    c.sync(2)
    beat(c, 3, 2, 1, (last, 1), kind=heartbeats.ANSWER)
    assert c.group(2).match_index(3) < last


@pytest.mark.parametrize(("round", "served"), [(1, False), (2, True)])
def test_an_answer_confirms_the_reads_of_its_round(round: int, served: bool) -> None:
    c = idle()
    reads: list[int | None] = []
    for other in (2, 3):
        c.cut(1, other)
    group = c.group(1)
    group.barrier(c.now, reads.append)
    assert group._reads.round == 2
    beat(c, 2, 1, 1, (group.last_index, 1), round=round, kind=heartbeats.ANSWER)
    assert bool(reads) is served


def test_a_beat_in_the_name_of_another_is_refused() -> None:
    c = idle()
    record = (heartbeats.BEAT, 0, GROUP, 1, 2, 1, 3, 1, 3, 0)
    with pytest.raises(m.BadMessage, match="in the name of replica 1"):
        c.group(2).receive_beat(c.now, record, "n3")
    with pytest.raises(m.BadMessage, match="group 8"):
        c.group(2).receive_beat(c.now, (1, 0, 8, *record[3:]), "n1")


def test_what_is_no_number_of_beats_is_refused() -> None:
    with pytest.raises(m.BadMessage):
        heartbeats.unpack(b"\0" * (heartbeats.RECORD.size + 1))


def test_a_group_tells_when_it_is_to_be_ticked_again() -> None:
    c = idle()
    c.run(0.2)
    leader, follower = c.group(1), c.group(2)
    assert c.now - 0.05 < leader.next_deadline() <= c.now + c.timing.heartbeat_s
    assert follower.next_deadline() > c.now + c.timing.election_min_s / 2
    c.cut(1, 3)
    leader.transfer(c.now, 2)
    assert leader.next_deadline() < c.now


@pytest.mark.parametrize("claim", claims_of(__name__), ids=lambda claim: claim.fault)
def test_a_removed_guard_is_noticed(claim: Claim) -> None:
    assert finds(claim, FAULTS[claim.fault]), FAULTS[claim.fault].does
