"""The checker of histories finds each way in which a history can break a promise, and finds nothing
in good ones."""

from __future__ import annotations

from hashlib import sha256
from math import inf

import pytest

from raftmail.mail import commands as c
from raftmail.mail import queries as q
from raftmail.mail import results as r
from raftmail.mail.uidset import UidSet
from raftmail_chaos import lives
from raftmail_chaos.checker import check, examine
from raftmail_chaos.history import Call, Fate, History, Operation

USER = "user@example.org"
ALL = UidSet.from_ranges([(1, (1 << 32) - 1)])
BODY = b"Subject: x\r\n\r\nx"
BLOB = sha256(BODY).digest()
VALIDITY = 1_700_000_000
INBOX, WORK = 1, 2
NUMBERS = {"INBOX": INBOX, "Work": WORK}
SEEN, FLAGGED, DELETED = "\\Seen", "\\Flagged", "\\Deleted"


def uids(*given: int) -> UidSet:
    return UidSet.from_uids(given)


class Story:
    """A history told one operation after the other; `during` makes the next one overlap those
    before it."""

    def __init__(self) -> None:
        self.history = History()
        self.now = 0.0

    def _do(
        self, call: Call, answer: object, *, lost: bool = False, since: float = inf
    ) -> Operation:
        begin = min(self.now + 1, since)
        operation = self.history.invoke("c", call, begin)
        self.now += 2
        if not lost:
            self.history.answer(operation, answer, self.now)
        return operation

    def save(
        self,
        guid: int,
        uid: int = 0,
        *,
        modseq: int = 0,
        flags: tuple[str, ...] = (),
        to: str = "INBOX",
        validity: int = VALIDITY,
        since: float = inf,
        blob: bytes = BLOB,
    ) -> Operation:
        """Without a UID, the answer is lost."""
        name = guid.to_bytes(16, "big")
        message = c.NewMessage((c.Target(USER, to),), blob, len(BODY), name, 1, flags)
        saved = r.Saved(USER, NUMBERS[to], validity, uid, modseq or uid + 1)
        call = c.Save(USER, (message,), VALIDITY)
        return self._do(call, r.SaveResult((saved,)), lost=not uid, since=since)

    def store(
        self,
        given: UidSet,
        mode: c.StoreMode,
        flags: tuple[str, ...],
        modseq: int = 0,
        *,
        changed: UidSet | None = None,
        rejected: UidSet | None = None,
        unchanged_since: int = -1,
        highest: int = 0,
        since: float = inf,
    ) -> Operation:
        """Without a modseq, the answer is lost."""
        call = c.Store(USER, "INBOX", given, mode, flags, unchanged_since)
        done = given if changed is None else changed
        answer = r.StoreResult(done, rejected or UidSet(), modseq if done else 0, highest or modseq)
        return self._do(call, answer, lost=not (modseq or highest), since=since)

    def expunge(self, given: UidSet, modseq: int = 0, *, gone: UidSet | None = None) -> Operation:
        call = c.Expunge(USER, "INBOX", given)
        answer = r.ExpungeResult(given if gone is None else gone, modseq)
        return self._do(call, answer, lost=not modseq)

    def copy(
        self, source: UidSet, target: UidSet | None, modseq: int = 0, *, move: bool = False
    ) -> Operation:
        call = c.Copy(USER, "INBOX", source, c.Target(USER, "Work"), VALIDITY, move)
        answer = r.CopyResult(VALIDITY + 1, WORK, source, target or UidSet(), 0, modseq)
        return self._do(call, answer, lost=target is None)

    def read(
        self,
        *messages: tuple[int, int, int] | tuple[int, int, int, tuple[str, ...]],
        uidnext: int,
        highest: int,
        of: str = "INBOX",
        since: float = inf,
        blob: bytes = BLOB,
        validity: int = 0,
        counted: int | None = None,
    ) -> Operation:
        """Messages are (guid, uid, modseq, flags)."""
        number = NUMBERS[of]
        found = tuple(
            q.MessageInfo(
                m[1], m[0].to_bytes(16, "big"), m[2], m[3] if len(m) > 3 else (), 1, len(BODY), blob
            )
            for m in messages
        )
        info = self._info(
            of, uidnext, highest, len(found) if counted is None else counted, validity
        )
        assert info.number == number
        page = q.MessagePage(info, found, False)
        return self._do(q.FetchMessages(USER, of, ALL), page, since=since)

    def status(self, uidnext: int, highest: int) -> Operation:
        return self._do(q.GetMailbox(USER, "INBOX"), self._info("INBOX", uidnext, highest, 0, 0))

    def _info(
        self, of: str, uidnext: int, highest: int, count: int, validity: int
    ) -> q.MailboxInfo:
        number = NUMBERS[of]
        validity = validity or VALIDITY + number - 1
        return q.MailboxInfo(
            number, USER, of, b"", validity, uidnext, highest, count, 0, 0, "", False, b""
        )

    def body(self, uid: int, body: bytes | None) -> Operation:
        return self._do(q.FetchBody(USER, "INBOX", uid), body)

    @property
    def rules(self) -> list[str]:
        return [problem.rule for problem in check(self.history)]


