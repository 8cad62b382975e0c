"""Large messages, and messages for many recipients, as a mail transfer agent hands them over: what
was not answered with 250 is given again, the same bytes, through any node, until it is taken.

What all of them together may weigh is set before: bytes times recipients (eight at most), every
try counted. So the disks of a run of any length are known to be large enough, and the load ends by
itself.
"""

from __future__ import annotations

import asyncio
import base64
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from raftmail_chaos import lmtp
from raftmail_chaos.mailbag import DELIVERIES, DOMAIN, TOKEN_HEADER
from raftmail_chaos.record import Delivery, delivery_line, user_folder

MESSAGE_BYTES_MAX = 40 << 20
RECIPIENTS_MAX = 50

_AT_ONCE = 3
"""Transactions that are under way at the same time."""
_TIMEOUT_S = 330.0
"""A node may take as long as this for a message that goes to many shards."""
_SHARDS_ABOUT = 8
"""A message for more recipients than this weighs no more: it is stored once in each shard."""
_PAUSE_S = (0.3, 3.0)
"""Between two tries of one message."""
_LOOK_S = 0.2
_MANY_FROM = 10


@dataclass(frozen=True, slots=True)
class _Kind:
    """Messages of a kind: their share, and sizes and numbers of recipients from and to."""

    share: float
    size: tuple[int, int]
    recipients: tuple[int, int]


_LARGE = _Kind(0.15, (8 << 20, MESSAGE_BYTES_MAX), (1, 3))
_CROWDED = _Kind(0.60, (1 << 10, 64 << 10), (_MANY_FROM, RECIPIENTS_MAX))
_BOTH = _Kind(0.23, (256 << 10, 2 << 20), (_MANY_FROM, RECIPIENTS_MAX))
_HUGE = _Kind(0.02, (MESSAGE_BYTES_MAX, MESSAGE_BYTES_MAX), (RECIPIENTS_MAX, RECIPIENTS_MAX))
_KINDS = (_LARGE, _CROWDED, _BOTH, _HUGE)
_FIRST = ((MESSAGE_BYTES_MAX, 2), (16 << 10, RECIPIENTS_MAX))
"""Size and recipients of the first message of each load process, so that the shortest run has
both."""


_UNTRIED = lmtp.MtaReply(0, "not tried", False)


@dataclass(slots=True)
class Mass:
    """One message: who still waits for it, and since when."""

    token: str
    body: bytes
    invoked: float
    recipients: int
    waiting: list[str]
    tries: int = 0
    sent: bool = False
    """Some try went out whole, and its outcome is not known."""
    last: lmtp.MtaReply = _UNTRIED


