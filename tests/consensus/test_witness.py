"""A member without a state machine: what a group asks of its shard is enough for one that votes."""

from __future__ import annotations

from raftmail.consensus.fitness import Fitness
from tests.consensus.cluster import Cluster, ListMachine


class NoMachine(ListMachine):
    """Applies nothing and keeps nothing: what it promises stands in the journal."""

    def apply(self, index: int, term: int, payload: bytes) -> None: ...

    def lacks_bodies(self) -> bool:
        return True

    def fitness(self) -> Fitness:
        return Fitness.UNFIT


def with_witness() -> Cluster:
    """Three members, of which the third has a journal and nothing else."""
    c = Cluster(3)
    c.isolate(3)
    c[3].power_loss()
    c[3].machine = NoMachine()
    c[3].start()
    c.heal()
    return c


def test_a_member_without_a_machine_elects_a_leader_and_commits_its_entries() -> None:
    c = with_witness()
    c.isolate(2)
    c.elect(1)
    index = c.propose(1, b"a")
    c.run(1.0, only=(1, 3))
    assert c.group(1).commit_index >= index and c[1].machine.payloads == [b"a"]
    assert c.group(3).journal.synced_index >= index and not c[3].machine.applied


def test_a_member_without_a_machine_never_stands_and_is_handed_nothing() -> None:
    c = with_witness()
    c.elect(1)
    c.run(1.0)
    assert c.group(1).best_successor() == 2
    term = c.group(3).term
    c.isolate(1)
    c.isolate(2)
    c.run(10.0, only=(3,))
    assert not c.group(3).is_leader and c.group(3).term == term


def test_a_member_without_a_machine_forgets_no_vote_and_no_entry_over_a_restart() -> None:
    c = with_witness()
    c.elect(1)
    index = c.propose(1, b"a")
    c.run(1.0)
    vote = c.group(3).journal.synced_hard_state
    c.isolate(3)
    c[3].power_loss()
    c[3].start()
    group = c.group(3)
    assert group.journal.synced_hard_state == vote and group.last_index >= index
    c.heal()
    c.run(1.0)
    assert group.commit_index == c.group(1).commit_index
