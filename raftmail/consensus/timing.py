"""Raft's times."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timing:
    """Raft's times in seconds. A leader that reached no majority for `fallback_s` steps down."""

    heartbeat_s: float = 0.1
    election_min_s: float = 0.4
    election_max_s: float = 0.8
    fallback_s: float = 0.8
    link_lost_min_s: float = 0.05
    link_lost_max_s: float = 0.2
    transfer_s: float = 2.0
    parked_s: float = 5.0

    def __post_init__(self) -> None:
        if not 0 < self.heartbeat_s * 3 < self.election_min_s < self.election_max_s:
            raise ValueError(
                "raft times: three heartbeats must be shorter than the shortest election timeout, "
                "and that "
                f"shorter than the longest (heartbeat {self.heartbeat_s} s, election "
                f"{self.election_min_s} "
                f"to {self.election_max_s} s)"
            )
