"""What a follower makes of appends and snapshot offers: guards G1, G2, G4, G9."""

from __future__ import annotations

import pytest

from raftmail.consensus import messages as m
from raftmail.consensus.appends import Diverged, judge
from raftmail.consensus.group import Flow
from tests.consensus.cluster import Cluster
from tests.consensus.planted import FAULTS
from tests.consensus.planting import Claim, claims_of, fails_with, finds

X, Y = b"x", b"y"


def follower_with(entries: int, committed: int = 1) -> Cluster:
    """Replica 2 follows replica 1 in term 1, with a no-op and this many commands on its disk."""
    c = Cluster()
    c.now += 1
    c.append(1, 2, 1, (1, 0), [(1, b"%d" % n) for n in range(entries)], commit=committed)
    c.sync(2)
    c.sent.clear()
    return c


def answers(c: Cluster, kind: m.Kind = m.Kind.ACK) -> list[list[int]]:
    """The fields of the answers of this kind that replica 2 sent."""
    return [message.fields for sender, _, message in c.sent if sender == 2 and message.kind is kind]


@fails_with("ticket-commits")
def test_a_snapshot_offer_never_moves_the_commit_index() -> None:
    c = follower_with(3)
    c.forge(m.Kind.TICKET, 3, 2, 2, 4)
    c.sync(2)
    assert c.group(2).commit_index == 1
    assert c[2].machine.payloads == []
    assert c.group(2).resync_wanted == (3, 4)


@fails_with("old-ticket")
def test_a_snapshot_offer_that_is_not_ahead_is_dropped() -> None:
    c = follower_with(3, committed=4)
    assert c.group(2).applied_index == 4
    for offered in (1, 3, 4):
        c.forge(m.Kind.TICKET, 1, 2, 1, offered)
        assert c.group(2).resync_wanted is None
    assert c.group(2).applied_index == 4 and c.group(2).last_index == 4


@fails_with("old-jump")
def test_a_jump_never_goes_back() -> None:
    c = follower_with(3, committed=4)
    for index in (1, 3, 4):
        with pytest.raises(ValueError, match="go back"):
            c.group(2).jump(index, 1, c.founding)
    assert c.group(2).applied_index == 4


@fails_with("jump-forgets")
def test_a_jump_keeps_what_follows_the_snapshot_when_the_log_has_it() -> None:
    c = follower_with(9)
    c[2].machine.applied = [(5, 1, b"resynced")]
    c.group(2).jump(5, 1, c.founding)
    assert c.group(2).last_index == 10, "entries that were acknowledged are gone"
    assert (c.group(2).applied_index, c.group(2).commit_index) == (5, 5)
    c[2].power_loss()
    c[2].durable = [(5, 1, b"resynced")]
    c[2].start()
    assert c.group(2).last_index == 10


def test_a_jump_over_another_history_forgets_it_and_what_was_promised_of_it() -> None:
    c = follower_with(3)
    c.append(1, 2, 1, (4, 1), [(1, X), (1, Y)])
    c.group(2).jump(5, 3, c.founding)
    c.sync(2)
    assert (c.group(2).journal.first_index, c.group(2).last_index) == (5, 5)
    assert answers(c) == [], "an acknowledgement of entries that are gone"
    c.append(1, 2, 3, (5, 3), [(3, X)], commit=6)
    c.sync(2)
    assert c[2].machine.payloads == [X] and answers(c) == [[7, 1]]


def test_a_log_that_begins_with_an_entry_that_was_never_committed_goes_on_from_one_that_was() -> (
    None
):
    """As one does that was begun anew at its end, because it could not be read any more: that entry
    may have come to nothing since."""
    c = follower_with(3)
    c.group(2).jump(5, 3, c.founding)
    assert c.group(2).lacks(5, 4) and not c.group(2).lacks(5, 3)
    c.group(2).jump(5, 4, c.founding)
    c.append(1, 2, 4, (5, 4), [(4, X)], commit=6)
    c.sync(2)
    assert c[2].machine.payloads == [X] and answers(c) == [[7, 1]]


def test_a_leader_does_not_jump_over_its_own_log() -> None:
    c = Cluster()
    c.elect(1)
    with pytest.raises(ValueError, match="leader"):
        c.group(1).jump(50, 1, c.founding)
    assert c.group(1).last_index == 2


@fails_with("cut-matching")
def test_a_matching_suffix_is_not_cut() -> None:
    c = follower_with(4)
    c.append(1, 2, 1, (1, 0), [(1, b"0"), (1, b"1")])
    assert c.group(2).last_index == 5
    c.append(1, 2, 1, (2, 1))
    assert c.group(2).last_index == 5
    c.sync(2)
    c[2].power_loss()
    c[2].start()
    assert [payload for _, payload in c.log(2)] == [b"", b"0", b"1", b"2", b"3"]


