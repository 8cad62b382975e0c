"""What replicas of a shard send each other, and what stands in their logs beside requests."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

Frame = tuple[str, str, Sequence[bytes]]
"""A node's name, a `FrameKind`, and the parts of the payload."""

MARK = b"\x02"
"""The payload of a mark: every replica notes its digest at this index. (1 begins a batch of
requests, 3 a membership.)"""

DEEP_MARK = MARK + b"D"
"""One at which every replica also begins to read everything that it has."""


class FrameKind(StrEnum):
    """What replicas of a shard send each other."""

    RAFT = "RAFT"
    # records of `consensus.heartbeats`: of one group, or of all that two nodes have in common
    BEATS = "BEATS"
    BLOB = "BLOB"  # sha256, body
    BODY = "BODY"  # the same of a long one, which other frames overtake
    HAVE = "HAVE"  # sha256 of a BODY that is on the sender's disk
    WANT = "WANT"  # hashes, 32 bytes each
    SYNC = "SYNC"  # a resync's, see `resync.frames`
    SOON = "SOON"  # hashes of bodies that were asked for, are here, and will come
    GONE = "GONE"  # applied index (8 bytes), hashes of bodies that no message has there any more
