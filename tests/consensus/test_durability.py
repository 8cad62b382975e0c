"""What is promised is on the disk, and what is applied is applied once: guards G7, G8, G10."""

from __future__ import annotations

import pytest

from raftmail.consensus import messages as m
from raftmail.consensus.journal import JournalDamaged
from raftmail.storage.disk import DiskFull
from tests.consensus.cluster import LIMITS, Cluster
from tests.consensus.planted import FAULTS
from tests.consensus.planting import Claim, claims_of, fails_with, finds
from tests.simulation.disk import PowerCut


def of_kind(c: Cluster, kind: m.Kind, sender: int) -> list[m.Message]:
    return [x for a, _, x in c.sent if x.kind is kind and a == sender]


@fails_with("vote-before-sync")
def test_a_vote_leaves_only_when_it_is_on_the_disk_and_is_kept_over_a_power_loss() -> None:
    c = Cluster()
    c.now += 1
    c.forge(m.Kind.VOTE, 1, 2, 1, 1, 0, 0)
    assert not of_kind(c, m.Kind.VOTE_GRANTED, 2)
    c.sync(2)
    assert len(of_kind(c, m.Kind.VOTE_GRANTED, 2)) == 1
    c[2].power_loss()
    c[2].start()
    c.now += 1
    c.forge(m.Kind.VOTE, 3, 2, 1, 1, 0, 0)
    c.sync(2)
    assert len(of_kind(c, m.Kind.VOTE_GRANTED, 2)) == 1, "two votes in one term"


@fails_with("stand-before-sync")
def test_a_candidacy_leaves_only_when_the_own_vote_is_on_the_disk() -> None:
    c = Cluster()
    c.now += 1
    c.tick(1)
    c.forge(m.Kind.PREVOTE_GRANTED, 2, 1, 1)
    assert c.group(1).term == 1
    assert not of_kind(c, m.Kind.VOTE, 1)
    c.sync(1)
    assert len(of_kind(c, m.Kind.VOTE, 1)) == 2
    c[1].power_loss()
    c[1].start()
    c.now += 1
    c.forge(m.Kind.VOTE, 3, 1, 1, 1, 0, 0)
    c.sync(1)
    assert not of_kind(c, m.Kind.VOTE_GRANTED, 1)


def test_a_new_replica_whose_index_alone_has_the_first_entry_has_it_in_the_log_again() -> None:
    """Its index may be committed before it ever syncs, by a resync that begins at once."""
    c = Cluster()
    assert c[2].machine.index == 1
    c[2].persist()
    c[2].power_loss()
    c[2].start()
    assert c.group(2).last_index == 1


@fails_with("ack-before-sync")
def test_entries_are_acknowledged_only_when_they_are_on_the_disk() -> None:
    c = Cluster()
    c.append(1, 2, 1, (1, 0), [(1, b"x"), (1, b"y")])
    assert not of_kind(c, m.Kind.ACK, 2)
    c.sync(2)
    assert [x.fields for x in of_kind(c, m.Kind.ACK, 2)] == [[4, 1]]
    c[2].power_loss()
    c[2].start()
    assert c.group(2).last_index == 3


@fails_with("heartbeat-acks-unsynced")
def test_the_answer_to_a_heartbeat_promises_only_what_is_on_the_disk() -> None:
    c = Cluster()
    c.sync(2)
    c.append(1, 2, 1, (1, 0), [(1, b"x")])
    c.append(1, 2, 1, (2, 1))
    assert [x.fields for x in of_kind(c, m.Kind.ACK, 2)] == [[2, m.ACK_WHOLE]]


@fails_with("withheld-acknowledged")
def test_what_is_withheld_is_not_acknowledged_until_it_is_withheld_no_more() -> None:
    c = Cluster()
    c.append(1, 2, 1, (1, 0), [(1, b"x"), (1, b"y")])
    c.sync(2)
    c[2].power_loss()
    c[2].start()
    group = c.group(2)
    group.withhold(3)
    c.sent.clear()
    c.append(1, 2, 1, (3, 1), [(1, b"z")])
    c.sync(2)
    c.append(1, 2, 1, (4, 1))
    c.sync(2)
    assert group.journal.synced_index == 4
    assert {x.fields[0] for x in of_kind(c, m.Kind.ACK, 2)} == {3}
    group.withhold(0)
    c.append(1, 2, 1, (4, 1))
    assert of_kind(c, m.Kind.ACK, 2)[-1].fields == [5, m.ACK_WHOLE]


@fails_with("withheld-acknowledged-by-beats")
def test_no_beat_acknowledges_what_is_withheld() -> None:
    c = Cluster()
    c.elect(1)
    c.propose(1, b"x")
    c.settle()
    last = c.group(2).last_index
    c.group(2).withhold(last)
    c.sent.clear()
    c.run(0.5)
    acks = of_kind(c, m.Kind.ACK, 2)
    assert acks and all(x.fields[0] <= last for x in acks)


