"""Read barriers: proof that this leader was still the leader after a read was asked for (P5; Raft
dissertation, section 6.4).

A barrier needs a round of answers from a majority that began after the barrier was asked for. One
round serves all that wait when it begins; while it is under way later ones gather for the next. No
clock is trusted (no leases), so a paused or drifting machine cannot serve a stale read.

A follower that asks for a barrier vouches for it: it says that in this term it follows this leader.
It says so after the read was asked for, as an answer to a round is given after that. So it counts
like one, and where it and the leader are a majority (of three voters), no round is needed.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

WAITING_MAX = 65536

VOUCHERS_MAX = 4096
"""What followers vouched for and did not ask yet. Beyond that the oldest is forgotten: whoever
asks then waits for a round."""

_VOUCHER = 1 << 61


def voucher(number: int) -> int:
    """The number of a call as it is vouched for: one that no round has."""
    return number % _VOUCHER + _VOUCHER


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
    vouchers: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Who vouches for a barrier that it is about to ask for, and in which term; by its number."""

    def vouch(self, number: int, voter: int, term: int) -> None:
        """A follower vouches for a barrier in a term."""
        if number >= _VOUCHER:
            if len(self.vouchers) >= VOUCHERS_MAX:
                del self.vouchers[next(iter(self.vouchers))]
            self.vouchers[number] = voter, term

    def vouching(self, number: int, term: int, voters: AbstractSet[int]) -> int:
        """The voter that vouched for this barrier in this term, where it and the leader are a
        majority; 0: there is none."""
        voter, of_term = self.vouchers.pop(number, (0, -1))
        is_enough = of_term == term and voter in voters and len(voters) <= 3
        return voter if is_enough else 0

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
