"""A real disk that is full in the middle of a resync: the error says where, and the resync ends
well when there is space."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

_WAIT_S = 240.0
_NOT_HERE = 77

_SCRIPT = f"""
import os, sys
from pathlib import Path
from raftmail.mail.results import SaveResult
from raftmail_chaos import ground
from raftmail_chaos.disks import NodeDisk
from tests.node.cluster import Cluster, wait_for

on = ground.prepare(networks=False, disks=True)
if on.notes:
    print(*on.notes)
    sys.exit({_NOT_HERE})

USER = "a@example.org"
REFUSED = "No space left on device; tried again in"
cluster = Cluster(
    Path(sys.argv[1]),
    config="\\n[log]\\nentries_max = 16\\n[mail]\\ndisk_reserve_bytes = 1048576\\n",
)
home = cluster.folders["n3"]
disk = NodeDisk(home)
disk.make(96 << 20)
(disk.place / "data").mkdir()
(home / "data").symlink_to("disk/data")

def save(client, count, size):
    for number in range(count):
        text = os.urandom(size // 2).hex().encode()
        body = b"Subject: %d\\r\\n\\r\\n" % number + text + b"\\r\\n"
        result = client.save(USER, "INBOX", body).result
        assert isinstance(result, SaveResult)
        saved[result.saved[0].uid] = body

def row():
    status = cluster.status("n1")
    rows = [] if status is None else status["shards"][1]["replicas"]
    return next((r for r in rows if r["node"] == "n3"), {{}})

def begins(name):
    return cluster.ask("log", "show", str(cluster.folders[name]), "--shard", "1")[0]["index"]

with cluster:
    cluster.master(1)
    saved = {{}}
    with cluster.client() as client:
        client.add_user(USER, "secret-password")
        save(client, 3, 1000)
    wait_for("n3 to have it", lambda: row().get("lag") == 0)
    last = row()["last_index"]
    cluster.terminate("n3")
    with cluster.client("n1") as client:
        save(client, 24, 400_000)
        # A log loses whole files, with commits of the index: so it takes a few.
        def reach_back_no_more():
            save(client, 20, 100)
            return min(begins("n1"), begins("n2")) > last + 1

        wait_for("logs that reach back no more", reach_back_no_more)
    disk.fill()
    ballast = disk.place / "ballast"
    os.truncate(ballast, ballast.stat().st_size - (3 << 20))
    cluster.start("n3")
    wait_for("two tries", lambda: cluster.log("n3").count(REFUSED) >= 2)
    told = next(line for line in cluster.log("n3").splitlines() if REFUSED in line)
    assert "resync of shard 1 with n" in told and "/data/shards/1/" in told, told  # blobs, or index
    state = wait_for("its status", lambda: row().get("resync"))
    assert "No space left" in state["error"], state
    assert not row()["whole"]
    disk.clear()
    wait_for("it to be whole", lambda: row().get("whole") and row().get("state") == "ok", 100.0)
    with cluster.client("n3") as client:
        for uid, body in saved.items():
            assert client.body(USER, "INBOX", uid) == body
        assert client.admin("verify")["equal"]
    assert cluster.terminate("n3") == 0
    fsck = cluster.run("fsck", str(home))
    assert fsck.exit_code == 0, fsck.output
"""


def test_a_resync_onto_a_disk_that_fills_up_goes_on_when_there_is_space(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, str(tmp_path / "c")],
        capture_output=True,
        text=True,
        timeout=_WAIT_S,
        cwd=Path(__file__).parents[2],
    )
    if done.returncode == _NOT_HERE:
        pytest.skip(done.stdout.strip())
    assert done.returncode == 0, done.stderr
