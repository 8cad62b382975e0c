"""What the traces cannot say about a session: every pair of the table, memory, wrong use."""

import math

import pytest

from raftmail.frontends.lmtp.config import LmtpConfig
from raftmail.frontends.lmtp.events import (
    Closed,
    MessageReceived,
    OutputFull,
    RecipientOffered,
    TlsRequested,
)
from raftmail.frontends.lmtp.protocol import LmtpSession
from raftmail.frontends.lmtp.states import TRANSITIONS, LmtpState
from raftmail.service.verdicts import Verdict

CONFIG = LmtpConfig(starttls=True)
OK = Verdict.accepted()
PREFIXES: dict[LmtpState, list[bytes]] = {
    LmtpState.GREETED: [],
    LmtpState.READY: [b"LHLO x"],
    LmtpState.SENDER: [b"LHLO x", b"MAIL FROM:<>"],
    LmtpState.RECIPIENTS: [b"LHLO x", b"MAIL FROM:<>", b"RCPT TO:<a@x>"],
    LmtpState.CHUNKS: [b"LHLO x", b"MAIL FROM:<>", b"RCPT TO:<a@x>", b"BDAT 0"],
}
COMMANDS = {
    "LHLO": b"LHLO x",
    "RSET": b"RSET",
    "STARTTLS": b"STARTTLS",
    "MAIL": b"MAIL FROM:<a@x>",
    "RCPT": b"RCPT TO:<b@x>",
    "DATA": b"DATA",
    "BDAT": b"BDAT 0",
    "BDAT LAST": b"BDAT 0 LAST",
}


def session_at(state: LmtpState, config: LmtpConfig = CONFIG) -> LmtpSession:
    session = LmtpSession(config, "local", 0.0)
    for line in PREFIXES[state]:
        say(session, line)
    assert session.state is state
    return session


def say(session: LmtpSession, line: bytes) -> bytes:
    session.take_output()
    if isinstance(session.receive_data(line + b"\r\n", 0.0), RecipientOffered):
        session.answer_recipient(OK, 0.0)
    return session.take_output()


@pytest.mark.parametrize("state", PREFIXES)
@pytest.mark.parametrize("what", COMMANDS)
def test_a_command_leads_where_the_table_says_or_gets_503(state: LmtpState, what: str) -> None:
    session = session_at(state)
    reply = say(session, COMMANDS[what])
    after = TRANSITIONS[state].get(what)
    assert session.state is (state if after is None else after)
    assert reply.startswith(b"503 ") is (after is None)


@pytest.mark.parametrize("state", PREFIXES)
@pytest.mark.parametrize(
    ("line", "code"), [(b"NOOP", b"250"), (b"HELP", b"214"), (b"VRFY x", b"252")]
)
def test_a_question_changes_no_state(state: LmtpState, line: bytes, code: bytes) -> None:
    session = session_at(state)
    assert say(session, line).startswith(code)
    assert session.state is state


@pytest.mark.parametrize("state", PREFIXES)
def test_quit_ends_every_state(state: LmtpState) -> None:
    session = session_at(state)
    assert say(session, b"QUIT").startswith(b"221 ")
    assert session.state is LmtpState.CLOSED
    assert isinstance(session.pending, Closed)


def test_the_table_leads_to_every_state_and_out_of_all_but_the_last() -> None:
    reached = {after for row in TRANSITIONS.values() for after in row.values()}
    assert reached | {LmtpState.CLOSED} == set(LmtpState) == set(TRANSITIONS)
    assert [state for state, row in TRANSITIONS.items() if not row] == [LmtpState.CLOSED]


def test_input_waits_while_a_recipient_is_not_answered() -> None:
    session = session_at(LmtpState.SENDER)
    session.take_output()
    first = session.receive_data(b"RCPT TO:<a@x>\r\nRCPT TO:<b@x>\r\n", 0.0)
    assert isinstance(first, RecipientOffered) and first.address.local == "a"
    assert session.receive_data(b"NOOP\r\n", 0.0) is None
    assert session.take_output() == b""
    assert session.unread_bytes == session.buffered_bytes == 21
    assert session.deadline == math.inf
    second = session.answer_recipient(Verdict.unknown_user(), 0.0)
    assert isinstance(second, RecipientOffered) and second.address.local == "b"
    assert session.answer_recipient(OK, 0.0) is None
    assert [line[:3] for line in session.take_output().splitlines()] == [b"550", b"250", b"250"]
    assert session.buffered_bytes == 0


