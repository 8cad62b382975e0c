"""The server's side of a ManageSieve connection: from words to commands, one after the other.

A command that asks the cluster runs as a task; what the client sends meanwhile waits. All else is
answered at once.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

from raftmail.frontends.managesieve import replies
from raftmail.frontends.managesieve.commands import SieveCommand, SieveVerb, name_of, parse_command
from raftmail.frontends.managesieve.context import ManageSieveContext
from raftmail.frontends.managesieve.states import TAKEN_IN, SieveState
from raftmail.frontends.sasl import base64_lines
from raftmail.frontends.sasl.base64_lines import SaslCancelled, SaslSyntaxError
from raftmail.frontends.sasl.exchange import SaslExchange
from raftmail.frontends.sasl.mechanisms import offered
from raftmail.frontends.sasl.steps import Challenge
from raftmail.mail import commands as c
from raftmail.mail.failures import Unavailable
from raftmail.mail.limits import validate
from raftmail.mail.queries import GetScript, ListScripts, ScriptInfo, ScriptList
from raftmail.mail.results import Code, Executed, Refused
from raftmail.mail.scripts import check_script_name
from raftmail.mail.sieve_words import (
    SieveReader,
    SieveWord,
    SieveWordsEndless,
    SieveWordsWrong,
)
from raftmail.net.connection import Connection
from raftmail.net.errors import tell
from raftmail.net.session import Bye, Session
from raftmail.net.web import is_no_command
from raftmail.service.login import LoggedIn, LogInOutcome, LogInRefused, Origin, RefusalReason
from raftmail.service.service import ScriptTooLarge

_log = logging.getLogger("raftmail.managesieve")

_TURN_COMMANDS: Final = 50
"""Commands that are taken in one turn of the loop; then others have theirs."""
_FREE_BYTES: Final = 16 << 10
"""What a session may hold without counting it in the budget."""

_CODES: Final = {
    Code.NONEXISTENT: replies.NONEXISTENT,
    Code.ALREADYEXISTS: replies.ALREADYEXISTS,
    Code.CANNOT: replies.ACTIVE,
    Code.LIMIT: replies.TOO_MANY,
    Code.OVERQUOTA: replies.QUOTA,
}
"""Response codes (RFC 5804 section 1.3) of what the apply refuses."""


class ManageSieveSession(Session):
    """One client.

    Invariant: while `_working`, a task answers a command, and nothing else is answered."""

    def __init__(
        self, context: ManageSieveContext, connection: Connection, *, secure: bool
    ) -> None:
        limits = context.limits
        self._context = context
        self._connection = connection
        self._secure = secure
        self._trusted = secure or connection.is_loopback
        self._state = SieveState.NOBODY
        self._reader = SieveReader(
            limits.command_bytes_max, limits.login_string_bytes_max, limits.skipped_bytes_max
        )
        self._user = ""
        self._exchange: SaslExchange | None = None
        """A log-in whose challenge the client has yet to answer."""
        self._working = False
        self._working_bytes = 0
        self._more = False  # there may be more to take than was taken in this turn
        self._draining = False
        self._failed_logins = 0
        self._bad_commands = 0
        self._held_bytes = 0

    # -- the connection's calls ----------

    @property
    def known(self) -> bool:
        """See `Session`."""
        return bool(self._user)

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
    def held_bytes(self) -> int:
        """See `Session`."""
        return self._reader.unread_bytes + self._working_bytes

    def start(self) -> None:
        """See `Session`. The greeting is the list of capabilities (RFC 5804 section 1.7)."""
        self._tell_capabilities("raftmail is ready")

    def receive(self, data: bytes) -> None:
        """See `Session`."""
        self._reader.feed(data)
        self.run()
        self._count()

    def run(self) -> None:
        """See `Session`."""
        self._more = False
        left = _TURN_COMMANDS
        while not self._working and self._state not in (SieveState.SECURING, SieveState.ENDED):
            if not left:
                self._more = True
                self._connection.resume_soon()
                return
            left -= 1
            try:
                words = self._reader.take()
            except SieveWordsWrong as e:
                self._refuse(str(e))
                continue
            except SieveWordsEndless as e:
                self.bye(Bye.BROKEN, str(e))
                return
            if words is None:
                return
            self._take(words)

    def secured(self) -> None:
        """See `Session`. What was said in the clear counts no more, and the capabilities are told
        again (RFC 5804 section 2.2)."""
        self._secure = self._trusted = True
        self._state = SieveState.NOBODY
        self._reader.clear()
        self._tell_capabilities("TLS has begun")

    def check(self, now: float) -> None:
        """See `Session`."""
        connection, limits = self._connection, self._context.limits
        if self._working or connection.congested or connection.short:
            return
        if not self._user and now - connection.began_at > limits.login_s:
            self.bye(Bye.BROKEN, "nobody has logged in for too long")
        elif now - connection.heard_at > limits.idle_s:
            self.bye(Bye.BROKEN, "nothing was said for too long")

    def bye(self, why: Bye, text: str) -> None:
        """See `Session`."""
        if self._state is not SieveState.ENDED:
            code = replies.TRYLATER if why in (Bye.FULL, Bye.STOPPING) else b""
            self._connection.write(replies.bye(text, code))
        self._state = SieveState.ENDED
        self._connection.hang_up()

    def drain(self, now: float) -> None:
        """See `Session`."""
        self._draining = True
        if not self._working:
            self.bye(Bye.STOPPING, "the node stops: connect to another")

    def end(self) -> None:
        """See `Session`."""
        self._state = SieveState.ENDED
        self._leave()
        self._context.budget.give(self._held_bytes)
        self._held_bytes = 0

    def _leave(self) -> None:
        """Nobody is logged in."""
        user, self._user = self._user, ""
        if user:
            self._context.service.leave_user(user)

    def _count(self) -> None:
        """Count what is held in the budget. Who finds no room there has to come again."""
        held = self.held_bytes
        wanted = held if held > _FREE_BYTES and self._state is not SieveState.ENDED else 0
        if wanted > self._held_bytes:
            if not self._context.budget.take(wanted - self._held_bytes):
                self.bye(Bye.FULL, "the node holds as much as it may: try again later")
                return
        else:
            self._context.budget.give(self._held_bytes - wanted)
        self._held_bytes = wanted

    # -- from words to commands ----------

    def _take(self, words: list[SieveWord]) -> None:
        if self._exchange is not None:
            exchange, self._exchange = self._exchange, None
            self._answer_challenge(exchange, words)
            return
        if not self._user and is_no_command(b" ".join(word.data for word in words)):
            self.bye(Bye.BROKEN, "this is ManageSieve, and that was something else")
            return
        try:
            command = parse_command(words)
            if command.verb not in TAKEN_IN[self._state]:
                raise SieveWordsWrong(f"{command.verb.value} has no place {self._state.value}")
            self._perform(command)
        except SieveWordsWrong as e:
            self._refuse(str(e))

    def _perform(self, command: SieveCommand) -> None:
        match command.verb:
            case SieveVerb.CAPABILITY:
                self._tell_capabilities("")
            case SieveVerb.NOOP:
                tag = command.strings
                code = b"TAG " + replies.string(tag[0]) if tag else b""
                self._write(replies.ok("nothing done", code))
            case SieveVerb.LOGOUT:
                self._write(replies.ok("goodbye"))
                self._state = SieveState.ENDED
                self._connection.hang_up()
            case SieveVerb.STARTTLS:
                self._start_tls()
            case SieveVerb.AUTHENTICATE:
                self._authenticate(command)
            case SieveVerb.UNAUTHENTICATE:
                self._leave()
                self._state = SieveState.NOBODY
                self._reader.string_bytes_max = self._context.limits.login_string_bytes_max
                self._write(replies.ok("nobody is logged in"))
            case _:
                self._perform_on_scripts(command)

    def _perform_on_scripts(self, command: SieveCommand) -> None:
        """RFC 5804 sections 2.5 to 2.12."""
        if command.missing:
            most = self._context.service.script_limits.script_bytes_max
            text = f"that has {command.missing} bytes; a script has at most {most}"
            self._write(replies.no(text, replies.TOO_LARGE))
            return
        user = self._user
        match command.verb:
            case SieveVerb.HAVESPACE:
                self._begin(command, self._have_space)
            case SieveVerb.PUTSCRIPT:
                self._begin(command, self._put)
            case SieveVerb.CHECKSCRIPT:
                self._begin(command, self._check)
            case SieveVerb.LISTSCRIPTS:
                self._begin(command, self._list)
            case SieveVerb.GETSCRIPT:
                self._begin(command, self._get)
            case SieveVerb.SETACTIVE:
                self._change(command, c.ActivateScript(user, command.name), "the rules are set")
            case SieveVerb.DELETESCRIPT:
                self._change(command, c.DeleteScript(user, command.name), "the script is deleted")
            case SieveVerb.RENAMESCRIPT:
                renamed = c.RenameScript(user, command.name, name_of(command.strings[1]))
                self._change(command, renamed, "the script is renamed")

    def _begin(
        self, command: SieveCommand, work: Callable[..., Awaitable[None]], *about: Any
    ) -> None:
        """Run a task that answers; nothing else is answered until it has ended."""
        self._working = True
        self._working_bytes = sum(map(len, command.strings))
        self._connection.spawn(self._work(work, command, about))

    async def _work(
        self, work: Callable[..., Awaitable[None]], command: SieveCommand, about: tuple[Any, ...]
    ) -> None:
        try:
            await work(command, *about)
        except Unavailable as e:
            self._write(replies.no(e.failure.text, replies.TRYLATER))
        except SieveWordsWrong as e:
            self._refuse(str(e))
        except Exception as e:
            tell(_log, "a ManageSieve command failed", e)
            self.bye(Bye.BROKEN, "the node failed over this; its log says how")
        finally:
            self._working = False
            self._working_bytes = 0
            self._count()
            if self._draining and self._state is not SieveState.ENDED:
                self.bye(Bye.STOPPING, "the node stops: connect to another")
            elif self._state is not SieveState.ENDED:
                self._connection.resume_soon()
                self._connection.settle()

    # -- who it is ----------

    @property
    def _mechanisms(self) -> tuple[str, ...]:
        if not self._trusted:
            return ()
        service = self._context.service
        return offered(tokens=service.takes_tokens, bindings=self._connection.channel_bindings)

    def _tell_capabilities(self, text: str) -> None:
        told = replies.capabilities(
            mechanisms=() if self._user else self._mechanisms,
            may_start_tls=self._context.tls is not None and not self._secure,
            user=self._user,
        )
        self._write(told + replies.ok(text))

    def _start_tls(self) -> None:
        """STARTTLS (RFC 5804 section 2.2). What came in the clear behind it is dropped."""
        context = self._context.tls
        if context is None or self._secure:
            raise SieveWordsWrong("there is no STARTTLS here")
        self._reader.clear()
        self._write(replies.ok("begin TLS now"))
        self._state = SieveState.SECURING
        self._connection.start_tls(context)

    def _authenticate(self, command: SieveCommand) -> None:
        """AUTHENTICATE (RFC 5804 section 2.1)."""
        mechanisms = self._mechanisms
        if not mechanisms:
            self._write(replies.no("begin TLS first: STARTTLS", replies.ENCRYPT_NEEDED))
            return
        mechanism = command.strings[0].decode("ascii", "replace").upper()
        if mechanism not in mechanisms:
            raise SieveWordsWrong(f"the mechanisms here are {', '.join(mechanisms)}")
        try:
            # An empty answer is an empty string here, and `=` as well.
            first = [base64_lines.decode_initial(one or b"=") for one in command.strings[1:]]
        except SaslSyntaxError as e:
            raise SieveWordsWrong(str(e)) from None
        self._go_on(
            SaslExchange(mechanism, first[0] if first else None, self._connection.channel_bindings)
        )

    def _answer_challenge(self, exchange: SaslExchange, words: list[SieveWord]) -> None:
        try:
            if len(words) != 1 or not words[0].is_string or words[0].missing:
                raise SaslSyntaxError("an answer to a challenge is one string")
            exchange.answer(base64_lines.decode_answer(words[0].data))
        except (SaslCancelled, SaslSyntaxError) as e:
            self._refuse(str(e))
            return
        self._go_on(exchange)

    def _go_on(self, exchange: SaslExchange) -> None:
        step = exchange.step
        if isinstance(step, Challenge):
            self._exchange = exchange
            self._write(replies.string(base64_lines.encode(step.data)) + b"\r\n")
        else:
            self._begin(SieveCommand(SieveVerb.AUTHENTICATE), self._ask_who, exchange)

    async def _ask_who(self, _: SieveCommand, exchange: SaslExchange) -> None:
        """What SCRAM says in the end goes with the OK (RFC 5804 section 1.3, SASL)."""
        service, deadline_s = self._context.service, self._context.limits.deadline_s
        code = b""
        step = await exchange.ask(service, self._origin, deadline_s=deadline_s)
        if isinstance(step, Challenge) and step.data.startswith(b"v="):
            code = b"SASL " + replies.string(base64_lines.encode(step.data))
            exchange.answer(b"")
            step = await exchange.ask(service, self._origin, deadline_s=deadline_s)
        if isinstance(step, (LoggedIn, LogInRefused)):
            self._conclude(step, code)
        else:
            self._go_on(exchange)

    @property
    def _origin(self) -> Origin:
        return Origin(self._connection.address, "managesieve")

    def _conclude(self, outcome: LogInOutcome, code: bytes) -> None:
        if self._state is SieveState.ENDED:
            return
        if isinstance(outcome, LoggedIn):
            if not self._context.service.enter_user(outcome.user):
                text = "this user has too many connections here already"
                self._write(replies.no(text, replies.TRYLATER))
                return
            self._user, self._state = outcome.user, SieveState.USER
            self._reader.string_bytes_max = self._context.service.script_limits.script_bytes_max
            self._write(replies.ok("logged in", code))
            return
        late = outcome.reason is RefusalReason.LIMIT
        self._write(replies.no(outcome.text, replies.TRYLATER if late else b""))
        self._failed_logins += 1
        if self._failed_logins >= self._context.limits.failed_logins_max:
            self.bye(Bye.BROKEN, "too many wrong passwords")

    # -- scripts ----------

    async def _have_space(self, command: SieveCommand) -> None:
        """HAVESPACE (RFC 5804 section 2.5)."""
        limits = self._context.service.script_limits
        name, size = command.name, command.number
        if size > limits.script_bytes_max:
            text = f"a script has at most {limits.script_bytes_max} bytes"
            self._write(replies.no(text, replies.TOO_LARGE))
            return
        others = [one for one in await self._scripts() if one.name != name]
        if len(others) >= limits.scripts_max:
            text = f"there are {len(others)} other scripts, which is as many as there may be"
            self._write(replies.no(text, replies.TOO_MANY))
        elif sum(one.size_bytes for one in others) + size > limits.total_bytes_max:
            text = f"all scripts together have at most {limits.total_bytes_max} bytes"
            self._write(replies.no(text, replies.QUOTA))
        else:
            self._write(replies.ok("there is room"))

    async def _put(self, command: SieveCommand) -> None:
        """PUTSCRIPT (RFC 5804 section 2.6): the script is kept when the OK goes out, on the disks
        of a majority."""
        context, name = self._context, command.name
        deadline_s = context.limits.deadline_s
        try:
            done = await context.service.put_script(
                self._user, name, command.strings[1], deadline_s=deadline_s
            )
        except ScriptTooLarge as e:
            self._write(replies.no(str(e), replies.TOO_LARGE))
        except ValueError as e:
            self._write(replies.no(str(e)))
        else:
            self._tell_done(done, "the script is kept")

    async def _check(self, command: SieveCommand) -> None:
        """CHECKSCRIPT (RFC 5804 section 2.12)."""
        context = self._context
        deadline_s = context.limits.deadline_s
        try:
            await context.service.check_script(
                self._user, "", command.strings[0], deadline_s=deadline_s
            )
        except ScriptTooLarge as e:
            self._write(replies.no(str(e), replies.TOO_LARGE))
        except ValueError as e:
            self._write(replies.no(str(e)))
        else:
            self._write(replies.ok("the script is right"))

    async def _list(self, _: SieveCommand) -> None:
        """LISTSCRIPTS (RFC 5804 section 2.7)."""
        lines = [
            replies.string(one.name.encode()) + b" ACTIVE" * one.active + b"\r\n"
            for one in await self._scripts()
        ]
        self._write(b"".join(lines) + replies.ok())

    async def _get(self, command: SieveCommand) -> None:
        """GETSCRIPT (RFC 5804 section 2.9)."""
        name = command.name
        try:
            check_script_name("GETSCRIPT", name)
        except ValueError as e:
            raise SieveWordsWrong(str(e)) from None
        query = GetScript(self._user, name)
        text = await self._context.service.query(query, deadline_s=self._context.limits.deadline_s)
        if isinstance(text, bytes):
            self._write(b"{%d}\r\n%b\r\n%b" % (len(text), text, replies.ok()))
        else:
            self._write(replies.no("there is no such script", replies.NONEXISTENT))

    async def _scripts(self) -> tuple[ScriptInfo, ...]:
        context = self._context
        deadline_s = context.limits.deadline_s
        found = await context.service.query(ListScripts(self._user), deadline_s=deadline_s)
        assert isinstance(found, ScriptList)
        return found.scripts

    def _change(self, command: SieveCommand, change: c.Command, text: str) -> None:
        self._begin(command, self._execute, change, text)

    async def _execute(self, _: SieveCommand, change: c.Command, text: str) -> None:
        try:
            validate(change)
        except ValueError as e:
            raise SieveWordsWrong(str(e)) from None
        deadline_s = self._context.limits.deadline_s
        self._tell_done(await self._context.service.execute(change, deadline_s=deadline_s), text)

    def _tell_done(self, done: Executed, text: str) -> None:
        result = done.result
        if isinstance(result, Refused):
            self._write(replies.no(result.text, _CODES.get(result.code, b"")))
        else:
            self._write(replies.ok(text))

    # -- answers ----------

    def _write(self, data: bytes) -> None:
        if self._state is not SieveState.ENDED:
            self._connection.write(data)

    def _refuse(self, text: str) -> None:
        """A command that makes no sense."""
        self._write(replies.no(text))
        self._bad_commands += 1
        if self._bad_commands >= self._context.limits.bad_commands_max:
            self.bye(Bye.BROKEN, f"{self._bad_commands} commands that make no sense")
