"""One connection to a node: greeting and authentication, lines out in one write a turn, answers
in."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable
from typing import Protocol, cast

from raftmail.client.calls import ClientCall, ClientListing, Key
from raftmail.client.errors import ProtocolError, Refused
from raftmail.frontends.text.values import read_mailbox_info, read_refused
from raftmail.mail.queries import MailboxInfo
from raftmail.net import lines
from raftmail.net.limits import MIB, ReaderLimits
from raftmail.net.lines import Item, Line, LineReader, quote
from raftmail.net.tls import Authority, TlsError

VERSION = 1

ANSWERS = ReaderLimits(
    line_bytes_max=MIB,
    literal_bytes_max=257 * MIB,
    request_bytes_max=512 * MIB,
    discard_bytes_max=0,
)
"""What is taken from a node."""

_INFLATED_BYTES_MAX = 256 * 1024
_COMPRESSION_LEVEL = 3
_NO_HEADER = -15
_UNTAGGED = frozenset((b"MAILBOX", b"MESSAGE", b"USER", b"SUBSCRIPTION", b"SCRIPT"))
_ANSWERED = (b"OK", b"NO")


class Owner(Protocol):
    """Whose connection it is."""

    def answered(self, call: ClientCall, words: list[bytes] | Line, listing: ClientListing) -> None:
        """A call has its answer."""

    def lost(self, connection: ClientConnection, reason: str) -> None:
        """The connection has ended; its `pending` calls have no answer."""


class ClientConnection(asyncio.Protocol):
    """Invariants:
    1. `pending` has the calls that were sent here and have no answer.
    2. `lost` is called once, after which nothing is answered here."""

    def __init__(self, owner: Owner, address: str) -> None:
        self.address = address
        self.pending: dict[bytes, ClientCall] = {}
        self.bound: dict[int, Key] = {}
        """Mailbox numbers as the node knows them."""
        self.floor_sent = -1
        self.mailbox_numbers_max = 4096
        self.literal_bytes_max = 0
        self.heard = 0.0
        self.last_ok = -1.0
        self.closed = False
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._reader = LineReader(ANSWERS)
        self._untagged: list[Line] = []
        self._given_up: set[bytes] = set()
        """Tags of listings that nobody waits for any more, and whose lines may still come."""
        self._mailboxes: dict[int, MailboxInfo] = {}
        self._no_listing = ClientListing([], self._mailboxes)
        self._out: list[bytes] = []
        self._flushing = False
        self._introductions = 0
        self._ready = False
        self._expected: asyncio.Future[Item] | None = None
        self._early: list[Item] = []
        self._deflate: zlib._Compress | None = None
        self._inflate: zlib._Decompress | None = None
        self._bye = ""

    # Opening

    async def open(
        self,
        host: str,
        port: int,
        *,
        authority: Authority | None,
        token: str | None,
        client: bytes,
        deadline_s: float,
        compress: bool,
    ) -> None:
        """Connect, and get to where calls can be sent. Raises OSError, `ClientError`.

        Nothing is said to a node that is not shown to be of the cluster, and the token is never
        sent without TLS."""
        context = None if authority is None else authority.context
        transport, _ = await self._loop.create_connection(lambda: self, host, port, ssl=context)
        if authority is not None:
            try:
                authority.check(transport.get_extra_info("peercert"))
            except TlsError as error:
                raise ProtocolError(f"{self.address}: {error}") from None
        greeting = await self._next()
        if greeting.words[:3] != [b"*", b"HELLO", b"raftmail"]:
            raise ProtocolError(f"{self.address} does not greet as a node does: {_shown(greeting)}")
        named = greeting.named
        if named.get(b"version") != b"%d" % VERSION:
            shown = named.get(b"version", b"?").decode("ascii", "replace")
            raise ProtocolError(f"{self.address} speaks version {shown}, here it is {VERSION}")
        self.mailbox_numbers_max = int(named.get(b"mailbox_numbers_max", b"4096"))
        self.literal_bytes_max = int(named.get(b"literal_bytes_max", b"0"))
        secured = authority is not None
        if token is not None and secured and named.get(b"authenticated") != b"yes":
            await self._ask(b"AUTH TOKEN " + quote(token.encode()))
        await self._ask(
            b"HELLO %d client=%b deadline=%b"
            % (VERSION, client.hex().encode(), f"{deadline_s:.3f}".encode())
        )
        if compress:
            await self._ask(b"COMPRESS DEFLATE")
            self._deflate = zlib.compressobj(_COMPRESSION_LEVEL, zlib.DEFLATED, _NO_HEADER)
            self._inflate = zlib.decompressobj(_NO_HEADER)
        # A node that wants a token and was given none says so now and not to every call.
        await self._ask(b"NOOP")
        self._ready = True

    async def _ask(self, request: bytes) -> None:
        self._write(b"h %b\r\n" % request)
        line = await self._next()
        if line.words[1:2] == [b"NO"]:
            refused = read_refused(line)
            raise Refused(refused.code, f"{self.address}: {refused.text}")
        if line.words[1:2] != [b"OK"]:
            raise ProtocolError(f"{self.address}: {_shown(line)}")

    async def _next(self) -> Line:
        if not self._early:
            if self.closed:
                raise ConnectionError(self._bye or "closed")
            self._expected = self._loop.create_future()
            item = await self._expected
        else:
            item = self._early.pop(0)
        if isinstance(item, lines.BadLine):
            raise ProtocolError(item.text)
        line = item if isinstance(item, Line) else Line.of(item)
        if line.words[:2] == [b"*", b"BYE"]:
            raise ConnectionError(_shown(line))
        return line

    # Calls

    def send(self, call: ClientCall, floor: Callable[[], int]) -> None:
        """Send a call, and what the node must know first."""
        for number, key in call.boxes:
            if self.bound.get(number) != key:
                self.bound[number] = key
                self._introductions += 1
                user, name = key
                self._write(
                    b"m%d MAILBOX %d %b %b\r\n"
                    % (self._introductions, number, quote(user.encode()), quote(name.encode()))
                )
        self.pending[call.tag] = call
        call.sent_at = self._loop.time()
        call.in_flight = True
        if call.seq and self.floor_sent != (known := floor()) and known < call.seq:
            self.floor_sent = known
            self._write(b"%b floor=%d\r\n" % (call.line.removesuffix(b"\r\n"), known))
        else:
            self._write(call.line)

    def give_up(self, call: ClientCall) -> None:
        """Whoever made the call waits no more; its answer may come all the same."""
        if self.pending.pop(call.tag, None) is not None and call.listing:
            self._given_up.add(call.tag)

    def ping(self) -> None:
        """Make the node say something."""
        self._write(b"p NOOP\r\n")

    def close(self, reason: str) -> None:
        """End it now."""
        if not self.closed:
            self.closed = True
            if self._transport is not None:
                self._transport.abort()
            expected = self._expected
            if expected is not None and not expected.done():
                expected.set_exception(ConnectionError(reason))
                expected.exception()  # whether anybody waits for it or not
            self._owner.lost(self, reason)

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's TLS transport is no subclass of asyncio.Transport, but has all it has.
        self._transport = cast(asyncio.Transport, transport)
        self.heard = self._loop.time()

    def data_received(self, data: bytes) -> None:
        self.heard = self._loop.time()
        try:
            inflate = self._inflate
            if inflate is None:
                self._take(data)
                return
            while not self.closed:
                piece = inflate.decompress(data, _INFLATED_BYTES_MAX)
                data = inflate.unconsumed_tail
                if not piece:
                    return
                self._take(piece)
        except (lines.ProtocolViolation, lines.LineError, zlib.error) as error:
            self.close(f"what came makes no sense: {error}")

    def connection_lost(self, exc: Exception | None) -> None:
        self.close(self._bye or (str(exc) if exc is not None else "closed by the node"))

    # Inside

    def _take(self, data: bytes) -> None:
        reader = self._reader
        reader.feed(data)
        if not self._ready:
            while not self._ready and (item := reader.take_one()) is not None:
                self._greet(item)
            return
        pending = self.pending
        while items := reader.take():
            for item in items:
                if type(item) is list:
                    call = pending.get(item[0])
                    if call is not None and not call.listing:
                        del pending[item[0]]
                        if item[1] in _ANSWERED:
                            self.last_ok = self.heard
                        self._owner.answered(call, item, self._no_listing)
                        continue
                self._take_other(item)
                if self.closed:
                    return

    def _greet(self, item: Item) -> None:
        expected = self._expected
        if expected is not None and not expected.done():
            expected.set_result(item)
        else:
            self._early.append(item)

    def _take_other(self, item: Item) -> None:
        if isinstance(item, lines.BadLine):
            raise lines.ProtocolViolation(item.text)
        line = item if isinstance(item, Line) else Line.of(item)
        words = line.words
        if words[0] == b"*":
            what = words[1] if len(words) > 1 else b""
            if what == b"BYE":
                self._bye = _shown(line)
            elif what in _UNTAGGED:
                self._untagged.append(line)
                if what == b"MAILBOX":
                    number, info = read_mailbox_info(line)
                    self._mailboxes[number] = info
            elif what == b"BAD":
                self.close(_shown(line))
            return
        call = self.pending.pop(words[0], None)
        if call is None:
            if words[0] in self._given_up:
                self._given_up.discard(words[0])
                self._untagged = []  # else the next listing would begin with them
            return
        listing = self._no_listing
        if call.listing:
            listing = ClientListing(self._untagged, self._mailboxes)
            self._untagged = []
        if words[1] in _ANSWERED:
            self.last_ok = self.heard
        self._owner.answered(call, line, listing)

    def _write(self, data: bytes) -> None:
        self._out.append(data)
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        out = self._out
        if self.closed or self._transport is None:
            out.clear()
            return
        data = out[0] if len(out) == 1 else b"".join(out)
        out.clear()
        deflate = self._deflate
        if deflate is not None:
            data = deflate.compress(data) + deflate.flush(zlib.Z_SYNC_FLUSH)
        self._transport.write(data)


def _shown(line: Line) -> str:
    return b" ".join(line.words[1:])[:300].decode("utf-8", "replace")