def test_a_message_counts_as_held_until_it_is_answered() -> None:
    session = session_at(LmtpState.RECIPIENTS)
    session.receive_data(b"DATA\r\n12345", 0.0)
    assert session.buffered_bytes == 5
    event = session.receive_data(b"6789\r\n.\r\nNOOP\r\n", 0.0)
    assert isinstance(event, MessageReceived) and event.body == b"123456789\r\n"
    assert session.buffered_bytes == 11 + 6
    session.complete([OK], 0.0)
    assert session.buffered_bytes == 0


@pytest.mark.parametrize("begin", [b"DATA\r\n", b"BDAT 100000 LAST\r\n"])
def test_a_message_over_the_limit_is_not_held(begin: bytes) -> None:
    session = session_at(LmtpState.RECIPIENTS, LmtpConfig(message_bytes_max=1000))
    session.receive_data(begin, 0.0)
    highest = 0
    for _ in range(1000):
        session.receive_data(b"x" * 100, 0.0)
        highest = max(highest, session.buffered_bytes)
    assert highest == 1000
    session.receive_data(b"\r\n.\r\n", 0.0)
    assert b"552 5.3.4" in session.take_output()


def test_an_endless_line_is_not_held() -> None:
    config = LmtpConfig(command_line_bytes_max=1000, line_drop_bytes_max=50_000)
    session = LmtpSession(config, "local", 0.0)
    highest = 0
    sent = 0
    while session.state is not LmtpState.CLOSED:
        session.receive_data(b"x" * 100, 0.0)
        sent += 100
        highest = max(highest, session.buffered_bytes)
    assert highest <= 1000
    assert sent == 50_100


def test_replies_wait_for_the_caller_when_there_are_many() -> None:
    session = LmtpSession(LmtpConfig(reply_bytes_max=1000, idle_commands_max=2000), "local", 0.0)
    event = session.receive_data(b"HELP\r\n" * 1000, 0.0)
    seen = 0
    while event is not None:
        output = session.take_output()
        assert len(output) < 1000 + 200
        seen += output.count(b"214 ")
        full = isinstance(event, OutputFull)
        event = session.output_sent(0.0) if full else session.next_turn(0.0)
    assert seen + session.take_output().count(b"214 ") == 1000


def test_an_answer_nobody_asked_for_is_an_error() -> None:
    session = session_at(LmtpState.RECIPIENTS)
    with pytest.raises(RuntimeError):
        session.answer_recipient(OK, 0.0)
    with pytest.raises(RuntimeError):
        session.complete([OK], 0.0)
    with pytest.raises(RuntimeError):
        session.tls_started(0.0)
    with pytest.raises(RuntimeError):
        session.output_sent(0.0)


def test_a_wrong_number_of_verdicts_is_an_error() -> None:
    session = session_at(LmtpState.RECIPIENTS)
    session.receive_data(b"DATA\r\n.\r\n", 0.0)
    with pytest.raises(ValueError, match="2 verdicts for 1"):
        session.complete([OK, OK], 0.0)


def test_bytes_before_the_handshake_is_done_are_dropped() -> None:
    session = session_at(LmtpState.READY)
    assert isinstance(session.receive_data(b"STARTTLS\r\nNOOP\r\n", 0.0), TlsRequested)
    session.receive_data(b"NOOP\r\n", 0.0)
    session.take_output()
    assert session.tls_started(0.0) is None
    assert session.take_output() == b""
    assert session.buffered_bytes == 0


def test_time_in_which_nobody_read_does_not_count() -> None:
    session = session_at(LmtpState.SENDER)
    deadline = session.deadline
    session.postpone(5.0)
    assert session.deadline == deadline + 5.0


def test_the_deadline_passes_once() -> None:
    session = session_at(LmtpState.READY)
    assert session.expire(session.deadline - 0.001) is None
    assert isinstance(session.expire(session.deadline), Closed)
    assert session.deadline == math.inf


@pytest.mark.parametrize(
    "verdict",
    [(200, "2.0.0", "x"), (354, "2.0.0", "x"), (550, "4.1.1", "x"), (250, "2.0", "x"),
     (250, "2.0.0", ""), (250, "2.0.0", "a\r\n250 b"), (250, "2.0.0", "x" * 401), (600, "5.0.0",
                                                                                   "x")],
)  # fmt: skip
def test_a_verdict_that_would_break_the_protocol_cannot_be_made(
    verdict: tuple[int, str, str],
) -> None:
    with pytest.raises(ValueError, match=r"verdict|status|reply"):
        Verdict(*verdict)


@pytest.mark.parametrize(
    "wrong",
    [{"recipients_max": 0}, {"idle_timeout_s": 0.0}, {"command_line_bytes_max": 100},
     {"line_drop_bytes_max": 4095}, {"host": "two words"}, {"host": ""}],
)  # fmt: skip
def test_a_configuration_that_cannot_work_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="must"):
        LmtpConfig(**wrong)  # type: ignore[arg-type]
