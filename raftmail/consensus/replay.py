"""Reading a journal's folder: what is in the log, where it ends, and whether what is missing may be
missing.

The rule that everything here serves: the end of the log is the first record that is not good.
Positions that are known to have been durable (marks, and the headers of later segments) are looked
for on *both* sides of it. If one lies beyond the end, something that may have been acknowledged is
gone: `JournalDamaged`, and nothing is changed. If none does, what follows is the end of a batch
that no sync had covered: it is cut, and no one was told about it.
"""

from __future__ import annotations

import logging
import re
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, TypeVar

from raftmail.consensus.messages import NUMBER_MAX
from raftmail.consensus.promises import Promises
from raftmail.consensus.records import (
    BODY,
    BODY_HEAD,
    BODY_RECORD_BYTES,
    CLOSED,
    CUT,
    ENTRY,
    HARD_STATE,
    HEADER_BYTES,
    KIND_NAMES,
    PROMISES,
    RECORD_BYTES,
    Header,
    Identity,
    Position,
    UnknownFormat,
    Vote,
    decode_header,
    decode_vote,
    find_marks,
    iter_records,
    mark_commit_index,
)
from raftmail.storage.disk import Disk, LaterRelease, ReadFailed

_T = TypeVar("_T")

logger = logging.getLogger(__name__)

MENDED_LEAP: Final = 1 << 20
"""Elections that are taken to have been at most since the last term that is known."""

_NAME: Final = re.compile(r"[0-9a-f]{16}\.log")
OFFSET_BITS: Final = 40
"""A place is (sequence << 40 | offset): segments up to 1 TiB, 16 million of them."""
NOWHERE: Final = 1 << 64
"""Behind every place."""


class JournalError(Exception):
    """The journal cannot be used; the text says which file and what to do."""


class JournalDamaged(JournalError):
    """Something that may have been acknowledged cannot be read. Nothing was changed."""

    def __init__(self, file: str, offset: int, what: str) -> None:
        super().__init__(
            f"{file}, offset {offset}: {what}. Entries that were acknowledged may be lost here, "
            f"so this replica must not vote with this journal: move the journal's folder away and "
            f"bring the replica back, under a new replica id, by a resync from its peers"
        )
        self.file = file
        self.offset = offset
        self.what = what


class JournalForeign(JournalError):
    """The segment belongs to another cluster, shard or replica, or to another version of the
    program.
    """


class JournalOfLaterRelease(JournalForeign, LaterRelease):
    """The segment is in a format that a later release brought."""


def segment_name(folder: str, sequence: int) -> str:
    """The path of a segment."""
    return f"{folder}/{sequence:016x}.log"


def list_segments(disk: Disk, folder: str) -> list[int]:
    """The sequence numbers of the segments in a folder, ascending."""
    return [int(name[:16], 16) for name in disk.listdir(folder) if _NAME.fullmatch(name)]


@dataclass(slots=True, repr=False)
class ReplayedLog:
    """What the records of a journal add up to.

    `places`, `lengths` (of the payload) and `terms` hold one item for each entry after the base.
    """

    base_index: int = 0
    base_term: int = 0
    term: int = 0
    vote: Vote = None
    commit_index: int = 0
    places: array[int] = field(default_factory=lambda: array("Q"))
    lengths: array[int] = field(default_factory=lambda: array("I"))
    terms: array[int] = field(default_factory=lambda: array("Q"))
    promises: bytes = b""
    """What others promised, as it was noted last."""
    first_body: int = NOWHERE
    """The place of the first body that is kept here."""
    absurd_term: int = 0
    """A term that no group comes to and that stands in the journal behind `term`; 0: none does."""

    def take_hard_state(self, term: int, vote: Vote) -> None:
        """A later term and vote. A term that no group comes to is passed over: an earlier release
        took it from a peer's message, and gave no vote in it."""
        if term > NUMBER_MAX:
            self.absurd_term = term
        else:
            self.term, self.vote, self.absurd_term = term, vote, 0

    def mend_term(self, name: str) -> None:
        """After the last record: go on in a term in which this replica has not voted, though its
        votes were forgotten over an absurd term. Elections before it raised the term one by one, so
        a leap is safely above them."""
        if self.absurd_term:
            before = max(self.term, self.last_term())
            self.term, self.vote = before + MENDED_LEAP, None
            logger.error(
                "%s: the term %d was taken from a message that no replica sends; this replica "
                "goes on in term %d",
                name, self.absurd_term, self.term,
            )  # fmt: skip

    @property
    def last_index(self) -> int:
        return self.base_index + len(self.terms)

    def last_term(self) -> int:
        return self.terms[-1] if self.terms else self.base_term

    def cut(self, index: int) -> None:
        """Forget the entries from `index` on; the base must be before it."""
        keep = index - self.base_index - 1
        del self.places[keep:]
        del self.lengths[keep:]
        del self.terms[keep:]


