"""Journals that rot at rest: where a start can tell, and what the log was before."""

from __future__ import annotations

from raftmail.consensus.journal import Identity, Journal, JournalLimits
from raftmail.consensus.replay import list_segments, segment_name
from raftmail_chaos.rot import surely_durable
from tests.simulation.nodedisk import NodeDisk, stable_copy

FOLDER = "journal"


def durable_parts(disk: NodeDisk) -> list[tuple[str, int]]:
    """Segments of a journal, and up to where each was on the disk (`raftmail_chaos.rot`)."""
    copy = stable_copy(disk)
    contents = {n: copy.content(segment_name(FOLDER, n)) for n in list_segments(copy, FOLDER)}
    return [(segment_name(FOLDER, n), end) for n, end in surely_durable(contents).items()]


def log_of(journal: Journal) -> object:
    """All that a journal says."""
    entries = [journal.entry(i) for i in range(journal.begins_at + 1, journal.last_index + 1)]
    begins_at = journal.begins_at
    base_term = journal.term_of(begins_at) if begins_at else 0
    return begins_at, base_term, entries, journal.synced_hard_state


def log_before_rot(disk: NodeDisk, identity: Identity, limits: JournalLimits) -> object:
    """What a start would find, had nothing rotted."""
    return log_of(Journal.open(disk.as_it_was(), FOLDER, identity, limits, create=False))


__all__ = ["durable_parts", "log_before_rot", "log_of"]
