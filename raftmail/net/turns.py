"""Long work in pieces, between which others go first."""

from __future__ import annotations

import asyncio
from typing import Final

HOPS: Final = 4
"""Turns of the loop that a short command takes before it waits for another node, or after that: its
task begins or goes on, and what it says is flushed."""


async def after_others() -> None:
    """Between two pieces of long work: go on once others have done what they can do now.

    One turn of the loop would be too few. A short command needs several, and would wait for as many
    pieces. Where nobody else has anything to do, this costs some microseconds."""
    for _ in range(HOPS):
        await asyncio.sleep(0)
