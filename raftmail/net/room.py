"""Room for what is about to be read, in a budget that many share."""

from __future__ import annotations

import asyncio
from typing import Final

from raftmail.mail.budget import Budget

_LOOK_S: Final = 0.1
"""How often it is looked whether there is room."""


async def take_room(budget: Budget, count: int, deadline_s: float) -> bool:
    """Count bytes in a budget, as soon as others leave room for them; whoever takes them gives them
    back. False, and nothing is counted, when there is none within the deadline."""
    left_s = deadline_s
    while not budget.take(count):
        if left_s <= 0:
            return False
        left_s -= _LOOK_S
        await asyncio.sleep(_LOOK_S)
    return True
