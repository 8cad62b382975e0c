"""What the root's master does for the cluster: it writes down what the cluster begins with, and carries out what operators asked for."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from raftmail.cluster.router import Router
from raftmail.cluster.state import genesis_command
from raftmail.cluster.view import ROOT_SHARD
from raftmail.mail.results import Refused
from raftmail.mail.service import Unavailable
from raftmail.node.following import Following

logger = logging.getLogger(__name__)

PERIOD_S = 0.25
GENESIS_S = 5.0


@dataclass(slots=True)
class Operating:
    """Works while this node leads the root, one round at a time. Whoever leads next goes on from what the root has written."""

    loop: asyncio.AbstractEventLoop
    router: Router
    following: Following
    _task: asyncio.Task[None] | None = None
    _next: float = 0.0

    def tick(self, now: float) -> None:
        """Begin a round when it is time to."""
        root = self.router.replicas.get(ROOT_SHARD)
        if root is None or not root.group.accepts or self._task is not None or now < self._next:
            return
        self._task = self.loop.create_task(self._round())
        self._task.add_done_callback(self._done)

    async def close(self) -> None:
        """Stop; what is under way is told by the root's records to whoever goes on."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._task = None
        self._next = self.loop.time() + PERIOD_S
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("a round of the root's master failed", exc_info=error)

    async def _round(self) -> None:
        root = self.router.replicas[ROOT_SHARD]
        try:
            if not root.machine.index.config.revision:
                await self._write_genesis()
        except Unavailable as e:
            logger.info("the root's master goes on later: %s", e)

    async def _write_genesis(self) -> None:
        """The first records of a new cluster. Refused when somebody else has written them meanwhile."""
        command = genesis_command(self.following.state)
        executed = await self.router.execute(command, deadline_s=GENESIS_S)
        if not isinstance(executed.result, Refused):
            logger.info("wrote down what the cluster begins with, %d records", len(command.puts))
