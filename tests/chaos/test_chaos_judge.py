"""The judge of a run sees what went wrong, also with mail whose UIDs nobody was told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256

import pytest

from raftmail.mail import commands as c
from raftmail.mail import queries as q
from raftmail.mail import results as r
from raftmail.mail.uidset import UidSet
from raftmail_chaos.history import Fate, Operation
from raftmail_chaos.judge import HistoryVerdict, judge_user, verdict_from_json, verdict_to_json
from raftmail_chaos.record import Body, Delivery

USER = "w0u1@chaos.test"
ALL = UidSet.from_ranges([(1, (1 << 32) - 1)])


def _message(uid: int) -> q.MessageInfo:
    body = b"body %d" % uid
    return q.MessageInfo(uid, b"%016d" % uid, uid + 1, (), 0, len(body), sha256(body).digest())


def _page(at: float, uids: Sequence[int]) -> Operation:
    """Everything that is in the mailbox of deliveries, as a read found it."""
    last = max(uids, default=0)
    info = q.MailboxInfo(
        4, USER, "lmtp", b"", 3, last + 1, last + 1, len(uids), 0, 0, "", False, b""
    )
    page = q.MessagePage(info, tuple(map(_message, uids)), False)
    return Operation(0, "r", q.FetchMessages(USER, "lmtp", ALL), at, at + 1, Fate.ANSWERED, page)


def _delivery(token: str, code: int, *, sent: bool = True) -> Delivery:
    return Delivery(token, USER, "lmtp", 1.0, 2.0, code, sent)


def _rules(
    operations: Sequence[Operation], deliveries: Sequence[Delivery], tokens: dict[int, str]
) -> list[str]:
    verdict = HistoryVerdict()
    judge_user(verdict, USER, operations, deliveries, tokens)
    return [finding.rule for finding in verdict.findings]


def test_deliveries_that_are_there_once_are_good() -> None:
    given = [_delivery("a", 250), _delivery("b", 250)]
    assert _rules([_page(5, [1, 2])], given, {1: "a", 2: "b"}) == []


def test_an_acknowledged_delivery_that_is_not_there_is_lost() -> None:
    given = [_delivery("a", 250), _delivery("b", 250)]
    assert _rules([_page(5, [1])], given, {1: "a"}) == ["SAVE"]


def test_a_delivery_that_is_there_twice_is_found() -> None:
    assert "once" in _rules([_page(5, [1, 2])], [_delivery("a", 250)], {1: "a", 2: "a"})


def test_a_delivery_that_was_given_again_and_is_there_twice_is_a_violation() -> None:
    verdict = HistoryVerdict()
    given = replace(_delivery("a", 250), tries=2, size_bytes=7, recipients=3)
    judge_user(verdict, USER, [_page(5, [1, 2])], [given], {1: "a", 2: "a"})
    assert (verdict.doubled, verdict.retried) == (1, 1)
    assert (verdict.largest_bytes, verdict.recipients_most) == (7, 3)
    assert {finding.rule for finding in verdict.findings} >= {"once"}


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("code", [0, 451])
def test_a_delivery_whose_outcome_is_unknown_may_be_there_or_not(code: int, there: bool) -> None:
    uids, tokens = ([1], {1: "a"}) if there else ([], {})
    assert _rules([_page(5, uids)], [_delivery("a", code)], tokens) == []


def test_a_delivery_that_was_refused_for_good_must_not_be_there() -> None:
    assert "refused" in _rules([_page(5, [1])], [_delivery("a", 550)], {1: "a"})


def test_a_read_after_an_acknowledged_delivery_must_see_it() -> None:
    reads = [_page(3, [1]), _page(5, [1, 2])]
    given = [_delivery("a", 250), _delivery("b", 250)]
    assert _rules(reads, given, {1: "a", 2: "b"}) != []


def test_mail_that_nobody_gave_is_found() -> None:
    assert "message" in _rules([_page(5, [1, 2])], [_delivery("a", 250)], {1: "a"})


@pytest.mark.parametrize(("body", "rules"), [(b"body 1", []), (b"body 2", ["body"])])
def test_a_body_must_be_what_its_message_says(body: bytes, rules: list[str]) -> None:
    call = q.FetchBody(USER, "lmtp", 1)
    read = Operation(0, "r", call, 7, 8, Fate.ANSWERED, Body.of(body))
    assert _rules([_page(5, [1]), read], [_delivery("a", 250)], {1: "a"}) == rules


def test_what_the_checker_finds_is_a_finding() -> None:
    body = b"x"
    message = c.NewMessage((c.Target(USER, "INBOX"),), sha256(body).digest(), 1, b"g" * 16, 0)
    saves = [
        Operation(
            0, "w", c.Save(USER, (message,), 0), at, at + 1, Fate.ANSWERED,
            r.SaveResult((r.Saved(USER, 1, 3, 1, 2),)),
        )
        for at in (1.0, 3.0)
    ]  # fmt: skip
    assert "UID" in _rules(saves, [], {})


def test_a_verdict_is_read_as_it_was_printed() -> None:
    verdict = HistoryVerdict()
    judge_user(verdict, USER, [_page(5, [1])], [_delivery("b", 250)], {1: "a"})
    assert verdict_from_json(verdict_to_json(verdict)) == verdict
    assert verdict.findings
