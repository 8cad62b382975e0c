"""What a replica keeps within limits (P7), and what it counts."""

from __future__ import annotations

from dataclasses import dataclass, field

from raftmail.resync.limits import ResyncLimits
from raftmail.resync.scrub import ScrubLimits
from raftmail.shard.bodies import BodyLimits
from raftmail.shard.log_retention import LogLimits


@dataclass(frozen=True, slots=True)
class ReplicaLimits:
    """P7: what may wait here, and how much becomes one entry."""

    waiting_requests_max: int = 65536
    stream_s: float = 20.0
    """How long a request with a long body waits for a majority to have it; it fails then."""
    stream_lost_s: float = 15.0
    """After so long without an acknowledgement a long body is sent again."""
    entry_requests_max: int = 1024
    entry_bytes_max: int = 1 << 20
    entries_in_flight_max: int = 4
    pipelined_requests_min: int = 64
    pipelined_bytes_min: int = 256 << 10
    index_commit_requests_max: int = 8192
    index_commit_bytes_max: int = 64 << 20
    index_commit_s: float = 2.0
    """A commit waits for the disk, in every replica, whatever is in it. What a crash loses of the
    index is applied again from the log."""
    index_retry_s: float = 1.0
    make_way_s: float = 5.0
    """How long after a hand-over that came to nothing a leader that may not lead tries the next."""

    space_again_s: float = 2.0
    """How long there must have been space before writes are taken again: what is known of it may be
    a second old."""

    log: LogLimits = field(default_factory=LogLimits)
    log_look_s: float = 1.0
    bodies: BodyLimits = field(default_factory=BodyLimits)
    resync: ResyncLimits = field(default_factory=ResyncLimits)
    scrub: ScrubLimits = field(default_factory=ScrubLimits)


@dataclass(slots=True)
class Counters:
    """What happened since the start; for status and metrics."""

    requests: int = 0
    entries: int = 0
    index_commits: int = 0
    bad_frames: int = 0
    answers_failed: int = 0
    sync_ms: float = 0.0  # a running average
