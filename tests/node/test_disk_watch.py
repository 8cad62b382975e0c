"""When a disk is called slow, and what is told of it."""

from __future__ import annotations

import pytest

from raftmail.node.disk_watch import CALM_S, HANG_S, RECENT, SLOW_S, DiskWatch


class _Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def _sync(watch: DiskWatch, clock: _Clock, seconds: float) -> None:
    number = watch.begin()
    clock.now += seconds
    watch.end(number)


def made() -> tuple[DiskWatch, _Clock]:
    clock = _Clock()
    return DiskWatch("the disk of /data", clock), clock


def test_a_sync_that_hangs_makes_the_disk_slow_before_it_ends_and_the_log_names_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    watch, clock = made()
    watch.begin()
    clock.now += HANG_S / 2
    assert not watch.look()
    clock.now += HANG_S
    assert watch.look()
    assert "the disk of /data is slow: a sync has been under way for 1200 ms" in caplog.text
    assert watch.status().sync_under_way_ms == 1200.0


def test_one_that_has_hung_counts_for_a_while_and_then_no_more() -> None:
    watch, clock = made()
    _sync(watch, clock, 3.0)
    assert watch.look() and watch.status().sync_last_ms == 3000.0
    clock.now += CALM_S - 1
    assert watch.look()
    clock.now += 2
    assert not watch.look()


def test_a_disk_is_slow_when_half_of_its_syncs_are_and_not_for_one_of_them() -> None:
    watch, clock = made()
    for _ in range(RECENT):
        _sync(watch, clock, 0.01)
    _sync(watch, clock, 2 * SLOW_S)
    assert not watch.look()
    for _ in range(RECENT):
        _sync(watch, clock, 1.2 * SLOW_S)
    assert watch.look()
    for _ in range(RECENT):
        _sync(watch, clock, 0.01)
    assert not watch.look()
    found = watch.status()
    assert found.sync_p50_ms == 10.0 and found.sync_p99_ms == 500.0
