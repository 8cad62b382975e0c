"""One connection: bytes from asyncio to the session, its events to the backend.

Nothing is awaited per command. A connection feeds its session as bytes come in; a task exists only
while the backend is asked something, and goes on for as long as pipelined input brings more to ask.
"""

import asyncio
import logging
import ssl
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, cast

from raftmail.frontends.lmtp import replies
from raftmail.frontends.lmtp.config import LmtpConfig, ServerConfig
from raftmail.frontends.lmtp.events import (
    Closed,
    Event,
    MessageReceived,
    OutputFull,
    RecipientOffered,
    TlsRequested,
    TurnOver,
)
from raftmail.frontends.lmtp.protocol import LmtpSession
from raftmail.mail.trace_fields import make_trace, with_keyword
from raftmail.net.budget import ReadBudget
from raftmail.net.door import Pass
from raftmail.net.errors import contained, describe, start_task, tell
from raftmail.service.service import Delivery
from raftmail.service.verdicts import Envelope, Verdict

LOG: Final = logging.getLogger("raftmail.lmtp")

_TRY_LATER: Final = Verdict.try_later()


class LmtpContext:
    """What the connections of one server share. Used on one event loop only."""

    def __init__(
        self,
        service: Delivery,
        config: ServerConfig,
        session_config: LmtpConfig,
        tls: ssl.SSLContext | None,
        wall_clock: Callable[[], float],
    ) -> None:
        self.service = service
        self.config = config
        self.session_config = session_config
        self.tls = tls
        self.wall_clock = wall_clock
        self.budget = ReadBudget(config.buffered_bytes_max, config.read_bytes_max)
        # One buffer for all: bytes are copied out of it before anything else can be read.
        self.read_view = memoryview(bytearray(config.read_bytes_max))
        self.connections: set[LmtpConnection] = set()
        self.no_connections = asyncio.Event()
        self.no_connections.set()
        # Tasks that were cancelled and have not ended: the loop alone would not keep them alive.
        self.abandoned: set[asyncio.Task[None]] = set()
        self.stopping = False
        self.connections_refused = 0
        self.messages = 0
        self.backend_failures = 0
        self._id_prefix = f"{int(wall_clock() * 1000):x}"
        self._id_count = 0

    def next_id(self) -> str:
        """A name for a transaction: start of the server in milliseconds, and a count, in hex."""
        self._id_count += 1
        return f"{self._id_prefix}.{self._id_count:x}"