@dataclass(frozen=True, slots=True)
class Replayed:
    """What `replay` found: the log, and what the folder needs before it can be written again."""

    log: ReplayedLog
    sequences: list[int]
    """The segments that make up the log, ascending."""
    end: Position
    """Where the next record goes; an offset of 0 means that the last segment has no header yet."""
    dirty_tail: bool
    """True: there are bytes after the end, left by a batch that no sync had covered."""
    superseded: list[int]
    """Segments from before a reset, to be removed."""
    torn: list[int]
    """Segments after the end, to be removed, the newest first."""
    ends: dict[int, int]
    """Where the records of the segments end, but for the last."""


def replay(disk: Disk, folder: str, identity: Identity) -> Replayed | None:
    """Read the whole journal, changing nothing. None: there is no segment, or the first one was
    never finished.

    Raises `JournalDamaged`, `JournalForeign`, `DiskError`.
    """
    sequences = list_segments(disk, folder)
    headers = {n: _read_header(disk, folder, n, identity) for n in sequences}
    first = next(
        (i for i in reversed(range(len(sequences))) if _is_reset(headers[sequences[i]])), 0
    )
    superseded, sequences = sequences[:first], sequences[first:]
    if not sequences:
        return None
    start = headers[sequences[0]]
    if start is None:
        whole = _read_all(disk, segment_name(folder, sequences[0]))
        if sequences == [1] and not whole[HEADER_BYTES:].strip(b"\0"):
            return None
        raise JournalDamaged(segment_name(folder, sequences[0]), 0, "the header cannot be verified")
    log = ReplayedLog(start.base_index, start.base_term, 0, None)
    log.take_hard_state(start.term, start.vote)
    durable: Position = (0, 0)
    ends: dict[int, int] = {}
    for i, sequence in enumerate(sequences):
        name = segment_name(folder, sequence)
        header = headers[sequence]
        data = _read_all(disk, name)
        # A later file that does not follow on is one whose predecessor's name was never synced, or
        # whose predecessor is missing: the claims decide.
        following = headers[sequences[i + 1]] if sequence + 1 in headers else None
        assert header is not None  # a segment with a bad header ends the log one segment earlier
        if i:
            _check_joint(log, header, name)
        limit = len(data) if following is None else min(following.previous_end, len(data))
        end, marked = _replay_segment(log, data, sequence, identity.salt(sequence), limit, name)
        durable = max(durable, header.durable, marked)
        if following is not None and end == following.previous_end:
            ends[sequence] = end
            continue
        # The log ends here: is anything that was durable beyond this position?
        later = sequences[i + 1 :]
        durable = max(
            durable, *_claims(disk, folder, data, end, sequence, later, headers, identity)
        )
        if durable > (sequence, end):
            if later and durable >= (sequence + 1, 0):
                name = segment_name(folder, sequence + 1)
                if later[0] != sequence + 1:
                    raise JournalDamaged(name, 0, "the file is missing, and was on stable storage")
                if headers[later[0]] is None:
                    raise JournalDamaged(name, 0, "the header cannot be verified")
            raise JournalDamaged(segment_name(folder, sequence), end, _what(data, end))
        log.mend_term(segment_name(folder, sequence))
        kept = sequences[: i + 1]
        dirty = bool(data[end:].strip(b"\0"))
        return Replayed(log, kept, (sequence, end), dirty, superseded, later[::-1], ends)
    raise AssertionError("unreachable: the last segment always ends the log")


