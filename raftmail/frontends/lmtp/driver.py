"""What ties an LMTP session to its connection and to the service.

Nothing is awaited per command. A session is fed as bytes come in. A task exists only while the
service is asked something that it cannot say at once. It goes on for as long as pipelined input
brings more to ask.
"""

import asyncio
import logging
import ssl
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

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
from raftmail.net.connection import Connection
from raftmail.net.errors import start_task, tell
from raftmail.net.session import Bye, Session
from raftmail.service.service import DeliveryService
from raftmail.service.verdicts import Envelope, Verdict

LOG: Final = logging.getLogger("raftmail.lmtp")

_TRY_LATER: Final = Verdict.try_later()


class LmtpContext:
    """What the connections of one server share. Used on one event loop only."""

    def __init__(
        self,
        service: DeliveryService,
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
        # Tasks that were cancelled and have not ended: the loop alone would not keep them alive.
        self.abandoned: set[asyncio.Task[None]] = set()
        self.messages = 0
        self.service_failures = 0
        self._id_prefix = f"{int(wall_clock() * 1000):x}"
        self._id_count = 0

    def next_id(self) -> str:
        """A name for a transaction: start of the server in milliseconds, and a count, in hex."""
        self._id_count += 1
        return f"{self._id_prefix}.{self._id_count:x}"


class LmtpDriver(Session):
    """One client.

    Invariants: `_waiting` is set exactly while the session waits for the service, and `_task` while
    a task asks it. Whatever the service answers is used only if its serial is still `_serial`.
    """

    def __init__(self, shared: LmtpContext, connection: Connection) -> None:
        self._shared = shared
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._waiting = False
        self._task: asyncio.Task[None] | None = None
        self._serial = 0
        self._work_deadline = 0.0
        self._session = LmtpSession(
            shared.session_config, _peer_name(connection), connection.began_at
        )

    # -- the connection's calls --------------------------------------------------------------

    @property
    def known(self) -> bool:
        """See `Session`: it has said LHLO."""
        return self._session.is_greeted

    @property
    def blocked(self) -> bool:
        """See `Session`."""
        session = self._session
        if self._waiting:
            return session.unread_bytes > self._shared.config.unread_bytes_max
        return type(session.pending) is TurnOver

    @property
    def lingers(self) -> bool:
        """See `Session`: the service stores the message whether the client is there or not."""
        return self._waiting

    @property
    def held_bytes(self) -> int:
        """See `Session`."""
        return self._session.buffered_bytes

    def start(self) -> None:
        """See `Session`."""
        self._connection.send(self._session.take_output())

    def receive(self, data: bytes) -> None:
        """See `Session`."""
        self._act(self._session.receive_data(data, self._connection.heard_at))

    def run(self) -> None:
        """See `Session`."""
        pending = type(self._session.pending)
        if pending is TurnOver:
            self._act(self._session.next_turn(self._loop.time()))
        elif pending is OutputFull and not self._connection.congested:
            self._act(self._session.output_sent(self._loop.time()))

    def secured(self) -> None:
        """See `Session`."""
        self._act(self._session.tls_started(self._loop.time()))

    def postpone(self, paused_s: float) -> None:
        """See `Session`."""
        self._session.postpone(paused_s)

    def check(self, now: float) -> None:
        """See `Session`."""
        if self._waiting:
            if now >= self._work_deadline:
                LOG.warning(
                    "the service took longer than %s s; the client is told to come again",
                    self._shared.config.service_timeout_s,
                )
                self._give_up(now)
        elif not self._connection.short:
            self._act(self._session.expire(now))

    def bye(self, why: Bye, text: str) -> None:
        """See `Session`: before the greeting, so that it is all that the client hears."""
        self._connection.send(
            replies.STOPPING if why is Bye.STOPPING else replies.TOO_MANY_CONNECTIONS
        )
        self._connection.hang_up()

    def drain(self, now: float) -> None:
        """See `Session`."""
        event = self._session.drain(now)
        if event is not None:
            self._act(event)

    def cut(self) -> None:
        """See `Session`."""
        self._abandon()
        if not self._connection.lost:
            self._act(self._session.close(replies.STOPPING))

    # -- events ------------------------------------------------------------------------------

    def _act(self, event: Event | None) -> None:
        """Do what the session asks for, until it waits for the client or the service."""
        connection = self._connection
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
                self._work_deadline = self._loop.time() + self._shared.config.service_timeout_s
                if kind is MessageReceived and self._deliver_soon(event, self._serial):
                    return
                work = self._ask(event, self._serial)
                self._task = start_task(self._loop, work, connection.failed)
                # Replies so far wait for the answer, to leave in one write with it.
                connection.settle()
                return
            self._flush()
            if kind is OutputFull:
                if connection.congested:
                    break
                event = self._session.output_sent(self._loop.time())
            elif kind is TurnOver:
                connection.resume_soon()
                break
            elif kind is TlsRequested:
                if self._shared.tls is None:
                    raise RuntimeError("STARTTLS was offered without a TLS context")
                connection.start_tls(self._shared.tls)
                return
            elif kind is Closed:
                connection.hang_up()
                break
        self._flush()
        connection.settle()

    async def _ask(self, event: Event | None, serial: int) -> None:
        """Put a message to the service, or recipients one after the other, as long as there are
        any."""
        shared = self._shared
        session = self._session
        timeout_s = shared.config.service_timeout_s
        try:
            if type(event) is MessageReceived:
                verdicts = await self._deliver(event, serial)
                if serial == self._serial and not self._connection.lost:
                    event = session.complete(verdicts, self._loop.time())
            while (
                type(event) is RecipientOffered
                and serial == self._serial
                and not self._connection.lost
            ):
                self._work_deadline = self._loop.time() + timeout_s
                verdict = await self._resolve(event, serial)
                if serial == self._serial and not self._connection.lost:
                    event = session.answer_recipient(verdict, self._loop.time())
            if serial == self._serial and not self._connection.lost:
                self._task = None
                self._waiting = False
                self._act(event)
                return
        except Exception as error:
            self._connection.failed(error)
        if serial == self._serial:
            self._task = None
            self._waiting = False
            if self._connection.lost:
                self._connection.settle()

    def _resolve_now(self, event: Event) -> Verdict | None:
        assert type(event) is RecipientOffered
        try:
            return self._shared.service.resolve_now(event.address)
        except Exception as error:
            self._service_failed(error, self._serial)
            return _TRY_LATER

    async def _resolve(self, event: RecipientOffered, serial: int) -> Verdict:
        try:
            verdict = await self._shared.service.resolve(event.address)
            if not isinstance(verdict, Verdict):
                raise TypeError(f"resolve() returned {verdict!r}, not a Verdict")
        except (Exception, asyncio.CancelledError) as error:
            self._service_failed(error, serial)
            return _TRY_LATER
        return verdict

    def _deliver_soon(self, event: Event, serial: int) -> bool:
        """Give the service a message without a task, if it takes it so."""
        assert type(event) is MessageReceived
        recipients = event.recipients
        done = partial(self._delivered, serial)
        try:
            begun = self._shared.service.deliver_soon(
                self._envelope(event), event.body, recipients, done
            )
        except Exception as error:
            self._service_failed(error, serial)
            self._delivered(serial, [_TRY_LATER] * len(recipients))
            return True
        if begun and self._waiting:
            # Replies so far wait for the answer, to leave in one write with it.
            self._connection.settle()
        return begun

    def _delivered(self, serial: int, verdicts: Sequence[Verdict]) -> None:
        """What became of the message that `_deliver_soon` gave away."""
        if serial != self._serial:
            return  # it took too long, and was answered
        self._serial += 1
        self._waiting = False
        if self._connection.lost:
            self._connection.settle()
            return
        self._shared.messages += 1
        try:
            self._act(self._session.complete(verdicts, self._loop.time()))
        except Exception as error:
            self._connection.failed(error)

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
            self._service_failed(error, serial)
            return [_TRY_LATER] * len(event.recipients)
        shared.messages += 1
        return verdicts

    def _service_failed(self, error: BaseException, serial: int) -> None:
        """Log what the service raised; raise it again where it means that this task is to end."""
        if isinstance(error, asyncio.CancelledError):
            task = asyncio.current_task()
            if serial != self._serial or (task is not None and task.cancelling()):
                raise error
        self._shared.service_failures += 1
        tell(LOG, "the service failed; the client is told to come again", error)

    def _give_up(self, now: float) -> None:
        """Answer in the service's place, and no longer wait for it."""
        self._shared.service_failures += 1
        self._abandon()
        if self._connection.lost:
            self._connection.settle()
            return
        pending = self._session.pending
        if type(pending) is RecipientOffered:
            self._act(self._session.answer_recipient(_TRY_LATER, now))
        elif type(pending) is MessageReceived:
            verdicts = [_TRY_LATER] * len(pending.recipients)
            self._act(self._session.complete(verdicts, now))

    def _abandon(self) -> None:
        """Wait for the service no more."""
        self._serial += 1
        self._waiting = False
        task = self._task
        if task is not None:
            self._task = None
            self._shared.abandoned.add(task)
            task.add_done_callback(self._shared.abandoned.discard)
            task.cancel()

    def _flush(self) -> None:
        output = self._session.take_output()
        if output:
            self._connection.send(output)


def _peer_name(connection: Connection) -> str:
    """The client's address as an address literal (RFC 5321 section 4.1.3), or `local`."""
    address = connection.address
    if not address:
        return "local"
    return f"[IPv6:{address}]" if ":" in address else f"[{address}]"
