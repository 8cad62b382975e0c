"""A cluster that lost the majority of its replicas for good goes on with what is left, when an operator says so."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

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
        assert (
            "who is in the group: voters 1=n1"
            in cluster.run("log", "show", str(cluster.folders["n1"])).output
        )


def _logs(cluster: Cluster) -> str:
    return "".join(map(cluster.log, cluster.folders))
