"""Where chaos lets a journal rot: only where a start has to notice, whatever happened before."""

from __future__ import annotations

import pytest

from raftmail.consensus.journal import Journal
from raftmail.consensus.records import HEADER_BYTES
from raftmail.consensus.replay import JournalDamaged, list_segments, segment_name
from raftmail_chaos.rot import surely_durable
from tests.consensus.journal_twin import IDENTITY, SMALL
from tests.simulation.disk import SimDisk


def written(disk: SimDisk, entries: int) -> Journal:
    """A journal with entries, each in a batch of its own that is on the disk."""
    journal = Journal.open(disk, "journal", IDENTITY, SMALL, create=True)
    for index in range(1, entries + 1):
        journal.add(bytes(100), index, 1)
        journal.flush()
        while (job := journal.begin_sync()) is not None:
            job.run()
            journal.end_sync(job)
    return journal


def contents(disk: SimDisk) -> dict[int, bytes]:
    numbers = list_segments(disk, "journal")
    return {n: disk.content(segment_name("journal", n)) for n in numbers}


def test_a_start_notices_rot_in_every_part_that_is_named() -> None:
    disk = SimDisk()
    written(disk, 60).close()
    ends = surely_durable(contents(disk))
    assert len(ends) > 2
    for number, end in ends.items():
        for offset in range(HEADER_BYTES, end, 97):
            name = segment_name("journal", number)
            disk.flip_bit(name, 8 * offset)
            with pytest.raises(JournalDamaged):
                Journal.open(disk, "journal", IDENTITY, SMALL, create=False)
            disk.flip_bit(name, 8 * offset)


def test_segments_from_before_a_new_beginning_are_not_named() -> None:
    disk = SimDisk()
    journal = written(disk, 60)
    # A crash may come before they are removed, which is why they are kept here.
    old = contents(disk)
    journal.reset(60, 1)
    new = {n: content for n, content in contents(disk).items() if n not in old}
    assert surely_durable(old)
    assert new
    assert not surely_durable(old | new).keys() & old.keys()


def test_a_batch_that_nothing_says_was_synced_is_not_named() -> None:
    disk = SimDisk()
    journal = Journal.open(disk, "journal", IDENTITY, SMALL, create=True)
    journal.add(bytes(100), 1, 1)
    journal.flush()
    assert surely_durable(contents(disk)) == {}
