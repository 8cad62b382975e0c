"""The checker of histories knows which mailbox a name may stand for."""

from __future__ import annotations

from hashlib import sha256
from math import inf

import pytest

from raftmail.mail import commands as c
from raftmail.mail import queries as q
from raftmail.mail import results as r
from raftmail.mail.uidset import UidSet
from raftmail_chaos import names
from raftmail_chaos.checker import check, examine
from raftmail_chaos.history import Call, History, Operation

USER = "user@example.org"
ALL = UidSet.from_ranges([(1, (1 << 32) - 1)])
BODY = b"Subject: x\r\n\r\nx"
BLOB = sha256(BODY).digest()
OLD, NEW, THIRD = "Old", "New", "Third"
LOST = None
EXISTS = r.Refused(r.Code.ALREADYEXISTS, "")
MISSING = r.Refused(r.Code.NONEXISTENT, "")

Answer = int | r.Refused | None
"""The mailbox's number; None for a lost answer."""


class Story:
    """A history told one operation after the other. Mailbox n has UIDVALIDITY 100 + n."""

    def __init__(self) -> None:
        self.history = History()
        self.now = 0.0
        self.uidnexts: dict[int, int] = {}

    def _do(
        self, call: Call, answer: object, *, lost: bool = False, since: float = inf
    ) -> Operation:
        operation = self.history.invoke("c", call, min(self.now + 1, since))
        self.now += 2
        if not lost:
            self.history.answer(operation, answer, self.now)
        return operation

    def _change(self, call: Call, name: str, answer: Answer, since: float, validity: int) -> None:
        result: object = answer
        if isinstance(answer, int):
            result = r.MailboxResult(answer, name, b"", validity or 100 + answer, 1, 1, 0)
        self._do(call, result, lost=answer is None, since=since)

    def create(self, name: str, answer: Answer, *, since: float = inf, validity: int = 0) -> None:
        self._change(c.CreateMailbox(USER, name, 0, b""), name, answer, since, validity)

    def rename(self, name: str, new: str, answer: Answer, *, since: float = inf) -> None:
        self._change(c.RenameMailbox(USER, name, new, 0, b""), new, answer, since, 0)

    def delete(self, name: str, answer: Answer, *, since: float = inf) -> None:
        self._change(c.DeleteMailbox(USER, name), name, answer, since, 0)

    def listed(self, **numbers: int) -> None:
        infos = tuple(self._info(name, number) for name, number in numbers.items())
        self._do(q.ListMailboxes(USER), infos)

    def save(self, guid: int, name: str, number: int, uid: int) -> None:
        """With a number of 0 the answer is lost."""
        message = c.NewMessage(
            (c.Target(USER, name),), BLOB, len(BODY), guid.to_bytes(16, "big"), 1, ()
        )
        if number:
            self.uidnexts[number] = uid + 1
        saved = r.Saved(USER, number, 100 + number, uid, uid + 1)
        self._do(c.Save(USER, (message,), 0), r.SaveResult((saved,)), lost=not number)

    def read(self, name: str, number: int, *messages: tuple[int, int], uidnext: int = 1) -> None:
        """Messages are (guid, uid)."""
        self.uidnexts[number] = uidnext
        found = tuple(
            q.MessageInfo(uid, guid.to_bytes(16, "big"), uid + 1, (), 1, len(BODY), BLOB)
            for guid, uid in messages
        )
        info = self._info(name, number, len(found))
        self._do(q.FetchMessages(USER, name, ALL), q.MessagePage(info, found, False))

    def missing(self, name: str) -> None:
        self._do(q.GetMailbox(USER, name), None)

    def _info(self, name: str, number: int, count: int = 0) -> q.MailboxInfo:
        uidnext = self.uidnexts.get(number, 1)
        return q.MailboxInfo(
            number, USER, name, b"", 100 + number, uidnext, uidnext, count, 0, 0, "", False, b""
        )

    @property
    def rules(self) -> list[str]:
        return [problem.rule for problem in check(self.history)]


def _renamed() -> Story:
    """Mailbox 1 was Old and is New."""
    s = Story()
    s.create(OLD, 1)
    s.rename(OLD, NEW, 1)
    return s


def test_a_mailbox_keeps_its_messages_under_its_new_name_and_the_old_name_is_free() -> None:
    s = Story()
    s.create(OLD, 1)
    s.save(1, OLD, 1, 1)
    s.rename(OLD, NEW, 1)
    s.missing(OLD)
    s.read(NEW, 1, (1, 1), uidnext=2)
    s.create(OLD, 2)
    s.listed(Old=2, New=1)
    s.delete(NEW, 1)
    s.listed(Old=2)
    s.rename(OLD, NEW, 2)
    s.rename(NEW, OLD, 2)
    s.delete(OLD, 2)
    s.listed()
    assert s.rules == []


