"""The log is bounded by bytes, by entries and by age, and never loses what the index has not."""

from __future__ import annotations

from raftmail.consensus.journal import Identity, Journal, JournalLimits
from raftmail.shard.log_retention import LogLimits, LogRetention
from tests.simulation.disk import PowerCut, SimDisk

IDENTITY = Identity(bytes(16), 1, 1)
LIMITS = JournalLimits(
    segment_bytes_max=4096, prealloc_bytes_min=1024, prealloc_bytes_max=1024, reserve_bytes=512
)
EVERYTHING = 1 << 60


def a_journal(disk: SimDisk | None = None) -> Journal:
    return Journal.open(disk or SimDisk(), "journal", IDENTITY, LIMITS, create=True)


def add(journal: Journal, count: int, length: int = 100) -> None:
    for _ in range(count):
        journal.add(bytes(length), journal.last_index + 1, 1)
    sync(journal)


def sync(journal: Journal) -> None:
    while (job := journal.begin_sync()) is not None:
        job.run()
        journal.end_sync(job)
        if not journal.dirty:
            break


def test_the_log_is_kept_below_so_many_bytes_and_a_segment() -> None:
    journal = a_journal()
    compaction = LogRetention(LogLimits(bytes_max=20_000, entries_max=0, age_s=0))
    for turn in range(100):
        add(journal, 20)
        compaction.step(float(turn), journal, EVERYTHING)
        sync(journal)
        assert journal.total_bytes <= 20_000 + 2 * 4096
    assert journal.first_index > 1000


def test_the_log_is_kept_below_so_many_entries_however_small_they_are() -> None:
    journal = a_journal()
    compaction = LogRetention(LogLimits(bytes_max=1 << 30, entries_max=80, age_s=0))
    for turn in range(50):
        add(journal, 5, length=1)
        compaction.step(float(turn), journal, EVERYTHING)
        sync(journal)
        assert journal.last_index - journal.first_index <= 80 + 2 * 10 + 5
    assert journal.last_index == 250


def test_entries_go_when_they_are_old_also_where_few_come() -> None:
    journal = a_journal()
    compaction = LogRetention(LogLimits(bytes_max=1 << 30, entries_max=0, age_s=80.0))
    for now in range(400):
        if now < 300 and now % 10 == 0:
            add(journal, 1)
        compaction.step(float(now), journal, EVERYTHING)
        sync(journal)
    assert journal.last_index == 30
    assert journal.first_index >= 29


def test_what_the_index_has_not_on_its_disk_stays_whatever_the_limits_say() -> None:
    journal = a_journal()
    compaction = LogRetention(LogLimits(bytes_max=4096, entries_max=10, age_s=1.0))
    for now in range(100):
        add(journal, 5)
        compaction.step(float(now * 10), journal, 50)
        sync(journal)
    assert journal.first_index <= 50
    assert [journal.entry(i)[1] for i in (51, 500)] == [51, 500]


def test_the_power_may_go_at_any_operation_of_a_compaction() -> None:
    compactions = 0
    for cut_at in range(1, 400, 3):
        disk = SimDisk(cut_at)
        synced = 0
        disk.cut_at = cut_at
        journal = None
        try:
            journal = a_journal(disk)
            compaction = LogRetention(LogLimits(bytes_max=12_000, entries_max=60, age_s=20.0))
            for now in range(30):
                for _ in range(10):
                    index = journal.last_index + 1
                    journal.add(b"%d" % index * 40, index, 1)
                job = journal.begin_sync()
                if job is not None:
                    job.run()
                    journal.end_sync(job)
                    synced = journal.synced_index
                compaction.step(float(now), journal, synced)
            disk.power_off()
        except PowerCut:
            pass
        compactions += journal is not None and journal.first_index > 1
        disk.restart()
        again = Journal.open(disk, "journal", IDENTITY, LIMITS, create=True)
        assert again.last_index >= synced
        for index in range(again.first_index + 1, synced + 1):
            assert again.entry(index)[0] == b"%d" % index * 40
    assert compactions > 10
