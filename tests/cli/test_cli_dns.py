"""`dns` prints records from cluster.json, or from a node's [setup]."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner, Result

from raftmail.mail.program_addresses import ProgramAddresses
from raftmail_cli import clusterfile
from raftmail_cli.clusterfile import NodeEntry
from raftmail_cli.main import main
from tests.node.folders import node_folder


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["dns", *arguments])


def cluster(tmp_path: Path, *hosts: str) -> str:
    nodes = [
        NodeEntry(f"n{at}", "x:7000", "x:7001", "", ProgramAddresses(imaps=f"{host}:993"))
        for at, host in enumerate(hosts)
    ]
    path = tmp_path / clusterfile.FILE
    for name in ("ca.pem", "token"):
        (tmp_path / name).touch(0o600)
    clusterfile.save(path, "0" * 32, Path("ca.pem"), Path("token"), nodes)
    return str(path)


def test_the_nodes_of_cluster_json_are_the_servers(tmp_path: Path) -> None:
    where = cluster(tmp_path, "n1.example.org", "n2.example.org")
    result = run("Example.ORG", "--cluster", where)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[:2] == [
        "_imaps._tcp.example.org. 3600 IN SRV 0 1 993 n1.example.org.",
        "_imaps._tcp.example.org. 3600 IN SRV 0 1 993 n2.example.org.",
    ]
    records = json.loads(run("example.org", "--cluster", where, "-o", "json").stdout)
    assert records[0] == {
        "name": "_imaps._tcp.example.org.",
        "kind": "SRV",
        "data": "0 1 993 n1.example.org.",
    }


def test_a_setup_is_printed_in_place_of_the_nodes(tmp_path: Path) -> None:
    config = node_folder(tmp_path, '[setup]\nsubmission = "smtp.example.org:587"\n')
    result = run("example.org", "--config", str(config), "--web", "web.example.org")
    assert "_submission._tcp.example.org. 3600 IN SRV 10 1 587 smtp.example.org." in result.stdout
    assert "_imaps._tcp.example.org. 3600 IN SRV 0 0 0 ." in result.stdout
    assert result.stdout.endswith(
        "_autodiscover._tcp.example.org. 3600 IN SRV 0 0 443 web.example.org.\n"
    )


def test_what_cannot_be_printed_says_what_to_do(tmp_path: Path) -> None:
    by_number = run("example.org", "--cluster", cluster(tmp_path, "192.0.2.1"))
    assert by_number.exit_code == 1 and "--config FILE takes the servers' names" in by_number.output
    folder = str(node_folder(tmp_path, ""))
    without = run("example.org", "--config", folder)
    assert without.exit_code == 1 and "has no [setup]" in without.output
    bad = run("exa mple.org", "--config", folder)
    assert bad.exit_code == 1 and "exa mple.org" in bad.output
