"""How fit a replica is to lead its group, as elections and hand-overs see it."""

from __future__ import annotations

from enum import IntEnum
from typing import Final


class Fitness(IntEnum):
    """`shard.status` derives it from what the replica is under."""

    ABLE = 0
    """It leads like any other."""
    LAST_RESORT = 1
    """It leads only while nobody able does: it stands late, hands over to who is able, and is
    handed nothing."""
    UNFIT = 2
    """It never leads."""


PATIENCE_TIMEOUTS: Final = 4
"""A replica that is only a last resort waits for so many of the longest election timeouts without a
leader before it stands."""

HAND_OVER_ENTRIES: Final = 64
"""Nobody is handed the leader's place who lacks more of the newest entries: proposals wait while
they come."""
