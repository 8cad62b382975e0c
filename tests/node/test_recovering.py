"""A cluster that lost the majority of its replicas for good goes on with what is left, when an
operator says so."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from raftmail.mail.results import SaveResult
from raftmail.mail.uidset import UidSet
from tests.node.cluster import Cluster, wait_for

USER = "alice@example.org"
BODY = b"Subject: kept\r\n\r\nbody\r\n"


def _settled(cluster: Cluster) -> Any:
    """Every shard has three whole replicas, and nothing is under way."""
    result = cluster.run("shard", "list", "-o", "json")
    if result.exit_code:
        return None
    shards = cluster.ask("shard", "list")["shards"]
    return all(
        len(s["replicas"]) == 3 and all(r["state"] == "voter" for r in s["replicas"])
        for s in shards
    )


def test_what_one_of_three_replicas_has_is_recovered_from_it_alone(tmp_path: Path) -> None:
    with Cluster(tmp_path / "c", shards=1) as cluster:
        cluster.master(0)
        cluster.master(1)
        with cluster.client() as client:
            client.add_user(USER, "secret-password")
            saved = client.save(USER, "INBOX", BODY).result
            assert isinstance(saved, SaveResult)
        wait_for("the shards to be founded", lambda: "written down" in _logs(cluster))

        refused = cluster.run("recover", "1", "--yes")
        assert refused.exit_code == 1
        assert "has a majority: 3 of 3 voters" in refused.output

        for name in ("n2", "n3"):
            cluster.kill(name)
            shutil.rmtree(cluster.folders[name] / "data")
        asked = cluster.run("recover", "1")
        assert asked.exit_code != 0, "nobody says yes"
        assert "LOST: replicas 2 on n2, 3 on n3" in asked.output
        for shard in ("0", "1"):
            done = cluster.run("--deadline", "60", "recover", shard, "--yes")
            assert done.exit_code == 0, done.output
        with cluster.client("n1") as client:
            assert client.body(USER, "INBOX", saved.saved[0].uid) == BODY
            client.save(USER, "INBOX", BODY)
        again = cluster.run("recover", "1", "--yes")
        assert again.exit_code == 1

        for name in ("n2", "n3"):
            cluster.start(name, "--replace")
        wait_for("the shards to have three replicas again", lambda: _settled(cluster))
        with cluster.client("n3") as client:
            assert len(list(client.messages(USER, "INBOX", UidSet.parse("1:*")))) == 2
            report = client.admin("verify")
        assert report["equal"], report
        shown = cluster.run("log", "show", str(cluster.folders["n1"])).output.splitlines()
        changes = [line for line in shown if "who is in the group: " in line]
        forced = [line for line in changes if "BY FORCE" in line]
        assert len(forced) == 2, "one of each shard"
        assert all("who is in the group: voters 1=n1" in line for line in forced)
        assert len(changes) > len(forced), "the new replicas came in order"


@pytest.mark.long
def test_the_best_of_those_that_are_left_is_kept_and_no_other(tmp_path: Path) -> None:
    """Five replicas. One falls behind, then three are lost: the one that has everything goes on,
    and the other is refused."""
    with Cluster(tmp_path / "c", nodes=5, shards=1, replicas=5) as cluster:
        cluster.master(0)
        cluster.master(1)
        wait_for("the shards to be founded", lambda: "written down" in _logs(cluster))
        cluster.kill("n5")
        with cluster.client("n1") as client:
            client.add_user(USER, "secret-password")
            uids = [client.save(USER, "INBOX", BODY).result.saved[0].uid for _ in range(3)]  # type: ignore[union-attr]
        wait_for("n1 to have it all", lambda: _lag_of_n1(cluster) == 0)
        for name in ("n2", "n3", "n4"):
            cluster.kill(name)
            shutil.rmtree(cluster.folders[name] / "data")
        # As long as it believes to lead, it would give n5 what that lacks.
        wait_for("n1 to lead no more", lambda: _of_n1(cluster)["role"] != "master")
        cluster.start("n5")
        wait_for("n5 to answer", lambda: _left(cluster) == {1, 5})

        refused = cluster.run("recover", "1", "--keep", "5", "--yes")
        assert refused.exit_code == 1, refused.output
        assert "Replica 1 on n1 has entries that replica 5 has not" in refused.output
        assert "replica 1 on n1 has more than replica 5 on n5" in refused.output
        asked = cluster.run("recover", "1")
        assert asked.exit_code != 0, "nobody says yes"
        rows = [line.split() for line in asked.output.splitlines()]
        assert any(row[:2] == ["1", "n1"] and row[-2:] == ["goes", "on"] for row in rows)
        assert any(row[:2] == ["2", "n2"] and row[-1] == "LOST" for row in rows)
        for shard in ("0", "1"):
            done = cluster.run("--deadline", "60", "recover", shard, "--yes")
            assert done.exit_code == 0, done.output
        with cluster.client("n5") as client:
            assert [m.uid for m in client.messages(USER, "INBOX", UidSet.parse("1:*"))] == uids
        wait_for("n5 to have a new replica", lambda: "n5" in _voters(cluster))


def _of_n1(cluster: Cluster) -> Any:
    with cluster.client("n1") as client:
        return client.admin("status-here")["shards"]["1"]


def _lag_of_n1(cluster: Cluster) -> int | None:
    status = cluster.status("n1")
    rows = [] if status is None else status["shards"][1]["replicas"]
    return next((row.get("lag") for row in rows if row["node"] == "n1"), None)


def _left(cluster: Cluster) -> set[int]:
    with cluster.client("n1") as client:
        return {row["id"] for row in client.admin("recover-look", shard="1")["left"]}


def _voters(cluster: Cluster) -> set[str]:
    replicas = cluster.ask("shard", "show", "1")["replicas"]
    return {r["node"] for r in replicas if r["state"] == "voter"}


def _logs(cluster: Cluster) -> str:
    return "".join(map(cluster.log, cluster.folders))