def compose(rng: random.Random, token: str, size_bytes: int) -> bytes:
    """A message of about so many bytes that do not compress well, its lines ending in CRLF."""
    text = base64.encodebytes(rng.randbytes(size_bytes * 3 // 4)).replace(b"\n", b"\r\n")
    head = b"From: load@chaos.test\r\nTo: many:;\r\nSubject: %b\r\n" % token.encode()
    head += b"Content-Transfer-Encoding: base64\r\n"
    return b"%b%b%b\r\n\r\n%b" % (head, TOKEN_HEADER, token.encode(), text)


@dataclass(slots=True, repr=False)
class Mta:
    """The transfer agent of one load process. `nodes` gives the LMTP addresses that there are now.
    `make_user` makes a user with the mailbox of deliveries, and `took` is told of each message that
    was taken.
    """

    index: int
    seed: int
    bytes_max: int
    seconds: float
    history: Path
    nodes: Callable[[], Sequence[str]]
    make_user: Callable[[str], Awaitable[None]]
    took: Callable[[], None]
    problem: Callable[[str], None]
    spent_bytes: int = 0
    _users: list[str] = field(default_factory=list)
    _count: int = 0
    _open: dict[str, Mass] = field(default_factory=dict)

    async def run(self, stopping: asyncio.Event) -> None:
        """Hand over until told to stop; then go on with what is under way, for as long as the
        caller lets it."""
        rng = random.Random(self.seed)
        began = time.monotonic()
        tasks: set[asyncio.Task[None]] = set()
        try:
            while not stopping.is_set():
                due = self.bytes_max * (time.monotonic() - began) / self.seconds
                tasks = {task for task in tasks if not _is_over(task)}
                if self.spent_bytes <= min(due, self.bytes_max - 1) and len(tasks) < _AT_ONCE:
                    mass = await self._next(rng)
                    tasks.add(asyncio.create_task(self._hand_over(rng, mass)))
                await asyncio.sleep(_LOOK_S)
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    def give_up(self) -> None:
        """Note what was never taken: nobody knows whether it will be there."""
        for mass in self._open.values():
            mass.sent = mass.sent or mass.tries > 0  # the last try may have gone out
            for user in mass.waiting:
                self._note(mass, user, mass.last)
        self._open.clear()

    async def _next(self, rng: random.Random) -> Mass:
        """The next message, with its recipients, who are made where there are too few."""
        self._count += 1
        if self._count == 1:
            size, count = _FIRST[self.index % len(_FIRST)]
        else:
            (kind,) = rng.choices(_KINDS, [kind.share for kind in _KINDS])
            size, count = rng.randint(*kind.size), rng.randint(*kind.recipients)
        first = len(self._users) + 1
        new = [f"m{self.index}r{number}@{DOMAIN}" for number in range(first, count + 1)]
        await asyncio.gather(*map(self.make_user, new))
        for user in new:
            user_folder(self.history, user).mkdir(parents=True, exist_ok=True)
        self._users += new
        token = f"m{self.index}-{self._count}"
        body = await asyncio.to_thread(compose, random.Random(rng.random()), token, size)
        chosen = rng.sample(self._users, count)
        mass = self._open[token] = Mass(token, body, time.monotonic(), count, chosen)
        return mass

    async def _hand_over(self, rng: random.Random, mass: Mass) -> None:
        """Try until every recipient has it, or was refused for good."""
        while True:
            mass.tries += 1
            self.spent_bytes += len(mass.body) * min(len(mass.waiting), _SHARDS_ABOUT)
            self._take(mass, await self._try(rng.choice(self.nodes()), mass))
            if not mass.waiting:
                del self._open[mass.token]
                return
            await asyncio.sleep(rng.uniform(*_PAUSE_S))

    async def _try(self, node: str, mass: Mass) -> list[lmtp.MtaReply]:
        try:
            connection = await lmtp.MtaConnection.open(node)
        except lmtp.LmtpLost as lost:
            return [lmtp.MtaReply(0, str(lost), lost.sent)] * len(mass.waiting)
        try:
            to = [user.replace("@", f"+{DELIVERIES}@") for user in mass.waiting]
            return await connection.deliver_all("load@chaos.test", to, mass.body, _TIMEOUT_S)
        finally:
            connection.close()

    def _take(self, mass: Mass, replies: list[lmtp.MtaReply]) -> None:
        """Note who has it, or was refused for good; the others wait."""
        waiting = []
        for user, reply in zip(mass.waiting, replies, strict=True):
            if 200 <= reply.code < 300:
                self.took()
            elif reply.code < 500:
                mass.last = reply
                waiting.append(user)
                continue
            else:
                self.problem(f"mail for {user} was refused for good: {reply.code} {reply.text}")
            self._note(mass, user, reply)
        mass.sent = mass.sent or any(reply.sent for reply in replies)
        mass.waiting = waiting

    def _note(self, mass: Mass, user: str, reply: lmtp.MtaReply) -> None:
        now = time.monotonic()
        # After a refusal an earlier try may still have had an effect.
        code = reply.code if reply.code < 500 or mass.tries == 1 else 0
        delivery = Delivery(
            mass.token, user, DELIVERIES, mass.invoked, now, code, mass.sent or reply.sent,
            reply.text, mass.tries, len(mass.body), mass.recipients,
        )  # fmt: skip
        with open(user_folder(self.history, user) / "mass.jsonl", "a", encoding="utf-8") as out:
            out.write(delivery_line(delivery) + "\n")


def _is_over(task: asyncio.Task[None]) -> bool:
    """Raises what the task raised."""
    if task.done():
        task.result()
    return task.done()
