"""Somebody removes, cuts or changes files of a journal in use: what the process knows is on the
disk again, or what is lost is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from raftmail.consensus.journal import Entry, Journal, JournalDamaged, JournalLimits
from raftmail.consensus.records import HEADER_BYTES
from raftmail.storage.disk import DiskFull
from tests.consensus.journal_twin import IDENTITY, SMALL
from tests.simulation.disk import PowerCut, SimDisk, SimFile

ENTRIES = 40
REMEMBERING = replace(SMALL, cache_bytes_max=1 << 20)


def written(disk: SimDisk, limits: JournalLimits = REMEMBERING) -> Journal:
    journal = Journal.open(disk, "j", IDENTITY, limits, create=True)
    journal.setCurrentTerm(3, 2)
    for index in range(1, ENTRIES + 1):
        journal.add(b"entry %d " % index * 5, index, 3)
        sync(journal)
    journal.setCurrentTerm(4, 1)
    sync(journal)
    assert len(disk.listdir("j")) > 3
    return journal


def sync(journal: Journal) -> None:
    job = journal.begin_sync()
    if job is not None:
        job.run()
        journal.end_sync(job)


def opened(disk: SimDisk, limits: JournalLimits = REMEMBERING) -> Journal:
    return Journal.open(disk, "j", IDENTITY, limits, create=False)


def remove(disk: SimDisk, name: str) -> None:
    disk.remove(name)


def cut_short(disk: SimDisk, name: str) -> None:
    disk.open(name).truncate(len(disk.content(name).rstrip(b"\0")) * 2 // 3)


def change(disk: SimDisk, name: str) -> None:
    disk.flip_bit(name, 8 * 600)


def replace_by_zeros(disk: SimDisk, name: str) -> None:
    disk.put(name, bytes(len(disk.content(name))))


DAMAGES = [remove, cut_short, change, replace_by_zeros]
Damage = Callable[[SimDisk, str], None]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("which", [0, 1, -1])
def test_what_was_done_to_a_segment_is_found_when_its_turn_has_come(
    damage: Damage, which: int
) -> None:
    disk = SimDisk()
    journal = written(disk)
    names = disk.listdir("j")
    assert not any(journal.check_next() for _ in names)
    damage(disk, f"j/{names[which]}")
    found = [text for text in [journal.check_next() for _ in names] if text]
    assert len(found) == 1 and names[which] in found[0]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("which", [0, 1, -1])
@pytest.mark.parametrize("durable", [0, 9, 25, ENTRIES])
def test_everything_behind_the_index_is_there_again(
    damage: Damage, which: int, durable: int
) -> None:
    disk = SimDisk()
    journal = written(disk)
    before: list[Entry] = list(journal)
    damage(disk, f"j/{disk.listdir('j')[which]}")
    assert journal.mend(durable)
    journal.abandon()
    disk.power_off()
    disk.restart()
    again = opened(disk)
    assert again.begins_at <= durable and again.last_index == ENTRIES
    assert [again.entry(i) for i in range(durable + 1, ENTRIES + 1)] == before[durable:]
    assert (again.getCurrentTerm(), again.getVotedForNodeId()) == (4, 1)
    assert not any(again.check_next() for _ in disk.listdir("j"))
    again.add(b"it goes on", ENTRIES + 1, 4)
    sync(again)
    again.close()
    assert opened(disk).entry(ENTRIES + 1)[0] == b"it goes on"


def test_segments_behind_the_damage_stay_for_followers_that_were_away() -> None:
    disk = SimDisk()
    journal = written(disk)
    names = disk.listdir("j")
    remove(disk, f"j/{names[0]}")
    assert journal.mend(ENTRIES)
    assert disk.listdir("j") == names[1:]
    assert 0 < journal.begins_at < ENTRIES // 2


@pytest.mark.parametrize("damage", DAMAGES)
def test_where_an_entry_can_be_read_nowhere_the_log_begins_anew_at_its_end(damage: Damage) -> None:
    disk = SimDisk()
    limits = replace(SMALL, cache_bytes_max=0)
    journal = written(disk, limits)
    damage(disk, f"j/{disk.listdir('j')[1]}")
    assert not journal.mend(0)
    journal.abandon()
    again = opened(disk, limits)
    assert (again.begins_at, again.last_index, again.term_of(ENTRIES)) == (ENTRIES, ENTRIES, 3)
    assert (again.getCurrentTerm(), again.getVotedForNodeId()) == (4, 1)


def test_entries_that_were_cut_and_may_come_back_are_kept() -> None:
    disk = SimDisk()
    journal = written(disk)
    before = list(journal)
    journal.deleteEntriesFrom(30)
    journal.add(before[30][0], 31, 3)  # the first came back
    remove(disk, f"j/{disk.listdir('j')[-1]}")
    assert journal.mend(5)
    journal.abandon()
    again = opened(disk)
    assert [again.entry(i) for i in range(6, ENTRIES + 1)] == before[5:]


@pytest.mark.parametrize("durable", [0, 25])
@pytest.mark.parametrize("which", [0, -1])
def test_the_power_may_go_at_any_operation_of_mending(durable: int, which: int) -> None:
    def life(cut_at: int | None) -> SimDisk:
        disk = SimDisk(cut_at or 0)
        journal = written(disk)
        change(disk, f"j/{disk.listdir('j')[which]}")
        if cut_at is not None:
            disk.cut_at = disk.operations + cut_at
        before = disk.operations
        try:
            assert journal.mend(durable)
            disk.cut_at = None
        except PowerCut:
            pass
        steps.append(disk.operations - before)
        disk.cut_at = None
        disk.power_off()
        disk.restart()
        return disk

    steps: list[int] = []
    life(None)
    refused = 0
    for cut_at in range(1, steps[0] + 1):
        disk = life(cut_at)
        try:
            again = opened(disk)
        except JournalDamaged:
            refused += 1  # as before it was mended
            continue
        assert again.begins_at <= durable and again.last_index == ENTRIES
        assert again.entry(ENTRIES)[0].startswith(b"entry %d " % ENTRIES)
    assert refused < steps[0]


class HeaderWatch(SimDisk):
    """Notes for every write of a segment's header what of that file was on the disk then, and what
    was written."""

    def __init__(self) -> None:
        super().__init__()
        self.headers: list[tuple[bytes, bytes]] = []

    def open(self, path: str, *, create: bool = False) -> SimFile:
        file = super().open(path, create=create)
        write = file.write

        def noting(offset: int, data: bytes | bytearray | memoryview) -> None:
            if offset == 0 and any(data):
                inode = file._inode
                self.headers.append((inode.stable[HEADER_BYTES:], bytes(inode.data[HEADER_BYTES:])))
            write(offset, data)

        file.write = noting  # type: ignore[method-assign]
        return file


@pytest.mark.parametrize("durable", [0, 25])
def test_the_records_of_a_mended_log_are_on_the_disk_before_the_header_that_makes_them_the_log(
    durable: int,
) -> None:
    disk = HeaderWatch()
    journal = written(disk)
    change(disk, f"j/{disk.listdir('j')[-1]}")
    before = len(disk.headers)
    assert journal.mend(durable)
    (stable, records) = disk.headers[before]
    assert b"entry %d " % ENTRIES in records
    assert stable == records


def test_a_full_disk_changes_nothing_and_it_can_be_tried_again() -> None:
    disk = SimDisk()
    journal = written(disk)
    remove(disk, f"j/{disk.listdir('j')[-1]}")
    disk.capacity_bytes = disk.used_bytes()
    with pytest.raises(DiskFull):
        journal.mend(20)
    assert journal.last_index == ENTRIES and journal.entry(ENTRIES)[0]
    disk.capacity_bytes = 1 << 30
    assert journal.mend(20)
    journal.abandon()
    assert opened(disk).last_index == ENTRIES
