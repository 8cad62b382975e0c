"""Who goes first between pieces of long work."""

from __future__ import annotations

import asyncio

from raftmail.net.turns import HOPS, after_others


def test_a_short_command_waits_for_one_piece_of_long_work_and_not_for_one_in_each_hop() -> None:
    async def main() -> None:
        pieces = 0

        async def long_work() -> None:
            nonlocal pieces
            for _ in range(20):
                pieces += 1
                await after_others()

        working = asyncio.create_task(long_work())
        await asyncio.sleep(0)
        begun = pieces
        for _ in range(HOPS):
            await asyncio.sleep(0)
        assert pieces - begun <= 1
        await working

    asyncio.run(main())
