"""Mail programs in the simulator: runs are the same again, reach what they are for, and show what
breaks the promises of IMAP."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.simulation.planted import FAULTS, seeds_until_found
from tests.simulation.run import simulate

REACHED = (
    "IMAP sessions",
    "looks at mailboxes over IMAP",
    "mailboxes opened with QRESYNC",
    "messages that IMAP told to be gone",
)


def test_a_seed_with_mail_programs_is_the_same_run_again() -> None:
    first = simulate(2, 3, imap=True)
    assert first.trace == simulate(2, 3, imap=True).trace
    assert first.trace != simulate(2, 3).trace


def test_mail_programs_reach_what_they_are_made_for() -> None:
    reached: Counter[str] = Counter()
    for seed in range(3):
        outcome = simulate(seed, 3, imap=True)
        assert outcome.problem == ""
        reached.update(outcome.reached)
    assert {what for what in REACHED if not reached[what]} == set()


@pytest.mark.parametrize("seed", [19, 54, 137])
def test_mail_programs_are_told_what_there_is(seed: int) -> None:
    """Seeds that showed otherwise once."""
    assert simulate(seed, 3, imap=True).problem == ""


@pytest.mark.parametrize(
    "name",
    [
        "imap-expunge-not-told",
        "imap-last-change-missed",
        "imap-noop-without-barrier",
        "imap-select-without-barrier",
        "imap-vanished-left-out",
        "imap-vanished-of-living",
        "uids-given-again",
    ],
)
def test_mail_programs_show_a_planted_fault(name: str) -> None:
    seeds, problem = seeds_until_found(FAULTS[name], 6, imap=True)
    assert seeds and problem
