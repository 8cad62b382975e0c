"""Mail programs of the simulated cluster: the real IMAP sessions of its nodes, over connections
that end now and then, and what chaos has for a mail program (`raftmail_chaos.imap_reader`).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine, Mapping
from typing import Any, cast

from raftmail.frontends.imap.context import ImapContext
from raftmail.frontends.imap.limits import ImapLimits
from raftmail.frontends.imap.session import ImapSession
from raftmail.mail.budget import Budget
from raftmail.net.connection import Connection
from raftmail.service.service import Service
from raftmail_chaos.history import History
from raftmail_chaos.imap_answers import BadImapAnswer
from raftmail_chaos.imap_mirror import MirrorBroken
from raftmail_chaos.imap_reader import ImapReader
from tests.simulation.clients import MAILBOXES, SEED, USER
from tests.simulation.imap_loop import SimLoop
from tests.simulation.imap_service import SimService
from tests.simulation.network import Network
from tests.simulation.node import Broken, SimNode

CUT = 0.04
"""The chance that a connection ends soon after a command was said."""
SLOW = 0.1
"""The chance that a client does not read on for a moment, while there is more to tell."""
PATIENCE_S = 12.0
DEADLINE_S = 4.0
LOOK_S = 0.2
THINK_S = (0.02, 0.6)
IDLE_S = (0.3, 4.0)
WIRE_S = (0.0002, 0.003)


class SimConnection:
    """What a session needs of its connection. What is written in one turn arrives together."""

    address = "127.0.0.1"
    is_loopback = True
    congested = False
    short = False

    def __init__(self, person: MailPerson, node: SimNode, loop: SimLoop) -> None:
        self.person = person
        self.node = node
        self.life = node.life
        self.loop = loop
        self.is_open = True
        self.began_at = self.heard_at = node.now
        self.session: ImapSession
        self._out: list[bytes] = []
        self._resuming = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._arrives = 0.0

    @property
    def channel_bindings(self) -> dict[str, bytes]:
        return {}

    @property
    def stands(self) -> bool:
        """Whether the node is there with which it was made."""
        return self.is_open and self.node.running and self.node.life == self.life

    def write(self, data: bytes) -> None:
        if not self._out:
            self.loop.call_soon(self._flush)
        self._out.append(data)

    def _flush(self) -> None:
        data = b"".join(self._out)
        self._out.clear()
        if data and self.is_open:
            self.person.later(self, lambda: self.person.hear(data))

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self.loop.spawn(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def resume_soon(self) -> None:
        if not self._resuming and self.is_open:
            self._resuming = True
            self.loop.call_soon(self._resume)

    def _resume(self) -> None:
        self._resuming = False
        if self.is_open:
            self.session.run()

    def settle(self) -> None:
        """A simulated client never sends ahead."""

    async def drained(self) -> None:
        self._flush()
        if self.person.rng.random() < SLOW:
            await asyncio.sleep(self.person.rng.uniform(0.0, 0.05))

    def hang_up(self) -> None:
        self._flush()
        self.person.later(self, self.person.ended)

    def receive(self, data: bytes) -> None:
        """What the client sent has arrived."""
        if self.stands:
            self.node._now_or_later(lambda: self.loop.run(lambda: self.session.receive(data)))

    def close(self) -> None:
        """The client's end is gone."""
        stood, self.is_open = self.stands, False
        if stood:
            self.node._now_or_later(lambda: self.loop.run(self._lost))
        else:
            self.loop.abandon()

    def _lost(self) -> None:
        for task in self._tasks:
            task.cancel()
        self.session.end()