@fails_with("withheld-stands")
def test_who_withholds_entries_does_not_stand_for_election() -> None:
    c = Cluster()
    for replica in (1, 2, 3):
        c.group(replica).withhold(2 if replica == 1 else 0)
    c.group(1).engine.set_election_deadline(c.now)
    for replica in (2, 3):
        c.group(replica).engine.set_election_deadline(c.now + 100)
    c.run(3.0)
    assert not any(c.group(replica).is_leader for replica in (1, 2, 3))
    c.group(1).withhold(0)
    c.run(3.0)
    assert c.group(1).is_leader


@fails_with("withheld-leads")
def test_a_master_that_withholds_an_entry_makes_way() -> None:
    c = Cluster()
    c.elect(1)
    c.settle()
    c.isolate(1)
    index = c.propose(1, b"nobody can take this")
    c.sync(1)
    c.heal()
    c.group(1).withhold(index)
    assert not c.group(1).is_leader
    c.run(4.0)
    assert c.group(2).is_leader or c.group(3).is_leader
    assert c.converged()


@fails_with("withheld-takes-over")
def test_who_withholds_entries_does_not_take_over_when_it_is_asked_to() -> None:
    c = Cluster()
    c.elect(1)
    c.settle()
    c.group(2).withhold(2)
    c.sent.clear()
    c.forge(m.Kind.TIMEOUT_NOW, 1, 2, c.group(1).term)
    assert not c.group(2).engine.transfer_pending()
    c.group(2).withhold(0)
    c.run(0.5)
    assert not of_kind(c, m.Kind.VOTE, 2)


@fails_with("release-too-much")
def test_a_sync_releases_only_what_was_promised_before_it_began() -> None:
    c = Cluster()
    c.append(1, 2, 1, (1, 0), [(1, b"x")])
    group = c.group(2)
    job = group.begin_sync()
    assert job is not None
    c.append(1, 2, 1, (2, 1), [(1, b"y")])
    job.run()
    group.end_sync(c.now, job)
    c.collect(2)
    assert [x.fields for x in of_kind(c, m.Kind.ACK, 2)] == [[3, 1]]
    c.sync(2)
    assert [x.fields for x in of_kind(c, m.Kind.ACK, 2)] == [[3, 1], [4, 1]]


@fails_with("release-while-syncing")
def test_nothing_is_released_by_a_sync_that_is_asked_for_while_one_is_running() -> None:
    c = Cluster()
    c.append(1, 2, 1, (1, 0), [(1, b"x")])
    group = c.group(2)
    assert group.begin_sync() is not None
    assert group.begin_sync() is None
    group.end_sync(c.now, None)
    c.collect(2)
    assert not of_kind(c, m.Kind.ACK, 2)


@fails_with("release-when-full")
def test_nothing_is_acknowledged_that_could_not_be_written_for_lack_of_space() -> None:
    c = Cluster()
    c.append(1, 2, 1, (1, 0), [(1, b"x")])

    def no_space() -> None:
        raise DiskFull("no space")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(c.group(2).journal, "flush", no_space)
        c.sync(2)
    assert not of_kind(c, m.Kind.ACK, 2)
    c.sync(2)
    assert [x.fields for x in of_kind(c, m.Kind.ACK, 2)] == [[3, 1]]


@fails_with("leader-counts-unsynced")
def test_a_leader_does_not_count_itself_before_its_own_disk_has_the_entry() -> None:
    c = Cluster()
    c.elect(1)
    c.run(0.3)
    index = c.propose(1, b"x")
    c.deliver(1, 2)
    c.sync(2)
    c.deliver(2, 1)
    c.group(1).advance(c.now)
    assert c.group(1).match_index(2) == index
    assert c.group(1).commit_index == index - 1, "one disk of three has it"
    c.sync(1)
    assert c.group(1).commit_index == index


@fails_with("leader-counts-unsynced")
def test_a_replica_alone_commits_nothing_before_its_sync() -> None:
    c = Cluster(1)
    c.run(2.0)
    index = c.propose(1, b"x")
    c.group(1).advance(c.now)
    assert c.group(1).commit_index == index - 1 and not c[1].machine.payloads
    c.sync(1)
    assert c[1].machine.payloads == [b"x"]


def test_the_followers_disks_work_while_the_leaders_does() -> None:
    c = Cluster()
    c.elect(1)
    c.run(0.3)
    c.sent.clear()
    c.propose(1, b"x")
    assert [x.fields[5] for x in of_kind(c, m.Kind.APPEND, 1)] == [[b"\0x"], [b"\0x"]]


