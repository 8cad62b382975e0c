"""Nodes that behave as a test says, on real sockets, and a proxy before them."""

from __future__ import annotations

import asyncio
import base64
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from raftmail.net import tls
from raftmail.net.listener import Listener
from raftmail.net.proxy_protocol import read_header
from raftmail.net.session import Session
from raftmail.proxy.context import ProxyContext, ProxyLimits
from raftmail.proxy.dialler import Dialler, NodeTrust
from raftmail.proxy.first_message import MECHANISMS
from raftmail.proxy.imap_session import ProxiedImap
from raftmail.proxy.lmtp_session import HoldLimits, LmtpProxyContext, ProxiedLmtp
from raftmail.proxy.managesieve_session import ProxiedManageSieve
from raftmail.proxy.nodes import NodeTable, ProxiedNode
from raftmail.proxy.pop3_session import ProxiedPop3
from raftmail.proxy.whereabouts import Whereabouts
from tests.net.certificates import Certificates

CLUSTER = "test"
USER, PASSWORD = b"anna@example.org", b"secret"
CAPABILITIES = b"IMAP4rev1 IDLE"
WAIT_S = 20.0


class Streams:
    """One connection to a node that a test plays, or to the proxy."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def line(self) -> bytes:
        """The next line; b"" at the end."""
        return await self.reader.readline()

    def say(self, data: bytes) -> None:
        self.writer.write(data)


Play = Callable[[Streams], Awaitable[None]]


class PlayedNode:
    """Plays one protocol. `play` may be changed while it runs."""

    def __init__(self, name: str, protocol: str, files: tls.TlsFiles, play: Play) -> None:
        self.name, self.protocol, self.play = name, protocol, play
        self.context = tls.server_context(files)
        self.streams: list[Streams] = []
        self.said: list[bytes] = []
        """What clients said, of all connections."""
        self.clients: list[str] = []
        """For whom the proxy spoke."""
        self.hangs = False
        """It takes connections, and does nothing else."""
        self.address = ""
        self._socket: socket.socket | None = None
        self._stuck: list[socket.socket] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def listen(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._socket.setblocking(False)
        self.address = "{}:{}".format(*self._socket.getsockname())
        self._start(self._accept(self._socket))

    async def kill(self) -> None:
        """Close all, and listen no more."""
        me = asyncio.current_task()
        for task in list(self._tasks):
            if task is not me:
                task.cancel()
        for one in self.streams:
            one.writer.transport.abort()
        self.streams.clear()
        await asyncio.sleep(0)
        for sock in self._stuck:
            sock.close()
        if self._socket is not None:
            self._socket.close()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            sock, _ = await loop.sock_accept(listening)
            self._start(self._meet(sock))

    async def _meet(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        sock.setblocking(False)
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            if self.hangs:
                self._stuck.append(sock)
                await asyncio.Event().wait()
            self.clients.append((await read_header(sock, WAIT_S)).client)
            reader = asyncio.StreamReader()
            made: list[asyncio.StreamWriter] = []
            protocol = asyncio.StreamReaderProtocol(reader, lambda _, writer: made.append(writer))
            secure = None if self.protocol in ("lmtp", "managesieve") else self.context
            await loop.connect_accepted_socket(lambda: protocol, sock, ssl=secure)
            writer = made[0]
            one = Streams(reader, writer)
            self.streams.append(one)
            await self.play(one)
            writer.close()


class MailNode(PlayedNode):
    """A node of IMAP and POP3 with one user, as far as a proxy can tell it from a real one."""

    def __init__(self, name: str, protocol: str, files: tls.TlsFiles) -> None:
        super().__init__(name, protocol, files, self.serve)
        self.mailbox = {b"EXISTS": 3, b"UIDVALIDITY": 7, b"UIDNEXT": 10, b"HIGHESTMODSEQ": 5}
        self.refuses: bytes = b""
        """What is said instead of letting in."""
        self.capabilities = CAPABILITIES
        self.fetched = b"* 1 FETCH (FLAGS (\\Seen))\r\n"

    async def serve(self, one: Streams) -> None:
        is_imap = self.protocol == "imaps"
        one.say(b"* OK ready\r\n" if is_imap else b"+OK ready\r\n")
        while line := await one.line():
            self.said.append(line)
            words = line.split()
            if is_imap:
                await self._imap(one, words[0], words[1:] or [b""])
            else:
                self._pop3(one, words)

    async def _imap(self, one: Streams, tag: bytes, words: list[bytes]) -> None:
        match words[0].upper():
            case b"AUTHENTICATE" if words[1] != b"PLAIN":
                one.say(b"+ c2VydmVyLWZpcnN0\r\n")
                self.said.append(await one.line())
                one.say(b"%b OK [CAPABILITY %b] proved\r\n" % (tag, self.capabilities))
            case b"AUTHENTICATE":
                ok = base64.b64decode(words[2]) == b"\x00%b\x00%b" % (USER, PASSWORD)
                if self.refuses or not ok:
                    why = self.refuses or b"NO [AUTHENTICATIONFAILED] that is wrong"
                    one.say(b"%b %b\r\n" % (tag, why))
                else:
                    one.say(b"%b OK [CAPABILITY %b] logged in\r\n" % (tag, self.capabilities))
            case b"SELECT":
                one.say(b"* %d EXISTS\r\n" % self.mailbox[b"EXISTS"])
                for name in (b"UIDVALIDITY", b"UIDNEXT", b"HIGHESTMODSEQ"):
                    one.say(b"* OK [%b %d] x\r\n" % (name, self.mailbox[name]))
                one.say(tag + b" OK [READ-WRITE] done\r\n")
            case b"IDLE":
                one.say(b"+ idling\r\n")
                done = await one.line()
                self.said.append(done)
                one.say(tag + (b" OK idled\r\n" if done.strip() == b"DONE" else b" BAD no\r\n"))
            case b"FETCH":
                one.say(self.fetched + tag + b" OK fetched by %b\r\n" % self.name.encode())
            case b"WAIT":
                return
            case _:
                one.say(tag + b" OK done by %b\r\n" % self.name.encode())

    def _pop3(self, one: Streams, words: list[bytes]) -> None:
        if words[0] == b"AUTH":
            ok = base64.b64decode(words[2]) == b"\x00%b\x00%b" % (USER, PASSWORD)
            if self.refuses or not ok:
                one.say((self.refuses or b"-ERR [AUTH] that is wrong") + b"\r\n")
                return
        one.say(b"+OK by %b\r\n" % self.name.encode())


class SievePlayed(PlayedNode):
    """A node of ManageSieve with one user."""

    def __init__(self, name: str, files: tls.TlsFiles) -> None:
        super().__init__(name, "managesieve", files, self.serve)
        self.refuses = b""
        """What is said instead of letting in."""

    async def serve(self, one: Streams) -> None:
        one.say(b'"STARTTLS"\r\nOK "hello"\r\n')
        while line := await one.line():
            self.said.append(line)
            verb = line.split()[0].upper()
            if verb == b"STARTTLS":
                one.say(b"OK\r\n")
                await one.writer.drain()
                await one.writer.start_tls(self.context)
                one.say(b'"SASL" "PLAIN"\r\nOK\r\n')
            elif verb == b"AUTHENTICATE":
                message = base64.b64decode(await one.line())
                if b"SCRAM" in line:
                    one.say(b'"c2VydmVyLWZpcnN0"\r\n')
                    self.said.append(await one.line())
                ok = b"SCRAM" in line or message == b"\x00%b\x00%b" % (USER, PASSWORD)
                refusal = self.refuses or (b"" if ok else b'NO "that is wrong"')
                one.say((refusal or b'OK "logged in"') + b"\r\n")
            else:
                one.say(b'OK "by %b"\r\n' % self.name.encode())


class LmtpPlayed(PlayedNode):
    """A node of LMTP. `mail` is what it has taken; a repeat is taken once, as P9 has it."""

    def __init__(self, name: str, files: tls.TlsFiles) -> None:
        super().__init__(name, "lmtp", files, self.serve)
        self.mail: list[tuple[bytes, bytes]] = []
        """Recipient and text."""
        self.rcpt = self.final = b"250 2.0.0 Ok"
        self.dies_at = ""
        """"text": in the middle of it. "end": when it has all, before any answer."""

    async def serve(self, one: Streams) -> None:
        one.say(b"220 x LMTP\r\n")
        recipients: list[bytes] = []
        while line := await one.line():
            self.said.append(line)
            verb = line.split()[0].upper()
            if verb == b"LHLO":
                one.say(b"250-x\r\n250 STARTTLS\r\n")
            elif verb == b"STARTTLS":
                one.say(b"220 go\r\n")
                await one.writer.drain()
                await one.writer.start_tls(self.context)
            elif verb == b"RCPT":
                if self.rcpt.startswith(b"2"):
                    recipients.append(line)
                one.say(self.rcpt + b"\r\n")
            elif verb == b"DATA":
                one.say(b"354 go on\r\n")
                await self._text(one, recipients)
                recipients = []
            else:
                one.say(b"250 2.0.0 Ok\r\n")

    async def _text(self, one: Streams, recipients: list[bytes]) -> None:
        text = b""
        while not (b"\r\n" + text).endswith(b"\r\n.\r\n"):
            text += await one.reader.readline()
            if self.dies_at == "text":
                await self.kill()
                raise ConnectionResetError
        for recipient in recipients:
            if self.final.startswith(b"2"):
                self.mail.append((recipient, text))
            if self.dies_at == "end":
                continue
            one.say(self.final + b"\r\n")
        if self.dies_at == "end":
            await self.kill()
            raise ConnectionResetError


class Asked:
    """Where users are, without a cluster."""

    def __init__(self, *nodes: str) -> None:
        self.nodes = nodes

    async def operate(self, call: object, *, timeout_s: float | None = None) -> object:
        from raftmail.admin.api.policies import UserPlace

        return UserPlace(USER.decode(), 1, self.nodes[0], self.nodes)


class Before:
    """A proxy before nodes, and clients of it."""

    def __init__(self, context: ProxyContext, hold: HoldLimits) -> None:
        self.context, self._hold = context, hold
        self._listeners: list[Listener] = []

    async def port(self, protocol: str, *, secure: bool = False) -> int:
        """A port of the proxy's, in the clear or beginning with TLS."""
        context = self.context

        def make(connection: object) -> Session:
            if protocol == "imap":
                return ProxiedImap(context, connection, secure=secure)  # type: ignore[arg-type]
            if protocol == "pop3":
                return ProxiedPop3(context, connection, secure=False)  # type: ignore[arg-type]
            if protocol == "managesieve":
                return ProxiedManageSieve(context, connection, secure=False)  # type: ignore[arg-type]
            shared = LmtpProxyContext(context, self._hold)
            return ProxiedLmtp(shared, connection)  # type: ignore[arg-type]

        tls = context.tls if secure else None
        listener = Listener(make, context.limits, tls=tls, sweep_s=0.1)
        self._listeners.append(listener)
        return (await listener.listen_tcp("127.0.0.1", 0))[1]

    async def client(self, protocol: str) -> Streams:
        """Connected to it."""
        port = await self.port(protocol)
        return Streams(*await asyncio.open_connection("127.0.0.1", port))

    @property
    def unsent_bytes(self) -> int:
        """What clients have not taken."""
        return sum(listener.unsent_bytes for listener in self._listeners)

    async def stop(self) -> None:
        for listener in self._listeners:
            await listener.stop(0)


