"""What a leader knows of its followers, and how much it sends them.

PySyncObj sends everything it has in one go and moves back on every acknowledgement (S2, L2). Here
each follower has a window of bytes in flight, and the next index never goes back on a success (G2).
A follower that could not take an append is probed with one message at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, Protocol

from raftmail.consensus import messages as m
from raftmail.consensus.engine import Engine, clock
from raftmail.consensus.journal import Entry, Journal
from raftmail.consensus.messages import Kind


@dataclass(frozen=True, slots=True)
class Flow:
    """How much may be on its way to a follower, unacknowledged, and in one message; and wait at a
    follower for blobs."""

    in_flight_bytes_max: int = 16 << 20
    message_bytes_max: int = 1 << 20
    parked_bytes_max: int = 32 << 20
    apply_entries_max: int = 512


class Send(Protocol):
    def __call__(self, peer: int, kind: Kind, fields: list[Any]) -> None: ...


class SendBeat(Protocol):
    def __call__(
        self, peer: int, index: int, index_term: int, *, commit: int, round: int
    ) -> None: ...


@dataclass(slots=True)
class _Follower:
    connected: bool = False
    whole: bool = False
    able: bool = False
    sent_bytes: int = 0
    ticket_at: float = -1e18
    heard_at: float = -1e18
    probing: bool = False
    told_commit: int = -1
    """The commit index in what was sent last."""


def _for_message(journal: Journal, first: int, last: int, bytes_max: int) -> Sequence[Entry]:
    """(command, index, term) from `first` to `last`, or as many as have `bytes_max` together, but
    at least one."""
    part = journal.entries(first, min(last, first + m.ENTRIES_PER_MESSAGE_MAX - 1))
    size = 0
    for count, entry in enumerate(part, 1):
        size += len(entry[0])
        if size >= bytes_max:
            return part[:count]
    return part


class Followers:
    """The other voters and the learners, as a leader sees them (and, of links, as everyone
    does)."""

    def __init__(
        self, engine: Engine, flow: Flow, ticket_s: float, send: Send, beat: SendBeat
    ) -> None:
        self._all: dict[int, _Follower] = {}
        self._voters: tuple[int, ...] = ()
        self._durable_term = -1
        self._beat = beat
        self._engine = engine
        self._journal = engine.journal
        self._flow = flow
        self._ticket_s = ticket_s
        self._send = send

    def set_members(self, ids: Iterable[int], other_voters: AbstractSet[int]) -> list[int]:
        """Feed these; count those of them. Returns the new ones, whose links are taken to be
        down."""
        before = self._all
        self._all = {peer: before.get(peer) or _Follower() for peer in sorted(ids)}
        self._voters = tuple(sorted(other_voters))
        return [peer for peer in self._all if peer not in before]

    def __contains__(self, peer: object) -> bool:
        return peer in self._all

    def __iter__(self) -> Iterator[int]:
        return iter(self._all)

    def is_connected(self, peer: int) -> bool:
        return self._all[peer].connected

    def is_whole(self, peer: int) -> bool:
        """Of a leader: whether a follower said lately that it lacks no body of what it has
        applied."""
        return self._all[peer].whole

    def is_able(self, peer: int) -> bool:
        """Of a leader: whether a follower said on this link, in this term, that it may lead, and
        has answered lately."""
        follower = self._all[peer]
        return follower.connected and follower.able and self.answers(peer)

    def connected(self, peer: int) -> None:
        """A new ordered link: what was on its way on an older one may be lost."""
        follower = self._all[peer]
        follower.connected = True
        follower.whole = follower.able = False
        follower.sent_bytes = 0
        follower.told_commit = -1

    def tell_commit(self, peer: int, now: float, round: int) -> None:
        """Send a follower the commit index, unless it was sent; with it, what it may have now."""
        if self._all[peer].told_commit < self._engine.commit_index():
            self.replicate_to(peer, now, round)

    def rewind(self, peer: int) -> None:
        """Of a leader: send again from what the follower is known to have."""
        match = self._engine.match_index(peer)
        self._engine.set_next_index(peer, match + 1 if match else self._journal.last_index + 1)

    def disconnected(self, peer: int) -> None:
        self._all[peer].connected = False

    def majority_index(self, own: int) -> int:
        """Of a leader whose disk holds the log up to `own`: what a majority of the voters holds."""
        held = [own, *map(self._engine.match_index, self._voters)]
        held.sort()
        return held[(len(held) - 1) // 2]

    def begin_term(self) -> None:
        """This replica was elected."""
        for follower in self._all.values():
            follower.sent_bytes = 0
            follower.ticket_at = -1e18
            follower.probing = False
            follower.whole = follower.able = False
            follower.told_commit = -1

    def answers(self, peer: int) -> bool:
        """Of a leader: whether a follower was heard from within two heartbeats. A link is a node's:
        where a lost disk was replaced, it is up while the replica that had that disk is gone for
        ever."""
        return clock.now - self._all[peer].heard_at <= 2 * self._ticket_s

    def noted_whole(self, peer: int, wanted: int, success: int) -> None:
        """An answer to a heartbeat, which wants entries from `wanted` on, says whether the follower
        has every body; one to entries says nothing of it. One that acknowledges less than others
        did was on its way for long, over an older link: the follower had every body of what it had
        then."""
        self._all[peer].able = not success & m.ACK_UNABLE
        whole = success & ~m.ACK_UNABLE == m.ACK_WHOLE
        if not whole or wanted > self._engine.match_index(peer):
            self._all[peer].whole = whole

    def answered(self, peer: int, index: int) -> bool:
        """A follower answered a beat: it still has everything up to `index`. True: as was known."""
        self._all[peer].heard_at = clock.now
        if self._engine.match_index(peer) == index and not self._all[peer].probing:
            self._engine.heard_from(peer)
            return True
        self.acknowledged(peer, index + 1, True)
        return False

    def acknowledged(self, peer: int, wanted: int, success: bool) -> None:
        """A follower wants entries from `wanted` on; with `success` it has everything before on its
        disk."""
        engine = self._engine
        follower = self._all[peer]
        follower.heard_at = clock.now
        before = engine.next_index(peer)
        engine.deliver(
            peer,
            {
                "type": "next_node_idx",
                "reset": not success,
                "success": success,
                "next_node_idx": wanted,
            },
        )
        match = engine.match_index(peer)
        if success:
            engine.set_next_index(peer, max(before, engine.next_index(peer), match + 1))  # G2
            if engine.next_index(peer) == match + 1:
                follower.sent_bytes = 0
        else:
            engine.set_next_index(peer, max(match + 1, wanted))
            follower.sent_bytes = 0
        follower.probing = not success

    def replicate(self, now: float, round: int, *, heartbeat: bool) -> None:
        """Send every follower what it may have now; with `heartbeat`, an empty append where there
        is nothing."""
        if self._term_is_durable():
            last = self._journal.last_index
            for peer, follower in self._all.items():
                if follower.connected and (heartbeat or self._engine.next_index(peer) <= last):
                    self._replicate_to(peer, now, round, heartbeat=heartbeat)

    def replicate_to(self, peer: int, now: float, round: int) -> None:
        """`replicate` to one, and an empty append at least."""
        if self._term_is_durable():
            self._replicate_to(peer, now, round, heartbeat=True)

    def _term_is_durable(self) -> bool:
        """Whether the leader's own vote in its term is on its disk: nothing leaves before (G8).
        Others' votes prove it. But one that is the only voter needs none, and after a loss of power
        might lead the same term again. It could then have other entries than its learners have.
        """
        if self._durable_term == self._engine.term():
            return True
        self._durable_term = self._journal.synced_hard_state[0]
        return self._durable_term == self._engine.term()

    def _replicate_to(self, peer: int, now: float, round: int, *, heartbeat: bool) -> None:
        follower = self._all[peer]
        if not follower.connected:
            return
        engine = self._engine
        journal = self._journal
        flow = self._flow
        sent = False
        while True:
            start = engine.next_index(peer)
            last = journal.last_index
            if start > last:
                break
            if start <= journal.first_index and start > 1:
                if now - follower.ticket_at >= self._ticket_s:
                    follower.ticket_at = now
                    self._send(peer, Kind.TICKET, [engine.applied_index()])
                return
            if follower.sent_bytes > flow.in_flight_bytes_max:
                break
            if follower.probing and (sent or follower.sent_bytes):
                break
            entries = _for_message(journal, start, last, flow.message_bytes_max)
            self._append(peer, round, start - 1, entries)
            follower.sent_bytes += sum(len(e[0]) for e in entries)
            engine.set_next_index(peer, entries[-1][1] + 1)
            sent = True
        if heartbeat and not sent:
            prev = engine.next_index(peer) - 1
            if prev == engine.match_index(peer) == engine.commit_index() == journal.last_index:
                self._beat(peer, prev, journal.term_of(prev), commit=prev, round=round)
                follower.told_commit = prev
            else:
                self._append(peer, round, prev, ())

    def _append(self, peer: int, round: int, prev_index: int, entries: Sequence[Entry]) -> None:
        commit = self._all[peer].told_commit = self._engine.commit_index()
        fields = [
            round,
            commit,
            prev_index,
            self._journal.term_of(prev_index) if prev_index else 0,
            [e[2] for e in entries],
            [e[0] for e in entries],
        ]
        self._send(peer, Kind.APPEND, fields)
