"""Read barriers: proof that this leader was still the leader after a read was asked for (P5; Raft
dissertation, section 6.4).

A barrier needs a round of answers from a majority that began after the barrier was asked for. One
round serves all that wait when it begins; while it is under way later ones gather for the next. No
clock is trusted (no leases), so a paused or drifting machine cannot serve a stale read.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

WAITING_MAX = 65536

ReadIndex = Callable[[int | None], None]
"""Called once: with the index that must be applied before reading, or None when leadership was not
confirmed."""


@dataclass(slots=True, repr=False)
class ReadRounds:
    """Invariant: every callback that was added is called exactly once."""

    round: int = 0
    open: bool = False
    confirmed: set[int] = field(default_factory=set)
    in_round: list[tuple[int, ReadIndex]] = field(default_factory=list)
    waiting: list[ReadIndex] = field(default_factory=list)

    def add(self, done: ReadIndex) -> None:
        if len(self.waiting) >= WAITING_MAX:
            done(None)
            return
        self.waiting.append(done)

    def begin(self, commit_index: int) -> bool:
        """Start a round for everything that waits; False when one is open or nothing waits."""
        if self.open or not self.waiting:
            return False
        self.round += 1
        self.open = True
        self.confirmed.clear()
        self.in_round = [(commit_index, done) for done in self.waiting]
        self.waiting = []
        return True

    def confirm(
        self, round: int, voter: int, voters: AbstractSet[int]
    ) -> list[tuple[int, ReadIndex]]:
        """Count a follower's answer; the barriers that are through, once a majority (with the
        leader) answered."""
        if not self.open or round != self.round:
            return []
        self.confirmed.add(voter)
        return self.take_if_confirmed(voters)

    def take_if_confirmed(self, voters: AbstractSet[int]) -> list[tuple[int, ReadIndex]]:
        if not self.open or len(self.confirmed & voters) + 1 <= len(voters) // 2:
            return []
        self.open = False
        through, self.in_round = self.in_round, []
        return through

    def fail_all(self) -> None:
        """Leadership is lost or in doubt."""
        lost = [done for _, done in self.in_round] + self.waiting
        self.in_round, self.waiting, self.open = [], [], False
        for done in lost:
            done(None)
