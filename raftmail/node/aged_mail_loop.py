"""Expunges what has been in Trash or Junk for longer than it is kept.

The leader of a shard decides, by its clock and those of the other nodes, and puts UIDs into the
log. So all replicas expunge the same, whatever their clocks say. A round goes through all mailboxes
of the shards that this node leads: some mailboxes, or one entry of some messages, and then it
rests.

It keeps nothing that matters: whoever leads next begins anew.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

from raftmail.admin.admin_calls import AdminCalls
from raftmail.admin.api.calls import ObserveHere
from raftmail.cluster.agreed_clock import JumpGuard, earliest
from raftmail.cluster.router import Router
from raftmail.mail.commands import Expunge
from raftmail.mail.failures import Unavailable
from raftmail.mail.results import ExpungeResult
from raftmail.net.errors import start_task, tell
from raftmail.shard.aged_mail import AgedMail
from raftmail.shard.replica import Replica
from raftmail.shard.status import Capability
from raftmail.storage.disk import DiskFull
from raftmail.storage.kv import TableDamaged
from raftmail.storage.records import IndexDamaged

logger = logging.getLogger(__name__)

LOOK_REST_S = 0.02
"""Between two looks at some mailboxes."""
EXPUNGE_REST_S = 0.1
"""After an entry."""
FIRST_S = 60.0
"""The first round begins so long after the start, or after `period_s`."""
CLOCK_S = 5.0
"""How long other nodes may take to tell their clocks."""
DEADLINE_S = 20.0


@dataclass(slots=True, repr=False)
class AgedMailLoop:
    """Works for the shards that this node leads. `ages_us` is for how long messages are kept, by
    special use; without any nothing is done."""

    loop: asyncio.AbstractEventLoop
    router: Router
    calls: AdminCalls
    ages_us: Mapping[str, int]
    period_s: float
    expunged: int = 0
    """Messages, since the start."""
    _guard: JumpGuard = field(default_factory=JumpGuard)
    _task: asyncio.Task[None] | None = None
    _next: float = 0.0
    _closed: bool = False

    def __post_init__(self) -> None:
        self._next = self.loop.time() + min(FIRST_S, self.period_s)

    def tick(self, now: float) -> None:
        """Begin a round when it is time to."""
        if not self.ages_us or self._closed or self._task is not None or now < self._next:
            return
        self._next = now + self.period_s
        if any(replica.accepts for replica in self.router.replicas.values()):
            self._task = start_task(self.loop, self._round(), self._failed)
            self._task.add_done_callback(self._done)

    async def close(self) -> None:
        """Stop; the next round of whoever leads finds what is left."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._task = None

    def _failed(self, error: Exception) -> None:
        tell(logger, "a round that expunges aged mail failed, and is begun again later", error)

    async def _round(self) -> None:
        led = [shard for shard, one in self.router.replicas.items() if one.accepts]
        nodes = {node for shard in led for node in self.router.view.members(shard)}
        clocks = await self._clocks(sorted(nodes))
        agreed = {shard: earliest(self.router.view.members(shard), clocks) for shard in led}
        known = [clock for clock in agreed.values() if clock is not None]
        if not known:
            logger.info("aged mail: too few nodes told their clocks; it is looked at later")
            return
        now_us = int(self._guard.read(self.loop.time(), min(known)) * 1_000_000)
        if self._guard.has_jumped:
            logger.warning(
                "aged mail: the nodes' clocks are far ahead of what they were; nothing more is "
                "expunged by them for a day. Look whether they are right"
            )
        before = self.expunged
        for shard in led:
            if agreed[shard] is not None:
                await self._work_through(shard, now_us)
        if self.expunged > before:
            logger.info("aged mail: %d messages were expunged", self.expunged - before)

    async def _clocks(self, nodes: list[str]) -> dict[str, float]:
        """What nodes say that the time is; without those that do not answer."""

        async def ask(node: str) -> float | None:
            try:
                return (await self.calls.ask(node, ObserveHere(), CLOCK_S)).unix_s
            except (Unavailable, ValueError):
                return None

        told = await asyncio.gather(*map(ask, nodes))
        return {node: s for node, s in zip(nodes, told, strict=True) if s is not None}

    async def _work_through(self, shard: int, now_us: int) -> None:
        after: int | None = 0
        while after is not None:
            replica = self.router.replicas.get(shard)
            if replica is None or not replica.accepts or not replica.may(Capability.READ):
                return
            found = self._look(replica, after, now_us)
            if found is None:
                return
            if found.uids:
                after = found.after if await self._expunge(found) else found.mailbox
                await asyncio.sleep(EXPUNGE_REST_S)
            else:
                after = found.after
                await asyncio.sleep(LOOK_REST_S)

    def _look(self, replica: Replica, after: int, now_us: int) -> AgedMail | None:
        """None: it cannot be looked at now."""
        try:
            return replica.aged(after, self.ages_us, now_us)
        except IndexDamaged as e:
            replica.index_damaged(e)
        except TableDamaged as e:
            replica.index_broken(e)
        except DiskFull as e:
            logger.info("aged mail of shard %d is looked at later: %s", replica.shard, e)
        self.router.links.wake(replica.shard)
        return None

    async def _expunge(self, found: AgedMail) -> bool:
        """Whether anything was: what is found again and again must not be tried for ever."""
        command = Expunge(found.user, found.mailbox, found.uids)
        try:
            executed = await self.router.execute(command, deadline_s=DEADLINE_S)
        except Unavailable as e:
            logger.info("aged mail of %s is expunged later: %s", found.user, e)
            return False
        if not isinstance(executed.result, ExpungeResult):
            return False
        self.expunged += len(executed.result.uids)
        return bool(executed.result.uids)
