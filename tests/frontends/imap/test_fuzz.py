"""A short share of the fuzzing; `python -m tests.frontends.imap.fuzz` goes on for as long as one
likes."""

from __future__ import annotations

import pytest

from tests.frontends.imap.fuzz import fuzz


@pytest.mark.parametrize("seed", range(3))
def test_random_clients_are_told_what_is_true_and_nothing_else(seed: int) -> None:
    fuzz(seed, steps=40)
