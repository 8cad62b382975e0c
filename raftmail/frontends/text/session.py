"""The server's side of a client connection: from bytes to commands, and who may give them.

No sockets: `net.connection.Connection` feeds what it receives, and is the session's `Channel`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Protocol

from raftmail.frontends.text import requests
from raftmail.frontends.text.context import TextContext
from raftmail.frontends.text.read_commands import ReadCommands
from raftmail.frontends.text.requests import MailboxNumbers, RequestRefused
from raftmail.frontends.text.responses import Channel, ResponseWriter
from raftmail.frontends.text.write_commands import Commands, WriteCommands
from raftmail.mail.results import Code
from raftmail.net.lines import BadLine, Item, Line, LineReader, ProtocolViolation, quote, quote_text
from raftmail.net.session import Bye, Session
from raftmail.net.web import is_web_line

VERSION = 1
CAPABILITIES = b"COMPRESS-DEFLATE,MSAVE,PEER"

_NOTHING: frozenset[bytes] = frozenset()
_TAG_BYTES_MAX = 64
_TURN_COMMANDS = 500
"""Commands of one session in one turn of the loop, so that heartbeats and other sessions go on."""
_PIECE_BYTES = 16 * 1024
_TURN_PIECES = 2
"""Pieces of what came that are looked at in one turn of the loop: lines cost as much as commands
where they are empty."""
_WEB = "this port is not for the web"


class PeerAcceptor(Protocol):
    """Takes over a connection whose other side says that it is a peer; `peering.peers.PeerNet`
    does."""

    def accept(self, transport: asyncio.Transport, line: Line, rest: bytes) -> None:
        """`line` is PEER HELLO, `rest` what was received after it. Answers, and either makes the
        transport a link or closes it."""


class TextSession(Session):
    """One client.

    Invariants:
    1. Every line with a tag gets exactly one tagged answer, unless the connection ends first.
    2. Commands begin in the order of their lines; their answers come in any order.
    3. At `outstanding_commands_max`, or when the output is congested, lines wait and `blocked` is
       True; what waits is bounded by one chunk.
    4. One turn of the loop takes at most `_TURN_PIECES` pieces and `_TURN_COMMANDS` commands.
    5. A connection that begins as the web does has no command executed."""

    half_close = True

    def __init__(
        self,
        front: TextContext,
        channel: Channel,
        *,
        trusted: bool,
        peers: PeerAcceptor | None = None,
    ) -> None:
        self._front = front
        self._peers = peers
        self._channel = channel
        limits = self._limits = front.limits
        self.authenticated = trusted
        """The other side may do everything."""
        self._writer = ResponseWriter(channel.write, channel.resume_soon, front.budget)
        reader_limits = limits.reader if trusted else limits.before_auth
        self._reader = LineReader(reader_limits, self._admit)
        self._unread: list[bytes] = []
        """What came and was not given to the reader; the first is read from `_unread_at` on."""
        self._unread_at = 0
        self._blank_bytes = 0
        self._proven = False
        """One command had an effect: the other side speaks this protocol."""
        self._items: list[Item] = []
        self._next = 0
        self._bad_lines = 0
        self._failed_auths = 0
        self._refused = 0
        self._compressed = False
        self._leaving = b""  # the tag of LOGOUT, which the answers of other commands go before
        mailboxes = MailboxNumbers(limits.mailbox_numbers_max, {})
        self._writes = WriteCommands(front, self._writer, channel, mailboxes)
        self._reads = ReadCommands(front, self._writer, channel, mailboxes)
        self._groups: Mapping[bytes, Commands] = {
            b"USER": {**self._writes.user_commands, **self._reads.user_commands},
            b"SCRIPT": {**self._writes.script_commands, **self._reads.script_commands},
        }
        self._open_commands: Commands = {
            b"HELLO": (self._hello, frozenset((b"client", b"deadline"))),
            b"AUTH": (self._auth, _NOTHING),
            b"INVITE": (self._invite, _NOTHING),
            b"LOGOUT": (self._logout, _NOTHING),
        }
        self._commands: Commands = {
            **self._writes.commands,
            **self._reads.commands,
            b"NOOP": (self._noop, _NOTHING),
            b"COMPRESS": (self._compress, _NOTHING),
        }

    @property
    def outstanding(self) -> int:
        """Commands that have begun and have no answer yet."""
        return self._writer.outstanding

    @property
    def known(self) -> bool:
        """See `Session`."""
        return self.authenticated

    @property
    def busy(self) -> bool:
        """See `Session`."""
        return bool(self._writer.outstanding)

    @property
    def ended(self) -> bool:
        """It takes and answers nothing more."""
        return self._writer.ended

    @property
    def blocked(self) -> bool:
        """Lines wait for answers to leave: nothing more should be read."""
        waiting = self._next < len(self._items) or self._reader.waiting or bool(self._leaving)
        return waiting or bool(self._unread) or self._channel.congested

    @property
    def inside_request(self) -> bool:
        """A request has begun to come and is not complete."""
        return self._reader.inside_request or bool(self._unread)

    def start(self) -> None:
        """Greet."""
        limits = self._limits
        self._channel.write(
            b"* HELLO raftmail version=%d node=%b cluster=%b authenticated=%b line_bytes_max=%d"
            b" literal_bytes_max=%d request_bytes_max=%d outstanding_commands_max=%d"
            b" mailbox_numbers_max=%d idle_s=%d capabilities=%b\r\n"
            % (
                VERSION,
                quote(self._front.node.encode()),
                quote(self._front.cluster.encode()),
                b"yes" if self.authenticated else b"no",
                limits.reader.line_bytes_max,
                limits.reader.literal_bytes_max,
                limits.reader.request_bytes_max,
                limits.outstanding_commands_max,
                limits.mailbox_numbers_max,
                int(limits.idle_s),
                CAPABILITIES,
            )
        )

    def receive(self, data: bytes) -> None:
        """Take bytes, and begin the commands that have become complete."""
        if data:
            self._unread.append(data)
        self.run()

    def check(self, now: float) -> None:
        """End what has been silent for too long."""
        channel, limits = self._channel, self._limits
        if self.ended or channel.congested:
            return
        silent_s = now - channel.heard_at
        if not self.authenticated:
            if now - channel.began_at > limits.handshake_s:
                self._bye(f"no authentication within {limits.handshake_s:g} s")
        elif self.outstanding:
            pass
        elif self.inside_request and silent_s > limits.stalled_request_s:
            self._bye(f"half a request, and nothing more for {limits.stalled_request_s:g} s")
        elif silent_s > limits.idle_s:
            self._bye(f"no request for {limits.idle_s:g} s")

    def bye(self, why: Bye, text: str) -> None:
        """See `Session`."""
        self._bye(text)

    def end(self) -> None:
        """The connection is gone."""
        self._writer.end()
        self._items = []
        self._unread = []
        self._unread_at = 0
        self._next = 0

    def run(self) -> None:
        """Begin what was received, until all of it is begun or has to wait."""
        writer = self._writer
        channel = self._channel
        store = self._writes.store
        outstanding_max = self._limits.outstanding_commands_max
        pieces = _TURN_PIECES
        left = _TURN_COMMANDS
        while not writer.ended:
            if self._leaving:
                self._leave()
                return
            items = self._items
            at = self._next
            if at >= len(items):
                self._items = items = self._read()
                self._next = at = 0
                if not items:
                    if writer.ended or self._reader.waiting or not self._unread:
                        writer.waiting = self._reader.waiting
                        return
                    if not pieces:
                        channel.resume_soon()
                        return
                    pieces -= self._feed()
                    continue
            stop = min(at + left, len(items))
            left -= stop - at
            for position in range(at, stop):
                item = items[position]
                if writer.outstanding >= outstanding_max or channel.congested:
                    self._next = position
                    writer.waiting = True
                    return
                if type(item) is list and len(item) > 5 and item[1] == b"STORE" and store(item):
                    continue
                self._next = position + 1
                self._dispatch(item)
                if writer.ended:
                    return
                if self._leaving:
                    self._leave()
                    return
            self._next = stop
            if stop == len(items) and self._reader.is_empty and not self._unread:
                writer.waiting = False
                return
            if not left:
                channel.resume_soon()
                return

    def _feed(self) -> int:
        """Give the reader the next piece of what came.

        Gives 1, or 0 for one that is part of a literal and costs nothing to look at.
        """
        reader = self._reader
        at = self._unread_at
        data = self._unread[0]
        wanted = reader.wanted_bytes
        end = at + (wanted if wanted > 0 else _PIECE_BYTES)
        reader.feed(data[at:end] if at or end < len(data) else data)
        if end < len(data):
            self._unread_at = end
        else:
            self._unread_at = 0
            del self._unread[0]
        if wanted > 0:
            return 0
        self._blank_bytes += min(end, len(data)) - at
        if self._blank_bytes > self._limits.blank_bytes_max:
            self._bye("nothing but empty lines")
        return 1

    def _read(self) -> list[Item]:
        try:
            if self.authenticated:
                items = self._reader.take()
            else:
                item = self._reader.take_one()
                items = [] if item is None else [item]
        except ProtocolViolation as error:
            self._writer.bad(b"*", str(error))
            self._bye("what follows cannot be understood")
            return []
        if items:
            self._blank_bytes = 0
        return items

    def _admit(self, count: int, first: bool) -> str | None:
        writer = self._writer
        held_max = self._limits.connection_buffered_bytes_max
        if first and writer.held_bytes and writer.held_bytes + count > held_max:
            return None
        if writer.take(count):
            return ""
        return "the node holds as many messages in memory as it may: try again"

    def _dispatch(self, item: Item) -> None:
        if not self._proven and _is_from_the_web(item):
            self._bye(_WEB)
            return
        if isinstance(item, BadLine):
            self._writer.give_back(item.literal_bytes)
            if item.busy:
                self._channel.write(b"%b RETRY %b\r\n" % (item.tag, quote_text(item.text)))
            else:
                self._bad(item.tag, item.text)
            return
        words = item if isinstance(item, list) else item.words
        tag = words[0]
        line = Line()
        try:
            if not tag.isalnum() or len(tag) > _TAG_BYTES_MAX:
                tag = b"*"
                raise ValueError("a line begins with a tag, up to 64 letters and digits")
            line = item if isinstance(item, Line) else Line.of(item)
            if len(line.words) < 2:
                raise ValueError("after the tag stands a command")
            self._perform(tag, line)
            self._proven = True
        except RequestRefused as refusal:
            self._writer.no(tag, refusal)
            self._note_refused()
        except ValueError as error:
            self._bad(tag, str(error))
        finally:
            # A handler that keeps the literals until its command is done sets this to 0.
            self._writer.give_back(line.literal_bytes)

    def _perform(self, tag: bytes, line: Line) -> None:
        name = line.words[1].upper()
        if name == b"PEER":
            self._become_peer(line)
            return
        found = self._open_commands.get(name)
        if found is None:
            if not self.authenticated:
                raise RequestRefused(Code.CANNOT, "say who you are first: AUTH TOKEN <token>")
            if name == b"ADMIN":
                self._reads.admin(tag, line)
                return
            commands: Commands = self._commands
            if name in self._groups and len(line.words) > 2:
                commands = self._groups[name]
                name = line.words[2].upper()
            found = commands.get(name)
        if found is None:
            shown = b" ".join(line.words[1:3] if name != line.words[1].upper() else [name])
            raise ValueError(f"there is no command {shown[:80].decode('utf-8', 'replace')}")
        handler, names = found
        if not line.named.keys() <= names:
            wrong = min(line.named.keys() - names).decode()
            raise ValueError(f"{name.decode()} has no argument {wrong}=")
        handler(tag, line)

    def _become_peer(self, line: Line) -> None:
        """The line is PEER HELLO: leave the session behind."""
        rest = self._reader.rest() + b"".join(self._unread)[self._unread_at :]
        self.end()
        if self._peers is None or self._compressed:
            tag = line.words[0][:64]
            self._channel.write(b'%b NO CANNOT "no peers are taken here"\r\n' % tag)
            self._channel.hang_up()
        else:
            self._peers.accept(self._channel.detach(), line, rest)

    def _bad(self, tag: bytes, text: str) -> None:
        self._writer.bad(tag, text)
        self._bad_lines += 1
        limits = self._limits
        most = limits.bad_lines_max if self._proven else limits.first_bad_lines_max
        if self._bad_lines >= most and not self._writer.ended:
            self._bye(f"{self._bad_lines} lines that make no sense")

    def _note_refused(self) -> None:
        """Who has not said who they are may try a few things, and not ask for ever."""
        if self.authenticated:
            return
        self._refused += 1
        if self._refused >= self._limits.refused_before_auth_max and not self._writer.ended:
            self._bye("say who you are first")

    def _bye(self, text: str) -> None:
        self._channel.write(b"* BYE %b\r\n" % quote_text(text))
        self.end()
        self._channel.hang_up()

    # Of the connection itself

    def _hello(self, tag: bytes, line: Line) -> None:
        (version,) = requests.words_of(
            line, "HELLO 1 [client=<32 hexadecimal digits> deadline=]", 1
        )
        if requests.integer("version", version) != VERSION:
            raise RequestRefused(Code.CANNOT, f"this node speaks version {VERSION}")
        client = line.named.get(b"client")
        if client is not None:
            self._writes.use_client(requests.client_of(client))
        deadline = line.named.get(b"deadline")
        if deadline is not None:
            deadline_s = requests.seconds(deadline, self._limits.deadline_max_s)
            self._writes.deadline_s = self._reads.deadline_s = deadline_s
        answer = b" version=%d node=%b cluster=%b authenticated=%b" % (
            VERSION,
            quote(self._front.node.encode()),
            quote(self._front.cluster.encode()),
            b"yes" if self.authenticated else b"no",
        )
        self._writer.ok(tag, answer)

    def _auth(self, tag: bytes, line: Line) -> None:
        kind, token = requests.words_of(line, "AUTH TOKEN <token>", 2)
        if kind.upper() != b"TOKEN":
            raise ValueError("usage: AUTH TOKEN <token>")
        if self._front.service.authenticate(token) is None:
            self._writer.no(tag, RequestRefused(Code.CANNOT, "that is not the token"))
            self._failed()
            return
        self.authenticated = True
        self._reader.limits = self._limits.reader
        self._writer.ok(tag)

    def _failed(self) -> None:
        self._failed_auths += 1
        if self._failed_auths >= self._limits.failed_auths_max:
            self._bye("too many wrong tokens")

    def _invite(self, tag: bytes, line: Line) -> None:
        """The sealed bundle of an invitation, which is of no use without the token."""
        (invite,) = requests.words_of(line, "INVITE <id>", 1)
        ask = self._front.invitation
        self._reads.invitation(tag, requests.text("id", invite), ask, self._failed)

    def _logout(self, tag: bytes, line: Line) -> None:
        requests.words_of(line, "LOGOUT", 0)
        self._leaving = tag

    def _leave(self) -> None:
        if self._writer.outstanding:
            self._writer.waiting = True
            return
        self._writer.ok(self._leaving)
        self._bye("you said LOGOUT")

    def _noop(self, tag: bytes, line: Line) -> None:
        requests.words_of(line, "NOOP", 0)
        self._writer.ok(tag)

    def _compress(self, tag: bytes, line: Line) -> None:
        (method,) = requests.words_of(line, "COMPRESS DEFLATE", 1)
        if method.upper() != b"DEFLATE":
            raise RequestRefused(Code.CANNOT, "DEFLATE is the only compression here")
        if self._compressed:
            raise RequestRefused(Code.CANNOT, "compressed already")
        if self._next < len(self._items) or self._reader.unread_bytes or self._unread:
            self._writer.bad(tag, "after COMPRESS nothing is sent before its answer")
            self._bye("what follows cannot be understood")
            return
        self._compressed = True
        self._writer.ok(tag)
        self._channel.compress()


def _is_from_the_web(item: Item) -> bool:
    if isinstance(item, BadLine):
        return is_web_line(item.start)
    return is_web_line(b" ".join(item if isinstance(item, list) else item.words))
