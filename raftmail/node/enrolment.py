"""A node's further workers, told to the cluster.

A cluster begins with the workers that its configuration names. Those that a node is given later are
written down by its first worker, which is a member already. Then the others let them in, and
replicas can be moved to them (`raftmail rebalance`).
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, replace

from raftmail.cluster.records import NodeRecord, key_of
from raftmail.cluster.router import Router
from raftmail.cluster.state import ClusterState
from raftmail.mail.commands import Configure
from raftmail.mail.failures import Unavailable
from raftmail.mail.results import Refused
from raftmail.net.errors import start_task, tell
from raftmail.node.config import Config

logger = logging.getLogger(__name__)

RETRY_S = 1.0
PUT_S = 5.0


def enrolment(state: ClusterState, config: Config) -> Configure | None:
    """The command that writes down the workers of a node that the cluster does not know.

    None when it knows them all, or not the node itself. They are on the node's host, and where the
    node is.
    """
    first = state.every_node.get(config.node.name)
    workers = config.every_worker
    if first is None or len(workers) < 2:
        return None
    host = first.host or first.name
    made = [
        replace(first, name=one.node.name, peer=one.listen.peer, host=host)
        for one in workers[1:]
        if one.node.name not in state.every_node
    ]
    if not made and first.host:
        return None
    records: list[NodeRecord] = [replace(first, host=host), *made]
    return Configure(
        tuple((key_of(record), state.encoded(record)) for record in records),
        tuple((key_of(record), state.revision_of(key_of(record))) for record in records),
    )


@dataclass(slots=True, repr=False)
class Enrolment:
    """Of worker 1: sees to it that the cluster knows the others."""

    config: Config
    loop: asyncio.AbstractEventLoop
    router: Router
    _task: asyncio.Task[None] | None = None
    _next: float = 0.0

    def tick(self, now: float, state: ClusterState) -> None:
        """Write down what is missing, when it is time to try."""
        if not state.revision or self._task is not None or now < self._next:
            return
        self._next = now + RETRY_S
        command = enrolment(state, self.config)
        if command is not None:
            self._task = start_task(self.loop, self._write(command), self._failed)
            self._task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._task = None

    def _failed(self, error: Exception) -> None:
        tell(logger, "this node's workers could not be told to the cluster, and are later", error)

    async def close(self) -> None:
        """Give up."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _write(self, command: Configure) -> None:
        try:
            executed = await self.router.execute(command, deadline_s=PUT_S)
        except Unavailable as e:
            logger.info("this node's workers are told to the cluster later: %s", e)
            return
        if not isinstance(executed.result, Refused):
            names = ", ".join(key.partition("/")[2] for key, _ in command.puts[1:])
            logger.info(
                "told the cluster of worker %s; `raftmail rebalance` gives it replicas", names
            )
