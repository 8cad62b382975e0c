"""Whether a replica that starts still has what it promised (guard G13): it asks the others before
it takes part.

A disk may go back in time: a snapshot of a virtual machine, a backup or a copy is put in its place.
Such a replica would vote twice in one term, and what it acknowledged would count where it is no
more. It cannot know so by itself; but whoever was promised something remembers it (`promises`). So
a replica takes part only step by step:

1. It asks every other member as soon as there is a link (ASK: a number for this life, and the
   promise that its disk can keep; TELL: the highest one that the other remembers from before this
   life, and where the other stands). Until it may follow it takes no message but these, and adopts
   no term.
2. It *follows* when as many others answered as it takes to be elected (half of the voters, rounded
   down). Voters that its log names may have been removed since. So a teller says how many there
   are by a later membership, if it knows one that is committed, and half of those will do. All
   that it has links to must have answered too, or were silent for `patience_s`. It adopts the
   highest term that it was told. Where the voters that its log names are gone, the answer of a
   leader that is none of them will do. After `patience_s` that of any other whose log is ahead
   will do, too.
3. It *votes* and stands when all other voters answered, or `patience_s` has passed since the start.
   No vote is given in a term that a teller was in already: it might be a second one.
4. It is *lost* as soon as anybody remembers more than it has, also later: it takes no part any
   more, for ever.

A *doubtful* replica, whose files are known to be a copy, needs more. It needs answers of so many
others that one of them was in every majority that it can have been part of. (That is half of the
voters, rounded up.) And it votes only for logs that reach as far as those of all that answered.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from raftmail.consensus.members import Members
from raftmail.consensus.promises import NONE, Given, Promise

LEADS, LOST, AHEAD, VOTER = 1, 2, 4, 8
"""What is known of a teller, by bits: it leads; its own disk is lost, so that its memory may lack
something; its log is ahead. Above them stand the voters, each counted as `VOTER`, of a committed
membership behind the log of who asks; 0: the teller knows none."""


@dataclass(slots=True, repr=False)
class Proof:
    """See the module's docstring. `had` is the promise that the disk can keep, as it was at the
    start. `nonce` tells answers to this life's questions from those to an earlier one's."""

    members: Members
    had: Promise
    nonce: int
    started_at: float
    patience_s: float
    doubtful: bool = False
    given: Given = field(default_factory=Given)
    lost: str = ""
    """By whom and why it is known that the disk went back; "": it is not."""
    may_follow: bool = False
    may_vote: bool = False
    term_floor: int = 0
    """No vote is given in this term or an earlier one."""
    log_floor: tuple[int, int] = (0, 0)
    """Term and index of the last entry of the longest log that was told; of a doubtful replica
    alone."""
    _asked_at: dict[int, float] = field(default_factory=dict)
    _silent_since: dict[int, float] = field(default_factory=dict)
    """When each was asked first over the link that there is."""
    _told: dict[int, int] = field(default_factory=dict)
    _later: tuple[tuple[int, int], int] = ((0, 0), 0)
    """Of the later memberships that were told of, the newest: the end of the teller's log, and its
    number of voters."""

    @property
    def pending(self) -> bool:
        """Whether it does not take part in everything yet."""
        return not (self.may_vote or self.lost)

    @property
    def needed(self) -> int:
        """How many others have to answer."""
        members = self.members
        others = len(members.other_voters)
        if self.doubtful:
            return (others + 2) // 2 if others else 0
        needed = (others + 1) // 2 if members.is_voter else max(others // 2, min(others, 1))
        voters = self._later[1]
        return min(needed, max(voters // 2, 1)) if voters else needed

    def asks(self, peer: int, now: float) -> bool:
        """Whether a peer is to be asked now; it counts as asked then. Who is silent is asked
        again."""
        if peer in self._told or now < self._asked_at.get(peer, -1e18) + self.patience_s:
            return False
        self._asked_at[peer] = now
        self._silent_since.setdefault(peer, now)
        return True

    def linked_anew(self, peer: int) -> None:
        """A new link: a question that was on its way on the older one may be lost, and is asked
        again first of all."""
        self._asked_at.pop(peer, None)
        self._silent_since.pop(peer, None)

    def told(self, peer: int, promise: Promise, term: int, end: tuple[int, int], flags: int) -> str:
        """A peer answered: what this replica had promised it, its own term, the end of its log.
        Returns why this replica is lost, the first time that it is known."""
        self._told[peer] = flags
        if flags >= VOTER and not flags & LOST:
            self._later = max(self._later, (end, flags // VOTER))
        if promise > self.had and not self.given.covers(promise):
            before, self.lost = self.lost, self.lost or self._loss(peer, promise)
            self.may_follow = self.may_vote = False
            return "" if before else self.lost
        if not self.may_vote:
            self.term_floor = max(self.term_floor, term)
            if self.doubtful:
                self.log_floor = max(self.log_floor, end)
        return ""

    def _loss(self, peer: int, promise: Promise) -> str:
        node = self.members.node_of(peer) or "a node that is gone"
        return (
            f"replica {peer} on {node} remembers that this one took part in term {promise[0]} and "
            f"held the log up to entry {promise[1]}; "
            f"the disk has term {self.had[0]} and entry {self.had[1]}"
        )

    def look(self, now: float, linked: set[int]) -> bool:
        """See whether it may take part by now. `linked` are the other voters that there are links
        to. True: it may follow from now on."""
        if self.lost or self.may_vote:
            return False
        told = self._told
        others = self.members.other_voters
        answered = [peer for peer, flags in told.items() if not flags & LOST]
        patient = now < self.started_at + self.patience_s
        # Those whom the own log names may all be gone: one whose log is ahead may know of members
        # that it does not.
        newer = LEADS if patient else LEADS | AHEAD
        guided = not self.doubtful and any(
            told[peer] & newer and peer not in others for peer in answered
        )
        if len(answered) < self.needed and not guided:
            return False
        before = self.may_follow
        if not before:
            self.may_follow = all(
                peer in told or now >= self._silent_since.get(peer, now) + self.patience_s
                for peer in linked
            )
        if self.may_follow:
            self.may_vote = not patient or all(peer in told for peer in others)
        return self.may_follow and not before

    def is_settled(self, term: int, index: int) -> bool:
        """Whether nothing is in doubt any more of a replica whose log ends at (`term`, `index`)."""
        return self.may_vote and (term, index) >= self.log_floor

    def leaders(self) -> list[int]:
        """Those that said that they lead."""
        return [peer for peer, flags in self._told.items() if flags & LEADS]

    def grants(self, term: int, index: int, log_term: int) -> bool:
        """Whether a vote may be given in a term to a log that ends at (`log_term`, `index`)."""
        return self.may_vote and term > self.term_floor and (log_term, index) >= self.log_floor


__all__ = ["AHEAD", "LEADS", "LOST", "NONE", "VOTER", "Proof"]
