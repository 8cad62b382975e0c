"""IMAP through the proxy. A session whose node is gone is continued at another, where the client
can notice nothing; else the client hears BYE and connects again."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from raftmail.net.connection import Connection
from raftmail.net.session import Bye
from raftmail.proxy.context import ProxyContext
from raftmail.proxy.imap_front import ImapFront
from raftmail.proxy.imap_tracker import ImapTracker, selected_values
from raftmail.proxy.node_connection import NodeConnection, NodeLost
from raftmail.proxy.node_log_in import NodeVerdict, imap_log_in
from raftmail.proxy.program_session import ProgramSession, ProgramState
from raftmail.proxy.steps import LogInWanted

_log = logging.getLogger("raftmail.proxy")

_TAG: Final = b"moved%d"
_LINES_MAX: Final = 1000
"""Of an answer while a session is made again."""


class Noticeable(Exception):
    """A session cannot be continued so that its client does not notice; the text says why."""


class ProxiedImap(ProgramSession):
    """One client."""

    protocol = "imaps"

    def __init__(self, context: ProxyContext, connection: Connection, *, secure: bool) -> None:
        front = ImapFront(
            context.mechanisms,
            may_start_tls=context.tls is not None and not secure,
            trusted=secure or connection.is_loopback,
        )
        super().__init__(context, connection, front, imap_log_in)
        self._tracker: ImapTracker | None = None

    def _unavailable(self, wanted: LogInWanted) -> bytes:
        """RFC 5530 section 3."""
        return (
            b"%b NO [UNAVAILABLE] no node can log anybody in just now: try again\r\n" % wanted.tag
        )

    def _goodbye(self, text: str) -> bytes:
        return b"* BYE [UNAVAILABLE] %b\r\n" % text.encode()

    @property
    def _may_speak(self) -> bool:
        tracker = self._tracker
        return tracker is None or (tracker.at_boundary and not tracker.is_opaque)

    def _to_node(self, data: bytes) -> None:
        if self._tracker is None:
            self._tracker = ImapTracker(_capabilities_of(self._said))
        self._tracker.client_sent(data)

    def _to_client(self, data: bytes) -> int:
        if self._tracker is None:
            self._tracker = ImapTracker(_capabilities_of(self._said))
        return self._tracker.node_sent(data)

    # -- another node ------------------------------------------------------------------------

    def _lost_node(self) -> None:
        tracker = self._tracker or ImapTracker(_capabilities_of(self._said))
        if tracker.is_ending:
            self._end()
            self._connection.hang_up()
        elif self._wanted is not None and tracker.movable:
            self._state = ProgramState.MOVE
            self._connection.settle()
            self._connection.spawn(self._move(self._wanted, tracker))
        else:
            self.bye(Bye.STOPPING, "the node of this session is gone: connect again")

    async def _move(self, wanted: LogInWanted, tracker: ImapTracker) -> None:
        context = self._context
        now = asyncio.get_running_loop().time()
        first = await context.whereabouts.nodes_of(wanted.shown.user, now)
        why = "no node could be used"
        async for memory in context.dialler.rounds(self.protocol, first, context.limits.move_s):
            node: NodeConnection | None = None
            news = b""
            try:
                node = await context.dialler.dial(memory, self.protocol, self._connection.address)
                async with asyncio.timeout(context.limits.answer_s):
                    news = await _remake(node, wanted, tracker)
            except Noticeable as error:
                why = str(error)
                _let_go(node)
                break
            except (NodeLost, TimeoutError):
                _let_go(node)
                continue
            except BaseException:
                _let_go(node)
                raise
            if self._state is ProgramState.MOVE:
                self._continue_at(node, news)
                return
            _let_go(node)
            return
        _log.info("a session is not continued at another node: %s", why)
        if self._state is ProgramState.MOVE:
            self.bye(Bye.STOPPING, "the node of this session is gone: connect again")

    def _continue_at(self, node: NodeConnection, news: bytes) -> None:
        self._node = node
        self._state = ProgramState.PIPE
        if news:
            self.node_sent(news)
        rest = self._front.take_rest()  # what came while it was moved
        if rest:
            self._pass(rest)
        node.copy_to(self)
        self._connection.resume_soon()


def _let_go(node: NodeConnection | None) -> None:
    if node is not None:
        node.let_go()


def _capabilities_of(said: bytes) -> bytes:
    """What a node told at the log-in that it can do."""
    return said.partition(b"[CAPABILITY ")[2].partition(b"]")[0]


async def _remake(node: NodeConnection, wanted: LogInWanted, tracker: ImapTracker) -> bytes:
    """Make at another node what the session was. What it tells of a mailbox that the client idles
    in is returned, for the client. Raises `Noticeable`, `NodeLost`."""

    async def refuse(question: bytes) -> bytes:
        raise Noticeable("a node asks for more than was kept")

    answer = await imap_log_in(node, LogInWanted(wanted.shown, _TAG % 0), refuse)
    if answer.verdict is NodeVerdict.UNAVAILABLE:
        raise NodeLost("it cannot log anybody in now")
    if answer.verdict is NodeVerdict.REFUSED:
        raise Noticeable("the log-in is not right any more")
    if _capabilities_of(answer.said) != tracker.capabilities:
        raise Noticeable("another node has other capabilities")
    for at, (command, told) in enumerate(tracker.enables, 1):
        lines = await _said_to(node, _TAG % at, command)
        if told not in [line + b"\r\n" for line in lines] and told:
            raise Noticeable("another node enables something else")
    mailbox = tracker.mailbox
    if mailbox is not None:
        values: dict[bytes, bytes] = {}
        for line in await _said_to(node, b"moved", mailbox.command):
            values |= selected_values(line)
        if values != mailbox.values:
            raise Noticeable("the mailbox has changed since it was selected")
    return await _idle_again(node, tracker.idle_tag) if tracker.idle_tag else b""


async def _said_to(node: NodeConnection, tag: bytes, command: bytes) -> list[bytes]:
    """The untagged lines of an answer that is OK. Raises `Noticeable`, `NodeLost`."""
    node.write(b"%b %b\r\n" % (tag, command.rstrip(b"\r\n")))
    lines: list[bytes] = []
    while True:
        line = await node.line()
        if line.startswith(tag + b" OK"):
            return lines
        if line.startswith((tag + b" NO [UNAVAILABLE]", b"* BYE")):
            raise NodeLost("it cannot do now what the session needs")
        if line.startswith(tag + b" "):
            raise Noticeable("another node does not do what the session needs")
        if line.endswith(b"}") or len(lines) >= _LINES_MAX:
            raise Noticeable("another node answers with more than is looked at")
        lines.append(line)


async def _idle_again(node: NodeConnection, tag: bytes) -> bytes:
    """IDLE (RFC 9051 section 6.3.13), whose go-ahead the client has. Raises `Noticeable`,
    `NodeLost`."""
    node.write(tag + b" IDLE\r\n")
    told = b""
    for _ in range(_LINES_MAX):
        line = await node.line()
        if line.startswith(b"+"):
            return told
        if not line.startswith(b"* ") or line.startswith(b"* BYE"):
            break
        told += line + b"\r\n"
    raise Noticeable("another node does not let it idle")