@asynccontextmanager
async def before(
    folder: Path,
    nodes: list[PlayedNode],
    *,
    limits: ProxyLimits | None = None,
    hold: HoldLimits | None = None,
    keeps_log_ins: bool = True,
) -> AsyncIterator[Before]:
    """A proxy that prefers the nodes in this order."""
    for node in nodes:
        await node.listen()
    table = NodeTable.of(ProxiedNode(one.name, {one.protocol: one.address}) for one in nodes)
    dialler = Dialler(table, NodeTrust.read(folder / "ca.crt", "", ""), connect_s=1.0)
    context = ProxyContext(
        dialler,
        Whereabouts(Asked(*(one.name for one in nodes))),  # type: ignore[arg-type]
        limits or ProxyLimits(patience_s=2.0, move_s=2.0, answer_s=5.0),
        MECHANISMS,
        keeps_log_ins,
    )
    found = Before(context, hold or HoldLimits(hold_s=5.0, answer_s=5.0))
    try:
        async with asyncio.timeout(WAIT_S * 3):
            yield found
    finally:
        await found.stop()
        for node in nodes:
            await node.kill()


def mail_nodes(folder: Path, protocol: str, count: int = 2) -> list[MailNode]:
    """Nodes n1, n2, … of a cluster whose authority is in `folder`."""
    made = Certificates(folder, CLUSTER)
    names = [f"n{at + 1}" for at in range(count)]
    return [MailNode(name, protocol, made.files(name)) for name in names]


def lmtp_nodes(folder: Path, count: int = 2) -> list[LmtpPlayed]:
    """The same, of LMTP."""
    made = Certificates(folder, CLUSTER)
    return [LmtpPlayed(name, made.files(name)) for name in [f"n{at + 1}" for at in range(count)]]


def sieve_nodes(folder: Path, count: int = 2) -> list[SievePlayed]:
    """The same, of ManageSieve."""
    made = Certificates(folder, CLUSTER)
    return [SievePlayed(name, made.files(name)) for name in [f"n{at + 1}" for at in range(count)]]


async def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    while not holds():  # noqa: ASYNC110
        await asyncio.sleep(0.01)


def files_of(folder: Path, node: str) -> tls.TlsFiles:
    """The certificate of a node that was made."""
    return tls.TlsFiles(folder / "ca.crt", folder / f"{node}.crt", folder / f"{node}.key")
