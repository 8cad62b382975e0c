"""The journal as the engine and the operator see it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from raftmail.consensus.journal import (
    Identity,
    Journal,
    JournalDamaged,
    JournalError,
    JournalForeign,
    JournalLimits,
    read_records,
)
from raftmail.storage.disk import DiskFull, RealDisk, SyncFailed
from tests.consensus.journal_twin import IDENTITY, SMALL
from tests.simulation.disk import SimDisk


def begin(disk: SimDisk, limits: JournalLimits = SMALL) -> Journal:
    return Journal.open(disk, "journal", IDENTITY, limits, create=True)


def again(disk: SimDisk, limits: JournalLimits = SMALL) -> Journal:
    return Journal.open(disk, "journal", IDENTITY, limits, create=False)


def sync(journal: Journal) -> None:
    """Until nothing waits: one sync removes only so many files."""
    while (job := journal.begin_sync()) is not None:
        job.run()
        journal.end_sync(job)


def fill(journal: Journal, count: int, term: int = 1, size: int = 100) -> None:
    for _ in range(count):
        index = journal.last_index + 1
        journal.add(b"%06d" % index + bytes(size), index, term)
        journal.flush()


def segments(disk: SimDisk) -> list[str]:
    return [f"journal/{name}" for name in disk.listdir("journal")]


def test_an_empty_journal_has_no_entry_and_term_zero() -> None:
    journal = begin(SimDisk())
    assert (len(journal), journal.last_index, journal.first_index) == (0, 0, 1)
    assert (journal.getCurrentTerm(), journal.getVotedForNodeId()) == (0, None)
    assert journal.getRaftCommitIndex() == 1
    assert journal[:] == []


def test_it_is_indexed_and_sliced_like_a_list() -> None:
    journal = begin(SimDisk())
    fill(journal, 30)
    twin = [(b"%06d" % i + bytes(100), i, 1) for i in range(1, 31)]
    assert list(journal) == twin
    for i in range(-30, 30):
        assert journal[i] == twin[i]
        assert list(journal[i:]) == twin[i:]
        assert list(journal[:i]) == twin[:i]
        assert list(journal[i : i + 3]) == twin[i : i + 3]
    for i in (30, -31):
        with pytest.raises(IndexError):
            journal[i]


def test_a_long_slice_is_read_only_as_far_as_it_is_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    disk = SimDisk()
    journal = begin(disk)
    fill(journal, 300)
    reads: list[int] = []
    read = journal.entry

    def counting(index: int) -> tuple[bytes, int, int]:
        reads.append(index)
        return read(index)

    monkeypatch.setattr(journal, "entry", counting)
    rest = journal[1:]
    assert len(rest) == 299 and not reads
    assert rest[0][1] == 2 and rest[-1][1] == 300
    assert [entry[1] for entry in rest[:3]] == [2, 3, 4]
    assert len(reads) == 5


def test_entries_must_follow_each_other_and_not_go_back_in_term() -> None:
    journal = begin(SimDisk())
    journal.add(b"a", 1, 5)
    with pytest.raises(ValueError, match="does not follow"):
        journal.add(b"b", 3, 5)
    with pytest.raises(ValueError, match="older"):
        journal.add(b"b", 2, 4)
    with pytest.raises(ValueError, match="at most"):
        journal.add(bytes(2001), 2, 5)
    assert list(journal) == [(b"a", 1, 5)]


def test_a_term_never_goes_back_and_a_vote_is_given_once() -> None:
    journal = begin(SimDisk())
    journal.setCurrentTerm(3, None)
    journal.setCurrentTerm(3, "one")
    journal.setCurrentTerm(3, "one")
    with pytest.raises(ValueError):
        journal.setCurrentTerm(3, "two")
    with pytest.raises(ValueError):
        journal.setCurrentTerm(2, None)
    assert (journal.getCurrentTerm(), journal.getVotedForNodeId()) == (3, "one")


@pytest.mark.parametrize("vote", [None, "node-ü", 12, -1])
def test_term_and_vote_survive_a_restart_and_a_new_segment(vote: str | int | None) -> None:
    disk = SimDisk()
    journal = begin(disk)
    journal.setCurrentTerm(9, vote)
    assert journal.synced_hard_state == (0, None)
    sync(journal)
    assert journal.synced_hard_state == (9, vote)
    fill(journal, 60)
    sync(journal)
    journal.trim(40)
    sync(journal)
    assert segments(disk)[0] != "journal/0000000000000001.log"
    journal = again(disk)
    assert (journal.getCurrentTerm(), journal.getVotedForNodeId()) == (9, vote)


def test_nothing_counts_as_synced_before_the_sync_has_returned() -> None:
    journal = begin(SimDisk())
    journal.add(b"a", 1, 1)
    journal.flush()
    assert journal.synced_index == 0
    job = journal.begin_sync()
    assert job is not None and journal.syncing
    journal.add(b"b", 2, 1)
    assert journal.begin_sync() is None
    with pytest.raises(RuntimeError):
        journal.end_sync(job)
    job.run()
    journal.end_sync(job)
    assert journal.synced_index == 1 and journal.dirty
    sync(journal)
    assert journal.synced_index == 2 and not journal.dirty
    assert journal.begin_sync() is None


def test_a_failed_sync_is_final() -> None:
    disk = SimDisk()
    journal = begin(disk)
    journal.add(b"a", 1, 1)
    disk.fail_sync_at = disk.syncs + 1
    job = journal.begin_sync()
    assert job is not None
    with pytest.raises(SyncFailed):
        job.run()
    with pytest.raises(RuntimeError):
        journal.end_sync(job)
    assert journal.synced_index == 0


def test_a_cut_followed_by_the_same_entries_writes_nothing() -> None:
    disk = SimDisk()
    journal = begin(disk)
    fill(journal, 5)
    sync(journal)
    journal.flush()
    before = disk.content(segments(disk)[-1])
    kept = list(journal)
    journal.deleteEntriesFrom(1)
    for entry in kept[1:3]:
        journal.add(*entry)
    journal.deleteEntriesFrom(2)
    for entry in kept[2:]:
        journal.add(*entry)
    assert journal.synced_index == 5
    journal.flush()
    assert list(journal) == kept and not journal.dirty
    assert disk.content(segments(disk)[-1]) == before


@pytest.mark.parametrize("cached", [True, False])
def test_a_cut_followed_by_other_entries_replaces_them(cached: bool) -> None:
    disk = SimDisk()
    journal = begin(disk)
    fill(journal, 5 if cached else 40)
    last = journal.last_index
    sync(journal)
    kept = list(journal)
    journal.deleteEntriesFrom(2)
    journal.add(*kept[2])
    journal.add(b"other", 4, 2)
    assert journal.synced_index == 3
    expected = [*kept[:3], (b"other", 4, 2)]
    assert list(journal) == expected
    sync(journal)
    assert journal.synced_index == 4 < last
    assert list(again(disk)) == expected


def test_a_cut_during_a_sync_is_not_taken_for_synced() -> None:
    journal = begin(SimDisk())
    fill(journal, 4)
    job = journal.begin_sync()
    assert job is not None
    journal.deleteEntriesFrom(2)
    journal.add(b"other", 3, 2)
    journal.flush()
    job.run()
    journal.end_sync(job)
    assert journal.synced_index == 2
    sync(journal)
    assert journal.synced_index == 3


def test_trim_drops_whole_segments_and_keeps_what_follows_byte_for_byte() -> None:
    disk = SimDisk()
    journal = begin(disk)
    fill(journal, 50)
    sync(journal)
    before = {name: disk.content(name) for name in segments(disk)}
    twin = list(journal)
    journal.trim(30)
    assert len(segments(disk)) == len(before)
    sync(journal)
    first = journal.first_index
    assert 1 < first <= 30
    assert journal[0] == (b"", first, 1)
    assert list(journal[1:]) == twin[first:]
    assert journal.term_of(first) == 1
    with pytest.raises(IndexError):
        journal.term_of(first - 1)
    for name in segments(disk)[:-1]:
        assert disk.content(name) == before[name]
    assert len(segments(disk)) < len(before)
    opened = again(disk)
    assert list(opened) == list(journal)


def test_trimming_everything_leaves_the_last_entry_known() -> None:
    disk = SimDisk()
    journal = begin(disk)
    fill(journal, 13)
    sync(journal)
    journal.trim(journal.last_index)
    sync(journal)
    journal.add(b"next", 14, 1)
    assert journal[-1] == (b"next", 14, 1)
    sync(journal)
    opened = again(disk)
    assert opened.last_index == 14 and opened.term_of(opened.first_index) == 1


def test_a_cut_of_entries_in_a_segment_that_was_trimmed_since() -> None:
    disk = SimDisk()
    journal = begin(disk)
    fill(journal, 40)
    sync(journal)
    journal.deleteEntriesFrom(20)
    fill(journal, 30, term=2)
    sync(journal)
    expected = list(journal)
    journal.trim(20)
    sync(journal)
    first = journal.first_index
    assert list(again(disk))[1:] == expected[first:]
    journal.trim(45)
    sync(journal)
    first = journal.first_index
    assert first > 20
    assert list(again(disk))[1:] == expected[first:]


def test_reset_forgets_the_entries_and_keeps_term_and_vote() -> None:
    disk = SimDisk()
    journal = begin(disk)
    journal.setCurrentTerm(4, "one")
    fill(journal, 20, term=4)
    journal.reset(1000, 3)
    for log in (journal, again(disk)):
        assert list(log) == [(b"", 1000, 3)]
        assert (log.getCurrentTerm(), log.getVotedForNodeId()) == (4, "one")
        assert log.synced_index == 1000
    assert len(segments(disk)) == 1
    with pytest.raises(JournalError):
        journal.clear()


def test_a_reset_that_was_interrupted_is_finished_on_opening() -> None:
    disk = SimDisk()
    journal = begin(disk)
    fill(journal, 30)
    old = {name: disk.content(name) for name in segments(disk)}
    journal.reset(100, 7)
    for name in list(old)[1:]:
        disk.put(name, old[name])
    journal = again(disk)
    assert list(journal) == [(b"", 100, 7)]
    assert len(segments(disk)) == 1


def test_the_commit_hint_is_never_beyond_the_log() -> None:
    disk = SimDisk()
    journal = begin(disk)
    fill(journal, 5)
    journal.setRaftCommitIndex(4)
    sync(journal)
    journal.flush()
    assert again(disk).getRaftCommitIndex() == 4
    journal.setRaftCommitIndex(9)
    assert journal.getRaftCommitIndex() == 5


def test_a_full_disk_refuses_entries_and_still_takes_votes() -> None:
    disk = SimDisk()
    journal = begin(disk, JournalLimits(prealloc_bytes_min=32 << 10, reserve_bytes=16 << 10))
    disk.capacity_bytes = journal.total_bytes + 100
    with pytest.raises(DiskFull):
        for _ in range(10_000):
            fill(journal, 1, size=500)
    assert not journal.room()
    last = journal.last_index
    assert last > 10
    journal.setCurrentTerm(2, "one")
    journal.add(b"\x01", last + 1, 2)
    sync(journal)
    assert journal.synced_index == last + 1
    disk.capacity_bytes = 1 << 30
    journal.onOneSecondTimer()
    assert journal.room()
    fill(journal, 50, term=2, size=500)
    sync(journal)
    opened = again(disk)
    assert list(opened) == list(journal) and opened.getVotedForNodeId() == "one"


def test_a_journal_of_another_replica_is_refused_by_name() -> None:
    disk = SimDisk()
    begin(disk).close()
    for other in (Identity(b"x" * 16, 7, 3), Identity(b"0123456789abcdef", 8, 3)):
        with pytest.raises(JournalForeign, match=r"belongs to .*shard 7, replica 3"):
            Journal.open(disk, "journal", other, SMALL, create=False)


def test_a_journal_that_is_missing_is_not_begun_again_by_accident() -> None:
    with pytest.raises(JournalDamaged, match=r"missing.*resync"):
        again(SimDisk())


def damage_missing_middle(disk: SimDisk) -> None:
    disk.remove(segments(disk)[1])


def damage_truncated(disk: SimDisk) -> None:
    disk.put(segments(disk)[1], disk.content(segments(disk)[1])[:700])


def damage_zeroed(disk: SimDisk) -> None:
    name = segments(disk)[-1]
    data = disk.content(name)
    disk.put(segments(disk)[-1], data[:700] + bytes(100) + data[800:])


def damage_first_header(disk: SimDisk) -> None:
    disk.put(segments(disk)[0], b"?" + disk.content(segments(disk)[0])[1:])


def damage_last_header(disk: SimDisk) -> None:
    disk.put(segments(disk)[-1], b"?" + disk.content(segments(disk)[-1])[1:])


def damage_swapped(disk: SimDisk) -> None:
    one, two = (disk.content(name) for name in segments(disk)[:2])
    disk.put(segments(disk)[0], two)
    disk.put(segments(disk)[1], one)


@pytest.mark.parametrize(
    "damage",
    [
        damage_missing_middle,
        damage_truncated,
        damage_zeroed,
        damage_first_header,
        damage_last_header,
        damage_swapped,
    ],
)
def test_damage_before_what_was_synced_is_refused(damage: Callable[[SimDisk], None]) -> None:
    disk = SimDisk()
    journal = begin(disk)
    fill(journal, 36)
    sync(journal)
    journal.flush()
    journal.abandon()
    damage(disk)
    before = {name: disk.content(name) for name in segments(disk)}
    with pytest.raises((JournalDamaged, JournalForeign)):
        again(disk)
    assert {name: disk.content(name) for name in segments(disk)} == before


def outcome(disk: SimDisk) -> object:
    try:
        journal = again(disk)
    except (JournalDamaged, JournalForeign) as e:
        return type(e)
    return list(journal), journal.getCurrentTerm(), journal.getVotedForNodeId()


@pytest.mark.parametrize("closed", [True, False])
def test_no_flipped_bit_changes_the_log_silently(closed: bool) -> None:
    disk = SimDisk()
    journal = begin(disk)
    journal.setCurrentTerm(2, "one")
    fill(journal, 12, term=2, size=30)
    journal.deleteEntriesFrom(8)
    fill(journal, 9, term=3, size=60)
    sync(journal)
    expected = (list(journal), 2, "one")
    if closed:
        journal.close()
    else:
        journal.flush()
        journal.abandon()
    files = {name: disk.content(name) for name in segments(disk)}
    assert len(files) > 1
    refused = 0
    for name, data in files.items():
        for byte in range(len(data)):
            for bit in {byte * 3 % 8, byte * 5 % 8}:
                for other, whole in files.items():
                    disk.put(other, whole)
                disk.flip_bit(name, byte * 8 + bit)
                found = outcome(disk)
                assert found == expected or isinstance(found, type), (name, byte, bit)
                refused += isinstance(found, type)
    assert refused > 1000


def test_records_can_be_shown_while_the_journal_is_written(tmp_path: Path) -> None:
    disk = RealDisk(tmp_path)
    journal = Journal.open(disk, "journal", IDENTITY, SMALL, create=True)
    fill(journal, 20)
    journal.setCurrentTerm(5, "one")
    journal.deleteEntriesFrom(10)
    sync(journal)
    journal.flush()
    records = list(read_records(disk, "journal"))
    entries = [record for record in records if record.kind == "entry"]
    assert [record.index for record in entries] == list(range(1, 21))
    assert {record.kind for record in records} >= {"header", "entry", "cut", "hard-state", "mark"}
    journal.close()
    assert list(read_records(disk, "journal"))[-1].kind == "closed"


def test_showing_a_damaged_journal_tells_where(tmp_path: Path) -> None:
    disk = RealDisk(tmp_path)
    journal = Journal.open(disk, "journal", IDENTITY, JournalLimits(), create=True)
    fill(journal, 20)
    journal.close()
    path = next((tmp_path / "journal").iterdir())
    data = bytearray(path.read_bytes())
    data[900] ^= 4
    path.write_bytes(data)
    with pytest.raises(JournalDamaged, match=r"0001\.log, offset 8\d\d"):
        list(read_records(disk, "journal"))


def test_memory_holds_the_newest_commands_only() -> None:
    journal = begin(SimDisk())
    fill(journal, 100)
    assert journal._cache.bytes_held <= SMALL.cache_bytes_max
    assert len(journal._cache.entries) < 10
    assert journal.entry(1)[0].startswith(b"000001")


@pytest.mark.parametrize("cached", [True, False])
def test_entries_from_before_the_log_begins_are_those_from_its_beginning(*, cached: bool) -> None:
    """As a start asks for them whose index is behind a trimmed log. They once began in the middle,
    and memberships could be passed over."""
    journal = begin(SimDisk())
    fill(journal, 100)
    journal.trim(97 if cached else 40)
    first = journal.first_index
    assert first > 1
    indices = [index for _, index, _ in journal.entries(1, 100)]
    assert indices == list(range(first, 101))
    assert [index for _, index, _ in journal.entries(first + 1, 99)] == list(range(first + 1, 100))
