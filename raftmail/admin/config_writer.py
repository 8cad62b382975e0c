"""Having the cluster changed: decide by the newest state, and have the root write it if nobody else
was faster."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from raftmail.cluster.changes import Change, ChangeDenied
from raftmail.cluster.router import Router
from raftmail.cluster.state import ClusterState
from raftmail.mail import results
from raftmail.mail.failures import Failure, Unavailable
from raftmail.mail.results import Code, Configured

RETRY_S = 0.02


class ConfigSource(Protocol):
    """What a node knows of the cluster."""

    state: ClusterState

    async def newest(self, deadline_s: float) -> ClusterState:
        """Everything that the root had acknowledged when this was asked. Raises `Unavailable`."""

    async def reached(self, revision: int, deadline_s: float) -> None:
        """Wait until this node knows a revision, within the deadline."""


@dataclass(slots=True, repr=False)
class ConfigWriter:
    """`wall` is Unix time."""

    router: Router
    config_source: ConfigSource
    wall: Callable[[], float]

    async def change(
        self, decide: Callable[[ClusterState, int], Change], deadline: float
    ) -> ClusterState:
        """Have a change made, deciding anew as often as somebody else was faster. Returns the state
        in which it is made.

        Raises `changes.ChangeDenied` with the reason, ValueError for what no record can be,
        `Unavailable`."""
        router = self.router
        while True:
            state = await self.config_source.newest(deadline - router.clock())
            change = decide(state, int(self.wall()))
            executed = await router.execute(change.command, deadline_s=deadline - router.clock())
            result = executed.result
            if isinstance(result, Configured):
                made = replace(state.with_puts(change.puts), revision=result.revision)
                # Who asks this node next shall see it.
                await self.config_source.reached(result.revision, deadline - router.clock())
                return made
            if not isinstance(result, results.Refused) or result.code is not Code.CONFLICT:
                raise ChangeDenied(getattr(result, "text", "the root answers something else"))
            if router.clock() + RETRY_S >= deadline:
                raise Unavailable(Failure("others change the cluster all the time: try again"))
            await asyncio.sleep(RETRY_S)
