"""What a journal must be after a power loss, told by a list of everything it ever was."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from hashlib import sha256
from zlib import crc32

from raftmail.consensus.journal import Identity, Journal, JournalLimits, Vote
from raftmail.storage.disk import DiskFull
from tests.simulation.disk import SimDisk

IDENTITY = Identity(b"0123456789abcdef", 7, 3)
SMALL = JournalLimits(
    segment_bytes_max=1500,
    cache_bytes_max=1200,
    prealloc_bytes_min=512,
    prealloc_bytes_max=1024,
    reserve_bytes=300,
    entry_bytes_max=2000,
    buffer_bytes_max=3000,
)


@dataclass(frozen=True, slots=True)
class State:
    """A log without the trimmed part forgotten: `entries[0]` has the index `floor` + 1."""

    floor: int = 0
    floor_term: int = 0
    entries: tuple[tuple[bytes, int], ...] = ()
    hard: tuple[int, Vote] = (0, None)

    @property
    def last(self) -> int:
        return self.floor + len(self.entries)

    @property
    def last_term(self) -> int:
        return self.entries[-1][1] if self.entries else self.floor_term

    def differs_from(self, journal: Journal) -> str:
        """In what the journal is another log than this; "" when it is this one."""
        if journal.last_index != self.last:
            return f"it ends at {journal.last_index}, not {self.last}"
        if (journal.getCurrentTerm(), journal.getVotedForNodeId()) != self.hard:
            return f"hard state {journal.getCurrentTerm(), journal.getVotedForNodeId()}"
        if not len(journal):
            return "" if self.floor == 0 else "it is empty"
        base = journal.first_index
        for position, (command, index, term) in enumerate(journal[:]):
            if index != base + position:
                return f"position {position} holds the entry {index}"
            if index == self.floor:
                want: tuple[bytes, int] = (b"", self.floor_term)
            elif index < self.floor:
                return f"it begins at {index}, before {self.floor}"
            else:
                want = self.entries[index - self.floor - 1]
            if (command, term) != want and not (
                position == 0 and command == b"" and term == want[1]
            ):
                return f"entry {index} differs"
        return ""


class Driver:
    """Does random things to a journal and to its twin; knows which states a crash may leave."""

    def __init__(self, disk: SimDisk, seed: int, limits: JournalLimits = SMALL) -> None:
        self.disk = disk
        self.random = random.Random(seed)
        self.limits = limits
        self.state = State()
        self.possible = [self.state]
        self.trimmed_to = 0
        self.term = 1  # what is added has this term or a later one: (index, term) names one entry
        self.journal: Journal
        self.created = False
        self.bodies: dict[bytes, bytes] = {}  # added and not released
        self.safe: set[bytes] = set()  # of them, those that a sync has covered

    def open(self) -> Journal:
        self.journal = Journal.open(
            self.disk, "journal", IDENTITY, self.limits, create=not self.created
        )
        self.created = True
        return self.journal

    def recover(self) -> None:
        """Reopen after a crash: the journal must be one of the possible states; go on from it."""
        journal = self.open()
        complaints = [state.differs_from(journal) for state in self.possible]
        assert "" in complaints, complaints
        self.state = self.possible[complaints.index("")]
        self.term += 1
        assert journal.first_index <= max(self.trimmed_to, self.state.floor, 1)
        assert journal.synced_index == journal.last_index
        assert journal.synced_hard_state == self.state.hard
        self.possible = [self.state]
        found = dict(journal.bodies())
        assert self.safe <= found.keys()
        assert all(sha256(body).digest() == digest for digest, body in found.items())
        self.bodies, self.safe = found, set(found)

    def _became(self, state: State) -> None:
        self.state = state
        self.possible.append(state)

    def step(self) -> None:
        journal = self.journal
        kind = self.random.choices(
            (
                "add",
                "readd",
                "cut",
                "flush",
                "sync",
                "overlap",
                "hard",
                "trim",
                "roll",
                "reset",
                "close",
                "body",
                "release",
            ),
            (40, 6, 4, 8, 14, 8, 6, 4, 3, 1, 1, 10, 3),
        )[0]
        getattr(self, "_" + kind)(journal)
        complaint = self.state.differs_from(self.journal)  # `close` has put another in its place
        assert not complaint, (kind, complaint)

    def _add(self, journal: Journal) -> None:
        self.term += self.random.random() < 0.1
        term = self.term
        for _ in range(self.random.randint(1, 4)):
            size = self.random.choice((0, 5, 30, 200, 700))
            command = self.random.randbytes(size)
            try:
                journal.add(command, self.state.last + 1, term)
            except DiskFull:
                return
            self._became(replace(self.state, entries=(*self.state.entries, (command, term))))

    def _readd(self, journal: Journal) -> None:
        """Cut a suffix and add it again, or the first few entries of it."""
        state = self.state
        count = self.random.randint(0, min(4, len(state.entries), max(len(journal) - 1, 0)))
        if not count:
            return
        keep = len(state.entries) - count
        journal.deleteEntriesFrom(len(journal) - count)
        back = self.random.randint(0, count)
        for command, term in state.entries[keep : keep + back]:
            journal.add(command, journal.last_index + 1, term)
        if back < count:
            self.term += 1
            self._became(replace(state, entries=state.entries[: keep + back]))

    def _cut(self, journal: Journal) -> None:
        """Cut a suffix and put something else in its place."""
        state = self.state
        count = self.random.randint(0, min(4, len(state.entries), max(len(journal) - 1, 0)))
        if not count:
            return
        self.term += 1
        term = self.term
        journal.deleteEntriesFrom(len(journal) - count)
        self._became(replace(state, entries=state.entries[: len(state.entries) - count]))
        command = self.random.randbytes(20)
        try:
            journal.add(command, self.state.last + 1, term)
        except DiskFull:
            return
        self._became(replace(self.state, entries=(*self.state.entries, (command, term))))

    def _flush(self, journal: Journal) -> None:
        journal.flush()

    def _sync(self, journal: Journal) -> None:
        job = journal.begin_sync()
        if job is not None:
            job.run()
            self.possible = [self.state]
            journal.end_sync(job)
            self.safe = set(self.bodies)
            assert journal.synced_index == self.state.last
            assert journal.synced_hard_state == self.state.hard

    def _overlap(self, journal: Journal) -> None:
        """Go on writing while the sync runs."""
        job = journal.begin_sync()
        if job is None:
            return
        at = len(self.possible) - 1
        covered = set(self.bodies)
        self._add(journal)
        self._body(journal)
        if self.random.random() < 0.5:
            self._readd(journal)
        if self.random.random() < 0.5:
            journal.flush()
        job.run()
        self.possible = self.possible[at:]
        synced = self.possible[0]
        journal.end_sync(job)
        self.safe = covered
        assert journal.synced_index <= synced.last
        for i in range(journal.synced_index - self.state.floor):
            assert self.state.entries[i] == synced.entries[i]

    def _body(self, journal: Journal) -> None:
        body = self.random.randbytes(self.random.choice((0, 30, 200, 700)))
        digest = sha256(body).digest()
        try:
            journal.add_body(digest, body, crc32(body))
        except DiskFull:
            return
        self.bodies[digest] = body

    def _release(self, journal: Journal) -> None:
        """The bodies so far go to the blob store; another comes while that is synced."""
        journal.mark_bodies()
        self.bodies, self.safe = {}, set()
        if self.random.random() < 0.5:
            self._body(journal)
        journal.release_bodies()

    def _hard(self, journal: Journal) -> None:
        term = self.state.hard[0] + self.random.randint(1, 2)
        vote: Vote = self.random.choice((None, "node-1", 2))
        try:
            journal.setCurrentTerm(term, vote)
        except DiskFull:
            return
        self._became(replace(self.state, hard=(term, vote)))

    def _trim(self, journal: Journal) -> None:
        index = self.random.randint(0, journal.synced_index)
        journal.trim(index)
        self.trimmed_to = max(self.trimmed_to, index)
        assert journal.first_index <= max(index, self.trimmed_to, self.state.floor, 1)

    def _roll(self, journal: Journal) -> None:
        journal.roll()

    def _reset(self, journal: Journal) -> None:
        index = self.random.randint(max(1, self.state.last - 3), self.state.last + 5)
        self.term += 1
        term = self.term
        journal.mark_bodies()
        journal.release_bodies()
        self.bodies, self.safe = {}, set()
        self._became(State(index, term, (), self.state.hard))
        try:
            journal.reset(index, term)
        except DiskFull:
            self.possible.pop()
            self.state = self.possible[-1]
        else:
            self.possible = [self.state]

    def _close(self, journal: Journal) -> None:
        journal.close()
        self.safe = set(self.bodies)
        self.possible = [self.state]
        self.recover()
