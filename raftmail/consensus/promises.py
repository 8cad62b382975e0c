"""What other replicas promised to this one: the memory by which a disk that went back in time is
recognised (guard G13).

A promise is a pair (term, index). (5, 80) says: this replica took part in term 5, and its disk held
the log of that term's leader up to entry 80. The index is 0 where it only voted. Promises of one
replica only grow: its term never goes back, and within a term only the leader of that term could
cut its log, which does not. So a replica whose disk has less than a promise of it has lost that
disk.

The memory stands in the journal (`Journal.keep_promises`) and is written with whatever is synced
there next. So it costs no sync of its own while entries come. Where none come any more, it is
synced within `KEEP_S`.
"""

from __future__ import annotations

from struct import Struct

Promise = tuple[int, int]
"""(term, index)."""

NONE: Promise = (0, 0)
REPLICAS_MAX = 64
"""Replicas whose promises are remembered; those with the oldest go first. A group has far fewer."""
KEEP_S = 1.0
"""For how long a promise may be remembered by the process alone."""

LIVES_MAX = 8
"""Lives of a replica whose questions are known again when they come late."""

_ONE = Struct("<IQQQQQ")


class Given:
    """What this replica promised in this life. Another one may take such a promise for an earlier
    life's: its memory knows lives by questions, and an acknowledgement may overtake the question on
    a new link."""

    __slots__ = ("acknowledged", "term", "voted")

    def __init__(self) -> None:
        self.term = self.acknowledged = self.voted = 0

    def note(self, term: int, index: int) -> None:
        """An acknowledgement in a term or, of a leader, what it calls committed."""
        if term > self.term:
            self.term, self.acknowledged = term, index
        elif term == self.term and index > self.acknowledged:
            self.acknowledged = index

    def note_vote(self, term: int) -> None:
        """A vote or a candidacy."""
        self.voted = max(self.voted, term)

    def covers(self, promise: Promise) -> bool:
        """Whether this life promised as much: then the disk has it, since nothing is promised
        before it is written."""
        term, index = promise
        if not index:
            return term <= self.voted
        return term <= self.term and index <= self.acknowledged


class Promises:
    """The highest promise of each replica, in its present life and in those before. `changed` until
    `encode` was called."""

    def __init__(self, encoded: bytes = b"") -> None:
        """Raises ValueError for bytes that `encode` did not make."""
        if len(encoded) % _ONE.size:
            raise ValueError("promises of other replicas that are cut short")
        self._now: dict[int, Promise] = {}
        self._before: dict[int, Promise] = {}
        self._lives: dict[int, list[int]] = {}
        for replica, life, *now, term, index in _ONE.iter_unpack(encoded):
            self._now[replica] = (now[0], now[1])
            self._before[replica] = (term, index)
            self._lives[replica] = [life]
        self.changed = False

    def note(self, replica: int, term: int, index: int) -> None:
        """Remember a promise, if it is more than what was promised before. Only what the other has
        on its disk is one."""
        now = self._now
        promise = (term, index)
        if promise > now.get(replica, NONE):
            now[replica] = promise
            self.changed = True
            if len(now) > REPLICAS_MAX:
                oldest = min(now, key=now.__getitem__)
                for kept in (now, self._before, self._lives):
                    kept.pop(oldest, None)

    def begin_life(self, replica: int, life: int) -> Promise | None:
        """A replica asks in a life, which a number tells from its others: the highest promise that
        it made before it. None: it is no question of its present life, but one that came late."""
        lives = self._lives.setdefault(replica, [0])
        if life != lives[-1]:
            if life in lives:
                return None
            lives.append(life)
            del lives[:-LIVES_MAX]
            now = self._now.get(replica, NONE)
            self._before[replica] = max(now, self._before.get(replica, NONE))
            self._now[replica] = NONE
            self.changed = True
        return self._before.get(replica, NONE)

    def encode(self) -> bytes:
        """As the journal keeps them."""
        self.changed = False
        before, lives = self._before, self._lives
        return b"".join(
            [
                _ONE.pack(replica, lives.get(replica, (0,))[-1], *now, *before.get(replica, NONE))
                for replica, now in self._now.items()
            ]
        )
