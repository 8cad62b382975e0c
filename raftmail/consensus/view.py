"""What can be seen of a group from outside, under names of the field."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Any

from raftmail.consensus.appends import Diverged
from raftmail.consensus.election import Elections
from raftmail.consensus.engine import APPLIED_INDEX, COMMIT_INDEX, TERM, Engine
from raftmail.consensus.followers import Followers
from raftmail.consensus.following import Following
from raftmail.consensus.journal import Entry, Journal
from raftmail.consensus.members import Members
from raftmail.consensus.membership import Membership
from raftmail.consensus.outbox import Outbox
from raftmail.consensus.proof import Proof


def _read(path: str) -> Any:
    """A property that needs no call in Python: whoever drives a group reads these all the time."""
    return property(attrgetter(path))


class GroupView:
    """The reading side of `group.Group`, which owns the parts."""

    self_id: int
    journal: Journal
    engine: Engine
    elections: Elections
    proof: Proof
    followers: Followers
    members: Members
    _following: Following
    _links: set[str]
    _refused: int
    _transfer: tuple[int, float] | None
    _out: Outbox

    term: int = _read(f"engine.{TERM}")
    is_leader: bool = _read("engine.leads")
    commit_index: int = _read(f"engine.{COMMIT_INDEX}")
    applied_index: int = _read(f"engine.{APPLIED_INDEX}")
    membership: Membership = _read("members.newest")
    """The newest in the log, which is in force."""
    voters: frozenset[int] = _read("members.voters")
    """The replicas that majorities are counted in."""

    @property
    def leader(self) -> int | None:
        return self.engine.leader()

    @property
    def may_apply(self) -> bool:
        """Whether an entry is committed, and on the disk here, that is not applied."""
        applied = self.engine.applied_index()
        return applied < self.engine.commit_index() and applied < self.journal.synced_index

    @property
    def committed_membership(self) -> Membership:
        """The newest that is committed: it was in force on a majority, and will not be taken back."""
        return self.members.committed(self.commit_index)[1]

    @property
    def removed(self) -> bool:
        """Whether this replica is known to be no member any more, and for ever: by its own log, or because a leader said so."""
        return self.elections.removed or self.members.was_removed(self.self_id, self.commit_index)

    def progress(self) -> dict[int, int]:
        """Of a leader: up to where each other member's disk is known to hold the log."""
        return {peer: self.engine.match_index(peer) for peer in self.followers}

    @property
    def refused(self) -> int:
        """Messages that were not taken, for what they said."""
        return self._refused + self._following.refused

    @property
    def last_index(self) -> int:
        return self.journal.last_index

    @property
    def entries_in_flight(self) -> int:
        """Of a leader: entries that no majority is known to hold yet, whether or not the commit index has followed."""
        engine = self.engine
        last, commit = self.journal.last_index, engine.commit_index()
        if commit == last:
            return 0
        held = self.followers.majority_index(engine.held_index())
        return last - max(held, commit)

    @property
    def has_beats(self) -> bool:
        """Whether `take_beats` would give any."""
        return bool(self._out.beats)

    @property
    def has_output(self) -> bool:
        """Whether `take_messages` or `take_beats` would give any."""
        out = self._out
        return bool(out.ready or out.beats)

    @property
    def has_held_messages(self) -> bool:
        """Whether any wait for a sync."""
        return bool(self._out.held)

    @property
    def accepts(self) -> bool:
        """Whether `propose` would be taken now."""
        return self.engine.leads and self._transfer is None

    @property
    def keeps_log(self) -> bool:
        """Whether the log must not be trimmed: a change is not committed, which counts on replicas to take from it what they lack."""
        return self.members.index > self.commit_index

    @property
    def is_settled(self) -> bool:
        """Whether it is known that this replica has everything that it ever promised (G13)."""
        journal = self.journal
        last = journal.last_index
        return self.proof.is_settled(journal.term_of(last), last)

    def match_index(self, peer: int) -> int:
        """Of a leader: up to where a follower's disk is known to hold the log."""
        return self.engine.match_index(peer)

    def lacks(self, index: int, term: int) -> bool:
        """Whether the own state is behind the one at an entry, or stands there by a log that begins with another entry: one that was never
        committed, after which the log was begun anew because it could not be read any more (`Journal.mend`)."""
        applied = self.engine.applied_index()
        return index > applied or (index == applied > 0 and self.journal.term_of(index) != term)

    def entries(self, first: int, last: int) -> Sequence[Entry]:
        """(command, index, term) of the log from `first` to `last`."""
        return self.journal.entries(first, last)

    @property
    def contradiction(self) -> tuple[float, Diverged] | None:
        """When an append contradicted what is committed here, the last time, and how; it was refused. None: it never happened."""
        return self._following.contradiction

    @property
    def has_parked(self) -> bool:
        """Whether appends wait for blobs."""
        return bool(self._following.parked)

    def is_linked(self, node: str) -> bool:
        """Whether there is a link to a node."""
        return node in self._links

    def node_of(self, replica: int) -> str | None:
        """The node that a replica is on, as far as is known."""
        return self.members.node_of(replica)
