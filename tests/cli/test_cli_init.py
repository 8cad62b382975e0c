"""`raftmail init`, and the files of a cluster."""

from __future__ import annotations

import json
import os
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from raftmail.mail.program_addresses import ProgramAddresses
from raftmail.net.tls import TlsFiles, check_files
from raftmail.node.bootstrap import BootstrapError, NodePlan, make_cluster, plan_loopback
from raftmail.node.config import WORKERS_MAX, load, worker_peer
from raftmail_cli import clusterfile
from raftmail_cli.main import main

NOW = datetime(2024, 5, 6, tzinfo=UTC)


def init(folder: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["init", str(folder), *arguments])


def three(*hosts: str) -> list[str]:
    """The options for nodes a, b, c."""
    nodes = zip("abc", hosts, strict=True)
    return [word for name, host in nodes for word in ("--node", f"{name}={host}:7000")]


def test_every_node_gets_a_folder_that_is_all_it_needs(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    result = init(
        folder, "--node", "a=mail1.example:7000", "--node", "b=10.0.0.2:7000", "--node",
        "c=10.0.0.3:7000", "--shards", "3",
        "--client", "b=10.0.0.2:443", "--lmtp", "a=",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    for name in ("a", "b"):
        home = folder / name
        config = load(home)
        assert config.node.name == name
        assert config.cluster.shards == 3
        assert {n: m.peer for n, m in config.cluster.nodes.items()} == {
            "a": "mail1.example:7000",
            "b": "10.0.0.2:7000",
            "c": "10.0.0.3:7000",
        }
        files = TlsFiles(home / config.tls.ca, home / config.tls.certificate, home / config.tls.key)
        check_files(files, config.cluster.id, name, datetime.now(UTC))
        for path in (files.key, home / config.tls.token_file):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(home.stat().st_mode) == 0o700
        assert (home / "README").read_text().count("\n") == 1
    listen = load(folder / "a").listen
    assert (listen.peer, listen.client, listen.lmtp) == (
        "mail1.example:7000", "mail1.example:7001", "",
    )  # fmt: skip
    assert load(folder / "b").listen.client == "10.0.0.2:443"


def test_all_nodes_have_one_token_and_the_cluster_file_leads_to_it(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    assert init(folder, *three("h", "i", "j")).exit_code == 0
    cluster = clusterfile.load(folder)
    token = cluster.token_file.read_text()
    assert len(token.strip()) == 64
    assert {(folder / n / "tls" / "token").read_text() for n in ("a", "b")} == {token}
    assert cluster.ca.read_bytes() == (folder / "a" / "tls" / "ca.pem").read_bytes()
    assert [node.client for node in cluster.nodes] == ["h:7001", "i:7001", "j:7001"]
    assert not json.loads((folder / clusterfile.FILE).read_text())["ca"].startswith("/")


def test_what_comes_next_is_told(tmp_path: Path) -> None:
    shown = init(tmp_path / "new", *three("h", "mail2.example", "i")).stdout
    assert f"raftmail node {tmp_path / 'new' / 'a'}" in shown
    assert f"copy {tmp_path / 'new' / 'b'} to mail2.example" in shown
    assert "ca.key" in shown


def test_a_folder_that_is_not_empty_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("x")
    result = init(tmp_path, "--node", "a=h:7000")
    assert result.exit_code == 1
    assert "is not an empty folder" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--node", "A=h:7000"], "node name 'A'"),
        (["--node", "a=h"], "host:port"),
        (["--node", "a=h:0"], "host:port"),
        (["--node", "a=h:65530"], "up to 65521"),
        (["--node", "a=h:1", "--imap", "a=h:2"], "already an address of node a"),
        (["--node", "a=h:1", "--node", "a=i:1"], "same name"),
        (["--node", "a=h:1", "--node", "b=h:1"], "already an address of node a"),
        (["--node", "a=h:1", "--node", "b=h:2"], "already an address of node a"),
        (["--node", "a=h:1", "--node", "b=H:1"], "already an address of node a"),
        (["--node", "a=[::5]:1", "--node", "b=[0::5]:9", "--client", "b=[0:0::5]:2"], "of node a"),
        (["--node", "a=h:1", "--node", "b=i:1"], "two nodes bear the loss of none"),
        (["--node", "a=2001:db8::5"], "[2001:db8::5]:9000"),
        (["--node", "a= 127.0.0.1:1"], "take the blanks"),
        (["--node", "a=http://a:1"], "a URL or a path"),
        (["--node", "a=0.0.0.0:1"], "name the machine"),
        (["--node", "a=[::]:1"], "name the machine"),
        (["--node", "a=h:1", "--client", "a=0.0.0.0:2"], "name the machine"),
        (["--node", "a=h:1", "--lmtp", "a=[::]:3"], "name the machine"),
        (["--node", "a=h:1", "--client", "a="], "needs an address"),
        (["--node", "a=::1:42100"], "[::1]:42100"),
        (["--node", "a=a b:9000"], "a host's name has letters"),
        (three("127.0.0.1", "h", "i"), "from its own machine alone"),
        (["--node", "a=localhost:1", "--node", "b=127.0.0.1:9"], "write the number"),
    ],
)
def test_a_bad_node_is_refused_and_nothing_is_made(
    tmp_path: Path, arguments: list[str], words: str
) -> None:
    result = init(tmp_path / "new", *arguments)
    assert result.exit_code == 1
    assert words in result.stderr
    assert not (tmp_path / "new").exists()


def test_each_machine_has_a_loopback_address_of_its_own(tmp_path: Path) -> None:
    lmtps = [word for name in "abc" for word in ("--lmtp", f"{name}=127.0.0.1:24")]
    assert init(tmp_path / "new", *three("h", "i", "j"), *lmtps).exit_code == 0


def test_addresses_of_ipv6_keep_their_brackets(tmp_path: Path) -> None:
    hosts = [f"[2001:db8::{i}]" for i in (1, 2, 3)]
    assert init(tmp_path / "new", *three(*hosts)).exit_code == 0
    assert load(tmp_path / "new" / "b").listen.lmtp == "[2001:db8::2]:7002"


def test_the_folder_that_is_made_is_believed_whatever_the_umask(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    folder.mkdir()
    folder.chmod(0o777)
    old = os.umask(0)
    try:
        assert init(folder, "--node", "a=h:7000").exit_code == 0
    finally:
        os.umask(old)
    assert clusterfile.load(folder).nodes[0].client == "h:7001"


@pytest.mark.parametrize(
    "arguments", [[], ["--node", "a"], ["--node", "a=h:1", "--client", "b=h:2"]]
)
def test_a_node_that_cannot_be_meant_is_wrong_usage(tmp_path: Path, arguments: list[str]) -> None:
    assert init(tmp_path / "new", *arguments).exit_code == 2


def test_what_failed_half_way_leaves_nothing_behind(tmp_path: Path) -> None:
    plans = [NodePlan("a", "bad host:1", "h:2")]
    with pytest.raises(BootstrapError):
        make_cluster(tmp_path / "new", [*plans, NodePlan("-", "h:3", "h:4")], shards=1, now=NOW)
    with pytest.raises(BootstrapError):
        make_cluster(tmp_path / "new", [NodePlan("a", "h:1", "h:2")], shards=0, now=NOW)
    assert not (tmp_path / "new").exists()


def test_programs_come_in_beside_the_other_ports_and_where_they_are_told(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    chosen = ("--imaps", "a=h:993", "--imap", "b=")
    assert init(folder, *three("h", "i", "j"), *chosen).exit_code == 0
    found = {name: load(folder / name).listen.programs for name in "abc"}
    assert found == {
        "a": ProgramAddresses("h:7006", "h:993", "h:7008", "h:7009", "h:7005"),
        "b": ProgramAddresses("", "i:7007", "i:7008", "i:7009", "i:7005"),
        "c": ProgramAddresses("j:7006", "j:7007", "j:7008", "j:7009", "j:7005"),
    }
    assert [node.programs for node in clusterfile.load(folder).nodes] == list(found.values())
    listed = json.loads((folder / clusterfile.FILE).read_text())["nodes"]
    assert [node["imap"] for node in listed] == ["h:7006", "", "j:7006"]


@pytest.mark.parametrize("workers", [1, 4, 5, WORKERS_MAX])
def test_no_two_ports_of_a_machine_are_one_with_any_number_of_workers(workers: int) -> None:
    plans = plan_loopback(3, 9000, workers)
    used = [address for plan in plans for address in plan.addresses]
    used += [worker_peer(plan.peer, k) for plan in plans for k in range(2, workers + 1)]
    assert len(set(used)) == len(used)


def test_loopback_nodes_are_ten_ports_apart() -> None:
    assert plan_loopback(2, 9000) == [
        NodePlan(
            "n1",
            "127.0.0.1:9000",
            "127.0.0.1:9001",
            "127.0.0.1:9002",
            programs=ProgramAddresses.beside("127.0.0.1", 9000, 1),
        ),
        NodePlan(
            "n2",
            "127.0.0.1:9010",
            "127.0.0.1:9011",
            "127.0.0.1:9012",
            programs=ProgramAddresses.beside("127.0.0.1", 9010, 1),
        ),
    ]
    with pytest.raises(ValueError, match="65536"):
        plan_loopback(3, 65514)
