"""What a measurement prints."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from bench.report import BenchOptions, BenchReport, BenchTarget, Runs, run
from bench.runtime import BenchError


def given(tmp_path: Path, output: str) -> argparse.Namespace:
    return argparse.Namespace(quick=True, runs=2, folder=tmp_path, output=output)


def one(options: BenchOptions) -> BenchReport:
    assert options.quick and options.runs == 2
    runs = Runs()
    for rate in (1.0, 5.0, 9.0):
        runs.add("a", {"per_s": rate})
    return BenchReport(
        "one", [runs.table()], [BenchTarget("rate", runs.median("a", "per_s"), at_least=6.0)]
    )


def broken(options: BenchOptions) -> BenchReport:
    raise BenchError("no disk")


@pytest.mark.parametrize(
    ("target", "met"),
    [
        (BenchTarget("x", 4.0, at_least=4.0), True),
        (BenchTarget("x", 3.9, at_least=4.0), False),
        (BenchTarget("x", 1.0, at_most=1.0), True),
        (BenchTarget("x", 1.1, at_most=1.0), False),
    ],
)
def test_a_target_is_met_at_its_bound(target: BenchTarget, met: bool) -> None:
    assert target.is_met is met
    assert target.line().startswith("met" if met else "MISSED")


def test_a_row_has_medians_and_the_spread_of_the_rates(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([("one", one)], given(tmp_path, "json")) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["tables"] == [
        [{"subject": "a", "per_s": 5.0, "lowest_per_s": 1.0, "highest_per_s": 9.0}]
    ]
    assert printed["targets"][0]["is_met"] is False
    assert printed["machine"]["cores"] > 0


def test_the_machine_stands_above_all_figures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run([("one", one)], given(tmp_path, "text"))
    lines = capsys.readouterr().out.splitlines()
    assert "cores" in lines[0] and "fdatasync" in lines[0]
    assert lines[-1] == "MISSED  rate: 5.00 (wanted >= 6)"


def test_a_measurement_that_cannot_be_taken_does_not_keep_the_others_from_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([("broken", broken), ("one", one)], given(tmp_path, "json")) == 1
    printed = capsys.readouterr()
    assert printed.err == "broken: no disk\n"
    assert json.loads(printed.out)["name"] == "one"