class LmtpConnection(asyncio.BufferedProtocol):
    """One client.

    Invariants: `_waiting` is set exactly while the session waits for the backend, and `_task` while
    a task asks it; whatever a backend call answers is used only if its serial is still `_serial`; the connection stays in
    `shared.connections` until both the transport and the task are gone.
    """

    _transport: asyncio.Transport
    _session: LmtpSession

    def __init__(self, shared: LmtpContext, entry: Pass) -> None:
        self._shared = shared
        self._entry = entry
        self._known = False
        self._turn_over = False
        self._loop = asyncio.get_running_loop()
        self._lost = True  # until it is accepted
        self._held_bytes = 0
        self._waiting = False
        self._task: asyncio.Task[None] | None = None
        self._serial = 0
        self._work_deadline = 0.0
        self._closing_since: float | None = None
        self._tls_task: asyncio.Task[None] | None = None
        self._early = b""
        self._reading = True
        self._write_paused = False
        self._short_since: float | None = None  # when the budget said to stop reading

    # -- asyncio's calls ---------------------------------------------------------------------

    @contained
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        shared = self._shared
        self._transport = cast(asyncio.Transport, transport)
        self._entry.hold(self._transport)
        if shared.stopping or self._entry.admit():
            shared.connections_refused += 1
            self._transport.write(
                replies.STOPPING if shared.stopping else replies.TOO_MANY_CONNECTIONS
            )
            self._transport.close()
            return
        self._lost = False
        shared.connections.add(self)
        shared.no_connections.clear()
        self._session = LmtpSession(
            shared.session_config, _peer_name(self._transport), self._loop.time()
        )
        self._flush()

    @contained
    def connection_lost(self, exc: Exception | None) -> None:
        self._entry.leave()
        if self._lost:
            return
        self._lost = True
        if not self._waiting:
            self._finish()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._shared.read_view

    @contained
    def buffer_updated(self, nbytes: int) -> None:
        data = bytes(self._shared.read_view[:nbytes])
        if self._tls_task is not None:
            # Reading was stopped before the handshake, so these bytes came through TLS; the task
            # that started it just has not been told yet. It is told in this turn of the loop or the
            # next, and one read is at most `read_bytes_max`.
            self._early += data
            return
        self._act(self._session.receive_data(data, self._loop.time()))
        if not self._known and self._session.is_greeted:
            self._known = True
            self._entry.know()

    def failed(self, error: Exception) -> None:
        """See `doors.errors.Contained`."""
        tell(LOG, "a connection failed and is closed", error)
        self._transport.abort()

    @contained
    def _next_turn(self) -> None:
        self._turn_over = False
        if not self._lost and type(self._session.pending) is TurnOver:
            self._act(self._session.next_turn(self._loop.time()))

    @contained
    def pause_writing(self) -> None:
        self._write_paused = True
        self._settle_reading()

    @contained
    def resume_writing(self) -> None:
        self._write_paused = False
        if not self._lost and type(self._session.pending) is OutputFull:
            self._act(self._session.output_sent(self._loop.time()))
        else:
            self._settle_reading()

    # -- the server's and the budget's calls -------------------------------------------------

    @property
    def unsent_bytes(self) -> int:
        """Replies that the client has not taken."""
        return 0 if self._lost else self._transport.get_write_buffer_size()

    @contained
    def resume_reading(self) -> None:
        """The budget has room again. The client is not to blame for the time that passed."""
        if self._short_since is not None:
            self._session.postpone(self._loop.time() - self._short_since)
            self._short_since = None
            self._settle_reading()

    @contained
    def check_deadlines(self, now: float) -> None:
        """Called every now and then; closes what has taken too long."""
        config = self._shared.config
        if self._waiting:
            if now >= self._work_deadline:
                LOG.warning(
                    "the backend took longer than %s s; the client is told to come again",
                    config.backend_timeout_s,
                )
                self._give_up(now)
        elif self._closing_since is not None:
            if now >= self._closing_since + config.close_timeout_s:
                self._transport.abort()
        elif self._short_since is None:
            self._act(self._session.expire(now))

    @contained
    def drain(self, now: float) -> None:
        """Close when no transaction runs."""
        if not self._lost:
            event = self._session.drain(now)
            if event is not None:
                self._act(event)

    @contained
    def cut(self) -> None:
        """Close at once, whatever runs."""
        self._abandon()
        if self._lost:
            self._finish()
            return
        self._act(self._session.close(replies.STOPPING))
        self._transport.abort()

    # -- events ------------------------------------------------------------------------------

    def _act(self, event: Event | None) -> None:
        """Do what the session asks for, until it waits for the client or the backend."""
        while event is not None:
            kind = type(event)
            if kind is RecipientOffered:
                verdict = self._resolve_now(event)
                if verdict is not None:
                    event = self._session.answer_recipient(verdict, self._loop.time())
                    continue
            if kind is RecipientOffered or kind is MessageReceived:
                self._serial += 1
                self._waiting = True
                self._work_deadline = self._loop.time() + self._shared.config.backend_timeout_s
                if kind is MessageReceived and self._deliver_soon(event, self._serial):
                    return
                self._task = start_task(self._loop, self._ask(event, self._serial), self.failed)
                # Replies so far wait for the answer, to leave in one write with it.
                self._settle()
                return
            self._flush()
            if kind is OutputFull:
                if self._write_paused:
                    break
                event = self._session.output_sent(self._loop.time())
            elif kind is TurnOver:
                if not self._turn_over:
                    self._turn_over = True
                    self._loop.call_soon(self._next_turn)
                break
            elif kind is TlsRequested:
                if self._tls_task is None:
                    self._transport.pause_reading()
                    self._tls_task = start_task(self._loop, self._start_tls(), self.failed)
                return
            elif kind is Closed:
                if self._closing_since is None:
                    self._closing_since = self._loop.time()
                    self._transport.close()
                break
        self._flush()
        self._settle()

    async def _ask(self, event: Event | None, serial: int) -> None:
        """Put a message to the backend, or recipients one after the other, as long as there are any."""
        shared = self._shared
        session = self._session
        timeout_s = shared.config.backend_timeout_s
        try:
            if type(event) is MessageReceived:
                verdicts = await self._deliver(event, serial)
                if serial == self._serial and not self._lost:
                    event = session.complete(verdicts, self._loop.time())
            while type(event) is RecipientOffered and serial == self._serial and not self._lost:
                self._work_deadline = self._loop.time() + timeout_s
                verdict = await self._resolve(event, serial)
                if serial == self._serial and not self._lost:
                    event = session.answer_recipient(verdict, self._loop.time())
            if serial == self._serial and not self._lost:
                self._task = None
                self._waiting = False
                self._act(event)
                return
        except Exception as error:
            self.failed(error)
        if serial == self._serial:
            self._task = None
            self._waiting = False
            if self._lost:
                self._finish()

    def _resolve_now(self, event: Event) -> Verdict | None:
        assert type(event) is RecipientOffered
        try:
            return self._shared.service.resolve_now(event.address)
        except Exception as error:
            self._backend_failed(error, self._serial)
            return _TRY_LATER

    async def _resolve(self, event: RecipientOffered, serial: int) -> Verdict:
        try:
            verdict = await self._shared.service.resolve(event.address)
            if not isinstance(verdict, Verdict):
                raise TypeError(f"resolve() returned {verdict!r}, not a Verdict")
        except (Exception, asyncio.CancelledError) as error:
            self._backend_failed(error, serial)
            return _TRY_LATER
        return verdict

    def _deliver_soon(self, event: Event, serial: int) -> bool:
        """Give the backend a message without a task, if it takes it so."""
        assert type(event) is MessageReceived
        recipients = event.recipients
        done = partial(self._delivered, serial)
        try:
            begun = self._shared.service.deliver_soon(
                self._envelope(event), event.body, recipients, done
            )
        except Exception as error:
            self._backend_failed(error, serial)
            self._delivered(serial, [_TRY_LATER] * len(recipients))
            return True
        if begun and self._waiting:
            # Replies so far wait for the answer, to leave in one write with it.
            self._settle()
        return begun

    def _delivered(self, serial: int, verdicts: Sequence[Verdict]) -> None:
        """What became of the message that `_deliver_soon` gave away."""
        if serial != self._serial:
            return  # it took too long, and was answered
        self._serial += 1
        self._waiting = False
        if self._lost:
            self._finish()
            return
        self._shared.messages += 1
        try:
            self._act(self._session.complete(verdicts, self._loop.time()))
        except Exception as error:
            self.failed(error)

    def _envelope(self, event: MessageReceived) -> Envelope:
        shared = self._shared
        received_unix_s = shared.wall_clock()
        transaction_id = shared.next_id()
        trace = make_trace(
            event.sender,
            lhlo_name=event.lhlo_name,
            peer=event.peer,
            host=shared.session_config.host,
            protocol=with_keyword(utf8=event.utf8, tls=event.tls),
            transaction_id=transaction_id,
            received_unix_s=received_unix_s,
        )
        return Envelope(
            event.sender,
            event.lhlo_name,
            event.peer,
            event.tls,
            event.utf8,
            transaction_id,
            received_unix_s,
            trace,
        )

    async def _deliver(self, event: MessageReceived, serial: int) -> Sequence[Verdict]:
        shared = self._shared
        envelope = self._envelope(event)
        try:
            verdicts = await shared.service.deliver(envelope, event.body, event.recipients)
            if len(verdicts) != len(event.recipients):
                raise ValueError(
                    f"deliver() gave {len(verdicts)} verdicts, not {len(event.recipients)}"
                )
            for verdict in verdicts:
                if not isinstance(verdict, Verdict):
                    raise TypeError(f"deliver() returned {verdict!r}, not a Verdict")
        except (Exception, asyncio.CancelledError) as error:
            self._backend_failed(error, serial)
            return [_TRY_LATER] * len(event.recipients)
        shared.messages += 1
        return verdicts

    def _backend_failed(self, error: BaseException, serial: int) -> None:
        """Log what the backend raised; raise it again where it means that this task is to end."""
        if isinstance(error, asyncio.CancelledError):
            task = asyncio.current_task()
            if serial != self._serial or (task is not None and task.cancelling()):
                raise error
        self._shared.backend_failures += 1
        tell(LOG, "the backend failed; the client is told to come again", error)

    def _give_up(self, now: float) -> None:
        """Answer in the backend's place, and no longer wait for it."""
        self._shared.backend_failures += 1
        self._abandon()
        if self._lost:
            self._finish()
            return
        pending = self._session.pending
        if type(pending) is RecipientOffered:
            self._act(self._session.answer_recipient(_TRY_LATER, now))
        elif type(pending) is MessageReceived:
            verdicts = [_TRY_LATER] * len(pending.recipients)
            self._act(self._session.complete(verdicts, now))

    def _abandon(self) -> None:
        """Wait for the backend no more."""
        self._serial += 1
        self._waiting = False
        task = self._task
        if task is not None:
            self._task = None
            self._shared.abandoned.add(task)
            task.add_done_callback(self._shared.abandoned.discard)
            task.cancel()

    async def _start_tls(self) -> None:
        shared = self._shared
        if shared.tls is None:
            raise RuntimeError("STARTTLS was offered without a TLS context")
        plain = self._transport
        try:
            secured = await self._loop.start_tls(
                plain,
                self,
                shared.tls,
                server_side=True,
                ssl_handshake_timeout=shared.config.tls_handshake_timeout_s,
                ssl_shutdown_timeout=shared.config.close_timeout_s,
            )
        except (OSError, TimeoutError) as error:  # ssl.SSLError is an OSError
            LOG.info("a TLS handshake failed: %s", describe(error))
            secured = None
        self._tls_task = None
        if secured is None:  # also when the client went away in the middle
            plain.abort()
            self.connection_lost(None)
            return
        self._transport = secured
        self._entry.hold(secured)
        if type(self._session.pending) is not TlsRequested:
            secured.abort()  # it was cut in the meantime
            return
        now = self._loop.time()
        self._act(self._session.tls_started(now))
        early, self._early = self._early, b""
        if early and not self._lost:
            self._act(self._session.receive_data(early, now))

    # -- transport and accounts --------------------------------------------------------------

    def _flush(self) -> None:
        output = self._session.take_output()
        if output:
            self._transport.write(output)

    def _settle(self) -> None:
        """Account for what is held now, and read or do not read accordingly."""
        held_bytes = self._session.buffered_bytes
        before_bytes = self._held_bytes
        if held_bytes != before_bytes:
            self._held_bytes = held_bytes
            if self._shared.budget.update(self, before_bytes, held_bytes):
                self._short_since = self._loop.time()
        elif not held_bytes and self._reading and not self._write_paused:
            return  # after most commands
        self._settle_reading()

    def _settle_reading(self) -> None:
        reading = not (
            self._write_paused
            or self._turn_over
            or self._short_since is not None
            or (self._waiting and self._session.unread_bytes > self._shared.config.unread_bytes_max)
        )
        if reading is not self._reading and not self._lost and not self._transport.is_closing():
            self._reading = reading
            if reading:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    def _finish(self) -> None:
        shared = self._shared
        shared.connections.discard(self)
        shared.budget.forget(self, self._held_bytes)
        self._held_bytes = 0
        self._short_since = None
        if not shared.connections:
            shared.no_connections.set()


def _peer_name(transport: asyncio.Transport) -> str:
    """The client's address as an address literal (RFC 5321 section 4.1.3), or `local`."""
    name = transport.get_extra_info("peername")
    if not isinstance(name, tuple):
        return "local"
    address = str(name[0]).partition("%")[0]
    return f"[IPv6:{address}]" if ":" in address else f"[{address}]"
