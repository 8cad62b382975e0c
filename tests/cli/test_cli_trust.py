"""Whose cluster.json is believed, and what is sent as a token."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from raftmail.net import tls
from raftmail_cli import clusterfile
from raftmail_cli.clusterfile import NodeEntry
from raftmail_cli.main import main
from raftmail_cli.settings import Settings
from tests.cli.cluster_twin import Twin

TOKEN = 32 * "5e"

MEMBERS = {"revision": 1, "cluster": "c", "shards": 1, "replicas": 1, "nodes": []}


def run(
    twin: Twin, *arguments: str, cluster: str = "", env: dict[str, str] | None = None
) -> Result:
    settings = Settings(cluster=cluster, opener=twin.open)
    return CliRunner(env=env or {}).invoke(main, list(arguments), obj=settings)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a cluster.json and what it names."""
    home = tmp_path / "cluster"
    home.mkdir(mode=0o755)
    (home / "ca.pem").write_text("an authority")
    (home / "token").write_text(f"{TOKEN}\n")
    (home / "token").chmod(0o600)
    (home / "ca.pem").chmod(0o644)
    nodes = [NodeEntry("n1", "127.0.0.1:9000", "127.0.0.1:9001", "127.0.0.1:9002")]
    clusterfile.save(home / "cluster.json", "ab" * 16, Path("ca.pem"), Path("token"), nodes)
    return home


def ask(folder: Path) -> tuple[Twin, Result]:
    twin = Twin(answers={"nodes": MEMBERS, "invitations": {"invitations": []}})
    return twin, run(twin, "member", "list", cluster=str(folder / "cluster.json"))


def test_what_only_the_user_can_write_is_believed(folder: Path) -> None:
    twin, result = ask(folder)
    assert result.exit_code == 0, result.stderr
    assert twin.opened[0].token == TOKEN


@pytest.mark.parametrize("name", ["cluster.json", "ca.pem", "token", "."])
@pytest.mark.parametrize("mode", [0o020, 0o002])
def test_what_others_can_write_is_refused_with_the_remedy(
    folder: Path, name: str, mode: int
) -> None:
    path = folder / name
    path.chmod(path.stat().st_mode | mode)
    twin, result = ask(folder)
    assert result.exit_code == 1 and not twin.opened
    assert "can be written by others" in result.stderr and f"chmod go-w {path}" in result.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("name", ["cluster.json", "ca.pem", "token", "."])
def test_what_belongs_to_somebody_else_is_refused(folder: Path, name: str) -> None:
    os.chown(folder / name, 12345, 0)
    twin, result = ask(folder)
    assert result.exit_code == 1 and not twin.opened
    assert "belongs to uid 12345" in result.stderr and TOKEN not in result.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_symbolic_link_of_somebody_else_is_refused(folder: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.json"
    link.symlink_to(folder / "cluster.json")
    os.chown(link, 12345, 0, follow_symlinks=False)
    _, result = ask(tmp_path)
    result = run(Twin(), "member", "list", cluster=str(link))
    assert result.exit_code == 1
    assert "the symbolic link" in result.stderr


def test_a_link_is_judged_by_where_it_leads(folder: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "open"
    elsewhere.mkdir()
    elsewhere.chmod(0o777)
    (elsewhere / "token").write_text(TOKEN)
    (folder / "token").unlink()
    (folder / "token").symlink_to(elsewhere / "token")
    _, result = ask(folder)
    assert result.exit_code == 1
    assert f"{elsewhere} can be written by others" in result.stderr


def test_links_in_a_circle_are_told(folder: Path) -> None:
    (folder / "token").unlink()
    (folder / "token").symlink_to("token")
    _, result = ask(folder)
    assert result.exit_code == 1 and "Traceback" not in result.output


def test_the_file_is_written_so_that_others_cannot_write_it(folder: Path) -> None:
    old = os.umask(0)
    try:
        file = clusterfile.load(folder)
        clusterfile.rewrite(folder, file, file.nodes)
    finally:
        os.umask(old)
    assert (folder / "cluster.json").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(
    "content",
    [b"root:x:0:0:root:/root:/bin/bash\n", b"", b"\xff\xfe\x00", 2 * TOKEN.encode(), b"x" * 64],
)
def test_a_file_that_holds_no_token_is_named_and_not_shown(folder: Path, content: bytes) -> None:
    (folder / "token").write_bytes(content)
    twin, result = ask(folder)
    assert result.exit_code == 1 and not twin.opened
    assert str(folder / "token") in result.stderr
    assert "root" not in result.stderr.replace(str(folder), "") and TOKEN not in result.stderr


def test_a_token_of_the_environment_has_the_same_form() -> None:
    twin = Twin()
    result = run(
        twin, "member", "list", cluster="127.0.0.1:1", env={"RAFTMAIL_TOKEN": "my mail password"}
    )
    assert result.exit_code == 1 and not twin.opened
    assert "RAFTMAIL_TOKEN: holds no token" in result.stderr
    assert "password" not in result.stderr


@pytest.mark.parametrize("text", ["", "[]", "3", '{"cluster": 1}', "\x00", "{" * 100_000])
def test_what_is_no_cluster_file_is_told(folder: Path, text: str) -> None:
    (folder / "cluster.json").write_text(text)
    _, result = ask(folder)
    assert result.exit_code == 1
    assert "is not a cluster.json" in result.stderr and result.stderr.count("\n") == 1


@pytest.mark.parametrize("address", ["0.0.0.0:9001", "garbage", "http://a:1", " a:1", "a:0"])
def test_an_address_that_cannot_be_is_refused_when_the_file_is_read(
    folder: Path, address: str
) -> None:
    nodes = [NodeEntry("n1", "127.0.0.1:9000", address)]
    clusterfile.save(folder / "cluster.json", "ab" * 16, Path("ca.pem"), Path("token"), nodes)
    _, result = ask(folder)
    assert result.exit_code == 1 and "node n1: client:" in result.stderr


def test_every_node_is_asked_over_tls_whatever_an_old_file_says(folder: Path) -> None:
    text = (folder / "cluster.json").read_text()
    (folder / "cluster.json").write_text(text.replace('"tls": true', '"tls": false'))
    twin, result = ask(folder)
    assert result.exit_code == 0
    (where,) = twin.opened
    assert where.ca == folder / "ca.pem" and where.cluster == "ab" * 16


def test_without_an_authority_nothing_is_said() -> None:
    result = CliRunner().invoke(main, ["status", "--cluster", "127.0.0.1:1"])
    assert result.exit_code == 1
    assert "--ca FILE" in result.stderr


def test_an_authority_of_another_cluster_is_told(folder: Path) -> None:
    pair = tls.create_ca("other", datetime.now(UTC))
    (folder / "ca.pem").write_bytes(pair.certificate)
    result = CliRunner().invoke(main, ["status", "--cluster", str(folder)])
    assert result.exit_code == 1
    assert f"is the authority of cluster other, not of {16 * 'ab'}" in result.stderr
