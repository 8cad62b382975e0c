"""Whatever is ordered, and wherever: a majority of each shard's voters stays whole."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from raftmail.admin.admin_calls import AdminCalls
from raftmail.admin.api.calls import StartResync
from raftmail.admin.resync_calls import ResyncCalls
from raftmail.mail.failures import Failure, Unavailable


class Replicas:
    """Of one shard, one on each node, with what orders do to them; the nodes ask each other."""

    def __init__(self, voters: int, learners: int = 0) -> None:
        self.names = [f"n{number + 1}" for number in range(voters + learners)]
        self.voters = dict(enumerate(self.names[:voters], 1))
        self.down: set[str] = set()
        self.half: set[str] = set()
        self.calls = {name: self._calls(name) for name in self.names}

    def _calls(self, name: str) -> AdminCalls:
        replica: Any = Replica(self, name)
        router: Any = SimpleNamespace(
            ask=self._ask,
            links=SimpleNamespace(wake=lambda shard: None),
            view=SimpleNamespace(nodes=self.names),
            clock=lambda: 0.0,
            node=name,
            replicas={1: replica},
        )
        calls = AdminCalls(router)
        calls.add(ResyncCalls(calls).handlers)
        return calls

    async def _ask(self, node: str, what: str, arguments: Mapping[str, str], wait_s: float) -> Any:
        await asyncio.sleep(0)
        if node in self.down:
            raise Unavailable(Failure("it is down"))
        try:
            answer = await self.calls[node].answer_node(what, arguments, 0.0)
        except ValueError as e:  # this is what comes of it between nodes
            raise Unavailable(Failure(str(e), final=True)) from None
        await asyncio.sleep(0)
        return answer

    async def order(self, by: str, node: str) -> str:
        """Why it is refused; "": it is not."""
        try:
            await self.calls[by].do(StartResync(node, full=True), 0.0)
        except ValueError as e:
            return str(e)
        return ""


class Replica:
    """What the calls see of one."""

    def __init__(self, all_: Replicas, name: str) -> None:
        self.all, self.name, self.shard = all_, name, 1
        self.membership = SimpleNamespace(voters=all_.voters)
        self.replica_id = all_.names.index(name) + 1

    @property
    def is_whole(self) -> bool:
        return self.name not in self.all.half

    @property
    def why_incomplete(self) -> str:
        return "" if self.is_whole else "is being resynced from n9"

    def order_resync(self, numbers: list[int], **_: object) -> None:
        self.all.half.add(self.name)


@pytest.mark.parametrize(("voters", "may"), [(1, 0), (2, 0), (3, 1), (4, 1), (5, 2)])
def test_orders_one_after_the_other_leave_a_majority_whole(voters: int, may: int) -> None:
    replicas = Replicas(voters)
    refused = [asyncio.run(replicas.order("n1", name)) for name in replicas.names]
    assert [bool(why) for why in refused] == [False] * may + [True] * (voters - may)
    assert replicas.half == set(replicas.names[:may])
    if may:
        assert "n1 is being resynced from n9" in refused[-1]
        assert asyncio.run(replicas.order("n2", "n1")) == "", "one that is not whole is no loss"


@pytest.mark.parametrize("voters", [3, 5])
def test_orders_at_once_at_different_nodes_leave_a_majority_whole(voters: int) -> None:
    replicas = Replicas(voters)

    async def all_at_once() -> list[str]:
        names = replicas.names
        return await asyncio.gather(*[replicas.order(name, name) for name in names])

    refused = asyncio.run(all_at_once())
    assert len(replicas.half) == refused.count("") <= voters - (voters // 2 + 1)
    assert "is ordered to be resynced, too" in max(refused, key=len)
    for name in replicas.names:  # what was refused holds up nothing later
        replicas.half.clear()
        assert asyncio.run(replicas.order("n1", name)) == ""


def test_a_node_that_does_not_answer_counts_as_one_that_is_not_whole() -> None:
    replicas = Replicas(3)
    replicas.down.add("n3")
    assert "n3 does not answer" in asyncio.run(replicas.order("n1", "n2"))
    assert not replicas.half


def test_a_learner_may_always_be_resynced() -> None:
    replicas = Replicas(3, learners=1)
    replicas.half |= {"n1", "n2"}
    assert asyncio.run(replicas.order("n3", "n4")) == ""
    assert replicas.half == {"n1", "n2", "n4"}
