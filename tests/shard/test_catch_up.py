"""Which replicas a resync may come from."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from raftmail.consensus.group import Group
from raftmail.consensus.membership import Membership
from raftmail.resync.manager import ResyncManager
from raftmail.shard.catch_up import CatchUp
from tests.shard.machines import new_machine


class SeenManager:
    """Notes whom it is told to ask."""

    def __init__(self) -> None:
        self.busy = self.holds = self.needs_records = False
        self.at_least = 0
        self.asked: list[str] = []

    def need(self) -> None:
        self.needs_records = True

    def writes_go_on(self, *, busy: bool) -> None: ...

    def tick(
        self, now: float, replicas: Sequence[str], connected: Sequence[str], *, may_hold: bool
    ) -> None:
        self.asked = list(connected)


def test_the_master_is_a_source_also_when_all_that_the_own_log_names_are_gone() -> None:
    manager = SeenManager()
    recovery = CatchUp(1, cast(ResyncManager, manager), new_machine(), "n5")
    group: Any = SimpleNamespace(
        membership=Membership({1: "n1", 3: "n3"}, {8: "n5"}, 9),
        leader=9,
        is_leader=False,
        resync_wanted=(9, 68),
        take_resync_wanted=lambda: (9, 68),
        applied_index=46,
        links_changed=1,
        node_of={9: "n2"}.get,
        is_linked=lambda node: node in ("n2", "n4"),
    )
    recovery.tick(1.0, cast(Group, group))
    assert manager.needs_records
    assert manager.asked == ["n2"]


@pytest.mark.parametrize("lacks", [True, False])
def test_records_that_came_to_an_entry_which_the_log_does_not_have_make_it_jump(
    lacks: bool,
) -> None:
    """The log may begin at that very index, with an entry of another term that was never
    committed."""
    manager = SimpleNamespace(take_finished=lambda: (30, 16))
    recovery = CatchUp(1, cast(ResyncManager, manager), new_machine(), "n1")
    done: list[object] = []
    group: Any = SimpleNamespace(
        membership=Membership.founding({1: "n1"}),
        applied_index=30,
        lacks=lambda index, term: lacks,
        jump=lambda index, term, standing: done.append((index, term)),
        restate=lambda standing: done.append("restated"),
    )
    assert recovery.settle(cast(Group, group), lambda: None)
    assert done == [(30, 16) if lacks else "restated"]
