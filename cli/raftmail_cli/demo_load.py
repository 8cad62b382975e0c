"""The mail of the demonstration: who sends what, what was acknowledged, and when.

A sender whose connection breaks after the whole message was sent, but before the reply, cannot know
whether it was delivered. (RFC 2033 and RFC 1047.) It sends the same bytes again, to another node.
Of some messages it throws the reply away on purpose and does the same. However often a message was
sent, there must be exactly one of it. Every message carries an id of its own in `X-Raftmail-Demo`,
and the ledger notes which were sent again without the outcome being known.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from raftmail_cli.corpus import corpus
from raftmail_cli.lmtp import DemoLmtpClient, DemoLmtpLost

SENDER = "sender@demo.example"
DELIVERY_S = 20.0
"""How long a sender waits for a reply before it takes the connection for dead."""
CONNECT_S = 2.0
GIVE_UP_S = 60.0
"""How long a sender keeps trying to have a message taken."""

REPLY_LOST_EVERY = 10
"""Of one message in so many the first positive reply is taken for lost."""

_RETRY_S = 0.05
_ID_FIELD = re.compile(rb"^X-Raftmail-Demo: ([0-9]+)\r\n", re.MULTILINE)
_ID_BYTES_MAX = 8192


@dataclass(frozen=True, slots=True)
class DemoMessage:
    """A message as it is sent, to one user."""

    number: int
    user: str
    body: bytes


def make_messages(count: int, users: Sequence[str]) -> list[DemoMessage]:
    """`count` messages to the users in turn: the examples again and again.

    Among them are once, at a quarter of the way, the largest (20 MB), and at three places a large
    one (1 MB).
    """
    examples = list(corpus(large=True))
    small = [body for name, body in examples if not name.startswith("generated_")]
    large = [body for name, body in examples if name.startswith("generated_")]
    special = {count // 4: large[-1]}
    for part in (1, 3, 5):
        special.setdefault(count * part // 6, large[0])
    messages = []
    for number in range(count):
        body = special.get(number, small[number % len(small)])
        if not body.endswith(b"\r\n"):
            body += b"\r\n"  # no message can end otherwise on the wire
        head = b"X-Raftmail-Demo: %d\r\n" % number
        messages.append(DemoMessage(number, users[number % len(users)], head + body))
    return messages


def number_of(stored: bytes) -> int | None:
    """The id in a stored message."""
    found = _ID_FIELD.search(stored, 0, _ID_BYTES_MAX)
    return None if found is None else int(found[1])


@dataclass(slots=True)
class DemoLedger:
    """What the senders know."""

    attempts: int = 0
    refused: list[str] = field(default_factory=list)
    """Why messages were given up."""
    acknowledged: set[int] = field(default_factory=set)
    unknown: set[int] = field(default_factory=set)
    """Numbers of which at least one attempt had an unknown outcome."""
    longest_gap_s: float = 0.0
    """Between two acknowledgements, by any node, of any sender."""
    _last_s: float | None = None

    @property
    def settled(self) -> int:
        """Messages that are acknowledged or given up."""
        return len(self.acknowledged) + len(self.refused)

    def resume(self, now_s: float) -> None:
        """The senders were made to wait until now: that is no gap."""
        self._last_s = now_s

    def acknowledge(self, number: int, now_s: float) -> None:
        if self._last_s is not None:
            self.longest_gap_s = max(self.longest_gap_s, now_s - self._last_s)
        self._last_s = now_s
        self.acknowledged.add(number)


@dataclass(slots=True)
class DemoLoad:
    """Senders that hand over `messages` within about `span_s`, evenly, each over a connection of
    its own, and to another node when one fails. Those from `held_from` on wait for `release`."""

    addresses: Sequence[tuple[str, int]]
    messages: Sequence[DemoMessage]
    span_s: float
    senders: int = 8
    held_from: int | None = None
    ledger: DemoLedger = field(default_factory=DemoLedger)
    _released: asyncio.Event = field(default_factory=asyncio.Event)

    def release(self) -> None:
        """Let the messages that are held go."""
        self.ledger.resume(time.monotonic())
        self._released.set()

    async def run(self) -> None:
        """Send everything; ends when every message is acknowledged or given up."""
        queue: asyncio.Queue[DemoMessage] = asyncio.Queue(maxsize=self.senders)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._send_all(queue, at)) for at in range(self.senders)]
            began_s = time.monotonic()
            for at, message in enumerate(self.messages):
                if at == self.held_from:
                    await self._released.wait()
                due_s = began_s + at * self.span_s / len(self.messages)
                await asyncio.sleep(max(0.0, due_s - time.monotonic()))
                await queue.put(message)
            await queue.join()
            for task in tasks:
                task.cancel()

    async def _send_all(self, queue: asyncio.Queue[DemoMessage], at: int) -> None:
        sender = _Sender(self.addresses, self.ledger, at)
        try:
            while True:
                message = await queue.get()
                await sender.send(message)
                queue.task_done()
        finally:
            sender.close()


@dataclass(slots=True)
class _Sender:
    """One sender. `at` is the node that it talks to, in turn over `addresses`."""

    addresses: Sequence[tuple[str, int]]
    ledger: DemoLedger
    at: int
    connection: DemoLmtpClient | None = None

    async def send(self, message: DemoMessage) -> None:
        ledger = self.ledger
        give_up_s = time.monotonic() + GIVE_UP_S
        while True:
            ledger.attempts += 1
            try:
                connection = await self._connected()
                reply = await connection.deliver(SENDER, message.user, message.body, DELIVERY_S)
            except DemoLmtpLost as lost:
                why = str(lost)
                if lost.unknown:
                    ledger.unknown.add(message.number)
                self._next_node()
            else:
                is_lost = message.number % REPLY_LOST_EVERY == 0
                if reply.is_positive and not (is_lost and message.number not in ledger.unknown):
                    ledger.acknowledge(message.number, time.monotonic())
                    return
                if reply.is_positive:
                    ledger.unknown.add(message.number)
                    self._next_node()
                    continue
                why = f"{reply.code} {reply.text}"
                if not reply.is_transient:
                    ledger.refused.append(f"message {message.number}: {why}")
                    return
                if reply.after_data:
                    # The node may not know the outcome either: 451 after a change of master.
                    ledger.unknown.add(message.number)
                self._next_node()
            if time.monotonic() > give_up_s:
                ledger.refused.append(f"message {message.number}: given up: {why}")
                return
            await asyncio.sleep(_RETRY_S)

    async def _connected(self) -> DemoLmtpClient:
        if self.connection is None:
            host, port = self.addresses[self.at % len(self.addresses)]
            self.connection = await DemoLmtpClient.open(host, port, CONNECT_S)
        return self.connection

    def _next_node(self) -> None:
        self.close()
        self.at += 1

    def close(self) -> None:
        if self.connection is not None:
            self.connection.close()
            self.connection = None
