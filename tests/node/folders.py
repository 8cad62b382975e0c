"""A node's folder, as `raftmail init` makes it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from raftmail.node.bootstrap import make_cluster, plan_loopback


def node_folder(folder: Path, added: str) -> Path:
    """The folder of the only node of a cluster below `folder`; `added` is appended to its
    configuration."""
    made = make_cluster(folder / "c", plan_loopback(1, 9000), shards=1, now=datetime.now(UTC))
    with open(made.folders[0] / "node.toml", "a", encoding="utf-8") as config:
        config.write(added)
    return made.folders[0]
