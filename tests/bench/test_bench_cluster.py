"""The cluster that measurements run on: it serves, survives, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from pathlib import Path

import pytest

from bench.cluster import Raftmail, TextClient, resident_bytes
from bench.lmtp_load import LoadPlan
from bench.lmtp_load import drive as drive_lmtp
from bench.million import grow
from bench.runtime import BenchError
from bench.store_load import StorePlan
from bench.store_load import drive as drive_store

ANN = "ann@example.org"

SMAPS = """\
00400000-00401000 r--p 00000000 fe:00 262 /usr/bin/python3
Size:                  4 kB
Rss:                   4 kB
7f0000000000-7f0100000000 r--s 00000000 fe:00 71 /tmp/c/nodes/n1/data/shard-1/index/data.mdb
Rss:                 100 kB
Pss:                  50 kB
7f1000000000-7f1000400000 rw-p 00000000 00:00 0
Rss:                  12 kB
7f0200000000-7f0300000000 r--s 00000000 fe:00 71 /tmp/c/nodes/n1/data/shard-0/index/data.mdb
Rss:                   8 kB
7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0 [stack]
Rss:                   4 kB
"""


def test_memory_of_the_indexes_maps_is_counted_apart() -> None:
    assert resident_bytes(SMAPS) == (20 * 1024, 108 * 1024)


def test_a_cluster_serves_survives_a_kill_and_is_gone_afterwards(tmp_path: Path) -> None:
    with Raftmail(users=[ANN], parent=tmp_path) as cluster:
        pids = [cluster.pid_of(name) for name in cluster.names]
        lmtp = LoadPlan(",".join(cluster.lmtp_addresses), (ANN,), 3, seconds=0.2, warmup_s=0.0)
        delivered = asyncio.run(drive_lmtp(lmtp))
        assert delivered.failures == {}
        assert cluster.messages_of([ANN]) == delivered.accepted_total > 0

        grow(cluster.client_addresses[0], cluster.access, ANN, delivered.accepted_total, 500)
        store = StorePlan(cluster.client_addresses, (ANN,), "INBOX", "store", 3, 4, 500, 50)
        stored = asyncio.run(
            drive_store(replace(store, seconds=0.2, warmup_s=0.0, access=cluster.access))
        )
        assert stored.accepted_total > 0
        assert stored.failures == {}

        master = cluster.master_of()
        cluster.kill(master)
        assert cluster.master_of() != master
        cluster.restart(master)
        cluster.wait_until_ready()
        assert cluster.is_equal()
        assert cluster.cpu_s() > 0
        outside, index = cluster.rss_bytes(master)
        assert outside > 0 <= index
        assert cluster.index_bytes(master) > 0
        pids += [cluster.pid_of(name) for name in cluster.names]
    assert list(tmp_path.iterdir()) == []
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_node_that_ends_by_itself_fails_the_measurement(tmp_path: Path) -> None:
    with (
        pytest.raises(BenchError, match="node n1 ended with status -9"),
        Raftmail(nodes=1, parent=tmp_path) as cluster,
    ):
        os.kill(cluster.pid_of("n1"), 9)
        os.waitid(os.P_PID, cluster.pid_of("n1"), os.WEXITED | os.WNOWAIT)
    assert list(tmp_path.iterdir()) == []


def test_a_command_that_is_refused_is_told_in_the_nodes_words(tmp_path: Path) -> None:
    with (
        Raftmail(nodes=1, parent=tmp_path) as cluster,
        TextClient(cluster.client_addresses[0], cluster.access) as client,
        pytest.raises(BenchError, match=r"^DELETE .*: NO NONEXISTENT"),
    ):
        client.ask(b"DELETE ann@example.org Sent")
