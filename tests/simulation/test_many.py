"""Many seeds at once."""

from __future__ import annotations

import subprocess
import sys
from itertools import count
from pathlib import Path

import pytest

from tests.consensus.planting import planted
from tests.simulation.many import Tally, simulate_many, until
from tests.simulation.planted import FAULTS

ROOT = Path(__file__).resolve().parents[2]


def what_they_are(tally: Tally) -> tuple[object, ...]:
    return tally.seeds, tally.seconds, tally.operations, tally.answered, tally.reached


def test_seeds_are_the_same_runs_in_several_processes_as_in_one() -> None:
    one, two = simulate_many(range(6), None, 1), simulate_many(range(6), None, 2)
    assert what_they_are(one) == what_they_are(two)
    assert one.seeds == 6 and one.cpu_s > 0 and two.cpu_s > 0


def test_a_seed_that_fails_is_told_with_the_command_that_runs_it_again(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with planted(FAULTS["journal-not-synced"]):
        tally = simulate_many(range(2), 3, 2)
    assert tally.failed == [0, 1]
    assert "again: python -m tests.simulation --seed 1 --nodes 3" in capsys.readouterr().out
    assert "2 failed" in str(tally)


def test_no_seed_begins_after_the_deadline() -> None:
    clock = count()
    assert list(until(3, count(100), lambda: next(clock))) == [100, 101, 102]


@pytest.mark.parametrize("wrong", [("--seeds", "0"), ("--jobs", "two"), ("--nodes", "4")])
def test_what_cannot_be_run_is_refused_with_the_option_that_is_wrong(
    wrong: tuple[str, str],
) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "tests.simulation", *wrong],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 2 and f"argument {wrong[0]}" in run.stderr
