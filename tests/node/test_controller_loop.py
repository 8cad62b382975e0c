"""What the root's master sees of the cluster."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from raftmail.cluster.records import NodeRecord
from raftmail.cluster.state import genesis
from raftmail.node.controller_loop import ControllerLoop


def test_a_master_that_loses_the_root_while_it_looks_ends_its_round(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    state = genesis("0" * 32, [NodeRecord(name, f"{name}:1") for name in "abc"], 1, 3)

    async def run() -> None:
        operating = ControllerLoop(asyncio.get_running_loop(), *cast(Any, (None, None, None)))

        async def ask(self: ControllerLoop, node: str) -> None:
            self._hearing = None  # as a tick does then

        monkeypatch.setattr(ControllerLoop, "_ask", ask)
        observed = await operating._observe(state)
        assert set(observed.nodes) == {"a", "b", "c"}

    asyncio.run(run())
