"""The shared memory limit, against its promises."""

import random

import pytest

from raftmail.mail.budget import Budget
from raftmail.net.budget import ReadBudget


class Fake:
    """A reader with a message to receive, of which it holds what it has read."""

    def __init__(self, budget: ReadBudget, size_bytes: int) -> None:
        self.budget = budget
        self.left_bytes = size_bytes
        self.held_bytes = 0
        self.reading = True

    def resume_reading(self) -> None:
        assert not self.reading
        self.reading = True

    def set_held(self, held_bytes: int) -> None:
        before_bytes, self.held_bytes = self.held_bytes, held_bytes
        if self.budget.update(self, before_bytes, held_bytes):
            self.reading = False

    def read(self, bytes_max: int) -> None:
        count = min(bytes_max, self.left_bytes)
        self.left_bytes -= count
        self.set_held(self.held_bytes + count)


@pytest.mark.parametrize("seed", range(20))
def test_everyone_ends_and_the_excess_is_one_message_and_one_read_each(seed: int) -> None:
    rng = random.Random(seed)
    budget = ReadBudget(Budget(1000), 100)
    readers = [Fake(budget, rng.randrange(1, 800)) for _ in range(12)]
    live = list(readers)
    highest = 0
    while live:
        able = [reader for reader in live if reader.reading]
        assert able, "nobody may read, and everybody holds something"
        reader = rng.choice(able)
        if reader.left_bytes:
            reader.read(100)
        elif rng.random() < 0.3:  # delivered
            reader.set_held(0)
            live.remove(reader)
        elif rng.random() < 0.1:  # lost
            budget.forget(reader, reader.held_bytes)
            live.remove(reader)
        highest = max(highest, budget.held_bytes)
    assert budget.held_bytes == 0
    assert budget.waiting_count == 0
    assert highest <= 1000 + 800 + 12 * 100


def test_one_reads_on_when_all_stand_in_the_middle() -> None:
    budget = ReadBudget(Budget(100), 10)
    first, second, third = (Fake(budget, 1000) for _ in range(3))
    first.read(60)
    second.read(60)  # over the limit: it leads
    first.read(60)
    third.read(60)
    assert [first.reading, second.reading, third.reading] == [False, True, False]
    second.read(500)
    assert second.reading


def test_who_stopped_first_leads_next() -> None:
    budget = ReadBudget(Budget(100), 10)
    leader, first, second = (Fake(budget, 1000) for _ in range(3))
    leader.read(150)
    first.read(110)
    second.read(110)
    budget.forget(leader, leader.held_bytes)
    assert [first.reading, second.reading] == [True, False]


def test_only_as_many_go_on_as_there_is_room_for() -> None:
    budget = ReadBudget(Budget(100), 10)
    leader = Fake(budget, 1000)
    leader.read(200)
    others = [Fake(budget, 1000) for _ in range(20)]
    for other in others:
        other.read(1)
    leader.set_held(0)
    # 20 bytes are held; one leads, seven more may read ten bytes each.
    assert sum(other.reading for other in others) == 8
