"""Room in a budget is waited for, and not for ever."""

from __future__ import annotations

import asyncio

from raftmail.mail.budget import Budget
from raftmail.net.room import take_room


def test_room_is_taken_as_soon_as_others_leave_it() -> None:
    async def main() -> None:
        budget = Budget(100)
        assert budget.take(80)
        waiting = asyncio.create_task(take_room(budget, 40, 30.0))
        await asyncio.sleep(0)
        assert not waiting.done()
        budget.give(80)
        assert await waiting
        assert budget.used_bytes == 40

    asyncio.run(main())


def test_who_finds_no_room_in_time_counts_for_nothing() -> None:
    async def main() -> None:
        budget = Budget(100)
        assert budget.take(80)
        assert not await take_room(budget, 40, 0.15)
        assert budget.used_bytes == 80

    asyncio.run(main())
