"""Which entries of the log count as held by this replica: those whose bodies are here too (`Bodies`); the group is told which are not
(`Group.withhold`)."""

from __future__ import annotations

import logging

from raftmail.consensus.engine import REGULAR
from raftmail.consensus.group import Group
from raftmail.consensus.membership import KIND as MEMBERSHIP
from raftmail.shard.bodies import Bodies
from raftmail.shard.frames import MARK
from raftmail.shard.machine import Machine

logger = logging.getLogger(__name__)

WITHOUT_BODIES = (MARK, MEMBERSHIP)
"""The kinds of entries that name none."""


def look_at_log(group: Group, bodies: Bodies, keep_to: int) -> None:
    """At the start, before the first message: pin what the log names. What never was acknowledged is cut off, for it must not be now; what
    may have been (up to `keep_to`, see `rescue`) is withheld until its bodies have come."""
    never_held = pin_log(group, bodies, keep_to)
    if never_held:
        logger.info(
            "shard %d: the log is cut at %d, whose bodies were lost", group.group, never_held
        )
        group.forget_from(never_held)
        bodies.forget_missing()
    if check_withheld(group, bodies):
        logger.warning(
            "shard %d: %d entries of the log wait for bodies that are lost here; "
            "they do not count as being here until others have given them",
            group.group,
            len(bodies.withheld),
        )


def go_back(machine: Machine, group: Group, bodies: Bodies, keep_to: int) -> None:
    """To the index's last commit: what came after it is applied again. Raises `TableDamaged` when there is no way back."""
    machine.abort()
    bodies.reload()
    group.rewind_applied(machine.applied_index)
    pin_log(group, bodies, keep_to)  # before a step of the reclaiming
    check_withheld(group, bodies)


def pin_log(group: Group, bodies: Bodies, keep_to: int) -> int:
    """Pin the bodies of the entries that are to be applied. Returns the first entry that must not be acknowledged, or 0."""
    entries = _entries_after(group, group.applied_index)
    return bodies.pin_log(entries, group.commit_index, keep_to)


def check_withheld(group: Group, bodies: Bodies) -> bool:
    """See that entries that lack bodies are acknowledged only when they have them. True while there are any. Who is alone among the
    voters has nobody to get them from, and goes on without."""
    first = bodies.first_withheld(group.journal, group.applied_index)
    group.withhold(first if group.members.other_voters else 0)
    return first > 0


def withhold_lost(group: Group, bodies: Bodies) -> None:
    """Bodies that entries name were found lost. Entries that are committed are on other disks, bodies and all; of others this may be the
    only copy."""
    committed = max(group.applied_index, group.commit_index)
    bodies.withhold_lost(_entries_after(group, committed))
    check_withheld(group, bodies)


def _entries_after(group: Group, index: int) -> list[tuple[int, int, bytes]]:
    """Index, term and payload of the entries that may name bodies."""
    if index >= group.last_index:
        return []
    return [
        (at, term, command[1:])
        for command, at, term in group.entries(index + 1, group.last_index)
        if command[:1] == REGULAR and command[1:2] not in WITHOUT_BODIES
    ]