def test_a_message_that_did_not_come_along_is_found() -> None:
    s = Story()
    s.create(OLD, 1)
    s.save(1, OLD, 1, 1)
    s.rename(OLD, NEW, 1)
    s.read(NEW, 1, uidnext=2)
    assert s.rules == ["SAVE"]


def test_a_rename_that_is_not_seen_is_found() -> None:
    s = _renamed()
    s.read(OLD, 1)
    assert s.rules == ["names"]


def test_a_deleted_mailbox_that_is_still_there_is_found() -> None:
    s = _renamed()
    s.delete(NEW, 1)
    s.listed(New=1)
    assert s.rules == ["names"]


def test_a_mailbox_that_nobody_removed_and_that_is_not_listed_is_found() -> None:
    s = _renamed()
    s.listed()
    assert s.rules == ["names"]


def test_mail_that_goes_to_the_mailbox_that_had_the_name_is_found() -> None:
    s = _renamed()
    s.create(OLD, 2)
    s.save(1, OLD, 1, 1)
    assert s.rules == ["names"]


@pytest.mark.parametrize("wrong", [False, True])
def test_refusals_are_seen_as_what_they_say(wrong: bool) -> None:
    s = _renamed()
    there, free = (OLD, NEW) if wrong else (NEW, OLD)
    s.create(there, EXISTS)
    s.delete(free, MISSING)
    s.rename(free, THIRD, MISSING)
    assert s.rules == (["names"] if wrong else [])


def test_a_rename_onto_a_name_that_is_taken_is_refused_and_one_that_is_not_is_found() -> None:
    s = _renamed()
    s.create(OLD, 2)
    s.rename(OLD, NEW, EXISTS)
    assert s.rules == []
    s.rename(OLD, NEW, 2)
    assert s.rules == ["names"]


@pytest.mark.parametrize("happened", [False, True])
def test_a_change_without_an_answer_may_happen_once_at_any_later_time(happened: bool) -> None:
    s = Story()
    s.create(OLD, 1)
    s.rename(OLD, NEW, LOST)
    s.read(OLD, 1)
    if happened:
        s.read(NEW, 1)
        s.rename(NEW, OLD, 1)
    s.listed(Old=1)
    assert s.rules == []
    if happened:
        s.listed(New=1)
        assert s.rules == ["names"]


def test_a_create_without_an_answer_gives_a_mailbox_of_some_number_or_none() -> None:
    for seen in ({}, {"Old": 7}):
        s = Story()
        s.create(OLD, LOST)
        s.listed(**seen)
        s.delete(OLD, 7 if seen else MISSING)
        assert s.rules == []


def test_a_delete_without_an_answer_takes_the_messages_with_it_or_does_not() -> None:
    s = Story()
    s.create(OLD, 1)
    s.save(1, OLD, 1, 1)
    s.delete(OLD, LOST)
    s.read(OLD, 1, (1, 1), uidnext=2)
    s.missing(OLD)
    assert s.rules == []


def test_a_save_without_an_answer_is_in_one_of_the_mailboxes_that_had_the_name() -> None:
    s = Story()
    s.create(OLD, 1)
    s.save(1, OLD, 0, 0)
    s.rename(OLD, NEW, 1)
    s.create(OLD, 2)
    s.read(OLD, 2, (1, 1), uidnext=2)
    assert s.rules == []
    s.read(NEW, 1, (1, 1), uidnext=2)
    assert s.rules == ["once"]


def test_changes_that_overlap_may_come_in_either_order_but_in_one() -> None:
    s = _renamed()
    before = s.now + 1
    s.rename(NEW, OLD, 1, since=before)
    s.rename(NEW, THIRD, MISSING, since=before)
    s.listed(Old=1)
    assert s.rules == []
    s.listed(Third=1)
    assert s.rules == ["names"]


def test_a_name_that_gets_the_uidvalidity_of_another_mailbox_that_had_it_is_found() -> None:
    s = _renamed()
    s.create(OLD, 2, validity=101)
    assert "UIDVALIDITY" in s.rules


def test_names_that_nobody_can_judge_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "STATES_MAX", 10)
    s = Story()
    for at in range(6):
        s.create(f"n{at}", LOST)
        s.delete(f"n{at}", LOST)
    s.listed(n5=7)
    assert examine(s.history).passed_over == (f"the names of {USER}",)
