"""Users, mailboxes and messages on the command line, against a twin of the cluster."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import CliRunner, Result

from raftmail.mail.commands import StoreMode
from raftmail_cli.corpus import corpus
from raftmail_cli.mail_commands import flag_changes, options_first
from raftmail_cli.main import main
from raftmail_cli.settings import Settings
from tests.cli.cluster_twin import Twin

Run = Callable[..., Result]
ANNA = "anna@example.org"
MESSAGE = b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\nFrom: b@example.org\r\n\r\nHello\r\n"


@pytest.fixture
def twin() -> Twin:
    made = Twin()
    made.add_user(ANNA, "secret")
    return made


@pytest.fixture
def run(twin: Twin) -> Run:
    def invoke(*arguments: str, stdin: bytes | str | None = None) -> Result:
        settings = Settings(cluster="127.0.0.1:1", opener=twin.open)
        return CliRunner().invoke(main, list(arguments), input=stdin, obj=settings)

    return invoke


def as_json(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_a_user_is_added_with_the_password_from_standard_input(run: Run, twin: Twin) -> None:
    result = run("user", "add", "bela@example.org", "--password-stdin", stdin="pass word\nmore\n")
    assert (result.exit_code, result.stdout) == (0, "Added bela@example.org.\n")
    assert twin.known["bela@example.org"] == "pass word"


def test_a_user_whose_password_is_elsewhere_is_added_without_one(run: Run, twin: Twin) -> None:
    assert run("user", "add", "bela@example.org", "--external").exit_code == 0
    assert twin.known["bela@example.org"] is None
    assert run("user", "passwd", ANNA, "--external").exit_code == 0
    assert twin.known[ANNA] is None
    both = run("user", "passwd", ANNA, "--external", "--password", "x")
    assert both.exit_code == 2 and "exclude each other" in both.stderr


def test_without_a_terminal_no_password_is_asked_for(run: Run, twin: Twin) -> None:
    result = run("user", "add", "bela@example.org")
    assert result.exit_code == 2
    assert "--password-stdin" in result.stderr
    assert "bela@example.org" not in twin.known


def test_an_empty_password_is_refused(run: Run) -> None:
    result = run("user", "passwd", ANNA, "--password-stdin", stdin="\n")
    assert result.exit_code == 1
    assert "empty" in result.stderr


def test_users_are_listed_and_removed_with_their_mail_only_when_asked(run: Run, twin: Twin) -> None:
    twin.add_user("bela@example.org", "x")
    assert run("user", "list").stdout.split() == [ANNA, "bela@example.org"]
    assert as_json(run("user", "list", "-o", "json")) == [ANNA, "bela@example.org"]
    assert run("user", "remove", ANNA).exit_code == 0
    assert twin.asked == [("grants-forget", {"address": ANNA})], "others' mailboxes are closed"
    assert (ANNA, "INBOX") in twin.boxes
    assert run("user", "remove", "bela@example.org", "--purge", "--yes").exit_code == 0
    assert ("bela@example.org", "INBOX") not in twin.boxes


def test_a_mailbox_is_shared_and_shown_with_whom_it_is(run: Run, twin: Twin) -> None:
    shares = [{"identifier": "anyone", "rights": "lr"}]
    answer = {"user": ANNA, "mailbox": "Work", "shares": shares, "own_seen": False}
    twin.answers.update({"share": answer, "shares": answer, "share-seen": answer})
    shown = run("mailbox", "share", ANNA, "Work", "anyone", "lr")
    assert shown.exit_code == 0 and "anyone" in shown.stdout
    assert run("mailbox", "share", ANNA, "Work", "--", "-anyone").exit_code == 0
    assert as_json(run("mailbox", "shares", ANNA, "Work", "-o", "json")) == answer
    asked = {"user": ANNA, "mailbox": "Work"}
    given = {**asked, "identifier": "anyone", "rights": "lr"}
    assert twin.asked[0] == ("share", given)
    assert twin.asked[1][1]["identifier"] == "-anyone" and twin.asked[2] == ("shares", asked)
    assert run("mailbox", "share", ANNA, "Work", "anyone", "lr", "--own-seen").exit_code == 0
    assert twin.asked[4] == ("share-seen", {**asked, "own": "1"})


def test_a_refusal_is_one_line_on_stderr_and_exit_status_1(run: Run) -> None:
    result = run("user", "add", ANNA, "--password", "x")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"raftmail: {ANNA}: exists already\n"


def test_mailboxes_are_created_renamed_listed_and_deleted(run: Run) -> None:
    assert run("mailbox", "create", ANNA, "Work", "--use", "archive").exit_code == 0
    assert run("mailbox", "rename", ANNA, "Work", "Done").exit_code == 0
    listed = as_json(run("mailbox", "list", ANNA, "-o", "json"))
    assert [(box["name"], box["special_use"]) for box in listed] == [
        ("Done", "\\Archive"),
        ("INBOX", ""),
    ]
    assert "uidvalidity" in run("mailbox", "list", ANNA).stdout
    assert run("mailbox", "delete", ANNA, "Done").exit_code == 0
    assert "Done" not in run("mailbox", "list", ANNA).stdout


def test_a_mailbox_with_mail_is_deleted_only_by_who_is_sure(run: Run, twin: Twin) -> None:
    twin.create_mailbox(ANNA, "Work", "")
    for _ in range(2):
        twin.save(ANNA, "Work", b"x", (), None)
    result = run("mailbox", "delete", ANNA, "Work")
    assert result.exit_code == 1 and (ANNA, "Work") in twin.boxes
    assert f"Delete Work of {ANNA} with 2 messages? " in result.stderr
    assert "give --yes" in result.stderr
    deleted = run("mailbox", "delete", ANNA, "Work", "--yes")
    assert deleted.stdout == f"Deleted Work of {ANNA} with 2 messages.\n"


def test_a_user_is_purged_only_by_who_is_sure(run: Run, twin: Twin) -> None:
    twin.save(ANNA, "INBOX", b"x", (), None)
    result = run("user", "remove", ANNA, "--purge")
    assert result.exit_code == 1 and ANNA in twin.known
    assert f"Remove {ANNA} and, for ever, 1 message in 1 mailbox?" in result.stderr
    done = run("user", "remove", ANNA, "--purge", "--yes").stdout
    assert done == f"Removed {ANNA} and all mail: 1 message in 1 mailbox.\n"


def test_messages_that_are_not_marked_are_expunged_only_by_who_is_sure(
    run: Run, twin: Twin
) -> None:
    twin.save(ANNA, "INBOX", b"x", (), None)
    result = run("expunge", ANNA, "INBOX", "1", "--all")
    assert result.exit_code == 1 and "Remove 1 message from INBOX" in result.stderr
    assert twin.boxes[ANNA, "INBOX"].messages
    assert run("expunge", ANNA, "INBOX", "1", "--all", "--yes").exit_code == 0


def test_uids_are_numbers_in_json(run: Run, twin: Twin) -> None:
    for _ in range(3):
        twin.save(ANNA, "INBOX", b"x", (), None)
    shown = as_json(run("store", ANNA, "INBOX", "1:2", "+\\Seen", "-o", "json"))
    assert shown["result"]["changed"] == [1, 2]


def test_one_is_no_several(run: Run, twin: Twin) -> None:
    for _ in range(2):
        twin.save(ANNA, "INBOX", b"x", (), None)
    assert run("store", ANNA, "INBOX", "1", "+\\Seen").stdout == "Changed 1 message: 1.\n"
    assert run("store", ANNA, "INBOX", "1:2", "+a").stdout == "Changed 2 messages: 1:2.\n"


def test_a_message_comes_back_byte_for_byte(run: Run) -> None:
    for uid, (name, body) in enumerate(corpus(large=False), 1):
        assert run("save", ANNA, "INBOX", stdin=body).exit_code == 0, name
        assert run("fetch", ANNA, "INBOX", str(uid)).stdout_bytes == body, name


def test_line_ends_change_only_when_asked(run: Run, twin: Twin) -> None:
    run("save", ANNA, "INBOX", "-", stdin=b"A: b\n\nc\r\n")
    run("save", ANNA, "INBOX", "-", "--crlf", stdin=b"A: b\n\nc\r\n")
    assert set(twin.bodies.values()) == {b"A: b\n\nc\r\n", b"A: b\r\n\r\nc\r\n"}


def test_a_date_without_a_zone_is_in_utc(run: Run, twin: Twin) -> None:
    run("save", ANNA, "INBOX", "--date", "2024-02-03 04:05:06", stdin=MESSAGE)
    run("save", ANNA, "INBOX", "--date", "2024-02-03T05:05:06+0100", stdin=MESSAGE)
    dates = {m.received_us for m in twin.boxes[ANNA, "INBOX"].messages.values()}
    assert dates == {1706933106_000_000}


def test_the_answer_to_a_save_tells_where_it_is(run: Run) -> None:
    result = run("save", ANNA, "INBOX", stdin=MESSAGE)
    assert result.stdout == "Saved in INBOX as UID 1 (68 B).\n"
    answer = as_json(run("save", ANNA, "INBOX", "-o", "json", stdin=MESSAGE))
    assert (answer["shard"], answer["master"], answer["result"]["saved"][0]["uid"]) == (1, "n2", 2)


def test_a_list_shows_decoded_subjects(run: Run) -> None:
    run("save", ANNA, "INBOX", "--flag", "\\Seen", stdin=MESSAGE)
    assert "Grüße" in run("list", ANNA, "INBOX").stdout
    (listed,) = as_json(run("list", ANNA, "INBOX", "1:5", "-o", "json"))
    assert (listed["subject"], listed["flags"], listed["size"]) == ("Grüße", ["\\Seen"], 68)


def test_nothing_in_a_subject_reaches_the_terminal_as_a_command(run: Run) -> None:
    run("save", ANNA, "INBOX", stdin=b"Subject: =?utf-8?q?=1B=5B31m=07red?=\r\n\r\n")
    run("save", ANNA, "INBOX", stdin=b"Subject: \x1b[31mred\r\n\r\n")
    shown = run("list", ANNA, "INBOX").stdout
    assert shown.count("red") == 2
    assert "\x1b" not in shown and "\x07" not in shown


@pytest.mark.parametrize(
    "field",
    [
        b"=?utf-8?b?!!!?=",
        b"=?no-such-charset?q?abc?=",
        b"=?utf-8?q?=FF?=",
        b"\xff\xfe",
        b"[bold]x[/bold]",
    ],
)
def test_any_subject_can_be_listed(run: Run, field: bytes) -> None:
    run("save", ANNA, "INBOX", stdin=b"Subject: " + field + b"\r\n\r\n")
    assert run("list", ANNA, "INBOX").exit_code == 0


def test_a_message_as_json_is_in_base64(run: Run) -> None:
    run("save", ANNA, "INBOX", stdin=MESSAGE)
    answer = as_json(run("fetch", ANNA, "INBOX", "1", "-o", "json"))
    assert base64.b64decode(answer["body_base64"]) == MESSAGE


def test_a_message_that_is_not_there_is_exit_status_1(run: Run) -> None:
    result = run("fetch", ANNA, "INBOX", "9")
    assert result.exit_code == 1
    assert result.stderr == "raftmail: INBOX: there is no message 9\n"


def test_flags_are_added_removed_and_replaced(run: Run, twin: Twin) -> None:
    run("save", ANNA, "INBOX", "--flag", "\\Draft", stdin=MESSAGE)

    def flags_after(*changes: str) -> tuple[str, ...]:
        result = run("store", ANNA, "INBOX", "1", *changes)
        assert result.exit_code == 0, result.output
        return twin.boxes[ANNA, "INBOX"].messages[1].flags

    assert flags_after("+\\Seen", "-\\Draft") == ("\\Seen",)
    assert flags_after("-FLAGS", "\\Seen") == ()
    assert flags_after("+flags", "$Work", "other") == ("$Work", "other")
    assert flags_after("-o", "json", "-other") == ("$Work",)
    assert flags_after("\\Flagged") == ("\\Flagged",)
    assert flags_after("FLAGS") == ()


def test_flag_changes_that_contradict_are_wrong_usage(run: Run) -> None:
    for changes in (["+\\Seen", "\\Draft"], ["+FLAGS"], []):
        assert run("store", ANNA, "INBOX", "1", *changes).exit_code == 2


def test_what_follows_a_sign_is_no_option() -> None:
    given = ["u", "-\\Seen", "--cluster", "x", "-ojson", "-o", "json", "-$W", "--", "-o"]
    assert options_first(given) == [
        "--cluster", "x", "-ojson", "-o", "json", "--", "u", "-\\Seen", "-$W", "-o",
    ]  # fmt: skip
    assert flag_changes(["+a", "+b", "-c"]) == [
        (StoreMode.ADD, ("a", "b")),
        (StoreMode.REMOVE, ("c",)),
    ]


def test_messages_are_copied_moved_and_expunged(run: Run, twin: Twin) -> None:
    twin.create_mailbox(ANNA, "Work", "")
    for _ in range(3):
        run("save", ANNA, "INBOX", stdin=MESSAGE)
    run("mailbox", "create", "bob@example.org", "Hers")
    refused = run("move", ANNA, "INBOX", "1:3", "Hers", "--to-user", "bob@example.org")
    assert refused.exit_code == 1
    assert "no room (OVERQUOTA). Moved before that: 2 messages, 1:2" in refused.stderr
    assert run("copy", ANNA, "INBOX", "1:2", "Work").stdout == (
        "Copied 2 messages to Work: 1:2 became 1:2.\n"
    )
    assert run("move", ANNA, "INBOX", "3", "Work").exit_code == 0
    assert sorted(twin.boxes[ANNA, "INBOX"].messages) == [1, 2]
    to_bob = ("copy", ANNA, "INBOX", "1:9", "Hers", "--to-user", "bob@example.org")
    assert run(*to_bob).stdout == (
        "Copied 2 messages to Hers of bob@example.org: 1:2 became 3:4, in 2 parts.\n"
    )
    run("store", ANNA, "INBOX", "1", "+\\Deleted")
    assert run("expunge", ANNA, "INBOX").stdout == "Removed 1 message: 1.\n"
    assert run("expunge", ANNA, "INBOX").stdout == "Nothing to remove.\n"
    assert run("expunge", ANNA, "INBOX", "--all").exit_code == 2
    assert run("expunge", ANNA, "INBOX", "2", "--all", "--yes").exit_code == 0
    assert not twin.boxes[ANNA, "INBOX"].messages


@pytest.mark.parametrize("uids", ["0", "1,,2", "a", "4294967297"])
def test_bad_uids_are_wrong_usage(run: Run, uids: str) -> None:
    result = run("copy", ANNA, "INBOX", uids, "Work")
    assert result.exit_code == 2
    assert result.stderr.startswith("raftmail: ")
    assert result.stderr.count("\n") == 1


def test_mailboxes_of_a_user_who_does_not_exist_are_refused(twin: Twin, run: Run) -> None:
    result = run("mailbox", "list", "nobody@example.org")
    assert result.exit_code == 1 and result.stdout == ""
    assert result.stderr == "raftmail: there is no user nobody@example.org\n"
    twin.known["new@example.org"] = "secret"
    assert run("mailbox", "list", "new@example.org").exit_code == 0