ADD, REMOVE, REPLACE = c.StoreMode.ADD, c.StoreMode.REMOVE, c.StoreMode.REPLACE


def test_an_empty_history_is_good() -> None:
    assert check(History()) == []


def test_a_good_history_of_everything_is_good() -> None:
    s = Story()
    s.save(1, 1, modseq=2)
    s.read((1, 1, 2), uidnext=2, highest=2)
    s.store(uids(1), ADD, (SEEN,), 3)
    s.read((1, 1, 3, (SEEN,)), uidnext=2, highest=3)
    s.save(2, 2, modseq=4, flags=(FLAGGED,))
    s.store(uids(1, 2), ADD, (SEEN,), 5, changed=uids(2))
    s.store(uids(1), REPLACE, (), 0, changed=uids(), rejected=uids(1), unchanged_since=2, highest=5)
    s.copy(uids(1, 2), uids(1, 2), 2)
    s.read((1, 1, 2, (SEEN,)), (2, 2, 2, (SEEN, FLAGGED)), uidnext=3, highest=2, of="Work")
    s.body(1, BODY)
    s.expunge(uids(1), 6)
    s.body(1, None)
    s.read((2, 2, 5, (SEEN, FLAGGED)), uidnext=3, highest=6)
    assert s.rules == []


# Acknowledged messages


def test_an_acknowledged_message_that_is_not_there_is_found() -> None:
    s = Story()
    s.save(1, 1)
    s.read(uidnext=2, highest=2)
    assert s.rules == ["SAVE"]


def test_a_message_may_be_missing_in_a_read_that_overlaps_its_save() -> None:
    s = Story()
    s.save(1, 1)
    s.read(uidnext=1, highest=1, since=0.5)
    assert s.rules == []


def test_a_message_that_is_gone_and_comes_back_without_an_expunge_is_found() -> None:
    s = Story()
    s.save(1, 1)
    s.read((1, 1, 2), uidnext=2, highest=2)
    s.read(uidnext=2, highest=2)
    s.read((1, 1, 2), uidnext=2, highest=2)
    assert s.rules == ["SAVE"]


def test_another_body_under_the_uid_is_found() -> None:
    s = Story()
    s.save(1, 1)
    s.body(1, b"Subject: y\r\n\r\ny")
    assert s.rules == ["body"]
    s = Story()
    s.save(1, 1)
    s.read((1, 1, 2), uidnext=2, highest=2, blob=b"0" * 32)
    assert s.rules == ["body"]


def test_a_message_that_nobody_saved_is_found() -> None:
    s = Story()
    s.read((9, 1, 2), uidnext=2, highest=2)
    assert "message" in s.rules


def test_a_count_that_differs_from_the_messages_is_found() -> None:
    s = Story()
    s.save(1, 1)
    s.read((1, 1, 2), uidnext=2, highest=2, counted=2)
    assert s.rules == ["page"]


# UIDs


def test_a_uid_that_stands_for_two_messages_is_found() -> None:
    s = Story()
    s.save(1, 1)
    s.save(2, 1, modseq=3)
    assert "UID" in s.rules
    s = Story()
    s.save(1, 1)
    s.save(2)
    s.read((2, 1, 3), uidnext=2, highest=3)
    assert "UID" in s.rules


def test_a_uid_that_is_given_again_after_an_expunge_is_found() -> None:
    s = Story()
    s.save(1, 1)
    s.expunge(uids(1), 3)
    s.save(2, 1, modseq=4)
    assert "UID" in s.rules


def test_uids_that_go_backwards_are_found() -> None:
    s = Story()
    s.save(1, 2, modseq=2)
    s.save(2, 1, modseq=3)
    assert s.rules == ["UIDNEXT"]


