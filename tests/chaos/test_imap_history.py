"""What mail programs tell is judged beside what others were told."""

from __future__ import annotations

from hashlib import sha256

import pytest

from raftmail.mail import commands as c
from raftmail.mail import queries as q
from raftmail.mail import results as r
from raftmail.mail.uidset import UidSet
from raftmail_chaos.checker import check
from raftmail_chaos.history import History, Untold
from raftmail_chaos.imap_reader import APPENDED_FROM_S
from raftmail_chaos.record import read_lines, to_line

USER = "anna@example.org"
ALL = UidSet.from_ranges([(1, (1 << 32) - 1)])
BODY = b"Subject: x\r\n\r\n"
BLOB = sha256(BODY).digest()
APPENDED_US = APPENDED_FROM_S * 1_000_000
GUID = b"g" * 16
SEEN, DELETED = "\\Seen", "\\Deleted"


class Session:
    """One mail program's history beside that of one other client."""

    def __init__(self) -> None:
        self.history = History()
        self.now = 0.0

    def _do(self, call: object, answer: object) -> None:
        self.now += 1
        operation = self.history.invoke("c", call, self.now)  # type: ignore[arg-type]
        self.now += 1
        self.history.answer(operation, answer, self.now)

    def made(self) -> None:
        """The mailbox, by a client that is told its number."""
        call = c.CreateMailbox(USER, "Work", 7, b"w" * 16)
        self._do(call, r.MailboxResult(3, "Work", b"w" * 16, 7, 1, 1, 0))
        self._do(q.GetMailbox(USER, "Work"), self._info(3, 1, 1, 0))

    def appended(self, *flags: str) -> None:
        message = c.NewMessage((c.Target(USER, "Work"),), BLOB, len(BODY), b"", APPENDED_US, flags)
        saved = r.Saved(USER, 0, 7, 1, 0)
        self._do(c.Save(USER, (message,), 0), r.SaveResult((saved,)))

    def looks(self, *mails: tuple[int, int, tuple[str, ...]], guid: bytes = GUID) -> None:
        """UID, modseq and flags of all that the program keeps."""
        messages = tuple(
            q.MessageInfo(uid, guid, modseq, flags, APPENDED_US, len(BODY), b"")
            for uid, modseq, flags in mails
        )
        page = q.MessagePage(self._info(0, 0, 0, len(messages)), messages, False)
        self._do(q.FetchMessages(USER, "Work", ALL), page)

    def opened(self, uidnext: int, modseq: int) -> None:
        self._do(q.GetMailbox(USER, "Work"), self._info(0, uidnext, modseq, 1))

    def stored(self, *flags: str) -> None:
        store = c.Store(USER, "Work", UidSet.single(1), c.StoreMode.ADD, flags)
        self._do(store, Untold())

    def expunged(self) -> None:
        self._do(c.Expunge(USER, "Work", UidSet.single(1), only_deleted=True), Untold())

    def _info(self, number: int, uidnext: int, modseq: int, messages: int) -> q.MailboxInfo:
        return q.MailboxInfo(
            number, USER, "Work", b"", 7, uidnext, modseq, messages, 0, 0, "", False, b""
        )


@pytest.fixture
def session() -> Session:
    session = Session()
    session.made()
    session.appended()
    return session


def rules(session: Session) -> set[str]:
    return {problem.rule for problem in check(session.history)}


def test_what_was_appended_is_known_by_its_date(session: Session) -> None:
    session.looks((1, 2, ()))
    assert not rules(session)


def test_what_was_appended_and_is_not_there_is_found(session: Session) -> None:
    session.looks()
    assert rules(session) == {"SAVE"}


def test_a_uid_that_stands_for_another_message_later_is_found(session: Session) -> None:
    session.looks((1, 2, ()))
    session.looks((1, 2, ()), guid=b"h" * 16)
    assert rules(session) == {"UID", "message"}


def test_flags_that_the_own_store_gave_have_to_be_there(session: Session) -> None:
    session.stored(SEEN)
    session.looks((1, 3, (SEEN,)))
    session.stored(SEEN)
    session.looks((1, 3, (SEEN,)))
    assert not rules(session)
    session.stored(DELETED)
    session.looks((1, 4, (SEEN,)))
    assert rules(session) == {"order"}


def test_what_the_own_expunge_removed_is_gone(session: Session) -> None:
    session.stored(DELETED)
    session.expunged()
    session.looks()
    assert not rules(session)
    session.looks((1, 3, (DELETED,)))
    assert rules(session) == {"order"}


def test_an_expunge_leaves_what_is_not_marked(session: Session) -> None:
    session.expunged()
    session.looks((1, 2, ()))
    assert not rules(session)
    session.looks()
    assert rules(session) == {"SAVE"} or rules(session) == {"order"}


@pytest.mark.parametrize(("uidnext", "modseq"), [(1, 9), (9, 1)])
def test_a_select_that_shows_less_than_was_told_before_is_found(
    session: Session, uidnext: int, modseq: int
) -> None:
    session.opened(5, 5)
    session.opened(5, 5)
    assert not rules(session)
    session.opened(uidnext, modseq)
    assert len(rules(session)) == 1


def test_a_history_with_them_is_read_back_as_it_was_written(session: Session) -> None:
    session.stored(SEEN)
    operations = session.history.operations
    assert list(read_lines(map(to_line, operations))) == operations