def test_an_append_that_differs_replaces_from_the_first_difference() -> None:
    c = follower_with(4)
    c.append(3, 2, 2, (2, 1), [(1, b"1"), (2, X)])
    c.sync(2)
    assert c.log(2) == [(0, b""), (1, b"0"), (1, b"1"), (2, X)]
    assert answers(c)[-1] == [5, 1]


@fails_with("cut-committed")
def test_an_append_that_contradicts_committed_entries_is_refused_and_told() -> None:
    c = follower_with(3, committed=4)
    group, before = c.group(2), c.log(2)
    said = len(answers(c))
    for term, prev, entry, text in (
        (2, (2, 1), (2, X), "entry 3 is committed here with term 1"),
        (3, (4, 2), (3, X), "entry 4 is committed here"),
    ):
        c.append(3, 2, term, prev, [entry])
        assert group.contradiction is not None and text in str(group.contradiction[1])
        c.sync(2)
        assert c.log(2) == before and group.term == 1 and len(answers(c)) == said


def test_who_contradicts_what_is_committed_is_no_leader_and_keeps_nobody_from_standing() -> None:
    c = follower_with(3, committed=4)
    group = c.group(2)
    c.append(3, 2, 2, (2, 1), [(2, X)])
    assert group.leader != 3
    assert group.promises.begin_life(3, 77) == (0, 0)


@fails_with("commit-unverified")
def test_the_commit_index_stops_at_what_the_append_verified() -> None:
    c = follower_with(5)
    c.append(3, 2, 2, (3, 1), commit=6)
    c.sync(2)
    assert c.group(2).commit_index == 3
    assert c[2].machine.payloads == [b"0", b"1"]


@fails_with("prev-unchecked")
def test_an_append_onto_another_history_is_not_taken() -> None:
    c = follower_with(3)
    c.append(3, 2, 2, (4, 2), [(2, X)], commit=5)
    c.sync(2)
    assert c.group(2).last_index == 4 and c.group(2).commit_index == 1
    assert answers(c) == [[2, 0]]


@fails_with("next-goes-back")
def test_nothing_is_sent_again_for_an_acknowledgement_in_order() -> None:
    c = Cluster()
    c.elect(1)
    c.propose(1, b"a", b"b", b"c")
    c.deliver(1, 2, 1)
    c.sync(2)
    c.sent.clear()
    c.deliver(2, 1)
    c.group(1).advance(c.now)
    c.collect(1)
    again = [x.fields for a, b, x in c.sent if (a, b) == (1, 2) and x.kind is m.Kind.APPEND]
    assert not any(fields[4] for fields in again), "entries on their way were sent again"
    c.run(0.3)
    assert c[2].machine.payloads == [b"a", b"b", b"c"]


def diverged(entries: int, flow: Flow | None = None) -> Cluster:
    """Replica 1 was cut off as leader with `entries` of its own; 2 leads and has committed as
    many."""
    c = Cluster(flow=flow)
    c.elect(1)
    c.isolate(1)
    for n in range(entries + 5):
        c.propose(1, b"lost %d" % n)
    c.sync(1)
    c.run(2.0, only=[1])
    c.run(2.0, only=[2, 3])
    leader = 2 if c.group(2).is_leader else 3
    for n in range(entries):
        c.propose(leader, b"kept %d" % n)
    c.settle([2, 3])
    return c


@fails_with("ask-one-back")
def test_a_diverged_follower_asks_for_what_follows_its_commit_index() -> None:
    c = diverged(40)
    leader = 2 if c.group(2).is_leader else 3
    commit = c.group(1).commit_index
    c.sent.clear()
    c.heal()
    c.settle()
    asked = [x.fields for a, b, x in c.sent if (a, b) == (1, leader) and x.kind is m.Kind.ACK]
    assert [fields[0] for fields in asked if not fields[1]] == [commit + 1]
    c.run(0.3)
    assert c.converged() and c[1].machine.payloads == [b"kept %d" % n for n in range(40)]


@fails_with("no-probing")
def test_a_diverged_follower_with_batches_in_flight_converges_without_a_flood() -> None:
    c = diverged(40, Flow(message_bytes_max=64))
    leader = 2 if c.group(2).is_leader else 3
    c.heal()
    c.collect(leader)
    c.propose(leader, *[b"more %d" % n for n in range(20)])
    c.sent.clear()
    c.deliver(leader, 1)
    c.sync(1)
    while c.deliver(1, leader, 1):
        c.sync(leader)
    c.run(1.0)
    assert c.converged() and len(c[1].machine.payloads) == 60
    sent = sum(
        len(x.fields[4]) for a, b, x in c.sent if (a, b) == (leader, 1) and x.kind is m.Kind.APPEND
    )
    assert sent < 6 * 60, f"{sent} entries were sent for 60 that were missing"


