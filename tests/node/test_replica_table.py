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
from raftmail.storage.disk import DiskError, RealDisk, SyncFailed
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


class _Ended:
    """A replica that runs, and can be abandoned."""

    replica_id, membership, has_failed = 7, "told", True

    def __init__(self) -> None:
        self.replica = self.index = self
        self.log: list[str] = []

    async def failed(self) -> None:
        self.log.append("failed")

    def abandon(self) -> None:
        self.log.append("abandon")

    def close(self) -> None:
        self.log.append("close")


def _table(tmp_path: Path, loop: asyncio.AbstractEventLoop, fatal: list[Any]) -> ReplicaTable:
    unused = cast(Any, None)
    made = make_cluster(tmp_path / "c", [_N1], shards=1, now=datetime.now(UTC))
    folder = cast(Any, SimpleNamespace(shard_disk=lambda shard: RealDisk(tmp_path)))
    return ReplicaTable(
        load(made.folders[0]), folder, loop, unused, unused, fatal.append, *[unused] * 5
    )


def test_an_error_that_nobody_foresaw_ends_one_replica_which_waits_ever_longer_to_come_back(
    tmp_path: Path,
) -> None:
    async def run() -> None:
        fatal: list[Any] = []
        table = _table(tmp_path, asyncio.get_running_loop(), fatal)
        table.opened = cast(Any, {1: _Ended(), 2: _Ended()})
        table.runners = cast(Any, dict(table.opened))
        waits = []
        for _ in range(3):
            ended = table.opened[1]
            table.failed(1, TypeError("no such thing"))
            table.failed(1, TypeError("and another while it ends"))
            await asyncio.gather(*table._tasks)
            assert cast(Any, ended).log == ["failed", "abandon", "close"]
            assert "no such thing" in str(table.aside[1].error) and table.is_busy(1)
            waits.append(table.aside.pop(1).wait_s)
            table.opened[1] = table.runners[1] = cast(Any, _Ended())
        assert waits == [5.0, 10.0, 20.0]
        assert not fatal and list(table.opened) == [2, 1]

    asyncio.run(run())


@pytest.mark.parametrize(
    "error", [SyncFailed("fdatasync"), OSError(5, "Input/output error"), MemoryError()]
)
def test_an_error_of_the_machine_ends_the_process(tmp_path: Path, error: BaseException) -> None:
    async def run() -> list[Any]:
        fatal: list[Any] = []
        table = _table(tmp_path, asyncio.get_running_loop(), fatal)
        table.opened = cast(Any, {1: _Ended()})
        table.failed(1, error)
        assert list(table.opened) == [1] and not table._tasks
        return fatal

    assert asyncio.run(run()) == [error]
