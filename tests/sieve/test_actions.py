"""What scripts want done."""

from __future__ import annotations

from hashlib import sha256

import pytest

from raftmail.sieve.rule_errors import RuleError
from raftmail.sieve.rule_outcome import (
    FileInto,
    Redirect,
    Rejection,
    SeenOnce,
    VacationReply,
)
from tests.sieve.runs import PLAIN, outcome_of, sent_by

_VACATION = 'require ["vacation", "vacation-seconds"]; '


@pytest.mark.parametrize(
    ("script", "actions"),
    [
        ("", [FileInto("INBOX")]),
        ("stop; discard;", [FileInto("INBOX")]),
        ("discard;", []),
        ("discard; keep;", [FileInto("INBOX")]),
        ('redirect "a@b.example";', [Redirect("a@b.example")]),
        ('redirect "A. Nn <a@b.example>";', [Redirect("a@b.example")]),
        ('redirect "a@b.example"; keep;', [Redirect("a@b.example"), FileInto("INBOX")]),
        (
            'require "copy"; redirect :copy "a@b.example"; redirect "a@b.example";',
            [Redirect("a@b.example")],
        ),
        ('require "fileinto"; fileinto "inbox/Sub";', [FileInto("INBOX/Sub")]),
        (
            'require ["fileinto", "mailbox", "special-use"]; '
            'fileinto :create :specialuse "\\\\junk" "Spam";',
            [FileInto("Spam", (), True, "\\Junk")],
        ),
        (
            'require "imap4flags"; addflag ["\\\\seen", "A"]; removeflag "a"; keep;',
            [FileInto("INBOX", ("\\seen",))],
        ),
        (
            'require "imap4flags"; setflag "\\\\Recent b(d good";',
            [FileInto("INBOX", ("good",))],
        ),
        ('require "reject"; reject "no";', [Rejection("no", False)]),
        ('require "ereject"; ereject "no"; discard;', [Rejection("no", True)]),
    ],
)
def test_a_script_gives_its_actions(script: str, actions: list[object]) -> None:
    assert list(outcome_of(script)) == actions


@pytest.mark.parametrize(
    "script",
    [
        'require "reject"; keep; reject "no";',
        'require "reject"; reject "no"; keep;',
        'require "reject"; reject "no"; reject "no";',
        'require "reject"; redirect "a@b.example"; reject "no";',
        'require ["reject", "vacation"]; vacation "x"; reject "no";',
        'require ["reject", "vacation"]; reject "no"; vacation "x";',
        'require "vacation"; vacation "x"; vacation "y";',
        'require ["fileinto", "variables"]; set "a" "/x"; fileinto "${a}";',
        'require "variables"; set "a" "no address"; redirect "${a}";',
        'require "include"; include "nothing";',
    ],
)
def test_what_contradicts_itself_ends_without_an_action(script: str) -> None:
    with pytest.raises(RuleError, match="line 1: "):
        outcome_of(script)


def _reply(script: str, message: bytes = PLAIN, sender: bytes = b"anna@example.org") -> bool:
    actions = outcome_of(script, message, around=sent_by(sender))
    assert FileInto("INBOX") in actions
    return any(isinstance(one, VacationReply) for one in actions)


def test_a_person_who_wrote_to_the_user_is_answered() -> None:
    assert _reply(f'{_VACATION} vacation "away";')


@pytest.mark.parametrize(
    "field",
    [
        b"List-Id: <x.example.org>",
        b"Auto-Submitted: auto-generated",
        b"Precedence: bulk",
        b"X-Auto-Response-Suppress: DR, OOF",
    ],
)
def test_no_machine_is_answered(field: bytes) -> None:
    assert not _reply(f'{_VACATION} vacation "away";', field + b"\r\n" + PLAIN)


@pytest.mark.parametrize(
    "sender", [b"", b"MAILER-DAEMON@example.org", b"list-request@example.org", b"me@example.org"]
)
def test_nobody_is_answered_who_does_not_want_to_be(sender: bytes) -> None:
    assert not _reply(f'{_VACATION} vacation "away";', PLAIN, sender)


def test_mail_to_others_is_answered_only_for_addresses_that_the_script_names() -> None:
    message = PLAIN.replace(b"me@example.org", b"Other@example.org")
    assert not _reply(f'{_VACATION} vacation "away";', message)
    assert _reply(f'{_VACATION} vacation :addresses "other@example.org" "away";', message)


def _vacation(arguments: str, sender: bytes = b"anna@example.org") -> VacationReply:
    actions = outcome_of(f"{_VACATION} vacation {arguments};", around=sent_by(sender))
    return next(one for one in actions if isinstance(one, VacationReply))


def test_an_answer_is_known_by_who_gets_it_and_what_it_says() -> None:
    one = _vacation('"away"')
    assert one.key == _vacation('"away"', b"ANNA@example.org").key
    assert one.key != _vacation('"gone"').key
    assert one.key != _vacation('"away"', b"bob@example.org").key
    assert _vacation(':handle "h" "away"').key == _vacation(':handle "h" "gone"').key


@pytest.mark.parametrize(
    ("arguments", "seconds"),
    [
        ("", 7 * 86_400),
        (":days 2", 2 * 86_400),
        (":days 0", 86_400),
        (":days 1000", 90 * 86_400),
        (":seconds 5", 60),
        (":seconds 3600", 3600),
    ],
)
def test_the_time_between_two_answers_is_bounded(arguments: str, seconds: int) -> None:
    assert _vacation(f'{arguments} "x"').seconds == seconds


def test_a_message_that_was_seen_is_a_duplicate_and_what_was_not_is_remembered() -> None:
    script = 'require "duplicate"; if duplicate { discard; }'
    message = b"Message-ID: <1@x>\r\n" + PLAIN
    key = sha256(b"0  <1@x>").digest()
    assert outcome_of(script, message) == (SeenOnce(key, 7 * 86_400), FileInto("INBOX"))
    assert outcome_of(script, message, seen=frozenset((key,))) == ()
    assert outcome_of(script) == (FileInto("INBOX"),), "no Message-ID, no duplicate"


def test_included_scripts_share_global_variables_alone() -> None:
    main = (
        'require ["include", "variables"]; global "g"; set "g" "1"; set "l" "2"; '
        'include :once "other"; include :once "other"; include :optional "missing"; '
        'if not string "${g}${l}" "1x2" { discard; }'
    )
    other = (
        b'require ["include", "variables"]; set "global.g" "${global.g}x"; '
        b'if not string "${l}" "" { discard; stop; } return; discard;'
    )
    assert outcome_of(main, others={"other": other}) == (FileInto("INBOX"),)
