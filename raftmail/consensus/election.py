"""When a replica may stand for election: PreVote and stickiness (guard G5; Raft dissertation, sections 9.6 and 4.2.3).

A replica whose election timeout passes first asks whether it would be elected, without raising its term. It is told yes only by
replicas that have not heard from a leader lately and whose log is no newer. So a replica that was cut off, or paused, cannot
depose a healthy leader when it returns, and one that reaches no majority raises no term.
"""

from __future__ import annotations

from dataclasses import dataclass, field


def log_is_up_to_date(
    candidate_index: int, candidate_term: int, own_index: int, own_term: int
) -> bool:
    """Raft paper, section 5.4.1."""
    return (candidate_term, candidate_index) >= (own_term, own_index)


@dataclass(slots=True)
class Ballot:
    """The answers to one question (PreVote or vote) in one term: one per voter, however often it is repeated (S6)."""

    term: int = -1
    granted: set[int] = field(default_factory=set)

    def open(self, term: int, self_id: int) -> None:
        self.term = term
        self.granted = {self_id}

    def close(self) -> None:
        self.term = -1
        self.granted.clear()

    def grant(self, term: int, voter: int) -> bool:
        """Count an answer; False when it is late or repeated."""
        if term != self.term or voter in self.granted:
            return False
        self.granted.add(voter)
        return True

    def won(self, voters: int) -> bool:
        return self.term >= 0 and len(self.granted) > voters // 2
