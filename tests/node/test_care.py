"""Real nodes: what operators order and are told about resyncs, scrub and verification, and what
happens without them."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import lmdb

from raftmail.mail.results import SaveResult
from raftmail.storage.records import MESSAGE_KEY
from raftmail_cli.errors import TRY_LATER
from tests.node.cluster import Cluster, wait_for

USER = "alice@example.org"
CARE = "\n[scrub]\nperiod_s = 3600\nrate_bytes_s = 100000000\n[verify]\nperiod_s = 2\n"


def cli(cluster: Cluster, *arguments: str) -> tuple[int, str]:
    """Exit code and output of a command."""
    made = cluster.made
    where = (
        "--cluster", ",".join(cluster.clients.values()),
        "--ca", str(made.ca), "--token-file", str(made.token_file),
    )  # fmt: skip
    run = subprocess.run(
        [sys.executable, "-m", "raftmail_cli", *where, *arguments],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    return run.returncode, run.stdout + run.stderr


def _when_answered(cluster: Cluster, *arguments: str) -> tuple[int, str]:
    """As `cli`; asked again while the nodes are too busy to answer in time."""
    answers: list[tuple[int, str]] = []

    def answered() -> bool:
        answers.append(cli(cluster, *arguments))
        return answers[-1][0] != TRY_LATER

    wait_for("an answer", answered)
    return answers[-1]


def begin(cluster: Cluster, count: int) -> dict[int, bytes]:
    """Messages by UID."""
    cluster.master(0)
    cluster.master(1)
    saved: dict[int, bytes] = {}
    with cluster.client() as client:
        client.add_user(USER, "secret-password")
        for number in range(count):
            body = b"Subject: %d\r\n\r\n%b\r\n" % (number, b"words " * (20 + number))
            result = client.save(USER, "INBOX", body).result
            assert isinstance(result, SaveResult)
            saved[result.saved[0].uid] = body
    wait_for("all to be applied", partial(_all_whole, cluster))
    return saved


def _all_whole(cluster: Cluster) -> bool:
    status = cluster.status()
    if status is None:
        return False
    replicas = [r for shard in status["shards"] for r in shard["replicas"]]
    return all(r.get("whole") and r.get("lag") == 0 for r in replicas)


def _all_placed(cluster: Cluster, name: str, count: int) -> bool:
    return cluster.placed_bodies(name) >= count


def _shard(cluster: Cluster, name: str) -> Path:
    return cluster.folders[name] / "data" / "shards" / "1"


def _rot_body(folder: Path, body: bytes) -> None:
    """Change a byte of a body on the disk, behind the node's back."""
    for path in (folder / "blobs").glob("*.seg"):
        data = path.read_bytes()
        at = data.find(body)
        if at >= 0:
            with path.open("r+b") as file:
                file.seek(at + 10)
                file.write(bytes([data[at + 10] ^ 1]))
            return
    raise AssertionError("the body is not there")


def _drop_message(folder: Path, uid: int) -> None:
    """Take a message's record out of the index of a stopped node."""
    with lmdb.open(str(folder / "index"), max_dbs=32, map_size=1 << 30) as env:
        table = env.open_db(b"messages", create=False)
        with env.begin(write=True) as txn:
            assert txn.delete(MESSAGE_KEY.pack(1, uid), db=table)


def _lost(cluster: Cluster) -> list[dict[str, Any]]:
    status = cluster.status()
    replicas = [] if status is None else status["shards"][1]["replicas"]
    if not all(r.get("lost_bodies") for r in replicas):
        return []
    return [r["lost"] for r in replicas if r["lost"]]


def test_rot_is_mended_by_reads_and_by_the_scrub_and_what_is_lost_is_told(tmp_path: Path) -> None:
    with Cluster(tmp_path / "c", config=CARE) as cluster:
        saved = begin(cluster, 30)
        for name in cluster.folders:
            wait_for("all bodies to be placed", partial(_all_placed, cluster, name, len(saved)))
        for name in cluster.folders:
            cluster.terminate(name)
        one, two, three = 3, 7, 11
        _rot_body(_shard(cluster, "n1"), saved[one])
        _rot_body(_shard(cluster, "n2"), saved[two])
        for name in cluster.folders:
            _rot_body(_shard(cluster, name), saved[three])
            cluster.start(name)
        cluster.master(1)
        with cluster.client("n1") as client:
            assert client.body(USER, "INBOX", one) == saved[one]
        lost = wait_for("the lost body to be told", partial(_lost, cluster))
        for told in lost:
            assert [(m["user"], m["mailbox"], m["uid"]) for m in told] == [(USER, "INBOX", three)]
        code, text = cli(cluster, "resync", "status")
        assert code == 1 and f"{USER}/INBOX UID {three}" in text
        assert f"UID {three}" in cluster.log("n1")
        with cluster.client("n2") as client:
            assert client.body(USER, "INBOX", two) == saved[two]


def test_a_replica_that_differs_is_found_told_exactly_and_resynced_by_itself(
    tmp_path: Path,
) -> None:
    with Cluster(
        tmp_path / "c", config="\n[scrub]\nrate_bytes_s = 0\n[verify]\nperiod_s = 0\n"
    ) as cluster:
        begin(cluster, 20)
        code, text = cli(cluster, "-o", "json", "verify", "--deep")
        assert code == 0, text
        assert json.loads(text)["shards"][1]["replicas"][0]["bodies"] == 20
        victim = next(n for n in cluster.folders if n != cluster.master(1))
        cluster.terminate(victim)
        _drop_message(_shard(cluster, victim), 5)
        cluster.start(victim)
        wait_for("it to be back", partial(_all_whole, cluster))
        code, text = cli(cluster, "verify", "--deep")
        assert code == 1
        assert f"{USER}/INBOX UID 5: the message is missing on {victim}" in text
        order = ("resync", "start", victim, "--user", USER, "--mailbox", "INBOX")
        third = next(n for n in cluster.folders if n not in (victim, cluster.master(1)))
        cluster.terminate(third)
        code, text = _when_answered(cluster, *order)
        assert code == 1, text
        assert f"shard 1 needs 2 whole voters, and 1 would be left without {victim}" in text
        assert f"{third} does not answer" in text
        cluster.start(third)
        wait_for("the third to be back", partial(_all_whole, cluster))
        code, text = _when_answered(cluster, *order)
        assert code == 0, text
        wait_for("them to be equal", lambda: cli(cluster, "verify", "--deep")[0] == 0)


def test_replicas_are_compared_by_themselves_and_the_minority_is_mended(tmp_path: Path) -> None:
    with Cluster(tmp_path / "c", config=CARE.replace("100000000", "0")) as cluster:
        begin(cluster, 10)
        victim = next(n for n in cluster.folders if n != cluster.master(0))
        cluster.terminate(victim)
        root = cluster.folders[victim] / "data" / "shards" / "0"
        with lmdb.open(str(root / "index"), max_dbs=32, map_size=1 << 30) as env:
            table = env.open_db(b"users", create=False)
            with env.begin(write=True) as txn:
                assert txn.delete(USER.encode(), db=table)
        cluster.start(victim)
        wait_for("the alarm", lambda: any("ALARM" in cluster.log(n) for n in cluster.folders))
        wait_for(
            "the replica to be mended", lambda: "is resynced from" in cluster.log(cluster.master(0))
        )

        def equal() -> bool:
            return cli(cluster, "verify")[0] == 0

        wait_for("them to be equal", equal)