def test_uids_of_saves_that_overlap_may_come_in_any_order() -> None:
    s = Story()
    s.save(1, 2, modseq=3)
    s.save(2, 1, modseq=2, since=0.5)
    assert s.rules == []


def test_a_uid_that_a_read_had_announced_as_used_is_found() -> None:
    s = Story()
    s.save(1, 4)
    s.status(9, 5)
    s.save(2, 8, modseq=6)
    assert s.rules == ["UIDNEXT"]


def test_a_changed_uidvalidity_is_found() -> None:
    s = Story()
    s.save(1, 1)
    s.save(2, 2, validity=VALIDITY + 7)
    assert s.rules == ["UIDVALIDITY"]
    s = Story()
    s.save(1, 1)
    s.read((1, 1, 2), uidnext=2, highest=2, validity=5)
    assert "UIDVALIDITY" in s.rules


def test_a_uid_beyond_uidnext_is_found() -> None:
    s = Story()
    s.save(1, 1)
    s.read((1, 1, 2), uidnext=1, highest=2)
    assert "UID" in s.rules


# Once


def test_a_save_that_was_carried_out_twice_is_found() -> None:
    s = Story()
    s.save(1, 1)
    s.read((1, 1, 2), (1, 2, 3), uidnext=3, highest=3)
    assert s.rules == ["once"]


def test_a_save_without_an_answer_may_have_happened_or_not_or_later() -> None:
    s = Story()
    s.save(1)
    s.read(uidnext=1, highest=1)
    s.read(uidnext=1, highest=1)
    s.read((1, 1, 2), uidnext=2, highest=2)
    s.read((1, 1, 2), uidnext=2, highest=2)
    assert s.rules == []


def test_a_save_without_an_answer_that_happened_twice_is_found() -> None:
    s = Story()
    s.save(1)
    s.read((1, 1, 2), (1, 2, 3), uidnext=3, highest=3)
    assert s.rules == ["once"]


def test_a_save_without_an_answer_that_is_seen_and_then_gone_is_found() -> None:
    s = Story()
    s.save(1)
    s.read((1, 1, 2), uidnext=2, highest=2)
    s.read(uidnext=2, highest=2)
    assert s.rules == ["order"]


def test_a_save_that_is_said_to_have_had_no_effect_and_had_one_is_found() -> None:
    s = Story()
    s.history.nothing(s.save(1), s.now)
    s.read((1, 1, 2), uidnext=2, highest=2)
    assert s.rules


def test_a_message_seen_before_it_was_saved_is_found() -> None:
    s = Story()
    s.read((1, 1, 2), uidnext=2, highest=2)
    s.save(1)
    assert s.rules == ["once"]


def test_a_retry_whose_result_is_forgotten_counts_as_unanswered() -> None:
    s = Story()
    lost = s.save(1)
    s.history.answer(lost, r.Refused(r.Code.STALE, ""), s.now)
    assert lost.fate is Fate.LOST
    s.read((1, 1, 2), uidnext=2, highest=2)
    assert s.rules == []


# Copies


def test_a_copy_that_changes_the_guid_is_found() -> None:
    s = Story()
    s.save(1, 1)
    s.save(2, 2)
    s.copy(uids(1), uids(1), 2)
    s.read((2, 1, 2), uidnext=2, highest=2, of="Work")
    assert "UID" in s.rules


def test_a_copy_that_is_not_there_is_found() -> None:
    s = Story()
    s.save(1, 1)
    s.copy(uids(1), uids(1), 2)
    s.read(uidnext=2, highest=2, of="Work")
    assert s.rules == ["SAVE"]


def test_a_copy_without_an_answer_may_have_happened_once() -> None:
    s = Story()
    s.save(1, 1)
    s.copy(uids(1), None)
    s.read((1, 1, 2), uidnext=2, highest=2, of="Work")
    assert s.rules == []
    s.read((1, 1, 2), (1, 2, 3), uidnext=3, highest=3, of="Work")
    assert s.rules == ["once"]


def test_a_copy_without_an_answer_may_be_of_a_message_that_nobody_ever_saw() -> None:
    s = Story()
    s.status(1, 1)
    s.save(1)
    s.copy(uids(1), None, move=True)
    s.read((1, 1, 2), uidnext=2, highest=2, of="Work")
    assert s.rules == []
    s.read((1, 1, 2), (1, 2, 3), uidnext=3, highest=3, of="Work")
    assert s.rules == ["once"]


