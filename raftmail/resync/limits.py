"""What a resync may use, and what its errors say."""

from __future__ import annotations

from dataclasses import dataclass


class ResyncError(Exception):
    """A resync cannot go on. The text names the shard, the peer and what is wrong. `elsewhere`:
    with another source it may; there is no need to wait."""

    def __init__(self, shard: int, peer: str, what: str, *, elsewhere: bool = True) -> None:
        super().__init__(f"resync of shard {shard} with {peer}: {what}")
        self.shard = shard
        self.peer = peer
        self.what = what
        self.elsewhere = elsewhere


@dataclass(frozen=True, slots=True)
class ResyncLimits:
    """P7. Times in seconds."""

    rate_bytes_s: int = 0
    """What a source sends to all sinks, after compression; 0 is without a limit."""

    busy_rate_bytes_s: int = 4 << 20
    """The same while clients write to the shard, so that they keep most of their throughput; 0 is
    without a limit."""

    rate_burst_bytes: int = 256 << 10
    sources_max: int = 2
    """Sinks that one replica serves at a time."""

    requests_max: int = 64
    """Requests under way: with `answer_bytes`, the window of what is in flight."""

    answer_bytes: int = 128 << 10
    """An answer ends with the row that reaches this."""

    answer_rows_max: int = 4096
    message_bytes_max: int = (256 << 20) + (1 << 20)
    """A whole answer: the largest body, and a little."""

    body_request_bytes: int = 256 << 10
    bodies_parallel: int = 24
    """Requests for bodies under way: what is in flight, and what an awaited body has before it."""

    bodies_in_flight_bytes_max: int = 8 << 20
    """Bodies that were asked for and have not come; one alone may be longer."""

    bodies_unsynced_bytes_max: int = 32 << 20
    """Received bodies that wait for the blob store's sync."""

    mailboxes_parallel: int = 48
    commit_rows: int = 20_000
    """Rows after which a half resync is committed, under its mark."""

    commit_bytes: int = 16 << 20
    step_rows: int = 2048
    """About as many rows are looked at or written in one step."""

    step_bytes: int = 256 << 10
    probe_s: float = 2.0
    """A sink that has asked nothing for so long asks whether the source still knows of the
    session."""

    silence_s: float = 10.0
    """How long the other end may say nothing at all, not even to that."""

    stall_s: float = 60.0
    """How long a source may let a sink wait for an answer, although it is there."""

    retry_first_s: float = 0.5
    retry_max_s: float = 60.0
    """Between two tries, doubling."""

    refused_max_s: float = 5.0
    """The same when all that were asked refuse: to ask costs little, and they may be whole, or
    free, a moment later."""