@fails_with("apply-swallows")
def test_an_error_in_the_apply_comes_through_and_the_entry_is_not_passed_over() -> None:
    c = Cluster(1)
    c.run(2.0)
    c.propose(1, b"x")
    c[1].machine.raises = RuntimeError("broken")
    before = c.group(1).applied_index
    with pytest.raises(RuntimeError, match="broken"):
        c.sync(1)
    assert c.group(1).applied_index == before
    c[1].machine.raises = None
    c.sync(1)
    assert c[1].machine.payloads == [b"x"]


@fails_with("apply-twice")
def test_every_entry_is_applied_once_in_order_over_crashes() -> None:
    c = Cluster()
    c.elect(1)
    for n in range(6):
        c.propose(1, b"%d" % n)
        c.run(0.3)
        if n == 2:
            c[2].persist()
            c.isolate(2)
            c[2].power_loss()
            c[2].start()
            c.heal()
    for node in c.nodes.values():
        assert [index for index, _, _ in node.machine.applied] == list(range(1, 9))
        assert node.machine.payloads == [b"%d" % n for n in range(6)]


@fails_with("apply-unsynced")
def test_the_state_machine_never_gets_ahead_of_the_journal_on_the_disk() -> None:
    c = Cluster()
    c.append(1, 2, 1, (1, 0), [(1, b"x")], commit=2)
    c.group(2).advance(c.now)
    assert c.group(2).commit_index == 2 and c[2].machine.payloads == []
    c.sync(2)
    assert c[2].machine.payloads == [b"x"]


@pytest.mark.parametrize("lost", [1, 2, 4])
def test_what_the_state_machine_lost_before_a_commit_is_applied_again(lost: int) -> None:
    c = Cluster(1)
    c.run(2.0)
    c.propose(1, b"x", b"y")
    c.sync(1)
    machine = c[1].machine
    del machine.applied[-lost:]
    c.group(1).rewind_applied(machine.index)
    c.sync(1)
    assert [index for index, _, _ in machine.applied] == [1, 2, 3, 4]
    assert machine.payloads == [b"x", b"y"]


def test_a_replica_whose_journal_lost_what_its_index_has_does_not_start() -> None:
    c = Cluster()
    c[2].durable = [(1, 0, b""), (2, 1, b"x")]
    c[2].power_loss()
    with pytest.raises(ValueError, match="the journal ends at 1"):
        c[2].start()


def test_a_replica_whose_journal_is_gone_does_not_vote() -> None:
    c = Cluster()
    c[2].power_loss()
    for name in c[2].disk.listdir("log"):
        c[2].disk.remove("log/" + name)
    with pytest.raises(JournalDamaged):
        c[2].start()


def test_a_power_loss_anywhere_in_a_jump_leaves_the_old_log_or_the_new() -> None:
    seen = set()
    for cut in range(1, 30):
        c = Cluster()
        c.append(1, 2, 1, (1, 0), [(1, bytes(900)) for _ in range(20)])
        c.sync(2)
        c[2].disk.cut_at = c[2].disk.operations + cut
        try:
            c.group(2).jump(40, 3, c.founding)
            done = True
        except PowerCut:
            done = False
        c[2].power_loss()
        c[2].start()
        journal = c.group(2).journal
        where = (journal.first_index, journal.last_index, journal.term_of(journal.last_index))
        assert where in {(1, 21, 1), (40, 40, 3)}
        assert c.group(2).term == max(1, where[2])
        assert not done or where[0] == 40, "a jump that returned is not on the disk"
        seen.add((done, where))
    assert len(seen) >= 3


def test_terms_and_votes_still_fit_on_a_full_disk() -> None:
    c = Cluster()
    disk = c[2].disk
    c.append(1, 2, 1, (1, 0), [(1, b"x")])
    c.sync(2)
    disk.capacity_bytes = 0
    with pytest.raises(DiskFull):
        c.append(1, 2, 1, (2, 1), [(1, bytes(LIMITS.prealloc_bytes_max * 3)), (1, b"y")])
    assert not c.group(2).journal.room()
    c.append(1, 2, 1, (2, 1), [(1, b"y")])
    c.sync(2)
    assert c.group(2).last_index == 2
    c.now += 5
    c.forge(m.Kind.VOTE, 3, 2, 9, 2, 1, 0)
    c.sync(2)
    assert len(of_kind(c, m.Kind.VOTE_GRANTED, 2)) == 1


@pytest.mark.parametrize("claim", claims_of(__name__), ids=lambda claim: claim.fault)
def test_a_removed_guard_is_noticed(claim: Claim) -> None:
    assert finds(claim, FAULTS[claim.fault]), FAULTS[claim.fault].does
