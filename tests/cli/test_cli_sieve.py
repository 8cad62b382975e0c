"""`raftmail sieve check`, which needs no node."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from raftmail_cli.main import main

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
