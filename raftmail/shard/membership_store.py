"""Which membership of its group a replica stands at: kept in the index's meta table, with the index
of its entry (guard G12)."""

from __future__ import annotations

from raftmail.consensus.journal import Journal
from raftmail.consensus.membership import BadMembership, Membership
from raftmail.storage.index import MEMBERSHIP, Index
from raftmail.storage.records import IndexDamaged

Standing = tuple[int, Membership]
"""The index of a membership's entry, and the membership. Index 1: what the group was founded with;
0: what somebody said."""


def kept(index: Index) -> Standing | None:
    """What the index keeps: in force at its applied index. Raises `IndexDamaged`."""
    if index.membership is None:
        return None
    at, encoded = index.membership
    try:
        return at, Membership.decode(encoded)
    except BadMembership as e:
        raise IndexDamaged("meta", MEMBERSHIP, str(e)) from None


def standing_at_start(
    index: Index, journal: Journal, replica: int, told: Membership, *, first: bool = False
) -> Standing:
    """What a replica's group is made with. `told` is what the creator knows: of a founder the
    founding membership, equal on all founders; of a joining replica one in which it is a learner.
    Used once, by a new replica, which keeps it before it takes part; after that the index knows.
    Raises `IndexDamaged`, `DiskError`.

    An index that was lost does not know, and what others say may be older or newer than what the
    log had. Such a replica stands for no election until the log or a resync has told it. It may
    stand at once if `told` is what it was made with (`first`), and the log begins there.
    """
    found = kept(index)
    if found is not None:
        return found
    lost = index.applied_index <= 1 < journal.last_index
    if lost and (journal.begins_at or not first):
        return 0, told
    at = 1 if replica in told.voters else 0
    index.put_membership(at, told.encode())
    index.commit_durable()
    return at, told
