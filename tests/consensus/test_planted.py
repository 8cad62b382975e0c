"""The table of faults is whole: each can be planted, is taken out again, and is looked for by a
test."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import pytest

from raftmail.consensus.group import Group
from tests.consensus import (
    test_appends,
    test_changes,
    test_durability,
    test_elections,
    test_fitness,
    test_going_back,
    test_heartbeats,
    test_reads,
)
from tests.consensus.planted import FAULTS
from tests.consensus.planting import Edit, Fault, NotThere, claims_of, planted

TESTS = (
    test_appends,
    test_heartbeats,
    test_changes,
    test_durability,
    test_elections,
    test_fitness,
    test_going_back,
    test_reads,
)


@pytest.fixture(params=sorted(FAULTS))
def fault(request: pytest.FixtureRequest) -> Iterator[Fault]:
    yield FAULTS[request.param]


def test_a_fault_is_in_place_only_while_it_is_planted(fault: Fault) -> None:
    places = [(edit.owner, edit.name) for edit in fault.edits]
    before = [inspect.getattr_static(*place) for place in places]
    with planted(fault):
        during = [inspect.getattr_static(*place) for place in places]
    after = [inspect.getattr_static(*place) for place in places]
    assert all(a is not b for a, b in zip(before, during, strict=True))
    assert all(a is b for a, b in zip(before, after, strict=True))


def test_a_fault_whose_guard_has_moved_says_so() -> None:
    before = Group.jump
    fault = Fault("two edits, of which the second does not fit", (
        Edit(Group, "jump", "if self.is_leader:", "if False:"),
        Edit(Group, "jump", "no such text", ""),
    ))  # fmt: skip
    with pytest.raises(NotThere, match=r"Group\.jump has 0 times: 'no such text'"), planted(fault):
        pass
    assert Group.jump is before


def test_every_fault_is_looked_for_by_a_test() -> None:
    looked_for = {claim.fault for tests in TESTS for claim in claims_of(tests.__name__)}
    assert looked_for == set(FAULTS)
