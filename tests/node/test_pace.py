"""Long bodies are stored slowly while others work, and at once when the node stops."""

from __future__ import annotations

import time

import pytest

from raftmail.node.pace import LongBodyPace


def test_a_long_body_rests_longer_than_its_part_took_and_no_more_once_the_node_stops(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, stopping = 100.0, False
    slept: list[float] = []
    monkeypatch.setattr(time, "monotonic", lambda: now)
    monkeypatch.setattr(time, "sleep", slept.append)
    pace = LongBodyPace(lambda: stopping)
    now += 0.01
    pace.rest()
    now += 9.0
    pace.rest()
    assert slept == [pytest.approx(0.04), 0.2]
    stopping = True
    now += 9.0
    pace.rest()
    assert len(slept) == 2