class MailPerson:
    """Reads mail, first through one node and then through another."""

    def __init__(
        self,
        number: int,
        network: Network,
        nodes: Mapping[str, SimNode],
        history: History,
        rng: random.Random,
    ) -> None:
        self.name = f"imap{number}"
        self.nodes = nodes
        self.world = next(iter(nodes.values())).world
        self.network = network
        self.rng = rng
        self.active = False
        self.finished = False
        self.reader = ImapReader(
            self.name, USER, "secret", MAILBOXES, rng, history.operations.append, number
        )
        self._connection: SimConnection | None = None
        self._connections = 0
        self._said_at = 0.0
        self._last: list[str] = []

    def start(self) -> None:
        self.active = True
        self._soon()

    def finish(self) -> None:
        """Open each mailbox once more, through any node, and then say nothing."""
        self.active = False
        self._last = list(MAILBOXES)
        self._leave()
        self._soon()

    # -- the client's end ----------

    def later(self, connection: SimConnection, then: Any) -> None:
        """Something comes over the connection, in order."""
        arrives = max(connection._arrives, self.world.now + self.rng.uniform(*WIRE_S))
        connection._arrives = arrives

        def arrive() -> None:
            if self._connection is connection:
                then()

        self.world.at(arrives, arrive)

    def hear(self, data: bytes) -> None:
        """What the server said has arrived."""
        self.world.note(data)
        try:
            self.reader.hear(data, self.world.now)
        except (MirrorBroken, BadImapAnswer) as e:
            raise Broken(f"{self.name} through {self._where}: {e}") from None
        if self.reader.is_ready:
            self._soon()

    def ended(self) -> None:
        """The connection is gone."""
        if self._connection is not None:
            self.world.log(f"{self.name} loses its connection to {self._where}")
            self._leave()
            self._soon()

    @property
    def _where(self) -> str:
        return "nobody" if self._connection is None else self._connection.node.name

    def _leave(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
            self.reader.lost()

    def _soon(self) -> None:
        connection = self._connection

        def go_on() -> None:
            if self._connection is connection:
                self._go_on()

        self.world.after(self.rng.uniform(*THINK_S), go_on)

    def _go_on(self) -> None:
        connection = self._connection
        reader = self.reader
        if connection is None:
            if self.active or self._last:
                self._connect()
            return
        if not reader.is_ready:
            return
        world = self.world
        if self.active or reader.is_busy_opening:
            line = reader.next_command(world.now)
        elif self._last:
            line = reader.select(self._last.pop(), world.now)
        else:
            self.finished = True
            self._leave()
            return
        self._say(connection, line)

    def _say(self, connection: SimConnection, line: bytes) -> None:
        world = self.world
        world.log(f"{self.name} to {self._where}: {line[:80]!r}")
        said_at = self._said_at = world.now
        world.after(self.rng.uniform(*WIRE_S), lambda: connection.receive(line))
        if self.active and self.rng.random() < CUT:
            world.after(self.rng.uniform(0.0, 0.03), lambda: self._cut(connection))
        if self.reader.idles:
            world.after(self.rng.uniform(*IDLE_S), lambda: self._end_idle(connection))

        def give_up() -> None:
            if self._connection is connection and self._said_at == said_at:
                self.ended()

        world.after(PATIENCE_S, give_up)

    def _end_idle(self, connection: SimConnection) -> None:
        if self._connection is connection and self.reader.idles:
            line = self.reader.end_idle()
            self.world.after(self.rng.uniform(*WIRE_S), lambda: connection.receive(line))

    def _cut(self, connection: SimConnection) -> None:
        if self._connection is connection:
            self.ended()

    def _connect(self) -> None:
        up = [node for node in self.nodes.values() if node.running and node.opened]
        if not up:
            self._soon()
            return
        node = self.rng.choice(up)
        self._connections += 1
        self.world.reached["IMAP sessions"] += 1
        loop = SimLoop(node)
        client = f"{self.name}.{self._connections}".encode().rjust(16)
        service = SimService(node, self.nodes, self.network, loop, client, self.rng)
        connection = SimConnection(self, node, loop)
        self._connection = connection
        self.reader.connected()
        self.world.log(f"{self.name} connects to {node.name}")

        def accept() -> None:
            context = ImapContext(
                cast(Service, service),
                lambda: SEED + self.world.now,
                Budget(1 << 20),
                asyncio.Semaphore(4),
                ImapLimits(deadline_s=DEADLINE_S),
            )
            session = ImapSession(context, cast(Connection, connection), secure=True)
            connection.session = session
            session.start()

        node._now_or_later(lambda: loop.run(accept))
        self._look(connection)

    def _look(self, connection: SimConnection) -> None:
        """Notice when the node is gone."""
        if self._connection is not connection:
            return
        if not connection.stands:
            self.ended()
        else:
            self.world.after(LOOK_S, lambda: self._look(connection))
