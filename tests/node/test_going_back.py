"""Real nodes whose data folder goes back in time: nothing that was acknowledged is lost, and they come back under new replica ids."""

from __future__ import annotations

import shutil
from pathlib import Path

from raftmail.mail.results import SaveResult
from raftmail.mail.uidset import UidSet
from tests.node.cluster import Cluster, wait_for

USER = "alice@example.org"
ALL = UidSet.parse("1:*")


def begin(cluster: Cluster) -> None:
    cluster.master(0)
    cluster.master(1)
    with cluster.client() as client:
        client.add_user(USER, "secret-password")


def save(cluster: Cluster, *names: str) -> int:
    """Save a message through one of these nodes; its UID."""
    with cluster.client(*names) as client:
        result = client.save(USER, "INBOX", b"Subject: x\r\n\r\nbody\r\n").result
    assert isinstance(result, SaveResult)
    return result.saved[0].uid


def uids(cluster: Cluster, name: str) -> list[int]:
    with cluster.client(name) as client:
        return sorted(m.uid for m in client.messages(USER, "INBOX", ALL))


def states(cluster: Cluster, node: str) -> dict[int, str]:
    """What status says of a node's replicas, by shard."""
    status = cluster.status() or {"shards": []}
    rows = [(s["shard"], r) for s in status["shards"] for r in s["replicas"]]
    return {shard: row["state"] for shard, row in rows if row["node"] == node}


def is_new_and_ok(cluster: Cluster, node: str, before: int) -> bool:
    status = cluster.status() or {"shards": []}
    rows = [r for s in status["shards"] for r in s["replicas"] if r["node"] == node]
    return len(rows) == 2 and all(
        r["state"] == "ok" and r.get("replica", 0) > before and r["lag"] == 0 for r in rows
    )


def test_an_older_data_folder_is_set_aside_and_the_node_comes_back_under_new_replica_ids(
    tmp_path: Path,
) -> None:
    with Cluster(tmp_path / "c") as cluster:
        begin(cluster)
        given = [save(cluster)]
        cluster.terminate("n2")
        data, old = cluster.folders["n2"] / "data", tmp_path / "old"
        shutil.copytree(data, old)
        cluster.start("n2")
        wait_for("n2 is back", lambda: states(cluster, "n2") == {0: "ok", 1: "ok"})
        given += [save(cluster) for _ in range(5)]
        with cluster.client() as client:
            client.add_user("bob@example.org", "secret-password")
        cluster.kill("n2")
        shutil.rmtree(data)
        shutil.copytree(old, data)
        cluster.start("n2")
        wait_for("n2 has new replicas", lambda: is_new_and_ok(cluster, "n2", 3))
        given += [save(cluster)]
        assert given == sorted(set(given))
        assert uids(cluster, "n2") == given
