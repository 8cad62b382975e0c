"""The server's side of a POP3 connection: from lines to commands, one after the other.

A command that asks the cluster, or whose answer is long, runs as a task; what the client sends
meanwhile waits. All else is answered at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any, Final

from raftmail.frontends.pop3 import replies
from raftmail.frontends.pop3.commands import (
    Pop3Command,
    Pop3Malformed,
    Pop3Verb,
    parse_pop3,
)
from raftmail.frontends.pop3.context import Pop3Context
from raftmail.frontends.pop3.line_reader import Pop3LineReader, Pop3LineTooLong
from raftmail.frontends.pop3.maildrop import MESSAGE_BYTES, Maildrop, NoSuchMessage
from raftmail.frontends.pop3.message_text import END, pieces
from raftmail.frontends.pop3.replies import ReplyCode
from raftmail.frontends.pop3.states import TAKEN_IN, Pop3State
from raftmail.frontends.sasl import base64_lines
from raftmail.frontends.sasl.base64_lines import SaslCancelled, SaslSyntaxError
from raftmail.frontends.sasl.exchange import SaslExchange
from raftmail.frontends.sasl.mechanisms import offered
from raftmail.frontends.sasl.steps import Challenge
from raftmail.mail import commands as c
from raftmail.mail.failures import Failure, Unavailable
from raftmail.mail.limits import TOUCHED_MAX
from raftmail.mail.names import INBOX
from raftmail.mail.queries import (
    PAGE_MESSAGES_MAX,
    FetchBody,
    FetchColumns,
    GetMailbox,
    MailboxInfo,
    MessageColumns,
    ReadPoint,
)
from raftmail.mail.results import Refused
from raftmail.mail.uidset import STAR, UidSet
from raftmail.net.connection import Connection
from raftmail.net.errors import start_task, tell
from raftmail.net.room import take_room
from raftmail.net.session import Bye, Session
from raftmail.net.turns import after_others
from raftmail.net.web import is_no_command
from raftmail.service.login import (
    LoggedIn,
    LogInOutcome,
    LogInRefused,
    Origin,
    PasswordShown,
    RefusalReason,
)

_log = logging.getLogger("raftmail.pop3")

_TURN_COMMANDS: Final = 50
"""Commands that are taken in one turn of the loop; then others have theirs."""

_TURN_LINES: Final = 1000
"""Messages that LIST and UIDL tell of in one turn of the loop."""

_GONE: Final = "that message is gone: another program has deleted it"


class Pop3Session(Session):
    """One client.

    Invariants: while `_working`, a task answers a command, and nothing else is answered. While
    `_sending`, the lines of an answer go out, and nothing else may be written between them."""

    def __init__(self, context: Pop3Context, connection: Connection, *, secure: bool) -> None:
        self._context = context
        self._connection = connection
        self._secure = secure
        self._trusted = secure or connection.is_loopback
        self._state = Pop3State.AUTHORIZATION
        self._reader = Pop3LineReader(context.limits.login_line_bytes_max)
        self._user = ""
        """Whom USER named; after the log-in, who it is."""
        self._utf8 = False
        self._maildrop = Maildrop()
        self._exchange: SaslExchange | None = None
        """A log-in whose challenge the client has yet to answer."""
        self._entered = False
        self._working = False
        self._sending = False
        self._update: asyncio.Task[None] | None = None
        """Deletes what was marked: also for a client that has not waited for the answer."""
        self._more = False  # there may be more to take than was taken in this turn
        self._draining = False
        self._failed_logins = 0
        self._bad_commands = 0
        self._held_bytes = 0

    # -- the connection's calls ----------

    @property
    def known(self) -> bool:
        """See `Session`."""
        return self._entered

    @property
    def blocked(self) -> bool:
        """See `Session`."""
        waits = self._working or self._more
        return waits and self._reader.unread_bytes > self._context.limits.unread_bytes_max

    @property
    def busy(self) -> bool:
        """See `Session`."""
        return self._working

    @property
    def lingers(self) -> bool:
        """See `Session`."""
        return self._update is not None and not self._update.done()

    @property
    def held_bytes(self) -> int:
        """See `Session`."""
        return self._held_bytes + self._reader.unread_bytes

    def start(self) -> None:
        """See `Session`."""
        self._write(replies.ok("raftmail is ready"))

    def receive(self, data: bytes) -> None:
        """See `Session`."""
        self._reader.feed(data)
        self.run()

    def run(self) -> None:
        """See `Session`."""
        self._more = False
        left = _TURN_COMMANDS
        while not self._working and TAKEN_IN[self._state]:
            if not left:
                self._more = True
                self._connection.resume_soon()
                return
            left -= 1
            try:
                line = self._reader.take()
            except Pop3LineTooLong:
                most = self._reader.line_bytes_max
                self.bye(Bye.BROKEN, f"a line has at most {most} bytes")
                return
            if line is None:
                return
            self._take(line)

    def secured(self) -> None:
        """See `Session`. What was said in the clear counts no more (RFC 2595 section 4)."""
        self._secure = self._trusted = True
        self._state = Pop3State.AUTHORIZATION
        self._user = ""
        self._reader.clear()

    def check(self, now: float) -> None:
        """See `Session`. Who is silent for too long is closed without a word, and nothing is
        deleted (RFC 1939 section 3)."""
        connection, limits = self._connection, self._context.limits
        if self._working or connection.congested or connection.short:
            return
        login_over = not self._entered and now - connection.began_at > limits.login_s
        if login_over or now - connection.heard_at > limits.idle_s:
            self._end()
            connection.hang_up()

    def bye(self, why: Bye, text: str) -> None:
        """See `Session`."""
        if self._state is not Pop3State.ENDED and not self._sending:
            code = ReplyCode.SYS_TEMP if why in (Bye.FULL, Bye.STOPPING) else None
            self._connection.write(replies.err(text, code))
        self._end()
        self._connection.hang_up()

    def drain(self, now: float) -> None:
        """See `Session`."""
        self._draining = True
        if not self._working:
            self.bye(Bye.STOPPING, "the node stops: connect to another")

    def end(self) -> None:
        """See `Session`."""
        self._end()
        self._leave()
        self._give_back(self._held_bytes)

    def cut(self) -> None:
        """See `Session`."""
        if self._update is not None:
            self._update.cancel()

    def _end(self) -> None:
        self._state = Pop3State.ENDED

    def _leave(self) -> None:
        """Nobody is logged in."""
        if self._entered:
            self._entered = False
            self._context.service.leave_user(self._user)

    # -- from lines to commands ----------

    def _take(self, line: bytes) -> None:
        if self._exchange is not None:
            exchange, self._exchange = self._exchange, None
            self._answer_challenge(exchange, line)
            return
        if not self._entered and is_no_command(line):
            self.bye(Bye.BROKEN, "this is POP3, and that was something else")
            return
        try:
            command = parse_pop3(line)
            if command.verb not in TAKEN_IN[self._state]:
                raise Pop3Malformed(f"{command.verb.value} has no place {self._state.value}")
            self._perform(command)
        except Pop3Malformed as e:
            self._write(replies.err(str(e)))
            self._count_bad()
        except NoSuchMessage as e:
            self._write(replies.err(str(e)))

    def _perform(self, command: Pop3Command) -> None:
        if self._state is Pop3State.AUTHORIZATION:
            self._perform_before_login(command)
        else:
            self._perform_on_maildrop(command)

    def _perform_before_login(self, command: Pop3Command) -> None:
        match command.verb:
            case Pop3Verb.CAPA:
                self._tell_capabilities()
            case Pop3Verb.QUIT:
                self._quit()
            case Pop3Verb.STLS:
                self._start_tls()
            case Pop3Verb.UTF8:
                # RFC 6856 section 2. Messages are octets here, and go out as they are anyhow.
                self._utf8 = True
                self._write(replies.ok("UTF-8 it is"))
            case Pop3Verb.USER:
                self._take_user(command.text)
            case Pop3Verb.PASS:
                self._take_password(command.text)
            case Pop3Verb.AUTH:
                self._authenticate(command.text)

    def _perform_on_maildrop(self, command: Pop3Command) -> None:
        """RFC 1939 sections 5 and 7."""
        maildrop, number = self._maildrop, command.number
        match command.verb:
            case Pop3Verb.CAPA:
                self._tell_capabilities()
            case Pop3Verb.QUIT:
                self._quit()
            case Pop3Verb.STAT:
                self._write(replies.ok(f"{maildrop.messages} {maildrop.octets}"))
            case Pop3Verb.NOOP:
                self._write(replies.ok("nothing done"))
            case Pop3Verb.RSET:
                maildrop.reset()
                self._write(replies.ok(f"the maildrop has {maildrop.messages} messages"))
            case Pop3Verb.DELE:
                assert number is not None
                maildrop.mark(number, TOUCHED_MAX)
                self._write(replies.ok(f"message {number} is deleted by QUIT"))
            case Pop3Verb.LIST if number is not None:
                self._write(replies.ok(f"{number} {maildrop.find(number)[1]}"))
            case Pop3Verb.UIDL if number is not None:
                self._write(replies.ok(f"{number} {maildrop.unique_id(number)}"))
            case Pop3Verb.LIST | Pop3Verb.UIDL:
                self._begin(self._list, command.verb)
            case Pop3Verb.RETR | Pop3Verb.TOP:
                assert number is not None
                lines = command.lines if command.verb is Pop3Verb.TOP else None
                self._begin(self._retrieve, *maildrop.find(number), lines)

    def _begin(self, work: Callable[..., Awaitable[None]], *about: Any) -> None:
        """Run a task that answers; nothing else is answered until it has ended."""
        self._working = True
        self._connection.spawn(self._work(work, about))

    async def _work(self, work: Callable[..., Awaitable[None]], about: tuple[Any, ...]) -> None:
        try:
            await work(*about)
        except Unavailable as e:
            self._write(replies.err(e.failure.text, ReplyCode.SYS_TEMP))
        except Exception as e:
            tell(_log, "a POP3 command failed", e)
            self.bye(Bye.BROKEN, "the node failed over this; its log says how")
        finally:
            self._working = False
            if self._draining and self._state is not Pop3State.ENDED:
                self.bye(Bye.STOPPING, "the node stops: connect to another")
            elif self._state is not Pop3State.ENDED:
                self._connection.resume_soon()
                self._connection.settle()

    # -- who it is ----------

    @property
    def _mechanisms(self) -> tuple[str, ...]:
        if not self._trusted:
            return ()
        return offered(
            tokens=self._context.service.takes_tokens, bindings=self._connection.channel_bindings
        )

    def _tell_capabilities(self) -> None:
        """CAPA (RFC 2449 section 5)."""
        self._write(
            replies.capabilities(
                mechanisms=self._mechanisms,
                may_start_tls=self._context.tls is not None and not self._secure,
            )
        )

    def _start_tls(self) -> None:
        """STLS (RFC 2595 section 4). What came in the clear behind it is dropped."""
        context = self._context.tls
        if context is None or self._secure:
            raise Pop3Malformed("there is no STLS here")
        if self._utf8:
            raise Pop3Malformed("STLS comes before UTF8")
        self._reader.clear()
        self._write(replies.ok("begin TLS now"))
        self._state = Pop3State.SECURING
        self._connection.start_tls(context)

    def _take_user(self, user: bytes) -> None:
        """USER (RFC 1939 section 7). Whether there is such a user is told to nobody."""
        if not self._trusted:
            self._write(replies.err("begin TLS first: STLS"))
            return
        self._user = user.decode("utf-8", "replace")
        self._write(replies.ok("now the password"))

    def _take_password(self, password: bytes) -> None:
        """PASS (RFC 1939 section 7)."""
        if not self._trusted:
            self._write(replies.err("begin TLS first: STLS"))
        elif not self._user:
            raise Pop3Malformed("USER comes before PASS")
        else:
            user, self._user = self._user, ""  # who was wrong says USER again
            self._begin(self._ask_for_password, PasswordShown(user, password))

    def _authenticate(self, argument: bytes) -> None:
        """AUTH (RFC 5034 section 4)."""
        name, _, initial = argument.partition(b" ")
        mechanism = name.decode("ascii", "replace").upper()
        mechanisms = self._mechanisms
        if not mechanisms:
            self._write(replies.err("begin TLS first: STLS"))
        elif mechanism not in mechanisms:
            raise Pop3Malformed(f"the mechanisms here are {', '.join(mechanisms)}")
        else:
            try:
                first = base64_lines.decode_initial(initial) if initial else None
            except SaslSyntaxError as e:
                raise Pop3Malformed(str(e)) from None
            self._go_on(SaslExchange(mechanism, first, self._connection.channel_bindings))

    def _answer_challenge(self, exchange: SaslExchange, line: bytes) -> None:
        try:
            exchange.answer(base64_lines.decode_answer(line))
        except (SaslCancelled, SaslSyntaxError) as e:
            self._write(replies.err(str(e)))
            self._count_bad()
            return
        self._go_on(exchange)

    def _go_on(self, exchange: SaslExchange) -> None:
        step = exchange.step
        if isinstance(step, Challenge):
            self._exchange = exchange
            self._write(b"+ %b\r\n" % base64_lines.encode(step.data))
        else:
            self._begin(self._ask_who, exchange)

    async def _ask_who(self, exchange: SaslExchange) -> None:
        context = self._context
        await exchange.ask(context.service, self._origin, deadline_s=context.limits.deadline_s)
        if isinstance(exchange.step, (LoggedIn, LogInRefused)):
            await self._conclude(exchange.step)
        else:
            self._go_on(exchange)

    async def _ask_for_password(self, shown: PasswordShown) -> None:
        context = self._context
        deadline_s = context.limits.deadline_s
        outcome = await context.service.log_in(shown, self._origin, deadline_s=deadline_s)
        await self._conclude(outcome)

    @property
    def _origin(self) -> Origin:
        return Origin(self._connection.address, "pop3")

    async def _conclude(self, outcome: LogInOutcome) -> None:
        if isinstance(outcome, LoggedIn):
            await self._enter(outcome.user)
            return
        late = outcome.reason is RefusalReason.LIMIT
        self._write(replies.err(outcome.text, ReplyCode.SYS_TEMP if late else ReplyCode.AUTH))
        self._failed_logins += 1
        if self._failed_logins >= self._context.limits.failed_logins_max:
            self.bye(Bye.BROKEN, "too many wrong passwords")

    async def _enter(self, user: str) -> None:
        """Who may come in has the maildrop read, and is in when that is done."""
        if self._state is Pop3State.ENDED:
            return
        if not self._context.service.enter_user(user):
            text = "this user has too many connections here already"
            self._write(replies.err(text, ReplyCode.IN_USE))
            return
        self._user, self._entered = user, True
        try:
            self._maildrop = await self._read_maildrop()
        except BaseException:
            self._leave()
            self._user = ""
            self._give_back(self._held_bytes)
            raise
        self._state = Pop3State.TRANSACTION
        self._reader.line_bytes_max = self._context.limits.line_bytes_max
        count, octets = self._maildrop.messages, self._maildrop.octets
        self._write(replies.ok(f"the maildrop has {count} messages ({octets} octets)"))

    # -- the maildrop ----------

    async def _read_maildrop(self) -> Maildrop:
        """The INBOX now, behind one barrier as for SELECT of IMAP. Raises `Unavailable`."""
        context = self._context
        limits, service = context.limits, context.service
        point, deadline_s = ReadPoint(), limits.deadline_s
        asked = GetMailbox(self._user, INBOX)
        info = await service.query(asked, deadline_s=deadline_s, point=point)
        if not isinstance(info, MailboxInfo):
            return Maildrop()
        maildrop = Maildrop(info.number, info.uidvalidity)
        first = 1
        while len(maildrop) < limits.messages_max:
            uids = UidSet.from_ranges([(first, STAR)])
            limit = min(PAGE_MESSAGES_MAX, limits.messages_max - len(maildrop))
            query = FetchColumns(self._user, info.number, uids, limit=limit)
            page = await service.query(query, deadline_s=deadline_s, point=point)
            if not isinstance(page, MessageColumns):
                raise Unavailable(Failure("the INBOX was removed meanwhile"))
            self._hold(MESSAGE_BYTES * len(page.uids))
            maildrop.add(page.uids, page.sizes)
            if not page.more or not page.uids:
                break
            first = page.uids[-1] + 1
            await after_others()
        return maildrop

    async def _list(self, verb: Pop3Verb) -> None:
        """LIST and UIDL of all messages."""
        maildrop = self._maildrop
        await self._send(self._lines(verb, maildrop))

    def _lines(self, verb: Pop3Verb, maildrop: Maildrop) -> Iterator[bytes]:
        yield replies.ok(f"{maildrop.messages} messages ({maildrop.octets} octets)")
        with_ids = verb is Pop3Verb.UIDL
        validity = maildrop.uidvalidity
        for first in range(1, len(maildrop) + 1, _TURN_LINES):
            yield b"".join(
                b"%d %08x%08x\r\n" % (number, validity, uid)
                if with_ids
                else b"%d %d\r\n" % (number, size)
                for number, uid, size in maildrop.listed(first, _TURN_LINES)
            )
        yield END

    async def _retrieve(self, uid: int, size: int, lines: int | None) -> None:
        """RETR; with `lines` TOP. The message is counted in the budget until it has gone out."""
        context = self._context
        deadline_s = context.limits.deadline_s
        if not await take_room(context.budget, size, deadline_s):
            raise Unavailable(Failure("the node holds as many messages as it may"))
        self._held_bytes += size
        try:
            query = FetchBody(self._user, self._maildrop.mailbox, uid)
            message = await context.service.query(query, deadline_s=deadline_s)
            if not isinstance(message, bytes):
                self._write(replies.err(_GONE))
                return
            self._write(replies.ok(f"{len(message)} octets"))
            await self._send(pieces(message, lines))
        finally:
            self._give_back(size)

    async def _send(self, parts: Iterable[bytes]) -> None:
        """Send an answer of many lines, a part in each turn of the loop."""
        self._sending = True
        for part in parts:
            self._write(part)
            await self._connection.drained()
            await after_others()
        self._sending = False

    def _quit(self) -> None:
        """QUIT (RFC 1939 section 6)."""
        marked = self._maildrop.marked
        if not marked:
            self._write(replies.ok("goodbye"))
            self._end()
            self._connection.hang_up()
            return
        self._state = Pop3State.UPDATE
        self._working = True
        loop = asyncio.get_running_loop()
        self._update = start_task(loop, self._delete(marked), self._connection.failed)
        # A connection that is gone waits for it, and is told when it is done.
        self._update.add_done_callback(lambda _: loop.call_soon(self._connection.settle))

    async def _delete(self, marked: UidSet) -> None:
        """Delete what is marked, by one entry of the log; the answer comes when it is committed."""
        context = self._context
        command = c.Expunge(self._user, self._maildrop.mailbox, marked)
        try:
            done = await context.service.execute(command, deadline_s=context.limits.deadline_s)
        except Unavailable as e:
            text = f"whether the messages were deleted is not known: {e.failure.text}"
            self._write(replies.err(text, ReplyCode.SYS_TEMP))
        else:
            if isinstance(done.result, Refused):
                self._write(replies.err(f"no message was deleted: {done.result.text}"))
            else:
                self._write(replies.ok(f"{len(marked)} messages are deleted, goodbye"))
        self._working = False
        self._end()
        self._connection.hang_up()

    # -- what is held, and answers ----------

    def _hold(self, count: int) -> None:
        """Count bytes in the budget. Raises `Unavailable` when there is no room now."""
        if not self._context.budget.take(count):
            raise Unavailable(Failure("the node holds as many maildrops as it may"))
        self._held_bytes += count

    def _give_back(self, count: int) -> None:
        count = min(count, self._held_bytes)  # the end gives all of it back
        self._context.budget.give(count)
        self._held_bytes -= count

    def _write(self, data: bytes) -> None:
        if self._state is not Pop3State.ENDED:
            self._connection.write(data)

    def _count_bad(self) -> None:
        self._bad_commands += 1
        if self._bad_commands >= self._context.limits.bad_commands_max:
            self.bye(Bye.BROKEN, f"{self._bad_commands} commands that make no sense")
