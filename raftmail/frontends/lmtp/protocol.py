"""The state machine of one LMTP connection, server side: bytes in, events and bytes out.

LMTP is RFC 2033: SMTP (RFC 5321) with LHLO, and with a reply for each recipient of a message.
Extensions: PIPELINING (RFC 2920), SIZE (1870), 8BITMIME (6152), SMTPUTF8 (6531),
ENHANCEDSTATUSCODES (2034), CHUNKING (3030, without BINARYMIME) and STARTTLS (3207).

What is allowed in which state is the table `states.TRANSITIONS`; a command that is not in its row
gets 503. QUIT, NOOP, VRFY and HELP are allowed in every state that reads commands and change none,
but QUIT which ends it.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

from raftmail.frontends.lmtp import replies
from raftmail.frontends.lmtp.commands import (
    Chunk,
    CommandError,
    parse_bdat,
    parse_mail,
    parse_name,
    parse_rcpt,
)
from raftmail.frontends.lmtp.config import LmtpConfig
from raftmail.frontends.lmtp.events import (
    Closed,
    Event,
    MessageReceived,
    OutputFull,
    RecipientOffered,
    TlsRequested,
    TurnOver,
)
from raftmail.frontends.lmtp.states import TRANSITIONS, LmtpState
from raftmail.frontends.lmtp.text import MessageText, TextDecoder
from raftmail.mail.smtp_address import Address
from raftmail.net.web import is_no_command
from raftmail.service.verdicts import Recipient, Verdict


class LmtpSession:
    """One connection. Give it bytes; do what the event it returns asks for; send its output.

    Every method that can move the session on returns the next event, or None when it waits for more
    bytes from the client. Invariants:

    1. At most one event is pending. Until it is answered, input is kept and not looked at, so
       commands sent ahead (pipelining) take effect in their order. The caller stops reading when
       `unread_bytes` gets too many.
    2. Output and events depend on the bytes received, never on how they were cut.
    3. Between calls the session holds at most `buffered_bytes` of the client's bytes (and an
       eighth more while a message grows).

    Times are seconds on any clock that does not go back, the same for all calls.
    """

    __slots__ = (
        "_at",
        "_bad_commands",
        "_begun",
        "_body",
        "_chunk",
        "_chunk_left",
        "_chunk_refusal",
        "_config",
        "_cut_bytes",
        "_decoder",
        "_delivering_bytes",
        "_draining",
        "_greeted",
        "_heard",
        "_idle_commands",
        "_input",
        "_lhlo_name",
        "_output",
        "_peer",
        "_pending",
        "_recipients",
        "_refused_recipients",
        "_searched",
        "_sender",
        "_state",
        "_steps",
        "_tls",
        "_utf8",
    )

    def __init__(self, config: LmtpConfig, peer: str, now: float) -> None:
        """`peer` says who is connected, as it shall stand in Received. The greeting is in the
        output at once."""
        self._config = config
        self._peer = peer
        self._state = LmtpState.GREETED
        self._pending: Event | None = None
        self._draining = False
        self._tls = False
        self._lhlo_name = ""
        self._greeted = False
        self._bad_commands = 0
        self._idle_commands = 0
        self._refused_recipients = 0
        self._steps = config.turn_commands_max
        self._heard = now
        self._output = bytearray(replies.greeting(config.host))

        self._input = b""
        self._at = 0  # where unread input begins
        self._searched = 0  # no line ends between _at and here
        self._cut_bytes = 0  # length of a line too long to keep, as far as it was dropped

        self._chunk: Chunk | None = None
        self._chunk_left = 0
        self._chunk_refusal: bytes | None = None

        self._begun: float | None = None
        self._sender: Address | None = None
        self._utf8 = False
        self._recipients: list[Recipient] = []
        self._decoder: TextDecoder | None = None
        self._body: MessageText | None = None
        self._delivering_bytes = 0

    # -- what the caller may ask -------------------------------------------------------------

    @property
    def state(self) -> LmtpState:
        """Where the connection is."""
        return self._state

    @property
    def is_greeted(self) -> bool:
        """Whether the client has said LHLO, as no web browser does."""
        return self._greeted

    @property
    def pending(self) -> Event | None:
        """The event that waits for its answer."""
        return self._pending

    @property
    def unread_bytes(self) -> int:
        """Input that was received and not looked at yet."""
        return len(self._input) - self._at

    @property
    def buffered_bytes(self) -> int:
        """The client's bytes held here or handed out in a MessageReceived that is not answered."""
        held = len(self._input) - self._at + self._delivering_bytes
        return held if self._body is None else held + self._body.held_bytes

    @property
    def deadline(self) -> float:
        """When `expire` has to be called. Infinite while the session waits for its own side.

        A client is idle when it sends neither a whole command nor a part of a message. A
        transaction takes too long counted from its MAIL.
        """
        pending = self._pending
        if pending is not None and type(pending) not in (OutputFull, TurnOver):
            return math.inf
        idle = self._heard + self._config.idle_timeout_s
        if self._begun is None:
            return idle
        return min(idle, self._begun + self._config.transaction_timeout_s)

    def take_output(self) -> bytes:
        """The bytes to send now, each handed out once."""
        output = self._output
        if not output:
            return b""
        taken = bytes(output)
        output.clear()
        return taken

    # -- what moves the session on -----------------------------------------------------------

    def receive_data(self, data: bytes, now: float) -> Event | None:
        """Take bytes from the client. They are dropped when the session is closed or waits for a
        handshake: commands sent ahead of the handshake are an attacker's (CVE-2011-0411)."""
        if self._state is LmtpState.CLOSED or self._state is LmtpState.SECURING:
            return None
        at = self._at
        if at < len(self._input):
            self._input = self._input[at:] + data
            self._searched -= at
        else:
            self._input = data
            self._searched = 0
        self._at = 0
        if self._pending is not None:
            return None
        self._steps = self._config.turn_commands_max
        return self._proceed(now)

    def answer_recipient(self, verdict: Verdict, now: float) -> Event | None:
        """Accept or refuse the recipient of the pending RecipientOffered."""
        pending = self._pending
        if type(pending) is not RecipientOffered:
            raise RuntimeError(f"no recipient waits for an answer, but {pending}")
        if verdict.is_positive:
            self._recipients.append(Recipient(pending.address, verdict))
            self._state = TRANSITIONS[self._state]["RCPT"]
        elif verdict.is_permanent:
            self._refused_recipients += 1
            if self._refused_recipients > self._config.refused_recipients_max:
                return self._hang_up(replies.TOO_MANY_REFUSED)
        self._output += verdict.line
        return self._answered(now)

    def complete(self, verdicts: Sequence[Verdict], now: float) -> Event | None:
        """Say what became of the pending MessageReceived, one verdict for each recipient."""
        if type(self._pending) is not MessageReceived:
            raise RuntimeError(f"no message waits for its verdicts, but {self._pending}")
        if len(verdicts) != len(self._recipients):
            raise ValueError(f"{len(verdicts)} verdicts for {len(self._recipients)} recipients")
        for verdict in verdicts:
            self._output += verdict.line
        self._bad_commands = 0
        self._idle_commands = 0
        self._end_transaction(TRANSITIONS[self._state]["verdicts"])
        return self._answered(now)

    def tls_started(self, now: float) -> Event | None:
        """The handshake is done: everything learned before it is forgotten (RFC 3207 4.2)."""
        if type(self._pending) is not TlsRequested:
            raise RuntimeError(f"no handshake was asked for, but {self._pending}")
        self._tls = True
        self._lhlo_name = ""
        self._state = TRANSITIONS[self._state]["handshake"]
        return self._answered(now)

    def next_turn(self, now: float) -> Event | None:
        """The loop has had its turn in which others were served."""
        if type(self._pending) is not TurnOver:
            raise RuntimeError(f"no turn was over, but {self._pending}")
        self._steps = self._config.turn_commands_max
        return self._answered(now)

    def output_sent(self, now: float) -> Event | None:
        """The output that OutputFull asked to be sent is on its way."""
        if type(self._pending) is not OutputFull:
            raise RuntimeError(f"no output was to be sent, but {self._pending}")
        return self._answered(now)

    def expire(self, now: float) -> Event | None:
        """Close with 421 when the deadline has passed."""
        return self._hang_up(replies.TIMED_OUT) if now >= self.deadline else None

    def drain(self, now: float) -> Event | None:
        """Close with 421 as soon as no transaction runs, which may be at once."""
        self._draining = True
        return None if self._pending is not None else self._proceed(now)

    def close(self, reply: bytes) -> Event | None:
        """Close with this reply now, whatever runs."""
        return None if self._state is LmtpState.CLOSED else self._hang_up(reply)

    def postpone(self, paused_s: float) -> None:
        """Move the deadline by a time in which the client was not read from."""
        self._heard += paused_s
        if self._begun is not None:
            self._begun += paused_s

    # -- input -------------------------------------------------------------------------------

    def _answered(self, now: float) -> Event | None:
        self._pending = None
        self._heard = now
        return self._proceed(now)

    def _proceed(self, now: float) -> Event | None:
        """Read on until something is pending, the input is used up, or this turn has had its
        share."""
        output = self._output
        reply_bytes_max = self._config.reply_bytes_max
        while True:
            if self._draining and self._state <= LmtpState.READY and self._chunk is None:
                return self._hang_up(replies.STOPPING)
            if self._at == len(self._input):
                return None
            if len(output) >= reply_bytes_max:
                self._pending = OutputFull()
            elif self._steps <= 0:
                self._pending = TurnOver()
            elif self._state is LmtpState.TEXT:
                self._read_text(now)
            elif self._chunk is not None:
                self._read_chunk(self._chunk, now)
            elif not self._read_command(now):
                return None
            if self._pending is not None:
                return self._pending

    def _read_command(self, now: float) -> bool:
        """Take one line; False when there is no whole one,."""
        data = self._input
        at = self._at
        eol = data.find(b"\n", self._searched)
        if eol < 0:
            return self._cut_line()
        length_bytes = self._cut_bytes + eol + 1 - at
        self._cut_bytes = 0
        self._heard = now
        self._steps -= 1
        self._use_input(eol + 1)

        if not self._greeted and is_no_command(data[at : eol + 1]):
            self._hang_up(replies.NOT_THE_WEB)
            return True
        if length_bytes > self._config.command_line_bytes_max:
            if length_bytes > self._config.line_drop_bytes_max:
                self._hang_up(replies.LINE_FAR_TOO_LONG)
            else:
                self._refuse(replies.LINE_TOO_LONG)
            return True
        if eol == at or data[eol - 1] != 13:
            self._refuse(replies.BAD_LINE)
            return True
        verb, _, argument = data[at : eol - 1].partition(b" ")
        handler = self._HANDLERS.get(verb) or self._HANDLERS.get(verb.upper())
        if handler is None:
            self._refuse(replies.UNKNOWN_COMMAND)
            return True
        try:
            handler(self, argument, now)
        except CommandError as error:
            self._refuse(error.reply)
        return True

    def _cut_line(self) -> bool:
        """What is there is the beginning of a line: keep it, or only its length when too long."""
        self._searched = len(self._input)
        length_bytes = self._cut_bytes + self._searched - self._at
        if length_bytes > self._config.line_drop_bytes_max:
            self._hang_up(replies.LINE_FAR_TOO_LONG)
            return True
        if length_bytes > self._config.command_line_bytes_max:
            self._cut_bytes = length_bytes
            self._input = b""
            self._at = self._searched = 0
        return False

    def _read_text(self, now: float) -> None:
        decoder = self._decoder
        if decoder is None:
            raise RuntimeError("text without a message")
        self._heard = now
        end = decoder.feed(self._input, self._at)
        if end < 0:
            self._use_input(len(self._input))
            return
        self._use_input(end)
        self._end_message(decoder.body, "end of text")

    def _read_chunk(self, chunk: Chunk, now: float) -> None:
        """Take what is there of the octets behind a BDAT."""
        data = self._input
        at = self._at
        stop = min(len(data), at + self._chunk_left)
        if stop > at:
            self._heard = now
            self._chunk_left -= stop - at
            if self._chunk_refusal is None and self._body is not None:
                self._body.add(data[at:stop])
            self._use_input(stop)
        if self._chunk_left:
            return
        self._chunk = None
        if self._chunk_refusal is not None:
            self._refuse(self._chunk_refusal)
        elif self._body is None:
            raise RuntimeError("a chunk without a message")
        elif chunk.is_last:
            self._end_message(self._body, "BDAT LAST")
        elif self._body.is_over:
            # RFC 3030 section 2: after a refused BDAT only RSET makes sense.
            self._output += replies.TOO_LARGE
            self._end_transaction(LmtpState.READY)
        else:
            self._state = TRANSITIONS[self._state]["BDAT"]
            self._output += b"250 2.0.0 %d bytes taken\r\n" % chunk.size_bytes

    def _use_input(self, end: int) -> None:
        """Input up to `end` is dealt with."""
        if end == len(self._input):
            self._input = b""
            self._at = self._searched = 0
        else:
            self._at = self._searched = end

    # -- commands ----------------------------------------------------------------------------

    def _lhlo(self, argument: bytes, _now: float) -> None:
        name = parse_name(argument)
        self._end_transaction(self._next("LHLO"))
        if self._greeted and not self._may_idle():
            return
        self._greeted = True
        self._lhlo_name = name
        config = self._config
        self._output += replies.capabilities(
            config.host, config.message_bytes_max, starttls=config.starttls and not self._tls
        )

    def _mail(self, argument: bytes, now: float) -> None:
        state = self._next("MAIL")
        mail = parse_mail(argument, self._config.message_bytes_max)
        self._state = state
        self._begun = now
        self._sender = mail.sender
        self._utf8 = mail.utf8
        self._output += replies.SENDER_OK

    def _rcpt(self, argument: bytes, _now: float) -> None:
        self._next("RCPT")
        address = parse_rcpt(argument, self._config.detail_separator, utf8=self._utf8)
        if len(self._recipients) >= self._config.recipients_max:
            self._output += replies.TOO_MANY_RECIPIENTS
        else:
            self._pending = RecipientOffered(address)

    def _data(self, argument: bytes, _now: float) -> None:
        if self._state is LmtpState.SENDER:
            raise CommandError(replies.NO_RECIPIENTS)
        state = self._next("DATA")
        if argument:
            _want_none(argument)
        self._state = state
        self._decoder = TextDecoder(self._config.message_bytes_max)
        self._body = self._decoder.body
        self._output += replies.START_TEXT

    def _bdat(self, argument: bytes, now: float) -> None:
        """Whatever the answer is, the octets that follow are not commands and must be taken."""
        chunk = parse_bdat(argument)
        if chunk is None:
            self._hang_up(replies.BAD_CHUNK)
            return
        self._chunk = chunk
        self._chunk_left = chunk.size_bytes
        self._chunk_refusal = None
        if self._state is LmtpState.SENDER:
            self._chunk_refusal = replies.NO_RECIPIENTS
        elif "BDAT" not in TRANSITIONS[self._state]:
            self._chunk_refusal = replies.BAD_SEQUENCE
        elif self._body is None:
            self._body = MessageText(self._config.message_bytes_max)
        self._read_chunk(chunk, now)

    def _rset(self, argument: bytes, _now: float) -> None:
        state = self._next("RSET")
        if argument:
            _want_none(argument)
        self._end_transaction(state)
        if self._may_idle():
            self._output += replies.OK

    def _starttls(self, argument: bytes, _now: float) -> None:
        if not self._config.starttls:
            raise CommandError(replies.NO_TLS)
        if self._tls:
            raise CommandError(replies.BAD_SEQUENCE)
        state = self._next("STARTTLS")
        if argument:
            _want_none(argument)
        self._state = state
        self._input = b""
        self._at = self._searched = 0
        self._output += replies.START_TLS
        self._pending = TlsRequested()

    def _noop(self, _argument: bytes, _now: float) -> None:
        if self._may_idle():
            self._output += replies.OK

    def _vrfy(self, argument: bytes, _now: float) -> None:
        if not argument.strip(b" "):
            raise CommandError(replies.BAD_ARGUMENT)
        if self._may_idle():
            self._output += replies.CANNOT_VERIFY

    def _help(self, _argument: bytes, _now: float) -> None:
        if self._may_idle():
            self._output += replies.HELP

    def _quit(self, _argument: bytes, _now: float) -> None:
        self._hang_up(replies.BYE)

    def _helo(self, _argument: bytes, _now: float) -> None:
        raise CommandError(replies.NOT_SMTP)

    _HANDLERS: ClassVar[Mapping[bytes, Callable[["LmtpSession", bytes, float], None]]] = {
        b"LHLO": _lhlo,
        b"MAIL": _mail,
        b"RCPT": _rcpt,
        b"DATA": _data,
        b"BDAT": _bdat,
        b"RSET": _rset,
        b"STARTTLS": _starttls,
        b"NOOP": _noop,
        b"VRFY": _vrfy,
        b"HELP": _help,
        b"QUIT": _quit,
        b"HELO": _helo,
        b"EHLO": _helo,
    }

    def _may_idle(self) -> bool:
        """Count a command that brings no message nearer; False when it was one too many."""
        self._idle_commands += 1
        if self._idle_commands <= self._config.idle_commands_max:
            return True
        self._hang_up(replies.TOO_MANY_IDLE)
        return False

    # -- steps that several of them share ----------------------------------------------------

    def _next(self, what: str) -> LmtpState:
        state = TRANSITIONS[self._state].get(what)
        if state is None:
            raise CommandError(replies.BAD_SEQUENCE)
        return state

    def _end_message(self, body: MessageText, what: str) -> None:
        self._state = TRANSITIONS[self._state][what]
        self._body = None
        if body.is_over:
            self._output += replies.TOO_LARGE * len(self._recipients)
            self._end_transaction(TRANSITIONS[self._state]["verdicts"])
            return
        self._delivering_bytes = body.size_bytes
        self._pending = MessageReceived(
            self._sender,
            tuple(self._recipients),
            body.take(),
            self._utf8,
            self._tls,
            self._lhlo_name,
            self._peer,
        )

    def _end_transaction(self, state: LmtpState) -> None:
        self._state = state
        self._begun = None
        self._sender = None
        self._utf8 = False
        self._recipients = []
        self._decoder = None
        self._body = None
        self._delivering_bytes = 0

    def _refuse(self, reply: bytes) -> None:
        """Answer a bad command; one too many ends the connection."""
        self._bad_commands += 1
        config = self._config
        most = config.bad_commands_max if self._greeted else config.first_bad_commands_max
        if self._bad_commands > most:
            self._hang_up(replies.TOO_MANY_ERRORS)
        else:
            self._output += reply

    def _hang_up(self, reply: bytes) -> Event:
        self._output += reply
        self._input = b""
        self._at = self._searched = 0
        self._chunk = None
        self._end_transaction(LmtpState.CLOSED)
        self._pending = Closed()
        return self._pending


def _want_none(argument: bytes) -> None:
    if argument.strip(b" "):
        raise CommandError(replies.NO_ARGUMENT)
