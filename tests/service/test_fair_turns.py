"""A few at once, and the lines take turns."""

from __future__ import annotations

import asyncio

from raftmail.service.fair_turns import FairTurns


class Workers:
    """Tasks that say when they have their turn, and end when they are let."""

    def __init__(self, at_once_max: int) -> None:
        self.turns = FairTurns(at_once_max)
        self.began: list[str] = []
        self.may_end = asyncio.Semaphore(0)
        self.tasks: list[asyncio.Task[None]] = []

    async def work(self, line: str, name: str) -> None:
        async with self.turns.turn(line):
            self.began.append(name)
            await self.may_end.acquire()

    async def start(self, *names: str) -> None:
        for name in names:
            self.tasks.append(asyncio.create_task(self.work(name[0], name)))
            await asyncio.sleep(0)

    async def end(self, count: int = 1) -> None:
        for _ in range(count):
            self.may_end.release()
            for _ in range(5):
                await asyncio.sleep(0)

    async def close(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


def test_so_many_work_at_once_and_the_next_waits() -> None:
    async def main() -> None:
        workers = Workers(2)
        await workers.start("a1", "a2", "a3")
        assert (workers.began, workers.turns.waiting) == (["a1", "a2"], 1)
        await workers.end()
        assert (workers.began, workers.turns.waiting) == (["a1", "a2", "a3"], 0)
        await workers.close()

    asyncio.run(main())


def test_a_crowd_in_one_line_lets_others_go_between() -> None:
    async def main() -> None:
        workers = Workers(1)
        await workers.start("a1", "a2", "a3", "a4", "b1", "c1", "b2")
        await workers.end(6)
        assert workers.began == ["a1", "a2", "b1", "c1", "a3", "b2", "a4"]
        await workers.close()

    asyncio.run(main())


def test_who_gives_up_leaves_the_line_and_takes_no_turn() -> None:
    async def main() -> None:
        workers = Workers(1)
        await workers.start("a1", "b1", "b2", "c1")
        workers.tasks[1].cancel()
        workers.tasks[3].cancel()
        await asyncio.sleep(0)
        assert workers.turns.waiting == 1
        await workers.end(2)
        assert workers.began == ["a1", "b2"]
        await workers.start("d1")
        assert workers.began[-1] == "d1", "the turn is free again"
        await workers.close()

    asyncio.run(main())


def test_a_turn_that_was_given_to_one_who_gives_up_goes_on() -> None:
    async def main() -> None:
        workers = Workers(1)
        await workers.start("a1", "b1", "c1")
        workers.may_end.release()
        await asyncio.sleep(0)  # a1 ends, and gives its turn to b1 …
        workers.tasks[1].cancel()  # … who is told before it has run
        for _ in range(5):
            await asyncio.sleep(0)
        assert "c1" in workers.began
        await workers.close()

    asyncio.run(main())
