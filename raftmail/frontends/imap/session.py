"""The server's side of an IMAP connection: from bytes to commands, one after the other.

A command that asks the cluster runs as a task; what the client sends meanwhile waits. All else is
answered at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

from raftmail.frontends.imap import commands as i
from raftmail.frontends.imap import responses
from raftmail.frontends.imap.acl_commands import get_acl, list_rights, my_rights, set_acl
from raftmail.frontends.imap.append_commands import append, replace
from raftmail.frontends.imap.capabilities import capabilities
from raftmail.frontends.imap.client import (
    Answer,
    CommandRefused,
    CommandWrong,
    Extension,
    LoggedInClient,
)
from raftmail.frontends.imap.context import ImapContext
from raftmail.frontends.imap.dialect import Dialect
from raftmail.frontends.imap.fetch_command import fetch, never_changes
from raftmail.frontends.imap.grammar import parse
from raftmail.frontends.imap.list_command import list_mailboxes, lsub
from raftmail.frontends.imap.mailbox_commands import (
    close,
    create,
    delete,
    namespace,
    rename,
    select,
    status,
    subscribe,
    unselect,
    unsubscribe,
)
from raftmail.frontends.imap.mailbox_reader import MailboxGone
from raftmail.frontends.imap.message_commands import copy, expunge, move, store
from raftmail.frontends.imap.metadata_commands import get_metadata, set_metadata
from raftmail.frontends.imap.notifier import Notifier
from raftmail.frontends.imap.notify_command import (
    notify,
    tell_annotations,
    tell_mailboxes,
    tell_selected,
    watch_annotations,
)
from raftmail.frontends.imap.quota_commands import get_quota, get_quota_root
from raftmail.frontends.imap.request_reader import (
    BEFORE_LOGIN,
    BadRequest,
    ContinuationNeeded,
    Event,
    ImapRequest,
    RequestLimits,
    RequestReader,
)
from raftmail.frontends.imap.responses import ResponseCode
from raftmail.frontends.imap.scanner import ParseError
from raftmail.frontends.imap.search_commands import search, sort, thread
from raftmail.frontends.imap.states import TAKEN, SessionState
from raftmail.frontends.imap.view import NoSuchNumber
from raftmail.frontends.sasl import base64_lines
from raftmail.frontends.sasl.base64_lines import SaslCancelled, SaslSyntaxError
from raftmail.frontends.sasl.exchange import SaslExchange
from raftmail.frontends.sasl.mechanisms import offered
from raftmail.frontends.sasl.steps import Challenge
from raftmail.mail.changes import MailboxChanged, Missed
from raftmail.mail.failures import Unavailable
from raftmail.mail.uidset import UidSet
from raftmail.net.connection import Connection
from raftmail.net.errors import tell
from raftmail.net.lines import ProtocolViolation
from raftmail.net.session import Bye, Session
from raftmail.net.web import is_web_line
from raftmail.service.login import (
    LoggedIn,
    LogInOutcome,
    LogInRefused,
    Origin,
    PasswordShown,
    RefusalReason,
)
from raftmail.service.watching import Watch

_log = logging.getLogger("raftmail.imap")

_TURN_COMMANDS: Final = 50
"""Commands that are taken in one turn of the loop; then others have theirs."""

_NEWS_AGAIN_S: Final = 1.0
"""How long it is before news are looked for again that could not be read, while a client idles."""

_ENABLES: Final = {one.value: one for one in Extension}

_TOLD_AFTER: Final = frozenset((Extension.METADATA.value, Extension.METADATA_SERVER.value))
"""What is enabled once it is known how things are, so that changes can be told."""

_REFUSALS: Final = {
    RefusalReason.WRONG: ResponseCode.AUTHENTICATIONFAILED,
    RefusalReason.EXPIRED: ResponseCode.EXPIRED,
    RefusalReason.NOT_ALLOWED: ResponseCode.AUTHORIZATIONFAILED,
    RefusalReason.LIMIT: ResponseCode.LIMIT,
    RefusalReason.MALFORMED: ResponseCode.CLIENTBUG,
}
"""How a log-in that failed is told (RFC 5530 section 3)."""

_Handler = Callable[[LoggedInClient, Any], Awaitable[Answer]]
_HANDLERS: Final[dict[type, _Handler]] = {
    i.Select: select,
    i.Create: create,
    i.Delete: delete,
    i.Rename: rename,
    i.ImapSubscribe: subscribe,
    i.Unsubscribe: unsubscribe,
    i.List: list_mailboxes,
    i.Lsub: lsub,
    i.Namespace: namespace,
    i.Status: status,
    i.Append: append,
    i.Replace: replace,
    i.GetQuota: get_quota,
    i.GetQuotaRoot: get_quota_root,
    i.Notify: notify,
    i.GetMetadata: get_metadata,
    i.SetMetadata: set_metadata,
    i.ImapSetAcl: set_acl,
    i.ImapGetAcl: get_acl,
    i.ListRights: list_rights,
    i.MyRights: my_rights,
    i.Close: close,
    i.Unselect: unselect,
    i.ImapExpunge: expunge,
    i.Search: search,
    i.Sort: sort,
    i.Thread: thread,
    i.ImapFetch: fetch,
    i.ImapStore: store,
    i.ImapCopy: copy,
    i.ImapMove: move,
}


class ImapSession(Session):
    """One client.

    Invariants: `_working` while a task answers a command, and nothing else is answered then;
    `_idle_tag` while the client is in IDLE."""

    def __init__(self, context: ImapContext, connection: Connection, *, secure: bool) -> None:
        self._context = context
        self._connection = connection
        self._secure = secure
        self._trusted = secure or connection.is_loopback
        self._client: LoggedInClient | None = None
        self._watch: Watch | None = None
        self._owner_watch: tuple[str, Watch] | None = None
        """Of somebody else whose mailbox is selected."""
        self._reader = RequestReader(BEFORE_LOGIN, self._admit)
        self._working = False
        self._idle_tag = b""
        self._challenged: tuple[bytes, SaslExchange] | None = None
        self._failed_logins = 0
        self._bad_commands = 0
        self._held_bytes = 0
        self._news_again_at = 0.0
        self._more = False  # there may be more to take than was taken in this turn
        self._compressed = False
        self._draining = False
        self._ended = False

    # -- the connection's calls ----------

    @property
    def known(self) -> bool:
        """See `Session`."""
        return self._client is not None

    @property
    def blocked(self) -> bool:
        """See `Session`."""
        if self._reader.waiting:
            return True
        waits = self._working or self._more
        return waits and self._reader.unread_bytes > self._context.limits.unread_bytes_max

    @property
    def busy(self) -> bool:
        """See `Session`."""
        return self._working

    @property
    def held_bytes(self) -> int:
        """See `Session`."""
        return self._held_bytes + self._reader.unread_bytes

    @property
    def state(self) -> SessionState:
        """See `SessionState`."""
        if self._ended:
            return SessionState.ENDED
        if self._client is None:
            return SessionState.NOT_AUTHENTICATED
        return SessionState.AUTHENTICATED if self._client.view is None else SessionState.SELECTED

    def start(self) -> None:
        """See `Session`."""
        self._write(b"* OK [CAPABILITY %b] raftmail is ready\r\n" % self._capabilities())

    def receive(self, data: bytes) -> None:
        """See `Session`."""
        self._reader.feed(data)
        self.run()

    def run(self) -> None:
        """See `Session`."""
        self._more = False
        left = _TURN_COMMANDS
        while not (self._working or self._ended):
            if not left:
                self._more = True
                self._connection.resume_soon()
                return
            left -= 1
            try:
                if not self._step():
                    self._tell_between()
                    return
            except ProtocolViolation as e:
                self._write(b"* BAD %b\r\n" % responses.text(str(e)))
                self.bye(Bye.BROKEN, "what follows cannot be understood")

    def secured(self) -> None:
        """See `Session`."""
        self._secure = self._trusted = True
        self._reader = RequestReader(BEFORE_LOGIN, self._admit)
        self._working = False

    def check(self, now: float) -> None:
        """See `Session`."""
        connection, limits = self._connection, self._context.limits
        if self._ended or self._working or connection.congested or connection.short:
            return
        silent_s = now - connection.heard_at
        client = self._client
        if (
            client is not None
            and (self._idle_tag or client.notifier is not None)
            and (client.stale or client.has_news)
        ):
            connection.resume_soon()
        if self._client is None and now - connection.began_at > limits.login_s:
            self.bye(Bye.BROKEN, f"nobody logged in within {limits.login_s:g} s")
        elif self._reader.inside_request and silent_s > limits.request_s:
            self.bye(Bye.BROKEN, f"half a command, and nothing more for {limits.request_s:g} s")
        elif silent_s > limits.idle_s:
            self.bye(Bye.BROKEN, f"nothing was said for {limits.idle_s:g} s")

    def bye(self, why: Bye, text: str) -> None:
        """See `Session`."""
        if not self._ended:
            code = b"[UNAVAILABLE] " if why in (Bye.FULL, Bye.STOPPING) else b""
            self._connection.write(b"* BYE %b%b\r\n" % (code, responses.text(text)))
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
        if self._client is not None:
            self._context.service.leave_user(self._client.user)
        self._context.budget.give(self._held_bytes)
        self._held_bytes = 0

    def _end(self) -> None:
        self._ended = True
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.close()
        self._watch_owner("")

    # -- from bytes to commands ----------

    def _step(self) -> bool:
        """Take what came next; False when there is nothing to take."""
        if self._idle_tag:
            return self._step_idle()
        if self._challenged is not None:
            line = self._reader.take_line()
            if line is None:
                return False
            tag, exchange = self._challenged
            self._challenged = None
            self._answer_challenge(tag, exchange, line)
            return True
        event = self._reader.take_one()
        if event is None:
            return False
        self._take(event)
        return True

    def _take(self, event: Event) -> None:
        if isinstance(event, ContinuationNeeded):
            self._write(b"+ go on\r\n")
            return
        if isinstance(event, BadRequest):
            self._give_back(event.literal_bytes)
            self._refuse(event.tag, event.text, code=event.code, no=event.no)
            return
        if self._client is None and is_web_line(event.first_line):
            self.bye(Bye.BROKEN, "this is IMAP, and that was something else")
            return
        try:
            self._perform(event)
        except ParseError as e:
            self._give_back(event.literal_bytes)
            if e.forgets_saved and self._client is not None and self._client.view is not None:
                self._client.view.saved = UidSet()
            self._refuse(event.tag, str(e), code=e.code, no=e.no)
        except CommandWrong as e:
            self._give_back(event.literal_bytes)
            self._bad(event.tag, str(e))

    def _perform(self, request: ImapRequest) -> None:
        client = self._client
        command = parse(request, Dialect() if client is None else client.dialect)
        kind, tag = type(command), request.tag
        if kind not in TAKEN[self.state]:
            raise CommandWrong(
                f"{kind.__name__.removeprefix('Imap').upper()} has no place {self.state.value}"
            )
        if kind in _HANDLERS:
            assert client is not None
            self._begin(self._answer, tag, client, command, request.literal_bytes)
            return
        self._give_back(request.literal_bytes)
        match command:
            case i.ImapCapability():
                self._write(b"* CAPABILITY %b\r\n" % self._capabilities())
                self._ok(tag, "that is all")
            case i.Noop() | i.Check():
                if client is None or (client.view is None and client.annotation_news is None):
                    self._ok(tag, "nothing done")
                else:
                    self._begin(self._noop, tag, client)
            case i.Logout():
                self._write(b"* BYE goodbye\r\n")
                self._ok(tag, "logged out")
                self._end()
                self._connection.hang_up()
            case i.Id():
                self._write(b'* ID ("name" "raftmail")\r\n')
                self._ok(tag, "that is me")
            case i.Enable():
                assert client is not None
                if _TOLD_AFTER.isdisjoint(command.capabilities):
                    self._enable(tag, client, command)
                else:
                    self._begin(self._enable_metadata, tag, client, command)
            case i.Idle():
                self._write(b"+ idling\r\n")
                self._idle_tag = tag
                if client is not None and client.view is not None:
                    self._begin(self._idle_news, client)
            case i.Compress():
                self._compress(tag)
            case i.StartTls():
                self._start_tls(tag)
            case i.Login():
                self._log_in(tag, command.user, command.password.encode())
            case i.Authenticate():
                self._authenticate(tag, command)

    def _begin(self, work: Callable[..., Awaitable[None]], *about: Any) -> None:
        """Run a task that answers; nothing else is answered until it has ended."""
        self._working = True
        self._connection.spawn(self._work(work, about))

    async def _work(self, work: Callable[..., Awaitable[None]], about: tuple[Any, ...]) -> None:
        try:
            await work(*about)
        finally:
            self._working = False
            if self._draining and not self._ended:
                self.bye(Bye.STOPPING, "the node stops: connect to another")
            elif not self._ended:
                self._connection.resume_soon()
                self._connection.settle()

    # -- commands of the service ----------

    async def _answer(
        self, tag: bytes, client: LoggedInClient, command: i.ImapCommand, literal_bytes: int
    ) -> None:
        client.tag = tag
        if not (isinstance(command, i.ImapFetch) and never_changes(client, command)):
            client.renew()
        try:
            answer = await _HANDLERS[type(command)](client, command)
        except CommandRefused as e:
            self._no(tag, e.code, str(e), e.detail)
            return
        except (CommandWrong, NoSuchNumber) as e:
            self._bad(tag, str(e))
            return
        except Unavailable as e:
            self._no(tag, ResponseCode.UNAVAILABLE, e.failure.text)
            return
        except MailboxGone:
            self._gone()
            return
        except Exception as e:
            tell(_log, "an IMAP command failed", e)
            self._no(tag, ResponseCode.SERVERBUG, "the node failed over this; its log says how")
            return
        finally:
            self._give_back(literal_bytes)
            self._follow_view(client)
        await self._news(client, expunges=answer.expunges)
        code = b"[%b] " % answer.code if answer.code else b""
        if answer.modseq:
            # Where news could not be read, the client is told of less.
            known = client.selected().settled if client.stale else answer.modseq
            code = b"[HIGHESTMODSEQ %d] " % max(known, 1)
        self._write(b"%b OK %b%b\r\n" % (tag, code, responses.text(answer.text)))

    async def _news(
        self, client: LoggedInClient, *, expunges: bool, of_selected: bool = True
    ) -> None:
        """Tell what changed meanwhile, in the mailbox that is selected and as NOTIFY asked for.
        What cannot be read now is told later."""
        self._look_at_watch(client)
        try:
            if of_selected:
                if client.stale:
                    await client.refresh()
                await tell_selected(client, expunges=expunges)
            await tell_mailboxes(client)
            await tell_annotations(client)
        except Unavailable:
            client.stale = True
            if client.qresync and client.view is not None and not self._idle_tag:
                self._write(client.view.told_up_to())
            self._news_again_at = asyncio.get_running_loop().time() + _NEWS_AGAIN_S
        except CommandRefused:
            pass  # of a new message that cannot be decoded, the client asks by itself
        except MailboxGone:
            self._gone()

    async def _noop(self, tag: bytes, client: LoggedInClient) -> None:
        client.renew()
        if client.annotation_news is not None:
            client.annotation_news.stale = True
        try:
            await client.refresh()
            await tell_annotations(client)
        except Unavailable as e:
            self._no(tag, ResponseCode.UNAVAILABLE, e.failure.text)
            return
        except MailboxGone:
            self._gone()
            return
        client.tell(expunges=True)
        self._ok(tag, "nothing done")

    def _gone(self) -> None:
        self.bye(Bye.BROKEN, "the mailbox that was selected is gone")

    def _follow_view(self, client: LoggedInClient) -> None:
        """Changes of the mailbox that is selected are heard of, also where it is somebody
        else's."""
        view = client.view
        owner = "" if view is None or view.owner == client.user else view.owner
        if owner != ("" if self._owner_watch is None else self._owner_watch[0]):
            self._watch_owner("" if self._ended else owner)
            client.stale = client.stale or bool(owner)

    def _watch_owner(self, owner: str) -> None:
        before, self._owner_watch = self._owner_watch, None
        if before is not None:
            before[1].close()
        if owner:
            self._owner_watch = (owner, self._context.service.watch(owner, self._woken))

    def _look_at_watch(self, client: LoggedInClient) -> None:
        """Whether the mailbox that is selected is among those that changed."""
        if self._watch is None:
            return
        changes = self._watch.take()
        if self._owner_watch is not None:
            changes = [*changes, *self._owner_watch[1].take()]
        view = client.view
        selected = None if view is None else (view.owner, view.number)
        for change in changes:
            if isinstance(change, Missed):
                client.stale = True
                client.renew()
            elif isinstance(change, MailboxChanged) and (change.user, change.mailbox) == selected:
                if view is None or change.modseq > view.modseq:
                    client.stale = True  # else it is what this client did itself, or has read
                client.heard_modseq = max(client.heard_modseq, change.modseq)
                continue
            if change.user == client.user:
                client.hear(change)
            elif not isinstance(change, MailboxChanged):
                client.stale = True  # the rights may be others now

    def _enable(self, tag: bytes, client: LoggedInClient, command: i.Enable) -> None:
        """ENABLE (6.3.1); QRESYNC has CONDSTORE in it (RFC 7162 section 3.2.3)."""
        found = [_ENABLES[name] for name in command.capabilities if name in _ENABLES]
        client.enabled.update(found)
        if Extension.QRESYNC in found:
            client.enabled.add(Extension.CONDSTORE)
        if client.view is not None:
            client.view.uid_only = client.uid_only
            if Extension.CONDSTORE in client.enabled:
                client.view.tells_modseq = True
        told = b"".join(b" " + one.value.encode() for one in found)
        self._write(b"* ENABLED%b\r\n" % told)
        self._ok(tag, "enabled")

    async def _enable_metadata(self, tag: bytes, client: LoggedInClient, command: i.Enable) -> None:
        """Changes of annotations are told from here on (RFC 5464 section 4.1)."""
        client.renew()
        try:
            await watch_annotations(client)
        except Unavailable as e:
            self._no(tag, ResponseCode.UNAVAILABLE, e.failure.text)
            return
        self._enable(tag, client, command)

    # -- IDLE ----------

    def _woken(self) -> None:
        """Something changed: see `Watch.wake`."""
        notified = self._client is not None and self._client.notifier is not None
        if (self._idle_tag or notified) and not self._ended:
            self._connection.resume_soon()

    def _tell_between(self) -> None:
        """Tell what NOTIFY asked for, between commands and while the client idles."""
        client = self._client
        if client is None or client.notifier is None or self._working or self._ended:
            return
        if self._idle_tag or self._reader.inside_request:
            return
        self._look_at_watch(client)
        notifier = client.notifier
        of_selected = client.stale and client.view is not None and notifier.selected is not None
        if (of_selected or client.has_news) and self._may_read_news:
            self._begin(self._notify, client, notifier)

    async def _notify(self, client: LoggedInClient, notifier: Notifier) -> None:
        client.renew()
        of_selected = notifier.selected is not None
        await self._news(client, expunges=not notifier.delays_expunges, of_selected=of_selected)

    @property
    def _may_read_news(self) -> bool:
        return asyncio.get_running_loop().time() >= self._news_again_at

    def _step_idle(self) -> bool:
        client = self._client
        line = self._reader.take_line()
        if line is None:
            if client is not None and client.hears:
                self._look_at_watch(client)
                if (client.stale or client.has_news) and self._may_read_news:
                    self._begin(self._idle_news, client)
            return False
        tag, self._idle_tag = self._idle_tag, b""
        if line.strip().upper() != b"DONE":
            self._bad(tag, "IDLE ends by DONE")
        elif client is None or not client.hears:
            self._ok(tag, "idled")
        else:
            self._begin(self._idled, tag, client)
        return True

    async def _idled(self, tag: bytes, client: LoggedInClient) -> None:
        """What came up to DONE is told before the answer."""
        await self._news(client, expunges=True)
        self._ok(tag, "idled")

    async def _idle_news(self, client: LoggedInClient) -> None:
        client.stale = True
        client.renew()
        await self._news(client, expunges=True)

    # -- who it is ----------

    @property
    def _origin(self) -> Origin:
        return Origin(self._connection.address, "imap")

    def _capabilities(self) -> bytes:
        return capabilities(
            known=self._client is not None,
            mechanisms=self._mechanisms(),
            may_start_tls=self._context.tls is not None and not self._secure,
            append_limit=self._context.limits.message_bytes_max,
        )

    def _start_tls(self, tag: bytes) -> None:
        """STARTTLS (6.2.1). What came in the clear behind it is not read (RFC 9051 section
        11.1)."""
        context = self._context.tls
        if context is None or self._secure:
            raise CommandWrong("there is no STARTTLS here")
        if self._reader.unread_bytes:
            self.bye(Bye.BROKEN, "nothing is sent behind STARTTLS before TLS has begun")
            return
        self._ok(tag, "begin TLS now")
        self._working = True
        self._connection.start_tls(context)

    def _mechanisms(self) -> tuple[str, ...]:
        if not self._trusted:
            return ()
        return offered(
            tokens=self._context.service.takes_tokens, bindings=self._connection.channel_bindings
        )

    def _authenticate(self, tag: bytes, command: i.Authenticate) -> None:
        """AUTHENTICATE (RFC 9051 section 6.2.2, RFC 4959)."""
        mechanisms = self._mechanisms()
        if not mechanisms:
            self._no(tag, ResponseCode.PRIVACYREQUIRED, "begin TLS first")
        elif command.mechanism not in mechanisms:
            self._no(tag, ResponseCode.CANNOT, f"the mechanisms here are {', '.join(mechanisms)}")
        else:
            bindings = self._connection.channel_bindings
            exchange = SaslExchange(command.mechanism, command.initial, bindings)
            self._go_on(tag, exchange)

    def _go_on(self, tag: bytes, exchange: SaslExchange) -> None:
        step = exchange.step
        if isinstance(step, Challenge):
            self._challenged = (tag, exchange)
            self._write(b"+ %b\r\n" % base64_lines.encode(step.data))
        else:
            self._begin(self._ask_who, tag, exchange)

    def _answer_challenge(self, tag: bytes, exchange: SaslExchange, line: bytes) -> None:
        try:
            exchange.answer(base64_lines.decode_answer(line))
        except (SaslCancelled, SaslSyntaxError) as e:
            self._bad(tag, str(e))
            return
        self._go_on(tag, exchange)

    async def _ask_who(self, tag: bytes, exchange: SaslExchange) -> None:
        context = self._context
        try:
            await exchange.ask(context.service, self._origin, deadline_s=context.limits.deadline_s)
        except Unavailable as e:
            self._no(tag, ResponseCode.UNAVAILABLE, e.failure.text)
            return
        if isinstance(exchange.step, (LoggedIn, LogInRefused)):
            self._conclude(tag, exchange.step)
        else:
            self._go_on(tag, exchange)

    def _log_in(self, tag: bytes, user: str, password: bytes) -> None:
        """LOGIN (RFC 9051 section 6.2.3)."""
        if not self._trusted:
            self._no(tag, ResponseCode.PRIVACYREQUIRED, "begin TLS first")
        else:
            self._begin(self._ask_for_password, tag, PasswordShown(user, password))

    async def _ask_for_password(self, tag: bytes, shown: PasswordShown) -> None:
        context = self._context
        try:
            outcome = await context.service.log_in(
                shown, self._origin, deadline_s=context.limits.deadline_s
            )
        except Unavailable as e:
            self._no(tag, ResponseCode.UNAVAILABLE, e.failure.text)
            return
        self._conclude(tag, outcome)

    def _conclude(self, tag: bytes, outcome: LogInOutcome) -> None:
        if isinstance(outcome, LogInRefused):
            self._no(tag, _REFUSALS[outcome.reason], outcome.text)
            self._failed_logins += 1
            if self._failed_logins >= self._context.limits.failed_logins_max:
                self.bye(Bye.BROKEN, "too many wrong passwords")
        elif self._ended:
            return
        elif not self._context.service.enter_user(outcome.user):
            self._no(tag, ResponseCode.LIMIT, "this user has too many connections here already")
        else:
            self._become(outcome.user)
            self._write(b"%b OK [CAPABILITY %b] logged in\r\n" % (tag, self._capabilities()))

    def _become(self, user: str) -> None:
        context = self._context
        self._client = LoggedInClient(context, user, self._write, self._connection.drained)
        most = context.limits.message_bytes_max
        self._reader.limits = RequestLimits(literal_bytes_max=most)
        self._watch = context.service.watch(user, self._woken)

    def _compress(self, tag: bytes) -> None:
        """COMPRESS (RFC 4978)."""
        if self._reader.unread_bytes:
            self._bad(tag, "nothing is sent behind COMPRESS before its answer")
            return
        if self._compressed:
            self._no(tag, ResponseCode.COMPRESSIONACTIVE, "it is compressed already")
            return
        self._compressed = True
        self._ok(tag, "compressed from here on")
        self._connection.compress()

    # -- answers ----------

    def _write(self, data: bytes) -> None:
        if not self._ended:
            self._connection.write(data)

    def _ok(self, tag: bytes, text: str) -> None:
        self._write(b"%b OK %b\r\n" % (tag, responses.text(text)))

    def _no(self, tag: bytes, code: ResponseCode | None, text: str, detail: bytes = b"") -> None:
        detail = b" " + detail if detail else b""
        shown = b"[%b%b] " % (code.value, detail) if code is not None else b""
        self._write(b"%b NO %b%b\r\n" % (tag, shown, responses.text(text)))

    def _bad(self, tag: bytes, text: str) -> None:
        self._refuse(tag, text)

    def _refuse(self, tag: bytes, text: str, *, code: str = "", no: bool = False) -> None:
        """A request that cannot be executed, whatever the state of the mail is."""
        word = b"NO" if no else b"BAD"
        shown = b"[%b] " % code.encode() if code else b""
        self._write(b"%b %b %b%b\r\n" % (tag, word, shown, responses.text(text)))
        self._count_bad()

    def _count_bad(self) -> None:
        self._bad_commands += 1
        if self._bad_commands >= self._context.limits.bad_commands_max:
            self.bye(Bye.BROKEN, f"{self._bad_commands} commands that make no sense")

    def _admit(self, count: int, first: bool) -> str | None:
        """See `RequestReader`."""
        if self._context.budget.take(count):
            self._held_bytes += count
            return ""
        return "the node holds as many messages in memory as it may: try again"

    def _give_back(self, literal_bytes: int) -> None:
        literal_bytes = min(literal_bytes, self._held_bytes)  # the end gives all of them back
        self._context.budget.give(literal_bytes)
        self._held_bytes -= literal_bytes
