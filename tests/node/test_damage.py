"""Real nodes whose files were removed, cut short or overwritten: they start, and are whole again by
themselves."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lmdb
import pytest

from raftmail.mail.results import SaveResult
from raftmail.node.file_watch import READ_S, FileWatch, look
from raftmail.storage.records import MESSAGE_KEY
from tests.node.cluster import Cluster, wait_for
from tests.shard.test_index_recovery import TEXTS, Machinery

USER = "alice@example.org"
SHORT_LOG = "\n[log]\nentries_max = 16\n"
"""So short that the index of every replica holds what no log holds any more."""


def _save(cluster: Cluster, numbers: range) -> dict[int, bytes]:
    """Messages by UID."""
    saved: dict[int, bytes] = {}
    with cluster.client() as client:
        for number in numbers:
            body = b"Subject: %d\r\n\r\n%b\r\n" % (number, b"body " * number)
            result = client.save(USER, "INBOX", body).result
            assert isinstance(result, SaveResult)
            saved[result.saved[0].uid] = body
    return saved


def _replica(cluster: Cluster, name: str, shard: int = 1) -> dict[str, Any]:
    status = cluster.status()
    rows = [] if status is None else status["shards"][shard]["replicas"]
    return next((row for row in rows if row["node"] == name), {})


def _is_whole(cluster: Cluster, name: str) -> bool:
    row = _replica(cluster, name)
    return row.get("state") == "ok" and row.get("lag") == 0


def _shard(cluster: Cluster, name: str, shard: int = 1) -> Path:
    return cluster.folders[name] / "data" / "shards" / str(shard)


def _remove_index(shard: Path) -> None:
    shutil.rmtree(shard / "index")


def _overwrite_index(shard: Path) -> None:
    path = shard / "index" / "data.mdb"
    path.write_bytes(b"not an index at all. " * 10_000)


def _cut_index(shard: Path) -> None:
    path = shard / "index" / "data.mdb"
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def _remove_bodies(shard: Path) -> None:
    for path in (shard / "blobs").glob("*.seg"):
        path.unlink()


def _cut_bodies(shard: Path) -> None:
    for path in (shard / "blobs").glob("*.seg"):
        with path.open("r+b") as file:
            file.truncate(path.stat().st_size // 3)


def _check(cluster: Cluster, name: str, saved: dict[int, bytes]) -> None:
    wait_for(f"{name} to be whole", partial(_is_whole, cluster, name))
    with cluster.client(name) as client:
        for uid, body in saved.items():
            assert client.body(USER, "INBOX", uid) == body
        report = client.admin("verify")
    assert report["equal"], report


def _check_all(cluster: Cluster, saved: dict[int, bytes]) -> None:
    """That of every node, once all are whole: until then they cannot be shown to be equal."""
    for name in cluster.folders:
        wait_for(f"{name} to be whole", partial(_is_whole, cluster, name))
    for name in cluster.folders:
        _check(cluster, name, saved)


def test_a_node_whose_files_were_lost_or_damaged_is_whole_again_by_itself(tmp_path: Path) -> None:
    damages: list[Callable[[Path], None]] = [
        _remove_index, _overwrite_index, _cut_index, _remove_bodies, _cut_bodies,
    ]  # fmt: skip
    with Cluster(tmp_path / "c", config=SHORT_LOG) as cluster:
        cluster.master(0)
        cluster.master(1)
        with cluster.client() as client:
            client.add_user(USER, "secret-password")
        saved = _save(cluster, range(40))
        for name in cluster.folders:
            first = _shard(cluster, name) / "journal" / "0000000000000001.log"
            while first.exists():
                saved |= _save(cluster, range(10))
        for number, damage in enumerate(damages):
            name = f"n{number % 3 + 1}"
            cluster.terminate(name)
            damage(_shard(cluster, name))
            saved |= _save(cluster, range(100 + 5 * number, 105 + 5 * number))
            cluster.start(name)
            _check(cluster, name, saved)
            if "index" in damage.__name__:
                assert "waits for a resync" in cluster.log(name)
            assert cluster.processes[name].poll() is None


@pytest.mark.parametrize("damage", [_remove_index, _cut_index])
def test_a_node_alone_makes_a_lost_index_again_from_its_whole_log(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    with Cluster(tmp_path / "c", nodes=1) as cluster:
        cluster.master(0)
        cluster.master(1)
        with cluster.client() as client:
            client.add_user(USER, "secret-password")
        saved = _save(cluster, range(10))
        cluster.kill("n1")
        damage(_shard(cluster, "n1"))
        cluster.start("n1")
        cluster.master(1)
        _check(cluster, "n1", saved)


def _all_placed(cluster: Cluster, name: str, count: int) -> bool:
    return cluster.placed_bodies(name) >= count


def _fsck(cluster: Cluster, name: str, *options: str) -> tuple[int, str]:
    run = subprocess.run(
        [sys.executable, "-m", "raftmail_cli", "fsck", *options, str(cluster.folders[name])],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    return run.returncode, run.stdout + run.stderr


@pytest.mark.long
def test_fsck_says_what_was_done_to_the_files_and_the_next_start_mends_it(tmp_path: Path) -> None:
    with Cluster(tmp_path / "c", config=SHORT_LOG + "[scrub]\nrate_bytes_s = 0\n") as cluster:
        cluster.master(0)
        cluster.master(1)
        with cluster.client() as client:
            client.add_user(USER, "secret-password")
        saved = _save(cluster, range(30))
        for name in cluster.folders:
            wait_for("all to be applied", partial(_is_whole, cluster, name))
            wait_for("all bodies to be placed", partial(_all_placed, cluster, name, len(saved)))
        for name in cluster.folders:
            assert cluster.terminate(name) == 0
        shards = {name: _shard(cluster, name) for name in cluster.folders}
        assert _fsck(cluster, "n1")[0] == 0, _fsck(cluster, "n1")

        # One byte of a body, and a message's record; all of the index; all of the bodies.
        (segment,) = (shards["n1"] / "blobs").glob("*.seg")
        data = bytearray(segment.read_bytes())
        data[data.index(saved[9])] ^= 1
        segment.write_bytes(data)
        with lmdb.open(str(shards["n1"] / "index"), max_dbs=32, map_size=1 << 30) as env:
            table = env.open_db(b"messages", create=False)
            with env.begin(write=True) as txn:
                assert txn.delete(MESSAGE_KEY.pack(1, 5), db=table)
        (shards["n1"] / "blobs" / "notes.txt").write_text("somebody was here")
        _cut_index(shards["n2"])
        _remove_bodies(shards["n3"])
        for name, words in (
            ("n1", ["is damaged", "notes.txt was added", "messages, but has"]),
            ("n2", ["is cut off"]),
            ("n3", ["is missing, with all bodies that were in it"]),
        ):
            code, text = _fsck(cluster, name)
            assert code == 1
            for word in words:
                assert word in text
        assert _fsck(cluster, "n1", "--repair")[0] == 1  # the file that was added stays
        (shards["n1"] / "blobs" / "notes.txt").unlink()
        for name in cluster.folders:
            assert _fsck(cluster, name, "--repair")[0] == 0
        for name in cluster.folders:
            cluster.start(name)
        _check_all(cluster, saved)
        for name in cluster.folders:
            assert cluster.terminate(name) == 0
        for name in cluster.folders:
            assert _fsck(cluster, name)[0] == 0, _fsck(cluster, name)


def _remove(path: Path) -> None:
    path.unlink()


def _truncate(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(600)


def _overwrite(path: Path) -> None:
    moved = path.with_name("copy")
    moved.write_bytes(b"nothing that a log has" * 100)
    moved.rename(path)


def test_a_running_node_whose_log_somebody_was_at_has_everything_in_it_again(
    tmp_path: Path,
) -> None:
    """Of every node, at once: no other could give it back. Killed after that, they find in their
    logs what was acknowledged."""
    with Cluster(tmp_path / "c") as cluster:
        cluster.master(0)
        cluster.master(1)
        with cluster.client() as client:
            client.add_user(USER, "secret-password")
        saved = _save(cluster, range(20))
        for name, damage in zip(cluster.folders, (_remove, _truncate, _overwrite), strict=True):
            damage(max((_shard(cluster, name) / "journal").glob("*.log")))
        saved |= _save(cluster, range(20, 30))
        for name in cluster.folders:
            wait_for(
                f"{name} to mend its log",
                lambda name=name: "the log is mended" in cluster.log(name),  # type: ignore[misc]
                # What was cut short and has grown since is found when it is read: of two shards
                # with two segments each, one every half minute.
                timeout_s=200.0,
            )
        saved |= _save(cluster, range(30, 40))
        for name in cluster.folders:
            cluster.kill(name)
        for name in cluster.folders:
            cluster.start(name)
        _check_all(cluster, saved)
        for name in cluster.folders:
            assert "waits for a resync" not in cluster.log(name)
        for name in cluster.folders:
            assert cluster.terminate(name) == 0
            assert _fsck(cluster, name)[0] == 0, _fsck(cluster, name)


def test_a_log_that_was_changed_is_read_in_its_turn_and_mended() -> None:
    replica = Machinery()
    replica.save(TEXTS)
    replica.turn()
    mended: list[tuple[int, str]] = []
    opened = {1: SimpleNamespace(replica=replica.replica)}
    watch = FileWatch(Path("/nowhere"), opened, lambda *told: mended.append(told))  # type: ignore[arg-type]
    names = sorted(replica.disk.listdir("journal"))
    replica.disk.flip_bit(f"journal/{names[1]}", 8 * 530)
    replica.replica.group.journal.file_lengths = dict
    for now in range(int(READ_S) * (len(names) + 1)):
        watch.tick(float(now))
    assert len(mended) == 1
    assert mended[0][0] == 1 and f"journal/{names[1]} was changed" in mended[0][1]


def test_a_running_node_is_told_when_somebody_was_at_its_files(tmp_path: Path) -> None:
    replica = Machinery()
    replica.save(TEXTS)
    replica.turn()
    for name in [*replica.disk.listdir("blobs")]:
        target = tmp_path / "blobs" / name
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(replica.disk.content(f"blobs/{name}"))
    for name in replica.disk.listdir("journal"):
        target = tmp_path / "journal" / name
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(replica.disk.content(f"journal/{name}"))
    (tmp_path / "index").mkdir()
    (tmp_path / "index" / "data.mdb").write_bytes(b"index")
    opened = SimpleNamespace(replica=replica.replica)
    assert look(tmp_path, opened) == []  # type: ignore[arg-type]
    (tmp_path / "index" / "data.mdb").unlink()
    (tmp_path / "journal" / "notes").write_text("somebody")
    for path in (tmp_path / "blobs").iterdir():
        path.write_bytes(path.read_bytes()[:40])
    first = min((tmp_path / "journal").glob("*.log"))
    first.unlink()
    told = "\n".join(look(tmp_path, opened))  # type: ignore[arg-type]
    for words in (
        "index/data.mdb was removed",
        f"journal/{first.name} was removed",
        "was cut short",
        "notes was added",
    ):
        assert words in told
