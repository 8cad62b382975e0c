"""When a replica may stand for election: PreVote and stickiness (guard G5; Raft dissertation,
sections 9.6 and 4.2.3).

A replica whose election timeout passes first asks whether it would be elected, without raising its
term. It is told yes only by replicas that have not heard from a leader lately and whose log is no
newer. So a replica that was cut off, or paused, cannot depose a healthy leader when it returns. One
that reaches no majority raises no term.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from raftmail.consensus.engine import CANDIDATE, Engine
from raftmail.consensus.fitness import PATIENCE_TIMEOUTS, Fitness
from raftmail.consensus.members import Members
from raftmail.consensus.messages import Kind, Message
from raftmail.consensus.proof import Proof

_NEVER = -1e18


def log_is_up_to_date(
    candidate_index: int, candidate_term: int, own_index: int, own_term: int
) -> bool:
    """Raft paper, section 5.4.1."""
    return (candidate_term, candidate_index) >= (own_term, own_index)


@dataclass(slots=True, repr=False)
class Ballot:
    """The answers to one question (PreVote or vote) in one term: one per voter, however often it is
    repeated (S6)."""

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

    def won(self, members: Members) -> bool:
        return self.term >= 0 and members.is_majority(self.granted)


class Send(Protocol):
    def __call__(
        self,
        peer: int,
        kind: Kind,
        fields: list[Any],
        hold: bool = False,
        *,
        term: int | None = None,
    ) -> None: ...


class Elections:
    """When this replica stands, and what it tells others that want to.

    Invariants:

    - The engine stands only when a majority said that it would vote, or when the leader asked for
      it (a transfer). Or it stands when there is no one else.
    - A voter's answer counts once.
    - A term has one leader (S7).
    - Who is no voter by the newest membership does not stand, and its answers do not count, though
      it answers (G12).
    """

    def __init__(
        self,
        engine: Engine,
        members: Members,
        self_id: int,
        rng: random.Random,
        send: Send,
        fitness: Callable[[], Fitness],
        proof: Proof,
    ) -> None:
        self._proof = proof
        self._engine = engine
        self._fitness = fitness
        self._leaderless_since: float | None = None
        self._members = members
        self._self_id = self_id
        self._rng = rng
        self._send = send
        self._prevote = Ballot()
        self._vote = Ballot()
        self._asked_to_lead = False
        self._leader_heard = _NEVER
        self._leader_of_term = (-1, -1)
        self.removed = False
        """A leader said that this replica is no member any more."""

    def is_sticky(self, now: float) -> bool:
        """Whether a leader is known to be alive: this replica, or one heard of within the shortest
        election timeout."""
        engine = self._engine
        if engine.leads:
            return True
        return engine.leader() is not None and now - self._leader_heard < engine.election_min_s

    def hears_leader(self, now: float) -> bool:
        """Whether this replica leads, or has heard from who does within the longest election
        timeout."""
        engine = self._engine
        if engine.leads:
            return True
        return engine.leader() is not None and now - self._leader_heard < engine.election_max_s

    def leader_lost(self) -> None:
        """The link to the leader broke: stickiness ends."""
        self._leader_heard = _NEVER

    def heard_leader(self, now: float, term: int, sender: int) -> int:
        """Note who leads in a term; returns who does, which is another than `sender` when two claim
        it (S7)."""
        if self._leader_of_term[0] == term and self._leader_of_term[1] != sender:
            return self._leader_of_term[1]
        self._leader_of_term = (term, sender)
        self._leader_heard = max(self._leader_heard, now)
        self._leaderless_since = None
        return sender

    def begin_term(self) -> bool:
        """This replica leads; True the first time in its term."""
        mine = (self._engine.term(), self._self_id)
        if self._leader_of_term == mine:
            return False
        self._leader_of_term = mine
        self._leaderless_since = None
        return True

    def tick(self, now: float) -> None:
        """Ask whether this replica would be elected, when the election timeout has passed."""
        engine = self._engine
        if engine.leads or engine.election_deadline() >= now:
            return
        members = self._members
        if not members.is_voter or self.removed:
            return  # G12
        if not self._may_stand():
            return  # G13
        if engine.withheld_from:
            # Others could not take its log from it. It votes all the same, for those that have as
            # much.
            engine.set_election_deadline(now + engine.election_max_s)
            return
        if self._waits_for_abler(now, engine):
            engine.set_election_deadline(now + engine.election_max_s)
            return
        self._asked_to_lead = engine.transfer_pending()
        if self._asked_to_lead or not members.other_voters:
            engine.start_election()  # Raft dissertation, section 3.10
            return
        engine.set_election_deadline(
            now + self._rng.uniform(engine.election_min_s, engine.election_max_s)
        )
        term = engine.term() + 1
        self._prevote.open(term, self._self_id)
        last = engine.journal.last_index
        fields = [last, engine.journal.term_of(last), 0]
        for peer in members.other_voters:
            self._send(peer, Kind.PREVOTE, fields, term=term)

    def _waits_for_abler(self, now: float, engine: Engine) -> bool:
        """Whether this replica leaves it to others to stand: always when it is unfit, and for a
        while when it is a last resort. An able one stands, and is elected, within a timeout or
        two."""
        fitness = self._fitness()
        if fitness is Fitness.ABLE:
            self._leaderless_since = None
            return False
        if self._leaderless_since is None:
            self._leaderless_since = now
        if fitness is Fitness.UNFIT:
            return True
        if not self._members.other_voters:
            return False
        return now - self._leaderless_since < PATIENCE_TIMEOUTS * engine.election_max_s

    def _may_stand(self) -> bool:
        """Whether this replica would vote for itself."""
        journal, last = self._engine.journal, self._engine.journal.last_index
        return self._proof.grants(self._engine.term() + 1, last, journal.term_of(last))

    def stand(self, term: int) -> bool:
        """The engine asks for votes in `term`; True when it does so because the leader handed
        over."""
        if self._vote.term != term:
            self._vote.open(term, self._self_id)
        return self._asked_to_lead

    def answer_prevote(self, now: float, message: Message) -> None:
        """Say whether this replica would vote for the sender; say nothing while a leader is
        alive."""
        journal = self._engine.journal
        if message.term <= self._engine.term():
            self._send(message.sender, Kind.NEWER_TERM, [], hold=True)
            return
        if self.is_sticky(now):
            return
        last = journal.last_index
        index, term, _ = message.fields
        if not self._proof.grants(message.term, index, term):
            return  # G13
        if log_is_up_to_date(index, term, last, journal.term_of(last)):
            self._send(message.sender, Kind.PREVOTE_GRANTED, [], term=message.term)

    def prevote_granted(self, term: int, voter: int) -> bool:
        """Count an answer; True when a majority would vote for this replica."""
        if self._engine.leads or term != self._engine.term() + 1:
            return False
        self._prevote.grant(term, voter)
        if not self._members.is_voter or not self._prevote.won(self._members):
            return False
        self._prevote.close()
        return True

    def vote_granted(self, term: int, voter: int) -> bool:
        """Whether a vote counts: in this term, of a candidate, of a voter, and its first (S6)."""
        return (
            self._engine.role() == CANDIDATE
            and voter in self._members.voters
            and self._vote.grant(term, voter)
        )
