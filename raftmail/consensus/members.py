"""The memberships that a replica's log holds, and which of them is in force (guard G12; Raft
dissertation, section 4.1).

A membership is in force from when its entry is appended, committed or not: a majority that commits
it may already need it. When the log is cut, the one before is in force again. So all are remembered
from the newest committed one on.
"""

from __future__ import annotations

import logging
from collections.abc import Set as AbstractSet

from raftmail.consensus.engine import REGULAR
from raftmail.consensus.membership import KIND, Membership

logger = logging.getLogger(__name__)

PREFIX = REGULAR + KIND
"""How the command of a membership entry begins."""

STRANGERS_MAX = 32


def membership_of(command: bytes) -> Membership | None:
    """The membership that an entry of the log carries; None of any other entry. Raises
    `BadMembership`."""
    return Membership.decode(command[len(PREFIX) :]) if command.startswith(PREFIX) else None


class Members:
    """Invariants: the kept memberships are in the order of their entries, and the first of them is
    committed.

    `newest`, `index` and `voters` are those of the last, which is in force. Of one with the index
    0, which is none of the log, this replica is no voter.
    """

    def __init__(self, self_id: int, membership: Membership, index: int) -> None:
        self.self_id = self_id
        self._kept = [(index, membership)]
        self._strangers: dict[int, str] = {}
        self._take_last()

    def _take_last(self) -> None:
        self.index, self.newest = self._kept[-1]
        self._names = self.newest.nodes
        self.voters = frozenset(self.newest.voters)
        self.is_voter = self.self_id in self.voters and self.index > 0
        self.other_voters = self.voters - {self.self_id}
        self.others = tuple(replica for replica in self._names if replica != self.self_id)

    def committed(self, commit_index: int) -> tuple[int, Membership]:
        """Index and value of the newest membership that is committed; those before it are
        forgotten."""
        kept = self._kept
        while len(kept) > 1 and kept[1][0] <= commit_index:
            del kept[0]
        return kept[0]

    def append(self, index: int, membership: Membership) -> None:
        """An entry with a membership was put at the end of the log: it is in force."""
        if index <= self.index:
            raise ValueError(f"the membership at {index} does not follow the one at {self.index}")
        self._kept.append((index, membership))
        self._take_last()
        logger.info("from entry %d on: %s", index, membership)

    def cut(self, first: int) -> bool:
        """The log lost its entries from `first` on; whether another membership is in force now."""
        kept = self._kept
        if kept[-1][0] < first:
            return False
        while len(kept) > 1 and kept[-1][0] >= first:
            del kept[-1]
        self._take_last()
        logger.info("the log was cut at %d; in force again: %s", first, self.newest)
        return True

    def jump(self, at: int, index: int, membership: Membership, *, keep_rest: bool) -> None:
        """The log begins anew at `at`, where `membership`, of the entry `index`, is in force; with
        `keep_rest` what follows stays."""
        rest = [one for one in self._kept if one[0] > at] if keep_rest else []
        self._kept = [(index, membership), *rest]
        self._take_last()

    # -- names -------------------------------------------------------------------------------------

    def node_of(self, replica: int) -> str | None:
        """The node that a member is on, or a stranger was heard from."""
        return self._names.get(replica) or self._strangers.get(replica)

    def is_stranger(self, replica: int) -> bool:
        return replica not in self._names

    def meet(self, replica: int, node: str) -> None:
        """Remember where a replica is that is no member here: this log may lag behind, so that its
        leader, or who asks for a vote, is none that it names (Raft dissertation, section 4.1)."""
        strangers = self._strangers
        strangers.pop(replica, None)
        strangers[replica] = node
        while len(strangers) > STRANGERS_MAX:
            del strangers[next(iter(strangers))]

    def knows_node(self, node: str) -> bool:
        return node in self._names.values() or node in self._strangers.values()

    def was_removed(self, replica: int, commit_index: int) -> bool:
        """Whether a replica was a member, and by what is committed is none any more; ids are not
        used again, so it will never be."""
        committed = self.committed(commit_index)[1]
        return (
            replica < committed.next_id and replica not in committed and self.is_stranger(replica)
        )

    # -- counting ----------------------------------------------------------------------------------

    def is_majority(self, ids: AbstractSet[int]) -> bool:
        """Whether these are more than half of the voters; others among them do not count."""
        return 2 * len(ids & self.voters) > len(self.voters)
