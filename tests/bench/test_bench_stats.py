"""Percentiles and medians against obvious twins; the longest gap in a made-up run."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.closed_loop import LoadTally, summarise
from bench.runtime import BenchError, require_program
from bench.stats import describe_machine, format_table, medians, percentile


@settings(max_examples=50)
@given(
    st.lists(st.integers(0, 50), min_size=1, max_size=40),
    st.sampled_from([0.01, 0.5, 0.9, 0.99, 1.0]),
)
def test_a_percentile_is_the_smallest_value_that_so_many_do_not_exceed(
    values: list[int], q: float
) -> None:
    values.sort()
    expected = next(v for v in values if sum(w <= v for w in values) >= q * len(values))
    assert percentile(values, q) == expected


def test_a_percentile_of_nothing_is_not_a_number() -> None:
    assert math.isnan(percentile([], 0.5))


def test_medians_are_taken_figure_by_figure() -> None:
    runs = [{"a": 1.0, "b": 9.0}, {"a": 2.0, "b": 7.0}, {"a": 3.0, "b": 8.0}]
    assert medians(runs) == {"a": 2.0, "b": 8.0}


def test_medians_of_no_runs_are_refused() -> None:
    with pytest.raises(ValueError, match="no runs"):
        medians([])


def test_a_table_has_its_columns_aligned() -> None:
    lines = format_table([{"name": "x", "rate": 12345.6}, {"name": "long", "rate": 1.5}]).split(
        "\n"
    )
    assert lines == ["name    rate", "   x  12,346", "long    1.50"]


def test_the_longest_gap_reaches_to_both_ends_of_what_was_measured() -> None:
    tally = LoadTally()
    for at_s in (9.0, 12.0, 12.5, 14.0, 21.0):
        tally.acknowledged_at_s.append(at_s)
        tally.latencies_s.append(0.25)
    result = summarise(tally, begun_s=10.0, ended_s=20.0, cpu_s=0.003)
    assert (result.done, result.accepted_total) == (3, 5)
    assert result.longest_gap_ms == 6000.0
    assert result.p50_ms == 250.0
    assert result.generator_cpu_us == pytest.approx(1000.0)


def test_a_run_in_which_nothing_was_acknowledged_has_no_figures() -> None:
    result = summarise(LoadTally(), begun_s=10.0, ended_s=12.0, cpu_s=0.0)
    assert result.longest_gap_ms == 2000.0
    with pytest.raises(BenchError, match="nothing was acknowledged"):
        result.figures()


def test_a_missing_program_is_an_error_that_names_the_package() -> None:
    with pytest.raises(BenchError, match="install Debian's package no-such-package"):
        require_program("no-such-program", "no-such-package")


def test_a_machine_describes_itself_with_its_disk(tmp_path: Path) -> None:
    machine = describe_machine(tmp_path)
    assert machine.cores > 0
    assert machine.fdatasync_p50_us <= machine.fdatasync_p99_us
    assert f"{machine.cores} cores" in machine.line()
