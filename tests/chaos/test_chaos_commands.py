"""`raftmail chaos`: what it refuses, in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from raftmail_chaos import toxiproxy
from raftmail_chaos.record import Delivery, delivery_line
from raftmail_cli.main import main


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["chaos", *arguments])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--profile", "flood"), "there is no profile 'flood'"),
        (("--profile", ""), "no profile is named"),
        (("--nodes", "2"), "--nodes"),
        (("--seconds", "0"), "--seconds"),
        (("--seconds", "5", "--minutes", "1"), "exclude each other"),
        (("--rate", "many"), "--rate"),
    ],
)
def test_bad_arguments_are_wrong_usage_in_one_line(arguments: tuple[str, ...], said: str) -> None:
    result = _run("run", *arguments)
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_folder_that_is_not_empty_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mail").write_text("precious")
    result = _run("run", "--dir", str(tmp_path))
    assert result.exit_code == 1
    assert "is not empty" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mail"]


@pytest.mark.parametrize(("profile", "ci"), [("partition", "false"), ("kill-masters", "true")])
def test_a_missing_toxiproxy_is_an_error_where_it_is_needed_and_in_ci(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, profile: str, ci: str
) -> None:
    monkeypatch.setattr(toxiproxy, "find_server", lambda: None)
    monkeypatch.setenv("CI", ci)
    result = _run("run", "--dir", str(tmp_path / "run"), "--profile", profile)
    assert result.exit_code == 1
    assert "make toxiproxy" in result.stderr
    assert result.stderr.count("\n") == 1


def _history(folder: Path) -> None:
    user = folder / "history" / "w0u1"
    user.mkdir(parents=True)
    delivery = Delivery("t", "w0u1@chaos.test", "lmtp", 1.0, 2.0, 250, True)
    (user / "load.jsonl").write_text(delivery_line(delivery) + "\n")


def test_a_run_that_lost_mail_is_judged_again_and_found_bad(tmp_path: Path) -> None:
    _history(tmp_path)
    human, machine = _run("check", str(tmp_path)), _run("check", str(tmp_path), "-o", "json")
    assert (human.exit_code, machine.exit_code) == (1, 1)
    assert "BROKEN SAVE" in human.stdout
    assert json.loads(machine.stdout)["findings"][0]["rule"] == "SAVE"


def test_a_folder_without_histories_cannot_be_judged(tmp_path: Path) -> None:
    result = _run("check", str(tmp_path))
    assert result.exit_code == 1
    assert "has no history/" in result.stderr


def test_a_history_that_cannot_be_read_is_said_with_its_place(tmp_path: Path) -> None:
    _history(tmp_path)
    (tmp_path / "history" / "w0u1" / "load.jsonl").write_text("nonsense\n")
    result = _run("check", str(tmp_path))
    assert result.exit_code == 1
    assert "load.jsonl: line 1" in result.stderr
