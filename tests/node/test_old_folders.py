"""Data folders that other releases have written: of earlier ones the node goes on, of later ones it
says so and does not start."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from zlib import crc32

import lmdb

from raftmail.consensus.records import HEADER_BYTES
from raftmail.mail.uidset import UidSet
from raftmail.storage.index import MEMBERSHIP, TABLES
from raftmail.storage.kv import LmdbEngine, scan
from raftmail.storage.records import seal_packed
from tests.node.cluster import WAIT_S, Cluster, wait_for

USER = "alice@example.org"
BODY = b"Subject: kept\r\n\r\nbody\r\n"


def _as_before_memberships(folder: Path) -> None:
    """What a node's data was when replicas were numbered by the nodes' names, and the root knew
    users alone: no membership in an index, no configuration in the root, no file that lists the
    replicas, and no copy of the cluster's state."""
    data = folder / "data"
    (data / "replicas.json").unlink()
    (data / "cluster.json").unlink()
    for shard in (data / "shards").iterdir():
        engine = LmdbEngine(shard / "index", TABLES, map_bytes=1 << 26)
        engine.table("meta").delete(MEMBERSHIP)
        config = engine.table("config")
        for key in [key for key, _ in scan(config)]:
            config.delete(key)
        engine.commit(True)
        engine.close()
        _drop_tables(shard / "index", "deliveries", "delivered", "dates")


def _drop_tables(folder: Path, *names: str) -> None:
    """Take tables out of an index, as if the release that wrote it had not known them."""
    env = lmdb.open(str(folder), max_dbs=len(TABLES), map_size=1 << 26)
    with env.begin(write=True) as txn:
        for name in names:
            txn.drop(env.open_db(name.encode(), txn=txn), delete=True)
    env.close()


def test_a_folder_from_before_memberships_and_quotas_goes_on(tmp_path: Path) -> None:
    with Cluster(tmp_path / "c", shards=1) as cluster:
        for shard in range(2):
            cluster.master(shard)
        with cluster.client("n1") as client:
            client.add_user(USER, "secret-password")
            client.save(USER, "INBOX", BODY)
        for name in cluster.folders:
            process = cluster.processes[name]
            process.terminate()
        for name, folder in cluster.folders.items():
            assert cluster.processes[name].wait(WAIT_S) == 0
            _as_before_memberships(folder)
        for name in cluster.folders:
            cluster.start(name)
        for shard in range(2):
            cluster.master(shard)
        with cluster.client("n2") as client:
            assert [m.uid for m in client.messages(USER, "INBOX", UidSet.parse("1:*"))] == [1]
            client.save(USER, "INBOX", BODY)
            assert client.user_exists(USER)

        def written_down() -> bool:
            shards = cluster.ask("shard", "list")["shards"]
            return cluster.ask("member", "list")["revision"] > 0 and all(
                [r["id"] for r in s["replicas"]] == [1, 2, 3] for s in shards
            )

        wait_for("the root to write down what the cluster is", written_down)
        assert cluster.run("user", "quota", USER, "1M").exit_code == 0
        assert cluster.ask("user", "show", USER)["used_bytes"] == 2 * len(BODY)
        assert cluster.run("verify").exit_code == 0


def _later_identity(data: Path) -> None:
    path = data / "node.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 2}))


def _later_index(data: Path) -> None:
    engine = LmdbEngine(data / "shards" / "1" / "index", TABLES, map_bytes=1 << 26)
    engine.table("meta").put(b"format", seal_packed(b"format", 99))
    engine.commit(True)
    engine.close()


def _later_journal(data: Path) -> None:
    path = min((data / "shards" / "1" / "journal").glob("*.log"))
    raw = bytearray(path.read_bytes())
    raw[8] = 9
    raw[HEADER_BYTES - 4 : HEADER_BYTES] = crc32(raw[: HEADER_BYTES - 4]).to_bytes(4, "little")
    path.write_bytes(raw)


def test_a_folder_of_a_later_release_is_refused_with_words_and_left_as_it_is(
    tmp_path: Path,
) -> None:
    with Cluster(tmp_path / "c", nodes=1, shards=1) as cluster:
        for shard in range(2):
            cluster.master(shard)
        with cluster.client("n1") as client:
            client.add_user(USER, "secret-password")
            client.save(USER, "INBOX", BODY)
        cluster.processes["n1"].terminate()
        assert cluster.processes["n1"].wait(WAIT_S) == 0
        home = cluster.folders["n1"]
        data, whole = home / "data", tmp_path / "whole"
        shutil.copytree(home, whole)
        for spoil, said in (
            (_later_identity, "node.json: has format 2; this release reads 1"),
            (_later_index, "the index has format 99; this release reads 1"),
            (_later_journal, "it is in format 9; this program knows 3"),
        ):
            spoil(data)
            before = {p: p.read_bytes() for p in (data / "shards" / "1").rglob("*.log")}
            assert cluster.start("n1").wait(WAIT_S) == 1
            assert said in cluster.log("n1")
            assert {p: p.read_bytes() for p in (data / "shards" / "1").rglob("*.log")} == before
            assert not (data / "shards" / "1" / "index.damaged").exists()
            shutil.rmtree(data)
            shutil.copytree(whole / "data", data)
            shutil.copy2(whole / "started.json", home)  # the refused start is not counted
        cluster.start("n1")
        cluster.master(1)
        with cluster.client("n1") as client:
            assert client.body(USER, "INBOX", 1) == BODY
