"""The commands over the client library: what goes wrong before anything is asked."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from raftmail.net import tls
from raftmail_cli.main import main


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


@pytest.fixture
def ca(tmp_path: Path) -> str:
    """The certificate of a cluster's authority."""
    path = tmp_path / "authority.pem"
    path.write_bytes(tls.create_ca("c" * 32, datetime.now(UTC)).certificate)
    return str(path)


def test_nobody_who_answers_is_exit_status_75(free_port: int, ca: str) -> None:
    result = run("status", "--cluster", f"127.0.0.1:{free_port}", "--ca", ca, "--deadline", "0.3")
    assert result.exit_code == 75
    assert result.stderr.startswith("raftmail: ") and result.stderr.count("\n") == 1
    assert str(free_port) in result.stderr


@pytest.mark.parametrize("text", ["", "nonsense"])
def test_a_file_that_is_no_authority_is_told(tmp_path: Path, text: str) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_text(text)
    result = run("status", "--cluster", "127.0.0.1:1", "--ca", str(ca))
    assert result.exit_code == 1
    assert str(ca) in result.stderr and result.stderr.count("\n") == 1


def test_a_missing_authority_is_told(tmp_path: Path) -> None:
    result = run("status", "--cluster", "127.0.0.1:1", "--ca", str(tmp_path / "none.pem"))
    assert result.exit_code == 1
    assert "there is no such file" in result.stderr


@pytest.mark.parametrize(
    ("user", "why"),
    [
        ("", "user address"),
        ("two words", "an address has no spaces"),
        ("a@", "something stands on both sides of the @"),
    ],
)
def test_a_name_that_no_user_can_have_is_told(user: str, why: str, ca: str) -> None:
    where = ("--cluster", "127.0.0.1:1", "--ca", ca, "--deadline", "0.3")
    result = run("list", user, "INBOX", *where)
    assert result.exit_code == 1
    assert why in result.stderr
