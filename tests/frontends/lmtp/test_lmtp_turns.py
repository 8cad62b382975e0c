"""What one LMTP client sends takes a bounded part of each turn of the loop, and some of it ends the
connection."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from raftmail.frontends.lmtp.config import LmtpConfig
from raftmail.frontends.lmtp.events import Closed, OutputFull, RecipientOffered, TurnOver
from raftmail.frontends.lmtp.protocol import LmtpSession
from raftmail.service.verdicts import Verdict

LHLO = b"LHLO mx.example\r\n"


def test_pipelined_commands_are_taken_some_hundred_at_a_time() -> None:
    config = LmtpConfig(idle_commands_max=100_000, reply_bytes_max=1 << 30, turn_commands_max=100)
    session = LmtpSession(config, "local", 0.0)
    session.take_output()
    event = session.receive_data(b"NOOP\r\n" * 1000, 0.0)
    answered = [session.take_output().count(b"250 ")]
    while event is not None:
        assert isinstance(event, TurnOver)
        event = session.next_turn(0.0)
        answered.append(session.take_output().count(b"250 "))
    assert answered == [100] * 10


def test_recipients_that_are_answered_at_once_count_as_commands_of_the_turn() -> None:
    config = LmtpConfig(turn_commands_max=50, recipients_max=1000)
    session = LmtpSession(config, "local", 0.0)
    rcpt = b"RCPT TO:<a@example.org>\r\n"
    event = session.receive_data(LHLO + b"MAIL FROM:<b@example.org>\r\n" + rcpt * 200, 0.0)
    asked = 0
    while isinstance(event, RecipientOffered):
        asked += 1
        event = session.answer_recipient(Verdict.accepted(), 0.0)
    assert isinstance(event, TurnOver)
    assert asked == 48


def test_refused_recipients_end_the_connection_when_they_are_too_many() -> None:
    session = LmtpSession(LmtpConfig(refused_recipients_max=3), "local", 0.0)
    session.receive_data(LHLO + b"MAIL FROM:<b@example.org>\r\n", 0.0)
    session.take_output()
    event = session.receive_data(b"RCPT TO:<a@example.org>\r\n" * 10, 0.0)
    refused = 0
    while isinstance(event, RecipientOffered):
        refused += 1
        event = session.answer_recipient(Verdict.unknown_user(), 0.0)
    assert isinstance(event, Closed)
    assert refused == 4
    assert session.take_output().splitlines()[-1].startswith(b"421 4.7.0 Too many recipients")


def test_recipients_that_may_be_taken_later_are_not_counted() -> None:
    session = LmtpSession(LmtpConfig(refused_recipients_max=3), "local", 0.0)
    session.receive_data(LHLO + b"MAIL FROM:<b@example.org>\r\n", 0.0)
    event = session.receive_data(b"RCPT TO:<a@example.org>\r\n" * 10, 0.0)
    deferred = 0
    while isinstance(event, RecipientOffered):
        deferred += 1
        event = session.answer_recipient(Verdict.try_later(), 0.0)
    assert (event, deferred) == (None, 10)


def test_bare_newlines_end_the_connection() -> None:
    session = LmtpSession(LmtpConfig(), "local", 0.0)
    event = session.receive_data(LHLO + b"\n" * 65536, 0.0)
    assert isinstance(event, Closed)


@given(
    st.lists(
        st.one_of(
            st.binary(max_size=40),
            st.sampled_from(
                [
                    LHLO,
                    b"MAIL FROM:<a@b>\r\n",
                    b"MAIL FROM:<> SIZE=99999999999999999999\r\n",
                    b"RCPT TO:<\xff@b>\r\n",
                    b"RCPT TO:<a@b>\r\n",
                    b"RCPT TO:<\xed\xa0\x80@b>\r\n",
                    b"DATA\r\n",
                    b"x\r\n.\r\n",
                    b"BDAT 3\r\nabc",
                    b"BDAT 999999999999999999 LAST\r\n",
                    b"STARTTLS\r\n",
                    b"RSET\r\n",
                    b"\r\n",
                ]
            ),
        ),
        max_size=12,
    )
)
def test_a_session_raises_nothing_whatever_comes(parts: list[bytes]) -> None:
    session = LmtpSession(LmtpConfig(starttls=True), "local", 0.0)
    for part in parts:
        event = session.receive_data(part, 0.0)
        while event is not None:
            if isinstance(event, RecipientOffered):
                event = session.answer_recipient(Verdict.accepted(), 0.0)
            elif isinstance(event, TurnOver):
                event = session.next_turn(0.0)
            elif isinstance(event, OutputFull):
                event = session.output_sent(0.0)
            else:
                break
        if isinstance(event, Closed):
            return
        if event is not None and session.pending is not None:
            return
