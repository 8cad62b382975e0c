"""What change of a group's membership its leader may put into the log now (guard G12).

Two majorities of consecutive memberships always meet when one voter differs. No other leader can
have put a change of its own between them when an entry of the own term is committed. (Raft
dissertation, section 4.1, and the correction of 2015 to it.) That keeps what is committed. That a
lost machine loses nothing takes more: whoever is counted as having everything must have every body,
too, but for those that come with the few entries that it still lacks. So the log keeps those until
the change is committed (`Group.keeps_log`).
"""

from __future__ import annotations

from typing import Final, Protocol

from raftmail.consensus.engine import Engine
from raftmail.consensus.followers import Followers
from raftmail.consensus.journal import Journal
from raftmail.consensus.members import Members
from raftmail.consensus.membership import Membership

CAUGHT_UP_ENTRIES: Final = 64
"""How many of the newest entries a replica may still lack that is counted as having everything."""


class ChangingGroup(Protocol):
    """What a change is decided by; see `group.Group`."""

    self_id: int
    members: Members
    followers: Followers
    engine: Engine
    journal: Journal

    @property
    def accepts(self) -> bool: ...
    @property
    def commit_index(self) -> int: ...
    @property
    def last_index(self) -> int: ...
    def match_index(self, replica: int) -> int: ...


class ChangeRefused(Exception):
    """A change of the membership that may not be made now, or not at all; the text says why."""

    @property
    def reason(self) -> str:
        return str(self)


def check_change(group: ChangingGroup, new: Membership, lacks_bodies: bool) -> None:
    """Raises `ChangeRefused` unless this replica may have `new` follow the membership that is in
    force. `lacks_bodies`: of its own."""
    if not group.accepts:
        raise ChangeRefused("this replica does not lead, or is handing mastership over")
    members = group.members
    if members.index > group.commit_index:
        raise ChangeRefused(f"the change at entry {members.index} is not committed yet")
    if group.commit_index < group.engine.first_index_of_term():
        raise ChangeRefused("no entry of this master's own term is committed yet")
    if new == members.newest:
        raise ChangeRefused("nothing would change")
    try:
        members.newest.check_successor(new)
    except ValueError as e:
        raise ChangeRefused(str(e)) from None
    if group.self_id not in new.voters:
        raise ChangeRefused(
            f"replica {group.self_id} is the master and cannot be removed: transfer mastership "
            f"first"
        )
    for replica in new.voters.keys() - members.voters:
        why = _lacks(group, replica)
        if why:
            raise ChangeRefused(f"replica {replica} {why}")
    if members.voters - new.voters.keys():
        _check_who_stays(group, new, lacks_bodies)


def _check_who_stays(group: ChangingGroup, new: Membership, lacks_bodies: bool) -> None:
    reasons = {replica: _lacks(group, replica) for replica in new.voters}
    reasons[group.self_id] = "lacks bodies" if lacks_bodies else ""
    lacking = [f"replica {replica} {why}" for replica, why in reasons.items() if why]
    if 2 * len(lacking) >= len(new.voters):
        raise ChangeRefused(f"no majority of those that stay has everything: {', '.join(lacking)}")


def _lacks(group: ChangingGroup, replica: int) -> str:
    """Why another replica does not count as one that has everything; "": it does."""
    followers = group.followers
    if replica not in followers or not followers.is_connected(replica):
        return "is not connected"
    if not followers.answers(replica):
        return "has not answered lately"
    match = group.match_index(replica)
    lag = group.last_index - match
    if lag > CAUGHT_UP_ENTRIES:
        return f"lacks {lag} entries"
    if match < group.journal.begins_at:
        # A resync brings it to where the log begins, and bodies do not come with that; with entries
        # of the log they do.
        return "lacks entries that the log does not have any more"
    return "" if followers.is_whole(replica) else "has not said that it has all bodies"
