"""A mail program's connection through the proxy: a front until it is logged in, then a pipe.

| state | what comes from the client | what ends it |
|---|---|---|
| `FRONT` | is answered by the front | a log-in; the end; `login_s` |
| `LOG_IN` | waits, or answers the node's questions | the node's verdict; `patience_s` |
| `PIPE` | goes to the node as it is | either side closes |
| `MOVE` | waits | another node, or BYE; `move_s` |
| `ENDED` | is dropped | |
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from enum import Enum, auto
from typing import Protocol

from raftmail.net.connection import Connection
from raftmail.net.session import Bye, Session
from raftmail.proxy.context import ProxyContext
from raftmail.proxy.node_connection import NodeConnection, NodeLost
from raftmail.proxy.node_log_in import NodeAnswer, NodeVerdict, Relay
from raftmail.proxy.steps import BeginTls, EndWithClient, FrontStep, LogInWanted, SayToClient

_log = logging.getLogger("raftmail.proxy")


class ProgramState(Enum):
    """See the module."""

    FRONT = auto()
    LOG_IN = auto()
    PIPE = auto()
    MOVE = auto()
    ENDED = auto()


class ProgramFront(Protocol):
    """A protocol before the log-in, without I/O."""

    is_client: bool

    @property
    def unread_bytes(self) -> int: ...
    def greeting(self) -> bytes: ...
    def secured(self) -> None: ...
    def feed(self, data: bytes) -> None: ...
    def next(self) -> FrontStep | None: ...
    def take_line(self) -> bytes | None: ...
    def take_rest(self) -> bytes: ...


Converse = Callable[[NodeConnection, LogInWanted, Relay], Awaitable[NodeAnswer]]


class ProgramSession(Session):
    """One client of IMAP or POP3; another protocol brings its front and its dialogue.

    Invariants: bytes of a node go to the client in `PIPE` alone, and of one node at a time."""

    protocol = ""
    """Which of a node's addresses is dialled."""

    def __init__(
        self, context: ProxyContext, connection: Connection, front: ProgramFront, log_in: Converse
    ) -> None:
        self._context = context
        self._connection = connection
        self._front = front
        self._converse = log_in
        self._state = ProgramState.FRONT
        self._node: NodeConnection | None = None
        self._wanted: LogInWanted | None = None
        self._said = b""
        """How the node has let the client in."""
        self._answer: asyncio.Future[bytes] | None = None
        """The client's next line, which a node has asked for."""
        self._failed_logins = 0

    # -- what each protocol says -------------------------------------------------------------

    def _unavailable(self, wanted: LogInWanted) -> bytes:
        """No node can tell now: never that a password is wrong."""
        raise NotImplementedError

    def _goodbye(self, text: str) -> bytes:
        """The last word of this side, where a word can be said."""
        raise NotImplementedError

    def _to_node(self, data: bytes) -> None:
        """These bytes are about to go to the node."""

    def _to_client(self, data: bytes) -> int:
        """How many of a node's bytes go to the client; the rest is its goodbye."""
        return len(data)

    def _lost_node(self) -> None:
        """The node is gone, and the client is not."""
        self._end()
        self._connection.hang_up()

    # -- the connection's calls --------------------------------------------------------------

    @property
    def known(self) -> bool:
        """See `Session`."""
        return self._state in (ProgramState.PIPE, ProgramState.MOVE)

    @property
    def blocked(self) -> bool:
        """See `Session`."""
        if self._state is ProgramState.PIPE:
            return self._node is not None and self._node.congested
        if self._state is ProgramState.LOG_IN:
            return self._front.unread_bytes > self._context.limits.unread_bytes_max
        return self._state is ProgramState.MOVE

    def start(self) -> None:
        """See `Session`."""
        self._connection.write(self._front.greeting())

    def receive(self, data: bytes) -> None:
        """See `Session`."""
        if self._state is ProgramState.PIPE:
            self._pass(data)
        elif self._state is not ProgramState.ENDED:
            self._front.feed(data)
            self.run()

    def run(self) -> None:
        """See `Session`."""
        if self._state is ProgramState.PIPE:
            node = self._node
            if node is not None and not self._connection.congested:
                node.resume_reading()
        elif self._state is ProgramState.LOG_IN:
            self._give_answer()
        while self._state is ProgramState.FRONT:
            step = self._front.next()
            if step is None:
                return
            self._do(step)

    def secured(self) -> None:
        """See `Session`."""
        self._front.secured()

    def check(self, now: float) -> None:
        """See `Session`. After a log-in the node watches the time."""
        waited_s = now - self._connection.began_at
        if self._state is ProgramState.FRONT and waited_s > self._context.limits.login_s:
            self.bye(Bye.BROKEN, "nobody has logged in for too long")

    def bye(self, why: Bye, text: str) -> None:
        """See `Session`."""
        if self._state is not ProgramState.ENDED:
            if self._may_speak:
                self._connection.write(self._goodbye(text))
            self._end()
        self._connection.hang_up()

    def drain(self, now: float) -> None:
        """See `Session`."""
        self.bye(Bye.STOPPING, "the proxy stops: connect again")

    def end(self) -> None:
        """See `Session`."""
        self._end()

    @property
    def _may_speak(self) -> bool:
        return True

    # -- until the log-in --------------------------------------------------------------------

    def _do(self, step: FrontStep) -> None:
        connection = self._connection
        match step:
            case SayToClient():
                connection.write(step.data)
            case BeginTls():
                connection.write(step.data)
                if self._context.tls is not None:
                    connection.start_tls(self._context.tls)
            case EndWithClient():
                connection.write(step.data)
                self._end()
                connection.hang_up()
            case LogInWanted():
                self._state = ProgramState.LOG_IN
                connection.spawn(self._log_in(step))

    def _give_answer(self) -> None:
        if self._answer is not None and not self._answer.done():
            line = self._front.take_line()
            if line is not None:
                self._answer.set_result(line)

    async def _relay(self, question: bytes) -> bytes:
        """See `node_log_in.Relay`."""
        self._connection.write(question + b"\r\n")
        self._answer = asyncio.get_running_loop().create_future()
        self._give_answer()
        return await self._answer

    async def _log_in(self, wanted: LogInWanted) -> None:
        answer = await self._try_nodes(wanted)
        if self._state is not ProgramState.LOG_IN:
            return
        self._answer = None
        if answer is None:
            answer = NodeAnswer(NodeVerdict.UNAVAILABLE, self._unavailable(wanted))
        self._connection.write(answer.said)
        if answer.verdict is NodeVerdict.IN:
            self._begin_pipe(wanted, answer.said)
            return
        self._failed_logins += answer.verdict is NodeVerdict.REFUSED
        self._state = ProgramState.FRONT
        if self._failed_logins >= self._context.limits.failed_logins_max:
            self.bye(Bye.BROKEN, "too many wrong passwords")
        else:
            self._connection.resume_soon()

    async def _try_nodes(self, wanted: LogInWanted) -> NodeAnswer | None:
        """The answer of the first node that has one; None when none can tell."""
        context = self._context
        now = asyncio.get_running_loop().time()
        first = await context.whereabouts.nodes_of(wanted.shown.user, now)
        async for memory in context.dialler.rounds(self.protocol, first, context.limits.patience_s):
            try:
                node = await context.dialler.dial(memory, self.protocol, self._connection.address)
            except NodeLost:
                continue
            answer = await self._ask_node(node, wanted)
            if answer is not None and answer.verdict is not NodeVerdict.UNAVAILABLE:
                if answer.verdict is NodeVerdict.IN:
                    self._node = node
                return answer
            if self._answer is not None and not wanted.shown.may_be_repeated:
                return None  # the client has seen a question of that node's
        return None

    async def _ask_node(self, node: NodeConnection, wanted: LogInWanted) -> NodeAnswer | None:
        """What one node says; None when it is gone, or says nothing. It is let go of where the
        client is not in."""
        answer: NodeAnswer | None = None
        try:
            async with asyncio.timeout(self._context.limits.answer_s):
                answer = await self._converse(node, wanted, self._relay)
        except (NodeLost, TimeoutError) as error:
            name = node.memory.node.name
            _log.info("node %s was left in the middle of a log-in: %s", name, error or "no answer")
        finally:
            if answer is None or answer.verdict is not NodeVerdict.IN:
                node.let_go()
        return answer

    # -- copying bytes -----------------------------------------------------------------------

    def _begin_pipe(self, wanted: LogInWanted, said: bytes) -> None:
        node = self._node
        assert node is not None
        if self._context.keeps_log_ins and wanted.shown.may_be_repeated:
            self._wanted = wanted
        self._said = said
        self._state = ProgramState.PIPE
        rest = self._front.take_rest()
        if rest:
            self._pass(rest)
        node.copy_to(self)
        self._connection.resume_soon()

    def _pass(self, data: bytes) -> None:
        node = self._node
        if node is not None:
            self._to_node(data)
            node.write(data)

    def node_sent(self, data: bytes) -> None:
        """See `NodeTaker`."""
        if self._state is not ProgramState.PIPE:
            return
        taken = self._to_client(data)
        if taken == len(data):
            self._connection.send(data)
        else:
            if taken:
                self._connection.send(data[:taken])
            self._drop_node()
            self._lost_node()
            return
        if self._connection.congested and self._node is not None:
            self._node.pause_reading()

    def node_writable(self) -> None:
        """See `NodeTaker`."""
        self._connection.settle()

    def node_lost(self) -> None:
        """See `NodeTaker`."""
        if self._state is ProgramState.PIPE:
            self._drop_node()
            self._lost_node()

    def _drop_node(self) -> None:
        node, self._node = self._node, None
        if node is not None:
            node.let_go()

    def _end(self) -> None:
        self._state = ProgramState.ENDED
        self._wanted = None
        self._drop_node()