def test_a_copy_without_an_answer_does_not_explain_a_message_that_was_elsewhere() -> None:
    s = Story()
    s.status(1, 1)
    s.save(1)
    s.save(2, 7)
    s.copy(uids(1), None, move=True)
    s.read((2, 1, 2), uidnext=2, highest=2, of="Work")
    assert s.rules == ["once"]


def test_a_copy_of_a_message_that_was_gone_is_found() -> None:
    s = Story()
    s.save(1, 1)
    s.expunge(uids(1), 3)
    s.copy(uids(1), uids(1), 2)
    assert s.rules == ["order"]


def test_a_move_takes_the_message_away() -> None:
    s = Story()
    s.save(1, 1)
    s.copy(uids(1), uids(1), 2, move=True)
    s.read((1, 1, 2), uidnext=2, highest=3)
    assert s.rules == ["EXPUNGE"]


# Expunges


def test_an_expunged_message_that_comes_back_is_found() -> None:
    s = Story()
    s.save(1, 1)
    s.expunge(uids(1), 3)
    s.read((1, 1, 2), uidnext=2, highest=3)
    assert s.rules == ["EXPUNGE"]


def test_an_expunge_without_an_answer_may_happen_later() -> None:
    s = Story()
    s.save(1, 1)
    s.expunge(uids(1))
    s.read((1, 1, 2), uidnext=2, highest=2)
    s.read(uidnext=2, highest=3)
    assert s.rules == []
    s.read((1, 1, 2), uidnext=2, highest=3)
    assert s.rules == ["order"]


def test_an_expunge_that_passes_over_a_message_that_is_there_is_found() -> None:
    s = Story()
    s.save(1, 1)
    s.expunge(uids(1), 2, gone=UidSet())
    s.read((1, 1, 2), uidnext=2, highest=2)
    assert s.rules == ["order"]


# Flags and modseqs


def test_an_acknowledged_change_of_flags_that_is_not_seen_is_found() -> None:
    s = Story()
    s.save(1, 1)
    s.store(uids(1), ADD, (SEEN,), 3)
    s.read((1, 1, 2), uidnext=2, highest=3)
    assert s.rules == ["order"]


def test_flags_that_no_operation_set_are_found() -> None:
    s = Story()
    s.save(1, 1)
    s.read((1, 1, 3, (SEEN,)), uidnext=2, highest=3)
    assert s.rules == ["order"]


def test_a_change_of_flags_without_an_answer_may_happen_once_at_any_later_time() -> None:
    s = Story()
    s.save(1, 1)
    s.store(uids(1), ADD, (SEEN,))
    s.read((1, 1, 2), uidnext=2, highest=2)
    s.read((1, 1, 3, (SEEN,)), uidnext=2, highest=3)
    s.store(uids(1), REMOVE, (SEEN,), 4)
    s.read((1, 1, 4), uidnext=2, highest=4)
    assert s.rules == []
    s.read((1, 1, 5, (SEEN,)), uidnext=2, highest=5)
    assert s.rules == ["order"], "it was carried out twice"


def test_changes_of_flags_that_overlap_may_come_in_either_order_but_in_one() -> None:
    s = Story()
    s.save(1, 1)
    s.store(uids(1), REPLACE, (SEEN,), 4)
    s.store(uids(1), REPLACE, (FLAGGED,), 3, since=2.5)
    s.read((1, 1, 4, (SEEN,)), uidnext=2, highest=4)
    assert s.rules == []
    s.read((1, 1, 4, (FLAGGED,)), uidnext=2, highest=4)
    assert s.rules == ["order"]


def test_a_modseq_that_does_not_grow_with_a_change_is_found() -> None:
    s = Story()
    s.save(1, 1, modseq=5)
    s.store(uids(1), ADD, (SEEN,), 5)
    assert s.rules == ["HIGHESTMODSEQ", "order"]


def test_a_highestmodseq_that_goes_back_is_found() -> None:
    s = Story()
    s.save(1, 1, modseq=5)
    s.status(2, 4)
    assert s.rules == ["HIGHESTMODSEQ"]


def test_a_conditional_change_that_ignores_its_condition_is_found() -> None:
    s = Story()
    s.save(1, 1)
    s.store(uids(1), ADD, (SEEN,), 3)
    s.store(uids(1), ADD, (FLAGGED,), 4, unchanged_since=2)
    assert s.rules == ["order"]


