"""What time it is at least."""

from __future__ import annotations

from raftmail.cluster.agreed_clock import AHEAD_S, BELIEVED_S, JumpGuard, earliest


def test_one_clock_that_is_ahead_does_nothing_and_one_that_is_behind_is_waited_for() -> None:
    assert earliest("abc", {"a": 9e9, "b": 100.0, "c": 101.0}) == 100.0
    assert earliest("abc", {"a": 9e9, "b": 5.0}) == 5.0


def test_without_a_majority_nobody_knows_the_time() -> None:
    assert earliest("abc", {"a": 100.0, "x": 1.0, "y": 2.0}) is None
    assert earliest("ab", {"a": 100.0}) is None
    assert earliest("", {}) is None


def test_a_jump_ahead_is_held_back_until_it_has_lasted_for_long() -> None:
    guard = JumpGuard()
    assert guard.read(0.0, 1e9) == 1e9
    assert guard.read(100.0, 1e9 + 100 + AHEAD_S) == 1e9 + 100 + AHEAD_S
    at = 1e9 + 200 + AHEAD_S
    assert guard.read(200.0, 4e9) == at and guard.has_jumped
    assert guard.read(200.0 + BELIEVED_S - 1, 4e9 + BELIEVED_S) == at + BELIEVED_S - 1
    assert guard.read(200.0 + BELIEVED_S, 4e9 + BELIEVED_S) == 4e9 + BELIEVED_S
    assert not guard.has_jumped


def test_a_clock_that_came_back_is_believed_at_once() -> None:
    guard = JumpGuard()
    guard.read(0.0, 1e9)
    guard.read(10.0, 4e9)
    assert guard.read(20.0, 1e9 + 20) == 1e9 + 20 and not guard.has_jumped
    assert guard.read(30.0, 5e8) == 5e8
