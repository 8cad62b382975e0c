"""`raftmail sieve`: `check`, which needs no node, and scripts against a twin of the cluster."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from raftmail_cli.main import main
from raftmail_cli.settings import Settings
from tests.cli.cluster_twin import Twin

_MESSAGE = b"From: anna@x.org\r\nTo: me@x.org\r\nSubject: [list] hi\r\n\r\nbody\r\n"


def _check(folder: Path, script: str, *more: str) -> Result:
    (folder / "rules.sieve").write_text(script)
    (folder / "m.eml").write_bytes(_MESSAGE)
    where = [
        str(folder / "rules.sieve"),
        *(one.replace("M", str(folder / "m.eml")) for one in more),
    ]
    return CliRunner().invoke(main, ["sieve", "check", *where])


def test_a_script_that_is_right_is_told_to_be(tmp_path: Path) -> None:
    done = _check(tmp_path, "keep;")
    assert (done.exit_code, done.output) == (0, "The script is right.\n")


def test_what_is_wrong_is_told_with_its_place(tmp_path: Path) -> None:
    done = _check(tmp_path, "keep;\n  fileinto 'x';")
    assert done.exit_code == 1
    assert "rules.sieve: line 2, column 12: nothing begins with U+0027" in done.output


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("keep;", "files it into INBOX"),
        ("discard;", "throws it away"),
        ('redirect "a@b.org";', "sends it to a@b.org"),
        ('require "reject"; reject "no";', "refuses it: no"),
        ('require "include"; include "other";', "throws it away"),
        (
            'require ["fileinto", "mailbox", "imap4flags"]; '
            'fileinto :create :flags "\\\\Seen" "Lists";',
            "files it into Lists, made if it is not there with \\Seen",
        ),
        ('require "vacation"; vacation "away";', "answers anna@x.org, once in 604800 seconds"),
        ('require "vacation"; vacation "away";', "    Subject: Auto: [list] hi"),
    ],
)
def test_what_a_script_does_with_a_message_is_told(tmp_path: Path, script: str, told: str) -> None:
    (tmp_path / "other.sieve").write_text("discard;")
    done = _check(tmp_path, script, "M", "--from", "anna@x.org", "--to", "me@x.org")
    assert done.exit_code == 0, done.exception
    assert told in done.output.splitlines()


def test_a_run_that_fails_is_told_with_its_line(tmp_path: Path) -> None:
    done = _check(tmp_path, 'require "include";\ninclude "nothing";', "M", "--to", "me@x.org")
    assert done.exit_code == 1
    assert (
        "line 2: there is no script 'nothing' to include; the message goes to INBOX" in done.output
    )


ANNA = "anna@example.org"


@pytest.fixture
def twin() -> Twin:
    made = Twin()
    made.add_user(ANNA, "secret")
    return made


@pytest.fixture
def run(twin: Twin) -> Callable[..., Result]:
    def invoke(*arguments: str, stdin: bytes | None = None) -> Result:
        settings = Settings(cluster="127.0.0.1:1", opener=twin.open)
        return CliRunner().invoke(main, ["sieve", *arguments], input=stdin, obj=settings)

    return invoke


def test_a_script_is_put_from_a_file_and_written_as_it_is(
    run: Callable[..., Result], tmp_path: Path
) -> None:
    (tmp_path / "rules").write_bytes(b"keep;\r\n\xc3\xa4")
    done = run("put", ANNA, "main", str(tmp_path / "rules"), "--activate")
    assert (done.exit_code, done.output) == (0, f"Put and activated main of {ANNA} (9 B).\n")
    assert run("get", ANNA, "main").stdout_bytes == b"keep;\r\n\xc3\xa4"
    told = json.loads(run("list", ANNA, "-o", "json").output)
    assert told == [{"name": "main", "size_bytes": 9, "active": True}]


def test_the_active_script_is_chosen_and_renamed_and_deleted_once_it_is_not_active(
    run: Callable[..., Result], twin: Twin
) -> None:
    for name in ("one", "two"):
        run("put", ANNA, name, stdin=b"keep;")
    run("activate", ANNA, "one")
    assert run("rename", ANNA, "one", "three").output == "Renamed one to three.\n"
    refused = run("delete", ANNA, "three", "--yes")
    assert (refused.exit_code, "is active" in refused.output) == (1, True)
    assert run("deactivate", ANNA).output == f"No script of {ANNA} is active.\n"
    assert run("delete", ANNA, "three").exit_code == 1, "without a terminal it wants --yes"
    assert run("delete", ANNA, "three", "--yes").output == f"Deleted three of {ANNA}.\n"
    assert [one.name for one in twin.scripts(ANNA)] == ["two"]


def test_scripts_of_nobody_are_no_empty_list(run: Callable[..., Result]) -> None:
    told = run("list", "eve@example.org")
    assert (told.exit_code, "there is no user eve@example.org" in told.output) == (1, True)
