"""What an operator does before maintenance, with real nodes: cordons, transfers, and what is said
without a majority."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.node.cluster import Cluster, wait_for


def _leads(cluster: Cluster, node: str) -> list[int]:
    leads: list[int] = cluster.ask("member", "show", node)["leads"]
    return leads


def _from(cluster: Cluster, node: str, *arguments: str) -> Any:
    """A command that asks one node alone."""
    return cluster.run(
        "--cluster", cluster.clients[node], "--ca", str(cluster.made.ca), "--token-file",
        str(cluster.made.token_file), *arguments,
    )  # fmt: skip


def test_a_node_is_cordoned_a_transfer_stands_and_silence_is_named(tmp_path: Path) -> None:
    with Cluster(tmp_path / "c", nodes=4, shards=3) as cluster:
        for shard in range(4):
            cluster.master(shard)
        shards = cluster.ask("shard", "list")["shards"]
        wait_for("a founded cluster", lambda: all(s["master"] for s in shards))

        # From every node, with a replica or not, also after the master has changed.
        number = 1
        holders = [r["node"] for r in shards[number]["replicas"]]
        for asked, target in zip(cluster.clients, [*holders, holders[0]], strict=True):
            done = _from(cluster, asked, "transfer", str(number), target)
            assert done.exit_code == 0 and f"led by {target}" in done.output, done.output
            assert _from(cluster, asked, "verify").exit_code == 0

        cordoned = holders[0]
        cluster.ask("member", "cordon", cordoned)
        wait_for("no masters there", lambda: not _leads(cluster, cordoned))
        cluster.kill(cordoned)
        cluster.start(cordoned)
        wait_for("it to be back", lambda: _from(cluster, cordoned, "status").exit_code == 0)
        (row,) = [n for n in cluster.ask("member", "list")["nodes"] if n["name"] == cordoned]
        assert row["cordoned"] is True
        refused = cluster.run("transfer", str(number), cordoned)
        assert refused.exit_code == 1 and f"uncordon {cordoned}" in refused.output

        left, *gone = cluster.clients
        for name in gone:
            cluster.kill(name)
        said = _from(cluster, left, "--deadline", "6", "member", "list")
        assert said.exit_code == 75
        assert f"shard 0 has no master: {', '.join(gone[:-1])} and {gone[-1]} do not" in said.output
        checked = _from(cluster, left, "status", "--check")
        assert checked.exit_code == 69 and "CRITICAL: shard 0" in checked.output
