"""Journals that rot at rest: where a start can tell, and what the log was before."""

from __future__ import annotations

from raftmail.consensus.journal import Identity, Journal, JournalLimits
from raftmail.consensus.records import decode_header, find_marks
from raftmail.consensus.replay import list_segments, segment_name
from tests.simulation.nodedisk import NodeDisk, stable_copy

FOLDER = "journal"


def surely_durable(disk: NodeDisk, identity: Identity) -> list[tuple[str, int]]:
    """Segments of a journal, and up to where each was on the disk.

    A mark, or the header of a later segment, says that there. What rots before that, a start has to
    notice; what rots behind it looks like the end of a batch that no sync had covered.
    """
    copy = stable_copy(disk)
    contents = {n: copy.content(segment_name(FOLDER, n)) for n in list_segments(copy, FOLDER)}
    headers = {n: decode_header(content) for n, content in contents.items()}
    claims = [header.durable for header in headers.values() if header is not None]
    for n, content in contents.items():
        claims += find_marks(content, 0, identity.salt(n))
    newest, offset = max(claims, default=(0, 0))
    parts: list[tuple[str, int]] = []
    for n in contents:
        following = headers.get(n + 1)
        if n == newest:
            parts.append((segment_name(FOLDER, n), offset))
        elif n < newest and following is not None and not following.reset:
            parts.append((segment_name(FOLDER, n), following.previous_end))
    return [(path, end) for path, end in parts if end]


def log_of(journal: Journal) -> object:
    """All that a journal says."""
    entries = [journal.entry(i) for i in range(journal.begins_at + 1, journal.last_index + 1)]
    begins_at = journal.begins_at
    base_term = journal.term_of(begins_at) if begins_at else 0
    return begins_at, base_term, entries, journal.synced_hard_state


def log_before_rot(disk: NodeDisk, identity: Identity, limits: JournalLimits) -> object:
    """What a start would find, had nothing rotted."""
    return log_of(Journal.open(disk.as_it_was(), FOLDER, identity, limits, create=False))


__all__ = ["log_before_rot", "log_of", "surely_durable"]
