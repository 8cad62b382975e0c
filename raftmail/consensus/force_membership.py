"""Making one replica the whole of its group, when the others that made a majority are gone for
good.

This is what a group must never do by itself. What only the lost replicas had acknowledged is lost
with them. If they came back with their disks, there would be two groups under one number. So it is
asked for by an operator, who was shown what is at stake, and is done to a journal that nobody has
open.
"""

from __future__ import annotations

from raftmail.consensus.journal import Journal
from raftmail.consensus.members import PREFIX
from raftmail.consensus.membership import Membership


def force_alone(journal: Journal, replica: int, before: Membership, next_id: int) -> Membership:
    """Put an entry at the end of the log by which `replica` is its group's only voter, in a term
    that nobody has had. Durable when it returns. The ids of the others, and those below `next_id`,
    are never used again. Raises ValueError when it is no member, `DiskError`."""
    node = before.nodes.get(replica)
    if node is None:
        raise ValueError(f"replica {replica} is not in the group ({before})")
    alone = Membership({replica: node}, {}, max(before.next_id, next_id))
    term = journal.getCurrentTerm() + 1
    journal.setCurrentTerm(term, None)
    journal.add(PREFIX + alone.encode(), journal.last_index + 1, term)
    while journal.dirty:
        job = journal.begin_sync()
        if job is None:
            break
        job.run()
        journal.end_sync(job)
    return alone
