"""Histories survive the way through their files."""

from __future__ import annotations

from math import inf
from pathlib import Path

import pytest

from raftmail.mail import commands as c
from raftmail.mail import queries as q
from raftmail.mail import results as r
from raftmail.mail.uidset import UidSet
from raftmail_chaos.history import Call, Fate, Operation
from raftmail_chaos.record import (
    Body,
    Delivery,
    delivery_line,
    read_lines,
    read_user,
    to_line,
)

USER = "w0u1@chaos.test"
SOME = UidSet.from_uids([1, 2, 5])
INFO = q.MailboxInfo(7, USER, "Work", b"g" * 16, 3, 9, 12, 1, 0, 5, "", True, b"d")
MESSAGE = q.MessageInfo(4, b"g" * 16, 11, ("\\Seen", "$Später"), 17, 300, b"b" * 32)
TARGET = c.Target(USER, "Work")
NEW = c.NewMessage((TARGET,), b"b" * 32, 300, b"g" * 16, 17, ("\\Seen",))

CASES: list[tuple[Call, object]] = [
    (c.Save(USER, (NEW,), 0), r.SaveResult((r.Saved(USER, 7, 3, 4, 11),))),
    (c.Copy(USER, "Work", SOME, TARGET, 0, True), r.CopyResult(3, 7, SOME, SOME, 4, 5)),
    (c.Store(USER, "Work", SOME, c.StoreMode.REMOVE, ("\\Seen",), 9), r.StoreResult(SOME, UidSet(),
                                                                                    4, 4)),
    (c.Expunge(USER, "Work", SOME, True), r.ExpungeResult(SOME, 8)),
    (c.Expunge(USER, "Work", SOME), r.Refused(r.Code.NONEXISTENT, "no such mailbox")),
    (q.FetchMessages(USER, "Work", SOME), q.MessagePage(INFO, (MESSAGE,), False)),
    (q.ListMailboxes(USER), (INFO,)),
    (q.FetchBody(USER, "Work", 4), Body.of(b"body")),
    (q.FetchBody(USER, "Work", 4), None),
]  # fmt: skip


@pytest.mark.parametrize(("call", "answer"), CASES)
def test_an_operation_is_read_as_it_was_written(call: Call, answer: object) -> None:
    operation = Operation(3, "w0", call, 1.25, 2.5, Fate.ANSWERED, answer, 17)
    assert list(read_lines([to_line(operation)])) == [operation]


def test_an_operation_without_an_answer_has_no_end() -> None:
    operation = Operation(3, "w0", CASES[0][0], 1.25)
    (read,) = read_lines([to_line(operation)])
    assert isinstance(read, Operation)
    assert (read.returned, read.fate) == (inf, Fate.LOST)


def test_a_delivery_is_read_as_it_was_written() -> None:
    delivery = Delivery("w0u1-5", USER, "lmtp", 1.0, 2.0, 451, True, "4.3.0 later")
    assert list(read_lines([delivery_line(delivery)])) == [delivery]


@pytest.mark.parametrize("line", ["", "{", "{}", '{"_": "Popen"}', '{"_": "Body"}', "[]", "3"])
def test_what_is_no_operation_is_refused_with_its_place(line: str, tmp_path: Path) -> None:
    path = tmp_path / "load.jsonl"
    path.write_text(delivery_line(Delivery("t", USER, "lmtp", 1.0, 2.0, 250, True)) + f"\n{line}\n")
    with pytest.raises(ValueError, match=r"load\.jsonl: line 2 "):
        list(read_user(tmp_path))
