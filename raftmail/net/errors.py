"""Where an error ends: with one connection, with one piece of work, or with the process.

docs/adr/0001-what-ends-what.md has the policy. Nothing here renders an object other than the error
itself: the default handler of an event loop renders callbacks and what they belong to, which may
take for ever.
"""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
import traceback
from collections.abc import Callable, Coroutine, Mapping
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, cast

_log = logging.getLogger(__name__)

TRACEBACK = "RAFTMAIL_TRACEBACK"
"""The environment variable that asks for tracebacks in the log, whatever it holds."""

TEXT_CHARS_MAX = 300
"""Of an error's own text in a line of the log."""

P = ParamSpec("P")
R = TypeVar("R")


class Contained(Protocol):
    """A connection, or whatever else ends alone when one of its callbacks fails."""

    def failed(self, error: Exception) -> None:
        """End it, and say so in one line."""


T = TypeVar("T", bound=Contained)


def contained(method: Callable[Concatenate[T, P], R]) -> Callable[Concatenate[T, P], R | None]:
    """A callback of the event loop that belongs to one connection: an error in it ends that
    alone."""

    @wraps(method)
    def call(self: T, *args: P.args, **kwargs: P.kwargs) -> R | None:
        try:
            return method(self, *args, **kwargs)
        except Exception as error:
            end_with(self, error)
            return None

    return cast("Callable[Concatenate[T, P], R | None]", call)


def end_with(one: Contained, error: Exception) -> None:
    """Have a connection end over an error, whatever comes of that."""
    try:
        one.failed(error)
    except Exception as second:
        tell(_log, "a connection failed, and could not be ended", second)


def describe(error: BaseException) -> str:
    """An error in one line: its kind, its text, and where it was raised."""
    text = " ".join(str(error).split())[:TEXT_CHARS_MAX]
    where = place_of(error)
    kind = type(error).__name__
    return f"{kind}{': ' if text else ''}{text}{f' (at {where})' if where else ''}"


def place_of(error: BaseException) -> str:
    """File and line that raised it, `""` when it was never raised."""
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return ""
    own = [frame for frame in frames if "raftmail" in frame.filename]
    frame = (own or frames)[-1]
    parts = frame.filename.split(os.sep)
    return f"{'/'.join(parts[-3:])}:{frame.lineno}"


def tell(
    logger: logging.Logger, what: str, error: BaseException, level: int = logging.ERROR
) -> None:
    """Log an error in one line, with the traceback where `TRACEBACK` asks for it."""
    wanted = error if TRACEBACK in os.environ else None
    logger.log(level, "%s: %s", what, describe(error), exc_info=wanted)


class LoopErrors:
    """An event loop's exception handler. Errors that name a transport end that connection; every
    other ends the process by `fatal`."""

    def __init__(self, fatal: Callable[[BaseException], None]) -> None:
        self._fatal = fatal

    def install(self, loop: asyncio.AbstractEventLoop) -> None:
        """Be the handler of a loop."""
        loop.set_exception_handler(self.handle)

    def handle(self, loop: asyncio.AbstractEventLoop, context: Mapping[str, Any]) -> None:
        """See `asyncio.loop.set_exception_handler`. Raises nothing."""
        error = context.get("exception")
        if error is None:
            # Its text may name a callback: only what stands before the first sign of one is taken.
            text = str(context.get("message", "")).partition("<")[0][:TEXT_CHARS_MAX]
            _log.warning("the event loop says: %s", text)
        elif _is_connections(context, error):
            transport = context.get("transport")
            if isinstance(error, ConnectionError | ssl.SSLError | TimeoutError):
                _log.info("a connection ended: %s", describe(error))
            else:
                tell(_log, "a connection failed and is closed", error)
            abort = getattr(transport, "abort", None)
            if abort is not None:
                try:
                    abort()
                except Exception as second:
                    tell(_log, "a connection could not be closed", second)
        else:
            self._fatal(error)


def _is_connections(context: Mapping[str, Any], error: BaseException) -> bool:
    if context.get("transport") is not None or context.get("protocol") is not None:
        return True
    return isinstance(error, ConnectionError | ssl.SSLError)


def start_task(
    loop: asyncio.AbstractEventLoop,
    work: Coroutine[Any, Any, R],
    failed: Callable[[Exception], None] | None = None,
) -> asyncio.Task[R]:
    """Run as a task whose error is noticed: `failed` is called with it, or without `failed` the
    loop's handler, which ends the process. Whoever starts it keeps the task, as the loop alone
    would not."""
    task = loop.create_task(work)

    def ended(done: asyncio.Task[R]) -> None:
        if done.cancelled():
            return
        error = done.exception()
        if error is None:
            return
        if failed is not None and isinstance(error, Exception):
            failed(error)
        else:
            loop.call_exception_handler({"message": "a task failed", "exception": error})

    task.add_done_callback(ended)
    return task
