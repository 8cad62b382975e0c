"""The table of a node's replicas: how one that is damaged is closed."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from raftmail.node.bootstrap import NodePlan, make_cluster
from raftmail.node.config import load
from raftmail.node.index_folder import CLOSED, read_orders
from raftmail.node.replica_table import ReplicaTable
from raftmail.storage.disk import DiskError, RealDisk
from raftmail.storage.kv import TableDamaged
from raftmail.storage.records import IndexDamaged

_N1 = NodePlan("n1", "127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3")


class _Opened:
    """A replica and its index, whose last commit raises an error."""

    def __init__(self, error: DiskError, log: list[str]) -> None:
        self.replica = self.index = self
        self._error: DiskError | None = error
        self._log = log

    def close(self) -> None:
        error, self._error = self._error, None
        self._log.append("close")
        if error is not None:
            raise error

    def abandon(self) -> None:
        self._log.append("abandon")


@pytest.mark.parametrize(
    "error",
    [TableDamaged("page 7 is none"), IndexDamaged("places", b"k"), IndexDamaged("meta", b"")],
)
def test_a_replica_whose_index_cannot_be_committed_is_closed_and_repaired_at_the_next_start(
    tmp_path: Path, error: DiskError
) -> None:
    disk = RealDisk(tmp_path)

    async def run() -> list[str]:
        log: list[str] = []
        unused = cast(Any, None)
        table = ReplicaTable(
            load(make_cluster(tmp_path / "c", [_N1], shards=1, now=datetime.now(UTC)).folders[0]),
            cast(Any, SimpleNamespace(shard_disk=lambda shard: disk)),
            asyncio.get_running_loop(),
            *[unused] * 8,
        )
        table.opened[1] = cast(Any, _Opened(error, log))
        await table.close(1)
        return log

    assert asyncio.run(run()) == ["close", "abandon", "close"]
    orders = read_orders(disk)
    assert str(error) in (orders.rebuild, orders.own)
    assert not (tmp_path / CLOSED).exists()
