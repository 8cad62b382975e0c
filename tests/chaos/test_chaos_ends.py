"""A node that ends without being killed is never taken for one that was killed, and its memory is
known."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from raftmail_chaos import faults
from raftmail_chaos.cluster import ChaosCluster, NodeProcess
from raftmail_chaos.faults import Arena
from raftmail_chaos.report import MemoryPeak


def _arena(node: NodeProcess) -> Arena:
    cluster = cast(ChaosCluster, SimpleNamespace(nodes={node.name: node}))
    return Arena(cluster, None, random.Random(1))


class _Node(NodeProcess):
    """Is not started again."""

    def start(self, *options: str) -> None: ...


@pytest.mark.parametrize("everybody", [False, True])
def test_a_node_that_had_ended_when_it_was_to_be_killed_breaks_a_promise(
    tmp_path: Path, everybody: bool
) -> None:
    node = _Node("n1", tmp_path, "", "", "", "")
    node.log.write_text("it said why\n", encoding="utf-8")
    node.process = subprocess.Popen([sys.executable, "-c", "raise SystemExit(70)"])
    node.process.wait()
    arena = _arena(node)
    doing: Any = faults.kill_all(arena, 0.0) if everybody else faults.kill(arena, node, "k", 0.0)
    asyncio.run(doing)
    (said,) = arena.ended
    assert "status 70" in said and "it said why" in said
    assert arena.problems == [("P6", said)]


def test_a_node_that_was_killed_breaks_none(tmp_path: Path) -> None:
    node = _Node("n1", tmp_path, "", "", "", "")
    node.process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    arena = _arena(node)
    asyncio.run(faults.kill(arena, node, "kill-master", 0.0))
    assert not arena.problems and not arena.ended


def test_the_most_memory_of_all_processes_of_a_node_is_kept(tmp_path: Path) -> None:
    node = _Node("n1", tmp_path, "", "", "", "")
    code = "print('x', flush=True); b = b'x' * (64 << 20); print(len(b), flush=True); input()"
    for _ in range(2):
        node.process = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert node.process.stdout is not None
        node.process.stdout.readline()
        if not node.memory_peak_bytes:
            node.process.stdout.readline()
        node.note_memory()
        node.process.kill()
        node.process.communicate()
    assert 64 << 20 < node.memory_peak_bytes < 256 << 20


def test_memory_is_over_a_budget_only_where_one_is_told() -> None:
    assert MemoryPeak(3 << 20, 2 << 20).is_over
    assert not MemoryPeak(3 << 20, 4 << 20).is_over and not MemoryPeak(3 << 20, 0).is_over
    assert str(MemoryPeak(3 << 20, 4 << 20)) == "3 of 4 MiB"
