"""What operators see of a cluster that changes: nodes, shards, rules, and a large status on one
screen."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from raftmail.admin.api.calls import Call
from raftmail.admin.api.codec import decode
from raftmail.admin.api.status import ClusterStatus
from raftmail_cli.cluster_commands import ROWS_MAX
from raftmail_cli.output import to_json
from raftmail_cli.top import Rates, look, picture
from tests.cli.cluster_twin import R, Twin
from tests.cli.test_cli_cluster import STATUS, run

SCREEN_LINES = 50


def _large(nodes: int, shards: int) -> dict[str, Any]:
    """A status in which all is well, but for one replica of shard 7."""
    names = [f"n{i}" for i in range(nodes)]
    row = copy.deepcopy(STATUS["shards"][0]["replicas"][0])
    rows: list[dict[str, Any]] = []
    for shard in range(shards):
        held = [names[(shard + i) % nodes] for i in range(3)]
        replicas = [{**row, "node": n, "requests": 10 * shard, "sync_ms": 1.5} for n in held]
        rows.append({"shard": shard, "master": held[0], "term": 4, "replicas": replicas})
    rows[7]["replicas"][1]["state"] = "resyncing"
    up = {**STATUS["nodes"][0], "membership": "active"}
    return {**STATUS, "nodes": [{**up, "name": n} for n in names], "shards": rows}


def test_the_status_of_a_large_cluster_fits_on_a_screen_and_shows_what_is_wrong() -> None:
    twin = Twin({"status": _large(30, 1000)})
    shown = run(twin, "status").stdout
    assert len(shown.splitlines()) <= SCREEN_LINES
    assert "shard 7 on node n8: resyncing" in shown
    assert "raftmail status --all" in shown
    assert len(run(twin, "status", "--all").stdout.splitlines()) > 3000
    small = _large(3, 8)
    assert ROWS_MAX < 3 + 3 * 8
    assert len(run(Twin({"status": small}), "status").stdout.splitlines()) <= SCREEN_LINES


def test_top_shows_what_is_written_and_troubles_first_on_as_many_lines_as_there_are() -> None:
    status = _large(30, 200)
    status["shards"][9]["master"] = None
    rates = Rates()
    look(decode(ClusterStatus, status), rates, 10.0)
    later = copy.deepcopy(status)
    for replica in later["shards"][5]["replicas"]:
        replica["requests"] += 300
    seen = look(decode(ClusterStatus, later), rates, 12.0)
    assert seen.shards[0].shard == 9, "one without a master comes first"
    assert to_json(seen.shards[2]) == {
        "shard": 5, "master": "n5", "writes_s": 150.0, "sync_ms": 1.5, "lag": 1, "states": [],
        "replicas": 3, "unreachable": 0,
    }  # fmt: skip
    assert sum(node.writes_s for node in seen.nodes) == 150.0
    assert len(picture(seen, 24).renderables) >= 4


NODE = {
    "name": "n1", "peer": "h:1", "client": "h:2", "lmtp": "", "host": "", "zone": "b",
    "labels": ["ssd"],
    "capacity": 100, "state": "draining", "joined_s": 0, "cordoned": False, "replicas": 2,
    "joining": 0, "leaving": 1,
}  # fmt: skip
DETAILS = {**NODE, "leads": [], "held": [], "operations": [], "at_risk": [], "waits_for": []}
MEMBERS = {"revision": 9, "cluster": "c", "shards": 1, "replicas": 3, "nodes": [NODE]}


def test_a_drain_is_watched_until_nothing_is_left_and_can_be_watched_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("raftmail_cli.watching.POLL_S", 0.0)
    monkeypatch.setattr("raftmail_cli.watching._STUCK_S", 0.0)
    left = [2, 2, 2, 2, 1, 0]

    class Draining(Twin):
        def admin(self, call: Call[R]) -> R:
            self.answers["node"] = {
                **DETAILS,
                "replicas": left.pop(0) if len(left) > 1 else left[0],
                "waits_for": ["shard 3: n4 (silent for 9 s)", "shard 4: it is being filled"],
            }
            return super().admin(call)

    twin = Draining()
    result = run(twin, "member", "drain", "n1", "--wait")
    assert result.exit_code == 0
    stuck = "draining n1: 2 left (waits for shard 3: n4 (silent for 9 s) and 1 more)"
    assert stuck in result.stderr.splitlines()
    assert "n1 is empty" in result.stdout
    assert {what for what, _ in twin.asked} == {"node"}, (
        "it is being drained already: nothing is asked twice"
    )


def test_a_drain_that_somebody_takes_back_is_not_watched_for_ever() -> None:
    answer = {**DETAILS, "state": "active"}
    result = run(Twin({"node": answer, "drain": NODE}), "member", "drain", "n1", "--wait")
    assert result.exit_code == 1
    assert "somebody took it back" in result.stderr


def test_removing_by_force_shows_what_is_at_risk_and_asks() -> None:
    answer = {**DETAILS, "at_risk": ["shard 3: 1 of 3 replicas are left"]}
    twin = Twin({"node": answer, "remove": {**NODE, "state": "removed"}})
    result = run(twin, "member", "remove", "n1", "--force")
    assert result.exit_code == 1 and "--yes" in result.stderr, "nobody can be asked"
    assert "AT RISK: shard 3" in result.stderr
    assert [what for what, _ in twin.asked] == ["node"]
    assert run(twin, "member", "remove", "n1", "--force", "--yes").exit_code == 0
    assert twin.asked[-1][1]["force"] == "yes"


MOVES = [
    {"shard": 2, "source": "n1", "target": "n4", "why": "n1 holds more than n4", "bytes": 5_000}
]


def test_a_rebalance_can_be_looked_at_before_it_is_begun() -> None:
    twin = Twin({"rebalance": {"moves": MOVES, "bytes": 5_000, "begun": False}})
    shown = run(twin, "rebalance", "--dry-run").stdout
    assert "1 replica with 5.0 kB would be moved" in shown
    assert twin.asked[-1][1]["dry_run"] == "yes"
    assert run(twin, "rebalance", "--dry-run", "--stop").exit_code == 2


def test_operations_that_run_are_told_by_the_exit_status() -> None:
    done = {
        "id": "x",
        "kind": "drain",
        "subject": "n1",
        "state": "done",
        "left": 0,
        "by": "",
        "via": "n2",
        "began_s": 1,
    }
    answer: dict[str, Any] = {"operations": [done], "moving": [], "waits_for": []}
    assert run(Twin({"operations": answer}), "operations").exit_code == 0
    answer["operations"] = [{**done, "state": "running", "left": 3}]
    result = run(Twin({"operations": answer}), "operations")
    assert result.exit_code == 1
    assert "running" in result.stdout


def test_lists_are_given_to_programs_as_json() -> None:
    twin = Twin({"nodes": MEMBERS, "invitations": {"invitations": []}})
    assert json.loads(run(twin, "member", "list", "-o", "json").stdout)["nodes"][0]["name"] == "n1"
    assert "1 leaving" in run(twin, "member", "list").stdout
