"""What a replica tells of its resyncs and its scrub, as values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from raftmail.resync.holders import Holder
from raftmail.resync.scrub import Finding
from raftmail.resync.sink import Progress, ResyncDone


@dataclass(frozen=True, slots=True)
class ScrubStatus:
    """`table` is what is read now. `round_s`: what the last whole round took. `needed_bytes_s`: the
    rate at which a round ends in its period. `findings`: the latest, the newest last."""

    rounds: int
    table: str
    read_bytes: int
    round_s: float
    is_late: bool
    rate_bytes_s: int
    needed_bytes_s: int
    findings: Sequence[Finding]


@dataclass(frozen=True, slots=True)
class ResyncStatus:
    """`missing_*` are bodies that are fetched, `lost_bodies` those that no replica has, of messages
    that `holders_of_lost` name. `served` are nodes that are brought back from here, and how many
    bytes each was sent. `last` is the session that ended well last.

    `is_wanted`: a session is under way, failed, or is to begin; `progress`, `error` and `retry_s`
    tell of it."""

    missing_bodies: int
    missing_bytes: int
    lost_bodies: int
    holders_of_lost: Sequence[Holder]
    served: Sequence[tuple[str, int]]
    scrub: ScrubStatus
    last: ResyncDone | None
    is_wanted: bool
    progress: Progress
    error: str | None
    retry_s: float | None
