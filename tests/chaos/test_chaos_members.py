"""Nodes that come and go: when the cluster is at rest again, and who is asked meanwhile."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest

from raftmail.admin.api.codec import decode
from raftmail.admin.api.members import MemberDetails
from raftmail_chaos import members
from raftmail_chaos.cluster import ChaosCluster, NodeProcess
from raftmail_chaos.faults import Arena
from raftmail_chaos.load import ChaosLoad, Worker, tell_live


def _node(folder: Path, name: str) -> NodeProcess:
    return NodeProcess(
        name, folder / name, "127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3", "127.0.0.1:4"
    )


def _shown(state: str, operation: str) -> dict[str, Any]:
    """What `member show` prints of a node."""
    return {
        **dict.fromkeys(("peer", "client", "lmtp", "host", "zone"), ""),
        **dict.fromkeys(("joined_s", "replicas", "joining", "leaving"), 0),
        **{one: [] for one in ("labels", "leads", "at_risk", "waits_for")},
        "name": "n1",
        "capacity": 1,
        "state": "active",
        "cordoned": False,
        "held": [{"shard": 1, "id": 1, "state": "voter"}, {"shard": 0, "id": 4, "state": state}],
        "operations": [
            {
                "id": "1",
                "kind": "drain",
                "subject": "n1",
                "began_s": 1,
                "by": "",
                "via": "",
                "state": operation,
                "left": 0,
            }
        ],
    }


@pytest.mark.parametrize(
    ("state", "operation", "settled"),
    [
        ("voter", "done", True),
        ("joining", "done", False),
        ("leaving", "done", False),
        ("voter", "running", False),
    ],
)
def test_a_cluster_is_at_rest_when_nothing_moves_and_nothing_is_under_way(
    state: str,
    operation: str,
    settled: bool,
) -> None:
    assert members._is_settled(decode(MemberDetails, _shown(state, operation))) is settled


def test_what_does_not_come_to_rest_is_told_by_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def answer(arena: Arena, *arguments: str) -> Any:
        if arguments[-1] == "n2":
            raise members.NotDone("no node answers")
        return _shown("joining", "done")

    monkeypatch.setattr(members, "_raftmail", answer)
    nodes = {name: _node(tmp_path, name) for name in ("n1", "n2")}
    arena = Arena(ChaosCluster(tmp_path, nodes), None, random.Random(1))
    left = asyncio.run(members.settle(arena, 0.0))
    assert left == "n1: shard 0 joining; n2 cannot be looked at: no node answers"


def test_a_node_that_is_gone_is_not_started_again_by_a_fault_that_waited_for_it(
    tmp_path: Path,
) -> None:
    node = _node(tmp_path, "n4")
    cluster = ChaosCluster(tmp_path, {"n4": node})
    asyncio.run(cluster.dismiss(node))
    node.start()
    assert node.process is None
    assert cluster.nodes == {}


def test_the_load_asks_the_nodes_that_there_are_now(tmp_path: Path) -> None:
    live = tmp_path / "live.json"
    plan = ChaosLoad(0, 1, 1.0, ("a:1",), ("a:2",), str(tmp_path), 1.0, live=str(live))
    worker = Worker(plan)
    worker._hear_live()
    assert (worker._clients, worker._lmtp) == (("a:1",), ("a:2",))
    tell_live(live, [("b:1", "b:2", "b:3"), ("c:1", "c:2", "c:3")])
    worker._hear_live()
    assert (worker._clients, worker._lmtp) == (("b:1", "c:1"), ("b:2", "c:2"))
    assert worker._imaps == ("b:3", "c:3")


def test_no_node_loses_its_data_while_another_is_away_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost: list[str] = []

    async def replace(arena: Arena, node: NodeProcess) -> None:
        lost.append(node.name)

    async def run() -> None:
        node = _node(tmp_path, "n1")
        arena = Arena(ChaosCluster(tmp_path, {"n1": node}), None, random.Random(1))
        async with arena.absence:
            task = asyncio.create_task(members.replace(arena, node))
            await asyncio.sleep(0)
            assert lost == []
        await task
        assert lost == ["n1"]

    monkeypatch.setattr(members, "_replace", replace)
    asyncio.run(run())
