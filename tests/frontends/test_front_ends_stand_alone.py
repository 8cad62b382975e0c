"""A front end needs nothing of a node but what its service gives: it runs where there is none."""

from __future__ import annotations

import subprocess
import sys

FRONT_ENDS = ("raftmail.frontends.text.server", "raftmail.frontends.lmtp.server")
BELOW = (
    "raftmail.cluster",
    "raftmail.shard",
    "raftmail.storage",
    "raftmail.consensus",
    "raftmail.resync",
    "raftmail.node",
    "raftmail.peering",
    "pysyncobj",
    "lmdb",
)


def test_a_front_end_loads_nothing_of_the_cluster_nor_of_the_store() -> None:
    script = f"import sys, {', '.join(FRONT_ENDS)}\nprint(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(ran.stdout.split())
    assert set(FRONT_ENDS) <= loaded
    assert not loaded & set(BELOW)
