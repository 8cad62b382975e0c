"""What a group and its shard are to each other."""

from __future__ import annotations

from typing import Protocol

from raftmail.consensus.fitness import Fitness


class NotLeader(Exception):
    """This replica does not lead, or is handing its mastership over; `leader` is who does, as far
    as is known."""

    def __init__(self, leader: int | None) -> None:
        super().__init__("not the leader")
        self.leader = leader


class Applier(Protocol):
    """The state machine as the group sees it."""

    def apply(self, index: int, term: int, payload: bytes) -> None:
        """Apply one committed entry; b"" is a no-op. Any exception ends the replica."""

    def may_apply(self) -> bool:
        """Whether committed entries may be applied now. If not, they wait."""

    def holds_blobs(self, payload: bytes, index: int) -> bool:
        """Whether every blob that the entry for `index` names is in the blob store. If so they are
        kept until that index is applied; if not, they are asked for."""

    def want_blobs(self, payload: bytes) -> None:
        """Ask for the blobs of an entry that will be looked at again when they are here."""

    def lacks_bodies(self) -> bool:
        """Whether a body of what is applied is missing here: such a replica does not count as one
        that has everything (G12)."""

    def fitness(self) -> Fitness:
        """How fit this replica is to lead now."""
