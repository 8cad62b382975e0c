"""Status, verification, options, exit codes, and where a cluster is found."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from raftmail_cli import clusterfile
from raftmail_cli.clusterfile import NodeEntry
from raftmail_cli.errors import CliError, TryLater
from raftmail_cli.main import main
from raftmail_cli.settings import Settings
from tests.cli.cluster_twin import Twin

TOKEN = 32 * "c0"
STATUS: dict[str, Any] = {
    "cluster": "ab" * 16,
    "asked": "n1",
    "nodes": [
        {
            "name": "n1",
            "up": True,
            "peer": "127.0.0.1:9000",
            "membership": "active",
            "cordoned": False,
            "version": "0.1.0",
            "pid": 17,
            "uptime_s": 300.5,
            "disk_free_bytes": 20_500_000_000,
            "disk": {
                "slow": False,
                "sync_p50_ms": 1.0,
                "sync_p99_ms": 9.0,
                "sync_last_ms": 1.0,
                "sync_under_way_ms": 0.0,
            },
            "memory_budget_bytes": 1_000_000_000,
            "links": {"n2": False},
        },
        {
            "name": "n2",
            "up": False,
            "peer": "127.0.0.1:9010",
            "membership": "active",
            "cordoned": False,
        },
    ],
    "shards": [
        {
            "shard": 1,
            "master": "n1",
            "term": 4,
            "replicas": [
                {
                    "node": "n1",
                    "replica": 1,
                    "role": "master",
                    "term": 4,
                    "commit_index": 120,
                    "applied_index": 119,
                    "last_index": 120,
                    "log_bytes": 65536,
                    "index_bytes": 4096,
                    "blob_bytes": 999,
                    "deliveries_known": 0,
                    "state": "ok",
                    "conditions": [],
                    "may_lead": True,
                    "whole": True,
                    "missing_bodies": 0,
                    "missing_bytes": 0,
                    "lost_bodies": 0,
                    "lost": [],
                    "serving": [],
                    "scrub": {
                        "rounds": 1,
                        "table": "mailboxes",
                        "read_bytes": 0,
                        "round_s": 0.0,
                        "late": False,
                        "rate_bytes_s": 4_194_304,
                        "needed_bytes_s": 1,
                        "findings": [],
                    },
                    "requests": 0,
                    "entries": 0,
                    "sync_ms": 1.5,
                    "files": [],
                    "lag": 1,
                },
                {"node": "n2", "state": "unreachable"},
            ],
            "verified": None,
        }
    ],
    "users": 3,
    "alarms": [],
}


def replica(node: str, digest: str | None, error: str | None = None) -> dict[str, Any]:
    return {"node": node, "index": 9, "digest": digest, "error": error}


def verified(*replicas: dict[str, Any], equal: bool) -> dict[str, Any]:
    shard = {"shard": 1, "index": 9, "equal": equal, "replicas": list(replicas)}
    return {"equal": equal, "shards": [shard]}


def run(twin: Twin, *arguments: str, cluster: str = "127.0.0.1:1") -> Result:
    settings = Settings(cluster=cluster, opener=twin.open)
    return CliRunner().invoke(main, list(arguments), obj=settings)


def test_status_shows_nodes_masters_lag_and_what_is_wrong() -> None:
    shown = run(Twin({"status": STATUS}), "status").stdout
    lines = shown.splitlines()
    assert "Nodes up: 1 of 2.  Shards with a master: 1 of 1.  Users: 3." in lines[1]
    assert "! node n2 is down" in lines
    (master,) = [line.split() for line in lines if "MASTER" in line]
    assert master[:7] == ["1", "n1", "MASTER", "4", "120", "119", "1"]
    assert "65.5 kB" in shown and "20.5 GB" in shown and "5 min" in shown
    assert any("DOWN" in line for line in lines)
    assert any("unreachable" in line for line in lines)


def test_status_tells_a_shard_without_a_master() -> None:
    status = copy.deepcopy(STATUS)
    status["shards"][0]["master"] = None
    assert "shard 1 has no master" in run(Twin({"status": status}), "status").stdout


def test_json_is_the_answer_itself_before_and_after_the_command() -> None:
    for arguments in (("-o", "json", "status"), ("status", "-o", "json"), ("status", "-ojson")):
        shown = json.loads(run(Twin({"status": STATUS}), *arguments).stdout)
        (trouble,) = shown.pop("troubles")
        assert (trouble["kind"], trouble["node"], trouble["shard"]) == ("node-down", "n2", None)
        assert trouble["serving"] is True
        assert shown == STATUS


def test_a_check_tells_by_its_exit_code_and_says_what_to_do() -> None:
    well = copy.deepcopy(STATUS)
    well["nodes"][1]["up"] = True
    well["shards"][0]["replicas"][1] = {**well["shards"][0]["replicas"][0], "node": "n2"}
    dead = copy.deepcopy(STATUS)
    dead["shards"][0]["master"] = None
    cases = ((well, 0, "OK: 2 nodes up"), (STATUS, 1, "WARNING: node n2"), (dead, 69, "CRITICAL"))
    for status, code, words in cases:
        result = run(Twin({"status": status}), "status", "--check")
        assert result.exit_code == code, result.output
        assert result.stdout.startswith(words)
        assert code == 0 or "To do: " in result.stdout
    assert run(Twin({"status": dead}), "status", "--check", "-o", "json").exit_code == 69
    assert run(Twin(failure=TryLater("x")), "status", "--check").exit_code == 75


def test_status_says_plainly_that_nothing_works_and_who_does_not_answer() -> None:
    status = copy.deepcopy(STATUS)
    status["shards"][0]["master"] = None
    shown = run(Twin({"status": status}), "status").stdout
    assert "! NO SHARD HAS A MASTER: mail can be neither read nor saved." in shown
    assert (
        "shard 1 has no master: its mail can be neither read nor saved; n2 does not answer" in shown
    )


def test_equal_replicas_are_exit_status_0() -> None:
    answer = verified(replica("n1", "aa"), replica("n2", "aa"), equal=True)
    result = run(Twin({"verify": answer}), "verify")
    assert result.exit_code == 0
    assert "All replicas are equal." in result.stdout


def test_a_replica_that_differs_is_exit_status_1_and_named() -> None:
    replicas = [replica("n1", "aa"), replica("n2", "bb"), replica("n3", "aa")]
    result = run(Twin({"verify": verified(*replicas, equal=False)}), "verify")
    assert result.exit_code == 1
    (line,) = [line for line in result.stdout.splitlines() if "DIFFERS" in line]
    assert "n2" in line


def test_a_replica_that_gives_no_digest_is_shown_with_its_reason() -> None:
    answer = verified(replica("n1", "aa"), replica("n2", None, "does not answer"), equal=False)
    result = run(Twin({"verify": answer}), "verify")
    assert result.exit_code == 1
    assert "does not answer" in result.stdout
    assert run(Twin({"verify": answer}), "verify", "-o", "json").exit_code == 1


def test_a_transfer_names_shard_and_node() -> None:
    twin = Twin({"transfer": {"shard": 2, "master": "n3"}})
    result = run(twin, "transfer", "2", "n3")
    assert result.stdout == "Shard 2 is led by n3.\n"
    assert twin.asked == [("transfer", {"shard": "2", "node": "n3"})]


def test_no_answer_in_time_is_exit_status_75() -> None:
    result = run(Twin(failure=TryLater("no node answers")), "status")
    assert (result.exit_code, result.stderr) == (75, "raftmail: no node answers\n")


def test_a_failure_is_one_line_even_when_its_text_has_several() -> None:
    result = run(Twin(failure=CliError("a\nb\x1b[1m")), "status")
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1 and "\x1b" not in result.stderr


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["status", "--nonsense"], ["fetch", "a"], ["-o", "xml", "status"]]
)
def test_wrong_usage_is_exit_status_2_and_one_line(arguments: list[str]) -> None:
    result = run(Twin(), *arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith("raftmail: ") and result.stderr.count("\n") == 1


def test_a_list_of_addresses_needs_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAFTMAIL_TOKEN", TOKEN)
    twin = Twin({"status": STATUS})
    assert run(twin, "status", "--cluster", "a:1, [::1]:2", "--deadline", "3").exit_code == 0
    (where,) = twin.opened
    assert (where.addresses, where.token, where.deadline_s) == (("a:1", "[::1]:2"), TOKEN, 3.0)


def test_what_is_no_address_and_no_file_is_told() -> None:
    result = run(Twin(), "status", "--cluster", "a:1,b")
    assert result.exit_code == 1
    assert "'b' is no address: write host:port" in result.stderr


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "ca.pem").write_text("-")
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    nodes = [NodeEntry("n1", "h:1", "h:2", "h:3"), NodeEntry("n2", "i:1", "i:2")]
    file = tmp_path / clusterfile.FILE
    clusterfile.save(file, "c" * 32, Path("ca.pem"), Path("token"), nodes)
    return tmp_path


def test_a_folder_with_a_cluster_file_tells_everything(folder: Path) -> None:
    twin = Twin({"status": STATUS})
    assert run(twin, "status", "--cluster", str(folder)).exit_code == 0
    (where,) = twin.opened
    assert where.addresses == ("h:2", "i:2")
    assert (where.ca, where.token) == (folder / "ca.pem", TOKEN)


def test_the_cluster_file_of_the_current_folder_is_taken(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    twin = Twin({"status": STATUS})
    assert run(twin, "status", cluster="").exit_code == 0
    assert twin.opened[0].addresses == ("h:2", "i:2")


def test_without_any_cluster_the_message_says_how_to_name_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(Twin(), "status", cluster="")
    assert result.exit_code == 1
    assert "RAFTMAIL_CLUSTER" in result.stderr


def test_options_come_before_the_environment_wherever_they_stand(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAFTMAIL_CLUSTER", str(folder))
    twin = Twin({"status": STATUS})
    run(twin, "--cluster", "x:1", "status", cluster="")
    run(twin, "status", "--cluster", "y:1", cluster="")
    run(twin, "status", cluster="")
    assert [w.addresses for w in twin.opened] == [("x:1",), ("y:1",), ("h:2", "i:2")]


@pytest.mark.parametrize("text", ["", "[]", "{", '{"cluster": 1}', '{"nodes": [1]}'])
def test_a_damaged_cluster_file_is_told(folder: Path, text: str) -> None:
    (folder / clusterfile.FILE).write_text(text)
    result = run(Twin(), "status", "--cluster", str(folder))
    assert result.exit_code == 1
    assert "is not a cluster.json" in result.stderr


def test_a_missing_token_is_told_with_its_path(folder: Path) -> None:
    (folder / "token").unlink()
    result = run(Twin(), "status", "--cluster", str(folder))
    assert result.exit_code == 1
    assert str(folder / "token") in result.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shell_gets_a_completion_script(shell: str) -> None:
    result = run(Twin(), "completion", shell)
    assert result.exit_code == 0
    assert "_RAFTMAIL_COMPLETE" in result.stdout
