"""Whatever bytes lie in a journal's files: it says that it is damaged, or it is the log that it
was, and no length is believed."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from raftmail.consensus import heartbeats, messages
from raftmail.consensus.journal import Journal, JournalDamaged, JournalError, read_records
from raftmail.consensus.membership import BadMembership, Membership
from raftmail.consensus.promises import Promises
from raftmail.consensus.records import (
    BODY,
    CLOSED,
    CUT,
    ENTRY,
    HARD_STATE,
    HEADER_BYTES,
    MARK,
    PROMISES,
    RECORD_BYTES,
    UnknownFormat,
    decode_header,
    decode_vote,
    encode_record,
    encode_vote,
    iter_records,
    mark_payload,
)
from raftmail.storage.disk import DiskError
from tests.consensus.journal_twin import IDENTITY, SMALL
from tests.fuzzing import EXTREMES, altered, bounded, bounded_memory
from tests.simulation.disk import SimDisk

SEEDS = st.integers(0, 1 << 32)
ENTRIES = [(b"entry %d" % index * (index % 7 + 1), index, 1 + index // 9) for index in range(1, 30)]
Log = list[tuple[bytes, int, int]]


def _written() -> SimDisk:
    """A journal in some segments, all of it synced."""
    disk = SimDisk(1)
    journal = Journal.open(disk, "j", IDENTITY, SMALL, create=True)
    for command, index, term in ENTRIES:
        journal.setCurrentTerm(term, 2)
        journal.add(command, index, term)
        _sync(journal)
    journal.close()
    return disk


def _sync(journal: Journal) -> None:
    job = journal.begin_sync()
    if job is not None:
        job.run()
        journal.end_sync(job)


def _log_of(disk: SimDisk) -> Log:
    journal = Journal.open(disk, "j", IDENTITY, SMALL, create=False)
    found = [journal.entry(i) for i in range(journal.begins_at + 1, journal.last_index + 1)]
    journal.add(b"it goes on", journal.last_index + 1, ENTRIES[-1][2])
    _sync(journal)
    journal.close()
    return found


@bounded
@given(seed=SEEDS)
def test_an_altered_file_of_a_journal_is_told_or_changes_nothing(seed: int) -> None:
    """Unless the newest file has lost its end, and the mark with it that told of what was there: a
    file alone cannot tell that."""
    disk = _written()
    rng = random.Random(seed)
    names = disk.listdir("j")
    name = f"j/{rng.choice(names)}"
    good = disk.content(name)
    changed = altered(good, seed)
    disk.put(name, changed)
    written = len(good.rstrip(b"\0"))
    end = slice(written - RECORD_BYTES - len(mark_payload(0)), written)
    lost_its_end = name == f"j/{names[-1]}" and changed[end] != good[end]
    with bounded_memory():
        with contextlib.suppress(JournalError, DiskError):
            list(read_records(disk, "j"))
        try:
            found = _log_of(disk)
        except (JournalError, DiskError) as e:
            assert name in str(e) or "j/" in str(e)
        else:
            assert found == ENTRIES[: len(found)]
            assert len(found) == len(ENTRIES) or lost_its_end


@pytest.mark.parametrize("kind", [ENTRY, CUT, HARD_STATE, MARK, CLOSED, BODY, PROMISES, 9])
@bounded
@given(
    index=st.sampled_from([*EXTREMES, 29, 30, 31]),
    term=st.sampled_from([*EXTREMES, 3, 4]),
    payload=st.binary(max_size=60),
)
def test_a_record_with_a_good_checksum_that_makes_no_sense_is_told(
    kind: int, index: int, term: int, payload: bytes
) -> None:
    """As another release may have written it: never another error than that the journal is
    damaged."""
    disk = _written()
    name = f"j/{disk.listdir('j')[-1]}"
    data = disk.content(name)
    sequence = int(name[2:18], 16)
    salt = IDENTITY.salt(sequence)
    end = HEADER_BYTES
    for offset, length, *_ in iter_records(data, salt, len(data)):
        end = offset + length
    record = encode_record(kind, index, term, payload, salt + end)
    disk.put(name, (data[:end] + record).ljust(len(data), b"\0"))
    with contextlib.suppress(JournalError):
        list(read_records(disk, "j"))
    try:
        journal = Journal.open(disk, "j", IDENTITY, SMALL, create=False)
    except JournalDamaged:
        return
    Promises(journal.promises)
    journal.close()


@bounded
@given(data=st.binary(max_size=40), seed=SEEDS)
@example(data=b"\x01\xff", seed=0)
def test_a_vote_is_one_that_was_written_or_no_vote(data: bytes, seed: int) -> None:
    for one in (data, altered(encode_vote("n1"), seed), altered(encode_vote(1 << 40), seed)):
        with contextlib.suppress(ValueError):
            assert encode_vote(decode_vote(one)) == one or len(one) > 256


@bounded
@given(seed=SEEDS)
def test_a_header_is_the_one_that_was_written_or_none(seed: int) -> None:
    disk = _written()
    good = disk.content(f"j/{disk.listdir('j')[0]}")[:HEADER_BYTES]
    changed = altered(good, seed)
    with contextlib.suppress(UnknownFormat):
        found = decode_header(changed)
        assert (found is None) == (changed[:HEADER_BYTES] != good)


# -- what comes from peers


def _messages() -> list[bytes]:
    fields: dict[messages.Kind, list[Any]] = {
        messages.Kind.APPEND: [0, 3, 2, 1, [1, 1], [b"\x00", b"\x01abc"]],
        messages.Kind.ACK: [4, 1],
        messages.Kind.VOTE: [4, 1, 0],
        messages.Kind.TICKET: [9],
        messages.Kind.PREVOTE_GRANTED: [],
    }
    return [
        messages.header(kind, 1, 2, 1, 3) + messages.encode_fields(values)
        for kind, values in fields.items()
    ]


MEMBERSHIP = Membership({1: "n1", 2: "n2"}, {3: "n3"}, 4)
DECODERS: dict[str, tuple[list[bytes], Callable[[bytes], Any], type[Exception]]] = {
    "message": (_messages(), messages.decode, messages.BadMessage),
    "beats": (
        [heartbeats.pack(1, 0, 1, 2, 1, 3, 4, 3, 4, 0) * 2],
        lambda data: list(heartbeats.unpack(data)),
        messages.BadMessage,
    ),
    "membership": ([MEMBERSHIP.encode()], Membership.decode, BadMembership),
}


@pytest.mark.parametrize("name", DECODERS)
@bounded
@given(seed=SEEDS, data=st.binary(max_size=60))
def test_what_a_peer_sends_is_decoded_or_refused(name: str, seed: int, data: bytes) -> None:
    good, decode, error = DECODERS[name]
    with bounded_memory():
        for one in (data, *[altered(one, seed) for one in good]):
            with contextlib.suppress(error):
                decode(one)


@pytest.mark.parametrize("name", DECODERS)
def test_a_length_of_a_peer_s_is_not_believed(name: str) -> None:
    good, decode, error = DECODERS[name]
    with bounded_memory():
        for one in good:
            head = one[: messages._HEADER_BYTES] if name == "message" else one[:1]
            for length in (
                b"\xdd",
                b"\xdb",
                b"\xc6",
                b"\xdf",
            ):  # arrays, texts, bytes, maps of 2^32 - 1
                with pytest.raises(error):
                    decode(head + length + b"\xff\xff\xff\xff" + b"x" * 20)
                with pytest.raises(error):
                    decode(head + b"\x96" + length + b"\xff\xff\xff\xff" + b"x" * 20)
            with pytest.raises(error):
                decode(head + b"\x91" * 5000)
