"""Stopping a runner while its disk sync is on the way."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any, cast

from raftmail.node.runner import INLINE_SYNC_S, Runner
from raftmail.shard.replica import Replica


class _Replica:
    """Has one sync to make, which takes until it is let go."""

    shard = 1
    has_work = False

    def __init__(self) -> None:
        self.let_go = threading.Event()
        self.is_syncing = False
        self.counters = SimpleNamespace(sync_ms=0.0)
        self.bodies = SimpleNamespace(begin_sync=lambda now: None)
        self.group = SimpleNamespace(term=1, leader=None)

    def step(self, now: float) -> None:
        return

    def take_frames(self) -> list[Any]:
        return []

    def begin_sync(self) -> list[Callable[[], object]]:
        self.is_syncing = True
        return [self.let_go.wait]

    def end_sync(self, now: float) -> None:
        self.is_syncing = False

    def advance(self, now: float) -> None:
        return


def test_a_runner_that_is_stopped_during_a_sync_ends_it_before_it_is_idle() -> None:
    """Else the journal cannot be closed after it."""
    replica = _Replica()

    async def run() -> None:
        loop = asyncio.get_running_loop()
        failed: list[BaseException] = []
        with ThreadPoolExecutor(1) as executor:
            runner = Runner(
                cast(Replica, replica),
                loop,
                executor,
                lambda shard, frame: None,
                failed.append,
                lambda: None,
                lambda: None,
                lambda shard: None,
                sync_s=2 * INLINE_SYNC_S,
            )
            runner.wake()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert replica.is_syncing
            runner.stop()
            replica.let_go.set()
            await runner.idle()
        assert not failed
        assert not replica.is_syncing

    asyncio.run(run())
