"""What every measurement of raftmail shares: its options, its report, and how both look outside.

A measurement is a module with a function ``measure(options) -> Report``; `run` makes a command of
it, and ``python -m bench`` runs several.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypeAlias

from bench.runtime import BenchError
from bench.stats import Cell, describe_machine, format_table, medians, to_json


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """How much to measure. ``runs`` are medians taken over; ``parent`` decides the disk."""

    quick: bool = False
    runs: int = 3
    parent: Path | None = None

    def seconds(self, normal: float, quick: float) -> float:
        """How long a run takes."""
        return quick if self.quick else normal

    def count(self, normal: int, quick: int) -> int:
        """How many of something there are."""
        return quick if self.quick else normal


@dataclass(frozen=True, slots=True)
class BenchTarget:
    """A figure that something was wanted of; exactly one bound is set."""

    what: str
    value: float
    at_least: float | None = None
    at_most: float | None = None

    @property
    def is_met(self) -> bool:
        if self.at_least is not None:
            return self.value >= self.at_least
        return self.at_most is not None and self.value <= self.at_most

    def line(self) -> str:
        bound = f">= {self.at_least:g}" if self.at_least is not None else f"<= {self.at_most:g}"
        shown = f"{self.value:,.0f}" if abs(self.value) >= 1000 else f"{self.value:.2f}"
        return f"{'met   ' if self.is_met else 'MISSED'}  {self.what}: {shown} (wanted {bound})"


@dataclass(slots=True)
class BenchReport:
    """What was measured. The rows of a table have the same keys."""

    name: str
    tables: list[list[dict[str, Cell]]] = field(default_factory=list)
    targets: list[BenchTarget] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def text(self) -> str:
        parts = [*map(format_table, self.tables), *self.notes]
        return "\n".join([*parts, *(target.line() for target in self.targets)])


Measure: TypeAlias = Callable[[BenchOptions], BenchReport]


@dataclass(slots=True)
class Runs:
    """Figures of several subjects, measured in turns: every run of one has runs of the others
    beside it, so that what disturbs the machine disturbs all of them."""

    figures: dict[str, list[dict[str, float]]] = field(default_factory=dict)

    def add(self, subject: str, figures: dict[str, float]) -> None:
        self.figures.setdefault(subject, []).append(figures)

    def median(self, subject: str, figure: str) -> float:
        return medians(self.figures[subject])[figure]

    def table(self) -> list[dict[str, Cell]]:
        """A row of medians for each subject, with the spread of the rates where there are some."""
        rows: list[dict[str, Cell]] = []
        for subject, runs in self.figures.items():
            row: dict[str, Cell] = {"subject": subject, **medians(runs)}
            if "per_s" in runs[0]:
                rates = [run["per_s"] for run in runs]
                row |= {"lowest_per_s": min(rates), "highest_per_s": max(rates)}
            rows.append(row)
        return rows


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quick", action="store_true", help="short runs, rough figures")
    parser.add_argument("--runs", type=int, default=3, help="medians are taken over so many")
    parser.add_argument("--folder", type=Path, help="measure the disk that this folder is on")
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text")


def run(measurements: Sequence[tuple[str, Measure]], given: argparse.Namespace) -> int:
    """Run measurements and print each report as soon as it is there, JSON as one line for each.

    Exit status 1 when one could not be taken; a target that is missed is no failure."""
    options = BenchOptions(given.quick, max(1, given.runs), given.folder)
    machine = describe_machine(options.parent or Path(tempfile.gettempdir()))
    as_json = given.output == "json"
    if not as_json:
        print(machine.line(), flush=True)
    status = 0
    for name, measure in measurements:
        try:
            report = measure(options)
        except BenchError as error:
            print(f"{name}: {error}", file=sys.stderr)
            status = 1
            continue
        if as_json:
            targets = [{**asdict(target), "is_met": target.is_met} for target in report.targets]
            print(to_json({**asdict(report), "targets": targets, "machine": asdict(machine)}))
        else:
            print(f"\n{name}\n{report.text()}")
        sys.stdout.flush()
    return status


def main_of(name: str, measure: Measure, description: str | None) -> int:
    """The command line of one measurement."""
    parser = argparse.ArgumentParser(
        prog=f"bench.{name}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_options(parser)
    return run([(name, measure)], parser.parse_args())
