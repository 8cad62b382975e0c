"""Records and headers of a journal with good checksums that contradict each other: all of them are
damage, and none is passed over."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from zlib import crc32

import pytest

from raftmail.consensus.journal import Journal, JournalDamaged, JournalForeign
from raftmail.consensus.records import (
    CUT,
    ENTRY,
    HARD_STATE,
    HEADER_BYTES,
    Header,
    decode_header,
    encode_header,
    encode_record,
    encode_vote,
    iter_records,
)
from tests.consensus.journal_twin import IDENTITY, SMALL
from tests.simulation.disk import SimDisk


def _written() -> SimDisk:
    """Entries of the terms 2 and 3, in some segments."""
    disk = SimDisk(1)
    journal = Journal.open(disk, "j", IDENTITY, SMALL, create=True)
    for index in range(1, 40):
        term = 2 + (index > 20)
        journal.setCurrentTerm(term, 1)
        journal.add(b"entry %d " % index * 5, index, term)
        job = journal.begin_sync()
        assert job is not None
        job.run()
        journal.end_sync(job)
    journal.close()
    assert len(disk.listdir("j")) > 3
    return disk


@pytest.mark.parametrize(
    ("kind", "index", "term", "payload"),
    [
        (ENTRY, 41, 3, b"a gap"),
        (ENTRY, 39, 3, b"again"),
        (ENTRY, 40, 2, b"an older term"),
        (HARD_STATE, 0, 2, encode_vote(1)),
        (CUT, 42, 3, b""),
        (CUT, 10, 3, b""),
        (CUT, 0, 0, b""),
    ],
)
def test_a_record_that_cannot_follow_is_damage(
    kind: int, index: int, term: int, payload: bytes
) -> None:
    disk = _written()
    name = f"j/{disk.listdir('j')[-1]}"
    data = disk.content(name)
    salt = IDENTITY.salt(int(name[2:18], 16))
    *_, (offset, length, *_) = iter_records(data, salt, len(data))
    end = offset + length
    record = encode_record(kind, index, term, payload, salt + end)
    disk.put(name, (data[:end] + record).ljust(len(data), b"\0"))
    with pytest.raises(JournalDamaged) as caught:
        Journal.open(disk, "j", IDENTITY, SMALL, create=False)
    assert caught.value.file == name and caught.value.offset == end


@pytest.mark.parametrize(
    "change",
    [
        lambda header: replace(header, base_index=header.base_index + 1),
        lambda header: replace(header, base_term=header.base_term + 1),
        lambda header: replace(header, term=1),
    ],
    ids=["another entry before it", "another term before it", "a term that goes back"],
)
def test_a_segment_that_does_not_follow_the_one_before_is_damage(
    change: Callable[[Header], Header],
) -> None:
    disk = _written()
    name = f"j/{disk.listdir('j')[1]}"
    data = disk.content(name)
    header = decode_header(data)
    assert header is not None
    disk.put(name, encode_header(change(header)) + data[HEADER_BYTES:])
    with pytest.raises(JournalDamaged) as caught:
        Journal.open(disk, "j", IDENTITY, SMALL, create=False)
    assert caught.value.file == name


def test_a_segment_under_the_name_of_another_is_refused() -> None:
    disk = _written()
    first, second = (f"j/{name}" for name in disk.listdir("j")[:2])
    disk.put(second, disk.content(first))
    with pytest.raises(JournalForeign, match="its own name"):
        Journal.open(disk, "j", IDENTITY, SMALL, create=False)


def test_a_segment_of_a_later_format_is_refused_and_not_taken_for_damaged() -> None:
    disk = _written()
    name = f"j/{disk.listdir('j')[-1]}"
    data = bytearray(disk.content(name))
    struct.pack_into("<H", data, 8, 99)
    struct.pack_into("<I", data, HEADER_BYTES - 4, crc32(data[: HEADER_BYTES - 4]))
    disk.put(name, bytes(data))
    with pytest.raises(JournalForeign, match="format 99"):
        Journal.open(disk, "j", IDENTITY, SMALL, create=False)
