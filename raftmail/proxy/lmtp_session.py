"""LMTP through the proxy: each message is held until a node has answered for every recipient.

During an election nodes say 451, or are gone. The message waits here then, and goes to the next
node, for a bounded time. The client hears 451 only after that.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, Final

from raftmail.net.connection import Connection
from raftmail.net.limits import KIB, MIB
from raftmail.net.session import Bye, Session
from raftmail.net.web import is_web_line
from raftmail.proxy.context import ProxyContext
from raftmail.proxy.held_mail import NOT_NOW, HeldMail, is_for_now
from raftmail.proxy.lmtp_node import LmtpNode
from raftmail.proxy.node_connection import NodeLost

_log = logging.getLogger("raftmail.proxy")

LINE_BYTES_MAX: Final = 4096
BAD_COMMANDS_MAX: Final = 20
UNREAD_BYTES_MAX: Final = 64 * KIB
_TOO_LARGE: Final = b"552 5.3.4 Message too large\r\n"
_NO_SEQUENCE: Final = b"503 5.5.1 Bad sequence of commands\r\n"


@dataclass(frozen=True, slots=True)
class HoldLimits:
    """`hold_s` is how long a command or a message waits for a node, in all. An answer of a node
    takes `answer_s` at most, or it is left."""

    hold_s: float = 60.0
    answer_s: float = 60.0
    message_bytes_max: int = 50 * MIB
    recipients_max: int = 1000
    idle_s: float = 300.0


@dataclass(slots=True, repr=False)
class LmtpProxyContext:
    """What all LMTP sessions share."""

    proxy: ProxyContext
    hold: HoldLimits
    host: str = field(default="localhost")


class ProxiedLmtp(Session):
    """One client. Its commands are answered in order by one task; what comes meanwhile waits.

    Invariant: it holds one message, and at most one line and one read besides."""

    def __init__(self, context: LmtpProxyContext, connection: Connection) -> None:
        self._context = context
        self._connection = connection
        self._unread = b""
        self._wake: asyncio.Future[None] | None = None
        self._node: LmtpNode | None = None
        self._mail: HeldMail | None = None
        self._greeted = False
        self._secure = False
        self._working = False
        self._draining = False
        self._ended = False
        self._bad_commands = 0

    # -- the connection's calls --------------------------------------------------------------

    @property
    def known(self) -> bool:
        """See `Session`."""
        return self._greeted

    @property
    def blocked(self) -> bool:
        """See `Session`."""
        return len(self._unread) > UNREAD_BYTES_MAX

    @property
    def busy(self) -> bool:
        """See `Session`."""
        return self._working

    @property
    def held_bytes(self) -> int:
        """See `Session`."""
        return len(self._unread) + (0 if self._mail is None else len(self._mail.text))

    def start(self) -> None:
        """See `Session`."""
        self._connection.write(b"220 %b raftmail LMTP\r\n" % self._context.host.encode())
        self._connection.spawn(self._serve())

    def receive(self, data: bytes) -> None:
        """See `Session`."""
        if not self._ended:
            self._unread += data
            self._awake()

    def secured(self) -> None:
        """See `Session`. What was said in the clear counts no more (RFC 3207 section 4.2)."""
        self._secure = True
        self._greeted = False
        self._unread = b""
        self._mail = None
        self._awake()

    def check(self, now: float) -> None:
        """See `Session`."""
        if self._working or self._connection.short:
            return
        if now - self._connection.heard_at > self._context.hold.idle_s:
            self.bye(Bye.BROKEN, "timed out")

    def bye(self, why: Bye, text: str) -> None:
        """See `Session`."""
        if not self._ended:
            self._connection.write(b"421 4.3.2 %b, try again later\r\n" % text.encode())
        self._hang_up()

    def drain(self, now: float) -> None:
        """See `Session`. A message that is here whole is dealt with first."""
        self._draining = True
        if not self._working:
            self.bye(Bye.STOPPING, "the proxy stops")

    def end(self) -> None:
        """See `Session`."""
        self._ended = True
        self._leave_node()

    def _hang_up(self) -> None:
        self._ended = True
        self._leave_node()
        self._connection.hang_up()

    def _awake(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    # -- the task ----------------------------------------------------------------------------

    async def _serve(self) -> None:
        while not self._ended:
            line = await self._line()
            if line is None:
                return
            self._working = True
            await self._perform(line)
            self._working = False
            self._connection.settle()
            if self._draining and not self._ended:
                self.bye(Bye.STOPPING, "the proxy stops")

    async def _more(self) -> None:
        """Wait for bytes."""
        self._connection.settle()
        self._wake = asyncio.get_running_loop().create_future()
        await self._wake

    async def _line(self) -> bytes | None:
        while True:
            end = self._unread.find(b"\n")
            if end > LINE_BYTES_MAX or (end < 0 and len(self._unread) > LINE_BYTES_MAX):
                self._unread = b""
                self.bye(Bye.BROKEN, "a line is not so long")
                return None
            if end >= 0:
                line, self._unread = self._unread[: end + 1], self._unread[end + 1 :]
                return line
            await self._more()

    async def _perform(self, line: bytes) -> None:
        verb = line.split(b" ")[0].strip().upper()
        if not self._greeted and is_web_line(line):
            self.bye(Bye.BROKEN, "this is LMTP")
            return
        if not line.endswith(b"\r\n"):
            self._refuse(b"500 5.5.2 A command ends with CRLF\r\n")
            return
        match verb:
            case b"LHLO":
                self._lhlo()
            case b"MAIL" if self._greeted:
                await self._envelope(line)
            case b"RCPT" if self._mail is not None:
                await self._envelope(line)
            case b"DATA" if self._mail is not None:
                await self._data(self._mail)
            case b"RSET":
                await self._reset()
            case b"NOOP":
                self._say(b"250 2.0.0 Ok\r\n")
            case b"VRFY":
                self._say(b"252 2.0.0 Send some mail, and RCPT will tell\r\n")
            case b"STARTTLS":
                self._start_tls()
            case b"QUIT":
                self._say(b"221 2.0.0 Bye\r\n")
                self._hang_up()
            case b"MAIL" | b"RCPT" | b"DATA":
                self._refuse(_NO_SEQUENCE)
            case _:
                self._refuse(b"500 5.5.1 Command unknown\r\n")

    def _say(self, reply: bytes) -> None:
        if not self._ended:
            self._connection.write(reply)

    def _refuse(self, reply: bytes) -> None:
        self._bad_commands += 1
        if self._bad_commands > BAD_COMMANDS_MAX:
            self.bye(Bye.BROKEN, "too many bad commands")
        else:
            self._say(reply)

    def _lhlo(self) -> None:
        self._greeted = True
        context = self._context
        words = [context.host, "PIPELINING", f"SIZE {context.hold.message_bytes_max}"]
        words += ["8BITMIME", "SMTPUTF8"]
        if context.proxy.tls is not None and not self._secure:
            words.append("STARTTLS")
        lines = "".join(f"250-{word}\r\n" for word in words)
        self._say(f"{lines}250 ENHANCEDSTATUSCODES\r\n".encode())
        if self._mail is not None:
            self._mail = None
            self._leave_node()

    def _start_tls(self) -> None:
        tls = self._context.proxy.tls
        if tls is None or self._secure or self._mail is not None:
            self._refuse(b"502 5.5.1 TLS is not offered here, or not now\r\n")
            return
        self._unread = b""  # commands sent ahead of the handshake are an attacker's
        self._say(b"220 2.0.0 Ready to start TLS\r\n")
        self._connection.start_tls(tls)

    async def _reset(self) -> None:
        if self._mail is not None:
            self._mail = None
            self._leave_node()
        self._say(b"250 2.0.0 Ok\r\n")

    # -- the envelope ------------------------------------------------------------------------

    async def _envelope(self, first: bytes) -> None:
        """MAIL or RCPT, with those that came behind it: one question to the node."""
        lines = [first]
        while len(lines) < self._context.hold.recipients_max:
            end = self._unread.find(b"\n") + 1
            if not end or self._unread[:5].upper() != b"RCPT ":
                break
            lines.append(self._unread[:end])
            self._unread = self._unread[end:]
        if lines[0][:5].upper() == b"MAIL ":
            if self._mail is not None:
                self._say(_NO_SEQUENCE * len(lines))
                return
            mail = HeldMail(lines[0])
        else:
            assert self._mail is not None
            mail = self._mail
            if len(mail.recipients) + len(lines) > self._context.hold.recipients_max:
                self._say(b"452 4.5.3 Too many recipients\r\n" * len(lines))
                return
        replies = await self._ask(lines, mail)
        self._say(b"".join(replies))

    async def _ask(self, lines: list[bytes], mail: HeldMail) -> list[bytes]:
        """The replies to lines of an envelope. While a node says what it would not say a moment
        later, the next one is asked."""
        loop = asyncio.get_running_loop()
        hold = self._context.hold
        replies = [NOT_NOW] * len(lines)
        until = loop.time() + hold.hold_s
        while loop.time() < until:
            node = await self._node_for(mail, until - loop.time())
            if node is None:
                break
            try:
                async with asyncio.timeout(hold.answer_s):
                    replies = await node.exchange(lines)
            except (NodeLost, TimeoutError):
                self._leave_node()
                continue
            if not any(is_for_now(reply) for reply in replies):
                break
            self._leave_node()
            await asyncio.sleep(min(0.3, max(until - loop.time(), 0)))
        self._note(lines, replies, mail)
        return replies

    def _note(self, lines: list[bytes], replies: list[bytes], mail: HeldMail) -> None:
        for line, reply in zip(lines, replies, strict=True):
            if not reply.startswith(b"2"):
                continue
            if line[:5].upper() == b"MAIL ":
                self._mail = mail
            else:
                mail.recipients.append(line)

    async def _node_for(self, mail: HeldMail, patience_s: float) -> LmtpNode | None:
        """A node that knows the envelope as far as it was accepted; None when none is there."""
        if self._node is not None and self._node.is_usable:
            return self._node
        self._leave_node()
        dialler = self._context.proxy.dialler
        async for memory in dialler.rounds("lmtp", (), patience_s):
            try:
                connection = await dialler.dial(memory, "lmtp", self._connection.address)
            except NodeLost:
                continue
            node = LmtpNode(connection)
            if await self._repeat(node, mail):
                self._node = node
                return node
            connection.let_go()
        return None

    async def _repeat(self, node: LmtpNode, mail: HeldMail) -> bool:
        """Tell a node of what another has accepted; whether it accepts the same."""
        if self._mail is None:
            return True  # MAIL is yet to be asked
        try:
            async with asyncio.timeout(self._context.hold.answer_s):
                replies = await node.exchange([mail.sender, *mail.recipients])
        except (NodeLost, TimeoutError):
            return False
        return all(reply.startswith(b"2") for reply in replies)

    def _leave_node(self) -> None:
        node, self._node = self._node, None
        if node is not None:
            node.connection.let_go()

    # -- the message -------------------------------------------------------------------------

    async def _data(self, mail: HeldMail) -> None:
        if not mail.recipients:
            self._refuse(b"503 5.5.1 No valid recipients\r\n")
            return
        self._say(b"354 Send the message, end it with <CRLF>.<CRLF>\r\n")
        self._working = False  # the client's turn: its silence is its own
        while True:
            data, self._unread = self._unread, b""
            end = mail.add(data, self._context.hold.message_bytes_max) if data else -1
            if end >= 0:
                self._unread = data[end:]
                break
            await self._more()
        self._working = True
        if mail.is_over:
            self._leave_node()
            self._say(_TOO_LARGE * len(mail.recipients))
        else:
            await self._deliver(mail)
            self._say(mail.answer)
        self._mail = None
        self._bad_commands = 0

    async def _deliver(self, mail: HeldMail) -> None:
        """Until every recipient has a final answer, or `hold_s` is over."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self._context.hold.hold_s
        node = self._node
        if node is not None and node.is_usable:
            every = range(len(mail.recipients))
            await self._try(node, mail, node.send_text(mail, every))
        while mail.open and loop.time() < until:
            fresh = await self._fresh_node(until - loop.time())
            if fresh is None:
                return
            self._node = fresh
            await self._try(fresh, mail, fresh.deliver(mail))
            if mail.open:
                await asyncio.sleep(min(0.3, max(until - loop.time(), 0)))

    async def _try(self, node: LmtpNode, mail: HeldMail, work: Coroutine[Any, Any, None]) -> None:
        """Whatever becomes of it: final answers are in `mail`, and a node that left something open
        is left."""
        try:
            async with asyncio.timeout(self._context.hold.answer_s):
                await work
        except (NodeLost, TimeoutError) as error:
            name = node.connection.memory.node.name
            _log.info("node %s was left with a message: %s", name, error or "no answer")
            self._leave_node()
        if mail.open:
            self._leave_node()

    async def _fresh_node(self, patience_s: float) -> LmtpNode | None:
        dialler = self._context.proxy.dialler
        async for memory in dialler.rounds("lmtp", (), patience_s):
            try:
                return LmtpNode(await dialler.dial(memory, "lmtp", self._connection.address))
            except NodeLost:
                continue
        return None
