"""A follower's side: what becomes of a leader's appends and snapshot offers (guards G1, G2, G4, G9
and G12).

An append whose blobs are not here waits; an entry is acknowledged when it is on the disk with all
that it names.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from raftmail.consensus.appends import AppendVerdict, Diverged, judge
from raftmail.consensus.applier import Applier
from raftmail.consensus.election import Elections, Send
from raftmail.consensus.engine import REGULAR, Engine
from raftmail.consensus.fitness import Fitness
from raftmail.consensus.members import PREFIX, Members, membership_of
from raftmail.consensus.membership import BadMembership
from raftmail.consensus.messages import (
    ACK_LACKS,
    ACK_NO,
    ACK_UNABLE,
    ACK_WHOLE,
    ACK_YES,
    BadMessage,
    Kind,
    Message,
)
from raftmail.consensus.parked_appends import ParkedAppends

logger = logging.getLogger(__name__)

SAY_AGAIN_S = 60.0
"""A leader that contradicts what is committed here is told of in the log no more often."""


class Follower:
    """`answered` is set by whoever hears the engine's answers; `members_changed` is called when
    another membership is in force. `contradiction` tells of the last append that contradicted what
    is committed here, and when: none was taken."""

    def __init__(
        self,
        group: int,
        engine: Engine,
        elections: Elections,
        members: Members,
        applier: Applier,
        parked_bytes_max: int,
        send: Send,
        members_changed: Callable[[], None],
    ) -> None:
        self._group = group
        self._engine = engine
        self._journal = engine.journal
        self._elections = elections
        self._members = members
        self._applier = applier
        self._send = send
        self._members_changed = members_changed
        self.parked = ParkedAppends(parked_bytes_max)
        self.answered = False
        self.refused = 0
        self.contradiction: tuple[float, Diverged] | None = None
        self._say_again_at = -1e18

    def judged(self, now: float, message: Message) -> AppendVerdict | None:
        """What an append means for the own log. None: it contradicts what is committed here, and is
        of no meaning at all. Its sender broke the rules of Raft, or this replica did; whoever is
        right, what is committed here stays, and nothing is acknowledged."""
        _, _, prev_index, prev_term, terms, _ = message.fields
        try:
            return judge(self._journal, self._engine.commit_index(), prev_index, prev_term, terms)
        except Diverged as e:
            self.contradiction = (now, e)
            if now >= self._say_again_at:
                self._say_again_at = now + SAY_AGAIN_S
                logger.error(
                    "group %d: an append of replica %d is refused: %s",
                    self._group,
                    message.sender,
                    e,
                )
            self.refused += 1
            return None

    def on_append(self, now: float, message: Message, size: int, verdict: AppendVerdict) -> None:
        """Take an append of the term's leader, as it was `judged`. Raises `BadMessage`,
        DiskFull."""
        if not self._follows(now, message):
            return
        sender = message.sender
        journal = self._journal
        round, commit, prev_index, _, terms, _ = message.fields
        if round:
            self._send(sender, Kind.ROUND, [round], term=message.term)
        if verdict.ask >= 0:
            self._touch(sender, message.term)
            if prev_index > journal.last_index and self.parked:
                # It follows an append that waits for blobs.
                if terms:
                    self._park(now, message, size)
                self._confirm_committed(sender)
            else:
                self._send(sender, Kind.ACK, [verdict.ask, ACK_NO], hold=True)
            return
        new = self._admit(now, message, size, verdict)
        start = verdict.keep
        count = len(new)
        verified = verdict.verified + count
        self.answered = False
        if count and journal.room():
            base = prev_index + start
            self._take(message, base, new, start, min(commit, verified))
        else:
            verified = verdict.verified
            self._engine.take_entries(
                sender, message.term, journal.last_index, [], min(commit, verified)
            )
        if not self.answered:
            return
        if withheld := self._engine.withheld_from:
            verified = min(verified, withheld - 1)
        held = self._engine.held_index()
        if verified > held or terms:
            self._send(sender, Kind.ACK, [verified + 1, ACK_YES], hold=True)
        if not terms and held:
            # A heartbeat is answered even while the disk is slow: it promises only what is synced.
            self._send(sender, Kind.ACK, [min(verified, held) + 1, self.success()])

    def takes_beat(
        self, now: float, sender: int, term: int, index: int, index_term: int, commit: int
    ) -> bool:
        """Take a beat of the leader.

        False when anything is not as it is while nothing happens, so that it has to be taken as an
        append. Nothing follows from a beat that is taken.
        """
        engine = self._engine
        journal = self._journal
        if (
            not engine.follows(sender, term)
            or not journal.last_index == engine.held_index() == index
            or journal.term_of(index) != index_term
            or commit > engine.commit_index()
            or self.parked
            or self._elections.heard_leader(now, term, sender) != sender
        ):
            return False
        engine.heard_leader()
        return True

    def _take(
        self, message: Message, base: int, new: Sequence[bytes], start: int, commit: int
    ) -> None:
        """Put entries after `base`, in place of what stands there; a membership among them is in
        force at once (G12)."""
        terms = message.fields[4]
        entries = [(command, base + 1 + i, terms[start + i]) for i, command in enumerate(new)]
        members = self._members
        if members.index <= base and not any(command.startswith(PREFIX) for command in new):
            self._engine.take_entries(message.sender, message.term, base, entries, commit)
            return
        try:
            given = [(index, membership_of(command)) for command, index, _ in entries]
        except BadMembership as e:
            raise BadMessage(f"APPEND: {e}") from None
        members.cut(base + 1)
        try:
            self._engine.take_entries(message.sender, message.term, base, entries, commit)
        finally:
            for index, membership in given:
                if membership is not None and index <= self._journal.last_index:
                    members.append(index, membership)
            self._members_changed()

    def success(self) -> int:
        """How an acknowledgement says that everything before is on the disk, whether bodies are
        missing, and whether this replica may lead."""
        success = ACK_LACKS if self._applier.lacks_bodies() else ACK_WHOLE
        return success if self._applier.fitness() is Fitness.ABLE else success | ACK_UNABLE

    def _follows(self, now: float, message: Message) -> bool:
        """Note that a leader was heard from; False when another one leads in this term (G3)."""
        other = self._elections.heard_leader(now, message.term, message.sender)
        if other == message.sender:
            return True
        self.refused += 1
        logger.error(
            "group %d: replica %d and replica %d both lead in term %d; the second is ignored",
            self._group, other, message.sender, message.term,
        )  # fmt: skip
        return False

    def _admit(
        self, now: float, message: Message, size: int, verdict: AppendVerdict
    ) -> Sequence[bytes]:
        """The new entries up to the first whose blobs are not here; the append waits if there is
        one."""
        commands: list[bytes] = message.fields[5]
        new = commands[verdict.keep :] if verdict.keep else commands
        holds = self._applier.holds_blobs
        first = message.fields[2] + verdict.keep + 1
        for i, command in enumerate(new):
            if command[:1] == REGULAR and not holds(command[1:], first + i):
                self._park(now, message, size)
                return new[:i]
        return new

    def _park(self, now: float, message: Message, size: int) -> None:
        """Keep an append until its blobs are here; all that its entries lack is asked for at once.
        What there is no room for is sent again: were only its first blob asked for, it would be
        taken at the pace of one entry a heartbeat."""
        self.parked.add(now, message, size)
        for command in message.fields[5]:
            if command[:1] == REGULAR:
                self._applier.want_blobs(command[1:])

    def _touch(self, sender: int, term: int) -> None:
        """Let the engine know that the leader lives, and nothing else (G1: the commit index is not
        the message's)."""
        self._engine.deliver(
            sender, {"type": "append_entries", "term": term, "commit_index": 0, "entries": []}
        )

    def _confirm_committed(self, leader: int) -> None:
        """Answer a leader with what certainly is in its log and on the own disk. It learns that
        this replica is alive and, after a jump, from where on to send."""
        held = min(self._engine.commit_index(), self._journal.synced_index)
        self._send(leader, Kind.ACK, [held + 1, self.success()])

    def on_ticket(self, now: float, message: Message) -> tuple[int, int] | None:
        """The leader's log no longer has what this replica lacks (G9): who leads, and up to where a
        resync is wanted. An offer that is not ahead is dropped (G1): None."""
        if not self._follows(now, message):
            return None
        self._touch(message.sender, message.term)
        self._confirm_committed(message.sender)
        if message.fields[0] > self._engine.applied_index():
            return (message.sender, message.fields[0])
        return None
