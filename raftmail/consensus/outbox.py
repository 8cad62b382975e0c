"""What a replica wants to send to the others of its group: at once, or when the next sync is done
(guard G8)."""

from __future__ import annotations

from typing import Any

from raftmail.consensus import messages as m
from raftmail.consensus.engine import Engine
from raftmail.consensus.heartbeats import ANSWER, BEAT, pack
from raftmail.consensus.members import Members
from raftmail.consensus.messages import Kind
from raftmail.consensus.promises import Given

_VOTES = frozenset((Kind.VOTE, Kind.VOTE_GRANTED))

Outgoing = tuple[int, list[bytes]]
"""A receiver, and the parts of a message."""


class Outbox:
    """`ready` may leave now, `held` promises what is not on the disk yet; both in the order in
    which they were sent. `beats` may leave now, in any order with the others: nodes and records."""

    def __init__(self, group: int, self_id: int, engine: Engine, members: Members) -> None:
        self._group = group
        self._self_id = self_id
        self._engine = engine
        self.ready: list[Outgoing] = []
        self.held: list[Outgoing] = []
        self.beats: list[tuple[str, bytes]] = []
        self.given = Given()
        self._node_of = members.node_of

    def send(
        self,
        peer: int,
        kind: Kind,
        fields: list[Any],
        hold: bool = False,
        term: int | None = None,
    ) -> None:
        """Queue a message; with `hold`, until the next sync is done."""
        if term is None:
            term = self._engine.term()
        if kind is Kind.ACK:
            if fields[1]:
                self.given.note(term, fields[0] - 1)
        elif kind is Kind.APPEND:
            self.given.note(term, fields[1])
        elif kind in _VOTES:
            self.given.note_vote(term)
        head = m.header(kind, self._group, self._self_id, peer, term)
        (self.held if hold else self.ready).append((peer, [head, m.encode_fields(fields)]))

    def send_beat(
        self,
        peer: int,
        index: int,
        index_term: int,
        *,
        commit: int = 0,
        round: int = 0,
        answer: int = 0,
    ) -> None:
        """Queue a beat; with `answer`, which is what an acknowledgement says, one that answers."""
        kind = ANSWER if answer else BEAT
        term = self._engine.term()
        self.given.note(term, index if answer else commit)
        record = pack(
            kind, answer, self._group, self._self_id, peer, term, index, index_term, commit, round
        )
        node = self._node_of(peer)
        if node is not None:
            self.beats.append((node, record))
