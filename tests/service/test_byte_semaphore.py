"""Room in bytes, for which work waits in order."""

from __future__ import annotations

import asyncio

from raftmail.service.byte_semaphore import ByteSemaphore


def test_who_came_first_is_served_first_and_one_alone_always_is() -> None:
    async def run() -> list[str]:
        room = ByteSemaphore(10)
        told: list[str] = []

        async def work(name: str, size: int) -> None:
            async with room.taken(size):
                told.append(f"+{name} {room.used_bytes}")
                await asyncio.sleep(0)
                await asyncio.sleep(0)
            told.append(f"-{name}")

        await asyncio.gather(work("large", 100), work("a", 6), work("b", 5), work("c", 1))
        assert room.used_bytes == 0
        return told

    begun = [one for one in asyncio.run(run()) if one[0] == "+"]
    assert begun == ["+large 100", "+a 6", "+b 6", "+c 6"]


def test_who_gives_up_while_it_waits_keeps_nobody_waiting() -> None:
    async def run() -> None:
        room = ByteSemaphore(10)
        inside = asyncio.Event()
        leave = asyncio.Event()
        done = []

        async def hold(size: int, name: str) -> None:
            async with room.taken(size):
                inside.set()
                done.append(name)
                await leave.wait()

        first = asyncio.create_task(hold(6, "first"))
        await inside.wait()
        wide = asyncio.create_task(hold(9, "wide"))
        small = asyncio.create_task(hold(4, "small"))
        await asyncio.sleep(0)
        assert done == ["first"]
        wide.cancel()
        await asyncio.sleep(0.01)
        assert done == ["first", "small"] and room.used_bytes == 10
        leave.set()
        await asyncio.gather(first, small, wide, return_exceptions=True)
        assert room.used_bytes == 0

    asyncio.run(run())