def behind_the_log() -> tuple[Cluster, int]:
    """Replica 3 was down while 1 wrote and trimmed; it is back, and its next entry is gone."""
    c = Cluster()
    c.elect(1)
    c.isolate(3)
    for _ in range(30):
        c.propose(1, bytes(1000))
        c.settle([1, 2])
    journal = c.group(1).journal
    journal.trim(c.group(1).applied_index)
    c.sync(1)
    assert journal.first_index > 2
    c.sent.clear()
    c.heal()
    return c, journal.first_index


@fails_with("tickets-flood")
def test_a_follower_beyond_the_log_is_offered_a_resync_once_a_heartbeat_and_jumps() -> None:
    c, _ = behind_the_log()
    for _ in range(20):
        c.group(1).advance(c.now)
        c.collect(1)
    c.settle()
    assert sum(x.kind is m.Kind.TICKET for _, _, x in c.sent) == 1
    offered = c.group(3).resync_wanted
    assert offered == (1, c.group(1).applied_index)
    c[3].machine.applied = list(c[1].machine.applied)
    index, term, _ = c[3].machine.applied[-1]
    c.group(3).jump(index, term, c.founding)
    assert c.group(3).resync_wanted is None
    c.propose(1, b"after")
    c.run(0.5)
    assert c.converged() and c[3].machine.payloads[-1] == b"after"


def test_an_append_that_waits_for_blobs_is_taken_up_when_they_come() -> None:
    c = follower_with(1)
    c[2].machine.missing = {X}
    c.append(1, 2, 1, (2, 1), [(1, b"before"), (1, X)])
    c.append(1, 2, 1, (4, 1), [(1, b"after")])
    c.sync(2)
    assert c.group(2).last_index == 3
    assert max(fields[0] for fields in answers(c)) == 4 and all(ok for _, ok in answers(c))
    c[2].machine.missing = set()
    c.group(2).retry_parked(c.now)
    c.sync(2)
    assert answers(c)[-1] == [6, 1] and c.group(2).last_index == 5


def test_the_blobs_of_an_append_that_has_no_room_to_wait_are_asked_for_all_the_same() -> None:
    """Found by the simulator: a follower that was 280 entries behind took one with each
    heartbeat."""
    c = Cluster(flow=Flow(parked_bytes_max=1))
    c.now += 1
    c[2].machine.missing = {X, Y}
    c.append(1, 2, 1, (1, 0), [(1, X), (1, b"between"), (1, Y)])
    c.sync(2)
    assert c.group(2).last_index == 1 and not c.group(2).has_parked
    assert {X, Y} <= set(c[2].machine.wanted)


def test_a_leader_whose_followers_wait_for_blobs_stays_leader() -> None:
    c = Cluster()
    c.elect(1)
    for n in (2, 3):
        c[n].machine.missing = {X}
    c.propose(1, X)
    c.run(3.0)
    assert c.group(1).is_leader and c.group(1).term == 1
    assert c[1].machine.payloads == []
    for n in (2, 3):
        c[n].machine.missing = set()
        c.group(n).retry_parked(c.now)
        c.collect(n)
    c.run(0.3)
    assert c[1].machine.payloads == [X]


class _Log:
    """A log for `judge`: terms by index, from `first_index`."""

    def __init__(self, first: int, terms: list[int]) -> None:
        self.first_index = first
        self.last_index = first + len(terms) - 1
        self._terms = terms

    def term_of(self, index: int) -> int:
        return self._terms[index - self.first_index]


@pytest.mark.parametrize("commit", range(1, 4))
@pytest.mark.parametrize("prev", range(6))
@pytest.mark.parametrize("terms", [(), (1,), (1, 1), (1, 2), (2, 2, 2), (1, 1, 1, 1, 2)])
@pytest.mark.parametrize("first", [1, 2, 3])
def test_judge_agrees_with_a_comparison_entry_by_entry(
    commit: int, prev: int, terms: tuple[int, ...], first: int
) -> None:
    own = {1: 0, 2: 1, 3: 1, 4: 1}
    if first > commit:
        return
    log = _Log(first, [own[i] for i in range(first, 5)])
    prev_term = own.get(prev, 1)
    theirs = {prev + 1 + i: t for i, t in enumerate(terms)}
    conflict = next((i for i, t in theirs.items() if i >= first and i in own and own[i] != t), None)
    if conflict is not None and conflict <= commit:
        with pytest.raises(Diverged):
            judge(log, commit, prev, prev_term, terms)
        return
    verdict = judge(log, commit, prev, prev_term, terms)
    if prev > 4:
        assert verdict.ask == commit + 1
        return
    keep = 0
    while prev + keep + 1 in theirs and prev + keep + 1 in own:
        index = prev + keep + 1
        if index >= first and own[index] != theirs[index]:
            break
        keep += 1
    assert (verdict.keep, verdict.verified, verdict.ask) == (keep, prev + keep, -1)


@pytest.mark.parametrize("claim", claims_of(__name__), ids=lambda claim: claim.fault)
def test_a_removed_guard_is_noticed(claim: Claim) -> None:
    assert finds(claim, FAULTS[claim.fault]), FAULTS[claim.fault].does
