"""Real nodes whose data folder goes back in time: nothing that was acknowledged is lost, and they
come back under new replica ids."""

from __future__ import annotations

import shutil
from pathlib import Path

from raftmail.mail.results import SaveResult
from raftmail.mail.uidset import UidSet
from tests.node.cluster import Cluster, free_ports, wait_for

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
    """Whether a node's replicas are as they should be, and that of shard 1 is another than one with
    an id up to `before`."""
    status = cluster.status() or {"shards": []}
    rows = [r for s in status["shards"] for r in s["replicas"] if r["node"] == node]
    return (
        len(rows) == 2
        and all(r["state"] == "ok" and r["lag"] == 0 for r in rows)
        and bool(rows[1]["replica"] > before)
    )


def test_replicas_that_went_back_are_set_aside_and_others_come_in_their_place(
    tmp_path: Path,
) -> None:
    with Cluster(tmp_path / "c") as cluster:
        begin(cluster)
        given = [save(cluster)]
        cluster.terminate("n2")
        data, old = cluster.folders["n2"] / "data" / "shards", tmp_path / "old"
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


def test_with_an_older_data_folder_and_a_node_away_no_acknowledged_mail_is_lost(
    tmp_path: Path,
) -> None:
    """Only the node that is away knows what the older folder lacks."""
    with Cluster(tmp_path / "c") as cluster:
        begin(cluster)
        given = [save(cluster)]
        cluster.terminate("n2")
        data, old = cluster.folders["n2"] / "data", tmp_path / "old"
        shutil.copytree(data, old)
        cluster.kill("n1")
        cluster.start("n2")
        cluster.master(1)
        given += [save(cluster, "n2", "n3") for _ in range(3)]
        cluster.kill("n2")
        cluster.kill("n3")
        shutil.rmtree(data)
        shutil.copytree(old, data)
        cluster.start("n1")
        cluster.start("n2")
        wait_for("n2 says why it takes no part", lambda: "older" in cluster.log("n2"))
        cluster.start("n3")
        cluster.master(1)
        wait_for("n1 has all", lambda: uids(cluster, "n1") == given)


def test_a_node_folder_that_is_older_as_a_whole_waits_for_who_can_tell(tmp_path: Path) -> None:
    """Nothing on the machine tells that it went back, and who knows is away: what looks like a copy
    does not take part."""
    with Cluster(tmp_path / "c") as cluster:
        begin(cluster)
        given = [save(cluster)]
        cluster.terminate("n2")
        home, old = cluster.folders["n2"], tmp_path / "old"
        shutil.copytree(home, old)
        cluster.kill("n1")
        cluster.start("n2")
        cluster.master(1)
        given += [save(cluster, "n2", "n3") for _ in range(3)]
        cluster.kill("n2")
        cluster.kill("n3")
        shutil.rmtree(home)
        shutil.copytree(old, home)
        cluster.start("n1")
        cluster.start("n2")
        wait_for(
            "n2 asks, and takes no part", lambda: states(cluster, "n2").get(1) == "asks the others"
        )
        cluster.start("n3")
        cluster.master(1)
        wait_for("n1 has all", lambda: uids(cluster, "n1") == given)


def test_a_node_with_an_older_data_folder_comes_back_by_the_command_that_it_names(
    tmp_path: Path,
) -> None:
    with Cluster(tmp_path / "c") as cluster:
        begin(cluster)
        cluster.terminate("n2")
        data, old = cluster.folders["n2"] / "data", tmp_path / "old"
        shutil.copytree(data, old)
        cluster.start("n2")
        wait_for("n2 is back", lambda: states(cluster, "n2") == {0: "ok", 1: "ok"})
        given = [save(cluster) for _ in range(3)]
        cluster.terminate("n2")
        shutil.rmtree(data)
        shutil.copytree(old, data)
        assert cluster.start("n2").wait(60) == 1
        assert f"raftmail node --replace {cluster.folders['n2']}" in cluster.log("n2")
        cluster.start("n2", "--replace")
        wait_for("n2 has new replicas", lambda: is_new_and_ok(cluster, "n2", 3))
        assert (cluster.folders["n2"] / "data.older-1").exists()
        assert uids(cluster, "n2") == given


def test_of_two_processes_that_are_one_node_the_second_is_refused_and_the_first_goes_on(
    tmp_path: Path,
) -> None:
    with Cluster(tmp_path / "c") as cluster:
        begin(cluster)
        cluster.terminate("n3")
        twin = tmp_path / "c" / "n3b"
        shutil.copytree(cluster.folders["n3"], twin)
        cluster.start("n3")
        wait_for("n3 is back", lambda: states(cluster, "n3") == {0: "ok", 1: "ok"})
        config = (twin / "node.toml").read_text()
        for at, port in zip(
            (cluster.plans[2].peer, cluster.plans[2].client, cluster.plans[2].lmtp),
            free_ports(3),
            strict=True,
        ):
            config = config.replace(at, f"127.0.0.1:{port}")
        (twin / "node.toml").write_text(config)
        cluster.folders["n3b"] = twin
        assert cluster.start("n3b").wait(60) != 0
        said = cluster.log("n3b")
        assert "two processes are node n3" in said
        assert cluster.plans[2].peer in said
        given = [save(cluster, "n3"), save(cluster, "n1")]
        assert uids(cluster, "n3") == given
        assert any("two processes are node n3" in a["text"] for a in cluster.status("n1")["alarms"])
        assert cluster.log("n1").count("two processes are node n3") <= 2
