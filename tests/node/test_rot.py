"""Real nodes whose index rots, while they run and while they are stopped: mail goes on, and all is
repaired."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from raftmail.mail.results import SaveResult
from raftmail.mail.uidset import UidSet
from raftmail.storage.index import TABLES
from raftmail.storage.kv import LmdbReader, scan
from tests.node.cluster import Cluster, wait_for
from tests.node.test_damage import _check_all, _fsck, _is_whole, _replica, _save, _shard

USER = "alice@example.org"


def _rows(shard: Path, table: str) -> list[tuple[bytes, bytes]]:
    reader = LmdbReader(shard / "index", TABLES)
    try:
        snapshot = reader.snapshot()
        try:
            return list(scan(snapshot.table(table)))
        finally:
            snapshot.close()
    finally:
        reader.close()


def _flip(shard: Path, table: str, at: int = 0) -> bytes:
    """Change a bit of the record of a table's row `at`, wherever the file has it. The row's key."""
    key, record = _rows(shard, table)[at]
    path = shard / "index" / "data.mdb"
    data = path.read_bytes()
    found = 0
    with path.open("r+b") as file:
        start = data.find(key + record)
        while start >= 0:
            where = start + len(key) + len(record) - 1
            file.seek(where)
            file.write(bytes((data[where] ^ 4,)))
            found += 1
            start = data.find(key + record, start + 1)
    assert found
    return key


def _begin(cluster: Cluster, count: int = 12) -> dict[int, bytes]:
    cluster.master(0)
    cluster.master(1)
    with cluster.client() as client:
        client.add_user(USER, "secret-password")
    saved = _save(cluster, range(count))
    for name in cluster.folders:
        wait_for("all to be applied", partial(_is_whole, cluster, name))
        wait_for("all to be placed", lambda name=name: cluster.placed_bodies(name) >= count)  # type: ignore[misc]
    return saved


def _expunge(cluster: Cluster, name: str, uid: int) -> None:
    with cluster.client(name) as client:
        client.expunge(USER, "INBOX", UidSet.from_uids([uid]))


OTHER_TABLES = ("places", "local", "meta", "mailboxes", "names")

NO_SCRUB = "\n[scrub]\nrate_bytes_s = 0\n"


@pytest.mark.parametrize(
    "table",
    [
        "local",
        "messages",
        *(pytest.param(t, marks=pytest.mark.long) for t in ("places", "blobrefs", "clients")),
    ],
)
def test_a_record_that_rots_under_the_running_master_stops_nothing(
    tmp_path: Path, table: str
) -> None:
    with Cluster(tmp_path / "c", config=NO_SCRUB) as cluster:
        saved = _begin(cluster)
        master = cluster.master(1)
        shard = _shard(cluster, master)
        for at in range(len(_rows(shard, table)) if table == "places" else 1):
            _flip(shard, table, at)
        for uid in (1, 5):
            _expunge(cluster, master, uid)
            del saved[uid]
        with cluster.client(master) as client:
            for uid, body in saved.items():
                assert client.body(USER, "INBOX", uid) == body
            again = client.save(USER, "INBOX", saved[7]).result
            assert isinstance(again, SaveResult)
            saved[again.saved[0].uid] = saved[7]
            wait_for("what `verify` finds to be mended", lambda: client.admin("verify")["equal"])
        _check_all(cluster, saved)
        assert all(process.poll() is None for process in cluster.processes.values())


@pytest.mark.parametrize(
    "table", ["messages", *(pytest.param(t, marks=pytest.mark.long) for t in OTHER_TABLES)]
)
def test_records_that_rot_on_two_stopped_nodes_keep_nobody_from_starting(
    tmp_path: Path, table: str
) -> None:
    with Cluster(tmp_path / "c", config=NO_SCRUB) as cluster:
        saved = _begin(cluster)
        for name in cluster.folders:
            assert cluster.terminate(name) == 0
        for number, name in enumerate(["n1", "n2"]):
            _flip(_shard(cluster, name), table, number % len(_rows(_shard(cluster, name), table)))
        for name in cluster.folders:
            cluster.start(name)
        cluster.master(1)
        saved |= _save(cluster, range(20, 24))
        with cluster.client("n3") as client:
            wait_for("what rotted to be mended", lambda: client.admin("verify")["equal"])
        _check_all(cluster, saved)


def test_fsck_finds_a_rotten_place_and_the_next_start_mends_it(tmp_path: Path) -> None:
    with Cluster(tmp_path / "c", config=NO_SCRUB) as cluster:
        saved = _begin(cluster)
        assert cluster.terminate("n1") == 0
        _flip(_shard(cluster, "n1"), "places", 3)
        code, text = _fsck(cluster, "n1")
        assert code == 1 and "places" in text
        assert _fsck(cluster, "n1", "--repair")[0] == 0
        cluster.start("n1")
        _check_all(cluster, saved)
        assert cluster.terminate("n1") == 0
        assert _fsck(cluster, "n1")[0] == 0, _fsck(cluster, "n1")


def test_a_replica_that_cannot_be_opened_is_shown_and_keeps_no_other_from_serving(
    tmp_path: Path,
) -> None:
    with Cluster(tmp_path / "c") as cluster:
        saved = _begin(cluster)
        assert cluster.terminate("n2") == 0
        journal = _shard(cluster, "n2") / "journal"
        moved = journal.with_name("elsewhere")
        journal.rename(moved)
        cluster.start("n2")
        wait_for(
            "it to be shown",
            lambda: _replica(cluster, "n2").get("state") == "cannot be opened",
        )
        assert "the journal is missing" in _replica(cluster, "n2")["why"]
        wait_for(
            "the root's replica to serve", lambda: _replica(cluster, "n2", 0).get("state") == "ok"
        )
        with cluster.client("n2") as client:
            for uid, body in saved.items():
                assert client.body(USER, "INBOX", uid) == body
        moved.rename(journal)
        _check_all(cluster, saved)