def _claims(
    disk: Disk,
    folder: str,
    data: bytes,
    end: int,
    sequence: int,
    later: list[int],
    headers: dict[int, Header | None],
    identity: Identity,
) -> Iterator[Position]:
    """What is said to be durable behind the end of the log, by whatever can still be verified
    there.
    """
    yield (0, 0)
    yield from find_marks(data, end, identity.salt(sequence))
    for number in later:
        header = headers[number]
        if header is not None:
            yield header.durable
        rest = _read_all(disk, segment_name(folder, number))
        yield from find_marks(rest, 0, identity.salt(number))


def _is_reset(header: Header | None) -> bool:
    return header is not None and header.reset


def _read_all(disk: Disk, name: str) -> bytes:
    file = disk.open(name)
    try:
        return file.read(0, file.size())
    except ReadFailed as e:
        raise JournalDamaged(name, 0, str(e)) from e
    finally:
        file.close()


def _read_header(disk: Disk, folder: str, sequence: int, identity: Identity) -> Header | None:
    name = segment_name(folder, sequence)
    file = disk.open(name)
    try:
        header = decode_header(file.read(0, HEADER_BYTES))
    except UnknownFormat as e:
        raise JournalOfLaterRelease(f"{name}: {e}; start the version that wrote it") from e
    except ReadFailed as e:
        raise JournalDamaged(name, 0, str(e)) from e
    finally:
        file.close()
    if header is not None and header.identity != identity:
        raise JournalForeign(
            f"{name} belongs to {header.identity}, but this is {identity}: "
            f"put the file back where it came from, or correct the configuration"
        )
    if header is not None and header.sequence != sequence:
        raise JournalForeign(
            f"{name} was written as {header.sequence:016x}.log: give the file its own name again"
        )
    return header


def _check_joint(log: ReplayedLog, header: Header, name: str) -> None:
    if (header.base_index, header.base_term) != (log.last_index, log.last_term()):
        raise JournalDamaged(
            name,
            0,
            f"it follows entry {header.base_index} of term {header.base_term}, but the segment "
            f"before it ends with entry {log.last_index} of term {log.last_term()}",
        )
    if header.term < log.term:
        raise JournalDamaged(name, 0, f"the term goes back from {log.term} to {header.term}")
    log.take_hard_state(header.term, header.vote)


def _replay_segment(
    log: ReplayedLog, data: bytes, sequence: int, salt: int, limit: int, name: str
) -> tuple[int, Position]:
    """Put the good records of one segment on `log`. Returns where they end and the last durable
    position they name.
    """
    places, lengths, terms = log.places, log.lengths, log.terms
    high = sequence << OFFSET_BITS
    next_index = log.last_index + 1
    last_term = log.last_term()
    durable: Position = (0, 0)
    end = HEADER_BYTES
    for offset, length, kind, index, term in iter_records(data, salt, limit):
        if kind == ENTRY:
            if index != next_index or term < last_term:
                before = f"entry {next_index - 1} of term {last_term}"
                raise JournalDamaged(name, offset, f"entry {index} of term {term} follows {before}")
            places.append(high | offset)
            lengths.append(length - RECORD_BYTES)
            terms.append(term)
            next_index += 1
            last_term = term
        elif kind == CUT:
            if not 1 <= index <= next_index:
                raise JournalDamaged(
                    name, offset, f"cut at {index} behind the end {next_index - 1}"
                )
            if index <= log.base_index:
                # The cut entries were in segments that have been trimmed since.
                log.cut(log.base_index + 1)
                log.base_index, log.base_term = index - 1, term
            else:
                log.cut(index)
            next_index, last_term = index, log.last_term()
            if last_term != term:
                raise JournalDamaged(name, offset, f"cut after term {term}, but it is {last_term}")
        elif kind == HARD_STATE:
            if term < log.term:
                raise JournalDamaged(name, offset, f"the term goes back from {log.term} to {term}")
            vote = _read(decode_vote, data[offset + RECORD_BYTES : offset + length], name, offset)
            log.take_hard_state(term, vote)
        elif kind == PROMISES:
            payload = data[offset + RECORD_BYTES : offset + length]
            _read(Promises, payload, name, offset)
            log.promises = payload
        elif kind == BODY:
            log.first_body = min(log.first_body, high | offset)
        else:
            durable = max(durable, (index, term))
            payload = data[offset + RECORD_BYTES : offset + length]
            commit = _read(mark_commit_index, payload, name, offset)
            log.commit_index = max(log.commit_index, commit)
        end = offset + length
    return end, durable


