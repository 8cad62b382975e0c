"""Errors end with a connection, a task or the process, and nothing but the error is rendered."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, NoReturn

import pytest
import uvloop

from raftmail.net.errors import (
    TRACEBACK,
    LoopErrors,
    contained,
    describe,
    start_task,
    tell,
)


class Unshowable:
    """What must never be rendered."""

    def __repr__(self) -> NoReturn:
        raise AssertionError("it was rendered")

    def fail(self) -> None:
        raise KeyError("what is missing")

    async def fail_later(self) -> None:
        raise KeyError("what is missing")


def _fatal_of(start: Callable[[asyncio.AbstractEventLoop], Any], *, uv: bool) -> list[str]:
    """What the process would end with, after something was begun on a loop."""
    fatal: list[str] = []

    async def run() -> None:
        loop = asyncio.get_running_loop()
        LoopErrors(lambda error: fatal.append(describe(error))).install(loop)
        kept = start(loop)
        for _ in range(5):
            await asyncio.sleep(0)
        del kept

    with asyncio.Runner(loop_factory=uvloop.new_event_loop if uv else None) as runner:
        runner.run(run())
    return fatal


def test_an_error_of_no_connection_ends_the_process_whatever_it_came_from() -> None:
    one = Unshowable()
    begin: list[Callable[[asyncio.AbstractEventLoop], Any]] = [
        lambda loop: loop.call_soon(one.fail),
        lambda loop: loop.call_later(0.0, one.fail),
        lambda loop: start_task(loop, one.fail_later()),
    ]
    for start in begin:
        (text,) = _fatal_of(start, uv=False)
        assert text.startswith("KeyError: 'what is missing' (at tests/net/test_errors.py:")


def test_on_uvloop_a_task_that_fails_ends_the_process() -> None:
    (text,) = _fatal_of(lambda loop: start_task(loop, Unshowable().fail_later()), uv=True)
    assert text.startswith("KeyError")


def test_an_error_with_a_transport_ends_that_connection_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Transport:
        aborted = False

        def abort(self) -> None:
            self.aborted = True

    fatal: list[BaseException] = []
    transport = Transport()
    loop = asyncio.new_event_loop()
    LoopErrors(fatal.append).handle(
        loop,
        {
            "message": f"Fatal error on {object()!r}",
            "exception": TypeError("x"),
            "transport": transport,
            "protocol": Unshowable(),
        },
    )
    loop.close()
    assert transport.aborted
    assert fatal == []
    assert [record.getMessage() for record in caplog.records] == [
        "a connection failed and is closed: TypeError: x"
    ]


def test_a_message_without_an_error_is_told_without_what_it_shows(
    caplog: pytest.LogCaptureFixture,
) -> None:
    loop = asyncio.new_event_loop()
    context = {"message": "Executing <Handle ...> took 3 s", "handle": Unshowable()}
    LoopErrors(lambda _: None).handle(loop, context)
    loop.close()
    assert caplog.messages == ["the event loop says: Executing "]


class Conn:
    """Contained, and unable to end itself."""

    ended: Exception | None = None

    @contained
    def received(self, data: bytes) -> int:
        return 10 // len(data)

    def failed(self, error: Exception) -> None:
        self.ended = error
        raise RuntimeError("cannot even end")


def test_a_contained_callback_raises_nothing_even_when_its_end_fails(
    caplog: pytest.LogCaptureFixture,
) -> None:
    one = Conn()
    assert one.received(b"12345") == 2
    assert one.received(b"") is None
    assert isinstance(one.ended, ZeroDivisionError)
    assert "could not be ended: RuntimeError: cannot even end" in caplog.messages[0]


def test_a_task_of_a_connection_tells_it_of_its_error() -> None:
    told: list[Exception] = []

    async def run() -> None:
        loop = asyncio.get_running_loop()
        await asyncio.wait({start_task(loop, Unshowable().fail_later(), told.append)})
        await asyncio.sleep(0)

    asyncio.run(run())
    assert [type(error) for error in told] == [KeyError]


def test_a_traceback_is_written_only_where_it_is_asked_for(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    logger = logging.getLogger("x")
    monkeypatch.delenv(TRACEBACK, raising=False)
    tell(logger, "it failed", ValueError("a\nb"))
    monkeypatch.setenv(TRACEBACK, "1")
    tell(logger, "it failed", ValueError("a\nb"))
    assert caplog.messages == ["it failed: ValueError: a b"] * 2
    assert [bool(record.exc_info) for record in caplog.records] == [False, True]
