"""The turns of a replica: phases follow each other, and none is left out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest

from raftmail.shard.driver import Driver, Phase
from raftmail.shard.frames import FrameKind
from raftmail.shard.replica import BackgroundJob, Replica


class Scripted:
    """A replica that notes what it is asked."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.needs_turn = self.has_work = self.request_needs_turn = False
        self.deadline = 5.0
        self.jobs = 2

    def step(self, now: float) -> None:
        self.log.append("step")

    def begin_sync(self) -> list[Callable[[], None]]:
        self.log.append("begin_sync")
        return [lambda: self.log.append("job")] * self.jobs

    def end_sync(self, now: float) -> None:
        self.log.append("end_sync")

    def advance(self, now: float) -> None:
        self.log.append("advance")

    def begin_background(self, now: float) -> list[BackgroundJob]:
        self.log.append("begin_background")
        return [BackgroundJob(lambda: self.log.append("run"), lambda: self.log.append("end"))]

    def tick(self, now: float) -> float:
        self.log.append("tick")
        return self.deadline

    def next_deadline(self, now: float) -> float:
        return self.deadline

    def take_frames(self) -> list[Any]:
        return [("n2", self.log[-1], [])]

    def take_beats(self) -> list[Any]:
        return []


def driven() -> tuple[Scripted, Driver, list[Any]]:
    sent: list[Any] = []
    replica = Scripted()
    return replica, Driver(cast(Replica, replica), sent.extend), sent


PHASES = [
    "tick",
    "step",
    "begin_sync",
    "job",
    "job",
    "end_sync",
    "advance",
    "begin_background",
    "run",
    "end",
]


def test_a_turn_has_all_its_phases_in_order_and_frames_leave_after_each() -> None:
    replica, driver, sent = driven()
    assert not driver.turn(1.0)
    assert replica.log == PHASES
    assert [kind for _, kind, _ in sent] == ["step", "end_sync", "advance"]
    assert not driver.is_busy and not driver.in_background


def test_a_phase_that_is_left_out_is_an_error() -> None:
    _, driver, _ = driven()
    steps: list[Callable[[], object]] = [
        driver.begin,
        driver.begin_sync,
        lambda: driver.end_sync(1.0),
        lambda: driver.advance(1.0),
        lambda: driver.begin_background(1.0),
        driver.end,
    ]
    for at, done in enumerate(steps):
        for wrong, step in enumerate(steps):
            if wrong not in (0, at):
                with pytest.raises(RuntimeError):
                    step()
        done()
        while driver.syncs:
            driver.job_done()
    assert driver.phase is Phase.IDLE


def test_a_sync_does_not_end_before_all_its_jobs() -> None:
    _, driver, _ = driven()
    driver.begin()
    driver.begin_sync()
    assert not driver.job_done()
    with pytest.raises(RuntimeError, match="1 jobs"):
        driver.end_sync(1.0)
    assert driver.job_done()
    driver.end_sync(1.0)


def test_what_comes_in_during_a_turn_has_another_one_follow() -> None:
    replica, driver, _ = driven()
    replica.jobs = 0
    assert driver.begin() and not driver.begin()
    driver.begin_sync()
    driver.end_sync(1.0)
    driver.advance(1.0)
    driver.begin_background(1.0)
    assert driver.end()
    assert not driver.turn(2.0), "and only one"


def test_a_replica_is_ticked_when_it_asked_for_it_and_asked_again_when_it_heard_something() -> None:
    replica, driver, _ = driven()
    assert not driver.tick_is_due(4.9) and driver.tick_is_due(5.0)
    replica.deadline = 8.0
    driver.tick(5.0)
    assert not driver.tick_is_due(7.9)
    replica.deadline = 6.0
    assert not driver.tick_is_due(7.9), "nothing told the driver that it changed"
    assert not driver.received(FrameKind.RAFT)
    assert driver.tick_is_due(6.0)


def test_frames_that_are_no_messages_of_raft_have_a_turn_follow() -> None:
    replica, driver, _ = driven()
    assert driver.received(FrameKind.BLOB) and not driver.received(FrameKind.RAFT)
    replica.needs_turn = True
    assert driver.received(FrameKind.RAFT)
