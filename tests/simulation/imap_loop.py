"""An event loop in simulated time: what sessions of a node run on, in the turns that the node has.

It knows what tasks and futures ask of a loop, and nothing else. Work of a node that died is never
done; that of one that is paused waits.
"""

from __future__ import annotations

import asyncio
import contextvars
from asyncio.events import _set_running_loop
from collections.abc import Callable, Coroutine
from typing import Any, cast

from tests.simulation.node import SimNode


class SimLoop:
    """`fault` is what a node's disk raised inside a task: it ends the node, not the task."""

    def __init__(self, node: SimNode) -> None:
        self.node = node
        self.life = node.life
        self.fault: BaseException | None = None
        self._tasks: dict[asyncio.Task[None], Coroutine[Any, Any, None]] = {}
        self._as_loop = cast(asyncio.AbstractEventLoop, self)

    def time(self) -> float:
        return self.node.now

    def get_debug(self) -> bool:
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """A task that was left pending when its node died is told here; that is as it should be."""

    def call_soon(
        self,
        callback: Callable[..., Any],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.Handle:
        return self._schedule(0.0, callback, args, context)

    def call_later(
        self,
        delay: float,
        callback: Callable[..., Any],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        return self._schedule(delay, callback, args, context)

    def call_at(
        self,
        when: float,
        callback: Callable[..., Any],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        return self._schedule(max(0.0, when - self.node.now), callback, args, context)

    def run_in_executor(
        self, executor: None, work: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """What a thread would do beside is done at once."""
        future = self.create_future()
        future.set_result(work(*args))
        return future

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self._as_loop)

    def create_task(self, coro: Any, **kwargs: Any) -> asyncio.Task[Any]:
        return asyncio.Task(coro, loop=self._as_loop, **kwargs)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """A task that is kept until it ends. An error that it raises ends the run."""
        task = asyncio.Task(work, loop=self._as_loop)
        self._tasks[task] = work
        task.add_done_callback(self._ended)
        return task

    def abandon(self) -> None:
        """The node is gone: what was under way never goes on."""
        for work in self._tasks.values():
            work.close()
        self._tasks.clear()

    def run(self, work: Callable[[], Any]) -> None:
        """Do something of the node's as a callback of this loop is done."""
        before = asyncio._get_running_loop()
        _set_running_loop(self._as_loop)
        try:
            work()
        finally:
            _set_running_loop(before)
        if self.fault is not None:
            fault, self.fault = self.fault, None
            raise fault

    def _schedule(
        self,
        delay: float,
        callback: Callable[..., Any],
        args: tuple[Any, ...],
        context: contextvars.Context | None,
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(self.node.now + delay, callback, args, self._as_loop, context)
        chosen = contextvars.copy_context() if context is None else context

        def due() -> None:
            if self.node.life == self.life and not handle.cancelled():
                self.run(lambda: chosen.run(callback, *args))

        self.node._later(delay, due)
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """See `asyncio.BaseEventLoop`; a cancelled handle does nothing when it is due."""

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        if not task.cancelled() and task.exception() is not None:
            self.fault = task.exception()