def test_a_conditional_change_that_is_rejected_without_reason_is_found() -> None:
    s = Story()
    s.save(1, 1)
    s.store(
        uids(1), ADD, (SEEN,), 0, changed=uids(), rejected=uids(1), unchanged_since=9, highest=2
    )
    assert s.rules == ["order"]


def test_a_change_that_is_told_as_none_is_found() -> None:
    s = Story()
    s.save(1, 1)
    s.store(uids(1), ADD, (SEEN,), 0, changed=uids(), highest=2)
    assert s.rules == ["order"]


# Reads


def test_a_read_that_goes_back_behind_another_read_is_found() -> None:
    s = Story()
    s.save(1)
    s.read((1, 1, 2), uidnext=2, highest=2)
    s.read(uidnext=1, highest=1)
    assert set(s.rules) >= {"UIDNEXT"}


def test_a_read_that_goes_back_behind_an_acknowledged_write_is_found() -> None:
    s = Story()
    s.save(1, 1)
    s.status(1, 1)
    assert set(s.rules) == {"UIDNEXT", "HIGHESTMODSEQ"}


@pytest.mark.parametrize("lost", range(1, 7))
def test_many_lost_answers_are_told_apart_in_bounded_time(lost: int) -> None:
    s = Story()
    s.save(1, 1)
    for n in range(lost):
        s.store(uids(1), ADD, (f"$k{n}",))
    s.read((1, 1, 2 + lost, tuple(f"$k{n}" for n in range(lost))), uidnext=2, highest=2 + lost)
    assert s.rules == []
    s.read((1, 1, 3 + lost), uidnext=2, highest=3 + lost)
    assert s.rules == ["order"]


@pytest.mark.parametrize("lost", [10, 40, 160])
def test_lost_answers_that_say_much_the_same_cost_little_however_many(lost: int) -> None:
    s = Story()
    s.save(1, 1)
    for n in range(lost):
        flag = (SEEN, FLAGGED, DELETED)[n % 3]
        s.store(uids(1), REMOVE if n % 4 == 3 else ADD, (flag,))
    s.read((1, 1, 4, (SEEN, DELETED)), uidnext=2, highest=4)
    s.read((1, 1, 5, (DELETED,)), uidnext=2, highest=5)
    s.read((1, 1, 6, (DELETED, FLAGGED)), uidnext=2, highest=6)
    assert s.rules == []
    s.read((1, 1, 7, ("$never",)), uidnext=2, highest=7)
    assert s.rules == ["order"]


def test_a_message_that_nobody_can_judge_is_counted_and_not_passed_as_good(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lives, "STATES_MAX", 100)
    s = Story()
    s.save(1, 1)
    s.save(2, 2)
    for n in range(16):
        s.store(uids(1), ADD, (f"$k{n}",))
    s.read((1, 1, 4, ("$k15",)), (2, 2, 3), uidnext=3, highest=4)
    verdict = examine(s.history)
    assert (verdict.problems, verdict.passed_over) == ((), (f"message {(INBOX, 1)}",))


@pytest.mark.parametrize("first", [ADD, REPLACE])
@pytest.mark.parametrize("then", [(SEEN,), (FLAGGED, SEEN)])
def test_either_of_two_lost_changes_may_explain_what_was_seen_and_the_other_what_comes_later(
    first: c.StoreMode, then: tuple[str, ...]
) -> None:
    s = Story()
    s.save(1, 1)
    s.store(uids(1), first, (SEEN,))
    s.store(uids(1), REPLACE if first is ADD else ADD, (SEEN,))
    s.read((1, 1, 3, (SEEN,)), uidnext=2, highest=3)
    s.store(uids(1), REPLACE, (FLAGGED,), 4)
    s.read((1, 1, 5, then), uidnext=2, highest=5)
    assert s.rules == []


def test_many_reads_that_overlap_what_they_may_have_seen_or_not_cost_little() -> None:
    s = Story()
    s.save(1, 1)
    begun = s.now + 1
    s.expunge(uids(1), 3)
    s.history.operations[-1].invoked = begun
    for _ in range(40):
        s.read((1, 1, 2), uidnext=2, highest=2, since=begun)
        s.read(uidnext=2, highest=3, since=begun)
    s.history.operations[1].returned = s.now + 1
    assert s.rules == []
    s.now += 2
    s.read((1, 1, 2), uidnext=2, highest=3)
    assert s.rules == ["EXPUNGE"]