def _read(meaning: Callable[[bytes], _T], payload: bytes, name: str, offset: int) -> _T:
    """What a payload says. Raises `JournalDamaged`: a good checksum proves who wrote it, not that
    it makes sense."""
    try:
        return meaning(payload)
    except ValueError as e:
        raise JournalDamaged(name, offset, f"a record makes no sense: {e}") from None


def _what(data: bytes, end: int) -> str:
    if not data[end:].strip(b"\0"):
        return "the records end here, but later ones were on stable storage"
    return "a record cannot be verified, and later ones were on stable storage"


@dataclass(frozen=True, slots=True)
class Record:
    """A record as `raftmail log show` prints it."""

    file: str
    offset: int
    kind: str
    index: int
    term: int
    payload: bytes
    """The command of an entry, the sha256 of a body; empty for other kinds."""
    note: str
    """What the other kinds say, in words."""


def read_records(disk: Disk, folder: str) -> Iterator[Record]:
    """The records of a journal in the order in which they were written; changes nothing.

    Fit for the journal of a running replica: ends quietly at a record that is being written, and
    passes over segments that vanish. Raises `JournalDamaged` when what cannot be read was durable.
    """
    before: tuple[str, bytes, int, int] | None = None
    for sequence in list_segments(disk, folder):
        name = segment_name(folder, sequence)
        try:
            data = _read_all(disk, name)
        except FileNotFoundError:
            continue
        try:
            header = decode_header(data)
        except UnknownFormat as e:
            raise JournalOfLaterRelease(f"{name}: {e}; start the version that wrote it") from e
        if header is None:
            if data[HEADER_BYTES:].strip(b"\0"):
                raise JournalDamaged(name, 0, "the header cannot be verified")
            break
        if before is not None and not header.reset and header.previous_end != before[3]:
            if header.durable > (before[2], before[3]):
                raise JournalDamaged(before[0], before[3], _what(before[1], before[3]))
            break
        salt = header.identity.salt(sequence)
        note = f"{'reset, ' if header.reset else ''}{header.identity}, vote {header.vote!r}"
        yield Record(name, 0, "header", header.base_index, header.term, b"", note)
        end = HEADER_BYTES
        for offset, length, kind, index, term in iter_records(data, salt, len(data)):
            payload = data[offset + RECORD_BYTES : offset + length]
            end = offset + length
            if kind == ENTRY:
                yield Record(name, offset, KIND_NAMES[kind], index, term, payload, "")
            elif kind == BODY:
                digest = payload[:32]
                note = f"the body {digest.hex()}, {length - BODY_RECORD_BYTES} bytes"
                yield Record(name, offset, KIND_NAMES[kind], index, term, digest, note)
            else:
                note = _read(partial(_note, kind, index, term), payload, name, offset)
                yield Record(name, offset, KIND_NAMES[kind], index, term, b"", note)
        if any(mark > (sequence, end) for mark in find_marks(data, end, salt)):
            raise JournalDamaged(name, end, _what(data, end))
        before = (name, data, sequence, end)


def read_bodies(
    disk: Disk, folder: str, identity: Identity, sequences: Sequence[int]
) -> Iterator[tuple[bytes, bytes]]:
    """The bodies (sha256, bytes) that are kept in segments, in the order in which they were
    written. Their CRC-32 was compared, their sha256 was not. Raises `DiskError`."""
    for sequence in sequences:
        data = _read_all(disk, segment_name(folder, sequence))
        for offset, length, kind, _, _ in iter_records(data, identity.salt(sequence), len(data)):
            if kind == BODY:
                digest, _ = BODY_HEAD.unpack_from(data, offset + RECORD_BYTES)
                yield digest, data[offset + BODY_RECORD_BYTES : offset + length]


def _note(kind: int, index: int, term: int, payload: bytes) -> str:
    if kind == CUT:
        return f"entries from {index} on are no longer part of the log"
    if kind == HARD_STATE:
        return f"vote {decode_vote(payload)!r}"
    if kind == PROMISES:
        return "what other replicas promised"
    commit = mark_commit_index(payload)
    closed = "closed in order; " if kind == CLOSED else ""
    return f"{closed}durable up to segment {index}, offset {term}; committed up to {commit}"
